package ndjson

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/expunge/expunge/scanner/scannertest"
)

func TestLeadingDigitsAreRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 17; n++ {
		for range 2000 {
			text := make([]byte, 0, 40)
			for range n {
				text = append(text, byte('0'+rng.IntN(10)))
			}
			end := []string{",", "}", " ", ".5", "e3", "E3", "x", ":", "/", "\xff"}[rng.IntN(10)]
			v, got := shortInteger(append(append(text, end...), "                "...), 0)
			want, err := strconv.ParseInt(string(text), 10, 64)
			if short := n <= 15 && (n == 1 || text[0] != '0') && end[0] != '.' && end[0]|0x20 != 'e'; err != nil || got != 0 != short || got != 0 && (got != n || v != want) {
				t.Fatalf("%s%s: %d of %d digits, %d", text, end, got, n, v)
			}
		}
	}
}

func TestTextIsPassed(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		b := bytes.Repeat([]byte("a\x20\x7f\xff\x80"), 30)[:rng.IntN(150)]
		for range rng.IntN(3) {
			if len(b) > 0 {
				b[rng.IntN(len(b))] = "\"\\\x00\x1f\n!\x5d"[rng.IntN(7)]
			}
		}
		from := rng.IntN(len(b) + 1)
		want := from
		for want < len(b) && b[want] != '"' && b[want] != '\\' && b[want] >= 0x20 {
			want++
		}
		if got := passText(b, from); got != want {
			t.Fatalf("%q from %d: %d, want %d", b, from, got, want)
		}
	}
}

// TestPathsAndTheGrammarAgree: what a line is does not depend on the lines
// before it.
func TestPathsAndTheGrammarAgree(t *testing.T) {
	values := []string{`1`, `0`, `-1`, `01`, `1.5`, `1.`, `123456789012`, `1e5`, `"a"`, `"a\"b"`, `"\u00e4"`, `"\q"`, "\"a\tb\"", `null`, `nul`, `true`, `{}`, `{"x":1}`, `{"x":}`,
		`[1,2]`, `[1,2`, "[1,\n2]", ` 1`, `"` + strings.Repeat("long ", 20) + `"`, ``, `1 `, `{"id":7}`, `{"id":7,"id":8}`, `"` + strings.Repeat("x", 40)}
	rng := rand.New(rand.NewPCG(5, 6))
	followed := 0
	for round := range 300 {
		var text strings.Builder
		for range 60 {
			names := []string{"user", "a", "b", "user"}[:2+rng.IntN(3)]
			if rng.IntN(3) == 0 {
				rng.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
			}
			text.WriteString([]string{"{", "{", "{", " {", "{ "}[rng.IntN(5)])
			for i, n := range names {
				if i > 0 {
					text.WriteString([]string{",", ",", ", "}[rng.IntN(3)])
				}
				v := fmt.Sprint(rng.IntN(1e5))
				if rng.IntN(4) == 0 {
					v = values[rng.IntN(len(values))]
				}
				if n == "user" && rng.IntN(4) > 0 {
					v = `{"id":` + v + `}`
				}
				fmt.Fprintf(&text, `"%s":%s`, n, v)
			}
			text.WriteString([]string{"}\n", "}\n", "}\r\n", "} \n", "}}\n", "\n", "}\n\n"}[rng.IntN(7)])
		}
		data := []byte(text.String())
		req := scannertest.Users(t, "user.id", "7", "1")
		req.KeepMalformed = true
		all, err := newScan(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := all.lines(data); err != nil {
			t.Fatal(err)
		}
		var rows, malformed, hits int64
		for line := range strings.Lines(string(data)) {
			one, err := newScan(req)
			if err != nil {
				t.Fatal(err)
			}
			if err := one.lines([]byte(line)); err != nil {
				t.Fatal(err)
			}
			if one.found.Hits.Contains(0) != all.found.Hits.Contains(uint64(rows)) && one.found.Rows > 0 {
				t.Fatalf("round %d: line %q is a hit: %v, between others: %v", round, line, !one.found.Hits.IsEmpty(), all.found.Hits.Contains(uint64(rows)))
			}
			rows, malformed, hits = rows+one.found.Rows, malformed+one.found.Malformed, hits+int64(one.found.Hits.GetCardinality())
		}
		if got := all.found; got.Rows != rows || got.Malformed != malformed || int64(got.Hits.GetCardinality()) != hits {
			t.Fatalf("round %d: %d records, %d malformed, %d hits; line by line %d, %d, %d\n%s", round,
				got.Rows, got.Malformed, got.Hits.GetCardinality(), rows, malformed, hits, data)
		}
		followed += all.walk.shapes.hits
	}
	if followed < 300 {
		t.Fatalf("%d lines followed others", followed)
	}
}
