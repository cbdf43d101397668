package verifier

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	aparquet "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/pq/writers"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

func checkBytes(t testing.TB, raw []byte, m []warehouse.BoundMatch, o FileOptions) *FileReport {
	t.Helper()
	r, err := CheckFile(context.Background(), bytes.NewReader(raw), int64(len(raw)), "file", m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found lists the surfaces with certain findings, and those with possible ones.
func foundOn(r *FileReport) (certain, possible string) {
	var c, p []string
	for _, s := range r.Surfaces {
		if s.Findings > 0 {
			c = append(c, s.Name)
		}
		if s.Possible > 0 && s.Name != BloomFilters {
			p = append(p, s.Name)
		}
	}
	return strings.Join(c, ", "), strings.Join(p, ", ")
}

// TestCleanFilesOfOtherWritersAreClean: no false alarm on what libraries write.
func TestCleanFilesOfOtherWritersAreClean(t *testing.T) {
	store := storage.NewMem()
	for name, opts := range map[string][]parquet.WriterOption{
		"v1":            {parquet.DataPageVersion(1), parquet.DataPageStatistics(true)},
		"v2":            {parquet.DataPageVersion(2), parquet.DataPageStatistics(true)},
		"short bounds":  {parquet.ColumnIndexSizeLimit(func([]string) int { return 5 })},
		"bloom filters": {parquet.BloomFilters(parquet.SplitBlockFilter(10, "id"), parquet.SplitBlockFilter(10, "email"))},
	} {
		raw := writeParquet(t, store, "mem://b/"+strings.ReplaceAll(name, " ", ""), people(3000), opts...)
		keys := []string{}
		for i := range 400 {
			keys = append(keys, fmt.Sprint(900000+i))
		}
		r := checkBytes(t, raw, onID(keysOf(t, "int64", keys...), 1), FileOptions{AllColumns: true})
		if c, p := foundOn(r); c != "" || p != "" {
			t.Errorf("%s: found on %q, possibly on %q: %+v", name, c, p, r.Findings)
		}
		if name == "bloom filters" && r.bloom.Filters != 3 {
			t.Errorf("%d filters", r.bloom.Filters)
		}
	}
}

// TestKeyInUseIsFoundOnEverySurface of a file that still has it.
func TestKeyInUseIsFoundOnEverySurface(t *testing.T) {
	store := storage.NewMem()
	raw := writeParquet(t, store, "mem://b/f", people(3000), parquet.DataPageStatistics(true), parquet.BloomFilters(parquet.SplitBlockFilter(10, "id")))
	var keys []string
	for i := range 300 {
		keys = append(keys, fmt.Sprint(i))
	}
	c, _ := foundOn(checkBytes(t, raw, onID(keysOf(t, "int64", keys...), 1), FileOptions{}))
	for _, want := range []string{DataPages, Dictionaries, Statistics, PageIndexes, BloomFilters} {
		if !strings.Contains(c, want) {
			t.Errorf("not found on %s, only on %q", want, c)
		}
	}
}

// TestUnreferencedDictionaryEntryIsFound: a filtered dictionary column written
// back by the library keeps what no row has any more (facts/parquet.md).
func TestUnreferencedDictionaryEntryIsFound(t *testing.T) {
	raw := dictionaryFile(t, []string{"anna@example.com", "secret@example.com", "berta@example.com"}, []int32{0, 2, 2, 0, 0})
	m := on(keysOf(t, "string", "secret@example.com"), "email")
	r := checkBytes(t, raw, m, FileOptions{})
	if c, _ := foundOn(r); c != Dictionaries || r.Hits != 0 {
		t.Errorf("found on %q: %+v", c, r.Findings)
	}
	// As part of an erased row, found without knowing its value.
	r = checkBytes(t, raw, on(keysOf(t, "string", "other@example.com"), "email"), FileOptions{AllColumns: true})
	if c, p := foundOn(r); c != "" || p != Dictionaries {
		t.Errorf("found on %q, possibly on %q", c, p)
	}
	// A copy of a surviving entry tells nothing, nor does a blank.
	for _, wiped := range []string{"anna@example.com", "\x01", "\x1f\x02"} {
		raw = dictionaryFile(t, []string{"anna@example.com", wiped, "berta@example.com"}, []int32{0, 2, 2, 0, 0})
		if c, p := foundOn(checkBytes(t, raw, m, FileOptions{AllColumns: true})); c != "" || p != "" {
			t.Errorf("wiped entry: found on %q, possibly on %q", c, p)
		}
	}
}

func dictionaryFile(t *testing.T, dict []string, idx []int32) []byte {
	t.Helper()
	typ := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	sb := array.NewStringBuilder(memory.DefaultAllocator)
	sb.AppendValues(dict, nil)
	ib := array.NewInt32Builder(memory.DefaultAllocator)
	ib.AppendValues(idx, nil)
	col := array.NewDictionaryArray(typ, ib.NewArray(), sb.NewArray())
	schema := arrow.NewSchema([]arrow.Field{{Name: "email", Type: typ}}, nil)
	rec := array.NewRecordBatch(schema, []arrow.Array{col}, int64(len(idx)))
	var b bytes.Buffer
	w, err := pqarrow.NewFileWriter(schema, &b, aparquet.NewWriterProperties(aparquet.WithDictionaryDefault(true), aparquet.WithStats(false)), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type plain struct {
	ID int64 `parquet:"id"`
}

const rare, hidden = int64(0x1122334455667788), int64(0x1122334455667789)

// plainFile has ids from rare upwards, so that rare's bytes stand in every lower bound.
func plainFile(t *testing.T, opts ...parquet.WriterOption) []byte {
	rows := make([]plain, 500)
	for i := range rows {
		rows[i].ID = rare + int64(i)*1000
	}
	return writeParquet(t, storage.NewMem(), "mem://b/f", rows, append(opts, parquet.Compression(&parquet.Uncompressed))...)
}

func le(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }

// TestStaleBoundIsFound plants a key in bounds alone.
func TestStaleBoundIsFound(t *testing.T) {
	m := on(keysOf(t, "int64", fmt.Sprint(hidden)), "id")
	other := on(keysOf(t, "int64", "1"), "id")
	raw := plainFile(t, parquet.DataPageStatistics(true))
	footer := len(raw) - 8 - int(binary.LittleEndian.Uint32(raw[len(raw)-8:]))
	index := bytes.LastIndex(raw[:footer], le(rare)) // the column index stands before the footer
	header := bytes.Index(raw, le(rare))             // the page header before its values
	chunk := footer + bytes.Index(raw[footer:], le(rare))
	for name, tc := range map[string]struct {
		at      int
		surface string
	}{"chunk statistics": {chunk, Statistics}, "page header": {header, Statistics}, "column index": {index, PageIndexes}} {
		planted := bytes.Clone(raw)
		copy(planted[tc.at:], le(hidden))
		r := checkBytes(t, planted, m, FileOptions{})
		if c, _ := foundOn(r); c != tc.surface || r.Hits != 0 {
			t.Errorf("%s: found on %q (%d hits)", name, c, r.Hits)
		}
		// Also without knowing the value: no row has that bound.
		if c, p := foundOn(checkBytes(t, planted, other, FileOptions{AllColumns: true})); c != "" || p != tc.surface {
			t.Errorf("%s: found on %q, possibly on %q", name, c, p)
		}
	}
	if c, p := foundOn(checkBytes(t, raw, m, FileOptions{AllColumns: true})); c != "" || p != "" {
		t.Errorf("as written: found on %q, possibly on %q", c, p)
	}
}

func TestKeyInFooterTextIsFound(t *testing.T) {
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", people(10), parquet.KeyValueMetadata("query", "where email = 'secret@example.com'"))
	c, _ := foundOn(checkBytes(t, raw, onID(keysOf(t, "string", "secret@example.com"), 2), FileOptions{}))
	if c != FileMetadata {
		t.Errorf("found on %q", c)
	}
}

func TestKeyInGapIsFound(t *testing.T) {
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", people(10))
	footer := len(raw) - 8 - int(binary.LittleEndian.Uint32(raw[len(raw)-8:]))
	withGap := append(bytes.Clone(raw[:footer]), "....secret@example.com...."...)
	withGap = append(withGap, raw[footer:]...)
	r := checkBytes(t, withGap, onID(keysOf(t, "string", "secret@example.com"), 2), FileOptions{})
	if c, _ := foundOn(r); c != FileGaps {
		t.Errorf("found on %q", c)
	}
	if c, _ := foundOn(checkBytes(t, raw, onID(keysOf(t, "string", "secret@example.com"), 2), FileOptions{})); c != "" {
		t.Errorf("found on %q", c)
	}
}

// TestPageWalkAgreesWithTheLibrary: what our page walk counts as referenced is
// what the column reader returns.
func TestPageWalkAgreesWithTheLibrary(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows := people(rapid.IntRange(1, 600).Draw(rt, "rows"))
		version := rapid.IntRange(1, 2).Draw(rt, "page version")
		raw := writeParquet(t, storage.NewMem(), "mem://b/f", rows, parquet.DataPageVersion(version), parquet.PageBufferSize(rapid.IntRange(50, 3000).Draw(rt, "page")))
		f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		for _, info := range columnsOf(f.MetaData().Schema) {
			want := map[string]bool{}
			dict := false
			for rg := range f.NumRowGroups() {
				p, err := walkChunk(context.Background(), f, rg, info.index, pageVisitor{})
				if err != nil {
					rt.Fatalf("%s: %v", pathOf(info), err)
				}
				if p.dict == nil {
					continue
				}
				dict = true
				for i, v := range p.dict {
					if p.used.Contains(uint64(i)) {
						want[string(v)] = true
					}
				}
			}
			if !dict {
				continue
			}
			got := map[string]bool{}
			l := f.leaf(context.Background(), info.index)
			for b, err := l.next(); b != nil || err != nil; b, err = l.next() {
				if err != nil {
					rt.Fatal(err)
				}
				for i := range b.nvals {
					got[string(b.value(i))] = true
				}
			}
			if len(got) != len(want) {
				rt.Fatalf("%s: %d values referenced, %d read", pathOf(info), len(want), len(got))
			}
			for v := range got {
				if !want[v] {
					rt.Fatalf("%s: a value is read that no index refers to", pathOf(info))
				}
			}
		}
	})
}

// FuzzCheckFile: no input panics or hangs.
func FuzzCheckFile(f *testing.F) {
	store := storage.NewMem()
	f.Add(writeParquet(f, store, "mem://b/a", people(40), parquet.DataPageVersion(1), parquet.DataPageStatistics(true)))
	f.Add(writeParquet(f, store, "mem://b/b", people(40), parquet.DataPageVersion(2), parquet.BloomFilters(parquet.SplitBlockFilter(10, "id"))))
	f.Add([]byte("PAR1PAR1"))
	for _, w := range writers.Files() {
		f.Add(w.Data)
	}
	m := append(onID(keysOf(f, "int64", "5", "7"), 1, "id"), onID(keysOf(f, "string", "user3@example.com"), 2, "email")...)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := CheckFile(context.Background(), bytes.NewReader(raw), int64(len(raw)), "f", m, FileOptions{AllColumns: true})
		if err == nil && r == nil {
			t.Error("neither report nor error")
		}
	})
}

