package keyset

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"slices"
)

// Set is an immutable set of keys, safe for concurrent use.
type Set struct {
	name   string
	schema Schema
	keys   [][]byte
	parts  [][][]byte
}

// FilterStats describes the filter before the exact keys, for the manifest.
// It never holds the bits.
type FilterStats struct {
	Kind       string  `json:"kind"` // "split-block bloom", "bitmap" (exact)
	Bits       int64   `json:"bits"`
	Hashes     int     `json:"hashes"`
	BitsPerKey float64 `json:"bits_per_key"`
	DesignFP   float64 `json:"design_fp"` // expected share of values not in the set that pass
}

// Name is the set's name in the job.
func (s *Set) Name() string { return s.name }

// Schema returns the key's parts.
func (s *Set) Schema() Schema { return s.schema }

// Len is the number of distinct keys.
func (s *Set) Len() int { return len(s.keys) }

// Contains reports whether the canonical key is in the set, exactly.
func (s *Set) Contains(canonical []byte) bool {
	_, ok := slices.BinarySearchFunc(s.keys, canonical, bytes.Compare)
	return ok
}

// Overlaps reports whether any key's part lies in [lo, hi]; nil is open.
func (s *Set) Overlaps(part int, lo, hi []byte) bool {
	for range s.PartRange(part, lo, hi) {
		return true
	}
	return false
}

// Part yields the distinct values of a part, sorted. A slice is valid until the next.
func (s *Set) Part(part int) iter.Seq[[]byte] { return s.PartRange(part, nil, nil) }

// PartRange yields the distinct values of a part in [lo, hi], sorted; nil is open.
func (s *Set) PartRange(part int, lo, hi []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		vals := s.parts[part]
		i, _ := slices.BinarySearchFunc(vals, lo, bytes.Compare)
		for ; i < len(vals); i++ {
			if hi != nil && bytes.Compare(vals[i], hi) > 0 || !yield(vals[i]) {
				return
			}
		}
	}
}

// PartLen is the number of distinct values of a part.
func (s *Set) PartLen(part int) int { return len(s.parts[part]) }

// All yields the canonical keys, sorted. A slice is valid until the next.
func (s *Set) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, k := range s.keys {
			if !yield(k) {
				return
			}
		}
	}
}

// Filter describes the filter.
func (s *Set) Filter() FilterStats { return FilterStats{} }

// WriteTo writes the frozen form, in clear: callers seal it.
func (s *Set) WriteTo(w io.Writer) (int64, error) { return 0, errors.ErrUnsupported }

// Read reads a frozen set.
func Read(r io.Reader) (*Set, error) { return nil, errors.ErrUnsupported }

// Subtract returns the keys of s that are not in holds.
func Subtract(s, holds *Set) (*Set, error) { return nil, errors.ErrUnsupported }

// Union returns the keys of either.
func Union(a, b *Set) (*Set, error) { return nil, errors.ErrUnsupported }

// Intersect returns the keys of s that are also in other.
func Intersect(s, other *Set) (*Set, error) { return nil, errors.ErrUnsupported }

// Builder collects keys for a Set. It is not safe for concurrent use.
type Builder struct {
	name   string
	schema Schema
	keys   [][]byte
	rules  []*rules
}

// NewBuilder starts a set of the schema.
func NewBuilder(name string, schema Schema) (*Builder, error) {
	if err := schema.Validate(); err != nil {
		return nil, err
	}
	b := &Builder{name: name, schema: schema.clone()}
	for _, p := range schema {
		r, _ := compileRules(p)
		b.rules = append(b.rules, r)
	}
	return b, nil
}

// AddText adds a key from the text of its parts.
func (b *Builder) AddText(parts ...string) error {
	var canon [][]byte
	for i, t := range parts {
		p, err := appendText(nil, []byte(t), b.schema[i].Type, b.rules[i])
		if err != nil {
			return err
		}
		canon = append(canon, p)
	}
	return b.Add(b.schema.AppendTuple(nil, canon...))
}

// Add adds a canonical key.
func (b *Builder) Add(canonical []byte) error {
	if _, err := b.schema.SplitTuple(nil, canonical); err != nil {
		return err
	}
	b.keys = append(b.keys, slices.Clone(canonical))
	return nil
}

// Build returns the set; the builder must not be used after.
func (b *Builder) Build() (*Set, error) {
	sorted := func(k [][]byte) [][]byte {
		slices.SortFunc(k, bytes.Compare)
		return slices.CompactFunc(k, bytes.Equal)
	}
	s := &Set{name: b.name, schema: b.schema, keys: sorted(b.keys), parts: make([][][]byte, len(b.schema))}
	for _, k := range s.keys {
		parts, _ := s.schema.SplitTuple(nil, k)
		for i, p := range parts {
			s.parts[i] = append(s.parts[i], p)
		}
	}
	for i := range s.parts {
		s.parts[i] = sorted(s.parts[i])
	}
	return s, nil
}
