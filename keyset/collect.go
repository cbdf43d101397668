package keyset

import (
	"bytes"
	"sync"
)

// collector gathers batches of keys from several readers, drops duplicates as
// it goes, and builds the set. Its memory is bound by the distinct keys, not by
// how often sources repeat them.
type collector struct {
	name     string
	schema   Schema
	width    int // of a canonical key; 0 = varies
	workers  int
	requests *interner

	mu      sync.Mutex
	bufs    []keyBuf
	pending int   // keys in bufs
	unique  int   // keys after the last compaction
	rows    int64 // keys ever added
}

// compactMin is the least number of keys worth dropping duplicates from before the end.
const compactMin = 8 << 20

func newCollector(name string, schema Schema, workers int) *collector {
	c := &collector{name: name, schema: schema.clone(), workers: max(1, workers), requests: newInterner()}
	if len(schema) == 1 {
		c.width = schema[0].Type.width()
	}
	return c
}

// add takes over the batch.
func (c *collector) add(b keyBuf) {
	if b.n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bufs = append(c.bufs, b)
	c.pending += b.n
	c.rows += int64(b.n)
	if c.pending > compactMin+2*c.unique {
		c.compact()
	}
}

// compact brings the batches into one, sorted and without duplicates.
func (c *collector) compact() {
	var out keyBuf
	switch c.width {
	case 8:
		out = c.compactWords()
	case 16:
		out = c.compactWide()
	default:
		out = c.compactBytes()
	}
	c.bufs = []keyBuf{out}
	c.pending, c.unique = out.n, out.n
}

func (c *collector) coded() bool {
	for i := range c.bufs {
		if len(c.bufs[i].codes) > 0 {
			return true
		}
	}
	return false
}

func (c *collector) compactWords() keyBuf {
	if c.coded() {
		return c.compactCodedWords()
	}
	recs := make([][1]uint64, 0, c.pending)
	for i, b := range c.bufs {
		for _, w := range b.words {
			recs = append(recs, [1]uint64{w})
		}
		c.bufs[i] = keyBuf{}
	}
	sortRecs(recs, c.workers)
	var out keyBuf
	out.words = make([]uint64, 0, len(recs))
	for i, r := range recs {
		if i == 0 || r != recs[i-1] {
			out.words = append(out.words, r[0])
		}
	}
	out.n = len(out.words)
	return out
}

func (c *collector) compactCodedWords() keyBuf {
	recs := make([][2]uint64, 0, c.pending)
	for j, b := range c.bufs {
		for i, w := range b.words {
			recs = append(recs, [2]uint64{w, uint64(b.code(i))})
		}
		c.bufs[j] = keyBuf{}
	}
	sortRecs(recs, c.workers)
	var out keyBuf
	groups(len(recs), func(i int) bool { return recs[i][0] == recs[i-1][0] }, func(from, to int) {
		out.words = append(out.words, recs[from][0])
		out.codes = append(out.codes, c.mergeCodes(to-from, func(i int) uint32 { return uint32(recs[from+i][1]) }))
	})
	out.n = len(out.words)
	return out
}

func (c *collector) compactWide() keyBuf {
	coded := c.coded()
	recs := make([][3]uint64, 0, c.pending)
	for j, b := range c.bufs {
		for i := range b.n {
			recs = append(recs, [3]uint64{b.words[2*i], b.words[2*i+1], uint64(b.code(i))})
		}
		c.bufs[j] = keyBuf{}
	}
	sortWide(recs, c.workers)
	var out keyBuf
	same := func(i int) bool { return recs[i][0] == recs[i-1][0] && recs[i][1] == recs[i-1][1] }
	groups(len(recs), same, func(from, to int) {
		out.words = append(out.words, recs[from][0], recs[from][1])
		if coded {
			out.codes = append(out.codes, c.mergeCodes(to-from, func(i int) uint32 { return uint32(recs[from+i][2]) }))
		}
		out.n++
	})
	return out
}

