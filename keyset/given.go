package keyset

import "bytes"

// Given narrows a set to the keys whose parts have the given canonical values
// (nil = not given), for a file that has these in every row without storing
// them. It returns the set of the other parts, nil when there are none, and the
// number in s (see Number) of each of its keys in their order. Without a key
// that has the values, numbers is empty. It reads all of s once.
func (s *Set) Given(consts [][]byte) (rest *Set, numbers []int, err error) {
	var schema Schema
	for i, p := range s.schema {
		if consts[i] == nil {
			schema = append(schema, p)
		}
	}
	if len(schema) == 0 {
		if n := s.Number(s.schema.AppendTuple(nil, consts...)); n >= 0 {
			numbers = []int{n}
		}
		return nil, numbers, nil
	}
	b, err := NewBuilder(s.name, schema)
	if err != nil {
		return nil, nil, err
	}
	var parts, left [][]byte
	found := 0
	for key := range s.All() {
		if parts, err = s.schema.SplitTuple(parts[:0], key); err != nil {
			return nil, nil, err
		}
		left = left[:0]
		fits := true
		for i, p := range parts {
			if consts[i] == nil {
				left = append(left, p)
			} else if !bytes.Equal(consts[i], p) {
				fits = false
				break
			}
		}
		if !fits {
			continue
		}
		found++
		if err := b.Add(schema.AppendTuple(nil, left...)); err != nil {
			return nil, nil, err
		}
	}
	if found == 0 {
		return nil, nil, nil
	}
	if rest, err = b.Build(); err != nil {
		return nil, nil, err
	}
	return rest, s.numbersGiven(rest, consts), nil
}

func (s *Set) numbersGiven(rest *Set, consts [][]byte) (numbers []int) {
	whole := make([][]byte, len(consts))
	var parts [][]byte
	for key := range rest.All() {
		parts, _ = rest.schema.SplitTuple(parts[:0], key) // its own keys
		left := parts
		for i, c := range consts {
			if whole[i] = c; c == nil {
				whole[i], left = left[0], left[1:]
			}
		}
		numbers = append(numbers, s.Number(s.schema.AppendTuple(nil, whole...)))
	}
	return numbers
}
