package demo

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
)

// draw picks rows of a file to delete: one in a thousand, and the first row of
// a person who is erased later, so that erasing meets rows that are gone already.
func (b *builder) draw(f *dataFile) []int64 {
	picked := map[int64]bool{}
	for range max(len(f.users)/1000, 1) {
		picked[b.rand.Int64N(int64(len(f.users)))] = true
	}
	first := slices.IndexFunc(f.users, func(users []int64) bool {
		return slices.ContainsFunc(users, func(u int64) bool { return b.people.isErased[u] })
	})
	if first >= 0 {
		picked[int64(first)] = true
	}
	var out []int64
	for pos := range picked {
		if !f.deleted[pos] {
			out = append(out, pos)
		}
	}
	slices.Sort(out)
	return out
}

// positionDeletes writes one position delete file for a data file.
func (b *builder) positionDeletes(f *dataFile) (iceberg.DataFile, error) {
	positions := b.draw(f)
	rec := array.NewRecordBuilder(memory.DefaultAllocator, table.PositionalDeleteArrowSchema)
	defer rec.Release()
	for _, pos := range positions {
		rec.Field(0).(*array.StringBuilder).Append(f.path)
		rec.Field(1).(*array.Int64Builder).Append(pos)
		f.deleted[pos] = true
	}
	batch := rec.NewRecordBatch()
	defer batch.Release()
	rel := filepath.Join("data", fmt.Sprintf("deletes-%05d.parquet", len(f.path)+b.serial))
	b.serial++
	path := f.path
	return b.store(rel, batch, b.properties(), table.DataFileArgs{
		Schema: iceberg.PositionalDeleteSchema, Spec: *b.tbl.Metadata().PartitionSpecByID(f.spec), Content: iceberg.EntryContentPosDeletes,
		PartitionValues: f.values, ReferencedDataFile: &path,
	})
}

// equalityDeletes commits equality deletes for ids in a column. It covers the
// rows of every file that exists by now.
func (b *builder) equalityDeletes(ctx context.Context, column string, ids []int64) error {
	field, ok := b.tbl.Schema().FindFieldByName(column)
	if !ok {
		return fmt.Errorf("no column %s", column)
	}
	schema, err := table.SchemaToArrowSchema(iceberg.NewSchema(0, field), nil, true, false)
	if err != nil {
		return err
	}
	rec := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rec.Release()
	for _, id := range ids {
		rec.Field(0).(*array.Int32Builder).Append(int32(id))
	}
	batch := rec.NewRecordBatch()
	defer batch.Release()
	tx := b.tbl.NewTransaction()
	var records iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) { yield(batch, nil) }
	if err := tx.CommitEqualityDeletes(ctx, []int{field.ID}, records, nil); err != nil {
		return err
	}
	for _, f := range b.files {
		for i, users := range f.users {
			if len(users) > 0 && slices.Contains(ids, users[0]) {
				f.deleted[int64(i)] = true
			}
		}
	}
	return b.apply(ctx, tx)
}

// vectors writes deletion vectors for some files into one Puffin file.
func (b *builder) vectors(ctx context.Context, files []*dataFile) ([]iceberg.DataFile, error) {
	w := dv.NewDVWriter(iceio.LocalFS{}, func(id int32) *iceberg.PartitionSpec { return b.tbl.Metadata().PartitionSpecByID(int(id)) })
	for _, f := range files {
		positions := b.draw(f)
		for _, pos := range positions {
			f.deleted[pos] = true
		}
		if err := w.Add(f.path, positions, int32(f.spec), f.values); err != nil {
			return nil, err
		}
	}
	b.serial++
	return w.Flush(ctx, "file://"+filepath.Join(b.dir, "data", fmt.Sprintf("vectors-%05d.puffin", b.serial)))
}
