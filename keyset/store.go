package keyset

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// A store holds distinct canonical keys in order. Keys are numbered by it.
type store interface {
	len() int
	// equal reports whether key i is key.
	equal(i int, key []byte) bool
	// appendTo appends key i.
	appendTo(dst []byte, i int) []byte
	// lowerBound is the number of keys below key, which may be of any length.
	lowerBound(key []byte) int
	// each yields keys [from, to); a slice is valid until the next.
	each(from, to int, yield func([]byte) bool) bool
	// hashes fills dst with the hashes of the keys from number from.
	hashes(dst []uint64, from int, seed uint64)
}

// wordStore holds canonical forms of 8 bytes as numbers.
type wordStore struct {
	vals []uint64
	keep *memory
}

func (s *wordStore) len() int { return len(s.vals) }

func (s *wordStore) equal(i int, key []byte) bool {
	return len(key) == 8 && s.vals[i] == binary.BigEndian.Uint64(key)
}

func (s *wordStore) appendTo(dst []byte, i int) []byte {
	return binary.BigEndian.AppendUint64(dst, s.vals[i])
}

func (s *wordStore) lowerBound(key []byte) int {
	v, over := wordAt(key, 0, 8)
	if over {
		return sort.Search(len(s.vals), func(i int) bool { return s.vals[i] > v })
	}
	return sort.Search(len(s.vals), func(i int) bool { return s.vals[i] >= v })
}

// wordAt reads up to 8 bytes of key from at, padded with zeros: the least value
// that is not below a shorter key. over says that key is longer than size, and
// so above the value of those bytes.
func wordAt(key []byte, at, size int) (v uint64, over bool) {
	return chunk8(key[:min(len(key), size)], at), len(key) > size
}

func (s *wordStore) each(from, to int, yield func([]byte) bool) bool {
	var buf [8]byte
	for _, v := range s.vals[from:to] {
		binary.BigEndian.PutUint64(buf[:], v)
		if !yield(buf[:]) {
			return false
		}
	}
	return true
}

func (s *wordStore) hashes(dst []uint64, from int, seed uint64) {
	flip := wordFlip(seed)
	for i, v := range s.vals[from : from+len(dst)] {
		dst[i] = hashWord(v, flip)
	}
}

// wideStore holds canonical forms of 16 bytes as pairs of numbers.
type wideStore struct {
	vals [][2]uint64
	keep *memory
}

func (s *wideStore) len() int { return len(s.vals) }

func (s *wideStore) equal(i int, key []byte) bool {
	return len(key) == 16 && s.vals[i] == wideOf(key)
}

func wideOf(key []byte) [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
}

func (s *wideStore) appendTo(dst []byte, i int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, s.vals[i][0])
	return binary.BigEndian.AppendUint64(dst, s.vals[i][1])
}

func (s *wideStore) lowerBound(key []byte) int {
	hi, _ := wordAt(key, 0, 16)
	lo, over := wordAt(key, 8, 16)
	return sort.Search(len(s.vals), func(i int) bool {
		v := s.vals[i]
		if v[0] != hi || v[1] != lo {
			return v[0] > hi || v[0] == hi && v[1] > lo
		}
		return !over
	})
}

func (s *wideStore) each(from, to int, yield func([]byte) bool) bool {
	var buf [16]byte
	for _, v := range s.vals[from:to] {
		binary.BigEndian.PutUint64(buf[:], v[0])
		binary.BigEndian.PutUint64(buf[8:], v[1])
		if !yield(buf[:]) {
			return false
		}
	}
	return true
}

func (s *wideStore) hashes(dst []uint64, from int, seed uint64) {
	for i, v := range s.vals[from : from+len(dst)] {
		dst[i] = hashWide(v[0], v[1], seed)
	}
}

// bytesStore holds keys of any length in one arena.
type bytesStore struct {
	arena       []byte
	offsets     []uint64 // of key i: offsets[i] to offsets[i+1]
	keep, keep2 *memory
}

func (s *bytesStore) len() int { return len(s.offsets) - 1 }

func (s *bytesStore) at(i int) []byte {
	return s.arena[s.offsets[i]:s.offsets[i+1]:s.offsets[i+1]]
}

func (s *bytesStore) equal(i int, key []byte) bool { return bytes.Equal(s.at(i), key) }

func (s *bytesStore) appendTo(dst []byte, i int) []byte { return append(dst, s.at(i)...) }

func (s *bytesStore) lowerBound(key []byte) int {
	return sort.Search(s.len(), func(i int) bool { return bytes.Compare(s.at(i), key) >= 0 })
}

func (s *bytesStore) each(from, to int, yield func([]byte) bool) bool {
	for i := from; i < to; i++ {
		if !yield(s.at(i)) {
			return false
		}
	}
	return true
}

func (s *bytesStore) hashes(dst []uint64, from int, seed uint64) {
	for i := range dst {
		dst[i] = hashBytes(s.at(from+i), seed)
	}
}
