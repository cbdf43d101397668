package parquet

import (
	"bytes"
	"encoding/binary"
	"math"
)

// maxBound is the longest bound that is written: parquet-mr and Arrow leave
// longer ones out too.
const maxBound = 4096

// bounds are the least and greatest of some values, as PLAIN bytes. Both are
// nil where there is no value that counts (NaN does not).
type bounds struct{ min, max []byte }

func (b *bounds) add(o order, v []byte) {
	if (o == orderFloat || o == orderHalf) && math.IsNaN(floatOf(v)) {
		return
	}
	if b.min == nil || o.compare(v, b.min) < 0 {
		b.min = v
	}
	if b.max == nil || o.compare(v, b.max) > 0 {
		b.max = v
	}
}

func (b *bounds) merge(o order, c bounds) {
	if c.min != nil {
		b.add(o, c.min)
	}
	if c.max != nil {
		b.add(o, c.max)
	}
}

// own makes the bounds independent of the memory they were found in.
func (b bounds) own() bounds {
	return bounds{bytes.Clone(b.min), bytes.Clone(b.max)}
}

// boundsOf finds the bounds of value ranges.
func boundsOf(o order, v *view, ranges []span) (b bounds) {
	if o == orderNone {
		return b
	}
	if v.dict != nil {
		return indexBounds(o, v, ranges)
	}
	for _, r := range ranges {
		if r.from >= r.to {
			continue
		}
		switch {
		case o == orderSigned && v.width == 8:
			b.merge(o, int64Bounds(v.raw[r.from*8:r.to*8]))
		case o == orderSigned && v.width == 4:
			b.merge(o, int32Bounds(v.raw[r.from*4:r.to*4]))
		default:
			for i := r.from; i < r.to; i++ {
				b.add(o, v.at(i))
			}
		}
	}
	return b
}

// indexBounds compares each dictionary entry at most once.
func indexBounds(o order, v *view, ranges []span) (b bounds) {
	seen := newBitset(v.dict.n)
	for _, r := range ranges {
		for _, x := range v.index[r.from:r.to] {
			if !seen.has(int(x)) {
				seen.set(int(x))
				b.add(o, v.dict.at(int(x)))
			}
		}
	}
	return b
}

func int64Bounds(raw []byte) bounds {
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for i := 0; i+8 <= len(raw); i += 8 {
		x := int64(binary.LittleEndian.Uint64(raw[i:]))
		lo, hi = min(lo, x), max(hi, x)
	}
	return bounds{binary.LittleEndian.AppendUint64(nil, uint64(lo)), binary.LittleEndian.AppendUint64(nil, uint64(hi))}
}

func int32Bounds(raw []byte) bounds {
	lo, hi := int32(math.MaxInt32), int32(math.MinInt32)
	for i := 0; i+4 <= len(raw); i += 4 {
		x := int32(binary.LittleEndian.Uint32(raw[i:]))
		lo, hi = min(lo, x), max(hi, x)
	}
	return bounds{le32(uint32(lo)), le32(uint32(hi))}
}

// written is how a bound is stored: zeros of floats get the sign that keeps
// both zeros inside (parquet.thrift, ColumnOrder), and a value that is too
// long gives none.
func written(o order, v []byte, isMax bool) []byte {
	if v == nil || len(v) > maxBound {
		return nil
	}
	if (o == orderFloat || o == orderHalf) && floatOf(v) == 0 {
		z := make([]byte, len(v))
		if !isMax {
			z[len(z)-1] = 0x80
		}
		return z
	}
	return v
}

// derivedMin says whether a stored lower bound may come from a value that is
// gone, least being the least of those. Writers cut long bounds to a prefix,
// so a prefix counts. A bound below every value that is gone comes from a
// survivor.
func derivedMin(o order, stored, least []byte) bool {
	if least == nil {
		return false
	}
	return o.compare(least, stored) <= 0 || o == orderBytes && bytes.HasPrefix(least, stored)
}

// derivedMax is the same for upper bounds. A cut upper bound has its last
// character raised: at most the last 4 bytes differ from the value's.
func derivedMax(o order, stored, greatest []byte) bool {
	if greatest == nil {
		return false
	}
	if o.compare(greatest, stored) >= 0 {
		return true
	}
	return o == orderBytes && len(greatest) >= len(stored) &&
		bytes.HasPrefix(greatest, stored[:max(0, len(stored)-4)])
}

// bitset is a set of small integers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

// cleared is an empty set for n integers, in b's memory where that is large enough.
func (b bitset) cleared(n int) bitset {
	words := (n + 63) / 64
	if cap(b) < words {
		return newBitset(n)
	}
	b = b[:words]
	clear(b)
	return b
}

func (b bitset) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b bitset) set(i int)      { b[i>>6] |= 1 << (i & 63) }

func (b bitset) or(c bitset) {
	for i, w := range c {
		b[i] |= w
	}
}

// without reports whether any member of b is not in c.
func (b bitset) without(c bitset) bool {
	for i, w := range b {
		if w&^c[i] != 0 {
			return true
		}
	}
	return false
}
