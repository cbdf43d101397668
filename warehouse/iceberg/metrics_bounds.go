package iceberg

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/apache/iceberg-go"
)

// bounds gathers a column's range over the row groups of a file. The statistic
// bytes of Parquet are PLAIN encoded; each kind of column is compared and
// serialised in its own way.
type bounds struct {
	kind   boundKind
	scale  int64 // Parquet's unit to Iceberg's, for times and timestamps
	wide   bool  // the table's type takes 8 bytes where the file stores 4 (promotion)
	any    bool
	lo, hi int64
	flo    float64
	fhi    float64
	blo    []byte
	bhi    []byte
}

type boundKind uint8

const (
	boundInt boundKind = iota
	boundBool
	boundFloat
	boundUUID    // compared byte for byte, never truncated
	boundBytes   // the same, truncated by bytes
	boundString  // the same, truncated by characters
	boundDecimal // big-endian two's complement of any width
	boundDecInt  // a decimal that Parquet stores in an integer
)

// newBounds is nil for types that have no bounds or are stored in a way whose
// statistics cannot be trusted (INT96).
func newBounds(t iceberg.Type, col *schema.Column) *bounds {
	phys := col.PhysicalType()
	isInt := phys == parquet.Types.Int32 || phys == parquet.Types.Int64
	isBytes := phys == parquet.Types.ByteArray || phys == parquet.Types.FixedLenByteArray
	switch t.(type) {
	case iceberg.BooleanType:
		if phys == parquet.Types.Boolean {
			return &bounds{kind: boundBool}
		}
	case iceberg.Int32Type, iceberg.DateType:
		if phys == parquet.Types.Int32 {
			return &bounds{kind: boundInt, scale: 1}
		}
	case iceberg.Int64Type:
		if isInt {
			return &bounds{kind: boundInt, scale: 1, wide: true}
		}
	case iceberg.TimeType, iceberg.TimestampType, iceberg.TimestampTzType, iceberg.TimestampNsType, iceberg.TimestampTzNsType:
		if s := timeScale(t, col); isInt && s > 0 {
			return &bounds{kind: boundInt, scale: s, wide: true}
		}
	case iceberg.Float32Type:
		if phys == parquet.Types.Float {
			return &bounds{kind: boundFloat}
		}
	case iceberg.Float64Type:
		if phys == parquet.Types.Double || phys == parquet.Types.Float {
			return &bounds{kind: boundFloat, wide: true}
		}
	case iceberg.StringType:
		if isBytes {
			return &bounds{kind: boundString}
		}
	case iceberg.BinaryType, iceberg.FixedType:
		if isBytes {
			return &bounds{kind: boundBytes}
		}
	case iceberg.UUIDType:
		if isBytes {
			return &bounds{kind: boundUUID}
		}
	case iceberg.DecimalType:
		if isInt {
			return &bounds{kind: boundDecInt}
		}
		if isBytes {
			return &bounds{kind: boundDecimal}
		}
	}
	return nil
}

// timeScale is how many of Iceberg's units one of the file's is; 0 when the
// file does not say or is finer, so that its bounds would not be exact.
func timeScale(t iceberg.Type, col *schema.Column) int64 {
	var unit schema.TimeUnitType
	switch l := col.LogicalType().(type) {
	case schema.TimestampLogicalType:
		unit = l.TimeUnit()
	case schema.TimeLogicalType:
		unit = l.TimeUnit()
	default:
		return 0
	}
	perSecond := map[schema.TimeUnitType]int64{
		schema.TimeUnitMillis: 1e3, schema.TimeUnitMicros: 1e6, schema.TimeUnitNanos: 1e9,
	}[unit]
	want := int64(1e6)
	switch t.(type) {
	case iceberg.TimestampNsType, iceberg.TimestampTzNsType:
		want = 1e9
	}
	if perSecond == 0 || perSecond > want {
		return 0
	}
	return want / perSecond
}

// widen takes in one row group's statistics; false when they are unusable.
func (b *bounds) widen(lo, hi []byte) bool {
	switch b.kind {
	case boundInt, boundBool, boundDecInt:
		l, ok1 := plainInt(lo)
		h, ok2 := plainInt(hi)
		if !ok1 || !ok2 || l > h {
			return false
		}
		if !b.any || l < b.lo {
			b.lo = l
		}
		if !b.any || h > b.hi {
			b.hi = h
		}
	case boundFloat:
		l, ok1 := plainFloat(lo)
		h, ok2 := plainFloat(hi)
		if !ok1 || !ok2 || math.IsNaN(l) || math.IsNaN(h) || l > h {
			return false
		}
		if !b.any || l < b.flo {
			b.flo = l
		}
		if !b.any || h > b.fhi {
			b.fhi = h
		}
	default:
		if b.compare(lo, hi) > 0 {
			return false
		}
		if !b.any || b.compare(lo, b.blo) < 0 {
			b.blo = bytes.Clone(lo)
		}
		if !b.any || b.compare(hi, b.bhi) > 0 {
			b.bhi = bytes.Clone(hi)
		}
	}
	b.any = true
	return true
}

