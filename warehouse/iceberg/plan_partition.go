package iceberg

import (
	"encoding/binary"
	"math"
	"math/big"
	"unicode/utf8"

	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/warehouse"
)

// specPruner maps the keys of each match through the transforms of one
// partition spec. identity, bucket[N] and truncate[W] are mapped; the others
// prove nothing.
type specPruner struct {
	fields []icebergo.PartitionField
	tests  [][]partitionTest // a list a match
	keyed  bool              // a match column is a source of the spec
}

// partitionTest is one partition field whose source is a key column.
type partitionTest struct {
	at      int // index of the field in the spec
	field   int // its id
	column  *keyColumn
	kind    transformKind
	width   int
	buckets []uint64 // bitmap of the buckets that keys fall into; nil = unknown
}

type transformKind uint8

const (
	transformIdentity transformKind = iota + 1
	transformBucket
	transformTruncate
)

func newSpecPruner(spec icebergo.PartitionSpec, matches []matchPruner) *specPruner {
	s := &specPruner{tests: make([][]partitionTest, len(matches))}
	for at, f := range spec.Fields() {
		s.fields = append(s.fields, f)
		for i := range matches {
			for c := range matches[i].columns {
				k := &matches[i].columns[c]
				if f.SourceID() != k.id {
					continue
				}
				if _, void := f.Transform.(icebergo.VoidTransform); !void {
					s.keyed = true
				}
				if t, ok := newPartitionTest(f, k); ok {
					t.at = at
					s.tests[i] = append(s.tests[i], t)
				}
			}
		}
	}
	return s
}

func newPartitionTest(f icebergo.PartitionField, k *keyColumn) (partitionTest, bool) {
	t := partitionTest{field: f.FieldID, column: k}
	if len(f.SourceIDs) > 1 {
		return t, false
	}
	switch tr := f.Transform.(type) {
	case icebergo.IdentityTransform:
		t.kind = transformIdentity
		return t, true
	case icebergo.BucketTransform:
		t.kind, t.width = transformBucket, tr.NumBuckets
		t.buckets = k.buckets(tr)
		return t, t.buckets != nil
	case icebergo.TruncateTransform:
		t.kind, t.width = transformTruncate, tr.Width
		return t, k.ordered && tr.Width > 0
	}
	return t, false
}

// maxBuckets bounds the bitmap of buckets; a spec with more is not pruned by.
const maxBuckets = 1 << 24

// buckets maps every key part to its bucket, until all buckets are taken. It
// returns nil when keys do not hash like the column.
func (k *keyColumn) buckets(tr icebergo.BucketTransform) []uint64 {
	if !k.ordered || tr.NumBuckets <= 0 || tr.NumBuckets > maxBuckets || !tr.CanTransform(k.typ) {
		return nil
	}
	bitmap := make([]uint64, (tr.NumBuckets+63)/64)
	bucket := tr.Transformer(k.typ)
	taken := 0
	for key := range k.keys.Part(k.part) {
		v, ok := k.value(key)
		if !ok {
			continue // no value of the column can be this key
		}
		b := bucket(v)
		if !b.Valid || b.Val < 0 || int(b.Val) >= tr.NumBuckets {
			return nil
		}
		if bit := uint64(1) << (b.Val % 64); bitmap[b.Val/64]&bit == 0 {
			bitmap[b.Val/64] |= bit
			if taken++; taken == tr.NumBuckets {
				break
			}
		}
	}
	return bitmap
}

// value is a canonical key part as a value of the column's type.
func (k *keyColumn) value(key []byte) (any, bool) {
	part := k.keys.Schema()[k.part].Type
	switch t := k.typ.(type) {
	case icebergo.Int32Type:
		v := part.Int64(key)
		return int32(v), v >= math.MinInt32 && v <= math.MaxInt32
	case icebergo.Int64Type:
		return part.Int64(key), true
	case icebergo.DateType:
		return icebergo.Date(part.Int64(key)), true
	case icebergo.StringType, icebergo.BinaryType:
		return key, true
	case icebergo.FixedType:
		return key, len(key) == t.Len()
	case icebergo.UUIDType:
		return key, len(key) == 16
	case icebergo.DecimalType:
		return decimalOf(part.Unscaled(key), t.Scale())
	}
	return nil, false
}

// projected are the keys that all rows of a file have by identity partition
// values, should the file lack the columns (specification, "Column Projection").
func (s *specPruner) projected(partition map[int]any) (out []warehouse.Projected) {
	for i := range s.tests {
		for _, t := range s.tests[i] {
			v := partition[t.field]
			if t.kind != transformIdentity || v == nil {
				continue
			}
			if c, ok := t.column.canonical(v); ok && c != nil && t.column.keys.Overlaps(t.column.part, c, c) {
				out = append(out, warehouse.Projected{Match: i, Part: t.column.part, Value: c})
			}
		}
	}
	return out
}

// mayMatch says whether a partition tuple leaves room for a key of match i.
func (s *specPruner) mayMatch(i int, partition map[int]any) bool {
	for t := range s.tests[i] {
		test := &s.tests[i][t]
		v, ok := partition[test.field]
		if !ok {
			continue
		}
		if v == nil {
			return false // these transforms map NULL and only NULL to NULL
		}
		if !test.mayMatch(v) {
			return false
		}
	}
	return true
}

