package keyset

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// Canonical forms order as the values do.
func TestCanonicalOrderIsValueOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i, j := rapid.Int64().Draw(t, "i"), rapid.Int64().Draw(t, "j")
		typ := Type{Kind: KindInt64}
		a, b := typ.AppendInt64(nil, i), typ.AppendInt64(nil, j)
		if bytes.Compare(a, b) != big.NewInt(i).Cmp(big.NewInt(j)) || typ.Int64(a) != i {
			t.Fatal("int64")
		}
		dec := Type{Kind: KindDecimal, Precision: MaxPrecision, Scale: 3}
		big1 := new(big.Int).Mul(big.NewInt(i), big.NewInt(rapid.Int64().Draw(t, "m")))
		big2 := new(big.Int).Mul(big.NewInt(j), big.NewInt(rapid.Int64().Draw(t, "n")))
		a, ok1 := dec.AppendUnscaled(nil, big1)
		b, ok2 := dec.AppendUnscaled(nil, big2)
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(MaxPrecision), nil)
		if ok1 != (big1.CmpAbs(limit) < 0) || ok2 != (big2.CmpAbs(limit) < 0) {
			t.Fatal("precision")
		}
		if ok1 && ok2 && (bytes.Compare(a, b) != big1.Cmp(big2) || dec.Unscaled(a).Cmp(big1) != 0) {
			t.Fatal("decimal")
		}
	})
}

func TestTextOfNumbersIsReadExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`[+-]?[0-9]{0,22}(\.[0-9]{0,6})?([eE][+-]?[0-9]{1,2})?`),
			rapid.StringMatching(`[-+0-9.eE _]{0,8}`),
			rapid.SampledFrom([]string{"9223372036854775807", "-9223372036854775808", "9223372036854775808", "00", "-0", "+7", "1_0", "0x10", "1e400000000000"}),
		).Draw(t, "text")
		want, err := strconv.ParseInt(text, 10, 64)
		got, ok := parseInt64([]byte(text))
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("int64 %q: %d %v, want %d %v", text, got, ok, want, err)
		}
		typ := Type{Kind: KindDecimal, Precision: 20, Scale: 4}
		out, err := typ.AppendText(nil, []byte(text))
		r, isNumber := new(big.Rat).SetString(text)
		isNumber = isNumber && !strings.ContainsAny(text, "_x/pP") && len(text) < 40
		if !isNumber {
			if err == nil {
				t.Fatalf("decimal %q was read", text)
			}
			return
		}
		r.Mul(r, big.NewRat(10000, 1))
		fits := r.IsInt() && r.Num().CmpAbs(new(big.Int).Exp(big.NewInt(10), big.NewInt(20), nil)) < 0
		if (err == nil) != fits || err == nil && typ.Unscaled(out).Cmp(r.Num()) != 0 {
			t.Fatalf("decimal %q: %v, fits %v", text, err, fits)
		}
	})
}

func TestDatesAreDaysSince1970(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.Int64Range(-719528, 2932896).Draw(t, "days") // 0000-01-01 to 9999-12-31
		text := time.Unix(days*86400, 0).UTC().Format("2006-01-02")
		got, ok := parseDate([]byte(text))
		if !ok || int64(got) != days {
			t.Fatalf("%s: %d, want %d", text, got, days)
		}
	})
}

func TestLongPartsOfTuplesKeepTheirForm(t *testing.T) {
	schema := schemaOf(t, "a string", "b string")
	for _, n := range []int{0, 1, 127, 128, 129, 16383, 16384, 70000} {
		long := strings.Repeat("x", n)
		b, _ := NewBuilder("k", schema)
		if err := b.AddText(long, "y"); err != nil {
			t.Fatal(err)
		}
		s, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if !s.Contains(schema.AppendTuple(nil, []byte(long), []byte("y"))) {
			t.Fatalf("length %d: forms differ", n)
		}
		m, _ := NewMatcher(s, []Column{{Physical: PhysBytes}, {Physical: PhysBytes}})
		key, _ := m.AppendPart(nil, 0, 0, []byte(long))
		if key, _ = m.AppendPart(key, 1, 0, []byte("y")); !m.Contains(key) {
			t.Fatalf("length %d: no match", n)
		}
	}
}