func (b *bounds) compare(x, y []byte) int {
	if b.kind == boundDecimal {
		return signedBig(x).Cmp(signedBig(y))
	}
	return bytes.Compare(x, y)
}

// serialized gives the two bounds in Iceberg's single-value serialisation, nil
// for one that cannot be stated.
func (b *bounds) serialized(mode metricsMode) (lower, upper []byte) {
	if !b.any {
		return nil, nil
	}
	switch b.kind {
	case boundBool:
		return []byte{byte(b.lo & 1)}, []byte{byte(b.hi & 1)}
	case boundInt:
		return b.integer(b.lo), b.integer(b.hi)
	case boundFloat:
		return b.float(b.flo, true), b.float(b.fhi, false)
	case boundDecInt:
		return minimalBytes(big.NewInt(b.lo)), minimalBytes(big.NewInt(b.hi))
	case boundDecimal:
		return minimalBytes(signedBig(b.blo)), minimalBytes(signedBig(b.bhi))
	case boundString:
		if mode.kind == metricsFull {
			return b.blo, b.bhi
		}
		return truncateString(b.blo, mode.length), truncateStringUp(b.bhi, mode.length)
	}
	if mode.kind == metricsFull || b.kind == boundUUID {
		return b.blo, b.bhi
	}
	return b.blo[:min(len(b.blo), mode.length)], truncateBytesUp(b.bhi, mode.length)
}

func (b *bounds) integer(v int64) []byte {
	if !b.wide {
		return binary.LittleEndian.AppendUint32(nil, uint32(int32(v)))
	}
	if hi, lo := v*b.scale, v; b.scale != 1 && hi/b.scale != lo {
		return nil // out of the range of Iceberg's unit
	}
	return binary.LittleEndian.AppendUint64(nil, uint64(v*b.scale))
}

// float states a bound so that it holds for both zeros: Parquet does not tell
// -0.0 from 0.0 in statistics, Iceberg orders them.
func (b *bounds) float(v float64, lower bool) []byte {
	if v == 0 {
		v = 0
		if lower {
			v = math.Copysign(0, -1)
		}
	}
	if !b.wide {
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))
	}
	return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))
}

func plainInt(p []byte) (int64, bool) {
	switch len(p) {
	case 1:
		return int64(p[0]), true
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(p))), true
	case 8:
		return int64(binary.LittleEndian.Uint64(p)), true
	}
	return 0, false
}

func plainFloat(p []byte) (float64, bool) {
	switch len(p) {
	case 4:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p))), true
	case 8:
		return math.Float64frombits(binary.LittleEndian.Uint64(p)), true
	}
	return 0, false
}

func signedBig(p []byte) *big.Int {
	n := new(big.Int).SetBytes(p)
	if len(p) > 0 && p[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(p))))
	}
	return n
}

// minimalBytes is the shortest big-endian two's complement form.
func minimalBytes(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0]&0x80 != 0 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := n.BitLen()/8 + 1
	b := new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).Bytes()
	if len(b) > 1 && b[0] == 0xff && b[1]&0x80 != 0 {
		b = b[1:]
	}
	return b
}

// truncateString cuts to n characters, which is a lower bound of the string.
func truncateString(s []byte, n int) []byte {
	at := 0
	for range n {
		if at >= len(s) {
			return s
		}
		_, size := utf8.DecodeRune(s[at:])
		at += size
	}
	return s[:at]
}

// truncateStringUp cuts to n characters and raises the last one that can be
// raised, which is an upper bound; nil when none can.
func truncateStringUp(s []byte, n int) []byte {
	cut := truncateString(s, n)
	if len(cut) == len(s) {
		return s
	}
	runes := []rune(string(cut))
	for i := len(runes) - 1; i >= 0; i-- {
		r := runes[i]
		if r == utf8.RuneError {
			return nil // not UTF-8: it has no next character
		}
		if r++; r >= 0xd800 && r <= 0xdfff {
			r = 0xe000 // over the surrogates, which are no characters
		}
		if r <= utf8.MaxRune {
			return []byte(string(append(runes[:i:i], r)))
		}
	}
	return nil
}

func truncateBytesUp(p []byte, n int) []byte {
	if len(p) <= n {
		return p
	}
	out := bytes.Clone(p[:n])
	for i := len(out) - 1; i >= 0; i-- {
		if out[i] != 0xff {
			out[i]++
			return out[:i+1]
		}
	}
	return nil
}
