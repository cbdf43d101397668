package verifier

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"golang.org/x/text/unicode/norm"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// converter turns a column's stored values into the canonical bytes of a key
// part. It is written from facts/key-filters' rules and Parquet's
// LogicalTypes, without the code that the scanner uses.
type converter struct {
	part  keyset.Part
	phys  parquet.Type
	width int
	conv  func(c *converter, dst, v []byte) ([]byte, bool)

	unsigned bool
	scale    int // of a decimal column
	norm     []func([]byte) []byte
	codec    func([]byte) ([]byte, error)
}

// newConverter binds a key part to a column; warehouse.ErrType when their
// values cannot be compared.
func newConverter(p keyset.Part, d *schema.Column) (*converter, error) {
	c := &converter{part: p, phys: d.PhysicalType(), width: d.TypeLength()}
	l := d.LogicalType()
	plain := l == nil || l.IsNone() || !l.IsValid()
	text := plain
	if _, ok := l.(schema.StringLogicalType); ok {
		text = true
	}
	raw := c.phys == parquet.Types.ByteArray || c.phys == parquet.Types.FixedLenByteArray
	if err := c.rules(); err != nil {
		return nil, err
	}
	switch p.Type.Kind {
	case keyset.KindInt64:
		c.conv = c.integer(l, plain)
	case keyset.KindDecimal:
		if c.integer(l, plain) != nil && !c.unsigned {
			c.conv = (*converter).decimal
		}
	case keyset.KindDate:
		if _, ok := l.(schema.DateLogicalType); ok && c.phys == parquet.Types.Int32 {
			c.conv = (*converter).number
		}
	case keyset.KindUUID:
		_, isUUID := l.(schema.UUIDLogicalType)
		if raw && (isUUID || text) {
			c.conv = (*converter).uuid
		}
	case keyset.KindString:
		if raw && text {
			c.conv = (*converter).text
		}
	case keyset.KindBinary:
		switch {
		case raw && plain:
			c.conv = (*converter).raw
		case raw && text && c.codec != nil:
			c.conv = (*converter).decoded
		}
	}
	if c.conv == nil {
		return nil, fmt.Errorf("key part %q is %s: %w", p.Name, p.Type, warehouse.ErrType)
	}
	return c, nil
}

// integer picks the conversion of a numeric column, nil when it is none.
func (c *converter) integer(l schema.LogicalType, plain bool) func(*converter, []byte, []byte) ([]byte, bool) {
	if d, ok := l.(schema.DecimalLogicalType); ok {
		c.scale = int(d.Scale())
		return (*converter).decimal
	}
	if c.phys != parquet.Types.Int32 && c.phys != parquet.Types.Int64 {
		return nil
	}
	if i, ok := l.(schema.IntLogicalType); ok {
		c.unsigned = !i.IsSigned()
	} else if !plain {
		return nil
	}
	return (*converter).number
}

// append adds the canonical form of a stored value; false: it can never be a key.
func (c *converter) append(dst, v []byte) ([]byte, bool) { return c.conv(c, dst, v) }

// stored reads an integer as the file stores it.
func (c *converter) stored(v []byte) (n int64, ok bool) {
	switch {
	case c.phys == parquet.Types.Int32 && c.unsigned:
		return int64(binary.LittleEndian.Uint32(v)), true
	case c.phys == parquet.Types.Int32:
		return int64(int32(binary.LittleEndian.Uint32(v))), true
	default:
		n = int64(binary.LittleEndian.Uint64(v))
		return n, !c.unsigned || n >= 0
	}
}

func (c *converter) number(dst, v []byte) ([]byte, bool) {
	n, ok := c.stored(v)
	if !ok {
		return dst, false
	}
	return appendSigned(dst, n), true
}

// appendSigned is the canonical form of int64 and date: big endian, sign flipped.
func appendSigned(dst []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(n)^1<<63)
}

// decimal converts unscaled values from the column's scale to the key's. What
// is not exact at that scale, or has too many digits, is no key.
func (c *converter) decimal(dst, v []byte) ([]byte, bool) {
	u := new(big.Int)
	if c.phys == parquet.Types.Int32 || c.phys == parquet.Types.Int64 {
		n, _ := c.stored(v)
		u.SetInt64(n)
	} else {
		u = fromTwos(v)
	}
	return c.rescaled(dst, u)
}