func FuzzUUID(f *testing.F) {
	for _, s := range []string{"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "{6BA7B810-9dad-11d1-80b4-00c04fd430c8}", "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b8109dad11d180b400c04fd430c8", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, ok := appendUUIDText(nil, []byte(s))
		u, err := uuid.Parse(s)
		if ok != (err == nil) {
			// The library takes any byte for the braces and any case of the prefix.
			if !ok && err == nil && (len(s) == 38 || len(s) == 45) {
				return
			}
			t.Fatal(ok, err)
		}
		if ok && [16]byte(out) != u {
			t.Fatal("value differs")
		}
	})
}

func TestNormalisedIsNormal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Part{Name: "k", Type: Type{Kind: KindString}, Normalize: rapid.SliceOfN(rapid.SampledFrom([]string{"trim", "lowercase", "uppercase", "nfc", "nfkc"}), 1, 3).Draw(t, "rules")}
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ \ta-zA-ZäÄé]{0,12}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		got, err := p.AppendText([]byte("x"), []byte(text))
		if err != nil || got[0] != 'x' {
			t.Fatal(err)
		}
		// Byte by byte through the general steps: the ASCII shortcut must agree.
		r, _ := compileRules(p)
		want := []byte(text)
		for _, step := range r.steps {
			want = step(nil, want)
		}
		if !bytes.Equal(got[1:], want) {
			t.Fatalf("%v of %q: %q, want %q", p.Normalize, text, got[1:], want)
		}
		if utf8.ValidString(text) && slices.Equal(p.Normalize, []string{"lowercase"}) && string(want) != strings.Map(lowerRune, text) {
			t.Fatal("lowercase")
		}
		if len(p.Normalize) == 1 && p.Normalize[0] == "lowercase" && !utf8.ValidString(text) && utf8.Valid(got) {
			t.Fatal("bytes that are no text were replaced")
		}
	})
}

func lowerRune(r rune) rune { return []rune(strings.ToLower(string(r)))[0] }

// csvKeys loads body as CSV with column a; nil error means that it was read.
func csvKeys(t *testing.T, body string, chunk int) ([]string, error) {
	s, _, err := Load(t.Context(), files{"a.csv": body}, Spec{Name: "k", Sources: []string{"a.csv"}, AllowEmpty: true, AllowNull: true, EmptyKeys: true,
		Schema: Schema{{Name: "a", Type: Type{Kind: KindBinary}, Normalize: []string{"hex"}}}}, withChunk(chunk), WithWorkers(1))
	if err != nil {
		return nil, err
	}
	return collect(s.All()), nil
}

// FuzzCSV: what is read is what encoding/csv reads, whatever the chunks.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a\n00\n", "a,b\n00,\"x\n\"\"y\"\n\r\n", "b,a\r\n\"q\",\"\"\r\n,ff\n", "\ufeffa\n\"01\"", "a\n0\"0\n", "a,b\n1\n", "\"a\"\n00\r", "a\n\"00\"x\n", "a\n\n01\n"} {
		f.Add(s, 5)
	}
	f.Fuzz(func(t *testing.T, body string, chunk int) {
		chunk = 1 + (chunk&0xff+256)%256
		got, err := csvKeys(t, body, chunk)
		whole, err2 := csvKeys(t, body, 1<<16)
		if (err == nil) != (err2 == nil) || !slices.Equal(got, whole) {
			t.Fatalf("chunk %d differs: %v, %v", chunk, err, err2)
		}
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrColumn) {
			t.Fatal(err)
		}
		// A carriage return alone is read differently by the library, and it does not
		// tell NULL from the empty string.
		if err != nil || strings.ContainsAny(body, "\r") || strings.Contains(body, `""`) {
			return
		}
		want, refused := standardCSV(body)
		if refused != nil || !slices.Equal(got, want) {
			t.Fatalf("%d keys, encoding/csv gives %d, %v", len(got), len(want), refused)
		}
	})
}

