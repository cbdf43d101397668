package verifier

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
	_ "modernc.org/sqlite"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// lake is a table in a temporary folder with an SQLite catalog.
type lake struct {
	t     testing.TB
	tbl   *table.Table
	cat   catalog.Catalog
	store storage.Store
	dir   string
}

var lakeSchema = iceberg.NewSchema(0,
	iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64},
	iceberg.NestedField{ID: 2, Name: "email", Type: iceberg.PrimitiveTypes.String},
	iceberg.NestedField{ID: 3, Name: "n", Type: iceberg.PrimitiveTypes.Int64},
)

func newLake(t testing.TB, version string, spec *iceberg.PartitionSpec, props iceberg.Properties) *lake {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	cat, err := sqlcat.NewCatalog("lake", db, sqlcat.SQLite, iceberg.Properties{"warehouse": "file://" + dir, "init_catalog_tables": "true"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.CreateNamespace(ctx, table.Identifier{"db"}, nil); err != nil {
		t.Fatal(err)
	}
	all := iceberg.Properties{"format-version": version}
	for k, v := range props {
		all[k] = v
	}
	opts := []catalog.CreateTableOpt{catalog.WithLocation("file://" + dir + "/db/t"), catalog.WithProperties(all)}
	if spec != nil {
		opts = append(opts, catalog.WithPartitionSpec(spec))
	}
	tbl, err := cat.CreateTable(ctx, table.Identifier{"db", "t"}, lakeSchema, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &lake{t: t, tbl: tbl, cat: cat, store: storage.New(nil), dir: dir}
}

// email of an id: long enough to be told from noise.
func mail(id int) string { return fmt.Sprintf("person.%06d@example.com", id) }

func (l *lake) record(schema *arrow.Schema, ids ...int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for _, id := range ids {
		b.Field(0).(*array.Int64Builder).Append(int64(id))
		if len(schema.Fields()) > 1 {
			b.Field(1).(*array.StringBuilder).Append(mail(id))
			b.Field(2).(*array.Int64Builder).Append(int64(id) * 3)
		}
	}
	return b.NewRecordBatch()
}

func (l *lake) arrowSchema(s *iceberg.Schema) *arrow.Schema {
	a, err := table.SchemaToArrowSchema(s, nil, true, false)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// append commits one data file with a row an id.
func (l *lake) append(ids ...int) {
	l.t.Helper()
	rec := l.record(l.arrowSchema(l.tbl.Schema()), ids...)
	defer rec.Release()
	tab := array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec})
	defer tab.Release()
	tx := l.tbl.NewTransaction()
	if err := tx.AppendTable(context.Background(), tab, 1000, nil); err != nil {
		l.t.Fatal(err)
	}
	l.commit(tx)
}

func (l *lake) commit(tx *table.Transaction) {
	l.t.Helper()
	tbl, err := tx.Commit(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	l.tbl = tbl
}

// files are the head's live data files.
func (l *lake) files() (out []iceberg.DataFile) {
	l.t.Helper()
	tasks, err := l.tbl.Scan().PlanFiles(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, t := range tasks {
		out = append(out, t.File)
	}
	return out
}

// deleteByPosition hides one row of the newest file.
func (l *lake) deleteByPosition(f iceberg.DataFile, pos int64) {
	l.t.Helper()
	ctx := context.Background()
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.PositionalDeleteArrowSchema)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append(f.FilePath())
	b.Field(1).(*array.Int64Builder).Append(pos)
	rec := b.NewRecordBatch()
	defer rec.Release()
	path := l.dir + "/db/t/data/deletes.parquet"
	df := writeRecord(l.t, l.tbl, path, rec, iceberg.EntryContentPosDeletes, iceberg.PositionalDeleteSchema)
	tx := l.tbl.NewTransaction()
	delta := tx.NewRowDelta(nil)
	delta.AddDeletes(df)
	if err := delta.Commit(ctx); err != nil {
		l.t.Fatal(err)
	}
	l.commit(tx)
}

// deleteByKey writes an equality delete for an id.
func (l *lake) deleteByKey(id int) {
	l.t.Helper()
	f, _ := l.tbl.Schema().FindFieldByID(1)
	rec := l.record(l.arrowSchema(iceberg.NewSchema(0, f)), id)
	defer rec.Release()
	tx := l.tbl.NewTransaction()
	var recs iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) { yield(rec, nil) }
	if err := tx.CommitEqualityDeletes(context.Background(), []int{1}, recs, nil); err != nil {
		l.t.Fatal(err)
	}
	l.commit(tx)
}

// deleteByVector writes a deletion vector.
func (l *lake) deleteByVector(f iceberg.DataFile, pos int64) {
	l.t.Helper()
	ctx := context.Background()
	w := dv.NewDVWriter(iceio.LocalFS{}, func(id int32) *iceberg.PartitionSpec { return l.tbl.Metadata().PartitionSpecByID(int(id)) })
	if err := w.Add(f.FilePath(), []int64{pos}, f.SpecID(), f.Partition()); err != nil {
		l.t.Fatal(err)
	}
	dfs, err := w.Flush(ctx, "file://"+l.dir+"/db/t/data/v.puffin")
	if err != nil {
		l.t.Fatal(err)
	}
	tx := l.tbl.NewTransaction()
	delta := tx.NewRowDelta(nil)
	delta.AddDeletes(dfs...)
	if err := delta.Commit(ctx); err != nil {
		l.t.Fatal(err)
	}
	l.commit(tx)
}

// replace swaps all live files for one with these ids.
func (l *lake) replace(ids ...int) {
	l.t.Helper()
	ctx := context.Background()
	rec := l.record(l.arrowSchema(l.tbl.Schema()), ids...)
	defer rec.Release()
	df := writeRecord(l.t, l.tbl, l.dir+"/db/t/data/replaced.parquet", rec, iceberg.EntryContentData, l.tbl.Schema())
	tx := l.tbl.NewTransaction()
	if err := tx.ReplaceFiles(ctx, l.files(), []iceberg.DataFile{df}, nil, nil); err != nil {
		l.t.Fatal(err)
	}
	l.commit(tx)
}

func (l *lake) verify(m []warehouse.BoundMatch, o Options) *Report {
	l.t.Helper()
	o.Metadata, o.Orphans = true, true
	r, err := VerifyTable(context.Background(), l.store, Target{Name: "lake.db.t", MetadataLocation: l.tbl.MetadataLocation()}, m, o)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func ids(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func surface(t testing.TB, r *Report, name string) Surface {
	t.Helper()
	for _, s := range r.Surfaces {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no surface %q", name)
	return Surface{}
}

// leaks lists the surfaces on which something certain was found.
func leaks(r *Report) string {
	var out []string
	for _, s := range r.Surfaces {
		if s.Result == Fail || s.Result == Residue {
			out = append(out, s.Name)
		}
	}
	return strings.Join(out, ", ")
}
