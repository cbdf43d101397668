package parquet

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/rewriter"
)

// A redaction is pending in rows that it changes, and in none once it is done.
func TestPendingIsWhatARedactionWouldChange(t *testing.T) {
	r := rand.New(rand.NewPCG(51, 52))
	constant := func(s string) *string { return &s }
	for i, s := range goCorpus(t) {
		if i%2 > 0 {
			continue
		}
		rows := randomRows(r, s.rows, 60)
		redact := []rewriter.Redaction{
			{Rows: rows, Column: column("email"), Constant: constant("gone")},
			{Rows: rows, Column: column("members.list.element.name")},
			{Rows: rows, Column: column("deep")},
			{Rows: rows, Column: rewriter.Column{Path: []string{"nowhere"}, AllowMissing: true}},
		}
		pending := func(data []byte, rows *roaring64.Bitmap) *roaring64.Bitmap {
			in := Input{bytes.NewReader(data), int64(len(data))}
			again := append([]rewriter.Redaction{}, redact...)
			for k := range again {
				again[k].Rows = rows
			}
			p, err := Pending(t.Context(), in, again)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if got := pending(s.data, rows); !got.Equals(rows) {
			t.Fatalf("%s: %d rows pending of %d that all have an address", s.name, got.GetCardinality(), rows.GetCardinality())
		}
		out, _ := mustRewrite(t, s.data, rewriter.Edit{Redact: redact}, rewriter.Options{Engine: rewriter.Surgical})
		if got := pending(out, rows); !got.IsEmpty() {
			t.Fatalf("%s: %d rows pending after the redaction", s.name, got.GetCardinality())
		}
		more := rows.Clone()
		more.Flip(0, uint64(s.rows))
		more.Or(rows)
		want := more.Clone()
		want.AndNot(rows)
		if got := pending(out, more); !got.Equals(want) {
			t.Fatalf("%s: %d rows pending, want the %d that were not redacted", s.name, got.GetCardinality(), want.GetCardinality())
		}
	}
}
