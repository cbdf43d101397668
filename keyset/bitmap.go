package keyset

import (
	"encoding/binary"
	"math/bits"
	"sort"
)

// A bitmapStore holds dense keys of 8 bytes as one bit a value of their range.
// It is exact by itself: no filter and no second stage.
type bitmapStore struct {
	base  uint64 // the least key
	span  uint64 // greatest key - base
	words []uint64
	ranks []uint32 // keys before each group of rankWords words
	n     int
	keep  *memory
}

const (
	rankWords = 8
	// denseSpread is how many values of range a key may take for a bitmap: as many
	// bits as the filter alone would cost.
	denseSpread = filterBitsPerKey
	denseMin    = 32
)

// dense reports whether sorted keys are best kept as a bitmap.
func dense(sorted []uint64) bool {
	n := len(sorted)
	return n >= denseMin && sorted[n-1]-sorted[0] < uint64(n)*denseSpread
}

func newBitmap(sorted []uint64) *bitmapStore {
	s := &bitmapStore{base: sorted[0], span: sorted[len(sorted)-1] - sorted[0], n: len(sorted)}
	n := int(s.span/64) + 1
	n = (n + rankWords - 1) / rankWords * rankWords
	s.words, s.keep = allocate[uint64](n)
	for _, v := range sorted {
		d := v - s.base
		s.words[d/64] |= 1 << (d % 64)
	}
	s.ranks = make([]uint32, n/rankWords)
	sum := 0
	for i, w := range s.words {
		if i%rankWords == 0 {
			s.ranks[i/rankWords] = uint32(sum)
		}
		sum += bits.OnesCount64(w)
	}
	return s
}

func (s *bitmapStore) len() int { return s.n }

// find returns the number of a key, or -1.
func (s *bitmapStore) find(v uint64) int {
	if !s.has(v) {
		return -1
	}
	return s.rank(v - s.base)
}

func (s *bitmapStore) has(v uint64) bool {
	d := v - s.base
	return d <= s.span && s.words[d/64]>>(d%64)&1 != 0
}

// rank is the number of keys below base+d, for d up to span.
func (s *bitmapStore) rank(d uint64) int {
	w := int(d / 64)
	n := int(s.ranks[w/rankWords])
	for i := w / rankWords * rankWords; i < w; i++ {
		n += bits.OnesCount64(s.words[i])
	}
	return n + bits.OnesCount64(s.words[w]&(1<<(d%64)-1))
}

func (s *bitmapStore) equal(i int, key []byte) bool {
	return len(key) == 8 && s.find(binary.BigEndian.Uint64(key)) == i
}

func (s *bitmapStore) appendTo(dst []byte, i int) []byte {
	s.each(i, i+1, func(b []byte) bool { dst = append(dst, b...); return true })
	return dst
}

func (s *bitmapStore) lowerBound(key []byte) int {
	v, over := wordAt(key, 0, 8)
	switch {
	case v < s.base:
		return 0
	case v-s.base > s.span:
		return s.n
	}
	n := s.rank(v - s.base)
	if over && s.has(v) {
		n++
	}
	return n
}

func (s *bitmapStore) each(from, to int, yield func([]byte) bool) bool {
	if from >= to {
		return true
	}
	// The last group that does not start after key number from.
	group := sort.Search(len(s.ranks), func(g int) bool { return int(s.ranks[g]) > from }) - 1
	at := int(s.ranks[group])
	var buf [8]byte
	for w := group * rankWords; w < len(s.words); w++ {
		word := s.words[w]
		if n := bits.OnesCount64(word); at+n <= from {
			at += n
			continue
		}
		for ; word != 0; word &= word - 1 {
			if at >= to {
				return true
			}
			if at >= from {
				binary.BigEndian.PutUint64(buf[:], s.base+uint64(w)*64+uint64(bits.TrailingZeros64(word)))
				if !yield(buf[:]) {
					return false
				}
			}
			at++
		}
	}
	return true
}

func (s *bitmapStore) hashes(dst []uint64, from int, seed uint64) {
	flip, i := wordFlip(seed), 0
	s.each(from, from+len(dst), func(b []byte) bool {
		dst[i] = hashWord(binary.BigEndian.Uint64(b), flip)
		i++
		return true
	})
}

// selectWords writes to dst the indexes of the values in the set and returns how
// many. dst must be as long as vals. Values are canonical words.
func (s *bitmapStore) selectWords(dst []int32, vals []uint64) int {
	k := 0
	words, base, span := s.words, s.base, s.span
	dst = dst[:len(vals)]
	for i, v := range vals {
		d := v - base
		in := uint64(0)
		if d <= span {
			in = words[d/64] >> (d % 64) & 1
		}
		dst[k] = int32(i)
		k += int(in)
	}
	return k
}
