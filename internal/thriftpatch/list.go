package thriftpatch

import "encoding/binary"

// List is a list whose elements are still encoded.
type List struct {
	Elem   Type
	Values [][]byte

	header []byte // as read; valid while the count is the same
	count  int
}

// ParseList reads the list at the start of b.
func ParseList(b []byte) (*List, error) { return parseList(b) }

func parseList(b []byte) (*List, error) {
	t, count, off, err := listHeader(b)
	if err != nil {
		return nil, err
	}
	l := &List{Elem: t, header: b[:off], count: count}
	// The count is at most len(b), but 24 bytes of slice an element would let a
	// small input ask for 24 times its size: grow with what is really there.
	l.Values = make([][]byte, 0, min(count, 1024))
	for range count {
		n, err := skip(t, b[off:], true, 1)
		if err != nil {
			return nil, err
		}
		l.Values = append(l.Values, b[off:off+n:off+n])
		off += n
	}
	return l, nil
}

// Append encodes the list.
func (l *List) Append(dst []byte) []byte {
	if l.header != nil && l.count == len(l.Values) {
		dst = append(dst, l.header...)
	} else {
		dst = appendListHeader(dst, l.Elem, len(l.Values))
	}
	for _, v := range l.Values {
		dst = append(dst, v...)
	}
	return dst
}

// Struct opens element i.
func (l *List) Struct(i int) (*Struct, error) {
	if l.Elem != Record {
		return nil, malformed("element is not a struct")
	}
	s, _, err := Parse(l.Values[i])
	return s, err
}

// Int returns integer element i.
func (l *List) Int(i int) (int64, error) {
	switch l.Elem {
	case I16, I32, I64:
		u, _, err := uvarint(l.Values[i])
		return unzigzag(u), err
	}
	return 0, malformed("element is not an integer")
}

// Bytes returns binary element i, aliasing the input.
func (l *List) Bytes(i int) ([]byte, error) {
	if l.Elem != Binary {
		return nil, malformed("element is not binary")
	}
	_, n, err := uvarint(l.Values[i])
	if err != nil {
		return nil, err
	}
	return l.Values[i][n:], nil
}

// Bool returns bool element i: 1 is true (some writers use 0 for false, others 2).
func (l *List) Bool(i int) (bool, error) {
	if l.Elem != True && l.Elem != False {
		return false, malformed("element is not a bool")
	}
	return l.Values[i][0] == 1, nil
}

// Structs makes a list of structs.
func Structs(ss ...*Struct) *List {
	l := &List{Elem: Record}
	for _, s := range ss {
		l.AddStruct(s)
	}
	return l
}

// AddStruct appends a struct.
func (l *List) AddStruct(s *Struct) { l.Values = append(l.Values, s.Append(nil)) }

// AddInt appends an integer.
func (l *List) AddInt(v int64) { l.Values = append(l.Values, binary.AppendUvarint(nil, zigzag(v))) }

// AddBytes appends a binary.
func (l *List) AddBytes(v []byte) {
	l.Values = append(l.Values, append(binary.AppendUvarint(nil, uint64(len(v))), v...))
}

// AddBool appends a bool as the compact protocol writes it in lists.
func (l *List) AddBool(v bool) {
	b := byte(False)
	if v {
		b = byte(True)
	}
	l.Values = append(l.Values, []byte{b})
}
