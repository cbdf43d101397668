package iceberg

import (
	"encoding/binary"
	"math/big"
	"slices"

	icebergo "github.com/apache/iceberg-go"
	"github.com/google/uuid"

	"github.com/expunge/expunge/keyset"
)

// matchPruner tells from a data file's metadata whether one match of the
// selection can hit any of its rows. Its answer "no" is a proof.
type matchPruner struct {
	columns []keyColumn // one a key part; a row matches only if each does
	// defaulted: a column's initial default is a key, so that files without the column are full of it.
	defaulted bool
}

func newMatchPruner(b binding) matchPruner {
	m := matchPruner{}
	parts := b.Keys.Schema()
	for i, f := range b.fields {
		m.columns = append(m.columns, keyColumn{
			keys:     b.Keys,
			matcher:  b.matcher,
			part:     i,
			parts:    len(parts),
			id:       f.leaf().ID,
			typ:      f.leaf().Type,
			repeated: f.repeated(),
			ordered:  ordered(f.leaf().Type, parts[i]),
		})
	}
	for _, c := range b.Columns {
		m.defaulted = m.defaulted || c.Const != nil
	}
	return m
}

// mayMatch says whether the file's column statistics leave room for a key.
func (m *matchPruner) mayMatch(s *fileStats) bool {
	for i := range m.columns {
		if !m.columns[i].mayMatch(s) {
			return false
		}
	}
	return true
}

// keyColumn is one key part and the column that holds it.
type keyColumn struct {
	keys        *keyset.Set
	matcher     *keyset.Matcher
	part, parts int
	id          int
	typ         icebergo.Type
	repeated    bool
	ordered     bool // the column's order and hashes are those of the keys
}

// ordered says whether values of a column type compare, and hash, like the
// canonical keys of a part: same kind, and no normalisation in between.
func ordered(t icebergo.Type, part keyset.Part) bool {
	plain := len(part.Normalize) == 0
	switch t := t.(type) {
	case icebergo.Int32Type, icebergo.Int64Type:
		return part.Type.Kind == keyset.KindInt64
	case icebergo.DateType:
		return part.Type.Kind == keyset.KindDate
	case icebergo.StringType:
		return plain && part.Type.Kind == keyset.KindString
	case icebergo.BinaryType, icebergo.FixedType:
		return plain && part.Type.Kind == keyset.KindBinary
	case icebergo.UUIDType:
		return part.Type.Kind == keyset.KindUUID
	case icebergo.DecimalType:
		return part.Type.Kind == keyset.KindDecimal && part.Type.Scale == t.Scale()
	}
	return false
}

// mayMatch decides from null counts and bounds. What is missing proves nothing.
func (k *keyColumn) mayMatch(s *fileStats) bool {
	if s.allNull(k.id, k.repeated) {
		return false
	}
	lo, hi, ok := k.bounds(s.lower[k.id], s.upper[k.id])
	return !ok || k.keys.Overlaps(k.part, lo, hi)
}

// bounds turns serialized bounds (specification, Appendix D) into canonical
// ones; nil is open. ok is false when they say nothing about the keys.
//
// The lower bound may have been cut short, which only lowers it. The upper one
// may have been cut and raised, and some writers forget to raise it: any value
// that starts with it counts as inside.
func (k *keyColumn) bounds(lower, upper []byte) (lo, hi []byte, ok bool) {
	if lower == nil && upper == nil {
		return nil, nil, false
	}
	if !k.ordered {
		return k.converted(lower, upper)
	}
	switch k.typ.(type) {
	case icebergo.StringType, icebergo.BinaryType, icebergo.FixedType:
		return notNil(lower), prefixEnd(upper), true
	case icebergo.UUIDType:
		return uuidBounds(lower, upper)
	}
	if lo, ok = k.serialized(lower); !ok {
		return nil, nil, false
	}
	if hi, ok = k.serialized(upper); !ok {
		return nil, nil, false
	}
	if lo != nil && hi != nil && slices.Compare(lo, hi) > 0 {
		return nil, nil, false // a writer got it wrong
	}
	return lo, hi, true
}

// converted is bounds for numbers whose keys are of another numeric type, such
// as ids in a decimal(38,0) column: the matcher rounds outwards.
func (k *keyColumn) converted(lower, upper []byte) (lo, hi []byte, ok bool) {
	switch k.typ.(type) {
	case icebergo.Int32Type, icebergo.Int64Type, icebergo.DecimalType:
		return k.matcher.Bounds(k.part, lower, upper)
	}
	return nil, nil, false
}

// notNil keeps an empty bound (the least value) apart from an open one: both
// mean the same below, so nothing is lost.
func notNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// prefixEnd is the least byte string above all that start with p; nil is open.
func prefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := slices.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// uuidBounds widens the bounds so that they hold whichever way the writer
// compared: some compare the two halves as signed integers, Parquet compares
// bytes. Where the orders disagree about the first half, the lower bound comes
// out above the upper one and says nothing.
func uuidBounds(lower, upper []byte) (lo, hi []byte, ok bool) {
	if len(lower) != 16 || len(upper) != 16 {
		return nil, nil, false
	}
	lo = append(slices.Clone(lower[:8]), make([]byte, 8)...)
	hi = append(slices.Clone(upper[:8]), slices.Repeat([]byte{0xff}, 8)...)
	return lo, hi, slices.Compare(lo, hi) <= 0
}

