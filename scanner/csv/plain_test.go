package csv

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/expunge/expunge/scanner/scannertest"
)

func TestBitmapsMarkDelimitersAndLineEnds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		b := make([]byte, rng.IntN(100))
		for i := range b {
			b[i] = ",\n\t;\x8c\x0b\x00\xac"[rng.IntN(8)]
		}
		comma := ",\t;"[rng.IntN(3)]
		var want uint64
		for i, c := range b[:min(64, len(b))] {
			if c == comma || c == '\n' {
				want |= 1 << i
			}
		}
		if got := bitmaps(b, comma); got != want {
			t.Fatalf("%q by %q: %b, want %b", b, comma, got, want)
		}
	}
}

// TestBitmapsAndTheGrammarAgree: a record is the same, found by bitmaps or byte
// by byte, wherever the buffer is cut.
func TestBitmapsAndTheGrammarAgree(t *testing.T) {
	cells := []string{"7", "1", "8", "", `""`, `"7"`, `"a,b"`, "\"x\ny\"", "\"x\r\ny\"", `"d""q"`, `a"b`, `"a"b`, ` 7`, "x\r", strings.Repeat("long", 30), `"` + strings.Repeat("q,", 60) + `"`}
	ends := []string{"\n", "\n", "\n", "\r\n", "\n\n", "\r\n\r\n"}
	rng := rand.New(rand.NewPCG(3, 4))
	fast := 0
	for round := range 1500 {
		fields := 1 + rng.IntN(4)
		text := strings.Join([]string{"id", "b", "c", "d"}[:fields], ",") + "\n"
		for range 30 {
			n := fields
			if rng.IntN(15) == 0 {
				n = 1 + rng.IntN(5)
			}
			row := make([]string, n)
			for i := range row {
				row[i] = cells[rng.IntN(len(cells))]
			}
			text += strings.Join(row, ",") + ends[rng.IntN(len(ends))]
		}
		data := []byte(strings.TrimRight(text, "\n\r"[:rng.IntN(3)]))
		slow := scanned(t, data, true, len(data))
		quick := scanned(t, data, false, 1+rng.IntN(len(data)))
		a, b := slow.found, quick.found
		if a.Rows != b.Rows || a.Malformed != b.Malformed || !a.Hits.Equals(b.Hits) || len(a.Edits) != len(b.Edits) {
			t.Fatalf("round %d: %d records, %d malformed, hits %v; by bitmaps %d, %d, %v\n%q", round, a.Rows, a.Malformed, a.Hits, b.Rows, b.Malformed, b.Hits, data)
		}
		for i := range a.Edits {
			if a.Edits[i].Off != b.Edits[i].Off || a.Edits[i].Len != b.Edits[i].Len {
				t.Fatalf("round %d: %v, by bitmaps %v", round, a.Edits, b.Edits)
			}
		}
		fast += len(quick.plain.cells)
	}
	if fast == 0 {
		t.Fatal("no record was found by bitmaps")
	}
}

// scanned scans the data in two pieces, with or without bitmaps.
func scanned(t *testing.T, data []byte, slow bool, first int) *scan {
	t.Helper()
	req := scannertest.Users(t, "id", "7", "1")
	req.KeepMalformed = true
	s, err := newScan(',', req)
	if err != nil {
		t.Fatal(err)
	}
	s.careful = slow
	used, err := s.records(data[:first], first == len(data))
	if err == nil && first < len(data) {
		s.at = int64(used)
		_, err = s.records(data[used:], true)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
