package verifier

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/warehouse"
)

// isConstant tells stored values of a column from a constant of the job file.
// It reads the text by itself, for the same reason as the rest of the package.
func isConstant(d *schema.Column, text string) (func(value []byte) bool, error) {
	bad := fmt.Errorf("the constant is no value of the column: %w", warehouse.ErrType)
	same := func(want []byte) (func([]byte) bool, error) {
		return func(v []byte) bool { return bytes.Equal(v, want) }, nil
	}
	switch l := d.LogicalType().(type) {
	case schema.DecimalLogicalType:
		r, ok := new(big.Rat).SetString(text)
		if !ok {
			return nil, bad
		}
		r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(ten, big.NewInt(int64(l.Scale())), nil)))
		if !r.IsInt() {
			return nil, bad
		}
		return func(v []byte) bool { return storedDecimal(d, v).Cmp(r.Num()) == 0 }, nil
	case schema.DateLogicalType:
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return nil, bad
		}
		return isInteger(d, t.Unix()/86400), nil
	case schema.TimestampLogicalType:
		t, err := timeOf(text)
		if err != nil {
			return nil, bad
		}
		n := map[schema.TimeUnitType]int64{schema.TimeUnitMillis: t.UnixMilli(), schema.TimeUnitMicros: t.UnixMicro(), schema.TimeUnitNanos: t.UnixNano()}
		return isInteger(d, n[l.TimeUnit()]), nil
	case schema.UUIDLogicalType:
		raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
		if err != nil || len(raw) != 16 {
			return nil, bad
		}
		return same(raw)
	}
	switch d.PhysicalType() {
	case parquet.Types.Boolean:
		t, err := strconv.ParseBool(text)
		return func(v []byte) bool { return len(v) == 1 && (v[0] != 0) == t }, err
	case parquet.Types.Int32, parquet.Types.Int64:
		n, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return nil, bad
		}
		return isInteger(d, int64(new(big.Int).And(n, allBits).Uint64())), nil
	case parquet.Types.Float:
		f, err := strconv.ParseFloat(text, 32)
		return func(v []byte) bool { return binary.LittleEndian.Uint32(v) == math.Float32bits(float32(f)) }, err
	case parquet.Types.Double:
		f, err := strconv.ParseFloat(text, 64)
		return func(v []byte) bool { return binary.LittleEndian.Uint64(v) == math.Float64bits(f) }, err
	case parquet.Types.FixedLenByteArray:
		if len(text) != d.TypeLength() {
			raw, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
			if err != nil {
				return nil, bad
			}
			return same(raw)
		}
	}
	return same([]byte(text))
}

var allBits = new(big.Int).SetUint64(math.MaxUint64)

// isInteger compares stored integers of the column's width.
func isInteger(d *schema.Column, n int64) func(v []byte) bool {
	if d.PhysicalType() == parquet.Types.Int32 {
		return func(v []byte) bool { return len(v) == 4 && binary.LittleEndian.Uint32(v) == uint32(n) }
	}
	return func(v []byte) bool { return len(v) == 8 && binary.LittleEndian.Uint64(v) == uint64(n) }
}

// storedDecimal reads a stored decimal.
func storedDecimal(d *schema.Column, v []byte) *big.Int {
	if n, ok := littleEndian(v); ok && (d.PhysicalType() == parquet.Types.Int32 || d.PhysicalType() == parquet.Types.Int64) {
		return big.NewInt(n)
	}
	return fromTwos(v)
}

func timeOf(text string) (t time.Time, err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if t, err = time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return t, err
}
