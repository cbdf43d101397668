package keyset

import (
	"errors"
	"iter"
)

// Matcher binds a Set to columns as a file stores them. It is safe for concurrent use.
type Matcher struct {
	set  *Set
	cols []Column
}

// NewMatcher binds s to one column a key part. ErrType names a column that cannot be compared.
func NewMatcher(s *Set, cols []Column) (*Matcher, error) { return nil, errors.ErrUnsupported }

// Set returns the set.
func (m *Matcher) Set() *Set { return m.set }

// SelectInt32 appends the indexes i for which vals[i] is in the set (single part).
func (m *Matcher) SelectInt32(dst []int32, vals []int32) []int32 { return dst }

// SelectInt64 is SelectInt32 for an int64 column.
func (m *Matcher) SelectInt64(dst []int32, vals []int64) []int32 { return dst }

// SelectBytes is SelectInt32 for values data[offsets[i]:offsets[i+1]].
func (m *Matcher) SelectBytes(dst []int32, data []byte, offsets []uint32) []int32 { return dst }

// SelectFixed is SelectInt32 for values of width bytes each.
func (m *Matcher) SelectFixed(dst []int32, data []byte, width int) []int32 { return dst }

// AppendPart appends one part of a key tuple from a column's value: i64 for
// integer columns, raw for the others. Parts appended in order make the tuple
// that Contains takes. False: the value can never match.
func (m *Matcher) AppendPart(dst []byte, part int, i64 int64, raw []byte) ([]byte, bool) {
	return dst, false
}

// Contains reports whether the tuple made by AppendPart is in the set.
func (m *Matcher) Contains(tuple []byte) bool { return m.set.Contains(tuple) }

// Bounds turns a column's PLAIN statistics into canonical bounds for Overlaps.
// nil is open. ok is false when they say nothing about the keys.
func (m *Matcher) Bounds(part int, min, max []byte) (lo, hi []byte, ok bool) { return nil, nil, false }

// ParquetValues yields, for the keys whose part lies in [lo, hi], the PLAIN
// encoding of the value as the column stores it (byte arrays without length).
// ok is false when a key has no single encoding there (normalised strings).
func (m *Matcher) ParquetValues(part int, lo, hi []byte) (seq iter.Seq[[]byte], ok bool) {
	return nil, false
}

// ParquetHashes is ParquetValues hashed with XXH64, seed 0, as Parquet's bloom filters are.
func (m *Matcher) ParquetHashes(part int, lo, hi []byte) (seq iter.Seq[uint64], ok bool) {
	return nil, false
}

// batch is how many values are hashed and probed at a time: their hashes stay in the first-level cache.
const batch = 1024
