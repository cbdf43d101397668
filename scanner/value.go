package scanner

import (
	"bytes"
	"fmt"
	"math/big"

	"github.com/expunge/expunge/keyset"
)

// KeyPart compares values that carry their own type, as JSON's do, or none, as
// CSV's, with one part of a key. A KeyPart is safe for concurrent use.
//
// What can equal what: int64 and decimal keys equal numbers of the same value,
// read from their digits and never through a float: 12, 12.0 and 1.2e1 are one
// number, and 9007199254740993 is not its neighbour. Strings equal strings,
// normalised as the key's part declares. UUIDs, dates, decimals and encoded
// binary are also found in text.
type KeyPart struct {
	typ  keyset.Type
	text *keyset.Matcher // of strings, UUIDs and encoded binary as text
	raw  *keyset.Matcher // of binary and UUIDs as bytes
}

// NewKeyParts binds the parts of a set. ErrType names a part that text cannot
// stand for: binary without a declared encoding.
func NewKeyParts(set *keyset.Set) ([]KeyPart, error) {
	parts := make([]KeyPart, len(set.Schema()))
	for i, p := range set.Schema() {
		parts[i].typ = p.Type
		one := set.PartSet(i)
		switch p.Type.Kind {
		case keyset.KindString, keyset.KindUUID, keyset.KindBinary:
			m, err := keyset.NewMatcher(one, []keyset.Column{{Physical: keyset.PhysBytes, Logical: keyset.Logical{Kind: keyset.LogicalString}}})
			if err != nil && p.Type.Kind != keyset.KindBinary {
				return nil, err
			}
			parts[i].text = m
			if p.Type.Kind != keyset.KindString {
				if parts[i].raw, err = keyset.NewMatcher(one, []keyset.Column{{Physical: keyset.PhysBytes}}); err != nil {
					return nil, err
				}
			}
		}
	}
	return parts, nil
}

// Number appends the canonical form of a number written as JSON writes it.
// comparable says whether numbers are compared with such keys at all.
func (p *KeyPart) Number(dst, literal []byte) (out []byte, ok, comparable bool) {
	switch p.typ.Kind {
	case keyset.KindInt64:
		if v, ok := smallInt(literal); ok {
			return p.typ.AppendInt64(dst, v), true, true
		}
		plain, ok := plainNumber(literal)
		if !ok || bytes.IndexByte(plain, '.') >= 0 {
			return dst, false, true
		}
		out, err := p.typ.AppendText(dst, plain)
		return out, err == nil, true
	case keyset.KindDecimal:
		plain, ok := plainNumber(literal)
		if !ok {
			return dst, false, true
		}
		out, err := p.typ.AppendText(dst, plain)
		return out, err == nil, true
	}
	return dst, false, false
}

// Int appends the canonical form of an integer.
func (p *KeyPart) Int(dst []byte, v int64) (out []byte, ok, comparable bool) {
	if p.typ.Kind == keyset.KindInt64 || p.typ.Kind == keyset.KindDecimal {
		if p.typ.Kind == keyset.KindDecimal {
			out, err := p.typ.AppendText(dst, appendInt(nil, v))
			return out, err == nil, true
		}
		return p.typ.AppendInt64(dst, v), true, true
	}
	return dst, false, false
}

// Unscaled appends the canonical form of a decimal: its unscaled value, big
// endian in two's complement, and its scale.
func (p *KeyPart) Unscaled(dst, unscaled []byte, scale int) (out []byte, ok, comparable bool) {
	if p.typ.Kind != keyset.KindInt64 && p.typ.Kind != keyset.KindDecimal {
		return dst, false, false
	}
	v := new(big.Int).SetBytes(unscaled)
	if len(unscaled) > 0 && unscaled[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(unscaled))))
	}
	return p.Number(dst, fmt.Appendf(nil, "%de-%d", v, scale))
}

// Date appends the canonical form of days since 1970-01-01.
func (p *KeyPart) Date(dst []byte, days int32) (out []byte, ok, comparable bool) {
	if p.typ.Kind != keyset.KindDate {
		return dst, false, false
	}
	return p.typ.AppendInt64(dst, int64(days)), true, true
}

