package parquet

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// order is how a column's values compare (parquet.thrift, ColumnOrder).
type order uint8

const (
	orderNone     order = iota // INT96, GEOMETRY, VARIANT, unknown: no bounds
	orderSigned                // INT32, INT64
	orderUnsigned              // UINT_*
	orderFloat                 // FLOAT, DOUBLE
	orderHalf                  // FLOAT16
	orderBytes                 // byte-wise unsigned, also BOOLEAN
	orderDecimal               // big-endian two's complement
)

func orderOf(c *pq.Column) order {
	a := annotationOf(c)
	if a.kind == unorderedType {
		return orderNone
	}
	switch c.Type {
	case format.Boolean:
		return orderBytes
	case format.Int32, format.Int64:
		if a.kind == unsignedType {
			return orderUnsigned
		}
		return orderSigned
	case format.Float, format.Double:
		return orderFloat
	case format.ByteArray, format.FixedLenByteArray:
		switch a.kind {
		case halfType:
			return orderHalf
		case decimalType:
			return orderDecimal
		}
		return orderBytes
	}
	return orderNone
}

// compare orders two PLAIN-encoded values (byte arrays without length).
func (o order) compare(a, b []byte) int {
	switch o {
	case orderSigned:
		if len(a) == 4 && len(b) == 4 {
			return cmp.Compare(int32(binary.LittleEndian.Uint32(a)), int32(binary.LittleEndian.Uint32(b)))
		}
		if len(a) == 8 && len(b) == 8 {
			return cmp.Compare(int64(binary.LittleEndian.Uint64(a)), int64(binary.LittleEndian.Uint64(b)))
		}
	case orderUnsigned:
		if len(a) == 4 && len(b) == 4 {
			return cmp.Compare(binary.LittleEndian.Uint32(a), binary.LittleEndian.Uint32(b))
		}
		if len(a) == 8 && len(b) == 8 {
			return cmp.Compare(binary.LittleEndian.Uint64(a), binary.LittleEndian.Uint64(b))
		}
	case orderFloat, orderHalf:
		return cmp.Compare(floatOf(a), floatOf(b))
	case orderDecimal:
		return compareTwos(a, b)
	}
	return bytes.Compare(a, b)
}

// floatOf widens a PLAIN half, float or double.
func floatOf(b []byte) float64 {
	switch len(b) {
	case 2:
		return halfFloat(binary.LittleEndian.Uint16(b))
	case 4:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case 8:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return math.NaN()
}

func halfFloat(h uint16) float64 {
	sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 != 0 {
		sign = -1
	}
	switch exp {
	case 0:
		return sign * frac * 0x1p-24
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1+frac/1024, exp-15)
}

// compareTwos compares big-endian two's complement numbers of any lengths.
func compareTwos(a, b []byte) int {
	na, nb := len(a) > 0 && a[0] >= 0x80, len(b) > 0 && b[0] >= 0x80
	if na != nb {
		if na {
			return -1
		}
		return 1
	}
	var fill byte
	if na {
		fill = 0xFF
	}
	for len(a) > 0 && len(a) > len(b) {
		if a[0] != fill {
			if na {
				return -1
			}
			return 1
		}
		a = a[1:]
	}
	for len(b) > 0 && len(b) > len(a) {
		if b[0] != fill {
			if na {
				return 1
			}
			return -1
		}
		b = b[1:]
	}
	return bytes.Compare(a, b)
}
