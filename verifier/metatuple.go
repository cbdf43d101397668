package verifier

import (
	"bytes"
	"net/url"
	"strings"

	iceberg "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// Composite keys in metadata. A part alone is no key: a tenant or a country is
// shared by many. A whole key is found where one entry, range or path says all of
// its parts: for certain, where every row of the file has each of these values,
// as with partition values and bounds that are equal; possibly, where
// bounds that lie apart make up a key, which need not be one row's.

// metaTuple is a keyset of several parts and the fields that hold them.
type metaTuple struct {
	keys  *keyset.Set
	parts []metaKey // each with the distinct values of its part
}

func newMetaTuple(b warehouse.BoundMatch) (t metaTuple, err error) {
	t.keys = b.Keys
	for i, p := range b.Keys.Schema() {
		if b.Columns[i].FieldID == 0 {
			return metaTuple{}, nil
		}
		c := &converter{part: p}
		if err := c.rules(); err != nil {
			return metaTuple{}, err
		}
		t.parts = append(t.parts, metaKey{b.Keys.PartSet(i), b.Columns[i].FieldID, c})
	}
	return t, nil
}

// partValue is a value that a part has, or may have, in a file's rows.
type partValue struct {
	value []byte // canonical
	sure  bool   // every row has it
}

// count looks up all keys that the parts' values make up.
func (t *metaTuple) count(values [][]partValue) (certain, possible int64) {
	chosen := make([][]byte, len(values))
	var walk func(part int, sure bool)
	walk = func(part int, sure bool) {
		if part == len(values) {
			switch {
			case !t.keys.Contains(t.keys.Schema().AppendTuple(nil, chosen...)):
			case sure:
				certain++
			default:
				possible++
			}
			return
		}
		for _, v := range values[part] {
			chosen[part] = v.value
			walk(part+1, sure && v.sure)
		}
	}
	for i, vs := range values {
		known := vs[:0:0]
		for _, v := range vs {
			if t.parts[i].keys.Contains(v.value) {
				known = append(known, v)
			}
		}
		if values[i] = known; len(known) == 0 {
			return 0, 0
		}
	}
	walk(0, true)
	return certain, possible
}

// between are the values that a pair of bounds states.
func (k *metaKey) between(typ iceberg.Type, lo, hi []byte, nulls bool) (out []partValue) {
	if typ == nil {
		return nil
	}
	for i, b := range [][]byte{lo, hi} {
		if b == nil || i == 1 && bytes.Equal(lo, hi) {
			continue
		}
		if v, ok := icebergBound(k.conv, typ, b); ok && k.keys.Contains(v) {
			out = append(out, partValue{bytes.Clone(v), bytes.Equal(lo, hi) && !nulls})
		} else if v := cutFrom(k.keys, b); v != nil {
			out = append(out, partValue{value: v})
		}
	}
	return out
}

// inBounds counts the keys that a manifest entry states, by its bounds and, for
// some of the parts, its partition values.
func (t *metaTuple) inBounds(m *metaCheck, f iceberg.DataFile) (certain, possible int64) {
	lower, upper, nulls := f.LowerBoundValues(), f.UpperBoundValues(), f.NullValueCounts()
	values, missing := t.partition(m, f)
	if missing == 0 {
		return 0, 0 // see inPartition
	}
	for i, k := range t.parts {
		if values[i] == nil {
			n, known := nulls[k.id]
			values[i] = k.between(m.types[k.id], lower[k.id], upper[k.id], !known || n > 0)
		}
	}
	return t.count(values)
}

// inPartition counts the keys that a manifest entry's partition values alone make up.
func (t *metaTuple) inPartition(m *metaCheck, f iceberg.DataFile) int64 {
	values, missing := t.partition(m, f)
	if missing > 0 {
		return 0
	}
	n, _ := t.count(values)
	return n
}

// partition are the parts that are partition values, and how many are not.
func (t *metaTuple) partition(m *metaCheck, f iceberg.DataFile) (values [][]partValue, missing int) {
	values = make([][]partValue, len(t.parts))
	for i, k := range t.parts {
		if v, ok := m.partitionConst(k.conv.part, k.id, f); ok {
			values[i] = []partValue{{v, true}}
		} else {
			missing++
		}
	}
	return values, missing
}

// inRanges counts the keys that the partition ranges of a manifest state.
func (t *metaTuple) inRanges(m *metaCheck, spec *iceberg.PartitionSpec, ranges []iceberg.FieldSummary) (certain, possible int64) {
	values := make([][]partValue, len(t.parts))
	for i, k := range t.parts {
		for n, r := range ranges {
			if n >= spec.NumFields() || !identityOf(spec.Field(n), k.id) || r.LowerBound == nil || r.UpperBound == nil {
				continue
			}
			values[i] = k.between(m.types[k.id], *r.LowerBound, *r.UpperBound, r.ContainsNull)
		}
	}
	return t.count(values)
}

// inPath says whether a path has all parts of a key in "name=value" segments.
func (t *metaTuple) inPath(m *metaCheck, path string) bool {
	values := make([][]partValue, len(t.parts))
	for name, val := range segments(path) {
		for i, k := range t.parts {
			if !m.partitionName(name, k.id) {
				continue
			}
			if v, err := k.conv.part.Type.AppendText(nil, k.conv.normalized([]byte(val))); err == nil {
				values[i] = append(values[i], partValue{v, true})
			}
		}
	}
	n, _ := t.count(values)
	return n > 0
}

// segments yields the "name=value" segments of a path.
func segments(path string) func(yield func(name, value string) bool) {
	return func(yield func(string, string) bool) {
		for _, seg := range strings.Split(path, "/") {
			name, val, ok := strings.Cut(seg, "=")
			if !ok {
				continue
			}
			if u, err := url.QueryUnescape(val); err == nil {
				val = u
			}
			if !yield(name, val) {
				return
			}
		}
	}
}

// columns are where a file of statistics by partition has the key; nil when the
// spec lacks a part of it.
func (t *metaTuple) columns(spec *iceberg.PartitionSpec) (out []warehouse.ColumnRef) {
	for _, k := range t.parts {
		n := len(out)
		for _, pf := range spec.Fields() {
			if identityOf(pf, k.id) {
				out = append(out, partitionColumn(pf))
				break
			}
		}
		if len(out) == n {
			return nil
		}
	}
	return out
}

func identityOf(f iceberg.PartitionField, source int) bool {
	_, ok := f.Transform.(iceberg.IdentityTransform)
	return ok && sourceID(f) == source
}

func partitionColumn(f iceberg.PartitionField) warehouse.ColumnRef {
	return warehouse.ColumnRef{FieldID: f.FieldID, Path: []string{"partition", f.Name}}
}
