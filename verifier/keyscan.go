package verifier

import (
	"context"
	"fmt"
	"slices"

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

// setConst gives a part the value of all rows, in place of a column.
func (b *boundKeys) setConst(part, parts int, value []byte) {
	if b.consts == nil {
		b.consts = make([][]byte, parts)
	}
	b.consts[part] = value
	b.cols, b.conv, b.info = append(b.cols, absent), append(b.conv, nil), append(b.info, fileColumn{index: absent})
}

func (b *boundKeys) constant(part int) []byte {
	if b.consts == nil {
		return nil
	}
	return b.consts[part]
}

// projected lists the values that rows have without the file's storing them;
// nil where it stores every part.
func projected(bound []*boundKeys) *[]warehouse.Projected {
	var out []warehouse.Projected
	for i, b := range bound {
		if b == nil {
			continue
		}
		for part, value := range b.consts {
			if value != nil {
				out = append(out, warehouse.Projected{Match: i, Part: part, Value: value})
			}
		}
	}
	if out == nil {
		return nil
	}
	return &out
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
			if c == absent && ref.Const != nil {
				b.setConst(p, len(parts), ref.Const)
				continue
			}
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

// scanSingle reads a column row group by row group.
func (b *boundKeys) scanSingle(ctx context.Context, f *parquetFile, hits *roaring64.Bitmap) error {
	l := f.leaf(ctx, b.cols[0])
	defer l.close()
	p, err := newProbe(b)
	if err != nil {
		return err
	}
	var pages *pageStream
	rows := newRowCounter()
	for rg := range f.NumRowGroups() {
		indexed, err := f.hasDictionary(rg, b.cols[0])
		if err != nil {
			return err
		}
		if indexed {
			if pages == nil {
				if pages, err = newPageStream(ctx, f, b.cols[0]); err != nil {
					return err
				}
				defer pages.close()
			}
			if err := scanDictionary(pages, rg, p, &rows, hits); err != nil {
				return err
			}
			continue
		}
		for l.group(rg); ; {
			bt, err := l.next()
			if err != nil {
				return err
			}
			if bt == nil {
				break
			}
			rows.mark(bt, l.maxDef(), p.sel(bt), hits)
		}
	}
	return nil
}

// hasDictionary says whether a chunk announces a dictionary page.
func (f *parquetFile) hasDictionary(rg, col int) (yes bool, err error) {
	defer guard(&err)
	cc, err := f.RowGroup(rg).MetaData().ColumnChunk(col)
	if err != nil {
		return false, fmt.Errorf("read column chunk: %w", err)
	}
	return cc.HasDictionaryPage(), nil
}

// mark adds the rows of selected values and counts the batch's rows.
func (r *rowCounter) mark(bt *batch, maxDef int16, sel []int32, hits *roaring64.Bitmap) {
	if bt.rep == nil && bt.def == nil {
		for _, v := range sel {
			hits.Add(uint64(r.row + 1 + int64(v)))
		}
		sel = nil
	}
	if len(sel) == 0 {
		r.count(bt)
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

// count counts a batch's rows, none of which is selected.
func (r *rowCounter) count(bt *batch) {
	if bt.rep == nil {
		r.row += int64(bt.n)
		return
	}
	r.row += int64(countLevel(bt.rep, 0))
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
	z := b.zip(ctx, f, group)
	defer z.close()
	return z.run(func(row int64, _ int) { hits.Add(uint64(row)) })
}

// zip advances the columns of a key together.
type zip struct {
	b            *boundKeys
	cur          []*cells // nil for parts that are constant
	now          []cell
	inner, outer []int // parts in the repeated group (all, when there is none), and those outside
	tuple        []byte
}

func (b *boundKeys) zip(ctx context.Context, f *parquetFile, group string) *zip {
	z := &zip{b: b, cur: make([]*cells, len(b.cols)), now: make([]cell, len(b.cols))}
	for i, c := range b.cols {
		if b.constant(i) != nil {
			z.now[i].part = b.constant(i)
			continue
		}
		z.cur[i] = &cells{l: f.leaf(ctx, c), conv: b.conv[i], rows: newRowCounter()}
		if b.info[i].group == group {
			z.inner = append(z.inner, i)
		} else {
			z.outer = append(z.outer, i)
		}
	}
	return z
}

func (z *zip) close() {
	for _, c := range z.cur {
		if c != nil {
			c.l.close()
		}
	}
}

// run visits the row and, in lists, the position in it of every element whose
// key is in the set.
func (z *zip) run(hit func(row int64, element int)) error {
	return z.each(func(row int64, element int) bool {
		if k := z.key(); k != nil && z.b.keys.Contains(k) {
			hit(row, element)
		}
		return true
	})
}

// first returns the first whole key, nil when there is none.
func (z *zip) first() (key []byte, err error) {
	err = z.each(func(int64, int) bool {
		key = slices.Clone(z.key())
		return key == nil
	})
	return key, err
}

// each visits every element until visit says that it has seen enough.
func (z *zip) each(visit func(row int64, element int) bool) error {
	row, element := int64(-1), 0
	for {
		more, err := z.step(z.inner)
		if err != nil || !more {
			return err
		}
		element++
		if r := z.now[z.inner[0]].row; r != row {
			row, element = r, 0
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
		if !visit(row, element) {
			return nil
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

// key is the present element's canonical key; nil when a part is null.
func (z *zip) key() []byte {
	z.tuple = z.tuple[:0]
	parts := z.b.keys.Schema()
	for i, p := range parts {
		if z.now[i].part == nil {
			return nil
		}
		if len(parts) == 1 {
			return z.now[i].part
		}
		z.tuple = appendTuplePart(z.tuple, p.Type.Kind, z.now[i].part)
	}
	return z.tuple
}
