package parquet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	pgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/bloom/xxhash"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// Rows whose every value occurs once, stored uncompressed in PLAIN and
// dictionary pages: what is left of a row is found by searching the bytes.
type secretRow struct {
	Key   int64   `parquet:"key"`
	Plain string  `parquet:"plain"`
	Dict  string  `parquet:"dict,dict"`
	Mixed string  `parquet:"mixed,dict"` // falls back to PLAIN behind a small dictionary
	Opt   *string `parquet:"opt,optional,dict"`
}

// secret is unique in its first bytes, since bounds are cut.
func secret(column, row int) string {
	return fmt.Sprintf("%02d%c-%05d-%s", row%97, 'a'+column, row, bytes.Repeat([]byte{'z'}, 30))
}

func secretKey(row int) int64 { return int64(row)*0x0101010101 + 0x1234567800000000 }

const secretRows = 600

func secretFile(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := pgo.NewGenericWriter[secretRow](&buf, pgo.PageBufferSize(2000), pgo.MaxRowsPerRowGroup(300), pgo.DataPageStatistics(true),
		pgo.DictionaryMaxBytes(4000), pgo.ColumnIndexSizeLimit(func([]string) int { return 12 }),
		pgo.BloomFilters(pgo.SplitBlockFilter(24, "key"), pgo.SplitBlockFilter(24, "plain"), pgo.SplitBlockFilter(24, "dict")))
	for i := range secretRows {
		r := secretRow{Key: secretKey(i), Plain: secret(0, i), Dict: secret(1, i), Mixed: secret(2, i)}
		if i%3 > 0 {
			s := secret(3, i)
			r.Opt = &s
		}
		if _, err := w.Write([]secretRow{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// findings lists what of a row's values a file still holds.
func findings(t testing.TB, data []byte, row int) (found []string) {
	t.Helper()
	for c := range 4 {
		if bytes.Contains(data, []byte(secret(c, row)[:10])) {
			found = append(found, fmt.Sprintf("text %d", c))
		}
	}
	if bytes.Contains(data, binary.LittleEndian.AppendUint64(nil, uint64(secretKey(row)))) {
		found = append(found, "key")
	}
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	hashes := []uint64{xxhash.Sum64(binary.LittleEndian.AppendUint64(nil, uint64(secretKey(row)))), xxhash.Sum64([]byte(secret(0, row))), xxhash.Sum64([]byte(secret(1, row)))}
	for _, g := range f.RowGroups {
		for i, h := range hashes {
			c, err := g.Chunk(f.Schema.Columns[i])
			if err != nil {
				t.Fatal(err)
			}
			b, err := c.Bloom()
			if err != nil || b == nil {
				t.Fatalf("bloom filter of column %d: %v", i, err)
			}
			if b.MayContain(h) {
				found = append(found, fmt.Sprintf("bloom %d", i))
			}
		}
	}
	return found
}

// secretErasure takes page and row group bounds, dictionary entries at both
// ends and in the middle, and a run.
func secretErasure() *roaring64.Bitmap {
	b := bitmap(0, 1, 2, 50, 97, 150, 194, 298, 299, 300, 301, 350, 425, 599)
	b.AddRange(220, 260)
	return b
}

func residue(t testing.TB, data []byte, erase *roaring64.Bitmap) (all []string) {
	it := erase.Iterator()
	for it.HasNext() {
		all = append(all, findings(t, data, int(it.Next()))...)
	}
	return all
}

// Nothing of an erased row stays in the file: pages, dictionaries, bounds of
// pages, chunks and indexes, bloom filters, gaps.
func TestNoResidue(t *testing.T) {
	for _, engine := range []string{rewriter.Surgical, rewriter.Reference} {
		data := secretFile(t)
		erase := secretErasure()
		if len(residue(t, data, erase)) == 0 {
			t.Fatal("the search finds nothing in the source: it proves nothing")
		}
		out, _ := mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: engine})
		// A rebuilt filter may hit by chance: with 24 bits a value hardly ever.
		if found := residue(t, out, erase); len(found) > 0 {
			t.Errorf("%s: left behind: %v", engine, found)
		}
		if len(findings(t, out, 3)) == 0 {
			t.Errorf("%s: a survivor is gone", engine)
		}
	}
}

// Redaction clears the same places.
func TestNoResidueOfRedaction(t *testing.T) {
	data := secretFile(t)
	rows := secretErasure()
	r := func(path, c string) rewriter.Redaction {
		return rewriter.Redaction{Rows: rows, Column: column(path), Constant: &c}
	}
	out, _ := mustRewrite(t, data, rewriter.Edit{Redact: []rewriter.Redaction{r("key", "7"), r("plain", "gone"), r("dict", "gone"), r("mixed", "gone"), {Rows: rows, Column: column("opt")}}},
		rewriter.Options{Engine: rewriter.Surgical})
	if found := residue(t, out, rows); len(found) > 0 {
		t.Errorf("left behind: %v", found)
	}
}

// Each wipe is needed: with it switched off the residue test finds something.
func TestEachWipeIsNeeded(t *testing.T) {
	data := withGap(t, secretFile(t), []byte(secret(0, 0)+secret(1, 50)))
	erase := secretErasure()
	clean, _ := mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
	if found := residue(t, clean, erase); len(found) > 0 {
		t.Fatalf("left behind: %v", found)
	}
	for name, c := range map[string]struct {
		flag *bool
		want []string // what has to be found, one of each kind of column
	}{
		"page statistics":  {&leaks.pageStats, []string{"text 0", "text 1", "text 2", "text 3", "key"}},
		"chunk statistics": {&leaks.chunkStats, []string{"text 0", "key"}},
		"column index":     {&leaks.columnIndex, []string{"text 0", "text 1", "text 2", "text 3", "key"}},
		"dictionary":       {&leaks.dictionary, []string{"text 1", "text 2", "text 3"}}, // 2: a chunk that fell back to PLAIN
		"bloom filter":     {&leaks.bloom, []string{"bloom 0", "bloom 1", "bloom 2"}},
		"gaps":             {&leaks.gaps, []string{"text 0", "text 1"}},
	} {
		*c.flag = true
		out, _ := mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
		*c.flag = false
		found := residue(t, out, erase)
		for _, w := range c.want {
			if !slices.Contains(found, w) {
				t.Errorf("%s: switched off, and %s was not found, only %v", name, w, found)
			}
		}
	}
}

// The same for what is told by numbers: histograms and data bytes of the size
// statistics, and distinct counts.
func TestEachCountIsNeeded(t *testing.T) {
	s := goSample(t, rand.New(rand.NewPCG(71, 72)), "counts", 300)
	data := withDistinctCounts(t, s.data)
	// Two rows of the first row group, so that every chunk of it is edited.
	edit := rewriter.Edit{Erase: bitmap(3, 4)}
	clean, _ := mustRewrite(t, data, edit, rewriter.Options{Engine: rewriter.Surgical})
	if n := distinctCounts(t, clean, 0); n != 0 {
		t.Errorf("%d distinct counts of edited chunks are left", n)
	}
	if wrong, err := describe(clean); err != nil || len(wrong) > 0 {
		t.Fatalf("%v %v", wrong, err)
	}
	leaks.sizes, leaks.distinct = true, true
	out, _ := mustRewrite(t, data, edit, rewriter.Options{Engine: rewriter.Surgical})
	leaks.sizes, leaks.distinct = false, false
	if n := distinctCounts(t, out, 0); n == 0 {
		t.Error("distinct counts: switched off, and none was found")
	}
	wrong, err := describe(out)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(wrong)), func(w string) bool { return strings.Contains(w, "size statistics") }) {
		t.Errorf("size statistics: switched off, and only this was found: %v", wrong)
	}
}

