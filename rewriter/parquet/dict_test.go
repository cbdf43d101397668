package parquet

import (
	"bytes"
	"context"
	"testing"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// Arrow's readers take the entries of a text dictionary for distinct, so that
// wiping entries must not make two of them equal, however often a file is edited.
func TestWipedEntriesStayDistinct(t *testing.T) {
	data := secretFile(t)
	for _, erase := range [][]uint64{{0, 1, 2, 50, 97, 150, 298, 299, 300, 301}, {0, 3, 4, 5, 7, 200}, {1, 2, 11}} {
		data, _ = mustRewrite(t, data, rewriter.Edit{Erase: bitmap(erase...)}, rewriter.Options{Engine: rewriter.Surgical})
		blanks := 0
		for _, entries := range textDictionaries(t, data) {
			seen := map[string]bool{}
			for _, e := range entries {
				if seen[e] {
					t.Fatalf("an entry is there twice of %d", len(entries))
				}
				seen[e] = true
				if isBlank([]byte(e)) {
					blanks++
				}
			}
		}
		if blanks == 0 {
			t.Fatal("no entry was wiped: it proves nothing")
		}
	}
}

// Blanks are numbered without a gap or a repetition, and avoid what is there.
func TestBlanks(t *testing.T) {
	seen := map[string]bool{}
	for i := 1; i <= 31+31*31+5; i++ {
		b := blank(i)
		if !isBlank(b) || seen[string(b)] || len(b) > 3 {
			t.Fatalf("blank %d: %x", i, b)
		}
		seen[string(b)] = true
	}
	for _, v := range []string{"", "a", "\x01 ", "\x00", "\x01\x00", "\x7f"} {
		if isBlank([]byte(v)) {
			t.Errorf("%q is no blank", v)
		}
	}
}

// textDictionaries are the dictionaries of all byte array chunks.
func textDictionaries(t *testing.T, data []byte) (all [][]string) {
	t.Helper()
	ctx := context.Background()
	f, err := pq.Open(ctx, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.RowGroups {
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				t.Fatal(err)
			}
			if col.Type != format.ByteArray || !c.HasDictionary() {
				continue
			}
			p, err := c.Dictionary(ctx)
			if err != nil {
				t.Fatal(err)
			}
			dec := c.NewDecoder()
			if err := dec.SetDictionary(p); err != nil {
				t.Fatal(err)
			}
			v := viewOf(dec.Dict, nil)
			var entries []string
			for i := range v.n {
				entries = append(entries, string(v.at(i)))
			}
			all = append(all, entries)
		}
	}
	return all
}
