package parquet

import (
	"bytes"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/thriftpatch"
)

// Field ids of ColumnIndex (parquet.thrift).
const (
	indexNullPages  = 1
	indexMin        = 2
	indexMax        = 3
	indexOrder      = 4
	indexNullCounts = 5
	indexRep        = 6
	indexDef        = 7
)

// buildColumnIndex patches the column index: dropped pages leave it, edited
// ones get new entries. An index that can no longer be true is left out.
func (c *chunkJob) buildColumnIndex() error {
	if c.table.column == nil || c.order == orderNone || !c.typeOrdered {
		return nil
	}
	raw := make([]byte, c.src.Entry.ColumnIndexLength)
	if err := readFull(c.eng.in, raw, c.src.Entry.ColumnIndexOffset); err != nil {
		return err
	}
	x, _, err := thriftpatch.Parse(raw)
	if err != nil {
		return corrupt("column index: %w", err)
	}
	b := indexBuilder{chunk: c, index: x}
	if err := b.open(); err != nil {
		return err
	}
	for i := range c.table.pages {
		if !b.page(i) {
			return nil
		}
	}
	b.close()
	c.fin.columnIndex = x
	return nil
}

type indexBuilder struct {
	chunk                     *chunkJob
	index                     *thriftpatch.Struct
	nullPages, mins, maxs     *thriftpatch.List
	nullCounts, rep, def      *thriftpatch.List // nil where absent
	outNull, outMin, outMax   thriftpatch.List
	outCounts, outRep, outDef thriftpatch.List
	bounds                    []bounds // of pages that are not all null
}

func (b *indexBuilder) open() error {
	for _, l := range []struct {
		id  int16
		in  **thriftpatch.List
		out *thriftpatch.List
	}{
		{indexNullPages, &b.nullPages, &b.outNull}, {indexMin, &b.mins, &b.outMin}, {indexMax, &b.maxs, &b.outMax},
		{indexNullCounts, &b.nullCounts, &b.outCounts}, {indexRep, &b.rep, &b.outRep}, {indexDef, &b.def, &b.outDef},
	} {
		list, err := b.index.List(l.id)
		if err != nil {
			return corrupt("column index: %w", err)
		}
		*l.in = list
		if list != nil {
			l.out.Elem = list.Elem
		}
	}
	n := len(b.chunk.table.pages)
	if b.nullPages == nil || b.mins == nil || b.maxs == nil ||
		len(b.nullPages.Values) != n || len(b.mins.Values) != n || len(b.maxs.Values) != n {
		return corrupt("column index of another number of pages")
	}
	b.rep = b.ofPages(b.rep, indexRep, n*(b.chunk.col.MaxRep+1))
	b.def = b.ofPages(b.def, indexDef, n*(b.chunk.col.MaxDef+1))
	b.nullCounts = b.ofPages(b.nullCounts, indexNullCounts, n)
	return nil
}

// ofPages drops an optional list that has not one part a page.
func (b *indexBuilder) ofPages(l *thriftpatch.List, id int16, n int) *thriftpatch.List {
	if l != nil && len(l.Values) != n {
		b.index.Delete(id)
		return nil
	}
	return l
}

// page carries page i over; false: the index cannot be kept.
func (b *indexBuilder) page(i int) bool {
	c := b.chunk
	j := c.table.pages[i].job
	if j == nil || !j.edit {
		b.outNull.Values = append(b.outNull.Values, b.nullPages.Values[i])
		b.outMin.Values = append(b.outMin.Values, b.mins.Values[i])
		b.outMax.Values = append(b.outMax.Values, b.maxs.Values[i])
		if s, _ := c.columnIndexBounds(i); s.min != nil || s.max != nil {
			b.bounds = append(b.bounds, s)
		}
		if b.nullCounts != nil {
			b.outCounts.Values = append(b.outCounts.Values, b.nullCounts.Values[i])
		}
		carry(&b.outRep, b.rep, i, c.col.MaxRep+1)
		carry(&b.outDef, b.def, i, c.col.MaxDef+1)
		return true
	}
	r := &j.res
	if r.after.entries == 0 {
		return true
	}
	if b.nullCounts != nil {
		b.outCounts.AddInt(int64(r.after.nulls()))
	}
	addAll(&b.outRep, b.rep, r.after.rep)
	addAll(&b.outDef, b.def, r.after.def)
	if r.after.values == 0 {
		b.outNull.AddBool(true)
		b.outMin.AddBytes(nil)
		b.outMax.AddBytes(nil)
		return true
	}
	old, _ := c.columnIndexBounds(i)
	ch := statChange{gone: r.gone, stay: r.stay, stayKnown: r.stayKnown, literals: r.literals, values: r.after.values, leak: leaks.columnIndex}
	lo, okLo := c.newBound(old.min, true, ch, false)
	hi, okHi := c.newBound(old.max, true, ch, true)
	if !okLo || !okHi || c.table.column.NullPages[i] {
		return false
	}
	b.outNull.AddBool(false)
	b.outMin.AddBytes(lo)
	b.outMax.AddBytes(hi)
	b.bounds = append(b.bounds, bounds{lo, hi})
	return true
}