// withDistinctCounts says of every chunk with statistics that it holds seven values.
func withDistinctCounts(t *testing.T, data []byte) []byte {
	t.Helper()
	return patchChunks(t, data, func(m *thriftpatch.Struct) {
		if st, err := m.Struct(metaStatistics); err == nil && st != nil {
			st.SetInt(statDistinct, thriftpatch.I64, 7)
			m.SetStruct(metaStatistics, st)
		}
	})
}

// distinctCounts counts the chunks of a row group that tell theirs.
func distinctCounts(t *testing.T, data []byte, group int) (n int) {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.RowGroups[group].Meta.Columns {
		if c.MetaData.Statistics.DistinctCount == 7 {
			n++
		}
	}
	return n
}

// withGap puts bytes of no page between the magic and the first page.
func withGap(t testing.TB, data, junk []byte) []byte {
	t.Helper()
	by := int64(len(junk))
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	footer, err := parseFooter(f)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Clone(data[4:f.FooterOffset])
	groups, _ := footer.List(fileRowGroups)
	for i := range groups.Values {
		g, _ := groups.Struct(i)
		columns, _ := g.List(groupColumns)
		for k := range columns.Values {
			c, _ := columns.Struct(k)
			m, _ := c.Struct(chunkMeta)
			shift(m, by, metaDataOffset, metaDictOffset, metaBloomOffset)
			c.SetStruct(chunkMeta, m)
			at, _ := c.Int(chunkOffsetIndexOffset)
			n, _ := c.Int(chunkOffsetIndexLength)
			x, err := shiftOffsetIndex(data[at:at+n], by)
			if err != nil {
				t.Fatal(err)
			}
			// The moved index may be longer: it goes behind everything else.
			c.SetInt(chunkOffsetIndexOffset, thriftpatch.I64, int64(4+len(body)))
			c.SetInt(chunkOffsetIndexLength, thriftpatch.I32, int64(len(x)))
			body = append(body, x...)
			shift(c, by, chunkFileOffset, chunkOffsetIndexOffset, chunkColumnIndexOffset)
			columns.Values[k] = c.Append(nil)
		}
		g.SetList(groupColumns, columns)
		shift(g, by, groupFileOffset)
		groups.Values[i] = g.Append(nil)
	}
	footer.SetList(fileRowGroups, groups)
	out := append([]byte("PAR1"), junk...)
	return appendFooter(append(out, body...), footer)
}

