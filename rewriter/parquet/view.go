package parquet

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// view gives a page's values as PLAIN bytes without lengths, whatever their
// encoding. Exactly one of its shapes is set.
type view struct {
	n int

	raw   []byte // fixed width, or byte arrays with offsets
	width int
	// value i of byte arrays is raw[offsets[i]+prefix : offsets[i+1]]
	offsets []uint32
	prefix  uint32

	bools []bool

	index []uint32
	dict  *view
}

var boolBytes = [2][]byte{{0}, {1}}

// at returns value i; it must not be written to.
func (v *view) at(i int) []byte {
	switch {
	case v.dict != nil:
		return v.dict.at(int(v.index[i]))
	case v.offsets != nil:
		return v.raw[v.offsets[i]+v.prefix : v.offsets[i+1]]
	case v.bools != nil:
		if v.bools[i] {
			return boolBytes[1]
		}
		return boolBytes[0]
	}
	return v.raw[i*v.width : (i+1)*v.width]
}

// size is the byte length of value i of a byte-array column.
func (v *view) size(i int) int {
	if v.dict != nil {
		i = int(v.index[i])
		v = v.dict
	}
	if v.offsets == nil {
		return v.width
	}
	return int(v.offsets[i+1] - v.offsets[i] - v.prefix)
}

// plainView reads PLAIN values where they lie. starts is memory to use again.
func plainView(c *pq.Column, src []byte, n int, starts []uint32) (view, error) {
	if c.Type == format.ByteArray {
		return plainBytesView(src, n, starts)
	}
	w := valueWidth(c)
	if int64(n)*int64(w) > int64(len(src)) {
		return view{}, corrupt("values end early")
	}
	return view{n: n, raw: src, width: w}, nil
}

func plainBytesView(src []byte, n int, starts []uint32) (view, error) {
	if int64(n)*4 > int64(len(src)) || len(src) > math.MaxUint32 {
		return view{}, corrupt("values end early")
	}
	if cap(starts) <= n {
		starts = make([]uint32, n+1)
	}
	starts = starts[:n+1]
	at := 0
	for i := range n {
		starts[i] = uint32(at)
		if len(src)-at < 4 {
			return view{}, corrupt("values end early")
		}
		size := int(binary.LittleEndian.Uint32(src[at:]))
		at += 4
		if size > len(src)-at {
			return view{}, corrupt("values end early")
		}
		at += size
	}
	starts[n] = uint32(at)
	return view{n: n, raw: src, offsets: starts, prefix: 4}, nil
}

// viewOf wraps decoded values. dict is the view of the chunk's dictionary.
func viewOf(v *pq.Values, dict *view) view {
	out := view{n: v.N, width: v.Width}
	switch {
	case v.Dict != nil:
		out.index, out.dict = v.Index, dict
	case v.Type == format.Boolean:
		out.bools = v.Bools
		if out.bools == nil {
			out.bools = []bool{}
		}
	case v.Type == format.ByteArray:
		out.raw, out.offsets = v.Bytes, v.Offsets
	case v.Type == format.Int32:
		out.width = 4
		for _, x := range v.Int32 {
			out.raw = binary.LittleEndian.AppendUint32(out.raw, uint32(x))
		}
	case v.Type == format.Int64:
		out.width = 8
		for _, x := range v.Int64 {
			out.raw = binary.LittleEndian.AppendUint64(out.raw, uint64(x))
		}
	case v.Type == format.Float:
		out.width = 4
		for _, x := range v.Floats {
			out.raw = binary.LittleEndian.AppendUint32(out.raw, math.Float32bits(x))
		}
	case v.Type == format.Double:
		out.width = 8
		for _, x := range v.Doubles {
			out.raw = binary.LittleEndian.AppendUint64(out.raw, math.Float64bits(x))
		}
	default:
		out.raw = v.Bytes
	}
	return out
}
