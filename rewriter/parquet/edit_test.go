package parquet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/rewriter"
)

func bitmap(rows ...uint64) *roaring64.Bitmap { return roaring64.BitmapOf(rows...) }

func randomRows(r *rand.Rand, n, k int) *roaring64.Bitmap {
	b := roaring64.New()
	for range k {
		b.Add(r.Uint64N(uint64(n)))
	}
	return b
}

func text(s string) *string { return &s }

func column(path string) rewriter.Column { return rewriter.Column{Path: strings.Split(path, ".")} }

// arrowEdits are edits of columns of the arrow corpus.
func arrowEdits(r *rand.Rand, n int) map[string]rewriter.Edit {
	rows := func() *roaring64.Bitmap { return randomRows(r, n, n/6) }
	elements := roaring64.New()
	for range n / 2 {
		elements.Add(rewriter.ElementKey(r.Uint64N(uint64(n)), r.Uint32N(4)))
	}
	redact := func(path string, c *string) rewriter.Redaction {
		return rewriter.Redaction{Rows: rows(), Column: column(path), Constant: c}
	}
	return map[string]rewriter.Edit{
		"null leaf":         {Redact: []rewriter.Redaction{redact("opt", nil), redact("category", nil), redact("blob", nil)}},
		"constant":          {Redact: []rewriter.Redaction{redact("email", text("REDACTED")), redact("category", text("")), redact("id", text("-1")), redact("double", text("2.5"))}},
		"typed constants":   {Redact: []rewriter.Redaction{redact("amount", text("-12.34")), redact("day", text("2020-02-29")), redact("at", text("2021-01-01T00:00:00Z")), redact("flag", text("true")), redact("unsigned", text("4294967295"))}},
		"existing constant": {Redact: []rewriter.Redaction{redact("category", text("bb"))}},
		"null group":        {Redact: []rewriter.Redaction{redact("person", nil), redact("tags", nil), redact("attrs", nil), redact("matrix", nil)}},
		"in a list":         {Redact: []rewriter.Redaction{redact("tags.list.element", nil), redact("person.phones.list.element.kind", text("gone"))}},
		"list in a group":   {Redact: []rewriter.Redaction{redact("person.phones", nil), redact("person.name", text("nobody"))}},
		"inner list":        {Redact: []rewriter.Redaction{redact("matrix.list.element", nil)}},
		"elements":          {Remove: []rewriter.Removal{{Column: column("tags"), Elements: elements}, {Column: column("person.phones"), Elements: elements}, {Column: column("attrs"), Elements: elements}, {Column: column("matrix"), Elements: elements}}},
		"inner elements":    {Remove: []rewriter.Removal{{Column: column("matrix.list.element"), Elements: elements}}},
		"everything": {Erase: rows(), Redact: []rewriter.Redaction{redact("email", text("x")), redact("person", nil), redact("tags.list.element", nil)},
			Remove: []rewriter.Removal{{Column: column("person.phones"), Elements: elements}, {Column: column("tags"), Elements: elements}}},
	}
}

// The two engines, which share neither level nor value code, agree on every action.
func TestActionsAgreeWithReference(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for i, s := range arrowCorpus(t) {
		if strings.Contains(s.name, "lz4") || i%2 == 1 && !strings.Contains(s.name, "delta") {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for name, e := range arrowEdits(r, s.rows) {
				got, res, err := rewrite(s.data, e, rewriter.Options{Engine: rewriter.Surgical, Workers: 2})
				if errors.Is(err, rewriter.ErrUnsupported) && len(e.Remove) > 0 {
					continue // pages may split rows
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				want, _ := mustRewrite(t, s.data, e, rewriter.Options{Engine: rewriter.Reference})
				sameRows(t, name, levelRows(t, got), levelRows(t, want))
				sameRows(t, name+" by arrow-go", arrowRows(t, got), arrowRows(t, want))
				if res.RowsOut == 0 {
					t.Fatal("no rows")
				}
			}
		})
	}
}

