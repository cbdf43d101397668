package verifier

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// writeGroups writes each group of rows as one row group, so that pages of
// untouched groups are the same bytes in two files.
func writeGroups(t testing.TB, store storage.Store, path string, groups [][]person, opts ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[person](&b, append([]parquet.WriterOption{parquet.Compression(&parquet.Snappy), parquet.PageBufferSize(700)}, opts...)...)
	for _, g := range groups {
		if _, err := w.Write(g); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, store, path, b.Bytes())
	return b.Bytes()
}

func grouped(rows []person, size int) (out [][]person) {
	for len(rows) > 0 {
		n := min(size, len(rows))
		out = append(out, rows[:n:n])
		rows = rows[n:]
	}
	return out
}

// TestSkippedPagesHideNoChange: with pages shared between the files, every
// single change of a survivor is still seen, and no change is seen where
// there is none.
func TestSkippedPagesHideNoChange(t *testing.T) {
	var shared int64
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(60, 500).Draw(rt, "rows")
		opts := []parquet.WriterOption{parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "page version"))}
		old := people(n)
		gone := map[int64]bool{}
		var keys []string
		for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, n/3), 1, 4, rapid.ID).Draw(rt, "erased") {
			gone[int64(id)] = true
			keys = append(keys, fmt.Sprint(id))
		}
		var left [][]person
		for _, g := range grouped(old, 40) {
			if g = without(g, func(p person) bool { return gone[p.ID] }); len(g) > 0 {
				left = append(left, g)
			}
		}
		store := storage.NewMem()
		writeGroups(t, store, "mem://b/old", grouped(old, 40), opts...)
		writeGroups(t, store, "mem://b/new", left, opts...)
		rw := Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", keys...), 1)}
		rep, err := Survivors(context.Background(), store, rw)
		if err != nil {
			rt.Fatal(err)
		}
		if !rep.Equal {
			rt.Fatalf("%+v", rep)
		}
		shared += rep.PagesSame
		if len(left) == 0 {
			return
		}
		g := left[rapid.IntRange(0, len(left)-1).Draw(rt, "group")]
		i := rapid.IntRange(0, len(g)-1).Draw(rt, "row")
		change := rapid.SampledFrom([]func(p *person){
			func(p *person) { p.ID += 1000000 }, func(p *person) { p.Score++ }, func(p *person) { p.Flag = !p.Flag },
			func(p *person) { s := "changed"; p.Email = &s }, func(p *person) { p.Tags = append([]string{"x"}, p.Tags...) },
			func(p *person) { p.Attrs = map[string]string{"z": "z"} }, func(p *person) { p.Addr = &address{City: "z"} },
		}).Draw(rt, "change")
		was := g[i]
		change(&g[i])
		writeGroups(t, store, "mem://b/new", left, opts...)
		g[i] = was
		if rep, err = Survivors(context.Background(), store, rw); err != nil {
			rt.Fatal(err)
		}
		if rep.Equal {
			rt.Fatalf("a change went unnoticed: %+v", rep)
		}
	})
	if shared == 0 {
		t.Error("no page was shared: the test shows nothing")
	}
}

// TestIndexPagesOfAnotherDictionaryAreNotTheSame: equal bytes, other values.
func TestIndexPagesOfAnotherDictionaryAreNotTheSame(t *testing.T) {
	type row struct {
		ID   int64  `parquet:"id,id(1)"`
		Name string `parquet:"name,dict,id(2)"`
	}
	rows := func(b string) (out []row) {
		for i := range 100 {
			out = append(out, row{int64(i), []string{"anna", b}[i%2]})
		}
		return out
	}
	store := storage.NewMem()
	writeParquet(t, store, "mem://b/old", rows("berta"))
	writeParquet(t, store, "mem://b/new", rows("carla"))
	rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", "999"), 1)})
	if err != nil || rep.Equal || !strings.Contains(rep.Difference, "name") {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestErasedRowInASharedPageIsSeen: the new file is the old one. Its pages are
// all the same, and it has rows that had to go.
func TestErasedRowInASharedPageIsSeen(t *testing.T) {
	store := storage.NewMem()
	raw := writeGroups(t, store, "mem://b/old", grouped(people(300), 100))
	put(t, store, "mem://b/new", raw)
	rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", "33"), 1)})
	if err != nil || rep.Equal || !rep.ControlAfter {
		t.Errorf("%+v %v", rep, err)
	}
	rep, err = Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", "100000"), 1)})
	if err != nil || !rep.Equal || rep.PagesSame == 0 {
		t.Errorf("an unchanged copy: %+v %v", rep, err)
	}
}

// TestDamagedCopyIsSeen: one byte of one page flipped in the new file.
func TestDamagedCopyIsSeen(t *testing.T) {
	store := storage.NewMem()
	raw := writeGroups(t, store, "mem://b/old", grouped(people(200), 100))
	rw := Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", "100000"), 1)}
	f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := f.MetaData().RowGroups[1].Columns[2].GetMetaData() // plain doubles, snappy
	at := m.GetDataPageOffset() + m.GetTotalCompressedSize() - 5
	damaged := bytes.Clone(raw)
	damaged[at] ^= 1
	put(t, store, "mem://b/new", damaged)
	rep, err := Survivors(context.Background(), store, rw)
	if err == nil && rep.Equal {
		t.Errorf("%+v", rep)
	}
}
