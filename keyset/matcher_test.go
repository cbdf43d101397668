package keyset

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go/bloom"
	"pgregory.net/rapid"
)

// cell is a column's value: an integer or bytes.
type cell struct {
	v   int64
	raw []byte
}

// pairing is a key type and a column that can hold its keys. meaning gives what
// a cell is worth in words of its own, independent of the canonical forms;
// false is a value that no key can have.
type pairing struct {
	part    string
	col     Column
	meaning func(cell) (string, bool)
	draw    func(*rand.Rand) cell
}

func rat(v *big.Int, scale int) string {
	return new(big.Rat).SetFrac(v, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)).RatString()
}

func fromTwos(b []byte) *big.Int {
	v := new(big.Int).SetBytes(b)
	if b[0] >= 0x80 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return v
}

func signed(scale int) func(cell) (string, bool) {
	return func(c cell) (string, bool) { return rat(big.NewInt(c.v), scale), true }
}

func twos(scale int) func(cell) (string, bool) {
	return func(c cell) (string, bool) {
		if len(c.raw) == 0 {
			return "", false
		}
		return rat(fromTwos(c.raw), scale), true
	}
}

func rawText(c cell) (string, bool) { return string(c.raw), true }

func uuidWords(c cell) (string, bool) {
	if len(c.raw) == 16 {
		return hex.EncodeToString(c.raw), true
	}
	return uuidText(c)
}

func uuidText(c cell) (string, bool) {
	s := strings.ToLower(string(c.raw))
	s = strings.TrimPrefix(strings.Trim(s, "{}"), "urn:uuid:")
	s = strings.ReplaceAll(s, "-", "")
	_, err := hex.DecodeString(s)
	return s, err == nil && len(s) == 32
}

func small(r *rand.Rand) int64 { return r.Int64N(400) - 200 }

func ints(r *rand.Rand) cell {
	if r.IntN(4) == 0 {
		return cell{v: int64(r.Uint64())}
	}
	return cell{v: small(r)}
}

func int32s(r *rand.Rand) cell { return cell{v: int64(int32(ints(r).v))} }

func fixedInts(width int) func(*rand.Rand) cell {
	return func(r *rand.Rand) cell {
		d, _ := dec128From(small(r)*10+r.Int64N(10)*10).appendFixed(nil, width)
		if r.IntN(6) == 0 {
			for i := range d {
				d[i] = byte(r.Uint32())
			}
		}
		return cell{raw: d}
	}
}

func uuids(text bool) func(*rand.Rand) cell {
	return func(r *rand.Rand) cell {
		b := make([]byte, 16)
		b[3], b[15] = byte(r.IntN(4)), byte(r.IntN(8))
		if !text {
			return cell{raw: b}
		}
		s := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		switch r.IntN(6) {
		case 0:
			s = strings.ToUpper(s)
		case 1:
			s = strings.ReplaceAll(s, "-", "")
		case 2:
			s = "{" + s + "}"
		case 3:
			s = s[:len(s)-1] + "x"
		}
		return cell{raw: []byte(s)}
	}
}

func words(r *rand.Rand) cell {
	return cell{raw: []byte([]string{"", "a", "A", " a", "a ", "ab", "\x00", "\xff\xfe", "Ä", "ä", "A\u0308", "a@b.de", "A@B.de"}[r.IntN(13)])}
}

