package testlake

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/puffin"
	"github.com/apache/iceberg-go/table"
)

// Location is the table's folder.
func (l *Lake) Location() string { return l.Dir + "/db/t" }

// Update commits bare metadata updates, as another program may.
func (l *Lake) Update(updates ...table.Update) {
	l.t.Helper()
	ctx := context.Background()
	if _, _, err := l.Cat.CommitTable(ctx, table.Identifier{"db", "t"}, nil, updates); err != nil {
		l.t.Fatal(err)
	}
	l.Reload()
}

// Reload takes up what others have committed.
func (l *Lake) Reload() {
	l.t.Helper()
	tbl, err := l.Cat.LoadTable(context.Background(), table.Identifier{"db", "t"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.Tbl = tbl
}

// Expire drops all of history but the head; files that only history reaches go
// too when remove is set, as with Spark's expire_snapshots, or stay as orphans.
func (l *Lake) Expire(remove bool) {
	l.t.Helper()
	var ids []int64
	for _, s := range l.Tbl.Metadata().Snapshots() {
		if s.SnapshotID != l.Tbl.CurrentSnapshot().SnapshotID {
			ids = append(ids, s.SnapshotID)
		}
	}
	if !remove {
		l.Update(table.NewRemoveSnapshotsUpdate(ids, false))
		return
	}
	tx := l.Tbl.NewTransaction()
	if err := tx.ExpireSnapshots(table.WithOlderThan(0), table.WithRetainLast(1)); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// Ref sets a branch or tag on the head.
func (l *Lake) Ref(name string, kind table.RefType) {
	l.t.Helper()
	l.Update(table.NewSetSnapshotRefUpdate(name, l.Tbl.CurrentSnapshot().SnapshotID, kind, 0, 0, 0))
}

// AppendTo commits rows to a branch that is at the head.
func (l *Lake) AppendTo(branch string, ids ...int) {
	l.t.Helper()
	main := l.Tbl.CurrentSnapshot().SnapshotID
	l.Append(ids...)
	l.Update(table.NewSetSnapshotRefUpdate(branch, l.Tbl.CurrentSnapshot().SnapshotID, table.BranchRef, 0, 0, 0),
		table.NewSetSnapshotRefUpdate(table.MainBranch, main, table.BranchRef, 0, 0, 0))
}

// DeleteRowByPosition is DeleteByPosition with a copy of the deleted row in the
// delete file, as the specification allows.
func (l *Lake) DeleteRowByPosition(f iceberg.DataFile, pos int64, id int) {
	l.t.Helper()
	row := iceberg.NestedField{ID: 2147483544, Name: "row", Required: true, Type: &iceberg.StructType{FieldList: Schema.Fields()}}
	schema := iceberg.NewSchema(0, append(slices.Clone(iceberg.PositionalDeleteSchema.Fields()), row)...)
	b := array.NewRecordBuilder(memory.DefaultAllocator, l.arrowSchema(schema))
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append(f.FilePath())
	b.Field(1).(*array.Int64Builder).Append(pos)
	sb := b.Field(2).(*array.StructBuilder)
	sb.Append(true)
	sb.FieldBuilder(0).(*array.Int64Builder).Append(int64(id))
	sb.FieldBuilder(1).(*array.StringBuilder).Append(Mail(id))
	sb.FieldBuilder(2).(*array.Int64Builder).Append(int64(id))
	rec := b.NewRecordBatch()
	defer rec.Release()
	l.addDeletes(writeRecord(l.t, l.Tbl, l.path("deletes"), rec, iceberg.EntryContentPosDeletes, schema))
}

// Statistics adds a Puffin file to the head with a blob of the given bytes.
func (l *Lake) Statistics(data []byte) {
	l.t.Helper()
	var buf bytes.Buffer
	w, err := puffin.NewWriter(&buf)
	if err != nil {
		l.t.Fatal(err)
	}
	head := l.Tbl.CurrentSnapshot()
	if _, err := w.AddBlob(puffin.BlobMetadataInput{Type: "top-values", SnapshotID: head.SnapshotID, SequenceNumber: head.SequenceNumber, Fields: []int32{2}}, data); err != nil {
		l.t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		l.t.Fatal(err)
	}
	path := l.Location() + "/metadata/stats.puffin"
	l.Write("metadata/stats.puffin", buf.Bytes(), 0)
	l.Update(table.NewSetStatisticsUpdate(table.StatisticsFile{SnapshotID: head.SnapshotID, StatisticsPath: "file://" + path, FileSizeInBytes: int64(buf.Len()),
		FileFooterSizeInBytes: 100, BlobMetadata: []table.BlobMetadata{{Type: "top-values", SnapshotID: head.SnapshotID, SequenceNumber: head.SequenceNumber, Fields: []int32{2}}}}))
}

// PartitionStatistics adds a file of statistics by partition to the head: one
// partition of the first spec's only field with the value id.
func (l *Lake) PartitionStatistics(id int) {
	l.t.Helper()
	spec := l.Tbl.Spec()
	pf := spec.Field(0)
	schema := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "partition", Required: true, Type: &iceberg.StructType{FieldList: []iceberg.NestedField{
		{ID: pf.FieldID, Name: pf.Name, Type: iceberg.PrimitiveTypes.Int64}}}},
		iceberg.NestedField{ID: 2, Name: "spec_id", Required: true, Type: iceberg.PrimitiveTypes.Int32})
	b := array.NewRecordBuilder(memory.DefaultAllocator, l.arrowSchema(schema))
	defer b.Release()
	sb := b.Field(0).(*array.StructBuilder)
	sb.Append(true)
	sb.FieldBuilder(0).(*array.Int64Builder).Append(int64(id))
	b.Field(1).(*array.Int32Builder).Append(0)
	rec := b.NewRecordBatch()
	defer rec.Release()
	path := l.Location() + "/metadata/partition-stats.parquet"
	writeParquet(l.t, path, rec)
	l.Update(table.NewSetPartitionStatisticsUpdate(table.PartitionStatisticsFile{SnapshotID: l.Tbl.CurrentSnapshot().SnapshotID, StatisticsPath: "file://" + path, FileSizeInBytes: 1000}))
}

// Write stores a file under the table's folder, some time old.
func (l *Lake) Write(name string, data []byte, age time.Duration) {
	l.t.Helper()
	path := filepath.Join(l.Location(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		l.t.Fatal(err)
	}
	l.Age(path, age)
}

// Age makes a file some time older than it is.
func (l *Lake) Age(path string, age time.Duration) {
	l.t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		l.t.Fatal(err)
	}
	old := st.ModTime().Add(-age)
	if err := os.Chtimes(path, old, old); err != nil {
		l.t.Fatal(err)
	}
}

// Stored lists the files under the table's folder, each with its contents.
func (l *Lake) Stored() map[string][]byte {
	l.t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(l.Location(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// Local is the local path of a file of the table.
func Local(path string) string { return strings.TrimPrefix(path, "file://") }
