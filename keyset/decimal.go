package keyset

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/bits"
)

// dec128 is a decimal's unscaled value: 128 bits, two's complement.
type dec128 struct {
	hi int64
	lo uint64
}

func dec128From(v int64) dec128 { return dec128{hi: v >> 63, lo: uint64(v)} }

func dec128FromCanonical(b []byte) dec128 {
	return dec128{
		hi: int64(binary.BigEndian.Uint64(b) ^ signFlip),
		lo: binary.BigEndian.Uint64(b[8:]),
	}
}

// dec128FromBytes reads big-endian two's complement of any length, as Parquet
// and Iceberg store decimals; false when it is empty or needs more than 128 bits.
func dec128FromBytes(b []byte) (dec128, bool) {
	if len(b) == 0 {
		return dec128{}, false
	}
	sign := byte(int8(b[0]) >> 7)
	for len(b) > 16 {
		if b[0] != sign {
			return dec128{}, false
		}
		b = b[1:]
	}
	if byte(int8(b[0])>>7) != sign {
		return dec128{}, false
	}
	d := dec128{hi: int64(int8(sign)), lo: uint64(int64(int8(sign)))}
	for _, c := range b {
		d.hi = d.hi<<8 | int64(d.lo>>56)
		d.lo = d.lo<<8 | uint64(c)
	}
	return d, true
}

func (d dec128) appendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(d.hi)^signFlip)
	return binary.BigEndian.AppendUint64(dst, d.lo)
}

// appendFixed appends the value as big-endian two's complement of width bytes,
// Parquet's form; false when it does not fit.
func (d dec128) appendFixed(dst []byte, width int) ([]byte, bool) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(d.hi))
	binary.BigEndian.PutUint64(b[8:], d.lo)
	sign := byte(d.hi >> 63)
	if width >= 16 {
		for range width - 16 {
			dst = append(dst, sign)
		}
		return append(dst, b[:]...), true
	}
	cut := 16 - width
	for _, c := range b[:cut] {
		if c != sign {
			return dst, false
		}
	}
	if width < 1 || byte(int8(b[cut])>>7) != sign {
		return dst, false
	}
	return append(dst, b[cut:]...), true
}

func (d dec128) int64() (int64, bool) {
	v := int64(d.lo)
	return v, d.hi == v>>63
}

func (d dec128) big() *big.Int {
	v := new(big.Int).Lsh(big.NewInt(d.hi), 64)
	return v.Add(v, new(big.Int).SetUint64(d.lo))
}

// bigBytes is two's complement, big endian, of the least length plus at most one byte.
func bigBytes(v *big.Int) []byte {
	n := v.BitLen()/8 + 1
	out := make([]byte, n)
	if v.Sign() >= 0 {
		return v.FillBytes(out)
	}
	mod := new(big.Int).Lsh(big.NewInt(1), uint(8*n))
	return mod.Add(mod, v).FillBytes(out)
}

// abs splits the value into sign and magnitude; the magnitude of -2^127 is 2^127.
func (d dec128) abs() (hi, lo uint64, neg bool) {
	hi, lo = uint64(d.hi), d.lo
	if d.hi < 0 {
		var carry uint64
		lo, carry = bits.Add64(^lo, 1, 0)
		hi, _ = bits.Add64(^hi, 0, carry)
		return hi, lo, true
	}
	return hi, lo, false
}

func dec128FromAbs(hi, lo uint64, neg bool) (dec128, bool) {
	if neg {
		if hi > signFlip || hi == signFlip && lo > 0 {
			return dec128{}, false
		}
		var carry uint64
		lo, carry = bits.Add64(^lo, 1, 0)
		hi, _ = bits.Add64(^hi, 0, carry)
		return dec128{int64(hi), lo}, true
	}
	return dec128{int64(hi), lo}, hi <= math.MaxInt64
}

// pow10 holds the powers of ten that fit 64 bits.
var pow10 = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// pow10Wide holds 10^k as 128 bits for k up to MaxPrecision.
var pow10Wide = func() (p [MaxPrecision + 1][2]uint64) {
	p[0] = [2]uint64{0, 1}
	for i := 1; i < len(p); i++ {
		p[i][0], p[i][1], _ = mulAdd128(p[i-1][0], p[i-1][1], 10, 0)
	}
	return p
}()

