package parquet

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// valueWidth is the PLAIN width of a column's values; 0 for BOOLEAN and BYTE_ARRAY.
func valueWidth(c *pq.Column) int {
	switch c.Type {
	case format.Int32, format.Float:
		return 4
	case format.Int64, format.Double:
		return 8
	case format.Int96:
		return 12
	case format.FixedLenByteArray:
		return c.TypeLength
	}
	return 0
}

// cutPlain applies an edit list to PLAIN values of a fixed width.
func cutPlain(dst, src []byte, width int, list *editList) []byte {
	a := assembly{buf: dst}
	a.plain(src, 0, width, list)
	return a.buf
}

// cutPlainBytes applies an edit list to PLAIN byte arrays, as they begin at starts.
func cutPlainBytes(dst, src []byte, starts []uint32, list *editList) []byte {
	a := assembly{buf: dst}
	a.byteArrays(src, 0, starts, list)
	return a.buf
}

// plain applies an edit list to PLAIN values of a fixed width, which begin at
// base in the source's body.
func (a *assembly) plain(src []byte, base, width int, list *editList) {
	for _, o := range list.ops {
		if o.literal == nil {
			a.keep(src, base, o.from*width, o.to*width)
			continue
		}
		at := len(a.buf)
		a.buf = appendTimes(a.buf, o.literal, o.to-o.from)
		a.fresh(at)
	}
}

// appendTimes appends n copies of b.
func appendTimes(dst, b []byte, n int) []byte {
	for range n {
		dst = append(dst, b...)
	}
	return dst
}

// byteArrays applies an edit list to PLAIN byte arrays, each behind its 4-byte
// length; starts are where they begin in src. Ranges are copied whole.
func (a *assembly) byteArrays(src []byte, base int, starts []uint32, list *editList) {
	for _, o := range list.ops {
		if o.literal == nil {
			a.keep(src, base, int(starts[o.from]), int(starts[o.to]))
			continue
		}
		at := len(a.buf)
		for range o.to - o.from {
			a.buf = binary.LittleEndian.AppendUint32(a.buf, uint32(len(o.literal)))
			a.buf = append(a.buf, o.literal...)
		}
		a.fresh(at)
	}
}

// cutPlainBools applies an edit list to bits, least significant first.
func cutPlainBools(dst, src []byte, list *editList) []byte {
	var word, bit uint
	put := func(b uint) {
		word |= b << bit
		if bit++; bit == 8 {
			dst = append(dst, byte(word))
			word, bit = 0, 0
		}
	}
	for _, o := range list.ops {
		for i := o.from; i < o.to; i++ {
			if o.literal != nil {
				put(uint(o.literal[0]))
			} else {
				put(uint(src[i>>3]>>(i&7)) & 1)
			}
		}
	}
	if bit > 0 {
		dst = append(dst, byte(word))
	}
	return dst
}

// cutStreams applies an edit list to n BYTE_STREAM_SPLIT values: byte k of all
// values lies in stream k (Encodings.md, "Byte Stream Split").
func cutStreams(dst, src []byte, width, n int, list *editList) []byte {
	for k := range width {
		stream := src[k*n : (k+1)*n]
		for _, o := range list.ops {
			if o.literal == nil {
				dst = append(dst, stream[o.from:o.to]...)
				continue
			}
			for range o.to - o.from {
				dst = append(dst, o.literal[k])
			}
		}
	}
	return dst
}

// cutBools applies an edit list to decoded booleans and encodes them as RLE
// with its length in front.
func cutBools(dst []byte, src []bool, list *editList) ([]byte, error) {
	bits := make([]uint8, 0, list.n)
	for _, o := range list.ops {
		for i := o.from; i < o.to; i++ {
			var b uint8
			if o.literal != nil {
				b = o.literal[0]
			} else if src[i] {
				b = 1
			}
			bits = append(bits, b)
		}
	}
	return appendLevels(dst, bits, 1, true)
}

// appendLevels encodes levels as RLE hybrid of a bit width, behind a 4-byte
// length where asked for.
func appendLevels(dst []byte, src []uint8, width int, prefix bool) ([]byte, error) {
	var out []byte
	if n := len(src); n > 0 && bytes.Equal(src[1:], src[:n-1]) {
		// One run, as writers do; the library would make two.
		out = append(binary.AppendUvarint(nil, uint64(n)<<1), src[0])
	} else {
		e := rle.Encoding{BitWidth: width}
		var err error
		if out, err = hybrid(src, e.EncodeLevels); err != nil {
			return nil, err
		}
	}
	if prefix {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(out)))
	}
	return append(dst, out...), nil
}