// FuzzDecodeHybrid: our level and index decoder survives any bytes.
func FuzzDecodeHybrid(f *testing.F) {
	f.Add([]byte{0x06, 0x01, 0x03, 0x88, 0xc6, 0xfa}, 3, 11)
	f.Fuzz(func(t *testing.T, b []byte, width, n int) {
		if width < 0 || width > 32 || n < 0 || n > 1<<16 {
			return
		}
		seen := 0
		err := decodeHybrid(b, width, n, func(v uint64, times int) error {
			if times < 1 && n > 0 {
				t.Fatal("an empty run")
			}
			seen += times
			return nil
		})
		if err == nil && seen != n {
			t.Errorf("%d of %d values and no error", seen, n)
		}
	})
}

// TestMutatedFilesEndInAReportOrAnError: never in a panic, never in a hang.
func TestMutatedFilesEndInAReportOrAnError(t *testing.T) {
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", people(40))
	m := append(onID(keysOf(t, "int64", "5", "7"), 1, "id"), onID(keysOf(t, "string", "user3@example.com"), 2, "email")...)
	r := rand.New(rand.NewPCG(1, 2))
	readable := 0
	for range 300 {
		b := bytes.Clone(raw)
		for range 1 + r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		rep, err := CheckFile(context.Background(), bytes.NewReader(b), int64(len(b)), "f", m, FileOptions{AllColumns: true})
		if (rep == nil) == (err == nil) {
			t.Fatal(rep, err)
		}
		if err == nil {
			readable++
		}
	}
	if readable == 0 || readable == 300 {
		t.Errorf("%d of 300 readable", readable)
	}
}
