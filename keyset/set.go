package keyset

import (
	"encoding/binary"
	"iter"
	"runtime"
)

// Set is an immutable set of keys, safe for concurrent use.
type Set struct {
	name   string
	schema Schema
	seed   uint64
	st     store
	ix     *index // nil when the store is exact by itself (bitmap) or empty
	// parts holds, for composite keys, each part's distinct values as a set.
	parts []*Set
	asked asked
}

// FilterStats describes the filter before the exact keys, for the manifest.
// It never holds the bits.
type FilterStats struct {
	Kind       string  `json:"kind"`         // "split-block bloom", or "bitmap", which is exact
	Bits       int64   `json:"bits"`         // size
	Hashes     int     `json:"hashes"`       // bits set a key
	BitsPerKey float64 `json:"bits_per_key"` // as built
	DesignFP   float64 `json:"design_fp"`    // expected share of values not in the set that pass it
	Exact      bool    `json:"exact"`        // nothing but the keys passes it
}

// newSet indexes a store. schema and a composite set's parts are the caller's.
func newSet(name string, schema Schema, st store, seed uint64, workers int) (*Set, error) {
	s := &Set{name: name, schema: schema, st: st, seed: seed}
	if _, exact := st.(*bitmapStore); exact || st.len() == 0 {
		return s, nil
	}
	var err error
	s.ix, err = newIndex(st, seed, workers)
	return s, err
}

// Name is the set's name in the job.
func (s *Set) Name() string { return s.name }

// Schema returns the key's parts. It must not be changed.
func (s *Set) Schema() Schema { return s.schema }

// Len is the number of distinct keys.
func (s *Set) Len() int { return s.st.len() }

// Contains reports whether the canonical key is in the set, exactly.
func (s *Set) Contains(canonical []byte) bool { return s.number(canonical) >= 0 }

// Number is the key's place in the order of All, or -1 when it is not in the set.
func (s *Set) Number(canonical []byte) int { return s.number(canonical) }

// NumberInt64 is Number for a set whose keys are one int64 each.
func (s *Set) NumberInt64(v int64) int {
	defer runtime.KeepAlive(s)
	w := uint64(v) ^ signFlip
	switch st := s.st.(type) {
	case *bitmapStore:
		return st.find(w)
	case *wordStore:
		if s.ix == nil {
			return -1
		}
		if h := hashWord(w, s.ix.flip); s.ix.contains(h) {
			return s.ix.findWord(h, st, w)
		}
		return -1
	}
	return s.number(binary.BigEndian.AppendUint64(nil, w))
}

// number returns the key's place in the order, or -1.
func (s *Set) number(key []byte) int {
	defer runtime.KeepAlive(s)
	switch st := s.st.(type) {
	case *bitmapStore:
		if len(key) != 8 {
			return -1
		}
		return st.find(binary.BigEndian.Uint64(key))
	case *wordStore:
		if len(key) != 8 || s.ix == nil {
			return -1
		}
		v := binary.BigEndian.Uint64(key)
		if h := hashWord(v, s.ix.flip); s.ix.contains(h) {
			return s.ix.findWord(h, st, v)
		}
	case *wideStore:
		if len(key) != 16 || s.ix == nil {
			return -1
		}
		v := wideOf(key)
		if h := hashWide(v[0], v[1], s.seed); s.ix.contains(h) {
			return s.ix.findWide(h, st, v)
		}
	default:
		if s.ix == nil {
			return -1
		}
		if h := hashBytes(key, s.seed); s.ix.contains(h) {
			return s.ix.find(h, st, key)
		}
	}
	return -1
}

// PartSet returns the distinct values of a part as a set of single keys: the
// set itself when the key has one part. A scan of composite keys tests the most
// selective column against it before it reads the others.
func (s *Set) PartSet(part int) *Set {
	if len(s.schema) == 1 {
		return s
	}
	return s.parts[part]
}