// String appends the canonical form of a string that is a string: numbers in
// quotes are no numbers.
func (p *KeyPart) String(dst, s []byte) (out []byte, ok, comparable bool) {
	switch p.typ.Kind {
	case keyset.KindInt64:
		return dst, false, false
	case keyset.KindDecimal, keyset.KindDate:
		return p.Text(dst, s)
	}
	if p.text == nil {
		return dst, false, false
	}
	out, ok = p.text.AppendPart(dst, 0, 0, s)
	return out, ok, true
}

// Bytes appends the canonical form of binary.
func (p *KeyPart) Bytes(dst, b []byte) (out []byte, ok, comparable bool) {
	if p.raw == nil {
		return dst, false, false
	}
	out, ok = p.raw.AppendPart(dst, 0, 0, b)
	return out, ok, true
}

// Text appends the canonical form of a value without a type: numbers, dates
// and UUIDs are read from it, with spaces around them.
func (p *KeyPart) Text(dst, s []byte) (out []byte, ok, comparable bool) {
	switch p.typ.Kind {
	case keyset.KindInt64, keyset.KindDecimal:
		s = bytes.TrimSpace(s)
		if plain, ok := plainNumber(s); ok {
			return p.Number(dst, plain)
		}
		return dst, false, false
	case keyset.KindDate:
		out, err := p.typ.AppendText(dst, bytes.TrimSpace(s))
		return out, err == nil, err == nil
	case keyset.KindUUID:
		out, ok, _ := p.String(dst, bytes.TrimSpace(s))
		return out, ok, ok
	}
	return p.String(dst, s)
}

func appendInt(dst []byte, v int64) []byte {
	if v < 0 {
		dst = append(dst, '-')
	}
	u := uint64(v)
	if v < 0 {
		u = -u
	}
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + u%10)
		if u /= 10; u == 0 {
			return append(dst, b[i:]...)
		}
	}
}

// smallInt reads up to 18 digits.
func smallInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var v int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if neg {
		v = -v
	}
	return v, true
}

// maxDigits bounds what an exponent may expand to; no key is as long.
const maxDigits = 80

// plainNumber writes a number without exponent, needless zeros or sign: "-1.2e1"
// is "-12", "5.0" is "5". False for what is no number, or longer than any key.
func plainNumber(b []byte) ([]byte, bool) {
	var digits []byte
	neg, i := false, 0
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		neg = b[i] == '-'
		i++
	}
	scale, seen, point := 0, false, false
	for ; i < len(b); i++ {
		c := b[i]
		if c >= '0' && c <= '9' {
			seen = true
			if point {
				scale++
			}
			if len(digits) > 0 || c != '0' {
				digits = append(digits, c)
			}
			continue
		}
		if c == '.' && !point {
			point = true
			continue
		}
		break
	}
	if !seen {
		return nil, false
	}
	if i < len(b) {
		exp, ok := exponent(b[i:])
		if !ok {
			return nil, false
		}
		scale -= exp
	}
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits, scale = digits[:len(digits)-1], scale-1
	}
	if len(digits) == 0 {
		return []byte{'0'}, true
	}
	if len(digits) > maxDigits || scale > maxDigits || scale < -maxDigits {
		return nil, false
	}
	var out []byte
	if neg {
		out = append(out, '-')
	}
	switch {
	case scale <= 0:
		out = append(append(out, digits...), bytes.Repeat([]byte{'0'}, -scale)...)
	case scale < len(digits):
		out = append(append(append(out, digits[:len(digits)-scale]...), '.'), digits[len(digits)-scale:]...)
	default:
		out = append(append(append(out, '0', '.'), bytes.Repeat([]byte{'0'}, scale-len(digits))...), digits...)
	}
	return out, true
}

// exponent reads "e5", "E-3"; huge ones are cut to what is huge enough.
func exponent(b []byte) (int, bool) {
	if len(b) < 2 || b[0] != 'e' && b[0] != 'E' {
		return 0, false
	}
	b = b[1:]
	neg := b[0] == '-'
	if b[0] == '-' || b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	v := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = min(v*10+int(c-'0'), 1<<20)
	}
	if neg {
		v = -v
	}
	return v, true
}
