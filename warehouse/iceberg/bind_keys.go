package iceberg

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// errNoKeyType: values of the type are never keys.
var errNoKeyType = errors.New("a column of this type holds no keys")

// storedAs says how planning hands values of an Iceberg type to a matcher.
// Decimals always come as 16 bytes, whichever way a file stores them.
func storedAs(t icebergo.Type) (keyset.Column, error) {
	switch t := t.(type) {
	case icebergo.Int32Type:
		return keyset.Column{Physical: keyset.PhysInt32}, nil
	case icebergo.Int64Type:
		return keyset.Column{Physical: keyset.PhysInt64}, nil
	case icebergo.DateType:
		return keyset.Column{Physical: keyset.PhysInt32, Logical: keyset.Logical{Kind: keyset.LogicalDate}}, nil
	case icebergo.StringType:
		return keyset.Column{Physical: keyset.PhysBytes, Logical: keyset.Logical{Kind: keyset.LogicalString}}, nil
	case icebergo.BinaryType:
		return keyset.Column{Physical: keyset.PhysBytes}, nil
	case icebergo.FixedType:
		return keyset.Column{Physical: keyset.PhysFixed, Width: t.Len()}, nil
	case icebergo.UUIDType:
		return keyset.Column{Physical: keyset.PhysFixed, Width: 16, Logical: keyset.Logical{Kind: keyset.LogicalUUID}}, nil
	case icebergo.DecimalType:
		return keyset.Column{Physical: keyset.PhysFixed, Width: 16, Logical: keyset.Logical{
			Kind: keyset.LogicalDecimal, Precision: t.Precision(), Scale: t.Scale(),
		}}, nil
	}
	return keyset.Column{}, errNoKeyType
}

// bindDefaults looks at match columns with an initial default (specification,
// "Default values"): every row of the files written before the column has it,
// and those files do not store it. One that is a key, or a part of one, is kept as
// the column's constant; one that cannot be compared with the keys is refused.
func bindDefaults(m warehouse.Match, b binding) error {
	for i, f := range b.fields {
		d := f.leaf().InitialDefault
		if d == nil {
			continue
		}
		text, ok := defaultText(d, f.leaf().Type)
		part := m.Keys.Schema()[i]
		if ok {
			key, err := part.Type.AppendText(nil, text)
			if err == nil && len(part.Normalize) == 0 && len(key) > 0 {
				if !m.Keys.Overlaps(i, key, key) {
					continue
				}
				if !f.repeated() {
					b.Columns[i].Const = key
					continue
				}
			}
		}
		return fmt.Errorf("column %q has an initial default that cannot be compared with the keys: %w", m.Columns[i], warehouse.ErrUnsupported)
	}
	return nil
}

// defaultText is a default, decoded from JSON, as text of the column's type.
func defaultText(v any, t icebergo.Type) ([]byte, bool) {
	switch v := v.(type) {
	case string:
		switch t.(type) {
		case icebergo.BinaryType, icebergo.FixedType:
			b, err := hex.DecodeString(v)
			return b, err == nil
		}
		return []byte(v), true
	case []byte:
		return v, true
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
			return nil, false
		}
		return strconv.AppendInt(nil, int64(v), 10), true
	case int32:
		return strconv.AppendInt(nil, int64(v), 10), true
	case int64:
		return strconv.AppendInt(nil, v, 10), true
	}
	return nil, false
}

// decimalOf is an unscaled value as iceberg-go's decimal; false beyond 127 bits.
func decimalOf(n *big.Int, scale int) (icebergo.Decimal, bool) {
	if n.BitLen() > 127 {
		return icebergo.Decimal{}, false
	}
	return icebergo.Decimal{Val: decimal128.FromBigInt(n), Scale: scale}, true
}
