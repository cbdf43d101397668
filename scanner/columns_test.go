package scanner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

type typedRow struct {
	Bool   *bool             `parquet:"bool,optional"`
	Int32  int32             `parquet:"int32,delta"`
	Int64  *int64            `parquet:"int64,optional,dict"`
	Float  *float32          `parquet:"float,optional"`
	Double float64           `parquet:"double,split"`
	Text   *string           `parquet:"text,optional,dict"`
	Fixed  [5]byte           `parquet:"fixed"`
	Int96  *deprecated.Int96 `parquet:"int96,optional"`
	Nested struct {
		Inner *string `parquet:"inner,optional"`
		List  []int64 `parquet:"list,list"`
	} `parquet:"nested"`
}

func typedRows(r *rand.Rand, n int) []typedRow {
	rows := make([]typedRow, n)
	for i := range rows {
		x := &rows[i]
		b, i32, i64, f, s, inner := r.IntN(2) == 0, int32(r.Uint32()), r.Int64N(50), r.Float32(), mail(r.Int64N(40)), mail(r.Int64())
		if r.IntN(3) > 0 {
			x.Bool, x.Int96 = &b, &deprecated.Int96{r.Uint32(), r.Uint32(), r.Uint32()}
		}
		if r.IntN(3) > 0 {
			x.Int32, x.Text = i32, &s
		}
		// Long stretches with and without nulls: pages of both kinds.
		if i/2000%2 == 0 || r.IntN(3) > 0 {
			x.Int64, x.Float, x.Nested.Inner = &i64, &f, &inner
		}
		x.Double = r.NormFloat64()
		copy(x.Fixed[:], fmt.Sprint(r.IntN(100000)))
	}
	return rows
}

var typedColumns = []string{"bool", "int32", "int64", "float", "double", "text", "fixed", "int96"}

// cell is a value of a batch as text; floats by their bits.
func cell(c *scanner.ColumnBatch, i int) string {
	if c.IsNull(i) {
		return "null"
	}
	switch c.Type {
	case format.Boolean:
		return fmt.Sprint(c.Bools[i])
	case format.Int32:
		return fmt.Sprint(c.Int32[i])
	case format.Int64:
		return fmt.Sprint(c.Int64[i])
	case format.Float:
		return fmt.Sprint(math.Float32bits(c.Floats[i]))
	case format.Double:
		return fmt.Sprint(math.Float64bits(c.Doubles[i]))
	}
	return fmt.Sprintf("%x", c.At(i))
}

func text[T any](p *T, f func(T) string) string {
	if p == nil {
		return "null"
	}
	return f(*p)
}

func typedCells(x typedRow) []string {
	hex := func(s string) string { return fmt.Sprintf("%x", s) }
	return []string{
		text(x.Bool, func(v bool) string { return fmt.Sprint(v) }),
		fmt.Sprint(x.Int32),
		text(x.Int64, func(v int64) string { return fmt.Sprint(v) }),
		text(x.Float, func(v float32) string { return fmt.Sprint(math.Float32bits(v)) }),
		fmt.Sprint(math.Float64bits(x.Double)),
		text(x.Text, hex),
		hex(string(x.Fixed[:])),
		text(x.Int96, func(v deprecated.Int96) string {
			var b []byte
			for _, w := range v {
				b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
			}
			return hex(string(b))
		}),
		text(x.Nested.Inner, hex),
		"null",
	}
}

