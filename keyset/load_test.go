package keyset

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files is an Opener in memory.
type files map[string]string

func (f files) Open(_ context.Context, uri string) (io.ReadCloser, error) {
	b, ok := f[uri]
	if !ok {
		return nil, fmt.Errorf("open: %w", fs.ErrNotExist)
	}
	return io.NopCloser(strings.NewReader(b)), nil
}

func (f files) Glob(_ context.Context, pattern string) (out []string, err error) {
	for name := range f {
		ok := strings.HasSuffix(pattern, "/") && strings.HasPrefix(name, pattern)
		if !ok {
			if ok, err = path.Match(pattern, name); err != nil {
				return nil, err
			}
		}
		if ok {
			out = append(out, name)
		}
	}
	return out, nil
}

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func zst(s string) string {
	w, _ := zstd.NewWriter(nil)
	return string(w.EncodeAll([]byte(s), nil))
}

func schemaOf(t testing.TB, parts ...string) (s Schema) {
	t.Helper()
	for _, p := range parts {
		fields := strings.Fields(p) // "name type rule rule"
		s = append(s, Part{Name: fields[0], Type: mustType(t, fields[1]), Normalize: fields[2:]})
	}
	return s
}

// texts returns the keys as readable text, parts joined by "|".
func texts(s *Set) []string {
	var out []string
	for k := range s.All() {
		parts, err := s.Schema().SplitTuple(nil, k)
		if err != nil {
			panic(err)
		}
		var words []string
		for i, p := range parts {
			switch typ := s.Schema()[i].Type; typ.Kind {
			case KindInt64, KindDate:
				words = append(words, fmt.Sprint(typ.Int64(p)))
			case KindDecimal:
				words = append(words, typ.Unscaled(p).String())
			case KindUUID, KindBinary:
				words = append(words, fmt.Sprintf("%x", p))
			default:
				words = append(words, string(p))
			}
		}
		out = append(out, strings.Join(words, "|"))
	}
	return out
}

