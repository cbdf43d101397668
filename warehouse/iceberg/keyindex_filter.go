package iceberg

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// errNotIndexable: no filter is kept of the file; it is scanned each time.
var errNotIndexable = errors.New("not indexable")

// filterBits is the Golomb-Rice parameter: a hash that is not in a filter is
// taken for one that is with probability 2^-26. A night asks each filter about
// every key, so a filter for single look-ups (0.1 %) would exclude nothing.
const filterBits = 26

// keyFilter is a Golomb-coded set: the sorted hashes, mapped to the range
// [0, n·2^26), as differences in Golomb-Rice code; about 27.5 bits a key.
type keyFilter struct {
	n    int
	data []byte
}

// encodeFilter makes a filter of sorted distinct hashes.
func encodeFilter(hashes []uint64) keyFilter {
	f := keyFilter{n: len(hashes)}
	w := bitWriter{buf: make([]byte, 0, len(hashes)*4)}
	last := uint64(0)
	for _, h := range hashes {
		v := f.reduce(h)
		d := v - last
		last = v
		for q := d >> filterBits; q > 0; q-- {
			w.write(1, 1)
		}
		w.write(0, 1)
		w.write(d&(1<<filterBits-1), filterBits)
	}
	f.data = w.finish()
	return f
}

// reduce maps a hash to the filter's range; it keeps the order.
func (f keyFilter) reduce(h uint64) uint64 {
	hi, _ := bits.Mul64(h, uint64(f.n)<<filterBits)
	return hi
}

// mayHold says whether any of the sorted hashes may be in the filter. Both are
// walked once, side by side.
func (f keyFilter) mayHold(hashes []uint64) (bool, error) {
	if f.n == 0 || len(hashes) == 0 {
		return false, nil
	}
	r := bitReader{buf: f.data}
	i, want := 0, f.reduce(hashes[0])
	v := uint64(0)
	for range f.n {
		d, ok := r.golomb()
		if !ok {
			return false, errCorruptIndex
		}
		v += d
		for want < v {
			if i++; i == len(hashes) {
				return false, nil
			}
			want = f.reduce(hashes[i])
		}
		if want == v {
			return true, nil
		}
	}
	return false, nil
}

// bitWriter packs bits, first bit lowest.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint
}

func (w *bitWriter) write(v uint64, n uint) {
	w.acc |= v << w.n
	w.n += n
	for w.n >= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
		w.n -= 8
	}
}

func (w *bitWriter) finish() []byte {
	if w.n > 0 {
		w.buf = append(w.buf, byte(w.acc))
	}
	return w.buf
}

type bitReader struct {
	buf []byte
	acc uint64
	n   uint
}

func (r *bitReader) fill() {
	if len(r.buf) >= 8 {
		r.acc |= binary.LittleEndian.Uint64(r.buf) << r.n
		take := (63 - r.n) / 8
		r.buf = r.buf[take:]
		r.n += take * 8
		return
	}
	for r.n <= 56 && len(r.buf) > 0 {
		r.acc |= uint64(r.buf[0]) << r.n
		r.buf = r.buf[1:]
		r.n += 8
	}
}

// golomb reads one difference; false at the end of the bits.
func (r *bitReader) golomb() (uint64, bool) {
	var q uint64
	for {
		r.fill()
		if r.n == 0 {
			return 0, false
		}
		ones := uint(bits.TrailingZeros64(^r.acc))
		if ones < r.n {
			q += uint64(ones)
			r.drop(ones + 1)
			break
		}
		q += uint64(r.n)
		r.drop(r.n)
	}
	r.fill()
	if r.n < filterBits {
		return 0, false
	}
	v := q<<filterBits | r.acc&(1<<filterBits-1)
	r.drop(filterBits)
	return v, true
}

// drop forgets bits. Above n bits acc may hold bits that fill reads again.
func (r *bitReader) drop(n uint) {
	r.acc >>= n
	r.n -= n
	if r.n < 64 {
		r.acc &= 1<<r.n - 1
	}
}