var pairings = []pairing{
	{"k int64", Column{Physical: PhysInt64}, signed(0), ints},
	{"k int64", Column{Physical: PhysInt32}, signed(0), int32s},
	{"k int64", Column{Physical: PhysInt32, Logical: Logical{Kind: LogicalInt, Bits: 32, Unsigned: true}}, func(c cell) (string, bool) { return fmt.Sprint(uint32(c.v)), true }, int32s},
	{"k int64", Column{Physical: PhysInt64, Logical: Logical{Kind: LogicalInt, Bits: 64, Unsigned: true}}, func(c cell) (string, bool) { return fmt.Sprint(uint64(c.v)), c.v >= 0 }, ints},
	{"k int64", Column{Physical: PhysInt64, Logical: Logical{Kind: LogicalDecimal, Precision: 18, Scale: 1}}, signed(1), ints},
	{"k int64", Column{Physical: PhysFixed, Width: 9, Logical: Logical{Kind: LogicalDecimal, Precision: 20, Scale: 1}}, twos(1), fixedInts(9)},
	{"k decimal(12,2)", Column{Physical: PhysInt32, Logical: Logical{Kind: LogicalDecimal, Precision: 9, Scale: 1}}, signed(1), int32s},
	{"k decimal(12,2)", Column{Physical: PhysInt64, Logical: Logical{Kind: LogicalDecimal, Precision: 18, Scale: 3}}, signed(3), ints},
	{"k decimal(12,2)", Column{Physical: PhysInt64}, signed(0), ints},
	{"k decimal(38,10)", Column{Physical: PhysFixed, Width: 16, Logical: Logical{Kind: LogicalDecimal, Precision: 38, Scale: 0}}, twos(0), fixedInts(16)},
	{"k decimal(12,2)", Column{Physical: PhysFixed, Width: 20, Logical: Logical{Kind: LogicalDecimal, Precision: 38, Scale: 4}}, twos(4), fixedInts(20)},
	{"k decimal(12,2)", Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalDecimal, Precision: 12, Scale: 2}}, twos(2), func(r *rand.Rand) cell { return fixedInts(2 + r.IntN(9))(r) }},
	{"k date", Column{Physical: PhysInt32, Logical: Logical{Kind: LogicalDate}}, signed(0), int32s},
	{"k uuid", Column{Physical: PhysFixed, Width: 16, Logical: Logical{Kind: LogicalUUID}}, uuidWords, uuids(false)},
	{"k uuid", Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}, uuidText, uuids(true)},
	{"k uuid trim", Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}, func(c cell) (string, bool) { return uuidText(cell{raw: bytes.TrimSpace(c.raw)}) }, func(r *rand.Rand) cell {
		return cell{raw: []byte("  " + string(uuids(true)(r).raw) + "  ")}
	}},
	{"k uuid", Column{Physical: PhysBytes}, uuidWords, func(r *rand.Rand) cell { return uuids(r.IntN(2) == 0)(r) }},
	{"k string", Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}, rawText, words},
	{"k string trim lowercase", Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}, func(c cell) (string, bool) {
		if string(c.raw) == "\xff\xfe" {
			return string(c.raw), true
		}
		return strings.ToLower(strings.TrimSpace(string(c.raw))), true
	}, words},
	{"k string", Column{Physical: PhysFixed, Width: 2}, rawText, func(r *rand.Rand) cell { return cell{raw: []byte{'a', byte('a' + r.IntN(20))}} }},
	{"k binary", Column{Physical: PhysBytes}, rawText, words},
	{"k binary hex", Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}, func(c cell) (string, bool) {
		b, err := hex.DecodeString(string(c.raw))
		return string(b), err == nil
	}, func(r *rand.Rand) cell {
		return cell{raw: []byte([]string{"", "00", "0", "aB", "Ab", "zz", "abcd"}[r.IntN(7)])}
	}},
}

// keyFor makes a canonical key of a cell's meaning through the text parsers,
// the way Load would.
func keyFor(p Part, b binding, c cell, meaning string) ([]byte, bool) {
	text := []byte(meaning)
	switch p.Type.Kind {
	case KindDecimal:
		r, _ := new(big.Rat).SetString(meaning)
		text = []byte(r.FloatString(p.Type.Scale))
		if back, _ := new(big.Rat).SetString(string(text)); back.Cmp(r) != 0 {
			return nil, false
		}
	case KindDate:
		return p.Type.AppendInt64(nil, c.v), true
	case KindBinary, KindString:
		if b.form == formRaw || b.form == formEncoded {
			return text, true
		}
	}
	out, err := p.AppendText(nil, text)
	return out, err == nil
}

func selectCells(m *Matcher, col Column, cells []cell) []int32 {
	switch col.Physical {
	case PhysInt32:
		var vals []int32
		for _, c := range cells {
			vals = append(vals, int32(c.v))
		}
		return m.SelectInt32(nil, vals)
	case PhysInt64:
		var vals []int64
		for _, c := range cells {
			vals = append(vals, c.v)
		}
		return m.SelectInt64(nil, vals)
	case PhysFixed:
		var data []byte
		for _, c := range cells {
			data = append(data, c.raw...)
		}
		return m.SelectFixed(nil, data, col.Width)
	}
	data, offsets := []byte{}, []uint32{0}
	for _, c := range cells {
		data = append(data, c.raw...)
		offsets = append(offsets, uint32(len(data)))
	}
	return m.SelectBytes(nil, data, offsets)
}

func plain(col Column, c cell) []byte {
	switch col.Physical {
	case PhysInt32:
		return binary.LittleEndian.AppendUint32(nil, uint32(c.v))
	case PhysInt64:
		return binary.LittleEndian.AppendUint64(nil, uint64(c.v))
	}
	return c.raw
}

