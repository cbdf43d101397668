package parquet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"go.uber.org/goleak"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Erasing A, then B of what is left, is erasing both.
func TestEraseTwiceIsEraseUnion(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, s := range goCorpus(t) {
		a, b := randomRows(r, s.rows, 40), randomRows(r, s.rows, 40)
		a.AddRange(30, 90)
		b.AndNot(a)
		once, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: roaring64.Or(a, b)}, rewriter.Options{Engine: rewriter.Surgical})
		first, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: a}, rewriter.Options{Engine: rewriter.Surgical})
		moved := roaring64.New()
		for it := b.Iterator(); it.HasNext(); {
			row := it.Next()
			moved.Add(row - a.Rank(row))
		}
		twice, _ := mustRewrite(t, first, rewriter.Edit{Erase: moved}, rewriter.Options{Engine: rewriter.Surgical})
		sameRows(t, s.name, levelRows(t, twice), levelRows(t, once))
	}
}

// pageBytes are all pages of a file as stored, in order.
func pageBytes(t testing.TB, data []byte) (pages []string) {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.RowGroups {
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				t.Fatal(err)
			}
			x, err := c.OffsetIndex()
			if err != nil {
				t.Fatal(err)
			}
			r := c.Pages(context.Background(), pq.ReadOptions{Index: x})
			for {
				p, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				pages = append(pages, string(p.RawHeader)+string(p.Body))
			}
		}
	}
	return pages
}

// Erasing nothing keeps every page byte for byte, and the footer's schema,
// key-value metadata and writer.
func TestEraseNothingKeepsEveryPage(t *testing.T) {
	for _, s := range corpus(t) {
		out, res := mustRewrite(t, s.data, rewriter.Edit{}, rewriter.Options{Engine: rewriter.Surgical})
		a, b := pageBytes(t, s.data), pageBytes(t, out)
		if len(a) != len(b) || res.PagesTouched != 0 {
			t.Fatalf("%s: %d pages, %d touched, want %d", s.name, len(b), res.PagesTouched, len(a))
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("%s: page %d differs", s.name, i)
			}
		}
		sameFooter(t, s.name, s.data, out)
	}
}

// sameFooter compares everything in two footers but row counts and row groups.
func sameFooter(t testing.TB, name string, a, b []byte) {
	t.Helper()
	fa, fb := openFooter(t, a), openFooter(t, b)
	for _, f := range []*thriftpatch.Struct{fa, fb} {
		f.Delete(fileNumRows, fileRowGroups)
	}
	if !bytes.Equal(fa.Append(nil), fb.Append(nil)) {
		t.Fatalf("%s: footers differ beyond the row groups", name)
	}
}

func openFooter(t testing.TB, data []byte) *thriftpatch.Struct {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	footer, err := parseFooter(f)
	if err != nil {
		t.Fatal(err)
	}
	return footer
}

// Pages that no erased row touches are byte-identical in the output.
func TestUntouchedPagesAreByteIdentical(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, s := range corpus(t) {
		out, res := mustRewrite(t, s.data, rewriter.Edit{Erase: bitmap(r.Uint64N(uint64(s.rows)))}, rewriter.Options{Engine: rewriter.Surgical})
		in := map[string]int{}
		for _, p := range pageBytes(t, s.data) {
			in[p]++
		}
		fresh := 0
		for _, p := range pageBytes(t, out) {
			if in[p] > 0 {
				in[p]--
			} else {
				fresh++
			}
		}
		// Beside the touched pages only dictionaries of that row group may change.
		f, _ := pq.Open(context.Background(), bytes.NewReader(s.data), int64(len(s.data)))
		if most := res.PagesTouched + len(f.Schema.Columns); fresh > most {
			t.Fatalf("%s: %d pages are new, at most %d may be", s.name, fresh, most)
		}
		sameFooter(t, s.name, s.data, out)
	}
}

// The number of workers never shows in the bytes.
func TestWorkersDoNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	for i, s := range corpus(t) {
		if i%4 != 0 {
			continue
		}
		e := rewriter.Edit{Erase: randomRows(r, s.rows, 60)}
		one, res1 := mustRewrite(t, s.data, e, rewriter.Options{Engine: rewriter.Surgical, Workers: 1})
		many, res4 := mustRewrite(t, s.data, e, rewriter.Options{Engine: rewriter.Surgical, Workers: 4})
		if !bytes.Equal(one, many) || *res1 != *res4 {
			t.Fatalf("%s: outputs differ", s.name)
		}
	}
}

