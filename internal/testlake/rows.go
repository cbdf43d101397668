package testlake

import (
	"context"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	iceberg "github.com/apache/iceberg-go"
)

// Unhidden are the head's live data files that no position delete and no
// deletion vector covers.
func (l *Lake) Unhidden() (out []iceberg.DataFile) {
	l.t.Helper()
	tasks, err := l.Tbl.Scan().PlanFiles(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, t := range tasks {
		if len(t.DeleteFiles)+len(t.DeletionVectorFiles) == 0 {
			out = append(out, t.File)
		}
	}
	return out
}

// IDsIn are the ids of a data file's rows in their order, deleted ones included.
func (l *Lake) IDsIn(f iceberg.DataFile) []int64 {
	l.t.Helper()
	in, err := os.Open(Local(f.FilePath()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer in.Close()
	tab, err := pqarrow.ReadTable(context.Background(), in, parquet.NewReaderProperties(memory.DefaultAllocator), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		l.t.Fatal(err)
	}
	defer tab.Release()
	return idsOf(tab)
}

// Rows are the ids of the rows that a reader of the head sees.
func (l *Lake) Rows() []int64 {
	l.t.Helper()
	tab, err := l.Tbl.Scan().ToArrowTable(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	defer tab.Release()
	return idsOf(tab)
}

func idsOf(tab arrow.Table) (ids []int64) {
	for _, c := range tab.Column(tab.Schema().FieldIndices("id")[0]).Data().Chunks() {
		ids = append(ids, c.(*array.Int64).Int64Values()...)
	}
	return ids
}

// Import adds a file that does not store the column id, as files have it that
// came from Hive: its rows have the value of the partition, which is by the
// identity of id. The rows have the e-mails of the given people.
func (l *Lake) Import(id int64, people ...int) iceberg.DataFile {
	l.t.Helper()
	without := iceberg.NewSchema(0, Schema.Fields()[1:]...)
	b := array.NewRecordBuilder(memory.DefaultAllocator, l.arrowSchema(without))
	defer b.Release()
	for _, p := range people {
		b.Field(0).(*array.StringBuilder).Append(Mail(p))
		b.Field(1).(*array.Int64Builder).Append(int64(p))
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	path := l.path("imported")
	_, size := writeParquet(l.t, path, rec)
	spec := l.Tbl.Spec()
	df, err := iceberg.NewDataFileBuilder(spec, iceberg.EntryContentData, "file://"+path, iceberg.ParquetFile,
		map[int]any{spec.Field(0).FieldID: id}, nil, nil, int64(len(people)), size)
	if err != nil {
		l.t.Fatal(err)
	}
	tx := l.Tbl.NewTransaction()
	out := df.Build()
	if err := tx.AddDataFiles(context.Background(), []iceberg.DataFile{out}, nil); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
	return out
}

// ByID partitions by the identity of id.
func ByID() *iceberg.PartitionSpec {
	s := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "id", Transform: iceberg.IdentityTransform{}})
	return &s
}

// AddColumn adds a column of text that all rows so far have a value in.
func (l *Lake) AddColumn(name, initial string) {
	l.t.Helper()
	tx := l.Tbl.NewTransaction()
	err := tx.UpdateSchema(true, false).AddColumn([]string{name}, iceberg.PrimitiveTypes.String, "", false, iceberg.NewLiteral(initial)).Commit()
	if err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}
