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
