package pq

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/bitpack/unsafecast"
	"github.com/parquet-go/parquet-go/format"
)

// Values is a batch of non-null values of one physical type. Which slice is
// filled follows from Type; for dictionary-encoded pages it is Index and Dict
// instead. Slices may alias the page's bytes: they are valid until the next
// page is decoded, and must not be written to.
type Values struct {
	Type format.Type
	N    int

	Bools   []bool
	Int32   []int32
	Int64   []int64
	Floats  []float32
	Doubles []float64
	// Bytes holds BYTE_ARRAY values back to back, the i-th at
	// Bytes[Offsets[i]:Offsets[i+1]], and INT96 (12 bytes) and
	// FIXED_LEN_BYTE_ARRAY values of Width bytes each.
	Bytes   []byte
	Offsets []uint32
	Width   int

	// Index, when Dict is set, holds the entry of each value; every index is
	// below Dict.N.
	Index []uint32
	Dict  *Values

	own buffers
}

// buffers is memory that a Values decodes into again and again.
type buffers struct {
	bools   []bool
	int32s  []int32
	int64s  []int64
	floats  []float32
	doubles []float64
	bytes   []byte
	offsets []uint32
	index   []uint32
	lengths [2][]int64
	scratch []byte
}

// littleEndian: PLAIN numbers can be used where they lie.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// maxDecoded bounds what DELTA_BYTE_ARRAY may expand to: shared prefixes make
// the output of a page much larger than the page.
const maxDecoded = 1 << 30

func (v *Values) reset(t format.Type, width, n int) {
	*v = Values{Type: t, N: n, Width: width, own: v.own}
}

// DecodeValues decodes n values of the column from src, the value section of a
// data page. dict is the chunk's dictionary, nil when it has none.
func (v *Values) DecodeValues(src []byte, enc format.Encoding, col *Column, dict *Values, n int) error {
	width := col.TypeLength
	if col.Type == format.Int96 {
		width = 12
	}
	v.reset(col.Type, width, n)
	switch enc {
	case format.Plain:
		return v.plain(src)
	case format.RLEDictionary, format.PlainDictionary:
		return v.indexes(src, dict)
	case format.RLE:
		if v.Type == format.Boolean {
			return v.rleBools(src)
		}
	case format.DeltaBinaryPacked:
		if v.Type == format.Int32 || v.Type == format.Int64 {
			return v.deltaInts(src)
		}
	case format.DeltaLengthByteArray:
		if v.Type == format.ByteArray {
			return v.deltaLengths(src)
		}
	case format.DeltaByteArray:
		if v.Type == format.ByteArray || v.Type == format.FixedLenByteArray {
			return v.deltaBytes(src)
		}
	case format.ByteStreamSplit:
		if v.Type != format.Boolean && v.Type != format.Int96 && v.Type != format.ByteArray {
			return v.streamSplit(src)
		}
	default:
		return unsupported("encoding %s", enc)
	}
	return corrupt("encoding %s for type %s", enc, v.Type)
}

// valueSize is the PLAIN size of a value, 0 for BOOLEAN and BYTE_ARRAY.
func (v *Values) valueSize() int {
	switch v.Type {
	case format.Int32, format.Float:
		return 4
	case format.Int64, format.Double:
		return 8
	case format.Int96, format.FixedLenByteArray:
		return v.Width
	}
	return 0
}

// plain: Encodings.md, "Plain".
func (v *Values) plain(src []byte) error {
	switch v.Type {
	case format.Boolean:
		if (v.N+7)/8 > len(src) {
			return corrupt("values end early")
		}
		v.own.bools = grow(v.own.bools[:0], v.N)
		v.Bools = v.own.bools
		for i := range v.Bools {
			v.Bools[i] = src[i>>3]>>(i&7)&1 != 0
		}
		return nil
	case format.ByteArray:
		return v.plainBytes(src)
	}
	size := v.valueSize()
	if int64(v.N)*int64(size) > int64(len(src)) {
		return corrupt("values end early")
	}
	v.view(src[:v.N*size])
	return nil
}

