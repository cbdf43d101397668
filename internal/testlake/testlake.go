// Package testlake makes small Iceberg tables whose history tests decide step
// by step: in a temporary folder, with an SQLite catalog, written by iceberg-go
// and by hand. It is for tests only.
package testlake

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
	_ "modernc.org/sqlite" // the catalog's database

	"github.com/expunge/expunge/internal/storage"
)

// Lake is a table in a temporary folder with an SQLite catalog.
type Lake struct {
	t     testing.TB
	Tbl   *table.Table
	Cat   catalog.Catalog
	Store storage.Store
	Dir   string
	n     int // files made by hand
}

// Schema is the tables' schema.
var Schema = iceberg.NewSchema(0,
	iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64},
	iceberg.NestedField{ID: 2, Name: "email", Type: iceberg.PrimitiveTypes.String},
	iceberg.NestedField{ID: 3, Name: "n", Type: iceberg.PrimitiveTypes.Int64},
)

// New makes an empty table db.t of a format version.
func New(t testing.TB, version string, spec *iceberg.PartitionSpec, props iceberg.Properties, more ...catalog.CreateTableOpt) *Lake {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "catalog.db")+"?_pragma=busy_timeout(15000)&_pragma=synchronous(off)")
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
	opts = append(opts, more...)
	tbl, err := cat.CreateTable(ctx, table.Identifier{"db", "t"}, Schema, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &Lake{t: t, Tbl: tbl, Cat: cat, Store: storage.New(nil), Dir: dir}
}

// Mail is the e-mail of an id: long enough to be told from noise.
func Mail(id int) string { return fmt.Sprintf("person.%06d@example.com", id) }

func (l *Lake) record(schema *arrow.Schema, ids ...int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for _, id := range ids {
		b.Field(0).(*array.Int64Builder).Append(int64(id))
		if len(schema.Fields()) > 1 {
			b.Field(1).(*array.StringBuilder).Append(Mail(id))
		}
		if len(schema.Fields()) > 2 {
			b.Field(2).(*array.Int64Builder).Append(int64(id) * 3)
		}
	}
	return b.NewRecordBatch()
}

func (l *Lake) arrowSchema(s *iceberg.Schema) *arrow.Schema {
	a, err := table.SchemaToArrowSchema(s, nil, true, false)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// Append commits one data file with a row an id.
func (l *Lake) Append(ids ...int) {
	l.t.Helper()
	rec := l.record(l.arrowSchema(l.Tbl.Schema()), ids...)
	defer rec.Release()
	l.appendRecord(rec)
}

func (l *Lake) appendRecord(rec arrow.RecordBatch) {
	l.t.Helper()
	tab := array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec})
	defer tab.Release()
	tx := l.Tbl.NewTransaction()
	if err := tx.AppendTable(context.Background(), tab, 1000, nil); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

