package thriftpatch

import (
	"encoding/binary"
	"math"
	"slices"
)

// Field is one field of a struct. Raw is its value without the field header;
// it is empty for bools, whose value is the type.
type Field struct {
	ID   int16
	Type Type
	Raw  []byte

	header []byte // as read; valid while the field before it has id prev
	prev   int16
}

// Struct is a struct whose fields are still encoded. The zero value is empty.
// Raw bytes alias what was parsed: the input must stay as it is.
type Struct struct {
	fields []Field
	stop   byte // as read: writers put 0, readers look at its low bits alone
}

// Parse reads the struct at the start of b and returns its length.
func Parse(b []byte) (*Struct, int, error) {
	s := &Struct{}
	off, last := 0, int16(0)
	for {
		t, id, n, err := fieldHeader(b[off:], last)
		if err != nil {
			return nil, 0, err
		}
		if t == Stop {
			s.stop = b[off]
			return s, off + n, nil
		}
		m, err := skip(t, b[off+n:], false, 1)
		if err != nil {
			return nil, 0, err
		}
		s.fields = append(s.fields, Field{ID: id, Type: t, Raw: b[off+n : off+n+m : off+n+m], header: b[off : off+n], prev: last})
		off += n + m
		last = id
	}
}

// Append encodes the struct.
func (s *Struct) Append(dst []byte) []byte {
	last := int16(0)
	for i := range s.fields {
		f := &s.fields[i]
		if f.header != nil && f.prev == last {
			dst = append(dst, f.header...)
		} else {
			dst = appendFieldHeader(dst, f.Type, f.ID, last)
		}
		dst = append(dst, f.Raw...)
		last = f.ID
	}
	return append(dst, s.stop)
}

// Clone returns a copy that can be patched apart from s.
func (s *Struct) Clone() *Struct { return &Struct{fields: slices.Clone(s.fields), stop: s.stop} }

// Fields returns the fields in file order; the slice is the struct's own.
func (s *Struct) Fields() []Field { return s.fields }

func (s *Struct) find(id int16) *Field {
	for i := range s.fields {
		if s.fields[i].ID == id {
			return &s.fields[i]
		}
	}
	return nil
}

// Has says whether the field is there.
func (s *Struct) Has(id int16) bool { return s.find(id) != nil }

// Int returns an integer field.
func (s *Struct) Int(id int16) (int64, bool) {
	f := s.find(id)
	if f == nil {
		return 0, false
	}
	switch f.Type {
	case I16, I32, I64:
		u, _, err := uvarint(f.Raw)
		return unzigzag(u), err == nil
	case Byte:
		return int64(int8(f.Raw[0])), true
	}
	return 0, false
}

// Bool returns a bool field.
func (s *Struct) Bool(id int16) (value, ok bool) {
	f := s.find(id)
	if f == nil || f.Type != True && f.Type != False {
		return false, false
	}
	return f.Type == True, true
}

// Bytes returns a binary or string field, aliasing the input.
func (s *Struct) Bytes(id int16) ([]byte, bool) {
	f := s.find(id)
	if f == nil || f.Type != Binary {
		return nil, false
	}
	_, n, err := uvarint(f.Raw)
	return f.Raw[n:], err == nil
}

// Struct opens a struct field; nil when it is absent. Changes to what it
// returns take effect with SetStruct.
func (s *Struct) Struct(id int16) (*Struct, error) {
	f := s.find(id)
	if f == nil {
		return nil, nil
	}
	if f.Type != Record {
		return nil, malformed("field is not a struct")
	}
	c, _, err := Parse(f.Raw)
	return c, err
}

// List opens a list field; nil when it is absent. Changes take effect with SetList.
func (s *Struct) List(id int16) (*List, error) {
	f := s.find(id)
	if f == nil {
		return nil, nil
	}
	if f.Type != ListOf {
		return nil, malformed("field is not a list")
	}
	return parseList(f.Raw)
}

// Delete removes the field.
func (s *Struct) Delete(ids ...int16) {
	s.fields = slices.DeleteFunc(s.fields, func(f Field) bool { return slices.Contains(ids, f.ID) })
}

// set replaces the field's value, or inserts it in front of the first larger id.
func (s *Struct) set(id int16, t Type, raw []byte) {
	if f := s.find(id); f != nil {
		if f.Type != t {
			f.Type, f.header = t, nil
		}
		f.Raw = raw
		return
	}
	at := len(s.fields)
	for i := range s.fields {
		if s.fields[i].ID > id {
			at = i
			break
		}
	}
	s.fields = slices.Insert(s.fields, at, Field{ID: id, Type: t, Raw: raw})
}

// SetInt sets an integer field, keeping its bytes when the value is the same.
// t is used when the field is new; an existing one keeps its width.
func (s *Struct) SetInt(id int16, t Type, v int64) {
	if old, ok := s.Int(id); ok {
		if old == v {
			return
		}
		t = s.find(id).Type
	}
	if t == Byte {
		s.set(id, t, []byte{byte(v)})
		return
	}
	s.set(id, t, binary.AppendUvarint(nil, zigzag(v)))
}

// SetBool sets a bool field.
func (s *Struct) SetBool(id int16, v bool) {
	t := False
	if v {
		t = True
	}
	s.set(id, t, nil)
}

// SetBytes sets a binary field.
func (s *Struct) SetBytes(id int16, v []byte) {
	s.set(id, Binary, append(binary.AppendUvarint(nil, uint64(len(v))), v...))
}

// SetDouble sets a double field.
func (s *Struct) SetDouble(id int16, v float64) {
	s.set(id, Double, binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
}

// SetStruct sets a struct field.
func (s *Struct) SetStruct(id int16, v *Struct) { s.set(id, Record, v.Append(nil)) }

// SetList sets a list field.
func (s *Struct) SetList(id int16, v *List) { s.set(id, ListOf, v.Append(nil)) }

// SetRaw sets a field to an encoded value of the type.
func (s *Struct) SetRaw(id int16, t Type, raw []byte) { s.set(id, t, raw) }
