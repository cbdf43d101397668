package parquet

import "bytes"

// Some writers give every page the bounds of its chunk. Such a bound may come
// from an erased value of another page, so that a page without an edit keeps
// it, in its header and in the column index. A chunk whose pages share its
// bounds is therefore looked at: where the first page without an edit has no
// value that a shared bound can come from, all its pages are written anew with
// bounds of their own. Where it has one, that value survives and so may the bound.

// sharedBounds says which of a chunk's bounds a page stores as its own.
func sharedBounds(chunk bounds, stored []bounds) (lo, hi bool) {
	for _, b := range stored {
		lo = lo || b.min != nil && bytes.Equal(b.min, chunk.min)
		hi = hi || b.max != nil && bytes.Equal(b.max, chunk.max)
	}
	return lo, hi
}

// knownBounds are the bounds that page i stores, as far as they are known
// without reading it.
func (c *chunkJob) knownBounds(i int) (out []bounds) {
	if h := c.table.pages[i].header; h != nil {
		return c.storedBounds(i, h)
	}
	if b, known := c.columnIndexBounds(i); known {
		out = append(out, b)
	}
	return out
}

// readHeaders reads the pages' headers where an offset index made that needless
// and they may hold bounds that no column index tells: there is none, or one of
// them shares a bound with the chunk that the column index does not give it.
func (c *chunkJob) readHeaders(chunk bounds) error {
	if c.table.index == nil {
		return nil // read already
	}
	if c.table.column != nil {
		honest, err := c.honestHeader(chunk)
		if err != nil || honest {
			return err
		}
	}
	for i := range c.table.pages {
		if _, err := c.peek(&c.table.pages[i]); err != nil {
			return err
		}
	}
	return nil
}

// honestHeader looks at one header, whose page has a bound of its own in the
// column index; writers make all of a chunk's headers in one way.
func (c *chunkJob) honestHeader(chunk bounds) (bool, error) {
	for i := range c.table.pages {
		own, known := c.columnIndexBounds(i)
		lo, hi := sharedBounds(chunk, []bounds{own})
		if !known || own.min == nil || lo && hi {
			continue
		}
		h, err := c.peek(&c.table.pages[i])
		if err != nil {
			return false, err
		}
		b, ok := c.headerBounds(h)
		if !ok {
			return true, nil
		}
		headLo, headHi := sharedBounds(chunk, []bounds{b})
		return (lo || !headLo) && (hi || !headHi), nil
	}
	return true, nil // all pages share the bounds, and the column index says so
}

// findForeign sets c.foreign. It decodes two pages at most, and none where no
// two pages share a bound of the chunk.
func (c *chunkJob) findForeign() error {
	chunk, ok := c.chunkBounds()
	if !ok || leaks.foreign || len(c.table.pages) < 2 || len(c.erased) == 0 && len(c.touched) == 0 {
		return nil
	}
	if err := c.readHeaders(chunk); err != nil {
		return err
	}
	mins, maxs := 0, 0
	firstMin, firstMax := -1, -1
	for i := range c.table.pages {
		lo, hi := sharedBounds(chunk, c.knownBounds(i))
		_, edit := c.workOn(&c.table.pages[i])
		if lo {
			if mins++; firstMin < 0 && !edit {
				firstMin = i
			}
		}
		if hi {
			if maxs++; firstMax < 0 && !edit {
				firstMax = i
			}
		}
	}
	for _, at := range []struct {
		page, sharing int
		isMax         bool
	}{{firstMin, mins, false}, {firstMax, maxs, true}} {
		if at.page < 0 || at.sharing < 2 || c.foreign {
			continue
		}
		b, err := c.decodeBounds(at.page)
		if err != nil {
			return err
		}
		if at.isMax {
			c.foreign = !derivedMax(c.order, chunk.max, b.max)
		} else {
			c.foreign = !derivedMin(c.order, chunk.min, b.min)
		}
	}
	return nil
}