// view sets the typed slice from little-endian bytes.
func (v *Values) view(b []byte) {
	switch v.Type {
	case format.Int32:
		v.Int32 = viewOf(b, &v.own.int32s, func(b []byte) int32 { return int32(binary.LittleEndian.Uint32(b)) })
	case format.Int64:
		v.Int64 = viewOf(b, &v.own.int64s, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) })
	case format.Float:
		v.Floats = viewOf(b, &v.own.floats, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) })
	case format.Double:
		v.Doubles = viewOf(b, &v.own.doubles, func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) })
	default:
		v.Bytes = b
	}
}

func viewOf[T any](b []byte, own *[]T, get func([]byte) T) []T {
	if littleEndian {
		return unsafecast.Slice[T](b)
	}
	size := len(b) / max(1, len(unsafecast.Slice[T](b)))
	out := (*own)[:0]
	for ; len(b) >= size && size > 0; b = b[size:] {
		out = append(out, get(b))
	}
	*own = out
	return out
}

func (v *Values) plainBytes(src []byte) error {
	// A value takes 4 bytes or more, so N is bounded by what is there.
	if int64(v.N)*4 > int64(len(src)) {
		return corrupt("values end early")
	}
	offsets := grow(v.own.offsets[:0], v.N+1)
	size := len(src) - 4*v.N
	data := grow(v.own.bytes[:0], size+shortValue)
	at, pos := 0, 0
	for i := range v.N {
		offsets[i] = uint32(at)
		if len(src)-pos < 4 {
			return corrupt("values end early")
		}
		n := int(binary.LittleEndian.Uint32(src[pos:]))
		pos += 4
		if n > len(src)-pos || n > size-at {
			return corrupt("values end early")
		}
		if n <= shortValue && len(src)-pos >= shortValue {
			// The next value overwrites what is too much.
			*(*[shortValue]byte)(data[at:]) = *(*[shortValue]byte)(src[pos:])
		} else {
			copy(data[at:at+n], src[pos:])
		}
		at += n
		pos += n
	}
	offsets[v.N] = uint32(at)
	v.own.offsets, v.own.bytes = offsets, data
	v.Offsets, v.Bytes = offsets, data[:at]
	return nil
}

// shortValue bytes are copied at once, whatever a value's length: most values
// of a string column are shorter, and there a call of memmove costs more.
const shortValue = 32

func (v *Values) rleBools(src []byte) error {
	if v.N == 0 {
		return nil
	}
	if len(src) < 4 {
		return corrupt("values end early")
	}
	n := binary.LittleEndian.Uint32(src)
	if uint64(n) > uint64(len(src)-4) {
		return corrupt("values end early")
	}
	var err error
	v.own.index, err = decodeHybrid(v.own.index[:0], src[4:4+n], 1, v.N, &v.own.scratch)
	if err != nil {
		return err
	}
	v.own.bools = grow(v.own.bools[:0], v.N)
	v.Bools = v.own.bools
	for i, x := range v.own.index {
		v.Bools[i] = x != 0
	}
	return nil
}

// IndexRuns reads the runs of a dictionary-encoded value section: a byte with
// the bit width, then the hybrid (Encodings.md, "Dictionary Encoding").
func IndexRuns(src []byte, n int) (r Runs, width int, err error) {
	if n == 0 {
		return Runs{}, 0, nil
	}
	if len(src) == 0 {
		return Runs{}, 0, corrupt("values end early")
	}
	if width = int(src[0]); width > 32 {
		return Runs{}, 0, corrupt("bit width of %d", width)
	}
	return NewRuns(src[1:], width, n), width, nil
}

func (v *Values) indexes(src []byte, dict *Values) error {
	if dict == nil {
		return corrupt("dictionary-encoded page without a dictionary")
	}
	v.Dict = dict
	if v.N == 0 {
		return nil
	}
	_, width, err := IndexRuns(src, v.N)
	if err != nil {
		return err
	}
	v.own.index, err = decodeHybrid(v.own.index[:0], src[1:], width, v.N, &v.own.scratch)
	if err != nil {
		return err
	}
	v.Index = v.own.index
	// A bit width that fits the dictionary proves nothing: the value of a run
	// can be wider.
	if int64(largest(v.Index)) >= int64(dict.N) {
		return ErrDictionaryIndex
	}
	return nil
}

