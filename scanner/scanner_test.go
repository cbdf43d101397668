package scanner_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"go.uber.org/goleak"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type member struct {
	ID    int64    `parquet:"id"`
	Name  string   `parquet:"name,optional"`
	Tags  []string `parquet:"tags,list"`
	Depth int32    `parquet:"depth,delta"`
}

type contact struct {
	Email *string `parquet:"email,optional,dict"`
	Alt   string  `parquet:"alt,delta"`
}

type row struct {
	Plain   int64            `parquet:"plain"`
	Sorted  int64            `parquet:"sorted"`
	Dict    int64            `parquet:"dict,dict"`
	Delta   int32            `parquet:"delta,delta"`
	OptInt  *int64           `parquet:"opt_int,optional"`
	Tenant  string           `parquet:"tenant,dict"`
	Device  [16]byte         `parquet:"device,uuid"`
	Contact contact          `parquet:"contact,optional"`
	IDs     []int64          `parquet:"ids,list"`
	Raw     []string         `parquet:"raw"`
	Members []member         `parquet:"members,list"`
	Attrs   map[string]int64 `parquet:"attrs"`
}

func makeRows(r *rand.Rand, n int) []row {
	rows := make([]row, n)
	id := func() int64 { return r.Int64N(500) }
	for i := range rows {
		x := &rows[i]
		x.Plain, x.Sorted, x.Dict, x.Delta = id(), int64(i/3), id(), int32(id())
		if r.IntN(3) > 0 {
			v := id()
			x.OptInt = &v
		}
		x.Tenant = "t" + strconv.Itoa(r.IntN(5))
		x.Device[15], x.Device[0] = byte(r.IntN(100)), 7
		x.Contact.Alt = mail(id())
		if r.IntN(4) > 0 {
			s := mail(id())
			x.Contact.Email = &s
		}
		for range r.IntN(4) {
			x.IDs = append(x.IDs, id())
			x.Raw = append(x.Raw, mail(id()))
		}
		for range r.IntN(3) {
			m := member{ID: id(), Name: mail(id()), Depth: int32(id())}
			for range r.IntN(3) {
				m.Tags = append(m.Tags, mail(id()))
			}
			x.Members = append(x.Members, m)
		}
		x.Attrs = map[string]int64{}
		for range r.IntN(3) {
			x.Attrs[mail(id())] = id()
		}
	}
	return rows
}

func mail(id int64) string { return fmt.Sprintf("user%d@example.com", id) }

