package avro

import (
	"errors"
	"fmt"

	"github.com/expunge/expunge/scanner"
)

// path is a place on the way to key columns.
type path struct {
	kids  map[string]*path
	elem  *path // of an array
	depth int   // lists around it
	slots []int
}

var errLists = errors.New("column lies in more than four lists")

func newPaths(matches []scanner.Match) (*path, error) {
	root := &path{}
	slot := 0
	for _, m := range matches {
		for _, c := range m.Columns {
			ends, err := root.reach([]*path{root}, c.Path)
			if err != nil {
				return nil, err
			}
			for _, e := range ends {
				e.slots = append(e.slots, slot)
			}
			slot++
		}
	}
	return root, nil
}

// reach follows steps; "element" is an array's elements or a field of that name.
func (p *path) reach(at []*path, steps []string) ([]*path, error) {
	for i, step := range steps {
		var next []*path
		for _, a := range at {
			if step != "[*]" {
				if a.kids[step] == nil {
					if a.kids == nil {
						a.kids = map[string]*path{}
					}
					a.kids[step] = &path{depth: a.depth}
				}
				next = append(next, a.kids[step])
			}
			if scanner.IsListStep(step) {
				if a.depth == scanner.MaxLists {
					return nil, errLists
				}
				if a.elem == nil {
					a.elem = &path{depth: a.depth + 1}
				}
				next = append(next, a.elem)
			}
			if step == "list" && i+1 < len(steps) && steps[i+1] == "element" || step == "key_value" && i+1 < len(steps) && steps[i+1] == "value" {
				next = append(next, a)
			}
		}
		at = next
	}
	return at, nil
}

const maxDepth = 256

var errEnd = fmt.Errorf("record ends early: %w", ErrCorrupt)

func (s *scan) long() (int64, error) {
	var v uint64
	for shift := uint(0); shift < 70; shift += 7 {
		if s.pos >= len(s.data) {
			return 0, errEnd
		}
		b := s.data[s.pos]
		s.pos++
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int64(v>>1) ^ -int64(v&1), nil
		}
	}
	return 0, errEnd
}

func (s *scan) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(s.data)-s.pos) {
		return nil, errEnd
	}
	b := s.data[s.pos : s.pos+int(n)]
	s.pos += int(n)
	return b, nil
}

// value walks one value; p is nil where no column lies.
func (s *scan) value(t *typ, p *path) error {
	if s.depth++; s.depth > maxDepth {
		return fmt.Errorf("nested deeper than %d levels: %w", maxDepth, ErrUnsupported)
	}
	defer func() { s.depth-- }()
	if p != nil && t.kind != "union" {
		for _, slot := range p.slots {
			s.tuples.Seen(slot)
		}
	}
	switch t.kind {
	case "null":
		return nil
	case "record":
		for i := range t.fields {
			f := &t.fields[i]
			var kid *path
			if p != nil {
				kid = p.kids[f.name]
			}
			if err := s.value(f.typ, kid); err != nil {
				return err
			}
		}
		return s.foreign(p)
	case "union":
		i, err := s.long()
		if err != nil {
			return err
		}
		if i < 0 || i >= int64(len(t.branches)) {
			return fmt.Errorf("union: %w", ErrCorrupt)
		}
		return s.value(t.branches[i], p)
	case "array":
		return s.array(t, p)
	case "map":
		return s.mapping(t, p)
	}
	return s.scalar(t, p)
}

// foreign notes that a column is a group or of a type that is no key's.
func (s *scan) foreign(p *path) error {
	if p != nil {
		for _, slot := range p.slots {
			s.tuples.Add(slot, nil, false, false, s.place)
		}
	}
	return nil
}

// items walks the blocks of an array or map.
func (s *scan) items(each func() error) error {
	for {
		n, err := s.long()
		if err != nil || n == 0 {
			return err
		}
		if n < 0 {
			if _, err := s.long(); err != nil {
				return err
			}
			n = -n
		}
		if n > int64(maxBlock) {
			return errEnd
		}
		for range n {
			if err := each(); err != nil {
				return err
			}
		}
	}
}

func (s *scan) array(t *typ, p *path) error {
	var elem *path
	if p != nil {
		elem = p.elem
	}
	i := int32(0)
	err := s.items(func() error {
		if elem != nil {
			s.place[p.depth] = i
			i++
		}
		return s.value(t.items, elem)
	})
	if elem != nil {
		s.place[p.depth] = -1
	}
	if err != nil {
		return err
	}
	return s.foreign(p)
}

func (s *scan) mapping(t *typ, p *path) error {
	var val *path
	if p != nil {
		val = p.kids["value"]
	}
	err := s.items(func() error {
		n, err := s.long()
		if err == nil {
			_, err = s.take(n)
		}
		if err != nil {
			return err
		}
		return s.value(t.items, val)
	})
	if err != nil {
		return err
	}
	return s.foreign(p)
}

// scalar reads a value and compares it.
func (s *scan) scalar(t *typ, p *path) error {
	var num int64
	var raw []byte
	var err error
	switch t.kind {
	case "boolean":
		raw, err = s.take(1)
	case "int", "long", "enum":
		num, err = s.long()
	case "float":
		raw, err = s.take(4)
	case "double":
		raw, err = s.take(8)
	case "bytes", "string":
		var n int64
		if n, err = s.long(); err == nil {
			raw, err = s.take(n)
		}
	case "fixed":
		raw, err = s.take(int64(t.size))
	default:
		err = fmt.Errorf("type %.20q: %w", t.kind, ErrUnsupported)
	}
	if err != nil || p == nil {
		return err
	}
	for _, slot := range p.slots {
		part := s.tuples.Part(slot)
		out, ok, comparable := compare(part, t, s.tuples.Arena(), num, raw)
		s.tuples.Add(slot, out, ok, comparable, s.place)
	}
	return nil
}

func compare(part *scanner.KeyPart, t *typ, dst []byte, num int64, raw []byte) (out []byte, ok, comparable bool) {
	switch t.kind {
	case "int", "long":
		switch t.logical {
		case "":
			return part.Int(dst, num)
		case "date":
			return part.Date(dst, int32(num))
		}
		return dst, false, false // times and timestamps are no keys
	case "enum":
		if num < 0 || num >= int64(len(t.symbols)) {
			return dst, false, false
		}
		return part.String(dst, []byte(t.symbols[num]))
	case "string":
		return part.String(dst, raw)
	case "bytes", "fixed":
		if t.logical == "decimal" {
			return part.Unscaled(dst, raw, t.scale)
		}
		return part.Bytes(dst, raw)
	}
	return dst, false, false
}
