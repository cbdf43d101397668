package pq

import (
	"encoding/binary"
	"math/bits"

	"github.com/parquet-go/bitpack"
	"github.com/parquet-go/parquet-go/format"
)

// Run is a stretch of the RLE/bit-packing hybrid (Encodings.md): either a
// repeated value or packed values.
type Run struct {
	Count  int    // values, cut to what the page still needs
	Value  uint32 // when Packed is nil; may be wider: parquet-go writes 0xff for true
	Packed []byte // bit-packed values, least significant bit first
}

// Runs iterates over the hybrid encoding. It never yields more than the n
// values asked for.
type Runs struct {
	src   []byte
	width int
	left  int
}

// NewRuns reads n values of the given bit width from src. src starts at the
// first run: length prefixes and the width byte are the caller's.
func NewRuns(src []byte, width, n int) Runs { return Runs{src: src, width: width, left: n} }

// Rest is how many bytes of src were not read yet.
func (r *Runs) Rest() int { return len(r.src) }

// Next returns the next run; ok is false at the end. An error says that src
// ends before n values.
func (r *Runs) Next() (run Run, ok bool, err error) {
	for r.left > 0 {
		var u uint64
		if len(r.src) > 0 && r.src[0] < 0x80 { // of random data most runs are short
			u, r.src = uint64(r.src[0]), r.src[1:]
		} else {
			var n int
			if u, n = binary.Uvarint(r.src); n <= 0 {
				return run, false, corrupt("run-length data ends early")
			}
			r.src = r.src[n:]
		}
		count := u >> 1
		if count == 0 {
			continue
		}
		if u&1 == 0 {
			return r.repeated(count)
		}
		return r.packed(count)
	}
	return run, false, nil
}

func (r *Runs) repeated(count uint64) (run Run, ok bool, err error) {
	size := (r.width + 7) / 8
	if size > len(r.src) {
		return run, false, corrupt("run-length data ends early")
	}
	for i := range size {
		run.Value |= uint32(r.src[i]) << (8 * i)
	}
	r.src = r.src[size:]
	run.Count = int(min(count, uint64(r.left)))
	r.left -= run.Count
	return run, true, nil
}

func (r *Runs) packed(groups uint64) (run Run, ok bool, err error) {
	// A group is 8 values in width bytes. Some writers cut the last group's
	// padding off: only the values that are needed must be there.
	count := int(min(groups, uint64(r.left+7)/8) * 8)
	run.Count = min(count, r.left)
	if need := (run.Count*r.width + 7) / 8; need > len(r.src) {
		return run, false, corrupt("bit-packed data ends early")
	}
	size := uint64(len(r.src))
	if r.width > 0 && groups <= size/uint64(r.width) {
		size = groups * uint64(r.width)
	}
	if r.width == 0 {
		size = 0
	}
	run.Packed = r.src[:size]
	r.src = r.src[size:]
	r.left -= run.Count
	return run, true, nil
}

// unpackPadding is what bitpack may read behind its input.
const unpackPadding = bitpack.PaddingInt32

// Unpack decodes a run's packed values into dst, whose capacity must reach its
// length rounded up to 8. scratch is used where the input has no room behind
// it for vector loads.
func Unpack(dst []uint32, packed []byte, width int, scratch *[]byte) {
	if width == 0 {
		clear(dst)
		return
	}
	full := dst[:(len(dst)+7)/8*8]
	need := len(full) * width / 8
	in := packed
	if cap(in) < need+unpackPadding {
		*scratch = append((*scratch)[:0], in[:min(len(in), need)]...)
		*scratch = append(*scratch, make([]byte, need-min(len(in), need)+unpackPadding)...)
		in = *scratch
	}
	bitpack.Unpack(full, in[:need+unpackPadding], uint(width))
}

// decodeHybrid appends n values to dst.
func decodeHybrid(dst []uint32, src []byte, width, n int, scratch *[]byte) ([]uint32, error) {
	if width > 32 {
		return nil, corrupt("bit width of %d", width)
	}
	runs := NewRuns(src, width, n)
	for {
		run, ok, err := runs.Next()
		if err != nil || !ok {
			return dst, err
		}
		i := len(dst)
		dst = grow(dst, (run.Count+7)/8*8)
		if run.Packed == nil {
			fill(dst[i:i+run.Count], run.Value)
		} else {
			Unpack(dst[i:i+run.Count], run.Packed, width, scratch)
		}
		dst = dst[:i+run.Count]
	}
}

// grow returns s with n more elements of unspecified content.
func grow[T any](s []T, n int) []T {
	need := len(s) + n
	if cap(s) >= need {
		return s[:need]
	}
	t := make([]T, need, max(need, 2*cap(s)))
	copy(t, s)
	return t
}