// compareCells is the column's own order (parquet.thrift, ColumnOrder).
func compareCells(col Column, a, b cell) int {
	switch l := col.Logical; {
	case l.Unsigned && col.Physical == PhysInt32:
		return big.NewInt(int64(uint32(a.v))).Cmp(big.NewInt(int64(uint32(b.v))))
	case l.Unsigned:
		return new(big.Int).SetUint64(uint64(a.v)).Cmp(new(big.Int).SetUint64(uint64(b.v)))
	case col.Physical == PhysInt32 || col.Physical == PhysInt64:
		return big.NewInt(a.v).Cmp(big.NewInt(b.v))
	case l.Kind == LogicalDecimal:
		return fromTwos(a.raw).Cmp(fromTwos(b.raw))
	}
	return bytes.Compare(a.raw, b.raw)
}

func TestMatcherFindsExactlyTheKeys(t *testing.T) {
	for _, p := range pairings {
		t.Run(p.part+" in "+p.col.String(), func(t *testing.T) {
			schema := schemaOf(t, p.part)
			part := schema[0]
			for round := range 30 {
				r := rand.New(rand.NewPCG(uint64(round), 77))
				b, err := bind(part, p.col)
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]bool{}
				builder, _ := NewBuilder("k", schema)
				for range r.IntN(80) {
					c := p.draw(r)
					meaning, ok := p.meaning(c)
					if !ok {
						continue
					}
					if key, ok := keyFor(part, b, c, meaning); ok {
						if err := builder.Add(key); err != nil {
							t.Fatal(err)
						}
						want[meaning] = true
					}
				}
				s, err := builder.Build()
				if err != nil {
					t.Fatal(err)
				}
				m, err := NewMatcher(s, []Column{p.col})
				if err != nil {
					t.Fatal(err)
				}
				cells := make([]cell, r.IntN(3000))
				var hits []int32
				for i := range cells {
					cells[i] = p.draw(r)
					meaning, ok := p.meaning(cells[i])
					if ok && want[meaning] {
						hits = append(hits, int32(i))
					}
					tuple, can := m.AppendPart(nil, 0, cells[i].v, cells[i].raw)
					if (can && m.Contains(tuple)) != (ok && want[meaning]) {
						t.Fatalf("cell %d: AppendPart and Contains differ from the model", i)
					}
				}
				if got := selectCells(m, p.col, cells); !slices.Equal(got, hits) {
					t.Fatalf("round %d: selected %d cells, want %d", round, len(got), len(hits))
				}
				checkPruning(t, m, p, cells, hits)
			}
		})
	}
}

// checkPruning: bounds and bloom hashes of a column never leave out a row that matches.
func checkPruning(t *testing.T, m *Matcher, p pairing, cells []cell, hits []int32) {
	t.Helper()
	if len(cells) == 0 {
		return
	}
	cmp := func(a, b cell) int { return compareCells(p.col, a, b) }
	lo, hi, ok := m.Bounds(0, plain(p.col, slices.MinFunc(cells, cmp)), plain(p.col, slices.MaxFunc(cells, cmp)))
	if !ok {
		lo, hi = nil, nil
	}
	hashes := map[uint64]bool{}
	seq, hashed := m.ParquetHashes(0, lo, hi)
	if hashed {
		for h := range seq {
			hashes[h] = true
		}
	}
	for _, i := range hits {
		canonical, _ := m.AppendPart(nil, 0, cells[i].v, cells[i].raw)
		if !m.Set().Overlaps(0, lo, hi) || bytes.Compare(canonical, lo) < 0 || hi != nil && bytes.Compare(canonical, hi) > 0 {
			t.Fatalf("row %d lies outside the bounds", i)
		}
		var h bloom.XXH64
		if hashed && !hashes[h.Sum64(plain(p.col, cells[i]))] {
			t.Fatalf("row %d is not among the hashes", i)
		}
	}
}

func TestBoundsOfOneValueAreThatValue(t *testing.T) {
	for _, p := range pairings {
		m, err := NewMatcher(buildSet(t, schemaOf(t, p.part), nil), []Column{p.col})
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(9, 9))
		for range 200 {
			c := p.draw(r)
			canonical, can := m.AppendPart(nil, 0, c.v, c.raw)
			lo, hi, ok := m.Bounds(0, plain(p.col, c), plain(p.col, c))
			if ok && can && (!bytes.Equal(lo, canonical) || !bytes.Equal(hi, canonical)) {
				t.Fatalf("%s in %s: bounds are not tight", p.part, p.col)
			}
		}
	}
	m, _ := NewMatcher(buildSet(t, schemaOf(t, "k string trim"), nil), []Column{{Physical: PhysBytes}})
	if _, _, ok := m.Bounds(0, []byte("a"), []byte("b")); ok {
		t.Fatal("bounds of a normalised string are of no use")
	}
	m, _ = NewMatcher(buildSet(t, schemaOf(t, "k int64"), nil), []Column{{Physical: PhysInt64}})
	if lo, hi, ok := m.Bounds(0, nil, nil); lo != nil || hi != nil || !ok {
		t.Fatal("no bounds are open bounds")
	}
	if _, _, ok := m.Bounds(0, []byte{1, 2}, nil); ok {
		t.Fatal("a bound of two bytes is no integer")
	}
	if lo, _, ok := m.Bounds(0, []byte{0xff, 0xff, 0xff, 0xff}, nil); !ok || !bytes.Equal(lo, Type{Kind: KindInt64}.AppendInt64(nil, -1)) {
		t.Fatal("a promoted column keeps bounds of 4 bytes")
	}
}