// serialized decodes a single value of the column's type into canonical form.
// A bound written before the type was widened keeps its old length.
func (k *keyColumn) serialized(b []byte) ([]byte, bool) {
	if b == nil {
		return nil, true
	}
	switch k.typ.(type) {
	case icebergo.Int32Type, icebergo.Int64Type, icebergo.DateType:
		switch len(b) {
		case 4:
			return k.fromInt(int64(int32(binary.LittleEndian.Uint32(b)))), true
		case 8:
			return k.fromInt(int64(binary.LittleEndian.Uint64(b))), true
		}
	case icebergo.DecimalType:
		if len(b) > 0 && len(b) <= 16 {
			return k.fromUnscaled(signExtend(b)), true
		}
	}
	return nil, false
}

// fromInt is the canonical form of an integer-like value, whatever its range.
func (k *keyColumn) fromInt(v int64) []byte {
	return k.keys.Schema()[k.part].Type.AppendInt64(nil, v)
}

// fromUnscaled is the canonical form of a decimal's 16-byte big-endian unscaled value.
func (k *keyColumn) fromUnscaled(b [16]byte) []byte {
	b[0] ^= 0x80
	return b[:]
}

func signExtend(b []byte) (out [16]byte) {
	if b[0]&0x80 != 0 {
		for i := range out {
			out[i] = 0xff
		}
	}
	copy(out[16-len(b):], b)
	return out
}

// contains says whether a value of the column, as iceberg-go holds it in a
// partition tuple, is the part of a key. ok is false when it cannot be told.
func (k *keyColumn) contains(v any) (found, ok bool) {
	c, ok := k.canonical(v)
	return ok && c != nil && k.keys.Overlaps(k.part, c, c), ok
}

// canonical is such a value in the form of a key part; nil = it can be no key.
// ok is false when it cannot be told.
func (k *keyColumn) canonical(v any) (c []byte, ok bool) {
	i64, raw, ok := rawValue(v, k.typ)
	if !ok {
		return nil, false
	}
	c, canMatch := k.matcher.AppendPart([]byte{}, k.part, i64, raw)
	if !canMatch {
		return nil, true
	}
	if k.parts > 1 { // the part of a tuple: a type tag and a length come first
		n, w := binary.Uvarint(c[1:])
		if w <= 0 || int(n) != len(c)-1-w {
			return nil, false
		}
		c = c[1+w:]
	}
	return c, true
}

// rawValue is a partition value as a keyset.Matcher bound by storedAs takes it.
func rawValue(v any, t icebergo.Type) (i64 int64, raw []byte, ok bool) {
	if n, isInt := asInt(v); isInt {
		switch t.(type) {
		case icebergo.Int32Type, icebergo.Int64Type, icebergo.DateType:
			return n, nil, true
		}
		return 0, nil, false
	}
	switch v := v.(type) {
	case string:
		return 0, []byte(v), true
	case []byte:
		if _, isDecimal := t.(icebergo.DecimalType); isDecimal {
			return 0, nil, false
		}
		return 0, v, true
	case uuid.UUID:
		return 0, v[:], true
	case [16]byte:
		return 0, v[:], true
	case icebergo.Decimal:
		d, isDecimal := t.(icebergo.DecimalType)
		if !isDecimal || d.Scale() != v.Scale {
			return 0, nil, false
		}
		b := bigEndian16(v.Val.BigInt())
		return 0, b[:], true
	case icebergo.DecimalLiteral:
		return rawValue(icebergo.Decimal(v), t)
	}
	return 0, nil, false
}

// asInt is the number behind the integer-like types of partition values.
func asInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case icebergo.Date:
		return int64(v), true
	case icebergo.Timestamp:
		return int64(v), true
	case icebergo.TimestampNano:
		return int64(v), true
	case icebergo.Time:
		return int64(v), true
	}
	return 0, false
}

// bigEndian16 is the two's complement of a number below 2^127.
func bigEndian16(n *big.Int) (out [16]byte) {
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), 128))
	}
	n.FillBytes(out[:])
	return out
}

// fileStats are the statistics of one data file, read from its manifest entry
// when they are first needed.
type fileStats struct {
	rows         int64
	values       map[int]int64
	nulls        map[int]int64
	lower, upper map[int][]byte
	indexed      bool // the key index excluded the file for one of the matches
}

func statsOf(df icebergo.DataFile) *fileStats {
	return &fileStats{
		rows:   df.Count(),
		values: df.ValueCounts(),
		nulls:  df.NullValueCounts(),
		lower:  df.LowerBoundValues(),
		upper:  df.UpperBoundValues(),
	}
}

// allNull says whether every value of a column is proven NULL. Counts that do
// not fit the number of rows are not believed.
func (s *fileStats) allNull(id int, repeated bool) bool {
	values, ok := s.values[id]
	nulls, known := s.nulls[id]
	if !ok || !known || values != nulls || values <= 0 {
		return false
	}
	return values == s.rows || (repeated && values > s.rows)
}
