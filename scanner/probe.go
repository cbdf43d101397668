package scanner

import (
	"fmt"
	"math/bits"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/keyset"
)

// batch is how many values are probed at a time: hashes and selections of a
// batch stay in the first-level cache.
const batch = 4096

// probeValues appends the indexes of the values that are keys.
func probeValues(dst []int32, m *keyset.Matcher, v *pq.Values) ([]int32, error) {
	for i := 0; i < v.N; i += batch {
		n := min(batch, v.N-i)
		at := len(dst)
		switch v.Type {
		case format.Int32:
			dst = m.SelectInt32(dst, v.Int32[i:i+n])
		case format.Int64:
			dst = m.SelectInt64(dst, v.Int64[i:i+n])
		case format.ByteArray:
			dst = m.SelectBytes(dst, v.Bytes, v.Offsets[i:i+n+1])
		case format.FixedLenByteArray:
			dst = m.SelectFixed(dst, v.Bytes[i*v.Width:(i+n)*v.Width], v.Width)
		default:
			return dst, fmt.Errorf("type %s: %w", v.Type, keyset.ErrType)
		}
		if i > 0 {
			for j := range dst[at:] {
				dst[at+j] += int32(i)
			}
		}
	}
	return dst, nil
}

// dictionaryProbe holds which entries of a dictionary are keys: every entry is
// probed once, and rows only look their index up.
type dictionaryProbe struct {
	loaded, any bool
	n           int
	// mask has a byte an entry: 0 = no key, 1 = key. It is padded to a power
	// of two with 2 = no such entry, so that indexes need no bounds check of
	// their own.
	mask    []uint8
	hits    []int32
	index   []uint32
	scratch []byte
}

func (d *dictionaryProbe) reset() { d.loaded, d.any, d.n = false, false, 0 }

func (d *dictionaryProbe) load(m *keyset.Matcher, dict *pq.Values) error {
	var err error
	if d.hits, err = probeValues(d.hits[:0], m, dict); err != nil {
		return err
	}
	d.loaded, d.any, d.n = true, len(d.hits) > 0, dict.N
	size := 1 << bits.Len(uint(max(dict.N, 1)-1))
	if cap(d.mask) < size {
		d.mask = make([]uint8, size)
	}
	d.mask = d.mask[:size]
	clear(d.mask[:dict.N])
	for i := dict.N; i < size; i++ {
		d.mask[i] = 2
	}
	for _, i := range d.hits {
		d.mask[i] = 1
	}
	return nil
}

// selectIndexes appends the positions, among the n values of a page's value
// section, whose dictionary entry is a key.
func (d *dictionaryProbe) selectIndexes(dst []int32, src []byte, n int) ([]int32, error) {
	runs, width, err := pq.IndexRuns(src, n)
	if err != nil {
		return dst, err
	}
	at := int32(0)
	for {
		run, ok, err := runs.Next()
		if err != nil || !ok {
			return dst, err
		}
		if run.Packed == nil {
			switch {
			case int64(run.Value) >= int64(d.n):
				return dst, pq.ErrDictionaryIndex
			case d.mask[run.Value] == 1:
				for i := range int32(run.Count) {
					dst = append(dst, at+i)
				}
			}
		} else if dst, ok = d.selectPacked(dst, run, width, at); !ok {
			return dst, pq.ErrDictionaryIndex
		}
		at += int32(run.Count)
	}
}

// entriesOf calls visit with the dictionary entry of each of the positions,
// which ascend, repeated ones of a run once.
func (d *dictionaryProbe) entriesOf(src []byte, n int, positions []int32, visit func(entry int)) error {
	runs, width, err := pq.IndexRuns(src, n)
	if err != nil {
		return err
	}
	at, last := 0, -1
	for len(positions) > 0 {
		run, ok, err := runs.Next()
		if err != nil || !ok {
			return err
		}
		for ; len(positions) > 0 && int(positions[0]) < at+run.Count; positions = positions[1:] {
			entry := int(run.Value)
			if run.Packed != nil {
				entry = int(packedAt(run.Packed, width, int(positions[0])-at))
			}
			if entry != last {
				visit(entry)
				last = entry
			}
		}
		at += run.Count
	}
	return nil
}

// packedAt is the i-th value of a bit-packed run (Encodings.md, RLE/bit-packing hybrid).
func packedAt(packed []byte, width, i int) (v uint32) {
	for b := range width {
		at := i*width + b
		if at/8 < len(packed) {
			v |= uint32(packed[at/8]>>(at%8)&1) << b
		}
	}
	return v
}

// selectPacked unpacks a run piece by piece and looks the indexes up.
func (d *dictionaryProbe) selectPacked(dst []int32, run pq.Run, width int, at int32) (_ []int32, ok bool) {
	if width == 0 {
		run.Packed = nil
	}
	d.index = d.index[:0]
	if cap(d.index) < batch {
		d.index = make([]uint32, 0, batch)
	}
	// An index can only pass the mask's end when the bit width allows it.
	wide := width > bits.Len(uint(len(d.mask)-1))
	packed := run.Packed
	for done := 0; done < run.Count; done += batch {
		n := min(batch, run.Count-done)
		index := d.index[:n]
		pq.Unpack(index, packed, width, &d.scratch)
		packed = packed[min(len(packed), batch*width/8):]
		if wide {
			for _, x := range index {
				if int64(x) >= int64(d.n) {
					return dst, false
				}
			}
		}
		if dst, ok = lookUp(dst, d.mask, index, at+int32(done)); !ok {
			return dst, false
		}
	}
	return dst, true
}

// lookUp appends the positions of indexes whose mask is 1. The mask's length
// is a power of two above every index.
func lookUp(dst []int32, mask []uint8, index []uint32, at int32) (_ []int32, ok bool) {
	last := uint32(len(mask) - 1)
	var i int
	for ; i+8 <= len(index); i += 8 {
		x := (*[8]uint32)(index[i:])
		any := mask[x[0]&last] | mask[x[1]&last] | mask[x[2]&last] | mask[x[3]&last] |
			mask[x[4]&last] | mask[x[5]&last] | mask[x[6]&last] | mask[x[7]&last]
		if any == 0 {
			continue
		}
		for j, e := range x {
			switch mask[e&last] {
			case 1:
				dst = append(dst, at+int32(i+j))
			case 2:
				return dst, false
			}
		}
	}
	for ; i < len(index); i++ {
		switch mask[index[i]&last] {
		case 1:
			dst = append(dst, at+int32(i))
		case 2:
			return dst, false
		}
	}
	return dst, true
}
