package testlake

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	iceberg "github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
)

// Entry is a live entry of the head.
type Entry struct {
	iceberg.DataFile
	Sequence int64
}

// Entries are the head's live data files, or its delete files and vectors.
func (l *Lake) Entries(deletes bool) (out []Entry) {
	l.t.Helper()
	snap := l.Tbl.CurrentSnapshot()
	if snap == nil {
		return nil
	}
	list, err := snap.Manifests(iceio.LocalFS{})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, m := range list {
		if deletes != (m.ManifestContent() == iceberg.ManifestContentDeletes) {
			continue
		}
		for e, err := range m.Entries(iceio.LocalFS{}, true) {
			if err != nil {
				l.t.Fatal(err)
			}
			out = append(out, Entry{e.DataFile(), e.SequenceNum()})
		}
	}
	return out
}

// AppendNulls commits one data file of rows without a single value.
func (l *Lake) AppendNulls(n int) {
	l.t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, l.arrowSchema(l.Tbl.Schema()))
	defer b.Release()
	for range n {
		for _, f := range b.Fields() {
			f.AppendNull()
		}
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	l.appendRecord(rec)
}

// Delete is the library's own delete: merge on read, where the table's
// property write.delete.mode says so.
func (l *Lake) Delete(filter iceberg.BooleanExpression) {
	l.t.Helper()
	tx := l.Tbl.NewTransaction()
	if err := tx.Delete(context.Background(), filter, nil); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// HideRows writes one position delete file for a row of each of some files of
// one partition. Its entry does not name the files.
func (l *Lake) HideRows(files []Entry, pos []int64) {
	l.t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.PositionalDeleteArrowSchema)
	defer b.Release()
	for i, f := range files {
		b.Field(0).(*array.StringBuilder).Append(f.FilePath())
		b.Field(1).(*array.Int64Builder).Append(pos[i])
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	path := l.path("hides")
	meta, size := writeParquet(l.t, path, rec)
	df, err := table.DataFileFromMetadata(table.DataFileArgs{
		Schema: iceberg.PositionalDeleteSchema, Spec: *l.Tbl.Metadata().PartitionSpecByID(int(files[0].SpecID())), Content: iceberg.EntryContentPosDeletes,
		Properties: l.Tbl.Properties(), Format: iceberg.ParquetFile, Metadata: meta, PartitionValues: files[0].Partition(),
		FilePath: "file://" + path, FileSize: size, FormatVersion: l.Tbl.Metadata().Version(),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.addDeletes(df)
}

// HideByVector writes a deletion vector for a file that has none.
func (l *Lake) HideByVector(f Entry, pos ...int64) {
	l.t.Helper()
	ctx := context.Background()
	w := dv.NewDVWriter(iceio.LocalFS{}, func(id int32) *iceberg.PartitionSpec { return l.Tbl.Metadata().PartitionSpecByID(int(id)) })
	if err := w.Add(f.FilePath(), pos, f.SpecID(), f.Partition()); err != nil {
		l.t.Fatal(err)
	}
	l.n++
	vectors, err := w.Flush(ctx, fmt.Sprintf("file://%s/data/v-%d.puffin", l.Location(), l.n))
	if err != nil {
		l.t.Fatal(err)
	}
	tx := l.Tbl.NewTransaction()
	delta := tx.NewRowDelta(nil)
	delta.AddDeletes(vectors...)
	if err := delta.Commit(ctx); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// Drop takes data files out of the table, as a compaction that keeps no row of
// theirs would, and leaves their delete files behind.
func (l *Lake) Drop(files ...iceberg.DataFile) {
	l.t.Helper()
	tx := l.Tbl.NewTransaction()
	if err := tx.ReplaceFiles(context.Background(), files, nil, nil, nil, table.WithoutAutoNameMapping()); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// Evolve changes the table's partition spec.
func (l *Lake) Evolve(change func(*table.UpdateSpec) *table.UpdateSpec) {
	l.t.Helper()
	tx := l.Tbl.NewTransaction()
	if err := change(tx.UpdateSpec(true)).Commit(); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}