func shift(s *thriftpatch.Struct, by int64, ids ...int16) {
	for _, id := range ids {
		if v, ok := s.Int(id); ok && v > 0 {
			s.SetInt(id, thriftpatch.I64, v+by)
		}
	}
}

// Wipe clears what another tool left of rows that it took out, in whole files
// and beside an erasure, and changes no row.
func TestWipeClearsWhatOthersLeft(t *testing.T) {
	data := secretFile(t)
	erase := secretErasure()
	flags := []*bool{&leaks.pageStats, &leaks.chunkStats, &leaks.columnIndex, &leaks.dictionary, &leaks.bloom}
	for _, f := range flags {
		*f = true
	}
	left, _ := mustRewrite(t, data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
	for _, f := range flags {
		*f = false
	}
	if len(residue(t, left, erase)) == 0 {
		t.Fatal("nothing was left: it proves nothing")
	}
	copied, _ := mustRewrite(t, left, rewriter.Edit{}, rewriter.Options{Engine: rewriter.Surgical})
	if len(residue(t, copied, erase)) == 0 {
		t.Error("a copy is clean without wiping: it proves nothing")
	}
	for name, more := range map[string]*roaring64.Bitmap{"alone": nil, "beside an erasure": bitmap(3)} {
		out, res := mustRewrite(t, left, rewriter.Edit{Erase: more, Wipe: true}, rewriter.Options{Engine: rewriter.Surgical})
		if found := residue(t, out, erase); len(found) > 0 {
			t.Errorf("%s: left behind: %v", name, found)
		}
		want := rowsOf(t, left)
		if more != nil {
			want = slices.Delete(want, 3, 4)
		}
		if got := rowsOf(t, out); !slices.Equal(got, want) || res.RowsOut != int64(len(want)) {
			t.Errorf("%s: %d rows, want %d, or others", name, len(got), len(want))
		}
	}
}

// rowsOf is every row as text.
func rowsOf(t *testing.T, data []byte) (out []string) {
	t.Helper()
	rows, err := pgo.Read[secretRow](bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		opt := "null"
		if r.Opt != nil {
			opt = *r.Opt
		}
		out = append(out, fmt.Sprint(r.Key, r.Plain, r.Dict, r.Mixed, opt))
	}
	return out
}
