package records_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/rewriter/text"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/scanner/csv"
	"github.com/expunge/expunge/scanner/ndjson"
	"github.com/expunge/expunge/verifier/records"
	"github.com/expunge/expunge/warehouse"
)

func set(t testing.TB, schema keyset.Schema, keys ...[]string) *keyset.Set {
	t.Helper()
	b, err := keyset.NewBuilder("k", schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := b.AddText(k...); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func part(name string, kind keyset.Kind) keyset.Part {
	return keyset.Part{Name: name, Type: keyset.Type{Kind: kind}}
}

var cached = map[string][]warehouse.BoundMatch{}

func matches(t testing.TB, format string) []warehouse.BoundMatch {
	if cached[format] == nil {
		cached[format] = newMatches(t, format)
	}
	return cached[format]
}

// newMatches look for numbers and strings, in and out of lists, and a pair.
func newMatches(t testing.TB, format string) []warehouse.BoundMatch {
	ids := set(t, keyset.Schema{part("id", keyset.KindInt64)}, []string{"7"}, []string{"0"}, []string{"9007199254740993"}, []string{"-5"})
	names := set(t, keyset.Schema{part("n", keyset.KindString)}, []string{"a"}, []string{"é\"\n"}, []string{"7"}, []string{" x"})
	pairs := set(t, keyset.Schema{part("a", keyset.KindInt64), part("b", keyset.KindString)}, []string{"1", "a"}, []string{"2", "b"})
	bound := func(s *keyset.Set, paths ...string) warehouse.BoundMatch {
		m := warehouse.BoundMatch{Keys: s}
		for _, p := range paths {
			ref, err := scanner.ParseRef(p)
			if err != nil {
				t.Fatal(err)
			}
			m.Columns = append(m.Columns, warehouse.ColumnRef{Path: ref.Path})
		}
		return m
	}
	if format != "ndjson" {
		return []warehouse.BoundMatch{bound(ids, "id"), bound(names, "n"), bound(pairs, "a", "b")}
	}
	return []warehouse.BoundMatch{bound(ids, "id"), bound(names, "u.n"), bound(pairs, "l[*].a", "l[*].b"), bound(ids, "l.element.id"), bound(pairs, "id", "l[*].b")}
}

func scanMatches(m []warehouse.BoundMatch) []scanner.Match {
	var out []scanner.Match
	for _, b := range m {
		x := scanner.Match{Keys: b.Keys}
		for _, c := range b.Columns {
			x.Columns = append(x.Columns, scanner.ColumnRef{Path: c.Path})
		}
		out = append(out, x)
	}
	return out
}

func object(t testing.TB, s storage.Store, path string, data []byte) storage.Object {
	t.Helper()
	if err := storage.WriteAll(t.Context(), s, path, data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	o, err := s.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func scan(t testing.TB, format string, src storage.Object, req scanner.Records) (*scanner.RecordsFound, error) {
	if format == "ndjson" {
		return ndjson.Scan(t.Context(), src, req)
	}
	return csv.Scan(t.Context(), src, ',', req)
}

// check scans and rewrites data and has the verifier compare. It returns how
// many records went; malformed says that the scanner refused the file.
func check(t testing.TB, format string, data []byte, action warehouse.Action, keep bool) (erased int64, malformed bool) {
	t.Helper()
	s := storage.NewMem()
	src := object(t, s, "mem://b/x", data)
	m := matches(t, format)
	req := scanner.Records{Match: scanMatches(m), KeepMalformed: keep}
	for _, c := range action.Null {
		ref, _ := scanner.ParseRef(c)
		req.Redact = append(req.Redact, scanner.Redact{Column: ref})
	}
	for c, v := range action.Redact {
		ref, _ := scanner.ParseRef(c)
		req.Redact = append(req.Redact, scanner.Redact{Column: ref, Constant: &v})
	}
	if action.Element != "" {
		ref, _ := scanner.ParseRef(action.Element)
		req.Remove = &ref
	}
	found, err := scan(t, format, src, req)
	if errors.Is(err, scanner.ErrMalformed) {
		return 0, true
	}
	if err != nil {
		return 0, true // a compressed stream that is damaged
	}
	dst, err := s.Create(t.Context(), "mem://b/y", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := text.Rewrite(t.Context(), src, dst, text.Layout{Kind: found.Kind, Frames: found.Frames, Edits: found.Edits}, rewriter.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	now, err := s.Open(t.Context(), "mem://b/y")
	if err != nil {
		t.Fatal(err)
	}
	rep, err := records.Compare(t.Context(), src, now, records.Rules{Format: format, Action: action, Matches: m, KeepMalformed: keep})
	if err != nil {
		t.Fatalf("compare: %v\n%q", err, data)
	}
	hits := int64(found.Hits.GetCardinality())
	out := found.Rows
	if action.Kind == "" {
		out -= hits
		if rep.Erased != hits {
			t.Fatalf("the scanner hit %d records, the verifier %d\n%q", hits, rep.Erased, data)
		}
	}
	if !rep.Equal || rep.RowsOld != found.Rows || rep.RowsNew != out || rep.ControlAfter || rep.ControlBefore != (hits > 0) {
		t.Fatalf("%+v; scanner: %d records, %d hits\n%q", rep, found.Rows, hits, data)
	}
	return hits, false
}

var actions = []warehouse.Action{{}, {Kind: "redact", Null: []string{"u.n"}, Redact: map[string]string{"id": "0", "l[*].b": "X"}}, {Kind: "remove_element", Element: "l"}}

// jsonish makes lines that are mostly JSON, with values around the keys.
func jsonish(rng *rand.Rand) string {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	number := func() string {
		return pick("7", "0", "-0", "7.0", "70e-1", "1", "2", "9007199254740993", "9007199254740992", "9007199254740993.0", "-5", "0.7e1", "8", "1e400", "null", "\"7\"", "true", "[7]")
	}
	name := func() string {
		return pick(`"a"`, `"b"`, `"\u0061"`, `"\u00e9\"\n"`, `"é\"\n"`, `""`, `"7"`, `7`, `null`, `"\ud83d\ude00"`, `" x"`, `"\/"`)
	}
	ws := func() string { return pick("", "", "", " ", "\t ", "\r") }
	item := func() string {
		return pick("{\"id\":"+number()+"}", "{\"a\":"+number()+",\"b\":"+name()+"}", "{\"b\":"+name()+ws()+",\"a\":"+number()+"}", "3", "{}", "[]")
	}
	list := func() string {
		var items []string
		for range rng.IntN(4) {
			items = append(items, ws()+item()+ws())
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	var members []string
	for range rng.IntN(4) {
		members = append(members, pick(
			`"id"`+ws()+":"+ws()+number(), `"i\u0064":`+number(), `"u":{"n":`+name()+`}`, `"u":`+ws()+name(), `"l":`+list(),
			`"x":"{\"id\":7}"`, `"y":[{"id":7}]`, `"other":`+number()))
	}
	line := ws() + "{" + ws() + strings.Join(members, ws()+","+ws()) + ws() + "}" + ws()
	if rng.IntN(20) == 0 && len(line) > 2 {
		line = line[:rng.IntN(len(line))]
	}
	return line
}

func csvish(rng *rand.Rand) string {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	cell := func() string {
		return pick("7", " 7", "07", "7.0", "0", "", `""`, "a", `"a"`, `"é""`+"\n"+`"`, "1", "2", "b", `"b"`, `"x,y"`, `"x`+"\r\n"+`y"`, "a\"b", "9007199254740993", "-5", " x")
	}
	cells := []string{cell(), cell(), cell(), cell(), cell()}
	if rng.IntN(30) == 0 {
		cells = cells[:rng.IntN(4)+1]
	}
	return strings.Join(cells, ",")
}

func compressed(rng *rand.Rand, data string) []byte {
	var out bytes.Buffer
	switch rng.IntN(4) {
	case 0:
		for len(data) > 0 {
			n := min(len(data), 1+rng.IntN(len(data)))
			w := gzip.NewWriter(&out)
			_, _ = io.WriteString(w, data[:n])
			_ = w.Close()
			data = data[n:]
		}
		return out.Bytes()
	case 1:
		w, _ := zstd.NewWriter(&out)
		_, _ = io.WriteString(w, data)
		_ = w.Close()
		return out.Bytes()
	}
	return []byte(data)
}

// TestScannerAndVerifierAgree on generated files of every shape: two readers
// that share no code find the same records, and the bytes of the others stay.
func TestScannerAndVerifierAgree(t *testing.T) {
	var erased, bad int64
	n := 500
	if testing.Short() {
		n = 100
	}
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 3))
		format := []string{"ndjson", "csv"}[rng.IntN(2)]
		var data strings.Builder
		if rng.IntN(8) == 0 {
			data.WriteString("\ufeff")
		}
		end := []string{"\n", "\r\n"}[rng.IntN(2)]
		if format == "csv" {
			data.WriteString("id,n,a,b,other" + end)
		}
		for range rng.IntN(40) {
			line := jsonish(rng)
			if format == "csv" {
				line = csvish(rng)
			}
			data.WriteString(line + end)
			if rng.IntN(15) == 0 {
				data.WriteString(end)
			}
		}
		action := actions[0]
		if format == "ndjson" {
			action = actions[rng.IntN(len(actions))]
		}
		content := data.String()
		if rng.IntN(3) == 0 {
			content = strings.TrimSuffix(content, end)
		}
		hits, malformed := check(t, format, compressed(rng, content), action, format == "ndjson" && rng.IntN(2) == 0)
		erased += hits
		if malformed {
			bad++
		}
	}
	t.Logf("%d records hit, %d of %d files malformed", erased, bad, n)
	if erased < int64(n)/2 || bad > int64(n)/2 {
		t.Error("the test shows too little")
	}
}

// TestLineEndsInQuotesAreTheFieldsOwn: CRLF in a field is not the LF of a key.
func TestLineEndsInQuotesAreTheFieldsOwn(t *testing.T) {
	for text, hits := range map[string]int64{
		"id,n,a,b,other\n8,\"é\"\"\r\n\",,,\n":       0,
		"id,n,a,b,other\r\n8,\"é\"\"\n\",,,\r\n":     1,
		"id,n,a,b,other\n8,x,,\"y\r\nz\",\n7,x,,,\n": 1,
	} {
		if got, malformed := check(t, "csv", []byte(text), actions[0], false); got != hits || malformed {
			t.Errorf("%q: %d hits, malformed %v", text, got, malformed)
		}
	}
}

func FuzzNDJSON(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 30 {
		f.Add([]byte(jsonish(rng)+"\n"+jsonish(rng)), uint8(i))
	}
	f.Add([]byte("{\"id\":7,\"id\":8}\n{\"u\":{\"n\":\"\\ud800\"}}\n"), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, mode uint8) {
		check(t, "ndjson", data, actions[int(mode>>1)%len(actions)], mode&1 == 1)
	})
}

func FuzzCSV(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		f.Add([]byte("id,n,a,b,other\n" + csvish(rng) + "\r\n" + csvish(rng)))
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, "csv", data, actions[0], false) })
}

// TestADifferenceIsSeen: the verifier is no rubber stamp.
func TestADifferenceIsSeen(t *testing.T) {
	old := "{\"id\":1}\n{\"id\":7}\n{\"id\":2}\n"
	for now, why := range map[string]string{
		"{\"id\":1}\n{\"id\":2}\n":             "",
		"{\"id\":1}\n{\"id\":7}\n{\"id\":2}\n": "differs",
		"{\"id\":1}\n":                         "differs",
		"{\"id\": 1}\n{\"id\":2}\n":            "differs",
		"{\"id\":1}\n{\"id\":2}\n\n":           "goes on",
		"{\"id\":2}\n{\"id\":1}\n":             "differs",
	} {
		s := storage.NewMem()
		rep, err := records.Compare(t.Context(), object(t, s, "mem://b/o", []byte(old)), object(t, s, "mem://b/n", []byte(now)),
			records.Rules{Format: "ndjson", Matches: matches(t, "ndjson")[:1]})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Equal != (why == "") || !strings.Contains(rep.Difference, why) || why == "" && (!rep.ControlBefore || rep.Erased != 1) {
			t.Errorf("%q: %+v, want %q", now, rep, why)
		}
	}
	s := storage.NewMem()
	rep, err := records.Compare(t.Context(), object(t, s, "mem://b/o", []byte(old)), nil, records.Rules{Format: "ndjson", Matches: matches(t, "ndjson")[:1]})
	if err != nil || rep.Equal {
		t.Errorf("an object removed with survivors: %+v, %v", rep, err)
	}
}