func (t *partitionTest) mayMatch(v any) bool {
	switch t.kind {
	case transformIdentity:
		found, ok := t.column.contains(v)
		return found || !ok
	case transformBucket:
		n, ok := asInt(v)
		return !ok || n < 0 || n >= int64(t.width) || t.buckets[n/64]&(1<<(n%64)) != 0
	case transformTruncate:
		lo, hi, ok := t.column.truncated(v, t.width)
		return !ok || t.column.keys.Overlaps(t.column.part, lo, hi)
	}
	return true
}

// truncated returns the canonical bounds of all values that truncate[width] maps to v.
func (k *keyColumn) truncated(v any, width int) (lo, hi []byte, ok bool) {
	switch k.typ.(type) {
	case icebergo.Int32Type, icebergo.Int64Type:
		n, isInt := asInt(v)
		if !isInt {
			return nil, nil, false
		}
		end := n + int64(width) - 1
		if _, short := k.typ.(icebergo.Int32Type); end < n || (short && end > math.MaxInt32) {
			// The least values of the type wrap round to here when truncated.
			return nil, nil, false
		}
		return k.fromInt(n), k.fromInt(end), true
	case icebergo.DecimalType:
		return k.truncatedDecimal(v, width)
	case icebergo.StringType:
		s, isString := v.(string)
		if !isString {
			return nil, nil, false
		}
		return k.truncatedBytes([]byte(s), utf8.RuneCountInString(s) < width)
	case icebergo.BinaryType, icebergo.FixedType:
		b, isBytes := v.([]byte)
		if !isBytes {
			return nil, nil, false
		}
		return k.truncatedBytes(b, len(b) < width)
	}
	return nil, nil, false
}

func (k *keyColumn) truncatedBytes(v []byte, whole bool) (lo, hi []byte, ok bool) {
	if whole { // shorter than the width: the value itself
		return v, v, len(v) > 0
	}
	return v, prefixEnd(v), true
}

func (k *keyColumn) truncatedDecimal(v any, width int) (lo, hi []byte, ok bool) {
	_, raw, ok := rawValue(v, k.typ)
	if !ok || len(raw) != 16 {
		return nil, nil, false
	}
	n := new(big.Int).SetBytes(raw)
	if raw[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), 128))
	}
	end := n.Add(n, big.NewInt(int64(width-1)))
	if end.BitLen() > 127 {
		return k.fromUnscaled([16]byte(raw)), nil, true
	}
	return k.fromUnscaled([16]byte(raw)), k.fromUnscaled(bigEndian16(end)), true
}

// mayMatchSummaries says whether a manifest's partition summaries leave room
// for a key of any match.
func (s *specPruner) mayMatchSummaries(sums []icebergo.FieldSummary) bool {
	for i := range s.tests {
		if s.mayMatchSummary(i, sums) {
			return true
		}
	}
	return false
}

func (s *specPruner) mayMatchSummary(i int, sums []icebergo.FieldSummary) bool {
	for t := range s.tests[i] {
		test := &s.tests[i][t]
		if test.at >= len(sums) {
			continue
		}
		sum := sums[test.at]
		if sum.LowerBound == nil || sum.UpperBound == nil {
			continue
		}
		if !test.mayMatchRange(*sum.LowerBound, *sum.UpperBound) {
			return false
		}
	}
	return true
}

// mayMatchRange is mayMatch for all partition values between two serialized bounds.
func (t *partitionTest) mayMatchRange(lower, upper []byte) bool {
	k := t.column
	switch t.kind {
	case transformIdentity:
		lo, hi, ok := k.bounds(lower, upper)
		return !ok || k.keys.Overlaps(k.part, lo, hi)
	case transformBucket:
		if len(lower) != 4 || len(upper) != 4 {
			return true
		}
		lo, hi := int32(binary.LittleEndian.Uint32(lower)), int32(binary.LittleEndian.Uint32(upper))
		if lo < 0 || int(hi) >= t.width || lo > hi {
			return true
		}
		for b := lo; b <= hi; b++ {
			if t.buckets[b/64]&(1<<(b%64)) != 0 {
				return true
			}
		}
		return false
	case transformTruncate:
		lo, _, ok := k.bounds(lower, upper)
		if !ok {
			return true
		}
		hi, ok := k.truncatedEnd(upper, t.width)
		return !ok || k.keys.Overlaps(k.part, lo, hi)
	}
	return true
}

// truncatedEnd is the canonical upper bound of the values that truncate to the
// serialized partition value upper; nil is open.
func (k *keyColumn) truncatedEnd(upper []byte, width int) ([]byte, bool) {
	switch t := k.typ.(type) {
	case icebergo.StringType, icebergo.BinaryType, icebergo.FixedType:
		return prefixEnd(upper), true
	case icebergo.Int32Type, icebergo.Int64Type:
		switch len(upper) {
		case 4:
			_, hi, ok := k.truncated(int32(binary.LittleEndian.Uint32(upper)), width)
			return hi, ok
		case 8:
			_, hi, ok := k.truncated(int64(binary.LittleEndian.Uint64(upper)), width)
			return hi, ok
		}
	case icebergo.DecimalType:
		if len(upper) == 0 || len(upper) > 16 {
			return nil, false
		}
		b := signExtend(upper)
		n := new(big.Int).SetBytes(b[:])
		if b[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), 128))
		}
		v, ok := decimalOf(n, t.Scale())
		if !ok {
			return nil, false
		}
		_, hi, ok := k.truncated(v, width)
		return hi, ok
	}
	return nil, false
}