// standardCSV reads column a of hex keys.
func standardCSV(body string) (keys []string, err error) {
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "\ufeff"))).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, row := range rows[1:] {
		b, err := hex.DecodeString(row[slices.Index(rows[0], "a")])
		if err != nil {
			return nil, err
		}
		if len(b) > 0 { // else NULL
			keys = append(keys, string(b))
		}
	}
	return sortedUnique(keys), nil
}

// FuzzNDJSON: a line is refused or read as encoding/json reads it.
func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{`{"a":"x"}`, `{"b":{"a":1},"a":"\u00e4\ud83d\ude00"}`, `{"a":null}`, `{"a":"x","a":"y"}`, `{"x":[1,-2.5e+3,true,{"a":[]}],"a":""}`, `{"\u0061":"z"} `, `{"a":"\ud800"}`, "{\"a\":\"\x7f\"}", `{"a":"x",}`, `[]`, ``} {
		f.Add(s)
	}
	root := &jsonNode{}
	if err := root.add([]string{"a"}, 0); err != nil {
		f.Fatal(err)
	}
	n := root.number()
	f.Fuzz(func(t *testing.T, line string) {
		j := jsonScanner{vals: make([]value, 1), cells: make([][]byte, 1), seen: make([]bool, n)}
		bad := j.record(root, []byte(line))
		var m map[string]json.RawMessage
		err := json.Unmarshal([]byte(line), &m)
		if bad == nil && (err != nil || m == nil) {
			t.Fatalf("read what encoding/json refuses: %v", err)
		}
		if bad != nil {
			if errors.Is(bad.reason, errJSON) && err == nil && m != nil {
				t.Fatal("refused what encoding/json reads")
			}
			return
		}
		v := j.vals[0]
		if raw, ok := m["a"]; !ok || string(raw) == "null" {
			if !v.null {
				t.Fatal("want NULL")
			}
		} else if v.number {
			if string(raw) != string(v.b) {
				t.Fatal("number differs")
			}
		} else {
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				t.Fatal(err)
			}
			if utf8.Valid(v.b) && s != string(v.b) {
				t.Fatalf("%q, want %q", v.b, s)
			}
		}
	})
}

// FuzzLines and the other sources must never panic, whatever they hold.
func FuzzSources(f *testing.F) {
	f.Add("a.txt", "1\n2\n")
	f.Add("a.csv.gz", gz("a\n1\n"))
	f.Add("a.csv.zst", zst("a\n1\n"))
	f.Add("a.parquet", "PAR1\x15\x04")
	f.Add("a.tsv", "a\tb\n1\t2\n")
	f.Fuzz(func(t *testing.T, name, body string) {
		name = strings.ReplaceAll(strings.NewReplacer("*", "", "?", "", "[", "", "/", "").Replace(name), "\\", "")
		for _, typ := range []string{"int64", "string", "uuid", "decimal(9,2)", "date"} {
			part, _ := ParseType(typ)
			s, _, err := Load(t.Context(), files{name: body}, Spec{Name: "k", Sources: []string{name}, Schema: Schema{{Name: "a", Type: part}}}, withChunk(7))
			if err == nil && s.Len() == 0 {
				t.Fatal("an empty set without an error")
			}
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrColumn) && !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrType) {
				t.Fatal(err)
			}
		}
	})
}

func TestSpoolReadsBackAtAnyOffset(t *testing.T) {
	body := make([]byte, spoolMemory+3<<20+7)
	for i := range body {
		body[i] = byte(i * i >> 7)
	}
	s, err := newSpool(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if s.file == nil || s.size != int64(len(body)) {
		t.Fatal("not spooled to a file")
	}
	for _, at := range []int64{0, 1, 15, 16, 17, spoolMemory - 1, spoolMemory + 5, int64(len(body)) - 3} {
		buf := make([]byte, 100)
		n, err := s.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(buf[:n], body[at:min(int(at)+100, len(body))]) {
			t.Fatalf("offset %d: %d bytes, %v", at, n, err)
		}
	}
	raw := make([]byte, 4096)
	if _, err := s.file.ReadAt(raw, 4096); err != nil || bytes.Equal(raw, body[4096:8192]) {
		t.Fatal("spooled in clear", err)
	}
}
