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
	leaks.foreign = true
	out, _ = mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
	leaks.foreign = false
	if !bytes.Contains(out, chunk[0].min) {
		t.Error("switched off, and no erased bound was found")
	}
	// Where the value that the pages share stays, they keep their bytes.
	one := bitmap(uint64(s.rows / 2))
	one.AndNot(erase)
	if _, res := mustRewrite(t, s.data, rewriter.Edit{Erase: one}, rewriter.Options{Engine: rewriter.Surgical}); res.PagesTouched > 2*len(f.Schema.Columns) {
		t.Errorf("%d pages touched for one row of an honest file", res.PagesTouched)
	}
}

// withChunkBoundsInHeaders gives the headers of the first column's pages their
// chunk's bounds, and takes its column index away if asked to.
func withChunkBoundsInHeaders(t *testing.T, data []byte, drop bool) []byte {
	t.Helper()
	out := bytes.Clone(data)
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.RowGroups {
		c, err := g.Chunk(f.Schema.Columns[0])
		if err != nil {
			t.Fatal(err)
		}
		r := c.Pages(context.Background(), pq.ReadOptions{})
		for {
			p, err := r.Next()
			if err != nil {
				break
			}
			h, _, err := thriftpatch.Parse(p.RawHeader)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []int16{5, 8} { // DataPageHeader, DataPageHeaderV2
				d, err := h.Struct(id)
				if err != nil || d == nil {
					continue
				}
				st, err := d.Struct(id) // the statistics' field has the same number in both
				if err != nil || st == nil {
					t.Fatal("the sample's pages have no statistics")
				}
				st.SetBytes(5, c.Meta.Statistics.MaxValue)
				st.SetBytes(6, c.Meta.Statistics.MinValue)
				d.SetStruct(id, st)
				h.SetStruct(id, d)
				if raw := h.Append(nil); len(raw) != len(p.RawHeader) {
					t.Fatal("the header has another length")
				} else {
					copy(out[p.Offset:], raw)
				}
			}
		}
		r.Close()
	}
	if !drop {
		return out
	}
	footer, err := parseFooter(f)
	if err != nil {
		t.Fatal(err)
	}
	groups, _ := footer.List(fileRowGroups)
	for i := range groups.Values {
		g, _ := groups.Struct(i)
		columns, _ := g.List(groupColumns)
		c, _ := columns.Struct(0)
		c.Delete(chunkColumnIndexOffset, chunkColumnIndexLength)
		columns.Values[0] = c.Append(nil)
		g.SetList(groupColumns, columns)
		groups.Values[i] = g.Append(nil)
	}
	footer.SetList(fileRowGroups, groups)
	return appendFooter(out[:f.FooterOffset], footer)
}

// The same where only page headers store the bounds of the chunk, beside an
// offset index without a column index or with an honest one.
func TestBoundsOfOtherPagesInHeadersGo(t *testing.T) {
	s := goSample(t, rand.New(rand.NewPCG(61, 62)), "foreign", 300)
	values := int64Values(t, s.data, 0)
	for _, drop := range []bool{true, false} {
		data := withChunkBoundsInHeaders(t, s.data, drop)
		f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		var bounds [][]byte
		for _, g := range f.RowGroups {
			st := g.Meta.Columns[0].MetaData.Statistics
			bounds = append(bounds, st.MinValue, st.MaxValue)
		}
		erase := roaring64.New()
		for i, v := range values {
			for _, b := range bounds {
				if bytes.Equal(leInt(uint64(v), 64), b) {
					erase.Add(uint64(i))
				}
			}
		}
		out, _ := mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
		for _, b := range bounds {
			if !bytes.Contains(data, b) || bytes.Contains(out, b) {
				t.Errorf("without column index %v: an erased bound is still stored", drop)
			}
		}
		sameRows(t, "survivors", levelRows(t, out), without(levelRows(t, data), erase))
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