func TestColumnsThatCannotBeComparedAreRefused(t *testing.T) {
	text := Column{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}
	other := Logical{Kind: LogicalOther}
	for _, c := range []struct {
		part string
		col  Column
	}{
		{"k int64", text}, {"k date", text}, {"k decimal(9,2)", text}, {"k string", Column{Physical: PhysInt64}},
		{"k int64", Column{Physical: PhysInt64, Logical: other}}, {"k date", Column{Physical: PhysInt32}}, {"k int64", Column{Physical: PhysInt32, Logical: Logical{Kind: LogicalDate}}},
		{"k uuid", Column{Physical: PhysFixed, Width: 8}}, {"k uuid", Column{Physical: PhysInt64}}, {"k binary", text}, {"k string", Column{Physical: PhysBytes, Logical: other}},
		{"k string", Column{Physical: PhysFixed, Width: 16, Logical: Logical{Kind: LogicalUUID}}}, {"k int64", Column{}},
		{"k decimal(9,2)", Column{Physical: PhysInt64, Logical: Logical{Kind: LogicalInt, Unsigned: true}}},
	} {
		if _, err := NewMatcher(buildSet(t, schemaOf(t, c.part), nil), []Column{c.col}); !errors.Is(err, ErrType) {
			t.Errorf("%s in %s: %v, want ErrType", c.part, c.col, err)
		}
	}
	if _, err := NewMatcher(buildSet(t, schemaOf(t, "k int64"), nil), nil); !errors.Is(err, ErrType) {
		t.Errorf("no column: %v", err)
	}
}

func TestCompositeMatchesWholeTuplesOnly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schema := schemaOf(t, "t string lowercase", "id int64", "u uuid")
		cols := []Column{{Physical: PhysBytes}, {Physical: PhysInt32}, {Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}}
		tenant := rapid.SampledFrom([]string{"a", "B", "ab", "", "\x02\x01a"})
		num := rapid.Int32Range(0, 3)
		id := rapid.SampledFrom([]string{"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B8109DAD11D180B400C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c9", "no uuid"})
		type tuple struct {
			t  string
			id int32
			u  string
		}
		gen := rapid.Custom(func(t *rapid.T) tuple { return tuple{tenant.Draw(t, "t"), num.Draw(t, "id"), id.Draw(t, "u")} })
		norm := func(x tuple) tuple {
			u, _ := uuidText(cell{raw: []byte(x.u)})
			return tuple{strings.ToLower(x.t), x.id, u}
		}
		b, _ := NewBuilder("k", schema)
		model := map[tuple]bool{}
		for _, k := range rapid.SliceOf(gen).Draw(rt, "keys") {
			if err := b.AddText(k.t, fmt.Sprint(k.id), k.u); err == nil {
				model[norm(k)] = true
			} else if k.u != "no uuid" {
				rt.Fatal(err)
			}
		}
		s, err := b.Build()
		if err != nil || s.Len() != len(model) {
			rt.Fatal(err, s.Len(), len(model))
		}
		m, err := NewMatcher(s, cols)
		if err != nil {
			rt.Fatal(err)
		}
		for _, row := range rapid.SliceOf(gen).Draw(rt, "rows") {
			key, ok1 := m.AppendPart(nil, 0, 0, []byte(row.t))
			key, ok2 := m.AppendPart(key, 1, int64(row.id), nil)
			first := m.Part(1).SelectInt32(nil, []int32{row.id})
			want := row.u != "no uuid" && model[norm(row)]
			key, ok3 := m.AppendPart(key, 2, 0, []byte(row.u))
			if got := ok1 && ok2 && ok3 && m.Contains(key); got != want {
				rt.Fatalf("match %v, want %v", got, want)
			}
			if want && len(first) != 1 {
				rt.Fatal("the part's own set lacks a part")
			}
		}
	})
}