// Fields that no library knows survive, wherever they are.
func TestUnknownFieldsSurvive(t *testing.T) {
	s := goCorpus(t)[0]
	footer := openFooter(t, s.data)
	mark := []byte("field of the future")
	footer.SetBytes(777, mark)
	groups, _ := footer.List(fileRowGroups)
	for i := range groups.Values {
		g, _ := groups.Struct(i)
		columns, _ := g.List(groupColumns)
		for k := range columns.Values {
			c, _ := columns.Struct(k)
			m, _ := c.Struct(chunkMeta)
			m.SetBytes(778, mark)
			c.SetStruct(chunkMeta, m)
			c.SetBytes(779, mark)
			columns.Values[k] = c.Append(nil)
		}
		g.SetList(groupColumns, columns)
		g.SetBytes(780, mark)
		groups.Values[i] = g.Append(nil)
	}
	footer.SetList(fileRowGroups, groups)
	f, _ := pq.Open(context.Background(), bytes.NewReader(s.data), int64(len(s.data)))
	data := appendFooter(bytes.Clone(s.data[:f.FooterOffset]), footer)
	want := bytes.Count(data, mark)
	out, _ := mustRewrite(t, data, rewriter.Edit{Erase: bitmap(1, 2, 200)}, rewriter.Options{Engine: rewriter.Surgical})
	if got := bytes.Count(out, mark); got != want {
		t.Fatalf("%d unknown fields of %d survive", got, want)
	}
}

// A fully erased row group goes, and the ones behind it move up.
func TestErasedRowGroupIsDropped(t *testing.T) {
	for _, s := range corpus(t)[:3] {
		f, _ := pq.Open(context.Background(), bytes.NewReader(s.data), int64(len(s.data)))
		all := roaring64.New()
		all.AddRange(0, uint64(f.RowGroups[0].Rows))
		out, res := mustRewrite(t, s.data, rewriter.Edit{Erase: all}, rewriter.Options{Engine: rewriter.Surgical})
		g, err := pq.Open(context.Background(), bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatal(err)
		}
		if len(g.RowGroups) != len(f.RowGroups)-1 || res.RowGroupsDropped != 1 || res.PagesTouched != 0 {
			t.Fatalf("%s: %d row groups of %d, %+v", s.name, len(g.RowGroups), len(f.RowGroups), res)
		}
	}
}

// Row lineage: inherited values are stored, stored ones win, nulls are filled.
func TestLineageIsMaterialised(t *testing.T) {
	for _, engine := range []string{rewriter.Surgical, rewriter.Reference} {
		for _, s := range []sample{arrowCorpus(t)[0], goCorpus(t)[0]} {
			out, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: bitmap(0, 7), Lineage: &rewriter.Lineage{FirstRowID: 1000, Sequence: 4}}, rewriter.Options{Engine: engine})
			rows := levelRows(t, out)
			f, _ := pq.Open(context.Background(), bytes.NewReader(out), int64(len(out)))
			n := len(f.Schema.Columns)
			if f.Schema.Columns[n-2].FieldID != rowIDField || f.Schema.Columns[n-1].FieldID != sequenceField {
				t.Fatalf("%s: no lineage columns", engine)
			}
			last := strings.Split(strings.TrimSpace(rows[len(rows)-1]), " ")
			if !strings.HasSuffix(last[len(last)-2], `="`+strconv.Itoa(1000+s.rows-1)+`"`) || !strings.HasSuffix(last[len(last)-1], `="4"`) {
				t.Fatalf("%s: last row is %v", engine, last)
			}
			again, _ := mustRewrite(t, out, rewriter.Edit{Erase: bitmap(3), Lineage: &rewriter.Lineage{FirstRowID: 5, Sequence: 9}}, rewriter.Options{Engine: engine})
			sameRows(t, engine+": stored lineage wins", levelRows(t, again), without(rows, bitmap(3)))
		}
	}
}

// Offsets, sizes, counts and statistics of the output agree with its pages.
func TestOutputDescribesItself(t *testing.T) {
	r := rand.New(rand.NewPCG(27, 28))
	clean, files := 0, corpus(t)
	for _, s := range files {
		before, err := describe(s.data)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if len(before) == 0 {
			clean++
		}
		out, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: randomRows(r, s.rows, 25)}, rewriter.Options{Engine: rewriter.Surgical})
		after, err := describe(out)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		for w := range after {
			if !before[w] {
				t.Errorf("%s: %s", s.name, w)
			}
		}
	}
	if clean < len(files)/4 {
		t.Fatalf("only %d of %d sources are free of faults", clean, len(files))
	}
}