// What a redaction means, said in values.
func TestRedactionOverwritesValues(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	s := arrowSample(t, r, "redact", 50)
	e := rewriter.Edit{Redact: []rewriter.Redaction{
		{Rows: bitmap(3), Column: column("email"), Constant: text("REDACTED")},
		{Rows: bitmap(3), Column: column("person"), Constant: nil},
		{Rows: bitmap(3), Column: column("tags"), Constant: nil},
	}}
	before := arrowRows(t, s.data)
	out, _ := mustRewrite(t, s.data, e, rewriter.Options{Engine: rewriter.Surgical})
	after := arrowRows(t, out)
	for i := range before {
		cells, want := strings.Split(after[i], "|"), strings.Split(before[i], "|")
		if i == 3 {
			want[1], want[14], want[16] = "REDACTED", "(null)", "(null)"
		}
		if fmt.Sprint(cells) != fmt.Sprint(want) {
			t.Fatalf("row %d is %v, want %v", i, cells, want)
		}
	}
}

// An edit that the file cannot take is refused before a byte is written.
func TestImpossibleEditsAreRefused(t *testing.T) {
	s := arrowSample(t, rand.New(rand.NewPCG(13, 14)), "refuse", 50)
	for name, c := range map[string]struct {
		e    rewriter.Edit
		want error
	}{
		"null in a required column": {rewriter.Edit{Redact: []rewriter.Redaction{{Rows: bitmap(1), Column: column("email")}}}, rewriter.ErrUnsupported},
		"constant for a group":      {rewriter.Edit{Redact: []rewriter.Redaction{{Rows: bitmap(1), Column: column("person"), Constant: text("x")}}}, rewriter.ErrUnsupported},
		"unknown column":            {rewriter.Edit{Redact: []rewriter.Redaction{{Rows: bitmap(1), Column: column("nobody")}}}, rewriter.ErrColumn},
		"constant of another type":  {rewriter.Edit{Redact: []rewriter.Redaction{{Rows: bitmap(1), Column: column("id"), Constant: text("x")}}}, ErrConstant},
		"elements of no list":       {rewriter.Edit{Remove: []rewriter.Removal{{Column: column("email"), Elements: bitmap(1)}}}, rewriter.ErrUnsupported},
		"rows beyond the file":      {rewriter.Edit{Erase: bitmap(50)}, nil},
	} {
		out, _, err := rewrite(s.data, c.e, rewriter.Options{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if len(out) > 0 {
			t.Errorf("%s: %d bytes written", name, len(out))
		}
		if err != nil && strings.Contains(err.Error(), "\"x\"") {
			t.Errorf("%s: the error shows the constant: %v", name, err)
		}
	}
}

// A column that older files lack is left out where the edit allows it.
func TestMissingColumnCanBeAllowed(t *testing.T) {
	s := arrowSample(t, rand.New(rand.NewPCG(15, 16)), "missing", 50)
	c := column("nobody")
	c.AllowMissing = true
	out, res := mustRewrite(t, s.data, rewriter.Edit{Redact: []rewriter.Redaction{{Rows: bitmap(1), Column: c}}}, rewriter.Options{})
	if res.PagesTouched != 0 {
		t.Fatalf("%d pages touched", res.PagesTouched)
	}
	sameRows(t, "rows", arrowRows(t, out), arrowRows(t, s.data))
}

// Every row erased: nothing is written.
func TestWholeFileErasedWritesNothing(t *testing.T) {
	s := arrowSample(t, rand.New(rand.NewPCG(17, 18)), "whole", 50)
	all := roaring64.New()
	all.AddRange(0, 50)
	for _, engine := range []string{"", rewriter.Surgical, rewriter.Reference} {
		out, res := mustRewrite(t, s.data, rewriter.Edit{Erase: all}, rewriter.Options{Engine: engine})
		if len(out) != 0 || res.RowsOut != 0 || res.RowsIn != 50 {
			t.Fatalf("%d bytes, %+v", len(out), res)
		}
	}
}
