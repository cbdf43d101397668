package keyset

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// rec is a record to sort: the first word is the key, the others ride along.
// Arrays rather than structs let one generic sort read the key without a call.
type rec interface {
	[1]uint64 | [2]uint64 | [3]uint64
}

const (
	radixBits   = 11
	radixSmall  = 48      // insertion sort below
	radixLSD    = 1 << 14 // byte-wise passes below: fits the cache
	radixSpread = 1 << 16 // worth more than one worker from here
)

// sortRecs sorts a by its first words with up to workers goroutines.
func sortRecs[E rec](a []E, workers int) {
	if len(a) <= radixSmall {
		insertionSort(a)
		return
	}
	radixMSD(a, make([]E, len(a)), workers)
}

func insertionSort[E rec](a []E) {
	for i := 1; i < len(a); i++ {
		x := a[i]
		j := i
		for ; j > 0 && a[j-1][0] > x[0]; j-- {
			a[j] = a[j-1]
		}
		a[j] = x
	}
}

// varying has the bits set in which first words differ.
func varying[E rec](a []E) uint64 {
	var d uint64
	first := a[0][0]
	for i := range a {
		d |= a[i][0] ^ first
	}
	return d
}

// radixMSD spreads a by its highest varying bits, then sorts each bucket.
func radixMSD[E rec](a, tmp []E, workers int) {
	if len(a) <= radixSmall {
		insertionSort(a)
		return
	}
	diff := varying(a)
	if diff == 0 {
		return
	}
	if len(a) <= radixLSD {
		radixPasses(a, tmp, diff)
		return
	}
	shift := max(0, bits.Len64(diff)-radixBits)
	var ends [1 << radixBits]int
	for i := range a {
		ends[a[i][0]>>shift&(1<<radixBits-1)]++
	}
	sum := 0
	for i, n := range ends {
		ends[i] = sum
		sum += n
	}
	for i := range a {
		b := a[i][0] >> shift & (1<<radixBits - 1)
		tmp[ends[b]] = a[i]
		ends[b]++
	}
	copy(a, tmp)
	if shift == 0 {
		return
	}
	bucket := func(b, workers int) {
		from := 0
		if b > 0 {
			from = ends[b-1]
		}
		if ends[b]-from > 1 {
			radixMSD(a[from:ends[b]], tmp[from:ends[b]], workers)
		}
	}
	if workers <= 1 || len(a) < radixSpread {
		for b := range ends {
			bucket(b, 1)
		}
		return
	}
	parallel(workers, len(ends), func(_, b int) { bucket(b, 1) })
}

// radixPasses sorts by the varying bytes, lowest first.
func radixPasses[E rec](a, tmp []E, diff uint64) {
	src, dst := a, tmp[:len(a)]
	for shift := 0; shift < 64; shift += 8 {
		if diff>>shift&0xff == 0 {
			continue
		}
		var ends [256]int
		for i := range src {
			ends[byte(src[i][0]>>shift)]++
		}
		sum := 0
		for i, n := range ends {
			ends[i] = sum
			sum += n
		}
		for i := range src {
			b := byte(src[i][0] >> shift)
			dst[ends[b]] = src[i]
			ends[b]++
		}
		src, dst = dst, src
	}
	if &src[0] != &a[0] {
		copy(a, src)
	}
}

// parallel calls f(worker, i) for i below n on up to workers goroutines.
func parallel(workers, n int, f func(worker, i int)) {
	workers = min(workers, n)
	if workers <= 1 {
		for i := range n {
			f(0, i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(w, i)
			}
		})
	}
	wg.Wait()
}

// runs calls f for every run of at least two equal first words. f may change
// them within its run.
func runs[E rec](a []E, workers int, f func(run []E)) {
	scan := func(a []E) {
		for i := 0; i < len(a); {
			j := i + 1
			for j < len(a) && a[j][0] == a[i][0] {
				j++
			}
			if j > i+1 {
				f(a[i:j])
			}
			i = j
		}
	}
	if workers <= 1 || len(a) < radixSpread {
		scan(a)
		return
	}
	// Shares are cut between runs, before any f changes a word.
	cuts := make([]int, 16*workers+1)
	for i := range cuts {
		at := max(len(a)*i/(len(cuts)-1), cuts[max(0, i-1)])
		for at > 0 && at < len(a) && a[at][0] == a[at-1][0] {
			at++
		}
		cuts[i] = at
	}
	parallel(workers, len(cuts)-1, func(_, i int) { scan(a[cuts[i]:cuts[i+1]]) })
}

// sortWide sorts records by their first two words.
func sortWide(a [][3]uint64, workers int) {
	sortRecs(a, workers)
	runs(a, workers, func(run [][3]uint64) {
		if len(run) <= radixSmall {
			slices.SortFunc(run, func(x, y [3]uint64) int { return cmp.Compare(x[1], y[1]) })
			return
		}
		swapSort(run)
	})
}

// swapSort sorts a run of equal first words by the second.
func swapSort(run [][3]uint64) {
	for i := range run {
		run[i][0], run[i][1] = run[i][1], run[i][0]
	}
	sortRecs(run, 1)
	for i := range run {
		run[i][0], run[i][1] = run[i][1], run[i][0]
	}
}

// chunk8 is the 8 bytes of b from depth, big endian, padded with zeros.
func chunk8(b []byte, depth int) uint64 {
	if len(b) >= depth+8 {
		b = b[depth : depth+8]
		return uint64(b[0])<<56 | uint64(b[1])<<48 | uint64(b[2])<<40 | uint64(b[3])<<32 |
			uint64(b[4])<<24 | uint64(b[5])<<16 | uint64(b[6])<<8 | uint64(b[7])
	}
	var v uint64
	for i := depth; i < depth+8; i++ {
		v <<= 8
		if i < len(b) {
			v |= uint64(b[i])
		}
	}
	return v
}

// sortStrings sorts records {chunk, index} by the strings that at(index) gives:
// by 8 bytes at a time, ties by the next 8.
func sortStrings(a [][2]uint64, at func(uint64) []byte, workers int) {
	for i := range a {
		a[i][0] = chunk8(at(a[i][1]), 0)
	}
	sortRecs(a, workers)
	runs(a, workers, func(run [][2]uint64) { sortTies(run, at, 0) })
}

// sortTies sorts records whose strings agree, padded, up to depth+8.
func sortTies(run [][2]uint64, at func(uint64) []byte, depth int) {
	for {
		if len(run) <= radixSmall {
			slices.SortFunc(run, func(x, y [2]uint64) int {
				xs, ys := at(x[1]), at(y[1])
				return bytes.Compare(xs[min(depth, len(xs)):], ys[min(depth, len(ys)):])
			})
			return
		}
		// Strings that end here come before those that go on, shorter ones first:
		// what they lack was compared as zeros.
		depth += 8
		ended := 0
		for i := range run {
			if len(at(run[i][1])) <= depth {
				run[i], run[ended] = run[ended], run[i]
				ended++
			}
		}
		slices.SortFunc(run[:ended], func(x, y [2]uint64) int { return cmp.Compare(len(at(x[1])), len(at(y[1]))) })
		run = run[ended:]
		if len(run) < 2 {
			return
		}
		for i := range run {
			run[i][0] = chunk8(at(run[i][1]), depth)
		}
		if varying(run) != 0 {
			break
		}
	}
	sortRecs(run, 1)
	runs(run, 1, func(sub [][2]uint64) { sortTies(sub, at, depth) })
}
