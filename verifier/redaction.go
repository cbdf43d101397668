package verifier

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/warehouse"
)

// Redaction (action redact): rows stay, and named columns of the matching ones
// hold a null or a constant. The key may stay too, so that it is no sign of
// what is left to do: a row is, when it matches and a column does not yet hold
// what it was declared to.

// redactedLeaf is a leaf column at or below a redacted one.
type redactedLeaf struct {
	col  fileColumn
	node fileNode // the redacted column
	want func(value []byte) bool
	null bool
}

// redactedLeaves resolves an action against a file. A column that the file
// lacks reads as null in it.
func redactedLeaves(f *parquetFile, a *warehouse.BoundAction) ([]redactedLeaf, error) {
	if a == nil || a.Kind != warehouse.Redact {
		return nil, nil
	}
	cols := columnsOf(f.MetaData().Schema)
	withIDs := haveIDs(cols)
	var out []redactedLeaf
	for _, r := range a.Redact {
		for _, c := range cols {
			node, ok := c.under(r.Column, withIDs)
			if !ok {
				continue
			}
			leaf := redactedLeaf{col: c, node: node, null: r.Constant == nil}
			if !leaf.null {
				var err error
				if leaf.want, err = isConstant(f.MetaData().Schema.Column(c.index), *r.Constant); err != nil {
					return nil, fmt.Errorf("column %s: %w", pathOf(c), err)
				}
			}
			out = append(out, leaf)
		}
	}
	return out, nil
}

// done says whether an entry holds what was declared. A null stays one, and a
// constant takes the place of values only.
func (r *redactedLeaf) done(e *entryOf, maxDef int16) bool {
	if r.null {
		return e.def < r.node.def
	}
	return e.def < maxDef || r.want(e.v)
}

// pendingRows are those of the hits in which a redaction is left to do.
func pendingRows(ctx context.Context, f *parquetFile, leaves []redactedLeaf, hits *roaring64.Bitmap) (*roaring64.Bitmap, error) {
	out := roaring64.New()
	for i := range leaves {
		first := uint64(0)
		for rg := range f.NumRowGroups() {
			n := uint64(f.RowGroup(rg).NumRows())
			if hits.Rank(first+n)-hits.Rank(first) > 0 || hits.Contains(first) {
				if err := leaves[i].pending(ctx, f, rg, first, hits, out); err != nil {
					return nil, err
				}
			}
			first += n
		}
	}
	return out, nil
}

func (r *redactedLeaf) pending(ctx context.Context, f *parquetFile, rg int, first uint64, hits, out *roaring64.Bitmap) error {
	rows := &rowsOf{l: f.leaf(ctx, r.col.index)}
	defer rows.l.close()
	rows.l.group(rg)
	for row := first; ; row++ {
		entries, err := rows.row()
		if err != nil || entries == nil {
			return err
		}
		if !hits.Contains(row) {
			continue
		}
		if slices.ContainsFunc(entries, func(e entryOf) bool { return !r.done(&e, rows.l.maxDef()) }) {
			out.Add(row)
		}
	}
}

// redactedColumn compares a redacted leaf row by row: as before in rows that
// do not match, and what the redaction makes of the old row in those that do.
func (c *comparison) redactedColumn(info fileColumn, j int, r *redactedLeaf) error {
	a, b := &rowsOf{l: c.old.leaf(c.ctx, info.index)}, &rowsOf{l: c.new.leaf(c.ctx, j)}
	defer a.l.close()
	defer b.l.close()
	for row := int64(0); ; row++ {
		x, err := a.row()
		if err != nil {
			return fmt.Errorf("old file: %w", err)
		}
		if x != nil && c.gone.Contains(uint64(row)) {
			continue
		}
		y, err := b.row()
		if err != nil {
			return fmt.Errorf("new file: %w", err)
		}
		if x == nil && y == nil {
			return nil
		}
		same := (x == nil) == (y == nil)
		if same && c.hits.Contains(uint64(row)) {
			same = r.made(x, y, a.l.maxDef())
		} else if same {
			same = slices.EqualFunc(x, y, func(p, q entryOf) bool { return p.def == q.def && p.rep == q.rep && bytes.Equal(p.v, q.v) })
		}
		if !same {
			c.differ("column %s: row %d of the old file is not what the redaction makes of it", pathOf(info), row)
			return nil
		}
	}
}

// made says whether the entries y of a row are what the redaction makes of x.
func (r *redactedLeaf) made(x, y []entryOf, maxDef int16) bool {
	if r.null {
		// What repeats inside the column collapses into the one entry that says null.
		x = slices.DeleteFunc(slices.Clone(x), func(e entryOf) bool { return e.rep > r.node.rep })
	}
	return slices.EqualFunc(x, y, func(p, q entryOf) bool {
		switch {
		case p.rep != q.rep:
			return false
		case r.null && p.def >= r.node.def:
			return q.def == r.node.def-1 && q.v == nil
		case !r.null && p.def == maxDef:
			return q.def == maxDef && r.want(q.v)
		}
		return p.def == q.def && bytes.Equal(p.v, q.v)
	})
}