func fill[T any](s []T, v T) {
	if len(s) <= 32 {
		for i := range s {
			s[i] = v
		}
		return
	}
	s[0] = v
	for n := 1; n < len(s); n *= 2 {
		copy(s[n:], s[:n])
	}
}

// levelWidth is the bit width of levels up to maxLevel.
func levelWidth(maxLevel int) int { return bits.Len(uint(maxLevel)) }

// DecodeLevels decodes n levels of at most maxLevel into dst's memory. src
// holds the encoded levels alone, without a length prefix.
func DecodeLevels(dst []uint8, src []byte, enc format.Encoding, maxLevel, n int) ([]uint8, error) {
	dst = dst[:0]
	var err error
	switch enc {
	case format.RLE:
		dst, err = decodeRLELevels(dst, src, maxLevel, n)
	case format.BitPacked:
		dst, err = decodePackedLevels(dst, src, maxLevel, n)
	default:
		return nil, unsupported("levels in encoding %s", enc)
	}
	return dst, err
}

func decodeRLELevels(dst []uint8, src []byte, maxLevel, n int) ([]uint8, error) {
	width := levelWidth(maxLevel)
	runs := NewRuns(src, width, n)
	for {
		run, ok, err := runs.Next()
		if err != nil || !ok {
			return dst, err
		}
		i := len(dst)
		dst = grow(dst, run.Count)
		out := dst[i:]
		if run.Packed == nil {
			if int(run.Value) > maxLevel {
				return nil, corrupt("level above %d", maxLevel)
			}
			fill(out, uint8(run.Value))
		} else if !unpackLevels(out, run.Packed, width, maxLevel) {
			return nil, corrupt("level above %d", maxLevel)
		}
	}
}

// spread1 and spread2 are the values of one and two bits in a byte, a byte each.
var spread1, spread2 = func() (one [256]uint64, two [256]uint32) {
	for i := range 256 {
		for k := range 8 {
			one[i] |= uint64(i>>k&1) << (8 * k)
		}
		for k := range 4 {
			two[i] |= uint32(i>>(2*k)&3) << (8 * k)
		}
	}
	return one, two
}()

// spread puts the eight values of a width in w a byte each.
func spread(w uint64, width int) uint64 {
	switch width {
	case 1:
		return spread1[w&0xFF]
	case 2:
		return uint64(spread2[w&0xFF]) | uint64(spread2[w>>8&0xFF])<<32
	}
	mask := uint64(1)<<width - 1
	var v uint64
	for k := range 8 {
		v |= (w >> (k * width) & mask) << (8 * k)
	}
	return v
}

// unpackLevels decodes levels of up to 7 bits, eight at a time. It is false
// when a level is above maxLevel.
func unpackLevels(out []uint8, packed []byte, width, maxLevel int) bool {
	// Added to a level above maxLevel this sets its byte's high bit.
	room := uint64(0x7F-maxLevel) * 0x0101010101010101
	var above uint64
	for len(out) >= 8 && len(packed) >= 8 {
		v := spread(binary.LittleEndian.Uint64(packed), width)
		above |= v + room
		binary.LittleEndian.PutUint64(out, v)
		out, packed = out[8:], packed[width:]
	}
	for len(out) > 0 {
		var in, last [8]byte
		copy(in[:], packed[:min(width, len(packed))])
		packed = packed[min(width, len(packed)):]
		v := spread(binary.LittleEndian.Uint64(in[:]), width)
		binary.LittleEndian.PutUint64(last[:], v)
		n := copy(out, last[:])
		if n < 8 {
			v &= 1<<(8*n) - 1 // padding is no level
		}
		above |= v + room
		out = out[n:]
	}
	return above&0x8080808080808080 == 0
}

// decodePackedLevels reads the deprecated BIT_PACKED encoding: most
// significant bit first (Encodings.md, "Bit-packed (Deprecated)").
func decodePackedLevels(dst []uint8, src []byte, maxLevel, n int) ([]uint8, error) {
	width := levelWidth(maxLevel)
	if (n*width+7)/8 > len(src) {
		return nil, corrupt("bit-packed levels end early")
	}
	dst = grow(dst, n)
	bit := 0
	for i := range dst {
		v := 0
		for range width {
			v = v<<1 | int(src[bit/8]>>(7-bit%8))&1
			bit++
		}
		if v > maxLevel {
			return nil, corrupt("level above %d", maxLevel)
		}
		dst[i] = uint8(v)
	}
	return dst, nil
}
