package parquet

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// withChunkBounds gives every page of the first column its chunk's bounds in
// the column index, as some writers do. The values have one length, so that
// nothing moves.
func withChunkBounds(t *testing.T, data []byte) (out []byte, chunk []bounds) {
	t.Helper()
	out = bytes.Clone(data)
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.RowGroups {
		c, err := g.Chunk(f.Schema.Columns[0])
		if err != nil {
			t.Fatal(err)
		}
		at, n := c.Entry.ColumnIndexOffset, int64(c.Entry.ColumnIndexLength)
		x, _, err := thriftpatch.Parse(out[at : at+n])
		if err != nil {
			t.Fatal(err)
		}
		b := bounds{c.Meta.Statistics.MinValue, c.Meta.Statistics.MaxValue}
		pages, _ := x.List(indexMin)
		for id, v := range map[int16][]byte{indexMin: b.min, indexMax: b.max} {
			l := &thriftpatch.List{Elem: pages.Elem}
			for range pages.Values {
				l.AddBytes(v)
			}
			x.SetList(id, l)
		}
		if raw := x.Append(nil); int64(len(raw)) != n {
			t.Fatal("the column index has another length")
		} else {
			copy(out[at:], raw)
		}
		chunk = append(chunk, b)
	}
	return out, chunk
}

// A page without an erased row does not keep a bound that came from one.
func TestBoundsOfOtherPagesGo(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 62))
	s := goSample(t, r, "foreign", 300)
	data, chunk := withChunkBounds(t, s.data)
	f, _ := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	values := int64Values(t, data, 0)
	erase := roaring64.New()
	for i, v := range values {
		for _, b := range chunk {
			if raw := leInt(uint64(v), 64); bytes.Equal(raw, b.min) || bytes.Equal(raw, b.max) {
				erase.Add(uint64(i))
			}
		}
	}
	if n := int(erase.GetCardinality()); n != 2*len(f.RowGroups) {
		t.Fatalf("%d rows hold a bound, want two a row group", n)
	}
	out, _ := mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
	for i, b := range chunk {
		if !bytes.Contains(data, b.min) || bytes.Contains(out, b.min) || bytes.Contains(out, b.max) {
			t.Errorf("row group %d: an erased bound is still stored", i)
		}
	}
	sameRows(t, "survivors", levelRows(t, out), without(levelRows(t, data), erase))
	if wrong, err := describe(out); err != nil || wrong["id: column index: bounds exclude a value"] {
		t.Errorf("the new bounds are wrong: %v %v", wrong, err)
	}
	// Where the value that the pages share stays, they keep their bytes.
	one := bitmap(uint64(s.rows / 2))
	one.AndNot(erase)
	if _, res := mustRewrite(t, s.data, rewriter.Edit{Erase: one}, rewriter.Options{Engine: rewriter.Surgical}); res.PagesTouched > 2*len(f.Schema.Columns) {
		t.Errorf("%d pages touched for one row of an honest file", res.PagesTouched)
	}
}

// int64Values reads a flat column.
func int64Values(t *testing.T, data []byte, column int) (out []int64) {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.RowGroups {
		c, err := g.Chunk(f.Schema.Columns[column])
		if err != nil {
			t.Fatal(err)
		}
		r, dec := c.Pages(context.Background(), pq.ReadOptions{}), c.NewDecoder()
		var d pq.PageData
		for n := int64(0); n < c.Meta.NumValues; n += int64(d.Entries) {
			p, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if err := dec.Decode(p, &d); err != nil {
				t.Fatal(err)
			}
			out = append(out, d.Values.Int64...)
		}
	}
	return out
}
