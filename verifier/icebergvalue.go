package verifier

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"unicode/utf8"

	iceberg "github.com/apache/iceberg-go"
	"github.com/google/uuid"

	"github.com/expunge/expunge/keyset"
)

// icebergBound turns a bound, serialised as Appendix D of the Iceberg
// specification says, into the canonical form of a key part. A bound of a
// promoted column may have the narrower width it was written with.
func icebergBound(c *converter, typ iceberg.Type, v []byte) ([]byte, bool) {
	switch c.part.Type.Kind {
	case keyset.KindInt64, keyset.KindDate:
		if d, ok := typ.(iceberg.DecimalType); ok {
			return unscaled(c, fromTwos(v), d.Scale())
		}
		n, ok := littleEndian(v)
		return appendSigned(nil, n), ok
	case keyset.KindDecimal:
		if d, ok := typ.(iceberg.DecimalType); ok {
			return unscaled(c, fromTwos(v), d.Scale())
		}
		n, ok := littleEndian(v)
		if !ok {
			return nil, false
		}
		return unscaled(c, big.NewInt(n), 0)
	case keyset.KindUUID:
		return c.uuid(nil, v)
	case keyset.KindBinary:
		if c.codec != nil && typ.Equals(iceberg.PrimitiveTypes.String) {
			return c.decoded(nil, v)
		}
		return v, true
	default:
		return c.text(nil, v)
	}
}

func littleEndian(v []byte) (int64, bool) {
	switch len(v) {
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(v))), true
	case 8:
		return int64(binary.LittleEndian.Uint64(v)), true
	}
	return 0, false
}

// unscaled converts an unscaled value at a scale to the key part's form.
func unscaled(c *converter, u *big.Int, scale int) ([]byte, bool) {
	at := *c
	at.scale = scale
	return at.rescaled(nil, u)
}

// icebergValue turns a partition value, as iceberg-go decodes it, into the
// canonical form of a key part.
func icebergValue(c *converter, v any) ([]byte, bool) {
	switch v := v.(type) {
	case int32:
		return signedPart(c, int64(v))
	case int64:
		return signedPart(c, v)
	case int:
		return signedPart(c, int64(v))
	case iceberg.Date:
		return appendSigned(nil, int64(v)), c.part.Type.Kind == keyset.KindDate
	case string:
		switch c.part.Type.Kind {
		case keyset.KindUUID:
			return c.uuid(nil, []byte(v))
		case keyset.KindString:
			return c.text(nil, []byte(v))
		}
	case []byte:
		if c.part.Type.Kind == keyset.KindBinary || c.part.Type.Kind == keyset.KindUUID && len(v) == 16 {
			return v, true
		}
	case uuid.UUID:
		return v[:], c.part.Type.Kind == keyset.KindUUID
	case [16]byte:
		return v[:], c.part.Type.Kind == keyset.KindUUID
	case iceberg.Decimal:
		return unscaled(c, v.Val.BigInt(), v.Scale)
	case iceberg.DecimalLiteral:
		return unscaled(c, v.Val.BigInt(), v.Scale)
	}
	return nil, false
}

func signedPart(c *converter, n int64) ([]byte, bool) {
	switch c.part.Type.Kind {
	case keyset.KindInt64, keyset.KindDate:
		return appendSigned(nil, n), true
	case keyset.KindDecimal:
		return unscaled(c, big.NewInt(n), 0)
	}
	return nil, false
}

// icebergCut is the number of characters at which writers cut string bounds by
// default (write.metadata.metrics.default, "truncate(16)").
const icebergCut = 16

// cutKey says whether a string key begins with a bound that was cut short. An
// upper bound was raised in its last character then.
func cutKey(keys *keyset.Set, v []byte) bool { return cutFrom(keys, v) != nil }

// cutFrom returns the first key that a bound may have been cut from.
func cutFrom(keys *keyset.Set, v []byte) []byte {
	p := keys.Schema()[0]
	if p.Type.Kind != keyset.KindString && p.Type.Kind != keyset.KindBinary || len(p.Normalize) > 0 {
		return nil
	}
	if utf8.RuneCount(v) < icebergCut && len(v) < icebergCut {
		return nil
	}
	for _, prefix := range [][]byte{v, lowered(v)} {
		for key := range keys.PartRange(0, prefix, nil) {
			if bytes.HasPrefix(key, prefix) {
				return bytes.Clone(key)
			}
			break // sorted: the first at or above the prefix decides
		}
	}
	return nil
}

// lowered undoes the raising of a cut upper bound.
func lowered(v []byte) []byte {
	r, n := utf8.DecodeLastRune(v)
	if n == 0 {
		return v
	}
	if r == utf8.RuneError {
		out := bytes.Clone(v)
		out[len(out)-1]--
		return out
	}
	return utf8.AppendRune(bytes.Clone(v[:len(v)-n]), r-1)
}
