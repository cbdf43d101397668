package scanner_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/scanner"
)

type pairElem struct{ a, b int64 }

// writeCrossing writes l: list<struct<a, b>> in v1 pages without an offset
// index, by a writer that ends pages in the middle of rows.
func writeCrossing(t *testing.T, rows [][]pairElem) []byte {
	t.Helper()
	must := func(n schema.Node, err error) schema.Node {
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	req, opt, rep := parquet.Repetitions.Required, parquet.Repetitions.Optional, parquet.Repetitions.Repeated
	pair := must(schema.NewGroupNode("element", req, schema.FieldList{schema.NewInt64Node("a", req, -1), schema.NewInt64Node("b", opt, -1)}, -1))
	list := must(schema.NewGroupNodeConverted("l", opt, schema.FieldList{must(schema.NewGroupNode("list", rep, schema.FieldList{pair}, -1))}, schema.ConvertedTypes.List, -1))
	root, err := schema.NewGroupNode("schema", req, schema.FieldList{list}, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := file.NewParquetWriter(&buf, root, file.WithWriterProps(parquet.NewWriterProperties(
		parquet.WithDataPageSize(100), parquet.WithBatchSize(7), parquet.WithDictionaryDefault(false), parquet.WithDataPageVersion(parquet.DataPageV1))))
	g := w.AppendRowGroup() //nolint:staticcheck // a panic fails the test as well
	for _, get := range []func(pairElem) int64{func(p pairElem) int64 { return p.a }, func(p pairElem) int64 { return p.b }} {
		var vals []int64
		var def, rl []int16
		cw, err := g.NextColumn()
		if err != nil {
			t.Fatal(err)
		}
		top := cw.Descr().MaxDefinitionLevel()
		for _, row := range rows {
			if len(row) == 0 {
				def, rl = append(def, 1), append(rl, 0)
			}
			for i, p := range row {
				def, rl = append(def, top), append(rl, int16(min(i, 1)))
				vals = append(vals, get(p))
			}
		}
		if _, err := cw.(*file.Int64ColumnChunkWriter).WriteBatch(vals, def, rl); err != nil {
			t.Fatal(err)
		}
		if err := cw.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Rows and elements are counted right where rows go on in the next page, also
// when the key's two columns end their pages at different places.
func TestHitsInRowsThatCrossPages(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	rows := make([][]pairElem, 500)
	for i := range rows {
		for range r.IntN(6) {
			rows[i] = append(rows[i], pairElem{r.Int64N(40), r.Int64N(40)})
		}
	}
	data := writeCrossing(t, rows)
	list := ref("l")
	wantPair := pairElem{rows[slices.IndexFunc(rows, func(r []pairElem) bool { return len(r) > 3 })][3].a, 7}
	for name, c := range map[string]struct {
		match scanner.Match
		hit   func(pairElem) bool
	}{
		"one column": {scanner.Match{Keys: intSet(t, 3, 17), Columns: []scanner.ColumnRef{ref("l", "[*]", "a")}}, func(p pairElem) bool { return p.a == 3 || p.a == 17 }},
		"composite": {scanner.Match{Keys: set(t, "int64+int64", []string{fmt.Sprint(wantPair.a), "7"}, []string{"5", "6"}, []string{"8", "8"}, []string{"11", "1"}),
			Columns: []scanner.ColumnRef{ref("l", "[*]", "a"), ref("l", "[*]", "b")}}, func(p pairElem) bool {
			return p == wantPair || p == pairElem{5, 6} || p == pairElem{8, 8} || p == pairElem{11, 1}
		}},
	} {
		want, places := roaring64.New(), []place(nil)
		for i, row := range rows {
			for j, p := range row {
				if c.hit(p) {
					want.Add(uint64(i))
					places = append(places, place{int64(i), uint32(j)})
				}
			}
		}
		if want.IsEmpty() {
			t.Fatalf("%s: nothing to find", name)
		}
		res := scan(t, data, scanner.Request{Match: []scanner.Match{c.match}, Options: scanner.Options{Elements: &list}})
		var got []place
		for i, row := range res.Elements[0].Rows {
			got = append(got, place{row, res.Elements[0].Index[i]})
		}
		if !res.Hits.Equals(want) || !slices.Equal(got, places) {
			t.Errorf("%s: %d rows, %d elements, want %d and %d", name, res.Hits.GetCardinality(), len(got), want.GetCardinality(), len(places))
		}
	}
}
