package pq

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/encoding/thrift"
)

// Field types of the thrift compact protocol.
// https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
const (
	tStop   = 0
	tTrue   = 1
	tFalse  = 2
	tI8     = 3
	tI16    = 4
	tI32    = 5
	tI64    = 6
	tDouble = 7
	tBinary = 8
	tList   = 9
	tSet    = 10
	tMap    = 11
	tStruct = 12
	tUUID   = 13
)

// maxThriftDepth bounds nesting; the deepest Parquet structure needs about 8.
const maxThriftDepth = 32

// cursor reads compact-protocol bytes. The first failure sticks; reads after
// it return zeros, so that callers check once.
type cursor struct {
	b     []byte
	i     int
	short bool // ran out of bytes: more input could help
	bad   bool // malformed
}

func (c *cursor) ok() bool { return !c.short && !c.bad }

func (c *cursor) byte() byte {
	if c.i >= len(c.b) {
		c.short = true
		return 0
	}
	v := c.b[c.i]
	c.i++
	return v
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b[c.i:])
	if n <= 0 {
		if n == 0 {
			c.short = true
		} else {
			c.bad = true
		}
		return 0
	}
	c.i += n
	return v
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) i32() int32 {
	v := c.varint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		c.bad = true
		return 0
	}
	return int32(v)
}

// skipBytes moves past n bytes.
func (c *cursor) skipBytes(n uint64) {
	if n > uint64(len(c.b)-c.i) {
		c.short = true
		return
	}
	c.i += int(n)
}

// binary returns a view of a length-prefixed field, never nil when ok.
func (c *cursor) binary() []byte {
	n := c.uvarint()
	if n > math.MaxInt32 {
		c.bad = true
		return nil
	}
	start := c.i
	c.skipBytes(n)
	if !c.ok() {
		return nil
	}
	return c.b[start:c.i:c.i]
}

// field reads a field header; typ is tStop at the end of the struct.
func (c *cursor) field(last int16) (id int16, typ byte) {
	b := c.byte()
	if !c.ok() || b == tStop {
		return 0, tStop
	}
	typ = b & 0x0f
	if d := b >> 4; d != 0 {
		return last + int16(d), typ
	}
	v := c.varint()
	if v < math.MinInt16 || v > math.MaxInt16 {
		c.bad = true
		return 0, tStop
	}
	return int16(v), typ
}

// listHeader reads a list or set header. Every element takes a byte or more,
// so a size above what is left cannot be right.
func (c *cursor) listHeader() (n int, typ byte) {
	b := c.byte()
	size := uint64(b >> 4)
	if size == 15 {
		size = c.uvarint()
	}
	if size > uint64(len(c.b)-c.i) {
		c.short = true
		return 0, 0
	}
	return int(size), b & 0x0f
}

// skip moves past one value of a field. In a container booleans take a byte,
// in a struct they are part of the field header.
func (c *cursor) skip(typ byte, inContainer bool, depth int, limit *shape) {
	if depth > maxThriftDepth {
		c.bad = true
	}
	if !c.ok() {
		return
	}
	switch typ {
	case tTrue, tFalse:
		if inContainer {
			c.byte()
		}
	case tI8:
		c.byte()
	case tI16, tI32, tI64:
		c.uvarint()
	case tDouble:
		c.skipBytes(8)
	case tUUID:
		c.skipBytes(16)
	case tBinary:
		c.binary()
	case tList, tSet:
		n, elem := c.listHeader()
		for range n {
			start := c.i
			c.skip(elem, true, depth+1, limit)
			if !c.ok() {
				return
			}
			if limit != nil && elem == tStruct && c.i-start < limit.minBytes {
				c.bad = true
				return
			}
		}
	case tMap:
		n := c.uvarint()
		if n == 0 {
			return
		}
		kv := c.byte()
		if n > uint64(len(c.b)-c.i) {
			c.short = true
			return
		}
		for range n {
			c.skip(kv>>4, true, depth+1, nil)
			c.skip(kv&0x0f, true, depth+1, nil)
			if !c.ok() {
				return
			}
		}
	case tStruct:
		c.skipStruct(depth+1, limit)
	default:
		c.bad = true
	}
}

func (c *cursor) skipStruct(depth int, limit *shape) {
	var last int16
	for {
		id, typ := c.field(last)
		if !c.ok() || typ == tStop {
			return
		}
		last = id
		c.skip(typ, false, depth, limit.child(id))
		if !c.ok() {
			return
		}
	}
}

// shape bounds what a decoder would allocate for the elements of a list: the
// decoded form of a small struct is many times its encoded size, so a list of
// empty structs must not pass.
type shape struct {
	minBytes int // least encoded size of an element that is a struct
	fields   map[int16]*shape
}

var anyShape = &shape{minBytes: 3}

func (s *shape) child(id int16) *shape {
	if s == nil {
		return anyShape
	}
	if c, ok := s.fields[id]; ok {
		return c
	}
	return anyShape
}

// footerShape: FileMetaData.row_groups[].columns[] of parquet.thrift. A column
// chunk's required fields take more than 16 bytes; an encrypted one's too.
var footerShape = &shape{minBytes: 3, fields: map[int16]*shape{
	4: {minBytes: 5, fields: map[int16]*shape{
		1: {minBytes: 16},
	}},
}}

// checkStruct walks one struct and returns its length, or an error when it is
// malformed, nested too deeply or promises more elements than it holds. What
// has passed is safe for the library's reflective decoder.
func checkStruct(b []byte, limit *shape) (int, error) {
	c := cursor{b: b}
	c.skipStruct(0, limit)
	if c.short {
		return 0, corrupt("thrift structure is cut short")
	}
	if c.bad {
		return 0, corrupt("malformed thrift structure")
	}
	return c.i, nil
}

// decodeStruct checks b and decodes it into v. Strings and byte slices of v
// alias b. It returns the bytes used.
func decodeStruct(b []byte, limit *shape, v any) (int, error) {
	n, err := checkStruct(b, limit)
	if err != nil {
		return 0, err
	}
	var p thrift.CompactProtocol
	if err := thrift.NewDecoder(p.NewReaderFromBytes(b[:n])).Decode(v); err != nil {
		// The library's text can quote list sizes and field ids only, yet it
		// is left out: raw error text is not ours to vouch for.
		return 0, corrupt("thrift structure does not fit the format")
	}
	return n, nil
}
