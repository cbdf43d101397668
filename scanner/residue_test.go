package scanner_test

import (
	"bytes"
	"fmt"
	"testing"

	pgo "github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/scanner"
)

func mailOf(i int) string { return fmt.Sprintf("mail.%04d@example.com", i) }

// A file without residue is never taken for one with some, whatever the keys: a
// false alarm would write it anew night after night.
func TestNoResidueInWholeFiles(t *testing.T) {
	type row struct {
		ID   int64  `parquet:"id"`
		Mail string `parquet:"mail,dict"`
		Text string `parquet:"text"`
	}
	var buf bytes.Buffer
	w := pgo.NewGenericWriter[row](&buf, pgo.PageBufferSize(500), pgo.MaxRowsPerRowGroup(200), pgo.DataPageStatistics(true),
		pgo.BloomFilters(pgo.SplitBlockFilter(4, "id"), pgo.SplitBlockFilter(4, "mail"), pgo.SplitBlockFilter(4, "text")))
	for i := range 600 {
		m := mailOf(i * 2)
		if _, err := w.Write([]row{{ID: int64(i * 2), Mail: m, Text: m}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for column, typ := range map[string]string{"id": "int64", "mail": "string", "text": "string"} {
		var absent, present [][]string
		for i := range 600 {
			gone, there := mailOf(i*2+1), mailOf(i*2)
			if typ == "int64" {
				gone, there = fmt.Sprint(i*2+1), fmt.Sprint(i*2)
			}
			absent, present = append(absent, []string{gone}), append(present, []string{there})
		}
		for name, keys := range map[string][][]string{"absent": absent, "present": present} {
			ref, err := scanner.ParseColumn(column)
			if err != nil {
				t.Fatal(err)
			}
			res, err := scanner.ParquetAt(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()), scanner.Request{
				Match: []scanner.Match{{Keys: set(t, typ, keys...), Columns: []scanner.ColumnRef{ref}}}, Options: scanner.Options{Keys: true, Residue: true}})
			if err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			if name == "present" {
				want = 600
			}
			if res.Stale[0] || int64(res.Hits.GetCardinality()) != want {
				t.Errorf("%s, %s keys: stale %v, %d hits", column, name, res.Stale[0], res.Hits.GetCardinality())
			}
		}
	}
}