// Every row comes out once, in order, with the values of all its columns side
// by side, nulls included, although the columns' pages end at different rows.
func TestColumnsComeRowByRow(t *testing.T) {
	rows := typedRows(rand.New(rand.NewPCG(8, 8)), 10_000)
	var refs []scanner.ColumnRef
	for _, c := range typedColumns {
		refs = append(refs, ref(c))
	}
	refs = append(refs, ref("nested", "inner"), ref("absent"))
	for version := 1; version <= 2; version++ {
		for _, size := range []int{500, 4000, 1 << 20} {
			file := writeAs(t, rows, 3500, parquet.DataPageVersion(version), parquet.PageBufferSize(size), parquet.Compression(&parquet.Snappy))
			next := int64(0)
			err := scanner.ReadColumnsAt(context.Background(), bytes.NewReader(file), int64(len(file)), refs, func(b *scanner.Batch) error {
				if b.FirstRow != next || b.Rows <= 0 || b.Rows > 4096 {
					t.Fatalf("batch of %d rows at %d, want %d", b.Rows, b.FirstRow, next)
				}
				for i := range b.Rows {
					for c, want := range typedCells(rows[b.FirstRow+int64(i)]) {
						if got := cell(&b.Columns[c], i); got != want {
							t.Fatalf("row %d, column %d: %s, want %s", b.FirstRow+int64(i), c, got, want)
						}
					}
				}
				next += int64(b.Rows)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if next != int64(len(rows)) {
				t.Fatalf("%d rows, want %d", next, len(rows))
			}
		}
	}
}

func TestColumnsInListsAreRefused(t *testing.T) {
	file := writeAs(t, typedRows(rand.New(rand.NewPCG(1, 1)), 10), 10)
	err := scanner.ReadColumnsAt(context.Background(), bytes.NewReader(file), int64(len(file)),
		[]scanner.ColumnRef{ref("nested", "list", "element")}, func(*scanner.Batch) error { return nil })
	if !errors.Is(err, scanner.ErrRepeated) {
		t.Fatal(err)
	}
}

func TestVisitEndsTheRead(t *testing.T) {
	file := writeAs(t, typedRows(rand.New(rand.NewPCG(1, 1)), 10), 2)
	stop := errors.New("enough")
	calls := 0
	err := scanner.ReadColumnsAt(context.Background(), bytes.NewReader(file), int64(len(file)),
		[]scanner.ColumnRef{ref("bool")}, func(*scanner.Batch) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Fatal(err, calls)
	}
}

type place struct {
	row   int64
	index uint32
}

// Hits are located by the element of the list that was asked for, also where
// the key lies in a list inside of the element.
func TestHitsNameTheirElements(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	rows := makeRows(r, 1500)
	ik, in := ints(60, r)
	var mk, pk [][]string
	mails, pairs := map[string]bool{}, map[string]bool{}
	for _, k := range ik {
		m := "user" + k[0] + "@example.com"
		mk, mails[m] = append(mk, []string{m}), true
	}
	for _, x := range rows[:300] {
		for _, m := range x.Members {
			p := []string{fmt.Sprint(m.ID), m.Name}
			pk, pairs[p[0]+m.Name] = append(pk, p), true
		}
	}
	iset, mset, pset := set(t, "int64", ik...), set(t, "string", mk...), set(t, "int64+string", pk...)
	for name, c := range map[string]struct {
		keys *keyset.Set
		cols []scanner.ColumnRef
		list scanner.ColumnRef
		want func(x row) []uint32
	}{
		"list of structs": {iset, []scanner.ColumnRef{ref("members", "[*]", "id")}, ref("members"), func(x row) (out []uint32) {
			for i, m := range x.Members {
				if in(m.ID) {
					out = append(out, uint32(i))
				}
			}
			return out
		}},
		"list inside the element": {mset, []scanner.ColumnRef{ref("members", "[*]", "tags", "[*]")}, ref("members"), func(x row) (out []uint32) {
			for i, m := range x.Members {
				for _, s := range m.Tags {
					if mails[s] {
						out = append(out, uint32(i))
						break
					}
				}
			}
			return out
		}},
		"inner list": {mset, []scanner.ColumnRef{ref("members", "[*]", "tags", "[*]")}, ref("members", "[*]", "tags"), func(x row) (out []uint32) {
			n := uint32(0)
			for _, m := range x.Members {
				for _, s := range m.Tags {
					if mails[s] {
						out = append(out, n)
					}
					n++
				}
			}
			return out
		}},
		"repeated field": {mset, []scanner.ColumnRef{ref("raw")}, ref("raw"), func(x row) (out []uint32) {
			for i, s := range x.Raw {
				if mails[s] {
					out = append(out, uint32(i))
				}
			}
			return out
		}},
		"composite": {pset, []scanner.ColumnRef{ref("members", "[*]", "id"), ref("members", "[*]", "name")}, ref("members"), func(x row) (out []uint32) {
			for i, m := range x.Members {
				if pairs[fmt.Sprint(m.ID)+m.Name] {
					out = append(out, uint32(i))
				}
			}
			return out
		}},
	} {
		var want []place
		for i, x := range rows {
			for _, e := range c.want(x) {
				want = append(want, place{int64(i), e})
			}
		}
		file := writeRows(t, rows, parquet.PageBufferSize(400))
		res := scan(t, file, scanner.Request{
			Match:   []scanner.Match{{Keys: c.keys, Columns: c.cols}},
			Options: scanner.Options{Elements: &c.list},
		})
		var got []place
		for i, row := range res.Elements[0].Rows {
			got = append(got, place{row, res.Elements[0].Index[i]})
		}
		if len(want) < 20 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %d elements, want %d", name, len(got), len(want))
		}
	}
}

func TestElementsOfAnotherListAreRefused(t *testing.T) {
	file := writeRows(t, makeRows(rand.New(rand.NewPCG(1, 1)), 10))
	for _, list := range []scanner.ColumnRef{ref("ids"), ref("contact"), ref("plain")} {
		_, err := scanner.ParquetAt(context.Background(), bytes.NewReader(file), int64(len(file)), scanner.Request{
			Match:   []scanner.Match{{Keys: intSet(t, 1), Columns: []scanner.ColumnRef{ref("members", "[*]", "id")}}},
			Options: scanner.Options{Elements: &list},
		})
		if !errors.Is(err, scanner.ErrStructure) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// Corrupt files give an error and never a result.
func TestCorruptFilesGiveNoResult(t *testing.T) {
	file := writeRows(t, makeRows(rand.New(rand.NewPCG(1, 1)), 300))
	req := scanner.Request{Match: []scanner.Match{{Keys: intSet(t, 1, 2, 3), Columns: []scanner.ColumnRef{ref("plain")}}}, Options: scanner.Options{NoPruning: true}}
	f, err := pq.Open(context.Background(), bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, col := range f.Schema.Columns {
		if col.Name() != "plain" {
			continue
		}
		c, err := f.RowGroups[0].Chunk(col)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(file)
		bad[c.End-5] ^= 1
		if res, err := scanner.ParquetAt(context.Background(), bytes.NewReader(bad), int64(len(bad)), req); !errors.Is(err, pq.ErrCorrupt) || res != nil {
			t.Fatal(res, err)
		}
	}
	if _, err := scanner.ParquetAt(context.Background(), bytes.NewReader(file), int64(len(file)-100), req); !errors.Is(err, pq.ErrCorrupt) {
		t.Fatal(err)
	}
}
