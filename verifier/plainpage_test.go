package verifier

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
)

// plainRow has PLAIN values of every width, nulls and lists.
type plainRow struct {
	ID    int64    `parquet:"id,plain,id(1)"`
	Small int32    `parquet:"small,plain"`
	Mail  *string  `parquet:"mail,optional,plain"`
	Name  string   `parquet:"name,plain"`
	Hash  [5]byte  `parquet:"hash"`
	Score *float64 `parquet:"score,optional"`
	Tags  []string `parquet:"tags,list,plain"`
	Sizes []int64  `parquet:"sizes,list,plain"`
}

func plainRows(n int) (rows []plainRow) {
	for i := range n {
		p := makePerson(i)
		r := plainRow{ID: int64(i), Small: int32(i * 7), Mail: p.Email, Name: "n" + string(rune('a'+i%26)), Hash: [5]byte{byte(i)}, Tags: p.Tags}
		if i%7 != 0 {
			r.Score = &p.Score
		}
		for k := range i % 3 {
			r.Sizes = append(r.Sizes, int64(i+k))
		}
		rows = append(rows, r)
	}
	return rows
}

var plainCodecs = []compress.Codec{&parquet.Uncompressed, &parquet.Zstd, &parquet.Snappy, &parquet.Gzip, &parquet.Brotli, &parquet.Lz4Raw}

// TestPlainPagesAreReadAsArrowReadsThem: entry by entry, whatever the codec and
// the version of the pages.
func TestPlainPagesAreReadAsArrowReadsThem(t *testing.T) {
	for _, version := range []int{1, 2} {
		for _, codec := range plainCodecs {
			store := storage.NewMem()
			raw := writeParquet(t, store, "mem://b/x", plainRows(2500), parquet.DataPageVersion(version), parquet.Compression(codec))
			f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
			if err != nil {
				t.Fatal(err)
			}
			for col := range f.MetaData().Schema.NumColumns() {
				s, err := newPageStream(t.Context(), f, col)
				if err != nil {
					t.Fatal(err)
				}
				s.raw = true
				got, here := entriesOfPages(t, s)
				want := entriesOf(t, f.leaf(t.Context(), col))
				if !slices.EqualFunc(got, want, func(a, b entryOf) bool { return a.def == b.def && a.rep == b.rep && bytes.Equal(a.v, b.v) }) {
					t.Fatalf("version %d, %v: column %d differs", version, codec, col)
				}
				if here == 0 {
					t.Errorf("version %d, %v: no page of column %d was read here", version, codec, col)
				}
			}
		}
	}
}

func entriesOfPages(t *testing.T, s *pageStream) (out []entryOf, here int) {
	for {
		p, err := s.page()
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			return out, here
		}
		if s.isPlain(p) {
			here++
		}
		for s.decode(); ; {
			b, err := s.batch()
			if err != nil {
				t.Fatal(err)
			}
			if b == nil {
				break
			}
			out = append(out, entriesOfBatch(b, s.l.maxDef())...)
		}
	}
}

func entriesOf(t *testing.T, l *leaf) (out []entryOf) {
	for {
		b, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			return out
		}
		out = append(out, entriesOfBatch(b, l.maxDef())...)
	}
}

func entriesOfBatch(b *batch, maxDef int16) (out []entryOf) {
	v := 0
	for i := range b.n {
		e := entryOf{def: maxDef}
		if b.def != nil {
			e.def = b.def[i]
		}
		if b.rep != nil {
			e.rep = b.rep[i]
		}
		if e.def == maxDef {
			e.v = bytes.Clone(b.value(v))
			v++
		}
		out = append(out, e)
	}
	return out
}

// TestEveryChangeInAPlainPageIsSeen: survivors of pages of other boundaries are
// equal, and one change of one of them is seen.
func TestEveryChangeInAPlainPageIsSeen(t *testing.T) {
	changes := []func(r *plainRow){
		func(r *plainRow) { r.ID += 1_000_000 }, func(r *plainRow) { r.Small++ }, func(r *plainRow) { s := "other"; r.Mail = &s },
		func(r *plainRow) { r.Name += "x" }, func(r *plainRow) { r.Name = "Z" + r.Name[1:] }, func(r *plainRow) { r.Hash[4]++ },
		func(r *plainRow) { z := -1.0; r.Score = &z }, func(r *plainRow) { r.Tags = append([]string{""}, r.Tags...) },
		func(r *plainRow) { r.Sizes = append([]int64{-1}, r.Sizes...) },
	}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(20, 900).Draw(rt, "rows")
		write := func(path string, rows []plainRow) storage.Store {
			store := storage.NewMem()
			writeParquet(t, store, path, rows, parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "version")),
				parquet.Compression(rapid.SampledFrom(plainCodecs).Draw(rt, "codec")), parquet.PageBufferSize(rapid.IntRange(100, 9000).Draw(rt, "page")))
			return store
		}
		gone := map[int64]bool{}
		deleted := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, n/2).Draw(rt, "gone")
		for _, i := range deleted {
			gone[int64(i)] = true
		}
		old := plainRows(n)
		left := slices.DeleteFunc(slices.Clone(old), func(r plainRow) bool { return gone[r.ID] })
		compare := func() *RewriteReport {
			f := func(path string, rows []plainRow) *parquetFile {
				o, err := openParquet(context.Background(), write(path, rows), path)
				if err != nil {
					rt.Fatal(err)
				}
				return o
			}
			c := comparison{ctx: context.Background(), r: &Rewrite{}, old: f("mem://b/old", old), new: f("mem://b/new", left), rep: &RewriteReport{}}
			defer c.old.Close()
			defer c.new.Close()
			c.rep.RowsOld, c.rep.RowsNew = int64(n), int64(len(left))
			c.gone = roaring64.New()
			for row := range gone {
				c.gone.Add(uint64(row))
			}
			was, is := columnsOf(c.old.MetaData().Schema), columnsOf(c.new.MetaData().Schema)
			for k, info := range was {
				if err := c.column(info, is[k].index); err != nil {
					rt.Fatal(err)
				}
			}
			return c.rep
		}
		if rep := compare(); rep.Difference != "" {
			rt.Fatal(rep.Difference)
		}
		if len(left) == 0 {
			return
		}
		i := rapid.IntRange(0, len(left)-1).Draw(rt, "row")
		rapid.SampledFrom(changes).Draw(rt, "change")(&left[i])
		if rep := compare(); rep.Difference == "" {
			rt.Fatalf("a change went unnoticed")
		}
	})
}