// largest is unrolled: four maxima in flight hide the latency of one.
func largest(index []uint32) uint32 {
	var a, b, c, d uint32
	i := 0
	for ; i+4 <= len(index); i += 4 {
		x := (*[4]uint32)(index[i:])
		a, b, c, d = max(a, x[0]), max(b, x[1]), max(c, x[2]), max(d, x[3])
	}
	for ; i < len(index); i++ {
		a = max(a, index[i])
	}
	return max(a, b, c, d)
}

// streamSplit: Encodings.md, "Byte Stream Split".
func (v *Values) streamSplit(src []byte) error {
	size := v.valueSize()
	if size == 0 {
		return corrupt("encoding %s for a type without width", format.ByteStreamSplit)
	}
	if int64(v.N)*int64(size) != int64(len(src)) {
		return corrupt("values do not fill their section")
	}
	if v.N == 0 {
		v.view(src)
		return nil
	}
	b := grow(v.own.bytes[:0], len(src))
	v.own.bytes = b
	n := v.N
	for s := range size {
		stream := src[s*n : s*n+n]
		for i, x := range stream {
			b[i*size+s] = x
		}
	}
	v.view(b)
	return nil
}

// Materialise replaces dictionary indexes by the values themselves, in memory
// of v. The result can be larger than the page by far; it is refused beyond a
// fixed limit.
func (v *Values) Materialise() error {
	d := v.Dict
	if d == nil {
		return nil
	}
	v.Dict = nil
	switch v.Type {
	case format.Boolean:
		v.Bools = gather(&v.own.bools, d.Bools, v.Index)
	case format.Int32:
		v.Int32 = gather(&v.own.int32s, d.Int32, v.Index)
	case format.Int64:
		v.Int64 = gather(&v.own.int64s, d.Int64, v.Index)
	case format.Float:
		v.Floats = gather(&v.own.floats, d.Floats, v.Index)
	case format.Double:
		v.Doubles = gather(&v.own.doubles, d.Doubles, v.Index)
	case format.ByteArray:
		return v.gatherBytes(d)
	default:
		if int64(v.N)*int64(v.Width) > maxDecoded {
			return unsupported("page of more than %d bytes once decoded", maxDecoded)
		}
		b := grow(v.own.bytes[:0], v.N*v.Width)
		for i, x := range v.Index {
			copy(b[i*v.Width:], d.Bytes[int(x)*v.Width:][:v.Width])
		}
		v.own.bytes, v.Bytes = b, b
	}
	v.Index = nil
	return nil
}

func gather[T any](own *[]T, dict []T, index []uint32) []T {
	out := grow((*own)[:0], len(index))
	for i, x := range index {
		out[i] = dict[x]
	}
	*own = out
	return out
}

func (v *Values) gatherBytes(d *Values) error {
	offsets := grow(v.own.offsets[:0], v.N+1)
	var total int64
	for i, x := range v.Index {
		offsets[i] = uint32(total)
		total += int64(d.Offsets[x+1] - d.Offsets[x])
		if total > maxDecoded {
			return unsupported("page of more than %d bytes once decoded", maxDecoded)
		}
	}
	offsets[v.N] = uint32(total)
	b := grow(v.own.bytes[:0], int(total))
	for i, x := range v.Index {
		copy(b[offsets[i]:], d.Bytes[d.Offsets[x]:d.Offsets[x+1]])
	}
	v.own.offsets, v.own.bytes = offsets, b
	v.Offsets, v.Bytes, v.Index = offsets, b, nil
	return nil
}

// At returns the i-th value of a byte-like type (BYTE_ARRAY, INT96, fixed),
// through the dictionary where there is one.
func (v *Values) At(i int) []byte {
	if v.Dict != nil {
		return v.Dict.At(int(v.Index[i]))
	}
	if v.Type == format.ByteArray {
		return v.Bytes[v.Offsets[i]:v.Offsets[i+1]]
	}
	return v.Bytes[i*v.Width : (i+1)*v.Width]
}