// hybrid encodes in RLE hybrid. Up to seven values at the end become one packed
// group or one run: the library makes a run of each change, which is longer than
// the values, and fastparquet reads no more bytes of levels than there are levels.
func hybrid[T comparable](src []T, encode func(dst []byte, src []T) ([]byte, error)) ([]byte, error) {
	whole := len(src) &^ 7
	var out []byte
	var err error
	if whole > 0 { // of nothing the library makes a run of no values, which readers refuse
		out, err = encode(nil, src[:whole])
	}
	rest := src[whole:]
	if err != nil || len(rest) == 0 {
		return out, err
	}
	if slices.ContainsFunc(rest, func(v T) bool { return v != rest[0] }) {
		var group [8]T // zeros behind the last value are padding (Encodings.md, "RLE/Bit-Packing Hybrid")
		copy(group[:], rest)
		rest = group[:]
	}
	last, err := encode(nil, rest)
	return append(out, last...), err
}

// cutIndexes applies an edit list to dictionary indexes. Literals become the
// entries that index gives them.
func cutIndexes(src []uint32, list *editList, index func(literal []byte) uint32) []int32 {
	out := make([]int32, 0, list.n)
	for _, o := range list.ops {
		if o.literal != nil {
			x := int32(index(o.literal))
			for range o.to - o.from {
				out = append(out, x)
			}
			continue
		}
		for _, x := range src[o.from:o.to] {
			out = append(out, int32(x))
		}
	}
	return out
}

// appendIndexes encodes dictionary indexes: a byte with the bit width, then the hybrid.
func appendIndexes(dst []byte, src []int32, width int) ([]byte, error) {
	if width == 0 { // one run; arrow-go reads no second one of no bits
		return binary.AppendUvarint(append(dst, 0), uint64(len(src))<<1), nil
	}
	e := rle.Encoding{BitWidth: width}
	out, err := hybrid(src, e.EncodeInt32)
	if err != nil {
		return nil, err
	}
	return append(append(dst, byte(width)), out...), nil
}

// cutDelta applies an edit list to decoded values and encodes them in one of
// the delta encodings.
func cutDelta(dst []byte, v *pq.Values, enc format.Encoding, list *editList) ([]byte, error) {
	var out []byte
	var err error
	switch {
	case enc == format.DeltaBinaryPacked && v.Type == format.Int32:
		vals := pick(v.Int32, list, func(b []byte) int32 { return int32(binary.LittleEndian.Uint32(b)) })
		out, err = new(delta.BinaryPackedEncoding).EncodeInt32(nil, vals)
	case enc == format.DeltaBinaryPacked && v.Type == format.Int64:
		vals := pick(v.Int64, list, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) })
		out, err = new(delta.BinaryPackedEncoding).EncodeInt64(nil, vals)
	case enc == format.DeltaLengthByteArray && v.Type == format.ByteArray:
		data, offsets := pickBytes(v, list)
		out, err = new(delta.LengthByteArrayEncoding).EncodeByteArray(nil, data, offsets)
	case enc == format.DeltaByteArray && v.Type == format.ByteArray:
		data, offsets := pickBytes(v, list)
		out, err = new(delta.ByteArrayEncoding).EncodeByteArray(nil, data, offsets)
	case enc == format.DeltaByteArray && v.Type == format.FixedLenByteArray:
		data := cutPlain(nil, v.Bytes, v.Width, list)
		out, err = new(delta.ByteArrayEncoding).EncodeFixedLenByteArray(nil, data, v.Width)
	default:
		return nil, &rewriter.UnsupportedError{What: "encoding " + enc.String() + " of type " + v.Type.String()}
	}
	return append(dst, out...), err
}

func pick[T any](src []T, list *editList, parse func([]byte) T) []T {
	out := make([]T, 0, list.n)
	for _, o := range list.ops {
		if o.literal == nil {
			out = append(out, src[o.from:o.to]...)
			continue
		}
		x := parse(o.literal)
		for range o.to - o.from {
			out = append(out, x)
		}
	}
	return out
}

func pickBytes(v *pq.Values, list *editList) (data []byte, offsets []uint32) {
	offsets = append(make([]uint32, 0, list.n+1), 0)
	for _, o := range list.ops {
		if o.literal != nil {
			for range o.to - o.from {
				data = append(data, o.literal...)
				offsets = append(offsets, uint32(len(data)))
			}
			continue
		}
		shift := uint32(len(data)) - v.Offsets[o.from]
		data = append(data, v.Bytes[v.Offsets[o.from]:v.Offsets[o.to]]...)
		for _, end := range v.Offsets[o.from+1 : o.to+1] {
			offsets = append(offsets, end+shift)
		}
	}
	return data, offsets
}