func (c *collector) compactBytes() keyBuf {
	coded := c.coded()
	// A reference is batch<<32 | key in the batch.
	at := func(ref uint64) []byte {
		b, i := &c.bufs[ref>>32], uint32(ref)
		from := uint64(0)
		if i > 0 {
			from = b.ends[i-1]
		}
		return b.arena[from:b.ends[i]]
	}
	recs := make([][2]uint64, 0, c.pending)
	size := 0
	for j := range c.bufs {
		size += len(c.bufs[j].arena)
		for i := range c.bufs[j].n {
			recs = append(recs, [2]uint64{0, uint64(j)<<32 | uint64(i)})
		}
	}
	sortStrings(recs, at, c.workers)
	var out keyBuf
	out.arena = make([]byte, 0, size)
	same := func(i int) bool { return bytes.Equal(at(recs[i][1]), at(recs[i-1][1])) }
	groups(len(recs), same, func(from, to int) {
		out.arena = append(out.arena, at(recs[from][1])...)
		out.ends = append(out.ends, uint64(len(out.arena)))
		if coded {
			out.codes = append(out.codes, c.mergeCodes(to-from, func(i int) uint32 {
				ref := recs[from+i][1]
				return c.bufs[ref>>32].code(int(uint32(ref)))
			}))
		}
		out.n++
	})
	return out
}

// groups calls f for each run of n sorted records; same compares i with i-1.
func groups(n int, same func(i int) bool, f func(from, to int)) {
	for from := 0; from < n; {
		to := from + 1
		for to < n && same(to) {
			to++
		}
		f(from, to)
		from = to
	}
}

func (c *collector) mergeCodes(n int, code func(int) uint32) uint32 {
	if n == 1 {
		return code(0)
	}
	codes := make([]uint32, n)
	for i := range codes {
		codes[i] = code(i)
	}
	return c.requests.lists.merge(codes)
}

// build ends the collection.
func (c *collector) build(seed uint64) (*Set, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compact()
	b := c.bufs[0]
	c.bufs = nil
	s, err := setFromSorted(c.name, c.schema, b, seed, c.workers)
	if err != nil {
		return nil, err
	}
	if len(c.requests.requests) > 0 {
		for len(b.codes) < b.n {
			b.codes = append(b.codes, 0)
		}
		s.asked = c.requests.finish(b.codes)
	}
	return s, nil
}

// setFromSorted makes a set of sorted, distinct keys.
func setFromSorted(name string, schema Schema, b keyBuf, seed uint64, workers int) (*Set, error) {
	width := 0
	if len(schema) == 1 {
		width = schema[0].Type.width()
	}
	s, err := newSet(name, schema, storeOf(b, width), seed, workers)
	if err != nil || len(schema) == 1 {
		return s, err
	}
	s.parts, err = partSets(s, workers)
	return s, err
}

// storeOf keeps sorted, distinct keys outside the heap.
func storeOf(b keyBuf, width int) store {
	switch width {
	case 8:
		if dense(b.words) {
			return newBitmap(b.words)
		}
		s := &wordStore{}
		s.vals, s.keep = allocate[uint64](b.n)
		copy(s.vals, b.words)
		return s
	case 16:
		s := &wideStore{}
		s.vals, s.keep = allocate[[2]uint64](b.n)
		for i := range s.vals {
			s.vals[i] = [2]uint64{b.words[2*i], b.words[2*i+1]}
		}
		return s
	}
	s := &bytesStore{}
	s.arena, s.keep = allocate[byte](len(b.arena))
	copy(s.arena, b.arena)
	s.offsets, s.keep2 = allocate[uint64](b.n + 1)
	copy(s.offsets[1:], b.ends)
	return s
}

// partSets builds the sets of a composite set's parts.
func partSets(s *Set, workers int) ([]*Set, error) {
	sets := make([]*Set, len(s.schema))
	var parts [][]byte
	for i, p := range s.schema {
		c := newCollector(s.name, Schema{p}, workers)
		var buf keyBuf
		var err error
		for key := range s.All() {
			if parts, err = s.schema.SplitTuple(parts[:0], key); err != nil {
				return nil, err
			}
			buf.add(parts[i], c.width, 0)
			if buf.n >= 1<<16 {
				c.add(buf)
				buf = keyBuf{}
			}
		}
		c.add(buf)
		if sets[i], err = c.build(s.seed); err != nil {
			return nil, err
		}
	}
	return sets, nil
}