func parquetOf[T any](t testing.TB, rows []T, opts ...parquet.WriterOption) string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, opts...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLoadReadsEveryFormat(t *testing.T) {
	const id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	hexID := strings.ReplaceAll(id, "-", "")
	type row struct {
		ID    int64   `parquet:"id"`
		Small int32   `parquet:"small"`
		Name  *string `parquet:"name,optional"`
		U     string  `parquet:"u"`
		Money int64   `parquet:"money,decimal(2:18)"`
		Day   int32   `parquet:"day,date"`
		Sub   struct {
			Key string `parquet:"key"`
		} `parquet:"sub"`
	}
	name := "Ann"
	r := row{ID: 9007199254740993, Small: 7, Name: &name, U: id, Money: 1250, Day: 20000}
	r.Sub.Key = "inner"
	pq := parquetOf(t, []row{r})
	cases := []struct {
		name, file, body string
		spec             Spec
		want             []string
	}{
		{"csv above 2^53", "a.csv", "x,id\n1,9007199254740993\n2,9007199254740992\n", Spec{Schema: schemaOf(t, "id int64")}, []string{"9007199254740992", "9007199254740993"}},
		{"csv crlf bom quotes", "a.csv", "\ufeffid,n\r\n\"a\"\"b\",\"x\ny\"\r\n,\"\"\r\n", Spec{Schema: schemaOf(t, "id string"), AllowNull: true}, []string{`a"b`}},
		{"csv gzip", "a.csv.gz", gz("id\n1\n"), Spec{Schema: schemaOf(t, "id int64")}, []string{"1"}},
		{"csv zstd", "a.csv.zst", zst("id\n1\n"), Spec{Schema: schemaOf(t, "id int64")}, []string{"1"}},
		{"csv gzip members", "a.csv.gz", gz("id\n1\n") + gz("2\n"), Spec{Schema: schemaOf(t, "id int64")}, []string{"1", "2"}},
		{"gzip named csv", "a.csv", gz("id\n1\n"), Spec{Schema: schemaOf(t, "id int64")}, []string{"1"}},
		{"csv by position", "a.csv", "who\n5\n", Spec{Schema: schemaOf(t, "id int64"), Columns: []string{"#1"}}, []string{"5"}},
		{"csv other column", "a.csv", "user,id\n5,6\n", Spec{Schema: schemaOf(t, "id int64"), Columns: []string{"user"}}, []string{"5"}},
		{"csv unterminated", "a.csv", "id\n1\n2", Spec{Schema: schemaOf(t, "id int64")}, []string{"1", "2"}},
		{"csv blank lines", "a.csv", "id,b\n\n1,2\n\r\n", Spec{Schema: schemaOf(t, "id int64")}, []string{"1"}},
		{"csv zero is ordinary", "a.csv", "id\n0\n-0\n", Spec{Schema: schemaOf(t, "id int64")}, []string{"0"}},
		{"csv empty string declared", "a.csv", "id\n\"\"\n", Spec{Schema: schemaOf(t, "id string"), EmptyKeys: true}, []string{""}},
		{"tsv", "a.tsv", "a\tid\nx,y\t3\n", Spec{Schema: schemaOf(t, "id int64")}, []string{"3"}},
		{"composite", "a.csv", "t,d\nacme," + id + "\nacme," + strings.ToUpper(id) + "\n", Spec{Schema: schemaOf(t, "t string", "d uuid")}, []string{"acme|" + hexID}},
		{"uuid forms", "a.txt", id + "\n{" + id + "}\nurn:uuid:" + id + "\n" + hexID + "\n", Spec{Schema: schemaOf(t, "d uuid")}, []string{hexID}},
		{"lines", "a.txt", "b\r\na\nb", Spec{Schema: schemaOf(t, "e string")}, []string{"a", "b"}},
		{"lines declared format", "a.dat", "b\n", Spec{Schema: schemaOf(t, "e string"), Format: "lines"}, []string{"b"}},
		{"normalised", "a.txt", "  ANN@Example.com \n\u00c4@x\n", Spec{Schema: schemaOf(t, "e string trim lowercase nfc")}, []string{"ann@example.com", "\u00e4@x"}},
		{"not normalised", "a.txt", " A\na\n", Spec{Schema: schemaOf(t, "e string")}, []string{" A", "a"}},
		{"nfc", "a.txt", "A\u0308\n", Spec{Schema: schemaOf(t, "e string nfc")}, []string{"\u00c4"}},
		{"trimmed int", "a.csv", "id\n 5 \n", Spec{Schema: schemaOf(t, "id int64 trim")}, []string{"5"}},
		{"decimal", "a.csv", "m\n12.50\n1.25e1\n-0.010\n", Spec{Schema: schemaOf(t, "m decimal(18,2)")}, []string{"-1", "1250"}},
		{"date", "a.csv", "d\n2024-10-04\n1969-12-31\n", Spec{Schema: schemaOf(t, "d date")}, []string{"-1", "20000"}},
		{"binary hex", "a.txt", "00ff\n00FF\n", Spec{Schema: schemaOf(t, "b binary hex")}, []string{"00ff"}},
		{"binary base64", "a.txt", "AP8=\nAP8\n", Spec{Schema: schemaOf(t, "b binary base64")}, []string{"00ff"}},
		{"ndjson", "a.ndjson", `{"id": 9007199254740993, "x": [1, {"id": 2}]}` + "\n\n" + `{"x": null, "id": "9007199254740992"}`, Spec{Schema: schemaOf(t, "id int64")}, []string{"9007199254740992", "9007199254740993"}},
		{"ndjson nested escapes", "a.jsonl", `{"us\u0065r": {"e": "\u00e4\ud83d\ude00\n"}}`, Spec{Schema: schemaOf(t, "e string"), Columns: []string{"user.e"}}, []string{"ä😀\n"}},
		{"ndjson dotted name", "a.jsonl", `{"a.b": "x"}`, Spec{Schema: schemaOf(t, "e string"), Columns: []string{`a\.b`}}, []string{"x"}},
		{"ndjson null skipped", "a.jsonl", `{"id":null}` + "\n{}\n" + `{"id":1}`, Spec{Schema: schemaOf(t, "id int64"), AllowNull: true}, []string{"1"}},
		{"ndjson decimal", "a.jsonl", `{"m":1.50}`, Spec{Schema: schemaOf(t, "m decimal(18,2)")}, []string{"150"}},
		{"parquet int64", "a.parquet", pq, Spec{Schema: schemaOf(t, "id int64")}, []string{"9007199254740993"}},
		{"parquet int32", "a.parquet", pq, Spec{Schema: schemaOf(t, "small int64")}, []string{"7"}},
		{"parquet string", "a.parquet", pq, Spec{Schema: schemaOf(t, "name string lowercase")}, []string{"ann"}},
		{"parquet uuid text", "a.parquet", pq, Spec{Schema: schemaOf(t, "u uuid")}, []string{hexID}},
		{"parquet decimal rescaled", "a.parquet", pq, Spec{Schema: schemaOf(t, "money decimal(18,1)")}, []string{"125"}},
		{"parquet date", "a.parquet", pq, Spec{Schema: schemaOf(t, "day date")}, []string{"20000"}},
		{"parquet nested", "a.parquet", pq, Spec{Schema: schemaOf(t, "k string"), Columns: []string{"sub.key"}}, []string{"inner"}},
		{"parquet by position", "a.parquet", pq, Spec{Schema: schemaOf(t, "k int64"), Columns: []string{"#2"}}, []string{"7"}},
		{"parquet composite", "a.parquet", pq, Spec{Schema: schemaOf(t, "id int64", "name string", "day date")}, []string{"9007199254740993|Ann|20000"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, chunk := range []int{16, defaultChunk} {
				c.spec.Name, c.spec.Sources = "k", []string{"mem://x/" + c.file}
				s, rep, err := Load(t.Context(), files{"mem://x/" + c.file: c.body}, c.spec, withChunk(chunk))
				if err != nil {
					t.Fatal(err)
				}
				if got := texts(s); !slices.Equal(got, c.want) {
					t.Fatalf("keys %q, want %q", got, c.want)
				}
				if rep.Keys != int64(len(c.want)) || rep.Sources[0].Size != int64(len(c.body)) || len(rep.Sources[0].SHA256) != 64 {
					t.Fatalf("report %+v", rep)
				}
			}
		})
	}
}

