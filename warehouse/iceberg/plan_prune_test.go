package iceberg

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	icebergo "github.com/apache/iceberg-go"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// keyDomain is a column, its type as a key, and the values that rows and keys draw from.
type keyDomain struct {
	column string
	typ    string
	source int // field id that a partition may be made of, 0 = none
	values []string
	json   func(v string) string
}

func quoted(v string) string { b, _ := json.Marshal(v); return string(b) }
func bare(v string) string   { return v }

var keyDomains = []keyDomain{
	{"id", "int64", 1, []string{"-9007199254740993", "-5", "0", "3", "7", "100", "101", "9007199254740993"}, bare},
	{"sid", "string", 2, []string{"", "a", "ab", "abc", "zebra", "user-00000000000000000000001", "user-00000000000000000000002", "Ünïcödé", "\U0010FFFF\U0010FFFFx"}, quoted},
	{"num", "decimal(9,2)", 3, []string{"-1.50", "0.00", "0.01", "12.34", "9999999.99"}, quoted},
	{"day", "date", 4, []string{"1969-12-31", "1970-01-01", "2024-02-29", "2024-03-01"}, quoted},
	{"customer.id", "int64", 7, []string{"-2147483648", "1", "2", "3", "2147483647"}, bare},
	{"customer.mail", "string", 8, []string{"a@x", "b@x", "c@y"}, quoted},
	{"tags.element", "string", 0, []string{"t1", "t2", "t3"}, quoted},
	{"uid", "uuid", 11, []string{"00000000-0000-0000-0000-000000000000", "7fffffff-ffff-ffff-ffff-ffffffffffff", "80000000-0000-0000-8000-000000000000", "ffffffff-0000-4000-8000-000000000001"}, quoted},
	{"scores.value", "int64", 0, []string{"1", "2", "3"}, bare},
}

// row draws one row; every value may be NULL.
func (d keyDomain) draw(t *rapid.T, from []string) string {
	v := rapid.SampledFrom(append([]string{"null"}, from...)).Draw(t, d.column)
	if v == "null" {
		return v
	}
	return d.json(v)
}

// drawRow draws a row whose values come from a part of each domain, so that
// files differ in what they hold.
func drawRow(t *rapid.T, some map[string][]string) string {
	val := map[string]string{}
	for _, d := range keyDomains {
		val[d.column] = d.draw(t, some[d.column])
	}
	score := ""
	if v := val["scores.value"]; v != "null" {
		score = fmt.Sprintf(`{"key":"k","value":%s}`, v)
	}
	return fmt.Sprintf(`{"id":%s,"sid":%s,"num":%s,"day":%s,"customer":{"id":%s,"mail":%s},"tags":[%s],"uid":%s,"scores":[%s]}`,
		val["id"], val["sid"], val["num"], val["day"], val["customer.id"], val["customer.mail"], val["tags.element"], val["uid"], score)
}

func drawSpec(t *rapid.T) *icebergo.PartitionSpec {
	var fields []icebergo.PartitionField
	for i := range rapid.IntRange(0, 2).Draw(t, "partition fields") {
		var sources []keyDomain
		for _, d := range keyDomains {
			if d.source > 0 {
				sources = append(sources, d)
			}
		}
		d := rapid.SampledFrom(sources).Draw(t, "source")
		if slices.ContainsFunc(fields, func(f icebergo.PartitionField) bool { return f.SourceID() == d.source }) {
			continue
		}
		transforms := []icebergo.Transform{icebergo.IdentityTransform{}, icebergo.BucketTransform{NumBuckets: rapid.SampledFrom([]int{1, 3, 64}).Draw(t, "buckets")}}
		if d.typ != "uuid" && d.typ != "date" {
			transforms = append(transforms, icebergo.TruncateTransform{Width: rapid.SampledFrom([]int{1, 2, 10}).Draw(t, "width")})
		}
		fields = append(fields, icebergo.PartitionField{SourceIDs: []int{d.source}, FieldID: 1000 + i, Name: fmt.Sprintf("p%d", i),
			Transform: rapid.SampledFrom(transforms).Draw(t, "transform")})
	}
	if len(fields) == 0 {
		return nil
	}
	s := icebergo.NewPartitionSpec(fields...)
	return &s
}

func TestPrunedFilesNeverHoldAKey(t *testing.T) {
	l := newPlanLake(t)
	tables, pruned, tasks := 0, 0, 0
	fewer(t, 30, func(rt *rapid.T) {
		tables++
		name := fmt.Sprintf("t%d", tables)
		l.create(name, rapid.IntRange(1, 3).Draw(rt, "version"), planSchema(), drawSpec(rt))
		for range rapid.IntRange(1, 3).Draw(rt, "appends") {
			some := map[string][]string{}
			for _, d := range keyDomains {
				n := rapid.IntRange(0, 2).Draw(rt, "domain size")
				at := rapid.IntRange(0, len(d.values)-1).Draw(rt, "domain start")
				some[d.column] = d.values[at:min(at+n, len(d.values))]
			}
			var rows []string
			for range rapid.IntRange(1, 4).Draw(rt, "rows") {
				rows = append(rows, drawRow(rt, some))
			}
			l.append(name, rows...)
		}
		tbl := l.open(name)
		for range 6 {
			sel, want := drawSelection(rt)
			plan, todo, live := l.plan(tbl, sel)
			listed := map[string]bool{}
			for _, task := range todo {
				listed[task.File.Path] = true
			}
			for _, path := range live {
				if !listed[path] && fileHolds(rt, path, want) {
					rt.Fatalf("a pruned file holds a key; columns %v, partitioned by %v", sel.Match[0].Columns, l.raw(name).Spec())
				}
			}
			checkSums(rt, plan, todo, live)
			pruned, tasks = pruned+len(live)-len(todo), tasks+len(todo)
		}
	})
	if pruned == 0 || tasks == 0 {
		t.Errorf("%d files pruned, %d kept: the test proves nothing", pruned, tasks)
	}
	t.Logf("%d pruned, %d kept", pruned, tasks)
}

