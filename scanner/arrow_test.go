package scanner_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	arrowparquet "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/expunge/expunge/scanner"
)

// arrowLists writes lists and maps with arrow-go, with a page index over small
// pages, and returns the numbers that each row holds.
func arrowLists(t *testing.T, r *rand.Rand, n int, o ...arrowparquet.WriterProperty) (file []byte, rows [][]int64) {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "flat", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "ints", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64), Nullable: true},
		{Name: "texts", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "map", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	flat, ints, texts, maps := b.Field(0).(*array.Int64Builder), b.Field(1).(*array.ListBuilder), b.Field(2).(*array.ListBuilder), b.Field(3).(*array.MapBuilder)
	for i := range n {
		var row []int64
		if i%7 == 3 {
			flat.AppendNull()
			ints.AppendNull()
			texts.AppendNull()
			maps.AppendNull()
			rows = append(rows, nil)
			continue
		}
		ints.Append(true)
		texts.Append(true)
		maps.Append(true)
		for range r.IntN(6) {
			v := int64(i/20*100) + r.Int64N(100)
			row = append(row, v)
			if r.IntN(9) == 0 {
				ints.ValueBuilder().AppendNull()
			}
			ints.ValueBuilder().(*array.Int64Builder).Append(v)
			texts.ValueBuilder().(*array.StringBuilder).Append(fmt.Sprintf("%06d", v))
			maps.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprintf("%06d", v))
			maps.ItemBuilder().(*array.Int64Builder).Append(v)
		}
		if len(row) > 0 {
			flat.Append(row[0])
		} else {
			flat.AppendNull()
		}
		rows = append(rows, row)
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	var buf bytes.Buffer
	o = append(o, arrowparquet.WithPageIndexEnabled(true), arrowparquet.WithDataPageSize(512), arrowparquet.WithBatchSize(16), arrowparquet.WithStats(true))
	o = append(o, arrowparquet.WithMaxRowGroupLength(700))
	w, err := pqarrow.NewFileWriter(schema, &buf, arrowparquet.NewWriterProperties(o...), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), rows
}

// Whatever bounds arrow-go stores for the pages of lists and maps, no row with
// a key is passed over.
func TestPruningOfArrowGosListsOmitsNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for name, o := range map[string][]arrowparquet.WriterProperty{
		"v1 dictionary": {arrowparquet.WithDataPageVersion(arrowparquet.DataPageV1)},
		"v1 plain":      {arrowparquet.WithDataPageVersion(arrowparquet.DataPageV1), arrowparquet.WithDictionaryDefault(false)},
		"v2 dictionary": {arrowparquet.WithDataPageVersion(arrowparquet.DataPageV2)},
		"v2 plain":      {arrowparquet.WithDataPageVersion(arrowparquet.DataPageV2), arrowparquet.WithDictionaryDefault(false)},
	} {
		file, rows := arrowLists(t, r, 2000, o...)
		pruned := 0
		for range 60 {
			key := r.Int64N(2000 / 20 * 100)
			for path, text := range map[string]string{"flat": "", "ints.list.element": "", "texts.list.element": "string", "map.key_value.key": "string", "map.key_value.value": ""} {
				s := intSet(t, key)
				if text != "" {
					s = set(t, "string", []string{fmt.Sprintf("%06d", key)})
				}
				c, err := scanner.ParseColumn(path)
				if err != nil {
					t.Fatal(err)
				}
				res := scan(t, file, scanner.Request{Match: []scanner.Match{{Keys: s, Columns: []scanner.ColumnRef{c}}}})
				for i, row := range rows {
					want := false
					for k, v := range row {
						want = want || v == key && (k == 0 || path != "flat")
					}
					if got := res.Hits.Contains(uint64(i)); got != want {
						t.Fatalf("%s: %s: key %d, row %d: found %v, want %v", name, path, key, i, got, want)
					}
				}
				if res.Pruning.PagesRead < res.Pruning.Pages || res.Pruning.ByStatistics > 0 {
					pruned++
				}
			}
		}
		if pruned < 200 {
			t.Errorf("%s: only %d of 300 scans pruned anything: they prove little", name, pruned)
		}
	}
}