// mulAdd128 returns hi:lo * m + a; false on overflow of 128 bits.
func mulAdd128(hi, lo, m, a uint64) (uint64, uint64, bool) {
	h1, l1 := bits.Mul64(lo, m)
	h2, l2 := bits.Mul64(hi, m)
	l1, c := bits.Add64(l1, a, 0)
	h, c2 := bits.Add64(h1, l2, c)
	return h, l1, h2 == 0 && c2 == 0
}

// fits reports whether the magnitude has at most precision digits.
func (d dec128) fits(precision int) bool {
	hi, lo, _ := d.abs()
	p := pow10Wide[precision]
	return hi < p[0] || hi == p[0] && lo < p[1]
}

// up multiplies by 10^n; false on overflow.
func (d dec128) up(n int) (dec128, bool) {
	if n == 0 {
		return d, true
	}
	hi, lo, neg := d.abs()
	var ok bool
	for ; n > 0; n -= 19 {
		if hi, lo, ok = mulAdd128(hi, lo, pow10[min(n, 19)], 0); !ok {
			return dec128{}, false
		}
	}
	return dec128FromAbs(hi, lo, neg)
}

// down divides by 10^n towards zero and reports whether that was exact.
func (d dec128) down(n int) (q dec128, exact bool) {
	hi, lo, neg := d.abs()
	exact = true
	for ; n > 0; n -= 19 {
		div := pow10[min(n, 19)]
		var r uint64
		hi, r = hi/div, hi%div
		lo, r = bits.Div64(r, lo, div)
		exact = exact && r == 0
	}
	q, _ = dec128FromAbs(hi, lo, neg) // a quotient always fits
	return q, exact
}

// rescale brings the value from one scale to another, exactly or not at all.
func (d dec128) rescale(from, to int) (dec128, bool) {
	if to >= from {
		return d.up(to - from)
	}
	return d.down(from - to)
}

// parseDecimal reads [sign] digits [. digits] [e exponent] at the scale.
// What is not exact at the scale is an error, never rounded.
func parseDecimal(b []byte, scale int) (dec128, error) {
	neg := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		neg = b[0] == '-'
		b = b[1:]
	}
	mant, exp, ok := cutExponent(b)
	if !ok {
		return dec128{}, errNotDecimal
	}
	// The value is the digits times 10^(exp - fraction digits): shift is how many
	// digits after the last one the scale still asks for.
	var hi, lo uint64
	digits, frac, point, zeros := 0, 0, false, 0
	for _, c := range mant {
		switch {
		case c == '.' && !point:
			point = true
			continue
		case c < '0' || c > '9':
			return dec128{}, errNotDecimal
		}
		digits++
		if point {
			frac++
		}
		if c == '0' { // kept back: trailing zeros must not overflow
			zeros++
			continue
		}
		for ; zeros > 0; zeros-- {
			if hi|lo == 0 {
				zeros = 1 // leading zeros
				continue
			}
			if hi, lo, ok = mulAdd128(hi, lo, 10, 0); !ok {
				return dec128{}, errTooLarge
			}
		}
		if hi, lo, ok = mulAdd128(hi, lo, 10, uint64(c-'0')); !ok {
			return dec128{}, errTooLarge
		}
	}
	if digits == 0 {
		return dec128{}, errNotDecimal
	}
	if hi|lo == 0 {
		return dec128{}, nil
	}
	shift := scale + exp - frac + zeros
	if shift < 0 {
		return dec128{}, errInexact // the last digit kept is not zero
	}
	if shift > MaxPrecision {
		return dec128{}, errTooLarge
	}
	d, ok := dec128FromAbs(hi, lo, neg)
	if ok {
		d, ok = d.up(shift)
	}
	if !ok {
		return dec128{}, errTooLarge
	}
	return d, nil
}

// cutExponent splits off e[sign]digits. Exponents beyond any precision are cut
// to a value that is certain to be refused later, so that nothing overflows.
func cutExponent(b []byte) (mant []byte, exp int, ok bool) {
	for i, c := range b {
		if c != 'e' && c != 'E' {
			continue
		}
		v, ok := parseInt64(b[i+1:])
		if !ok {
			return nil, 0, false
		}
		return b[:i], int(max(min(v, 1<<20), -1<<20)), true
	}
	return b, 0, true
}
