package iceberg

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// planLake is a SQLite catalog and a bucket in memory, with tables that iceberg-go writes.
type planLake struct {
	t     testing.TB
	ctx   context.Context
	dir   string
	cat   *Catalog
	store storage.Store
}

// installIO makes iceberg-go work through our stores, as programs do.
var installIO = sync.OnceFunc(func() { icebergio.Install(nil) })

var planLakes atomic.Int32

// fewer runs a property with fewer cases than rapid's default, each of which
// writes a table. The flag -rapid.checks above 100 asks for more.
func fewer(t *testing.T, checks int, property func(*rapid.T)) {
	t.Helper()
	old := flag.Lookup("rapid.checks").Value.String()
	if n, err := strconv.Atoi(old); err != nil || n > 100 {
		rapid.Check(t, property)
		return
	}
	if err := flag.Set("rapid.checks", strconv.Itoa(checks)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flag.Set("rapid.checks", old) }()
	rapid.Check(t, property)
}

func newPlanLake(t testing.TB) *planLake {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", "file:"+dir+"/catalog.db?_pragma=busy_timeout(5000)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	installIO()
	props := map[string]string{"warehouse": fmt.Sprintf("mem://lake%d/wh", planLakes.Add(1))}
	cat, err := sqlcat.NewCatalog("lake", db, sqlcat.SQLite, props)
	if err != nil {
		t.Fatal(err)
	}
	l := &planLake{t: t, ctx: context.Background(), dir: dir, cat: NewCatalog("lake", cat, props), store: storage.New(nil)}
	if err := cat.CreateNamespace(l.ctx, table.Identifier{"ns"}, nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// planSchema has a column of every kind of key, at the top, in a struct, a list and a map.
func planSchema() *icebergo.Schema {
	return icebergo.NewSchema(0,
		icebergo.NestedField{ID: 1, Name: "id", Type: icebergo.PrimitiveTypes.Int64},
		icebergo.NestedField{ID: 2, Name: "sid", Type: icebergo.PrimitiveTypes.String},
		icebergo.NestedField{ID: 3, Name: "num", Type: icebergo.DecimalTypeOf(9, 2)},
		icebergo.NestedField{ID: 4, Name: "day", Type: icebergo.PrimitiveTypes.Date},
		icebergo.NestedField{ID: 5, Name: "ts", Type: icebergo.PrimitiveTypes.Timestamp},
		icebergo.NestedField{ID: 6, Name: "customer", Type: &icebergo.StructType{FieldList: []icebergo.NestedField{
			{ID: 7, Name: "id", Type: icebergo.PrimitiveTypes.Int32},
			{ID: 8, Name: "mail", Type: icebergo.PrimitiveTypes.String},
		}}},
		icebergo.NestedField{ID: 9, Name: "tags", Type: &icebergo.ListType{ElementID: 10, Element: icebergo.PrimitiveTypes.String}},
		icebergo.NestedField{ID: 11, Name: "uid", Type: icebergo.PrimitiveTypes.UUID},
		icebergo.NestedField{ID: 12, Name: "bin", Type: icebergo.PrimitiveTypes.Binary},
		icebergo.NestedField{ID: 13, Name: "scores", Type: &icebergo.MapType{KeyID: 14, KeyType: icebergo.PrimitiveTypes.String, ValueID: 15, ValueType: icebergo.PrimitiveTypes.Int64}},
	)
}

func (l *planLake) create(name string, version int, schema *icebergo.Schema, spec *icebergo.PartitionSpec, props ...string) {
	l.t.Helper()
	p := icebergo.Properties{"format-version": fmt.Sprint(version)}
	for i := 0; i+1 < len(props); i += 2 {
		p[props[i]] = props[i+1]
	}
	opts := []catalog.CreateTableOpt{catalog.WithProperties(p)}
	if spec != nil {
		opts = append(opts, catalog.WithPartitionSpec(spec))
	}
	if _, err := l.cat.CreateTable(l.ctx, table.Identifier{"ns", name}, schema, opts...); err != nil {
		l.t.Fatal(err)
	}
}

func (l *planLake) raw(name string) *table.Table {
	l.t.Helper()
	tbl, err := l.cat.LoadTable(l.ctx, table.Identifier{"ns", name})
	if err != nil {
		l.t.Fatal(err)
	}
	return tbl
}

func (l *planLake) open(name string) *Table {
	l.t.Helper()
	tbl, err := Open(l.ctx, l.cat, table.Identifier{"ns", name}, l.store)
	if err != nil {
		l.t.Fatal(err)
	}
	return tbl
}

// records decodes rows of JSON into a batch of the table's current schema.
func (l *planLake) records(tbl *table.Table, rows ...string) arrow.RecordBatch {
	l.t.Helper()
	schema, err := table.SchemaToArrowSchema(tbl.Schema(), nil, true, false)
	if err != nil {
		l.t.Fatal(err)
	}
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		l.t.Fatal(err)
	}
	return rec
}

func (l *planLake) append(name string, rows ...string) {
	l.t.Helper()
	tbl := l.raw(name)
	rec := l.records(tbl, rows...)
	at := array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec})
	defer at.Release()
	if _, err := tbl.AppendTable(l.ctx, at, 1024, nil); err != nil {
		l.t.Fatal(err)
	}
}

// keys builds a keyset of single or composite keys written as text, parts apart by "|".
func planKeys(t testing.TB, schema keyset.Schema, keys ...string) *keyset.Set {
	t.Helper()
	b, err := keyset.NewBuilder("users", schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := b.AddText(strings.Split(k, "|")...); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func part(t testing.TB, typ string, rules ...string) keyset.Part {
	t.Helper()
	ty, err := keyset.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	return keyset.Part{Name: typ, Type: ty, Normalize: rules}
}

// selection asks for the deletion of the rows whose columns hold one of the keys.
func selection(s *keyset.Set, columns ...string) warehouse.Selection {
	return warehouse.Selection{
		Match:  []warehouse.Match{{Keyset: s.Name(), Keys: s, Columns: columns}},
		Action: warehouse.Action{Kind: "delete"},
	}
}

// planned collects what Plan streams.
func (l *planLake) plan(tbl *Table, sel warehouse.Selection) (*warehouse.Plan, []warehouse.Task, []string) {
	l.t.Helper()
	var tasks []warehouse.Task
	var live []string
	p, err := tbl.Plan(l.ctx, sel, func(t warehouse.Task) error { tasks = append(tasks, t); return nil },
		func(path string) error { live = append(live, path); return nil })
	if err != nil {
		l.t.Fatal(err)
	}
	return p, tasks, live
}

// overwriteAll replaces every row of a table.
func overwriteAll(l *planLake, tbl *table.Table, rec arrow.RecordBatch) error {
	at := array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec})
	defer at.Release()
	_, err := tbl.OverwriteTable(l.ctx, at, 1024, nil)
	return err
}

// envScale asks a test that measures for a larger table.
func envScale() string { return os.Getenv("EXPUNGE_SCALE") }