// Each bad input is an error that names the place and never the value.
// keyedSource is how an error names the one source of a test.
var keyedSource = regexp.MustCompile(`source 1 \(mem://x/\[[0-9a-f]{12}\]([.a-z]*)\)`)

func TestLoadRefusesWithoutShowingValues(t *testing.T) {
	const secret = "SECRET"
	inexact := parquetOf(t, []struct {
		M int64 `parquet:"m,decimal(2:18)"`
	}{{M: 100}, {M: 155}})
	nulls := parquetOf(t, []struct {
		ID *int64 `parquet:"id,optional"`
	}{{ID: new(int64)}, {}})
	cases := []struct {
		name, file, body string
		spec             Spec
		is               error
		at               string // in the message
	}{
		{"not a number", "a.csv", "id\n1\n" + secret + "\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:3: column id"},
		{"float for an int", "a.csv", "id\n9007199254740993.0\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:2"},
		{"space around an int", "a.csv", "id\n 1\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:2"},
		{"int too large", "a.csv", "id\n9223372036854775808\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:2"},
		{"null key", "a.csv", "id,x\n1,2\n,3\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:3: column id: malformed: NULL"},
		{"blank line of one column", "a.csv", "id\n1\n\n2\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:3"},
		{"empty string", "a.csv", "id\n\"\"\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.csv:2: column id: malformed: empty"},
		{"empty after trim", "a.txt", "x\n  \n", Spec{Schema: schemaOf(t, "id string trim")}, ErrMalformed, "a.txt:2"},
		{"composite with null", "a.csv", "a,b\nx,\n", Spec{Schema: schemaOf(t, "a string", "b string")}, ErrMalformed, "column b"},
		{"composite with empty", "a.csv", "a,b\nx,\"\"\n", Spec{Schema: schemaOf(t, "a string", "b string")}, ErrMalformed, "column b: malformed: empty"},
		{"too few fields", "a.csv", "id,x\n1,2\n" + secret + "\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.csv:3"},
		{"too many fields", "a.csv", "id,x\n1,2," + secret + "\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.csv:2"},
		{"bare quote", "a.csv", "id\nx" + secret + "\"\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.csv:2"},
		{"open quote", "a.csv", "id\n1\n\"" + secret + "\nz\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.csv:3"},
		{"text after quote", "a.csv", "id\n\"1\"" + secret + "\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.csv:2"},
		{"line after quoted newlines", "a.csv", "id,x\n1,\"a\n\nb\"\n" + secret + ",\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.csv:5"},
		{"no header", "a.csv", "", Spec{Schema: schemaOf(t, "id int64"), AllowEmpty: true}, ErrMalformed, "no header"},
		{"key as header", "a.csv", "123\n456\n", Spec{Schema: schemaOf(t, "id int64"), Columns: []string{"#1"}}, ErrMalformed, "header"},
		{"unknown column", "a.csv", "uid\n1\n", Spec{Schema: schemaOf(t, "id int64")}, ErrColumn, "id"},
		{"column twice", "a.csv", "id,id\n1,2\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "column id"},
		{"header only", "a.csv", "id\n", Spec{Schema: schemaOf(t, "id int64")}, ErrEmpty, "empty"},
		{"latin-1", "a.txt", "caf\xe9\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "UTF-8"},
		{"utf-16", "a.csv", "\xff\xfei\x00d\x00\n\x001\x00", Spec{Schema: schemaOf(t, "id string")}, ErrColumn, "id"},
		{"inexact decimal", "a.csv", "m\n1.005\n", Spec{Schema: schemaOf(t, "m decimal(18,2)")}, ErrMalformed, "scale"},
		{"decimal too large", "a.csv", "m\n1000\n", Spec{Schema: schemaOf(t, "m decimal(4,2)")}, ErrMalformed, "precision"},
		{"no date", "a.csv", "d\n2026-02-29\n", Spec{Schema: schemaOf(t, "d date")}, ErrMalformed, "date"},
		{"no uuid", "a.txt", secret + "\n", Spec{Schema: schemaOf(t, "u uuid")}, ErrMalformed, "UUID"},
		{"binary undeclared", "a.txt", "00ff\n", Spec{Schema: schemaOf(t, "b binary")}, ErrMalformed, "declared"},
		{"hex damaged", "a.txt", "00f\n", Spec{Schema: schemaOf(t, "b binary hex")}, ErrMalformed, "encoding"},
		{"json broken", "a.ndjson", "{\"id\":\"1\"}\n{\"id\":\"" + secret + "\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "a.ndjson:2"},
		{"json array file", "a.json", "[{\"id\":1}]\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.json:1"},
		{"json trailing", "a.ndjson", "{\"id\":1} x\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.ndjson:1"},
		{"json twice", "a.ndjson", "{\"id\":1,\"\\u0069d\":2}\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "twice"},
		{"json null", "a.ndjson", "{\"id\":null}\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "NULL"},
		{"json number for string", "a.ndjson", "{\"id\":12}\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "number"},
		{"json object for key", "a.ndjson", "{\"id\":{}}\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "column id"},
		{"json float", "a.ndjson", "{\"id\":1e3}\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "integer"},
		{"json path blocked", "a.ndjson", "{\"u\":5}\n", Spec{Schema: schemaOf(t, "id int64"), Columns: []string{"u.id"}}, ErrMalformed, "column u.id"},
		{"json lone surrogate", "a.ndjson", "{\"id\":\"\\ud800\"}\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "Unicode"},
		{"json deep", "a.ndjson", "{\"x\":" + strings.Repeat("[", 100000) + "\n", Spec{Schema: schemaOf(t, "id string")}, ErrMalformed, "levels"},
		{"gzip cut off", "a.csv.gz", gz("id\n1\n2\n3\n")[:20], Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.gz"},
		{"gzip without its checksum", "a.csv.gz", strings.TrimSuffix(gz("id\n1\n2\n"), gz("id\n1\n2\n")[len(gz("id\n1\n2\n"))-8:]), Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "cut off"},
		{"zstd cut off", "a.csv.zst", zst("id\n1\n2\n3\n")[:12], Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.zst"},
		{"zstd empty", "a.txt.zst", "", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.zst"},
		{"not gzip", "a.csv.gz", "id\n1\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.gz"},
		{"unknown suffix", "a.dat", "1\n", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "format"},
		{"unknown format", "a.csv", "1\n", Spec{Schema: schemaOf(t, "id int64"), Format: "xml"}, ErrType, "xml"},
		{"lines composite", "a.txt", "1\n", Spec{Schema: schemaOf(t, "a int64", "b int64")}, ErrType, "lines"},
		{"parquet damaged", "a.parquet", "PAR1" + secret + "PAR1", Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.parquet"},
		{"parquet cut off", "a.parquet", nulls[:len(nulls)-9], Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.parquet"},
		{"parquet column", "a.parquet", nulls, Spec{Schema: schemaOf(t, "uid int64")}, ErrColumn, "uid"},
		{"parquet type", "a.parquet", nulls, Spec{Schema: schemaOf(t, "id string")}, ErrType, "int64"},
		{"parquet null", "a.parquet", nulls, Spec{Schema: schemaOf(t, "id int64")}, ErrMalformed, "a.parquet:2"},
		{"parquet inexact", "a.parquet", inexact, Spec{Schema: schemaOf(t, "m decimal(18,1)")}, ErrMalformed, "a.parquet:2"},
		{"hex for strings", "a.txt", "00\n", Spec{Schema: schemaOf(t, "s string hex")}, ErrType, "binary"},
		{"unknown rule", "a.txt", "00\n", Spec{Schema: schemaOf(t, "s string upcase")}, ErrType, "upcase"},
		{"request date", "a.csv", "id,at\n1," + secret + "\n", Spec{Schema: schemaOf(t, "id int64"), ReceivedAt: "at"}, ErrMalformed, "a.csv:2: column at"},
		{"request column", "a.csv", "id\n1\n", Spec{Schema: schemaOf(t, "id int64"), RequestID: "ticket"}, ErrColumn, "ticket"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, chunk := range []int{16, defaultChunk} {
				c.spec.Name, c.spec.Sources = "k", []string{"mem://x/" + c.file}
				_, _, err := Load(t.Context(), files{"mem://x/" + c.file: c.body}, c.spec, withChunk(chunk))
				text := keyedSource.ReplaceAllString(fmt.Sprint(err), "a$1")
				if !errors.Is(err, c.is) || !strings.Contains(text, c.at) || strings.Contains(text, "mem://x") {
					t.Fatalf("error %v, want %v and %q", err, c.is, c.at)
				}
				if strings.Contains(text, secret) || strings.Contains(text, "9007") || strings.Contains(text, "123") {
					t.Fatalf("value in error: %v", err)
				}
			}
		})
	}
}

func TestLoadFindsSources(t *testing.T) {
	fsys := files{
		"mem://d/a.csv": "id\n1\n", "mem://d/b.csv": "id\n2\n1\n", "mem://d/_SUCCESS": "", "mem://d/.b.csv.crc": "x",
		"mem://d/_temporary/0/c.csv": "id\n9\n", "mem://d/day=1/e.csv": "id\n4\n",
		"mem://o/x.csv": "id\n7\n", "mem://h/hold.txt": "1\n8\n", "mem://h/empty.txt": "",
	}
	spec := func(sources ...string) Spec {
		return Spec{Name: "k", Sources: sources, Schema: schemaOf(t, "id int64")}
	}
	load := func(s Spec) ([]string, *Report, error) {
		set, rep, err := Load(t.Context(), fsys, s)
		if err != nil {
			return nil, rep, err
		}
		return texts(set), rep, nil
	}
	got, rep, err := load(spec("mem://d/", "mem://d/a.csv"))
	if err != nil || !slices.Equal(got, []string{"1", "2", "4"}) || len(rep.Ignored) != 3 || len(rep.Sources) != 3 || rep.Duplicates != 1 {
		t.Fatal(got, rep, err)
	}
	got, rep, err = load(spec("mem://d/*.csv", "mem://o/x.csv"))
	if err != nil || !slices.Equal(got, []string{"1", "2", "7"}) || rep.Rows != 4 {
		t.Fatal(got, rep, err)
	}
	for name, s := range map[string]Spec{
		"file": spec("mem://d/a.csv", "mem://d/none.csv"), "glob": spec("mem://d/a.csv", "mem://n/*.csv"), "prefix": spec("mem://n/"), "none": spec(),
		"hold":        {Name: "k", Sources: []string{"mem://d/a.csv"}, Holds: []string{"mem://h/none.txt"}, Schema: schemaOf(t, "id int64")},
		"hold prefix": {Name: "k", Sources: []string{"mem://d/a.csv"}, Holds: []string{"mem://n/"}, AllowNoMatch: true, AllowEmpty: true, Schema: schemaOf(t, "id int64")},
	} {
		if _, _, err := load(s); !errors.Is(err, ErrMissing) {
			t.Fatalf("%s: %v, want ErrMissing", name, err)
		}
	}
	s := spec("mem://n/*.csv", "mem://d/a.csv")
	s.AllowNoMatch = true
	if got, rep, err = load(s); err != nil || len(got) != 1 || !slices.Equal(rep.NoMatch, []string{"mem://n/*.csv"}) {
		t.Fatal(got, rep, err)
	}
	s = spec("mem://d/a.csv", "mem://d/b.csv")
	s.Holds = []string{"mem://h/hold.txt", "mem://h/empty.txt"}
	if got, rep, err = load(s); err != nil || !slices.Equal(got, []string{"2"}) || rep.Held != 1 || rep.Keys != 1 || !rep.Sources[2].Hold {
		t.Fatal(got, rep, err)
	}
	holds, hrep, err := LoadHolds(t.Context(), fsys, s)
	if err != nil || !slices.Equal(texts(holds), []string{"1", "8"}) || hrep.HoldKeys != 2 || rep.HoldKeys != 2 || len(hrep.Sources) != 2 {
		t.Fatal(err, hrep)
	}
	s.Holds = append(s.Holds, "mem://h/none.txt")
	if _, _, err := LoadHolds(t.Context(), fsys, s); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	s = spec("mem://d/a.csv")
	if holds, _, err = LoadHolds(t.Context(), fsys, s); err != nil || holds.Len() != 0 {
		t.Fatal(err)
	}
	s.Holds = []string{"mem://h/hold.txt"}
	if _, rep, err = load(s); !errors.Is(err, ErrEmpty) || rep.Held != 1 {
		t.Fatal(rep, err)
	}
	s.AllowEmpty = true
	if got, rep, err = load(s); err != nil || len(got) != 0 || rep.Keys != 0 {
		t.Fatal(got, rep, err)
	}
}

func TestCompositeHoldsTakeOutWholeTuples(t *testing.T) {
	fsys := files{"s.csv": "t,d\na,1\na,2\nb,1\n", "h.ndjson": `{"d":1,"t":"a"}`}
	s, rep, err := Load(t.Context(), fsys, Spec{Name: "k", Sources: []string{"s.csv"}, Holds: []string{"h.ndjson"}, Schema: schemaOf(t, "t string", "d int64")})
	if err != nil || rep.Held != 1 || !slices.Equal(texts(s), []string{"a|2", "b|1"}) {
		t.Fatal(err, rep, texts(s))
	}
	if got := collect(s.Part(0)); !slices.Equal(got, []string{"a", "b"}) {
		t.Fatal(got)
	}
}

func TestRequestsAreKeptPerKey(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 5, d, 0, 0, 0, 0, time.UTC) }
	type row struct {
		ID     int64     `parquet:"id"`
		Ticket int64     `parquet:"ticket"`
		At     time.Time `parquet:"at,timestamp(millisecond)"`
	}
	for name, body := range map[string]string{
		"a.csv":     "id,ticket,at\n1,11,2026-05-03\n2,11,2026-05-02T00:00:00Z\n2,12,2026-05-04\n3,,\n",
		"a.ndjson":  `{"id":1,"ticket":11,"at":"2026-05-03"}` + "\n" + `{"id":2,"ticket":"11","at":"2026-05-02T02:00:00+02:00"}` + "\n" + `{"id":2,"ticket":"12","at":"2026-05-04 00:00:00"}` + "\n" + `{"id":3}` + "\n",
		"a.parquet": parquetOf(t, []row{{1, 11, day(3)}, {2, 11, day(2)}, {2, 12, day(4)}}),
		"b.csv.zst": zst("id,ticket,at\n2,12,2026-05-04\n1,11,2026-05-03\n2,11,2026-05-02\n3,,\n"),
		"held.csv":  "id,ticket,at\n1,11,2026-05-03\n2,11,2026-05-02\n2,12,2026-05-04\n9,12,2026-05-04\n",
	} {
		t.Run(name, func(t *testing.T) {
			spec := Spec{Name: "k", Sources: []string{name}, Schema: schemaOf(t, "id int64"), RequestID: "ticket", ReceivedAt: "at", Holds: []string{"h.txt"}}
			s, rep, err := Load(t.Context(), files{name: body, "h.txt": "9\n"}, spec)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Requests != 2 || !rep.EarliestReceived.Equal(day(2)) || rep.WithoutRequest != rep.Keys-2 {
				t.Fatalf("%+v", rep)
			}
			held := 0
			if name == "held.csv" {
				held = 1
			}
			want := []Request{{ID: "11", Received: day(2), Keys: 2}, {ID: "12", Received: day(4), Keys: 1, Held: held}}
			if got := s.Requests(); !slices.Equal(got, want) {
				t.Fatalf("%+v", got)
			}
			typ := s.Schema()[0].Type
			if got := s.RequestsOf(typ.AppendInt64(nil, 2)); !slices.Equal(got, []int{0, 1}) {
				t.Fatal(got)
			}
			if got := s.RequestsOf(typ.AppendInt64(nil, 3)); got != nil {
				t.Fatal(got)
			}
		})
	}
}

func TestRequestsByDateAlone(t *testing.T) {
	s, rep, err := Load(t.Context(), files{"a.csv": "id,at\n1,2026-05-03\n2,2026-05-02\n3,2026-05-02\n4,\n"},
		Spec{Name: "k", Sources: []string{"a.csv"}, Schema: schemaOf(t, "id int64"), ReceivedAt: "at"})
	if err != nil || rep.Requests != 2 || rep.WithoutRequest != 1 || s.Requests()[0].Keys != 2 || s.Requests()[0].ID != "" {
		t.Fatal(err, rep)
	}
}

// failing breaks off in the middle.
type failing struct{ files }

func (f failing) Open(ctx context.Context, uri string) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(f.files[uri]), errReader{})), nil
}

type errReader struct{}

var errDisk = errors.New("disk on fire")

func (errReader) Read([]byte) (int, error) { return 0, errDisk }

func TestReadErrorsAreNotMalformedSources(t *testing.T) {
	for name, body := range map[string]string{"a.csv": "id\n1\n", "a.csv.gz": gz("id\n1\n"), "a.txt": "1\n", "a.parquet": "PAR1", "a.ndjson.zst": zst(`{"id":1}`)} {
		_, _, err := Load(t.Context(), failing{files{name: body}}, Spec{Name: "k", Sources: []string{name}, Schema: schemaOf(t, "id int64")})
		if !errors.Is(err, errDisk) || errors.Is(err, ErrMalformed) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestLoadStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	body := "id\n" + strings.Repeat("1\n", 1<<20)
	_, _, err := Load(ctx, files{"a.csv": body}, Spec{Name: "k", Sources: []string{"a.csv"}, Schema: schemaOf(t, "id int64")})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
