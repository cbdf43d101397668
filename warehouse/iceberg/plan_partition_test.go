package iceberg

import (
	"fmt"
	"math/big"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	icebergo "github.com/apache/iceberg-go"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// keyValue is a value of a column: as a literal of iceberg-go, and as a key in text.
type keyValue struct {
	lit  icebergo.Literal
	text string
}

// keyValues draws a value of each type that can be partitioned by.
func keyValues(t *rapid.T, typ string) keyValue {
	switch typ {
	case "int":
		v := rapid.OneOf(rapid.Int32(), rapid.Int32Range(-1<<31, -1<<31+50)).Draw(t, "int")
		return keyValue{icebergo.Int32Literal(v), fmt.Sprint(v)}
	case "long":
		v := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1<<63, -1<<63+50)).Draw(t, "long")
		return keyValue{icebergo.Int64Literal(v), fmt.Sprint(v)}
	case "date":
		v := rapid.Int32Range(-700000, 2900000).Draw(t, "date")
		lit := icebergo.DateLiteral(v)
		return keyValue{lit, icebergo.Date(v).ToTime().Format("2006-01-02")}
	case "string":
		v := rapid.String().Draw(t, "string")
		return keyValue{icebergo.StringLiteral(v), v}
	case "uuid":
		v := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
		return keyValue{icebergo.UUIDLiteral(v), v.String()}
	default: // decimal(9,2)
		v := rapid.Int64Range(-999999999, 999999999).Draw(t, "decimal")
		d := icebergo.Decimal{Val: decimal128.FromI64(v), Scale: 2}
		sign := ""
		if v < 0 {
			sign, v = "-", -v
		}
		return keyValue{icebergo.DecimalLiteral(d), fmt.Sprintf("%s%d.%02d", sign, v/100, v%100)}
	}
}

var partitionTypes = map[string]struct {
	key string
	typ icebergo.Type
}{
	"int":     {"int64", icebergo.PrimitiveTypes.Int32},
	"long":    {"int64", icebergo.PrimitiveTypes.Int64},
	"date":    {"date", icebergo.PrimitiveTypes.Date},
	"string":  {"string", icebergo.PrimitiveTypes.String},
	"uuid":    {"uuid", icebergo.PrimitiveTypes.UUID},
	"decimal": {"decimal(9,2)", icebergo.DecimalTypeOf(9, 2)},
}

func boundColumn(t *rapid.T, typ string, keys ...string) *keyColumn {
	p := partitionTypes[typ]
	ty, err := keyset.ParseType(p.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := keyset.NewBuilder("k", keyset.Schema{{Name: "k", Type: ty}})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := b.AddText(k); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	col, err := storedAs(p.typ)
	if err != nil {
		t.Fatal(err)
	}
	m, err := keyset.NewMatcher(s, []keyset.Column{col})
	if err != nil {
		t.Fatal(err)
	}
	f := newField([]icebergo.NestedField{{ID: 1, Name: "c", Type: p.typ}})
	m2 := newMatchPruner(binding{BoundMatch: warehouse.BoundMatch{Keys: s}, fields: []field{f}, matcher: m})
	return &m2.columns[0]
}

func TestThePartitionOfAKeyIsNeverPruned(t *testing.T) {
	for typ := range partitionTypes {
		t.Run(typ, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				v := keyValues(rt, typ)
				col := boundColumn(rt, typ, v.text, keyValues(rt, typ).text)
				n := rapid.IntRange(1, 40).Draw(rt, "n")
				transforms := []icebergo.Transform{icebergo.IdentityTransform{}, icebergo.BucketTransform{NumBuckets: n}}
				if typ != "uuid" && typ != "date" {
					transforms = append(transforms, icebergo.TruncateTransform{Width: n})
				}
				for _, tr := range transforms {
					test, ok := newPartitionTest(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "p", Transform: tr}, col)
					if !ok {
						rt.Fatalf("%s of %s is not mapped", tr, typ)
					}
					p := tr.Apply(icebergo.Optional[icebergo.Literal]{Valid: true, Val: v.lit})
					if !test.mayMatch(p.Val.Any()) {
						rt.Errorf("%s: the tuple of a key is pruned", tr)
					}
					b, err := p.Val.MarshalBinary()
					if err != nil {
						rt.Fatal(err)
					}
					if !test.mayMatchRange(b, b) {
						rt.Errorf("%s: the summary of a key's partition is pruned", tr)
					}
				}
			})
		})
	}
}

