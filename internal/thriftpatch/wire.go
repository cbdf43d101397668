package thriftpatch

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Type is a compact-protocol wire type.
type Type byte

// The wire types. A bool field carries its value in its type.
const (
	Stop   Type = 0
	True   Type = 1
	False  Type = 2
	Byte   Type = 3
	I16    Type = 4
	I32    Type = 5
	I64    Type = 6
	Double Type = 7
	Binary Type = 8
	ListOf Type = 9
	SetOf  Type = 10
	MapOf  Type = 11
	Record Type = 12
	UUID   Type = 13
)

// maxDepth bounds nesting; Parquet's deepest metadata is below 10.
const maxDepth = 48

// ErrMalformed is the root of all parse errors.
var ErrMalformed = errors.New("malformed thrift")

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

func uvarint(b []byte) (uint64, int, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, malformed("varint")
	}
	return v, n, nil
}

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// skip returns the length of the value of type t at the start of b. Inside a
// collection a bool is one byte; as a field it has none.
func skip(t Type, b []byte, inCollection bool, depth int) (int, error) {
	if depth > maxDepth {
		return 0, malformed("nested too deep")
	}
	switch t {
	case True, False:
		if !inCollection {
			return 0, nil
		}
		return fixed(b, 1)
	case Byte:
		return fixed(b, 1)
	case I16, I32, I64:
		_, n, err := uvarint(b)
		return n, err
	case Double:
		return fixed(b, 8)
	case UUID:
		return fixed(b, 16)
	case Binary:
		size, n, err := uvarint(b)
		if err != nil {
			return 0, err
		}
		if size > uint64(len(b)-n) {
			return 0, malformed("binary length")
		}
		return n + int(size), nil
	case ListOf, SetOf:
		return skipList(b, depth)
	case MapOf:
		return skipMap(b, depth)
	case Record:
		return skipStruct(b, depth)
	}
	return 0, malformed("wire type")
}

func fixed(b []byte, n int) (int, error) {
	if len(b) < n {
		return 0, malformed("truncated")
	}
	return n, nil
}

// listHeader reads a list's element type and count; every element takes at
// least one byte, which bounds the count.
func listHeader(b []byte) (t Type, count, n int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, malformed("truncated list")
	}
	t, c, n := Type(b[0]&15), uint64(b[0]>>4), 1
	if c == 15 {
		var m int
		if c, m, err = uvarint(b[1:]); err != nil {
			return 0, 0, 0, err
		}
		n += m
	}
	if c > uint64(len(b)-n) {
		return 0, 0, 0, malformed("list length")
	}
	if c > 0 && t == Stop {
		return 0, 0, 0, malformed("list type")
	}
	return t, int(c), n, nil
}

func skipList(b []byte, depth int) (int, error) {
	t, count, off, err := listHeader(b)
	if err != nil {
		return 0, err
	}
	for range count {
		n, err := skip(t, b[off:], true, depth+1)
		if err != nil {
			return 0, err
		}
		off += n
	}
	return off, nil
}

func skipMap(b []byte, depth int) (int, error) {
	count, off, err := uvarint(b)
	if err != nil || count == 0 {
		return off, err
	}
	if off >= len(b) || count > uint64(len(b)-off) {
		return 0, malformed("map length")
	}
	kt, vt := Type(b[off]>>4), Type(b[off]&15)
	off++
	for range count {
		for _, t := range [2]Type{kt, vt} {
			n, err := skip(t, b[off:], true, depth+1)
			if err != nil {
				return 0, err
			}
			off += n
		}
	}
	return off, nil
}

func skipStruct(b []byte, depth int) (int, error) {
	off := 0
	last := int16(0)
	for {
		t, id, n, err := fieldHeader(b[off:], last)
		if err != nil {
			return 0, err
		}
		off += n
		if t == Stop {
			return off, nil
		}
		last = id
		if n, err = skip(t, b[off:], false, depth+1); err != nil {
			return 0, err
		}
		off += n
	}
}

// fieldHeader reads a field's type and id, given the id before it.
func fieldHeader(b []byte, last int16) (t Type, id int16, n int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, malformed("truncated struct")
	}
	t = Type(b[0] & 15)
	if t == Stop {
		return Stop, 0, 1, nil
	}
	if delta := b[0] >> 4; delta != 0 {
		return t, last + int16(delta), 1, nil
	}
	u, m, err := uvarint(b[1:])
	if err != nil {
		return 0, 0, 0, err
	}
	v := unzigzag(u)
	if v < -32768 || v > 32767 {
		return 0, 0, 0, malformed("field id")
	}
	return t, int16(v), 1 + m, nil
}

func appendFieldHeader(dst []byte, t Type, id, last int16) []byte {
	if d := int(id) - int(last); d > 0 && d < 16 {
		return append(dst, byte(d)<<4|byte(t))
	}
	return binary.AppendUvarint(append(dst, byte(t)), zigzag(int64(id)))
}

func appendListHeader(dst []byte, t Type, count int) []byte {
	if count < 15 {
		return append(dst, byte(count)<<4|byte(t))
	}
	return binary.AppendUvarint(append(dst, 0xF0|byte(t)), uint64(count))
}
