package verifier

import (
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"

	"github.com/expunge/expunge/keyset"
)

// storedPart is what a row group stores of one part of a composite key: values
// that are parts of keys, in their canonical form.
type storedPart struct {
	column string
	keys   *keyset.Set         // of the part
	rows   map[string]struct{} // that some row has
	left   map[string]string   // that no row has, and the surface they are left on
}

// tuples looks for composite keys that a row group still spells out although no
// row has them: all parts are stored in its chunks, and one at least where no row
// has it, in a dictionary entry or a bound. That is possible residue: the parts
// may be of different rows. A part that is left without the others is not told
// from other people's data.
func (c *fileCheck) tuples() error {
	for _, b := range c.bound {
		if b == nil || len(b.cols) < 2 || b.allConstant() {
			continue
		}
		for rg := range c.f.NumRowGroups() {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			if err := c.tuplesOf(b, rg); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *fileCheck) tuplesOf(b *boundKeys, rg int) error {
	parts, left := make([]*storedPart, len(b.cols)), false
	for i := range parts {
		p := &storedPart{keys: b.keys.PartSet(i), rows: map[string]struct{}{}, left: map[string]string{}}
		parts[i] = p
		if v := b.constant(i); v != nil {
			p.rows[string(v)] = struct{}{}
			continue
		}
		p.column = pathOf(b.info[i])
		if err := c.leftOf(p, b, i, rg); err != nil {
			return fmt.Errorf("column %s: %w", p.column, err)
		}
		left = left || len(p.left) > 0
	}
	if !left {
		return nil
	}
	for i, p := range parts {
		if b.constant(i) != nil {
			continue
		}
		if err := c.rowsOf(p, b, i, rg); err != nil {
			return fmt.Errorf("column %s: %w", p.column, err)
		}
	}
	return c.spelled(b.keys, parts)
}

// leftOf notes the entries that no value refers to, and the bounds: whether a row
// has them is seen later.
func (c *fileCheck) leftOf(p *storedPart, b *boundKeys, part, rg int) error {
	bounds, err := c.footerBounds(rg, b.cols[part])
	if err != nil {
		return err
	}
	pages, err := walkChunk(c.ctx, c.f, rg, b.cols[part], pageVisitor{})
	if err != nil {
		return err
	}
	if pages.dict != nil {
		c.tally.look(Dictionaries, 0)
	}
	note := func(surface string, v []byte) {
		if k, ok := b.partOf(part, v); ok && p.left[string(k)] == "" {
			p.left[string(k)] = surface
		}
	}
	for i, v := range pages.dict {
		if !pages.used.Contains(uint64(i)) {
			note(Dictionaries, v)
		}
	}
	for _, v := range append(bounds.stats, pages.bounds...) {
		note(Statistics, v)
	}
	for _, v := range bounds.index {
		note(PageIndexes, v)
	}
	return nil
}

// rowsOf notes the values of rows; what they have is not left over.
func (c *fileCheck) rowsOf(p *storedPart, b *boundKeys, part, rg int) error {
	never := func() bool { return false }
	_, err := walkChunk(c.ctx, c.f, rg, b.cols[part], pageVisitor{done: never, value: func(v []byte) {
		if k, ok := b.partOf(part, v); ok {
			p.rows[string(k)] = struct{}{}
			delete(p.left, string(k))
		}
	}})
	return err
}

// partOf returns a stored value's canonical form where some key has it as a part.
func (b *boundKeys) partOf(part int, v []byte) ([]byte, bool) {
	if !fitsWidth(b.conv[part].phys, v) {
		return nil, false
	}
	k, ok := b.conv[part].append(nil, v)
	return k, ok && b.keys.PartSet(part).Contains(k)
}

// fitsWidth says whether a bound has the width of its column's values.
func fitsWidth(t parquet.Type, v []byte) bool {
	switch t {
	case parquet.Types.Int32:
		return len(v) == 4
	case parquet.Types.Int64:
		return len(v) == 8
	}
	return true
}

// spelled counts the keys that the stored parts spell out.
func (c *fileCheck) spelled(keys *keyset.Set, parts []*storedPart) error {
	found := map[Finding]int64{}
	var values [][]byte
	for key := range keys.All() {
		var err error
		if values, err = keys.Schema().SplitTuple(values[:0], key); err != nil {
			return fmt.Errorf("split key: %w", errCorrupt)
		}
		if at, ok := leftKey(parts, values); ok {
			found[at]++
		}
	}
	for at, n := range found {
		at.Object, at.Count, at.State = c.name, n, "parts of a key in one row group, one where no row has it"
		c.tally.found(at)
	}
	return nil
}

// leftKey says whether all parts of a key are stored, and where one that no row has.
func leftKey(parts []*storedPart, values [][]byte) (at Finding, ok bool) {
	for i, p := range parts {
		if surface, left := p.left[string(values[i])]; left {
			at.Surface, at.Column = surface, p.column
		} else if _, has := p.rows[string(values[i])]; !has {
			return Finding{}, false
		}
	}
	return at, at.Surface != ""
}
