package scanner_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

// The keys that a scan names are exactly those that a scan for one of them alone finds.
func TestKeysAreExactlyThoseFound(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	rows := makeRows(r, 1500)
	for version := 1; version <= 2; version++ {
		file := writeRows(t, rows, parquet.DataPageVersion(version), parquet.PageBufferSize(400))
		for _, c := range cases(t, r, 6) {
			keys := c.match.Keys
			for _, o := range []scanner.Options{{Keys: true}, {Keys: true, NoPruning: true, Workers: 1}} {
				res := scan(t, file, scanner.Request{Match: []scanner.Match{c.match}, Options: o})
				for i, key := range collect(keys) {
					alone := scan(t, file, scanner.Request{Match: []scanner.Match{{Keys: only(t, keys, key), Columns: c.match.Columns}}})
					want := !alone.Hits.IsEmpty()
					if got := res.Keys[0] != nil && res.Keys[0].Contains(uint64(i)); got != want {
						t.Fatalf("%s, v%d, %+v: key %d found %v, want %v", c.name, version, o, i, got, want)
					}
				}
			}
			if res := scan(t, file, scanner.Request{Match: []scanner.Match{c.match}}); res.Keys != nil {
				t.Fatal("keys that nobody asked for")
			}
		}
	}
}

func collect(s *keyset.Set) (out [][]byte) {
	for k := range s.All() {
		out = append(out, slices.Clone(k))
	}
	return out
}

func only(t *testing.T, s *keyset.Set, key []byte) *keyset.Set {
	t.Helper()
	b, err := keyset.NewBuilder("one", s.Schema())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(key); err != nil {
		t.Fatal(fmt.Errorf("add: %w", err))
	}
	one, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return one
}
