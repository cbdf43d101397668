package keyset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"time"
)

// signFlip turns two's complement into unsigned order.
const signFlip = 1 << 63

// Reasons for which text is not a value. They never carry the text.
var (
	errNotInt     = errors.New("not an integer of 64 bits")
	errNotUUID    = errors.New("not a UUID")
	errNotDecimal = errors.New("not a decimal number")
	errInexact    = errors.New("more fraction digits than the key's scale")
	errTooLarge   = errors.New("more digits than the key's precision")
	errNotDate    = errors.New("not a date (YYYY-MM-DD)")
	errNotEncoded = errors.New("not in the declared text encoding")
	errNoEncoding = errors.New("binary in text needs hex, base64 or base64url declared")
	errNotUTF8    = errors.New("not UTF-8")
)

// AppendInt64 appends the canonical form of an int64, of a date's days since
// 1970-01-01, or of a decimal's unscaled value.
func (t Type) AppendInt64(dst []byte, v int64) []byte {
	if t.Kind == KindDecimal {
		return dec128From(v).appendTo(dst)
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v)^signFlip)
}

// AppendText appends the canonical form of text as it stands: no rule of a part
// is applied (Part.AppendText does). Binary is taken byte for byte.
// The error says what the text is not, and never holds it.
func (t Type) AppendText(dst, text []byte) ([]byte, error) {
	switch t.Kind {
	case KindInt64:
		v, ok := parseInt64(text)
		if !ok {
			return dst, errNotInt
		}
		return t.AppendInt64(dst, v), nil
	case KindString, KindBinary:
		return append(dst, text...), nil
	case KindUUID:
		out, ok := appendUUIDText(dst, text)
		if !ok {
			return dst, errNotUUID
		}
		return out, nil
	case KindDecimal:
		d, err := parseDecimal(text, t.Scale)
		if err != nil {
			return dst, err
		}
		if !d.fits(t.Precision) {
			return dst, errTooLarge
		}
		return d.appendTo(dst), nil
	case KindDate:
		days, ok := parseDate(text)
		if !ok {
			return dst, errNotDate
		}
		return t.AppendInt64(dst, int64(days)), nil
	}
	return dst, fmt.Errorf("%w: %s", ErrType, t)
}

// AppendUnscaled appends the canonical form of a decimal's unscaled value at the
// type's scale; false when it has more digits than the precision.
func (t Type) AppendUnscaled(dst []byte, unscaled *big.Int) ([]byte, bool) {
	d, ok := dec128FromBytes(bigBytes(unscaled))
	if !ok || !d.fits(t.Precision) {
		return dst, false
	}
	return d.appendTo(dst), true
}

// Int64 returns the value of the canonical form of an int64, or a date's days.
func (t Type) Int64(canonical []byte) int64 {
	return int64(binary.BigEndian.Uint64(canonical) ^ signFlip)
}

// Unscaled returns a decimal's unscaled value at the type's scale.
func (t Type) Unscaled(canonical []byte) *big.Int { return dec128FromCanonical(canonical).big() }

// AppendText applies the part's normalisation and appends the canonical form.
// It compiles the rules at each call: for many values use a Builder or a Matcher.
func (p Part) AppendText(dst, text []byte) ([]byte, error) {
	r, err := compileRules(p)
	if err != nil {
		return dst, err
	}
	return appendText(dst, text, p.Type, r)
}

func appendText(dst, text []byte, t Type, r *rules) ([]byte, error) {
	switch t.Kind {
	case KindString:
		return r.appendString(dst, text), nil
	case KindBinary:
		if r.codec == codecNone {
			return dst, errNoEncoding
		}
		out, ok := r.codec.appendDecoded(dst, r.text(text))
		if !ok {
			return dst, errNotEncoded
		}
		return out, nil
	}
	return t.AppendText(dst, r.text(text))
}

// parseInt64 reads an optional sign and decimal digits, nothing else: "1.0" or
// "1e3" may have passed through a float that was not exact.
func parseInt64(b []byte) (int64, bool) {
	neg := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		neg = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false
	}
	for len(b) > 1 && b[0] == '0' {
		b = b[1:]
	}
	if len(b) > 19 {
		return 0, false
	}
	var v uint64 // 19 digits fit
	for _, c := range b {
		d := c - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	if neg {
		if v > 1<<63 {
			return 0, false
		}
		return int64(-v), true
	}
	if v > math.MaxInt64 {
		return 0, false
	}
	return int64(v), true
}

// appendUUIDText appends what parseUUID reads.
func appendUUIDText(dst, b []byte) ([]byte, bool) {
	hi, lo, ok := parseUUID(b)
	if !ok {
		return dst, false
	}
	dst = binary.BigEndian.AppendUint64(dst, hi)
	return binary.BigEndian.AppendUint64(dst, lo), true
}

// parseUUID reads 8-4-4-4-12 or 32 hexadecimal digits of any case, also in
// braces or after "urn:uuid:", as two words.
func parseUUID(b []byte) (hi, lo uint64, ok bool) {
	switch len(b) {
	case 38:
		if b[0] != '{' || b[37] != '}' {
			return 0, 0, false
		}
		b = b[1:37]
	case 45:
		if string(b[:9]) != "urn:uuid:" && string(b[:9]) != "URN:UUID:" {
			return 0, 0, false
		}
		b = b[9:]
	}
	if len(b) == 36 {
		return parseUUID36((*[36]byte)(b))
	}
	if len(b) != 32 {
		return 0, 0, false
	}
	le := binary.LittleEndian
	return fromDigits(le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:]))
}

