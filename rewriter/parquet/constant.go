package parquet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// ErrConstant: a redaction's constant is not a value of its column's type.
var ErrConstant = errors.New("constant is not a value of the column's type")

// parseConstant turns a constant's text into the column's PLAIN bytes, without
// the length of a byte array. The text itself never reaches an error.
func parseConstant(c *pq.Column, text string) ([]byte, error) {
	a := annotationOf(c)
	switch a.kind {
	case decimalType:
		return parseDecimal(c, a.scale, text)
	case dateType:
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return nil, ErrConstant
		}
		return le32(uint32(int32(t.Unix() / 86400))), nil
	case timestampType:
		t, err := parseTime(text)
		if err != nil || c.Type != format.Int64 {
			return nil, ErrConstant
		}
		return timestampBytes(t, a.unit)
	case uuidType:
		return parseUUID(text)
	case unorderedType, halfType:
		return nil, &rewriter.UnsupportedError{What: "constant for this logical type"}
	}
	return parsePhysical(c, a, text)
}

func parsePhysical(c *pq.Column, a annotation, text string) ([]byte, error) {
	switch c.Type {
	case format.Boolean:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return nil, ErrConstant
		}
		if v {
			return []byte{1}, nil
		}
		return []byte{0}, nil
	case format.Int32, format.Int64:
		return parseInt(c, a, text)
	case format.Float, format.Double:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, ErrConstant
		}
		if c.Type == format.Float {
			return le32(math.Float32bits(float32(v))), nil
		}
		return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)), nil
	case format.ByteArray:
		return []byte(text), nil
	case format.FixedLenByteArray:
		if len(text) == c.TypeLength {
			return []byte(text), nil
		}
		if b, err := hex.DecodeString(strings.TrimPrefix(text, "0x")); err == nil && len(b) == c.TypeLength {
			return b, nil
		}
		return nil, ErrConstant
	}
	return nil, &rewriter.UnsupportedError{What: "constant for this physical type"}
}

func parseInt(c *pq.Column, a annotation, text string) ([]byte, error) {
	bits := 64
	if c.Type == format.Int32 {
		bits = 32
	}
	if a.kind == unsignedType {
		v, err := strconv.ParseUint(text, 10, bits)
		if err != nil {
			return nil, ErrConstant
		}
		return leInt(v, bits), nil
	}
	v, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		return nil, ErrConstant
	}
	return leInt(uint64(v), bits), nil
}

func leInt(v uint64, bits int) []byte {
	if bits == 32 {
		return le32(uint32(v))
	}
	return binary.LittleEndian.AppendUint64(nil, v)
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func parseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Parse(time.DateOnly, text)
}

func timestampBytes(t time.Time, unit format.TimeUnitValue) ([]byte, error) {
	var v int64
	switch unit.(type) {
	case *format.MilliSeconds:
		v = t.UnixMilli()
	case *format.MicroSeconds:
		v = t.UnixMicro()
	case *format.NanoSeconds:
		v = t.UnixNano()
	default:
		return nil, &rewriter.UnsupportedError{What: "timestamp unit"}
	}
	return binary.LittleEndian.AppendUint64(nil, uint64(v)), nil
}

func parseUUID(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return nil, ErrConstant
	}
	return b, nil
}

// parseDecimal scales the text to the column's scale; more digits than the
// scale holds are refused rather than rounded.
func parseDecimal(c *pq.Column, scale int32, text string) ([]byte, error) {
	r, ok := new(big.Rat).SetString(text)
	if !ok || scale < 0 || scale > 1000 {
		return nil, ErrConstant
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !r.IsInt() {
		return nil, ErrConstant
	}
	v := r.Num()
	switch c.Type {
	case format.Int32, format.Int64:
		bits := 32
		if c.Type == format.Int64 {
			bits = 64
		}
		if !v.IsInt64() || bits == 32 && v.Int64() != int64(int32(v.Int64())) {
			return nil, ErrConstant
		}
		return leInt(uint64(v.Int64()), bits), nil
	}
	width := c.TypeLength
	if c.Type == format.ByteArray {
		width = v.BitLen()/8 + 1
	}
	if v.BitLen() >= width*8 {
		return nil, ErrConstant
	}
	if v.Sign() < 0 {
		v = new(big.Int).Add(v, new(big.Int).Lsh(big.NewInt(1), uint(width*8)))
	}
	return v.FillBytes(make([]byte, width)), nil
}