func carry(out, in *thriftpatch.List, i, n int) {
	if in != nil {
		out.Values = append(out.Values, in.Values[i*n:(i+1)*n]...)
	}
}

func addAll(out, in *thriftpatch.List, values []int64) {
	if in != nil {
		for _, v := range values {
			out.AddInt(v)
		}
	}
}

func (b *indexBuilder) close() {
	x := b.index
	x.SetList(indexNullPages, &b.outNull)
	x.SetList(indexMin, &b.outMin)
	x.SetList(indexMax, &b.outMax)
	if b.nullCounts != nil {
		x.SetList(indexNullCounts, &b.outCounts)
	}
	if b.rep != nil {
		x.SetList(indexRep, &b.outRep)
	}
	if b.def != nil {
		x.SetList(indexDef, &b.outDef)
	}
	if o, _ := x.Int(indexOrder); !ordered(b.chunk.order, format.BoundaryOrder(o), b.bounds) {
		x.SetInt(indexOrder, thriftpatch.I32, int64(format.Unordered))
	}
}

// ordered says whether the bounds of successive pages keep a boundary order;
// tightened bounds can break one.
func ordered(o order, want format.BoundaryOrder, bs []bounds) bool {
	sign := 1
	switch want {
	case format.Unordered:
		return true
	case format.Descending:
		sign = -1
	}
	for i := 1; i < len(bs); i++ {
		if sign*o.compare(bs[i-1].min, bs[i].min) > 0 || sign*o.compare(bs[i-1].max, bs[i].max) > 0 {
			return false
		}
	}
	return true
}

// buildOffsetIndex makes the page locations of the new file.
func (c *chunkJob) buildOffsetIndex() (*thriftpatch.Struct, error) {
	raw := make([]byte, c.src.Entry.OffsetIndexLength)
	if err := readFull(c.eng.in, raw, c.src.Entry.OffsetIndexOffset); err != nil {
		return nil, err
	}
	x, _, err := thriftpatch.Parse(raw)
	if err != nil {
		return nil, corrupt("offset index: %w", err)
	}
	locs, err := x.List(1)
	if err != nil || locs == nil || len(locs.Values) != len(c.table.pages) {
		return nil, corrupt("offset index of another number of pages")
	}
	sizes, err := x.List(2)
	if err != nil {
		return nil, corrupt("offset index: %w", err)
	}
	if sizes != nil && len(sizes.Values) != len(c.table.pages) {
		x.Delete(2)
		sizes = nil
	}
	out, outSizes := &thriftpatch.List{Elem: locs.Elem}, &thriftpatch.List{Elem: thriftpatch.I64}
	row := int64(0)
	for i := range c.table.pages {
		e := &c.table.pages[i]
		if e.out < 0 {
			continue
		}
		l, err := locs.Struct(i)
		if err != nil {
			return nil, corrupt("offset index: %w", err)
		}
		size, rows, delta := e.size, int64(e.rows), int64(0)
		if j := e.job; j != nil && j.edit {
			size, rows, delta = j.res.after.compressed, int64(j.res.after.rows), j.res.dataDelta
		}
		l.SetInt(1, thriftpatch.I64, e.out)
		l.SetInt(2, thriftpatch.I32, size)
		l.SetInt(3, thriftpatch.I64, row)
		row += rows
		out.AddStruct(l)
		if sizes != nil {
			n, err := sizes.Int(i)
			if err != nil {
				return nil, corrupt("offset index: %w", err)
			}
			outSizes.AddInt(n + delta)
		}
	}
	x.SetList(1, out)
	if sizes != nil {
		x.SetList(2, outSizes)
	}
	return x, nil
}

// shiftOffsetIndex moves all page locations of an untouched chunk.
func shiftOffsetIndex(raw []byte, by int64) ([]byte, error) {
	if by == 0 {
		return bytes.Clone(raw), nil
	}
	x, _, err := thriftpatch.Parse(raw)
	if err != nil {
		return nil, corrupt("offset index: %w", err)
	}
	locs, err := x.List(1)
	if err != nil || locs == nil {
		return nil, corrupt("offset index without locations")
	}
	for i := range locs.Values {
		l, err := locs.Struct(i)
		if err != nil {
			return nil, corrupt("offset index: %w", err)
		}
		at, _ := l.Int(1)
		l.SetInt(1, thriftpatch.I64, at+by)
		locs.Values[i] = l.Append(nil)
	}
	x.SetList(1, locs)
	return x.Append(nil), nil
}