func TestPartitionsWithoutAKeyArePruned(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		col := boundColumn(rt, "long", "100", "205")
		trunc, _ := newPartitionTest(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1, Transform: icebergo.TruncateTransform{Width: 10}}, col)
		id, _ := newPartitionTest(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1, Transform: icebergo.IdentityTransform{}}, col)
		v := rapid.Int64Range(-1000, 1000).Draw(rt, "v")
		if got, want := id.mayMatch(v), v == 100 || v == 205; got != want {
			rt.Errorf("identity %d: %v", v, got)
		}
		at := v / 10 * 10
		if got, want := trunc.mayMatch(at), at == 100 || at == 200; got != want {
			rt.Errorf("truncate %d: %v", at, got)
		}
	})
}

func TestBoundsHoldEveryValueTheyWereMadeFrom(t *testing.T) {
	for typ := range partitionTypes {
		t.Run(typ, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				v := keyValues(rt, typ)
				col := boundColumn(rt, typ, v.text)
				b, err := v.lit.MarshalBinary()
				if err != nil {
					rt.Fatal(err)
				}
				upper := b
				if typ == "string" { // a writer that cuts bounds, raising the upper one or not
					cut := rapid.IntRange(0, len(b)).Draw(rt, "cut")
					b, upper = b[:cut], b[:cut]
					if end := prefixEnd(upper); end != nil && rapid.Bool().Draw(rt, "raised") {
						upper = end
					}
				}
				if lo, hi, ok := col.bounds(b, upper); ok && !col.keys.Overlaps(0, lo, hi) {
					rt.Errorf("the bounds of a key's file do not hold it")
				}
			})
		})
	}
}

func TestUUIDBoundsHoldWhicheverWayTheWriterCompared(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var all []uuid.UUID
		var texts []string
		for range rapid.IntRange(1, 5).Draw(rt, "values") {
			// Few distinct bytes, so that halves are often equal.
			u := uuid.UUID(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0x7f, 0x80, 0xff}), 16, 16).Draw(rt, "uuid"))
			if rapid.Bool().Draw(rt, "same first half") && len(all) > 0 {
				copy(u[:8], all[0][:8])
			}
			all = append(all, u)
			texts = append(texts, u.String())
		}
		signed := rapid.Bool().Draw(rt, "signed")
		less := func(a, b uuid.UUID) bool {
			for h := range 2 {
				x, y := new(big.Int).SetBytes(a[h*8:h*8+8]), new(big.Int).SetBytes(b[h*8:h*8+8])
				c := x.Cmp(y)
				if signed {
					c = cmpInt64(x.Uint64(), y.Uint64())
				}
				if c != 0 {
					return c < 0
				}
			}
			return false
		}
		lo, hi := all[0], all[0]
		for _, u := range all {
			if less(u, lo) {
				lo = u
			}
			if less(hi, u) {
				hi = u
			}
		}
		for _, text := range texts {
			col := boundColumn(rt, "uuid", text)
			if cl, ch, ok := col.bounds(lo[:], hi[:]); ok && !col.keys.Overlaps(0, cl, ch) {
				rt.Fatalf("a value of the file is outside its bounds, signed=%v", signed)
			}
		}
	})
}

func cmpInt64(a, b uint64) int {
	switch x, y := int64(a), int64(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func TestAllNullIsBelievedOnlyWhenTheCountsFit(t *testing.T) {
	for _, c := range []struct {
		rows, values, nulls int64
		repeated, want      bool
	}{
		{10, 10, 10, false, true},
		{10, 10, 9, false, false},
		{10, 0, 0, false, false},
		{10, 9, 9, false, false},
		{10, 25, 25, false, false},
		{10, 25, 25, true, true},
		{10, 5, 5, true, false},
	} {
		s := &fileStats{rows: c.rows, values: map[int]int64{1: c.values}, nulls: map[int]int64{1: c.nulls}}
		if got := s.allNull(1, c.repeated); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if (&fileStats{rows: 10}).allNull(1, false) {
		t.Error("missing counts are taken for all NULL")
	}
}
