package keyset

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
)

// An index finds a key's number by its hash: first the filter, then a bucket of
// entries, then the key itself in the store.
//
// Buckets follow the filter's blocks, fenceSplit to a block: both are picked by
// the hash's high half, so that one region of blocks, buckets and entries is
// built at a time by one worker, in cache and without locks (blocks that two
// workers fill without synchronisation lose bits, which would be missed
// erasures). The entry's tag is the low half.
type index struct {
	filter
	seed    uint64
	flip    uint64   // wordFlip(seed)
	fence   []uint32 // of bucket b: entries fence[b] to fence[b+1]
	entries []uint64 // tag<<32 | key number
	keep    [3]*memory
}

const (
	fenceShift = 2 // log2 of buckets a block: 4 keys a bucket
	fenceSplit = 1 << fenceShift
	maxKeys    = math.MaxUint32 - 1

	regionBlocks = 1 << 11 // 64 KiB of filter, 256 KiB of entries
	maxRegions   = 1 << 13
	hashChunk    = 1 << 16
)

var errLostKey = errors.New("keyset index lost a key while building")

func (x *index) bucket(h uint64) uint64 {
	return (h >> 32) * uint64(len(x.blocks)) >> (32 - fenceShift)
}

// find returns the number of the key with that hash, or -1.
func (x *index) find(h uint64, st store, key []byte) int {
	b := x.bucket(h)
	for _, e := range x.entries[x.fence[b]:x.fence[b+1]] {
		if uint32(e>>32) == uint32(h) && st.equal(int(uint32(e)), key) {
			return int(uint32(e))
		}
	}
	return -1
}

func (x *index) findWord(h uint64, st *wordStore, v uint64) int {
	b := x.bucket(h)
	for _, e := range x.entries[x.fence[b]:x.fence[b+1]] {
		if uint32(e>>32) == uint32(h) && st.vals[uint32(e)] == v {
			return int(uint32(e))
		}
	}
	return -1
}

func (x *index) findWide(h uint64, st *wideStore, v [2]uint64) int {
	b := x.bucket(h)
	for _, e := range x.entries[x.fence[b]:x.fence[b+1]] {
		if uint32(e>>32) == uint32(h) && st.vals[uint32(e)] == v {
			return int(uint32(e))
		}
	}
	return -1
}

// noKey is a candidate that is none.
const noKey = math.MaxUint32

// candidates writes, for each selected hash, the number of a key with its tag,
// or noKey. Each step runs over a group of lookups, so that their cache misses
// overlap instead of following one another.
func (x *index) candidates(out []uint32, sel []int32, hashes []uint64) {
	const group = 64
	for len(sel) > 0 {
		n := min(group, len(sel))
		var from, to [group]uint32
		var first [group]uint64
		for j, i := range sel[:n] {
			b := x.bucket(hashes[i])
			from[j], to[j] = x.fence[b], x.fence[b+1]
		}
		for j := range n {
			if from[j] < to[j] {
				first[j] = x.entries[from[j]]
			}
		}
		for j, i := range sel[:n] {
			out[j] = noKey
			if from[j] == to[j] {
				continue
			}
			tag, found := uint32(hashes[i]), uint32(noKey)
			if uint32(first[j]>>32) == tag {
				found = uint32(first[j])
			}
			for _, e := range x.entries[from[j]+1 : to[j]] {
				if uint32(e>>32) == tag {
					found = uint32(e)
				}
			}
			out[j] = found
		}
		sel, out = sel[n:], out[n:]
	}
}

// newIndex indexes the keys of st and checks every one of them.
func newIndex(st store, seed uint64, workers int) (*index, error) {
	n := st.len()
	if n > maxKeys {
		return nil, fmt.Errorf("%d keys in one set: at most %d", n, maxKeys)
	}
	x := &index{seed: seed, flip: wordFlip(seed)}
	blocks := filterBlocks(n)
	x.blocks, x.keep[0] = allocate[[8]uint32](blocks)
	x.fence, x.keep[1] = allocate[uint32](blocks*fenceSplit + 1)
	x.entries, x.keep[2] = allocate[uint64](n)
	x.build(st, workers)
	if err := x.check(st, workers); err != nil {
		return nil, err
	}
	return x, nil
}

