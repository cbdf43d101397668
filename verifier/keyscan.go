package verifier

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// boundKeys is a BoundMatch resolved against one file.
type boundKeys struct {
	keys *keyset.Set
	cols []int // leaf columns; absent where consts has the value of all rows
	conv []*converter
	info []fileColumn
	// consts holds, for columns that the file lacks, the canonical value that
	// every row has by its partition. It is nil in most files.
	consts [][]byte
}

func (b *boundKeys) constant(part int) []byte {
	if b.consts == nil {
		return nil
	}
	return b.consts[part]
}

// bindFile resolves matches against a file. A match of which the file lacks a
// column can match nothing there; its entry is nil.
func bindFile(f *parquetFile, matches []warehouse.BoundMatch) ([]*boundKeys, error) {
	cols := columnsOf(f.MetaData().Schema)
	out := make([]*boundKeys, len(matches))
	for i, m := range matches {
		b := &boundKeys{keys: m.Keys}
		parts := m.Keys.Schema()
		if len(parts) != len(m.Columns) {
			return nil, fmt.Errorf("%d columns for a key of %d parts: %w", len(m.Columns), len(parts), warehouse.ErrType)
		}
		for p, ref := range m.Columns {
			c := resolve(cols, ref)
			if c == absent {
				b = nil
				break
			}
			conv, err := newConverter(parts[p], f.MetaData().Schema.Column(c))
			if err != nil {
				return nil, err
			}
			b.cols, b.conv, b.info = append(b.cols, c), append(b.conv, conv), append(b.info, cols[c])
		}
		out[i] = b
	}
	return out, nil
}

// scanKeys returns the positions of the rows whose key is in any of the sets.
func scanKeys(ctx context.Context, f *parquetFile, bound []*boundKeys) (*roaring64.Bitmap, error) {
	hits := roaring64.New()
	for _, b := range bound {
		if b == nil {
			continue
		}
		var err error
		if b.allConstant() {
			if b.keys.Contains(b.constTuple()) {
				hits.AddRange(0, uint64(f.NumRows()))
			}
		} else if len(b.cols) == 1 {
			err = b.scanSingle(ctx, f, hits)
		} else {
			err = b.scanComposite(ctx, f, hits)
		}
		if err != nil {
			return nil, err
		}
	}
	return hits, nil
}

func (b *boundKeys) allConstant() bool {
	for p := range b.cols {
		if b.constant(p) == nil {
			return false
		}
	}
	return true
}

func (b *boundKeys) constTuple() (t []byte) {
	parts := b.keys.Schema()
	if len(parts) == 1 {
		return b.consts[0]
	}
	for i, p := range parts {
		t = appendTuplePart(t, p.Type.Kind, b.consts[i])
	}
	return t
}

// rowCounter tells rows from level entries: a row begins where the repetition
// level is 0 (Dremel encoding).
type rowCounter struct{ row int64 }

func newRowCounter() rowCounter { return rowCounter{-1} }

func (b *boundKeys) scanSingle(ctx context.Context, f *parquetFile, hits *roaring64.Bitmap) error {
	l := f.leaf(ctx, b.cols[0])
	defer l.close()
	rows := newRowCounter()
	var sel []int32
	for {
		bt, err := l.next()
		if err != nil {
			return err
		}
		if bt == nil {
			return nil
		}
		sel = b.selectValues(sel[:0], bt)
		rows.mark(bt, l.maxDef(), sel, hits)
	}
}

// selectValues appends the indexes of the batch's values that are keys.
func (b *boundKeys) selectValues(sel []int32, bt *batch) []int32 {
	var buf [64]byte
	c := b.conv[0]
	for i := range bt.nvals {
		k, ok := c.append(buf[:0], bt.value(i))
		if ok && b.keys.Contains(k) {
			sel = append(sel, int32(i))
		}
	}
	return sel
}

// mark adds the rows of selected values and counts the batch's rows.
func (r *rowCounter) mark(bt *batch, maxDef int16, sel []int32, hits *roaring64.Bitmap) {
	if bt.rep == nil && len(sel) == 0 {
		r.row += int64(bt.n)
		return
	}
	v, next := int32(0), 0
	for i := range bt.n {
		if bt.rep == nil || bt.rep[i] == 0 {
			r.row++
		}
		if bt.def != nil && bt.def[i] != maxDef {
			continue
		}
		if next < len(sel) && sel[next] == v {
			hits.Add(uint64(r.row))
			next++
		}
		v++
	}
}

