package keyset

import (
	"fmt"
	"iter"

	"github.com/cespare/xxhash/v2"
)

// Matcher binds a Set to columns as a file stores them. It is safe for concurrent use.
type Matcher struct {
	set  *Set
	bind []binding
}

// NewMatcher binds s to one column a key part. ErrType names a column that cannot be compared.
func NewMatcher(s *Set, cols []Column) (*Matcher, error) {
	if len(cols) != len(s.schema) {
		return nil, fmt.Errorf("%w: keyset %q has %d key parts, %d columns given", ErrType, s.name, len(s.schema), len(cols))
	}
	m := &Matcher{set: s, bind: make([]binding, len(cols))}
	for i, c := range cols {
		var err error
		if m.bind[i], err = bind(s.schema[i], c); err != nil {
			return nil, fmt.Errorf("keyset %q: %w", s.name, err)
		}
	}
	return m, nil
}

// Set returns the set.
func (m *Matcher) Set() *Set { return m.set }

// Part returns a matcher of one part's distinct values: a scan of composite keys
// selects rows by the most selective column before it reads the others.
func (m *Matcher) Part(part int) *Matcher {
	return &Matcher{set: m.set.PartSet(part), bind: m.bind[part : part+1]}
}

// AppendPart appends one part of a key tuple from a column's value: i64 for
// integer columns, raw for the others. Parts appended in order make the tuple
// that Contains takes. False: the value can never match, and dst is unusable.
func (m *Matcher) AppendPart(dst []byte, part int, i64 int64, raw []byte) ([]byte, bool) {
	b := &m.bind[part]
	if len(m.bind) == 1 {
		return b.append(dst, i64, raw)
	}
	out, ok := b.append(openPart(dst, b.typ.Kind), i64, raw)
	if !ok {
		return dst, false
	}
	return closePart(out, len(dst)), true
}

// Contains reports whether the tuple made by AppendPart is in the set.
func (m *Matcher) Contains(tuple []byte) bool { return m.set.Contains(tuple) }

// Bounds turns a column's PLAIN statistics into canonical bounds for Overlaps,
// also Iceberg's single-value bounds. nil is open. The bounds may be wider than
// the statistics, never narrower. ok is false when they say nothing about the
// keys: of normalised strings or of UUIDs in text.
func (m *Matcher) Bounds(part int, min, max []byte) (lo, hi []byte, ok bool) {
	return m.bind[part].bounds(min, max)
}

// ParquetValues yields, for the keys whose part lies in [lo, hi] (nil is open),
// the PLAIN encoding of the value as the column stores it, byte arrays without
// their length. A slice is valid until the next. ok is false when a key has no
// single encoding there: normalised strings, text of UUIDs or binary, decimals
// in byte arrays of any length.
func (m *Matcher) ParquetValues(part int, lo, hi []byte) (seq iter.Seq[[]byte], ok bool) {
	b := &m.bind[part]
	switch b.form {
	case formNormal, formEncoded, formUUIDText, formUUIDAny:
		return nil, false
	case formBytDecimal:
		if b.col.Physical != PhysFixed {
			return nil, false
		}
	}
	return func(yield func([]byte) bool) {
		var buf []byte
		for key := range m.set.PartRange(part, lo, hi) {
			var can bool
			if buf, can = b.appendPlain(buf[:0], key); can && !yield(buf) {
				return
			}
		}
	}, true
}

// ParquetHashes yields ParquetValues hashed with XXH64, seed 0, as Parquet's
// bloom filters hash them (BloomFilter.md): by the physical type's encoding.
func (m *Matcher) ParquetHashes(part int, lo, hi []byte) (seq iter.Seq[uint64], ok bool) {
	vals, ok := m.ParquetValues(part, lo, hi)
	if !ok {
		return nil, false
	}
	return func(yield func(uint64) bool) {
		for v := range vals {
			if !yield(xxhash.Sum64(v)) {
				return
			}
		}
	}, true
}
