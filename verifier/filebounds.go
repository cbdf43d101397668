package verifier

import (
	"bytes"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"

	"github.com/expunge/expunge/keyset"
)

// fileBounds are all bounds that a file stores about one column chunk, in
// PLAIN encoding without length.
type fileBounds struct{ stats, index [][]byte }

// footerBounds collects them from the chunk's statistics, with the deprecated
// pair of fields, and from the column index. Page headers add theirs.
func (c *fileCheck) footerBounds(rg, col int) (b fileBounds, err error) {
	defer guard(&err)
	if st := c.f.MetaData().RowGroups[rg].Columns[col].GetMetaData().GetStatistics(); st != nil {
		for _, v := range [][]byte{st.Min, st.Max, st.MinValue, st.MaxValue} {
			if v != nil {
				b.stats = append(b.stats, v)
			}
		}
	}
	b.index, err = c.columnIndex(rg, col)
	return b, err
}

// columnIndex returns the page bounds of a chunk.
func (c *fileCheck) columnIndex(rg, col int) (out [][]byte, err error) {
	r, err := c.f.GetPageIndexReader().RowGroup(rg)
	if err != nil || r == nil {
		return nil, err
	}
	ix, err := r.GetColumnIndex(col)
	if err != nil || ix == nil {
		return nil, err
	}
	null := ix.GetNullPages()
	for _, vs := range [][][]byte{ix.GetMinValues(), ix.GetMaxValues()} {
		for i, v := range vs {
			if i < len(null) && null[i] {
				continue // all null: the bound has no meaning and is empty
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// boundKeys looks for keys among bounds. A bound that was cut short may be a
// key's beginning, which is possible and not certain.
func (c *fileCheck) boundKeys(surface string, bounds [][]byte, keys []*boundKeys, at Finding) {
	at.Surface = surface
	var certain, possible int64
	seen := map[string]bool{}
	for _, v := range bounds {
		if seen[string(v)] || !c.fits(keys, v) {
			continue
		}
		seen[string(v)] = true
		switch {
		case isKey(keys, v):
			certain++
		case beginsKey(keys, v):
			possible++
		}
	}
	if certain > 0 {
		at.Count, at.State = certain, "key in a bound"
		c.tally.found(at)
	}
	if possible > 0 {
		at.Count, at.Certain, at.State = possible, false, "a key begins with a bound that was cut short"
		c.tally.found(at)
	}
}

// fits says whether a bound has the width that the converters take.
func (c *fileCheck) fits(keys []*boundKeys, v []byte) bool {
	for _, k := range keys {
		if !fitsWidth(k.conv[0].phys, v) {
			return false
		}
	}
	return true
}

// minPrefix is the shortest cut bound that is taken for a key's beginning:
// writers cut at 16 bytes or characters and above.
const minPrefix = 16

// beginsKey says whether some string key begins with v.
func beginsKey(keys []*boundKeys, v []byte) bool {
	if len(v) < minPrefix {
		return false
	}
	for _, k := range keys {
		p := k.keys.Schema()[0]
		if p.Type.Kind != keyset.KindString || len(p.Normalize) > 0 {
			continue
		}
		for key := range k.keys.PartRange(0, v, nil) {
			if bytes.HasPrefix(key, v) && len(key) > len(v) {
				return true
			}
			break // sorted: the first key at or above v decides
		}
	}
	return false
}

// staleBounds reports bounds that no row of the chunk has: left over from a
// row that is gone. A bound that was cut short counts as held when a value
// begins with it, or, for an upper one, with what it was raised from; that
// takes a second look at the values.
func (c *fileCheck) staleBounds(rg, col int, open *openBounds, b fileBounds, at Finding) error {
	if open.cut {
		open.remaining()
		if _, err := walkChunk(c.ctx, c.f, rg, col, pageVisitor{value: open.seeCut, done: open.done}); err != nil {
			return err
		}
	}
	for surface, bounds := range map[string][][]byte{Statistics: b.stats, PageIndexes: b.index} {
		var n int64
		seen := map[string]bool{}
		for _, v := range bounds {
			if open.values[string(v)] && !seen[string(v)] {
				seen[string(v)] = true
				n++
			}
		}
		if n > 0 {
			at.Surface, at.Count, at.Certain, at.State = surface, n, false, "bound that no row has"
			c.tally.found(at)
		}
	}
	return nil
}

// openBounds are bounds that no value was seen for yet.
type openBounds struct {
	values map[string]bool
	// For the second look: what a value may begin with → the bounds that this
	// explains, and the lengths of those beginnings.
	begins  map[string][]string
	lengths []int
	cut     bool
	float   bool
	usable  bool // the type has bounds that tell something
}

func newOpenBounds(t parquet.Type) *openBounds {
	return &openBounds{
		values: map[string]bool{},
		cut:    t == parquet.Types.ByteArray || t == parquet.Types.FixedLenByteArray,
		float:  t == parquet.Types.Float || t == parquet.Types.Double,
		usable: t != parquet.Types.Int96 && t != parquet.Types.Boolean,
	}
}

func (o *openBounds) add(bounds [][]byte) {
	for _, v := range bounds {
		if o.float && isZeroFloat(v) {
			continue // writers turn -0 and +0 into each other
		}
		o.values[string(v)] = true
	}
}

func isZeroFloat(v []byte) bool {
	for i, x := range v {
		if x != 0 && (i != len(v)-1 || x != 0x80) {
			return false
		}
	}
	return true
}

func (o *openBounds) done() bool { return len(o.values) == 0 }

func (o *openBounds) see(v []byte) { delete(o.values, string(v)) }

// remaining prepares the second look, for bounds that were cut short: a value
// explains one when it begins with it, or with what an upper bound was raised
// from so as to cover the rest.
func (o *openBounds) remaining() {
	o.begins = map[string][]string{}
	for v := range o.values {
		for _, b := range [][]byte{[]byte(v), unraise([]byte(v)), lowered([]byte(v))} {
			if b == nil {
				continue
			}
			o.begins[string(b)] = append(o.begins[string(b)], v)
			if !slices.Contains(o.lengths, len(b)) {
				o.lengths = append(o.lengths, len(b))
			}
		}
	}
}

func (o *openBounds) seeCut(v []byte) {
	for _, n := range o.lengths {
		if n > len(v) {
			continue
		}
		for _, b := range o.begins[string(v[:n])] {
			delete(o.values, b)
		}
	}
}

// unraise undoes the raising of an upper bound byte by byte: the last byte was
// increased, and ones that overflowed became 0.
func unraise(v []byte) []byte {
	out := bytes.Clone(v)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i] != 0 {
			out[i]--
			return out
		}
		out[i] = 0xff
	}
	return nil
}