// cell is one part's value at one level entry.
type cell struct {
	row  int64
	part []byte // canonical; nil = null or never a key
}

// cells walks a leaf entry by entry.
type cells struct {
	l    *leaf
	conv *converter
	b    *batch
	i, v int
	rows rowCounter
	buf  []byte
}

func (c *cells) next() (cell, bool, error) {
	for c.b == nil || c.i == c.b.n {
		b, err := c.l.next()
		if err != nil || b == nil {
			return cell{}, false, err
		}
		c.b, c.i, c.v = b, 0, 0
	}
	if c.b.rep == nil || c.b.rep[c.i] == 0 {
		c.rows.row++
	}
	out := cell{row: c.rows.row}
	if c.b.def == nil || c.b.def[c.i] == c.l.maxDef() {
		var ok bool
		if c.buf, ok = c.conv.append(c.buf[:0], c.b.value(c.v)); ok {
			out.part = c.buf
			if out.part == nil {
				out.part = []byte{}
			}
		}
		c.v++
	}
	c.i++
	return out, true, nil
}

// scanComposite zips the parts' columns. Parts in the same repeated group are
// compared element by element; a part outside it holds for every element.
func (b *boundKeys) scanComposite(ctx context.Context, f *parquetFile, hits *roaring64.Bitmap) error {
	group := ""
	for _, c := range b.info {
		if c.group != "" && group != "" && c.group != group {
			return fmt.Errorf("key parts lie in different lists: %w", warehouse.ErrType)
		}
		if c.group != "" {
			group = c.group
		}
	}
	cur := make([]*cells, len(b.cols))
	for i, c := range b.cols {
		if c == absent {
			continue
		}
		cur[i] = &cells{l: f.leaf(ctx, c), conv: b.conv[i], rows: newRowCounter()}
		defer cur[i].l.close()
	}
	z := zip{b: b, cur: cur, now: make([]cell, len(cur))}
	for i, c := range b.info {
		if b.constant(i) != nil {
			z.now[i].part = b.constant(i)
		} else if c.group == group {
			z.inner = append(z.inner, i)
		} else {
			z.outer = append(z.outer, i)
		}
	}
	return z.run(hits)
}

// zip advances the columns of a composite key together.
type zip struct {
	b            *boundKeys
	cur          []*cells
	now          []cell
	inner, outer []int // parts in the repeated group (all, when there is none), and those outside
	tuple        []byte
}

func (z *zip) run(hits *roaring64.Bitmap) error {
	row := int64(-1)
	for {
		more, err := z.step(z.inner)
		if err != nil || !more {
			return err
		}
		if r := z.now[z.inner[0]].row; r != row {
			row = r
			if more, err = z.step(z.outer); err != nil {
				return err
			} else if !more {
				return fmt.Errorf("columns of one row group have different row counts: %w", errCorrupt)
			}
		}
		for i, c := range z.now {
			if z.cur[i] != nil && c.row != row {
				return fmt.Errorf("columns of one row group have different row counts: %w", errCorrupt)
			}
		}
		if z.matches() {
			hits.Add(uint64(row))
		}
	}
}

// step moves the given columns by one entry.
func (z *zip) step(parts []int) (bool, error) {
	for n, i := range parts {
		c, ok, err := z.cur[i].next()
		if err != nil {
			return false, err
		}
		if !ok {
			if n > 0 {
				return false, fmt.Errorf("columns of one list have different lengths: %w", errCorrupt)
			}
			return false, nil
		}
		z.now[i] = c
	}
	return true, nil
}

func (z *zip) matches() bool {
	z.tuple = z.tuple[:0]
	for i, p := range z.b.keys.Schema() {
		if z.now[i].part == nil {
			return false
		}
		z.tuple = appendTuplePart(z.tuple, p.Type.Kind, z.now[i].part)
	}
	return z.b.keys.Contains(z.tuple)
}