// build spreads {hash, number} by region, then fills each region alone.
func (x *index) build(st store, workers int) {
	n := st.len()
	shift := 11 // log2(regionBlocks)
	for (len(x.blocks)-1)>>shift >= maxRegions {
		shift++
	}
	regions := (len(x.blocks)-1)>>shift + 1
	shares := 1
	if n > hashChunk {
		shares = 4 * workers
	}
	hashes := make([]uint64, n)
	counts := make([][]int, shares) // per share, keys a region; then where they go
	region := func(h uint64) uint64 { return x.block(h) >> shift }
	parallel(workers, shares, func(_, s int) {
		c := make([]int, regions)
		from, to := n*s/shares, n*(s+1)/shares
		st.hashes(hashes[from:to], from, x.seed)
		for _, h := range hashes[from:to] {
			c[region(h)]++
		}
		counts[s] = c
	})
	starts, sum := make([]int, regions+1), 0
	for r := range regions {
		starts[r] = sum
		for _, c := range counts {
			c[r], sum = sum, sum+c[r]
		}
	}
	starts[regions] = sum
	spread := make([][2]uint64, n)
	parallel(workers, shares, func(_, s int) {
		c := counts[s]
		for i := n * s / shares; i < n*(s+1)/shares; i++ {
			h := hashes[i]
			r := region(h)
			spread[c[r]] = [2]uint64{h, uint64(i)}
			c[r]++
		}
	})
	parallel(workers, regions, func(_, r int) {
		first, last := r<<shift, min((r+1)<<shift, len(x.blocks))
		x.fill(spread[starts[r]:starts[r+1]], first, last, starts[r])
	})
	x.fence[len(x.fence)-1] = uint32(n)
}

// fill builds blocks [first, last) from their keys; their entries start at base.
func (x *index) fill(keys [][2]uint64, first, last, base int) {
	fence := x.fence[first*fenceSplit : last*fenceSplit]
	from := uint64(first * fenceSplit)
	for _, k := range keys {
		fence[x.bucket(k[0])-from]++
		x.insert(k[0])
	}
	sum := uint32(base)
	for i, n := range fence {
		fence[i], sum = sum, sum+n
	}
	for _, k := range keys {
		b := x.bucket(k[0]) - from
		x.entries[fence[b]] = k[0]<<32 | k[1]
		fence[b]++
	}
	// Each fence has moved on to its bucket's end, which is the next one's start.
	copy(fence[1:], fence)
	fence[0] = uint32(base)
}

// check looks every key up the way a match does.
func (x *index) check(st store, workers int) error {
	n := st.len()
	shares := (n + hashChunk - 1) / hashChunk
	var lost atomic.Bool
	parallel(workers, shares, func(_, s int) {
		for at, end := s*hashChunk, min((s+1)*hashChunk, n); at < end; at += batch {
			if !x.checkBatch(st, at, min(at+batch, end)) {
				lost.Store(true)
				return
			}
		}
	})
	if lost.Load() {
		return errLostKey
	}
	return nil
}

func (x *index) checkBatch(st store, from, to int) bool {
	var hashes [batch]uint64
	var sel [batch]int32
	var cand [batch]uint32
	n := to - from
	st.hashes(hashes[:n], from, x.seed)
	if x.selectHits(sel[:n], hashes[:n]) != n {
		return false
	}
	x.candidates(cand[:n], sel[:n], hashes[:n])
	var key []byte
	for i, c := range cand[:n] {
		if int(c) == from+i {
			continue
		}
		// Another key of the bucket has the same tag.
		key = st.appendTo(key[:0], from+i)
		if x.find(hashes[i], st, key) != from+i {
			return false
		}
	}
	return true
}