// rescaled appends an unscaled value that stands at the column's scale.
func (c *converter) rescaled(dst []byte, u *big.Int) ([]byte, bool) {
	want := 0
	if c.part.Type.Kind == keyset.KindDecimal {
		want = c.part.Type.Scale
	}
	for s := c.scale; s < want; s++ {
		u.Mul(u, ten)
	}
	for s := c.scale; s > want; s-- {
		var rest big.Int
		if u.QuoRem(u, ten, &rest); rest.Sign() != 0 {
			return dst, false
		}
	}
	if c.part.Type.Kind == keyset.KindInt64 {
		if !u.IsInt64() {
			return dst, false
		}
		return appendSigned(dst, u.Int64()), true
	}
	if len(new(big.Int).Abs(u).String()) > c.part.Type.Precision {
		return dst, false
	}
	return appendTwos128(dst, u), true
}

var (
	ten    = big.NewInt(10)
	two127 = new(big.Int).Lsh(big.NewInt(1), 127)
)

// fromTwos reads a big-endian two's complement number.
func fromTwos(v []byte) *big.Int {
	u := new(big.Int).SetBytes(v)
	if len(v) > 0 && v[0]&0x80 != 0 {
		u.Sub(u, new(big.Int).Lsh(big.NewInt(1), uint(8*len(v))))
	}
	return u
}

// appendTwos128 is the canonical form of a decimal: 16 bytes, sign flipped,
// which is the number plus 2^127.
func appendTwos128(dst []byte, u *big.Int) []byte {
	var b [16]byte
	new(big.Int).Add(u, two127).FillBytes(b[:])
	return append(dst, b[:]...)
}

// uuid takes 16 raw bytes, or the usual text forms.
func (c *converter) uuid(dst, v []byte) ([]byte, bool) {
	if len(v) == 16 {
		return append(dst, v...), true
	}
	s := strings.ToLower(string(c.normalized(v)))
	s = strings.TrimPrefix(s, "urn:uuid:")
	if len(s) == 38 && s[0] == '{' && s[37] == '}' {
		s = s[1:37]
	}
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return dst, false
		}
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return dst, false
	}
	return append(dst, b...), true
}

func (c *converter) raw(dst, v []byte) ([]byte, bool) { return append(dst, v...), true }

func (c *converter) text(dst, v []byte) ([]byte, bool) { return append(dst, c.normalized(v)...), true }

func (c *converter) decoded(dst, v []byte) ([]byte, bool) {
	b, err := c.codec(c.normalized(v))
	if err != nil {
		return dst, false
	}
	return append(dst, b...), true
}

// normalized applies the part's rules; without rules it is v itself.
func (c *converter) normalized(v []byte) []byte {
	for _, step := range c.norm {
		v = step(v)
	}
	return v
}

// rules compiles the declared normalisation.
func (c *converter) rules() error {
	str := c.part.Type.Kind == keyset.KindString
	for _, r := range c.part.Normalize {
		switch {
		case r == "trim":
			c.norm = append(c.norm, bytes.TrimSpace)
		case r == "hex":
			c.codec = func(b []byte) ([]byte, error) { return hex.DecodeString(string(b)) }
		case r == "base64":
			c.codec = func(b []byte) ([]byte, error) { return decodeBase64(base64.StdEncoding, b) }
		case r == "base64url":
			c.codec = func(b []byte) ([]byte, error) { return decodeBase64(base64.URLEncoding, b) }
		case !str: // letter case never matters to other types
		case r == "lowercase":
			c.norm = append(c.norm, mapRunes(unicode.ToLower))
		case r == "uppercase":
			c.norm = append(c.norm, mapRunes(unicode.ToUpper))
		case r == "nfc":
			c.norm = append(c.norm, norm.NFC.Bytes)
		case r == "nfkc":
			c.norm = append(c.norm, norm.NFKC.Bytes)
		default:
			return fmt.Errorf("normalisation %q: %w", r, warehouse.ErrType)
		}
	}
	return nil
}

// decodeBase64 takes padded and unpadded text.
func decodeBase64(e *base64.Encoding, b []byte) ([]byte, error) {
	return e.WithPadding(base64.NoPadding).DecodeString(strings.TrimRight(string(b), "="))
}

// mapRunes changes case rune by rune and leaves invalid bytes as they are.
func mapRunes(f func(rune) rune) func([]byte) []byte {
	return func(v []byte) []byte {
		out := make([]byte, 0, len(v))
		for len(v) > 0 {
			r, n := utf8.DecodeRune(v)
			if r == utf8.RuneError && n == 1 {
				out = append(out, v[0])
			} else {
				out = utf8.AppendRune(out, f(r))
			}
			v = v[n:]
		}
		return out
	}
}

// appendTuplePart adds a canonical part to a composite key: tag, length, bytes.
func appendTuplePart(dst []byte, k keyset.Kind, part []byte) []byte {
	dst = append(dst, byte(k))
	dst = binary.AppendUvarint(dst, uint64(len(part)))
	return append(dst, part...)
}