func checkSums(t *rapid.T, plan *warehouse.Plan, tasks []warehouse.Task, live []string) {
	n, rows, bytes := plan.Tasks, plan.TaskRows, plan.TaskBytes
	for _, s := range plan.Skipped {
		n, rows, bytes = n+s.Files, rows+s.Rows, bytes+s.Bytes
	}
	if n != plan.TotalFiles || rows != plan.TotalRows || bytes != plan.TotalBytes || int(plan.TotalFiles) != len(live) || int(plan.Tasks) != len(tasks) {
		t.Fatalf("sums do not add up: %+v", plan)
	}
}

// wanted is one match as the oracle reads it: for each key part its column and the keys.
type wanted struct {
	columns []string
	keys    [][]string
}

// drawSelection draws one or two matches, of one or two columns each.
func drawSelection(t *rapid.T) (warehouse.Selection, []wanted) {
	var sel warehouse.Selection
	var all []wanted
	for range rapid.IntRange(1, 2).Draw(t, "matches") {
		ds := []keyDomain{rapid.SampledFrom(keyDomains).Draw(t, "key column")}
		if d := rapid.SampledFrom(keyDomains).Draw(t, "second column"); rapid.Bool().Draw(t, "composite") && d.source > 0 && ds[0].source > 0 && d.column != ds[0].column {
			ds = append(ds, d)
		}
		var w wanted
		var schema keyset.Schema
		for i, d := range ds {
			ty, err := keyset.ParseType(d.typ)
			if err != nil {
				t.Fatal(err)
			}
			schema = append(schema, keyset.Part{Name: fmt.Sprint("p", i), Type: ty})
			w.columns = append(w.columns, d.column)
		}
		b, err := keyset.NewBuilder("k", schema)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(t, "keys") {
			var key []string
			for _, d := range ds {
				key = append(key, rapid.SampledFrom(d.values).Draw(t, "key"))
			}
			if err := b.AddText(key...); err != nil {
				t.Fatal(err)
			}
			w.keys = append(w.keys, key)
		}
		s, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		sel.Match = append(sel.Match, warehouse.Match{Keyset: "k", Keys: s, Columns: w.columns})
		all = append(all, w)
	}
	return sel, all
}

// fileHolds reads a whole data file and looks for a row with a key.
func fileHolds(t *rapid.T, path string, want []wanted) bool {
	data, err := storage.ReadAll(t.Context(), storage.New(nil), path)
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := pqarrow.ReadTable(t.Context(), bytes.NewReader(data), parquet.NewReaderProperties(nil), pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	defer tbl.Release()
	r := array.NewTableReader(tbl, 0)
	defer r.Release()
	for r.Next() {
		rec := r.RecordBatch()
		for row := range int(rec.NumRows()) {
			for _, w := range want {
				for _, key := range w.keys {
					if rowHolds(rec, row, w.columns, key) {
						return true
					}
				}
			}
		}
	}
	return false
}

func rowHolds(rec arrow.RecordBatch, row int, columns, key []string) bool {
	for i, c := range columns {
		top, rest, _ := strings.Cut(c, ".")
		at := rec.Schema().FieldIndices(top)
		if len(at) == 0 || !slices.Contains(valuesAt(rec.Column(at[0]), row, rest), key[i]) {
			return false
		}
	}
	return true
}

// valuesAt are the values of a row, as text; none for NULL.
func valuesAt(a arrow.Array, row int, rest string) []string {
	if a.IsNull(row) {
		return nil
	}
	switch a := a.(type) {
	case *array.Struct:
		name, below, _ := strings.Cut(rest, ".")
		i, _ := a.DataType().(*arrow.StructType).FieldIdx(name)
		return valuesAt(a.Field(i), row, below)
	case *array.Map:
		from, to := a.ValueOffsets(row)
		var out []string
		for i := from; i < to; i++ {
			out = append(out, valuesAt(a.Items(), int(i), "")...)
		}
		return out
	case *array.List:
		from, to := a.ValueOffsets(row)
		var out []string
		for i := from; i < to; i++ {
			out = append(out, valuesAt(a.ListValues(), int(i), "")...)
		}
		return out
	case *array.Decimal128:
		return []string{a.Value(row).ToString(2)}
	case *extensions.UUIDArray:
		return []string{a.Value(row).String()}
	}
	return []string{a.ValueStr(row)}
}