func (l *Lake) Commit(tx *table.Transaction) {
	l.t.Helper()
	tbl, err := tx.Commit(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	l.Tbl = tbl
}

// Files are the head's live data files.
func (l *Lake) Files() (out []iceberg.DataFile) {
	l.t.Helper()
	tasks, err := l.Tbl.Scan().PlanFiles(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, t := range tasks {
		// A large file is planned in splits.
		if !slices.ContainsFunc(out, func(f iceberg.DataFile) bool { return f.FilePath() == t.File.FilePath() }) {
			out = append(out, t.File)
		}
	}
	return out
}

// DeleteByPosition hides one row of a file.
func (l *Lake) DeleteByPosition(f iceberg.DataFile, pos int64) {
	l.t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, table.PositionalDeleteArrowSchema)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append(f.FilePath())
	b.Field(1).(*array.Int64Builder).Append(pos)
	rec := b.NewRecordBatch()
	defer rec.Release()
	l.addDeletes(writeRecord(l.t, l.Tbl, l.path("deletes"), rec, iceberg.EntryContentPosDeletes, iceberg.PositionalDeleteSchema))
}

// path is a new name for a file of the table.
func (l *Lake) path(kind string) string {
	l.n++
	return fmt.Sprintf("%s/db/t/data/%s-%d.parquet", l.Dir, kind, l.n)
}

func (l *Lake) addDeletes(df iceberg.DataFile) {
	l.t.Helper()
	tx := l.Tbl.NewTransaction()
	delta := tx.NewRowDelta(nil)
	delta.AddDeletes(df)
	if err := delta.Commit(context.Background()); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// DeleteByKey writes an equality delete for an id.
func (l *Lake) DeleteByKey(id int) { l.DeleteByKeys([]int{1}, id) }

// DeleteByKeys writes an equality delete that compares the given fields, for the
// values that rows of the ids have there.
func (l *Lake) DeleteByKeys(fields []int, ids ...int) {
	l.t.Helper()
	var cols []iceberg.NestedField
	for _, id := range fields {
		f, _ := l.Tbl.Schema().FindFieldByID(id)
		cols = append(cols, f)
	}
	rec := l.record(l.arrowSchema(iceberg.NewSchema(0, cols...)), ids...)
	defer rec.Release()
	tx := l.Tbl.NewTransaction()
	var recs iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) { yield(rec, nil) }
	if err := tx.CommitEqualityDeletes(context.Background(), fields, recs, nil); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// DeleteByVector writes a deletion vector.
func (l *Lake) DeleteByVector(f iceberg.DataFile, pos int64) {
	l.t.Helper()
	ctx := context.Background()
	w := dv.NewDVWriter(iceio.LocalFS{}, func(id int32) *iceberg.PartitionSpec { return l.Tbl.Metadata().PartitionSpecByID(int(id)) })
	if err := w.Add(f.FilePath(), []int64{pos}, f.SpecID(), f.Partition()); err != nil {
		l.t.Fatal(err)
	}
	l.n++
	dfs, err := w.Flush(ctx, fmt.Sprintf("file://%s/db/t/data/v-%d.puffin", l.Dir, l.n))
	if err != nil {
		l.t.Fatal(err)
	}
	tx := l.Tbl.NewTransaction()
	delta := tx.NewRowDelta(nil)
	delta.AddDeletes(dfs...)
	if err := delta.Commit(ctx); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// Replace swaps all live files for one with these ids. From version 3 on the
// rows get new row ids.
func (l *Lake) Replace(ids ...int) {
	l.t.Helper()
	ctx := context.Background()
	rec := l.record(l.arrowSchema(l.Tbl.Schema()), ids...)
	defer rec.Release()
	if l.Tbl.Metadata().Version() >= 3 {
		tab := array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec})
		defer tab.Release()
		tbl, err := l.Tbl.OverwriteTable(ctx, tab, 1000, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		l.Tbl = tbl
		return
	}
	df := writeRecord(l.t, l.Tbl, l.path("replaced"), rec, iceberg.EntryContentData, l.Tbl.Schema())
	tx := l.Tbl.NewTransaction()
	if err := tx.ReplaceFiles(ctx, l.Files(), []iceberg.DataFile{df}, nil, nil); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}

// IDs counts from one number to below another.
func IDs(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

type countWriter struct {
	io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// writeRecord writes a record as a file of a table and describes it.
func writeRecord(t testing.TB, tbl *table.Table, path string, rec arrow.RecordBatch, content iceberg.ManifestEntryContent, schema *iceberg.Schema) iceberg.DataFile {
	t.Helper()
	meta, size := writeParquet(t, path, rec)
	df, err := table.DataFileFromMetadata(table.DataFileArgs{
		Schema: schema, Spec: tbl.Spec(), Content: content, Properties: tbl.Properties(), Format: iceberg.ParquetFile, Metadata: meta,
		FilePath: "file://" + strings.TrimPrefix(path, "file://"), FileSize: size, FormatVersion: tbl.Metadata().Version(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return df
}

func writeParquet(t testing.TB, path string, rec arrow.RecordBatch) (*metadata.FileMetaData, int64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c := &countWriter{Writer: out}
	props := parquet.NewWriterProperties(parquet.WithDictionaryDefault(true), parquet.WithStats(true), parquet.WithPageIndexEnabled(true))
	w, err := pqarrow.NewFileWriter(rec.Schema(), c, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	meta, err := w.FileMetadata()
	if err != nil {
		t.Fatal(err)
	}
	return meta, c.n
}