func writeRows(t testing.TB, rows []row, o ...parquet.WriterOption) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[row](&buf, o...)
	for len(rows) > 0 {
		n := min(len(rows), 700) // a row group
		if _, err := w.Write(rows[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		rows = rows[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// set builds a keyset; each key is the text of its parts.
func set(t testing.TB, types string, keys ...[]string) *keyset.Set {
	t.Helper()
	var schema keyset.Schema
	for i, name := range splitTypes(types) {
		typ, err := keyset.ParseType(name)
		if err != nil {
			t.Fatal(err)
		}
		schema = append(schema, keyset.Part{Name: fmt.Sprintf("p%d", i), Type: typ})
	}
	b, err := keyset.NewBuilder("test", schema)
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

func splitTypes(s string) []string { return slices.Collect(splitSeq(s)) }

func splitSeq(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for f := range bytes.SplitSeq([]byte(s), []byte("+")) {
			if !yield(string(f)) {
				return
			}
		}
	}
}

func ints(n int, r *rand.Rand) (keys [][]string, in func(int64) bool) {
	m := map[int64]bool{}
	for range n {
		m[r.Int64N(500)] = true
	}
	for k := range m {
		keys = append(keys, []string{strconv.FormatInt(k, 10)})
	}
	return keys, func(v int64) bool { return m[v] }
}

func ref(path ...string) scanner.ColumnRef { return scanner.ColumnRef{Path: path} }

type scanCase struct {
	name  string
	match scanner.Match
	hit   func(row) bool
}

// cases cover every kind of column; keys are few or many.
func cases(t testing.TB, r *rand.Rand, n int) []scanCase {
	ik, in := ints(n, r)
	iset := set(t, "int64", ik...)
	var mk [][]string
	for _, k := range ik {
		mk = append(mk, []string{"user" + k[0] + "@example.com"})
	}
	mset := set(t, "string", mk...)
	mails := map[string]bool{}
	for _, k := range mk {
		mails[k[0]] = true
	}
	one := func(s *keyset.Set, c scanner.ColumnRef) scanner.Match {
		return scanner.Match{Keys: s, Columns: []scanner.ColumnRef{c}}
	}
	out := []scanCase{
		{"plain int64", one(iset, ref("plain")), func(x row) bool { return in(x.Plain) }},
		{"sorted int64", one(iset, ref("sorted")), func(x row) bool { return in(x.Sorted) }},
		{"dictionary int64", one(iset, ref("dict")), func(x row) bool { return in(x.Dict) }},
		{"delta int32", one(iset, ref("delta")), func(x row) bool { return in(int64(x.Delta)) }},
		{"optional int64", one(iset, ref("opt_int")), func(x row) bool { return x.OptInt != nil && in(*x.OptInt) }},
		{"nested optional dictionary string", one(mset, ref("contact", "email")), func(x row) bool { return x.Contact.Email != nil && mails[*x.Contact.Email] }},
		{"nested delta string", one(mset, ref("contact", "alt")), func(x row) bool { return x.Contact != (contact{}) && mails[x.Contact.Alt] }},
		{"list of int64", one(iset, ref("ids", "list", "element")), func(x row) bool { return slices.ContainsFunc(x.IDs, in) }},
		{"list of int64, logical path", one(iset, ref("ids", "element")), func(x row) bool { return slices.ContainsFunc(x.IDs, in) }},
		{"repeated string", one(mset, ref("raw", "[*]")), func(x row) bool { return slices.ContainsFunc(x.Raw, func(s string) bool { return mails[s] }) }},
		{"struct in list", one(iset, ref("members", "[*]", "id")), func(x row) bool {
			return slices.ContainsFunc(x.Members, func(m member) bool { return in(m.ID) })
		}},
		{"list in list", one(mset, ref("members", "element", "tags", "element")), func(x row) bool {
			return slices.ContainsFunc(x.Members, func(m member) bool {
				return slices.ContainsFunc(m.Tags, func(s string) bool { return mails[s] })
			})
		}},
		{"map key", one(mset, ref("attrs", "key")), func(x row) bool {
			for k := range x.Attrs {
				if mails[k] {
					return true
				}
			}
			return false
		}},
		{"map value", one(iset, ref("attrs", "value")), func(x row) bool {
			for _, v := range x.Attrs {
				if in(v) {
					return true
				}
			}
			return false
		}},
	}
	return append(out, compositeCases(t, r, n)...)
}

func compositeCases(t testing.TB, r *rand.Rand, n int) []scanCase {
	type pair struct{ a, b string }
	flat, deep, wide := map[pair]bool{}, map[pair]bool{}, map[pair]bool{}
	var fk, dk, wk [][]string
	for range n * 3 {
		f := pair{"t" + strconv.Itoa(r.IntN(5)), fmt.Sprintf("07000000-0000-0000-0000-0000000000%02x", r.IntN(100))}
		flat[f] = true
		fk = append(fk, []string{f.a, f.b})
		d := pair{strconv.Itoa(r.IntN(500)), mail(r.Int64N(500))}
		deep[d] = true
		dk = append(dk, []string{d.a, d.b})
		w := pair{"t" + strconv.Itoa(r.IntN(5)), strconv.Itoa(r.IntN(500))}
		wide[w] = true
		wk = append(wk, []string{w.a, w.b})
	}
	uuid := func(d [16]byte) string {
		return fmt.Sprintf("%x-%x-%x-%x-%x", d[:4], d[4:6], d[6:8], d[8:10], d[10:])
	}
	return []scanCase{
		{"composite flat", scanner.Match{Keys: set(t, "string+uuid", fk...), Columns: []scanner.ColumnRef{ref("tenant"), ref("device")}},
			func(x row) bool { return flat[pair{x.Tenant, uuid(x.Device)}] }},
		{"composite in one list", scanner.Match{Keys: set(t, "int64+string", dk...), Columns: []scanner.ColumnRef{ref("members", "[*]", "id"), ref("members", "[*]", "name")}},
			func(x row) bool {
				return slices.ContainsFunc(x.Members, func(m member) bool { return deep[pair{strconv.FormatInt(m.ID, 10), m.Name}] })
			}},
		{"composite of a flat part and a list", scanner.Match{Keys: set(t, "string+int64", wk...), Columns: []scanner.ColumnRef{ref("tenant"), ref("ids", "element")}},
			func(x row) bool {
				return slices.ContainsFunc(x.IDs, func(v int64) bool { return wide[pair{x.Tenant, strconv.FormatInt(v, 10)}] })
			}},
		{"composite of two depths of lists", scanner.Match{Keys: set(t, "int64+string", dk...), Columns: []scanner.ColumnRef{ref("members", "[*]", "id"), ref("members", "[*]", "tags", "[*]")}},
			func(x row) bool {
				return slices.ContainsFunc(x.Members, func(m member) bool {
					return slices.ContainsFunc(m.Tags, func(s string) bool { return deep[pair{strconv.FormatInt(m.ID, 10), s}] })
				})
			}},
	}
}

func bruteForce(rows []row, hit func(row) bool) *roaring64.Bitmap {
	b := roaring64.New()
	for i, x := range rows {
		if hit(x) {
			b.Add(uint64(i))
		}
	}
	return b
}

func scan(t testing.TB, file []byte, req scanner.Request) *scanner.Result {
	t.Helper()
	res, err := scanner.ParquetAt(context.Background(), bytes.NewReader(file), int64(len(file)), req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A scan finds exactly the rows that carry a key: none missing, none too many,
// pruned or not, whatever the file's codec, page version and page size.
func TestHitsAreExactlyTheRowsWithAKey(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	rows := makeRows(r, 2500)
	files := map[string][]byte{}
	for name, codec := range map[string]compress.Codec{"snappy": &parquet.Snappy, "zstd": &parquet.Zstd, "none": &parquet.Uncompressed} {
		for version := 1; version <= 2; version++ {
			files[fmt.Sprintf("%s/v%d", name, version)] = writeRows(t, rows, parquet.Compression(codec), parquet.DataPageVersion(version),
				parquet.PageBufferSize(300*version), parquet.BloomFilters(
					parquet.SplitBlockFilter(10, "plain"), parquet.SplitBlockFilter(10, "contact", "email"), parquet.SplitBlockFilter(10, "device")))
		}
	}
	for _, n := range []int{1, 8, 100} {
		for _, c := range cases(t, r, n) {
			want := bruteForce(rows, c.hit)
			for name, file := range files {
				for _, o := range []scanner.Options{{}, {NoPruning: true, Workers: 1}, {Window: 200, Gap: 50, Workers: 3}} {
					res := scan(t, file, scanner.Request{Match: []scanner.Match{c.match}, Options: o})
					if !res.Hits.Equals(want) {
						t.Fatalf("%s, %s, %d keys, %+v: %d hits, want %d", c.name, name, n, o, res.Hits.GetCardinality(), want.GetCardinality())
					}
					if res.Rows != int64(len(rows)) || res.PerMatch[0] != int64(want.GetCardinality()) {
						t.Fatalf("%s: rows %d, hits %d, want %d", c.name, res.Rows, res.PerMatch[0], want.GetCardinality())
					}
					if (res.Method == scanner.MethodHits) != !want.IsEmpty() {
						t.Fatalf("%s: method %q for %d hits", c.name, res.Method, want.GetCardinality())
					}
				}
			}
		}
	}
}

// Any of several matches hits a row, and each is counted for itself.
func TestSeveralMatchesUnite(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	rows := makeRows(r, 1000)
	file := writeRows(t, rows)
	cs := cases(t, r, 10)
	for i := range cs {
		a, b := cs[i], cs[(i+3)%len(cs)]
		res := scan(t, file, scanner.Request{Match: []scanner.Match{a.match, b.match}})
		wa, wb := bruteForce(rows, a.hit), bruteForce(rows, b.hit)
		if res.PerMatch[0] != int64(wa.GetCardinality()) || res.PerMatch[1] != int64(wb.GetCardinality()) {
			t.Fatalf("%s, %s: %v", a.name, b.name, res.PerMatch)
		}
		wa.Or(wb)
		if !res.Hits.Equals(wa) {
			t.Fatalf("%s, %s: union differs", a.name, b.name)
		}
	}
}
