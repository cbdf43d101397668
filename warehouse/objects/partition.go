package objects

import (
	"net/url"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// hiveNull is how Hive and Spark write NULL into a path.
const hiveNull = "__HIVE_DEFAULT_PARTITION__"

// partitions are the values that an object's folders give ("name=value").
func partitions(p string) map[string]string {
	steps := strings.Split(storage.ParseLocation(p).Key, "/")
	var out map[string]string
	for _, s := range steps[:len(steps)-1] {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		if v, err := url.PathUnescape(value); err == nil {
			value = v
		}
		if n, err := url.PathUnescape(name); err == nil {
			name = n
		}
		out[name] = value
	}
	return out
}

// object is a selection as it applies to one object, with the values of its
// path filled in.
type objectMatch struct {
	match []warehouse.BoundMatch // what is left to look for in records
	index []int                  // of each in the selection
	whole [][]int                // of each: the number of a reduced set's key in the selection's set; nil = the same
	every []int                  // matches that the path alone decides: all records are hit
	key   []int                  // of each of every: the number of the path's key
	byKey bool                   // a match column is a partition: the path holds a key or not
}

// reducedSet is the rest of a keyset for what a path fixes.
type reducedSet struct {
	set   *keyset.Set
	whole []int // number in set to number in the whole keyset
}

// fix resolves partition columns for one object. A key of several parts, some
// of them in the path, becomes the keyset of the other parts for that value.
func (t *Target) fix(p string, bound []warehouse.BoundMatch) (*objectMatch, error) {
	values := partitions(p)
	out := &objectMatch{}
	for i, m := range bound {
		fixed := make([]bool, len(m.Columns))
		n := 0
		for k, c := range m.Columns {
			if len(c.Path) == 1 {
				_, fixed[k] = values[c.Path[0]]
			}
			if fixed[k] {
				n++
			}
		}
		if n == 0 {
			out.match, out.index, out.whole = append(out.match, m), append(out.index, i), append(out.whole, nil)
			continue
		}
		out.byKey = true
		rest, whole, key, err := t.reduce(m, fixed, values)
		if err != nil {
			return nil, err
		}
		switch {
		case key >= 0:
			out.every, out.key = append(out.every, i), append(out.key, key)
		case rest != nil:
			out.match, out.index, out.whole = append(out.match, *rest), append(out.index, i), append(out.whole, whole)
		}
	}
	return out, nil
}

// reduce is a match without the parts that the path fixes: nil when no key has
// these values. When they are a whole key, its number is returned, else -1.
func (t *Target) reduce(m warehouse.BoundMatch, fixed []bool, values map[string]string) (rest *warehouse.BoundMatch, whole []int, key int, err error) {
	schema := m.Keys.Schema()
	want := make([][]byte, len(schema))
	id := m.Keys.Name()
	for k := range schema {
		if !fixed[k] {
			continue
		}
		text := values[m.Columns[k].Path[0]]
		if text == hiveNull {
			return nil, nil, -1, nil
		}
		canonical, err := schema[k].AppendText(nil, []byte(text))
		if err != nil {
			return nil, nil, -1, nil //nolint:nilerr // what is no value of the type is no key
		}
		want[k] = canonical
		id += "\x00" + string(canonical)
	}
	var left keyset.Schema
	var columns []warehouse.ColumnRef
	for k := range schema {
		if !fixed[k] {
			left, columns = append(left, schema[k]), append(columns, m.Columns[k])
		}
	}
	if len(left) == 0 {
		return nil, nil, m.Keys.Number(schema.AppendTuple(nil, want...)), nil
	}
	r, err := t.reduced(id, m.Keys, left, want)
	if err != nil || r.set.Len() == 0 {
		return nil, nil, -1, err
	}
	return &warehouse.BoundMatch{Keys: r.set, Columns: columns}, r.whole, -1, nil
}

// reduced is the set of the other parts of the keys that have the wanted ones.
// The last few are remembered: objects of one partition come together.
func (t *Target) reduced(id string, keys *keyset.Set, left keyset.Schema, want [][]byte) (*reducedSet, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.sets[id]; ok {
		return s, nil
	}
	b, err := keyset.NewBuilder(keys.Name(), left)
	if err != nil {
		return nil, err
	}
	var parts, rest [][]byte
	numbers := map[string]int{}
	n := -1
	for key := range keys.All() {
		n++
		if parts, err = keys.Schema().SplitTuple(parts[:0], key); err != nil {
			return nil, err
		}
		rest = rest[:0]
		same := true
		for k, w := range want {
			if w == nil {
				rest = append(rest, parts[k])
			} else if string(w) != string(parts[k]) {
				same = false
				break
			}
		}
		if !same {
			continue
		}
		left := left.AppendTuple(nil, rest...)
		if err := b.Add(left); err != nil {
			return nil, err
		}
		numbers[string(left)] = n
	}
	set, err := b.Build()
	if err != nil {
		return nil, err
	}
	out := &reducedSet{set: set, whole: make([]int, 0, set.Len())}
	for key := range set.All() {
		out.whole = append(out.whole, numbers[string(key)])
	}
	if len(t.sets) >= 64 {
		clear(t.sets)
	}
	t.sets[id] = out
	return out, nil
}

// keys are, by match of the selection, the numbers of the keys that a scan
// found in an object: those of its records, and the one of its path.
func (m *objectMatch) keys(found []*roaring64.Bitmap, matches int) []*roaring64.Bitmap {
	out := make([]*roaring64.Bitmap, matches)
	for i, b := range found {
		if b == nil {
			continue
		}
		if m.whole[i] != nil {
			whole := roaring64.New()
			for it := b.Iterator(); it.HasNext(); {
				whole.Add(uint64(m.whole[i][it.Next()]))
			}
			b = whole
		}
		out[m.index[i]] = b
	}
	for i, k := range m.every {
		out[k] = roaring64.BitmapOf(uint64(m.key[i]))
	}
	return out
}
