package pq

import (
	"github.com/parquet-go/bitpack"
	"github.com/parquet-go/parquet-go/format"
)

// deltaStream decodes DELTA_BINARY_PACKED (Encodings.md, "Delta Encoding")
// into dst's memory. It must hold exactly n values. rest is what follows.
func deltaStream(dst []int64, src []byte, n int, scratch *[]byte) (out []int64, rest []byte, err error) {
	c := cursor{b: src}
	block, minis, total := c.uvarint(), c.uvarint(), c.uvarint()
	first := c.varint()
	if !c.ok() {
		return nil, nil, corrupt("delta header ends early")
	}
	if total != uint64(n) {
		return nil, nil, corrupt("delta block of %d values for %d", total, n)
	}
	if minis == 0 || block == 0 || block > 1<<24 || block%minis != 0 || block/minis%8 != 0 {
		return nil, nil, corrupt("delta block of %d values in %d miniblocks", block, minis)
	}
	out = dst[:0]
	if n == 0 {
		return out, src[c.i:], nil
	}
	d := deltaBlocks{c: c, perMini: int(block / minis), minis: int(minis), last: first, scratch: scratch}
	out = append(out, first)
	for len(out) < n {
		if out, err = d.block(out, n); err != nil {
			return nil, nil, err
		}
	}
	return out, src[d.c.i:], nil
}

type deltaBlocks struct {
	c       cursor
	perMini int
	minis   int
	last    int64
	scratch *[]byte
}

// block decodes one block: the least delta, the miniblocks' bit widths, then
// the miniblocks that hold values.
func (d *deltaBlocks) block(out []int64, n int) ([]int64, error) {
	least := d.c.varint()
	widthsAt := d.c.i
	d.c.skipBytes(uint64(d.minis))
	if !d.c.ok() {
		return nil, corrupt("delta block ends early")
	}
	for _, width := range d.c.b[widthsAt : widthsAt+d.minis] {
		if len(out) == n {
			break
		}
		if width > 64 {
			return nil, corrupt("bit width of %d", width)
		}
		count := min(d.perMini, n-len(out))
		packed := d.c.b[d.c.i:]
		size := d.perMini * int(width) / 8
		if (count*int(width)+7)/8 > len(packed) {
			return nil, corrupt("delta miniblock ends early")
		}
		d.c.i += min(size, len(packed))
		i := len(out)
		out = grow(out, (count+7)/8*8)
		d.unpack(out[i:], packed, int(width))
		out = out[:i+count]
		last := d.last
		for j, x := range out[i:] {
			last += x + least // wraps on purpose
			out[i+j] = last
		}
		d.last = last
	}
	return out, nil
}

// unpack fills dst, whose length is a multiple of 8.
func (d *deltaBlocks) unpack(dst []int64, packed []byte, width int) {
	if width == 0 {
		clear(dst)
		return
	}
	need := len(dst) * width / 8
	in := packed
	if cap(in) < need+bitpack.PaddingInt64 {
		s := grow((*d.scratch)[:0], need+bitpack.PaddingInt64)
		clear(s[copy(s, in[:min(len(in), need)]):])
		*d.scratch = s
		in = s
	}
	bitpack.Unpack(dst, in[:need+bitpack.PaddingInt64], uint(width))
}

func (v *Values) deltaInts(src []byte) error {
	out, _, err := deltaStream(v.own.int64s, src, v.N, &v.own.scratch)
	if err != nil {
		return err
	}
	v.own.int64s = out
	if v.Type == format.Int64 {
		v.Int64 = out
		return nil
	}
	v.own.int32s = grow(v.own.int32s[:0], len(out))
	v.Int32 = v.own.int32s
	for i, x := range out {
		v.Int32[i] = int32(x)
	}
	return nil
}

// lengths decodes the i-th of a section's length streams.
func (v *Values) lengths(i int, src []byte) (out []int64, rest []byte, err error) {
	out, rest, err = deltaStream(v.own.lengths[i], src, v.N, &v.own.scratch)
	if err == nil {
		v.own.lengths[i] = out
	}
	return out, rest, err
}

// deltaLengths: Encodings.md, "Delta-length byte array". The bytes are used
// where they lie.
func (v *Values) deltaLengths(src []byte) error {
	lengths, data, err := v.lengths(0, src)
	if err != nil {
		return err
	}
	offsets := grow(v.own.offsets[:0], v.N+1)
	v.own.offsets = offsets
	total := int64(0)
	for i, n := range lengths {
		offsets[i] = uint32(total)
		if n < 0 || n > int64(len(data))-total {
			return corrupt("values end early")
		}
		total += n
	}
	offsets[v.N] = uint32(total)
	v.Offsets, v.Bytes = offsets, data[:total]
	return nil
}

// deltaBytes: Encodings.md, "Delta Strings": shared prefix lengths, then the
// suffixes as delta-length byte arrays.
func (v *Values) deltaBytes(src []byte) error {
	prefixes, rest, err := v.lengths(0, src)
	if err != nil {
		return err
	}
	suffixes, data, err := v.lengths(1, rest)
	if err != nil {
		return err
	}
	total, err := v.checkDeltaBytes(prefixes, suffixes, len(data))
	if err != nil {
		return err
	}
	out := grow(v.own.bytes[:0], total)
	offsets := grow(v.own.offsets[:0], v.N+1)
	at, prev := 0, 0
	for i, p := range prefixes {
		offsets[i] = uint32(at)
		start := at
		at += copy(out[at:], out[prev:prev+int(p)])
		at += copy(out[at:], data[:suffixes[i]])
		data = data[suffixes[i]:]
		prev = start
	}
	offsets[v.N] = uint32(at)
	v.own.bytes, v.own.offsets = out, offsets
	v.Bytes = out
	if v.Type == format.ByteArray {
		v.Offsets = offsets
	}
	return nil
}

// checkDeltaBytes makes sure that every prefix and suffix exists, and returns
// the size of the output before any of it is allocated.
func (v *Values) checkDeltaBytes(prefixes, suffixes []int64, data int) (int, error) {
	var total, last int64
	left := int64(data)
	for i, p := range prefixes {
		s := suffixes[i]
		if p < 0 || p > last || s < 0 || s > left {
			return 0, corrupt("values end early")
		}
		left -= s
		last = p + s
		if v.Type == format.FixedLenByteArray && last != int64(v.Width) {
			return 0, corrupt("fixed-length value of %d bytes", last)
		}
		if total += last; total > maxDecoded {
			return 0, unsupported("page of more than %d bytes once decoded", maxDecoded)
		}
	}
	return int(total), nil
}