// span returns the numbers [from, to) of keys in [lo, hi]; nil is open.
func (s *Set) span(lo, hi []byte) (from, to int) {
	to = s.st.len()
	if lo != nil {
		from = s.st.lowerBound(lo)
	}
	if hi != nil {
		to = s.st.lowerBound(hi)
		if to < s.st.len() && s.st.equal(to, hi) {
			to++
		}
	}
	return from, max(from, to)
}

// Overlaps reports whether any key's part lies in [lo, hi]; nil is open.
func (s *Set) Overlaps(part int, lo, hi []byte) bool { return s.CountIn(part, lo, hi) > 0 }

// CountIn is the number of distinct values of a part in [lo, hi]; nil is open.
func (s *Set) CountIn(part int, lo, hi []byte) int {
	p := s.PartSet(part)
	from, to := p.span(lo, hi)
	runtime.KeepAlive(p)
	return to - from
}

// Part yields the distinct values of a part, sorted. A slice is valid until the next.
func (s *Set) Part(part int) iter.Seq[[]byte] { return s.PartRange(part, nil, nil) }

// PartRange yields the distinct values of a part in [lo, hi], sorted; nil is
// open. A slice is valid until the next.
func (s *Set) PartRange(part int, lo, hi []byte) iter.Seq[[]byte] {
	p := s.PartSet(part)
	return func(yield func([]byte) bool) {
		from, to := p.span(lo, hi)
		p.st.each(from, to, yield)
		runtime.KeepAlive(p)
	}
}

// PartLen is the number of distinct values of a part.
func (s *Set) PartLen(part int) int { return s.PartSet(part).Len() }

// All yields the canonical keys, sorted. A slice is valid until the next.
func (s *Set) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s.st.each(0, s.st.len(), yield)
		runtime.KeepAlive(s)
	}
}

// Filter describes the filter.
func (s *Set) Filter() FilterStats {
	n := s.Len()
	switch st := s.st.(type) {
	case *bitmapStore:
		b := int64(len(st.words)) * 64
		return FilterStats{Kind: "bitmap", Exact: true, Bits: b, Hashes: 1, BitsPerKey: float64(b) / float64(n)}
	}
	f := FilterStats{Kind: "split-block bloom", Hashes: filterHashes}
	if s.ix != nil {
		f.Bits = int64(len(s.ix.blocks)) * blockBits
		f.BitsPerKey = float64(f.Bits) / float64(n)
		f.DesignFP = designFP(n, len(s.ix.blocks))
	}
	return f
}

// MeasureFilter returns the share of probes random hashes that pass the filter:
// its false-positive rate as built.
func (s *Set) MeasureFilter(probes int, seed uint64) float64 {
	if s.ix == nil || probes <= 0 {
		return 0
	}
	hits := 0
	var hashes [batch]uint64
	var sel [batch]int32
	for done := 0; done < probes; done += batch {
		n := min(batch, probes-done)
		for i := range hashes[:n] {
			hashes[i] = hashWord(uint64(done+i), wordFlip(seed^measureSalt))
		}
		hits += s.ix.selectHits(sel[:n], hashes[:n])
	}
	runtime.KeepAlive(s)
	return float64(hits) / float64(probes)
}

// measureSalt keeps the measuring hashes apart from the keys' even under one seed.
const measureSalt = 0x9e3779b97f4a7c15

// MemoryBytes is about what the set holds.
func (s *Set) MemoryBytes() int64 {
	var n int64
	switch st := s.st.(type) {
	case *wordStore:
		n = int64(len(st.vals)) * 8
	case *wideStore:
		n = int64(len(st.vals)) * 16
	case *bytesStore:
		n = int64(len(st.arena)) + int64(len(st.offsets))*8
	case *bitmapStore:
		n = int64(len(st.words))*8 + int64(len(st.ranks))*4
	}
	if x := s.ix; x != nil {
		n += int64(len(x.blocks))*32 + int64(len(x.fence))*4 + int64(len(x.entries))*8
	}
	for _, p := range s.parts {
		n += p.MemoryBytes()
	}
	return n + s.asked.bytes()
}