// parseUUID36 reads 8-4-4-4-12 digits.
func parseUUID36(b *[36]byte) (hi, lo uint64, ok bool) {
	le := binary.LittleEndian
	hi, lo, ok = fromDigits(le.Uint64(b[:]),
		uint64(le.Uint32(b[9:]))|uint64(le.Uint32(b[14:]))<<32,
		uint64(le.Uint32(b[19:]))|uint64(le.Uint32(b[24:]))<<32,
		le.Uint64(b[28:]))
	return hi, lo, ok && (b[8]^'-')|(b[13]^'-')|(b[18]^'-')|(b[23]^'-') == 0
}

// fromDigits turns four times eight digits into two words.
func fromDigits(a, b, c, d uint64) (hi, lo uint64, ok bool) {
	bad := (notHex(a) | notHex(b) | notHex(c) | notHex(d)) & eightTops
	return fromHex(a)<<32 | fromHex(b), fromHex(c)<<32 | fromHex(d), bad == 0
}

const (
	eightOnes = 0x0101010101010101
	eightTops = 0x80 * eightOnes
)

// notHex has the top bit set in each byte that is no hexadecimal digit.
func notHex(w uint64) uint64 {
	low := w &^ eightTops // so that no sum below carries into the next byte
	letter := low | 0x20*eightOnes
	digit := (low + (0x80-'0')*eightOnes) &^ (low + (0x7f-'9')*eightOnes)
	alpha := (letter + (0x80-'a')*eightOnes) &^ (letter + (0x7f-'f')*eightOnes)
	return w | ^(digit | alpha)
}

// fromHex is the number that eight digits write, the first in the lowest byte.
func fromHex(w uint64) uint64 {
	d := w&(0xf*eightOnes) + 9*(w>>6&eightOnes)
	d = (d<<4 | d>>8) & 0x00ff00ff00ff00ff
	d = (d | d>>8) & 0x0000ffff0000ffff
	return uint64(bits.ReverseBytes32(uint32(d | d>>16)))
}

// unhex maps a digit to its value and everything else to 0xff.
var unhex = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// parseDate reads YYYY-MM-DD as days since 1970-01-01 in the proleptic
// Gregorian calendar, as Parquet and Iceberg count them.
func parseDate(b []byte) (int32, bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	num := func(b []byte) (n int) {
		for _, c := range b {
			if c < '0' || c > '9' {
				return -1 << 20
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	y, m, d := num(b[:4]), num(b[5:7]), num(b[8:])
	if y < 0 || m < 1 || m > 12 || d < 1 {
		return 0, false
	}
	at := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	if at.Day() != d { // 30 February
		return 0, false
	}
	return int32(at.Unix() / 86400), true
}

// appendTuplePart appends one part of a composite key.
func appendTuplePart(dst []byte, k Kind, part []byte) []byte {
	dst = append(dst, byte(k))
	dst = binary.AppendUvarint(dst, uint64(len(part)))
	return append(dst, part...)
}

// AppendTuple appends the canonical form of a key of the schema from the
// canonical forms of its parts. For a single part that is the part itself.
func (s Schema) AppendTuple(dst []byte, parts ...[]byte) []byte {
	if len(s) == 1 {
		return append(dst, parts[0]...)
	}
	for i, p := range parts {
		dst = appendTuplePart(dst, s[i].Type.Kind, p)
	}
	return dst
}

// SplitTuple returns the canonical parts of a canonical key: subslices of it,
// appended to parts. It fails when key is not of the schema's form.
func (s Schema) SplitTuple(parts [][]byte, key []byte) ([][]byte, error) {
	if len(s) == 1 {
		if !s[0].Type.valid(key) {
			return parts, fmt.Errorf("%w: key of %s", ErrMalformed, s[0].Type)
		}
		return append(parts, key), nil
	}
	for _, p := range s {
		if len(key) == 0 || key[0] != byte(p.Type.Kind) {
			return parts, fmt.Errorf("%w: composite key: type tag", ErrMalformed)
		}
		n, w := binary.Uvarint(key[1:])
		if w <= 0 || n > uint64(len(key)-1-w) || w > 1 && key[w] == 0 {
			return parts, fmt.Errorf("%w: composite key: length", ErrMalformed)
		}
		part := key[1+w : 1+w+int(n)]
		if !p.Type.valid(part) {
			return parts, fmt.Errorf("%w: composite key: part of %s", ErrMalformed, p.Type)
		}
		parts = append(parts, part)
		key = key[1+w+int(n):]
	}
	if len(key) != 0 {
		return parts, fmt.Errorf("%w: composite key: trailing bytes", ErrMalformed)
	}
	return parts, nil
}

// valid reports whether b can be a canonical form of the type.
func (t Type) valid(b []byte) bool {
	switch t.Kind {
	case KindInt64, KindUUID:
		return len(b) == t.width()
	case KindDate:
		if len(b) != 8 {
			return false
		}
		v := t.Int64(b)
		return v == int64(int32(v))
	case KindDecimal:
		return len(b) == 16 && dec128FromCanonical(b).fits(t.Precision)
	}
	return true
}
