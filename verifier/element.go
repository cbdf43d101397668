package verifier

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/warehouse"
)

// Removing elements of a list or map (action remove_element): rows stay, the
// matching elements go, and a list whose elements all go becomes empty.

// elements says which elements of which rows had to go, by position.
type elements struct {
	ref     warehouse.ColumnRef
	withIDs bool
	group   string // path of its repeated group
	rep     int16  // repetition level at which an element begins
	empty   int16  // definition level of a list that is there and empty
	gone    map[int64]map[int]bool
}

// removed finds the matching elements in the old file, by this package's own
// comparison. Memory is what the matches take.
func (c *comparison) removed() (*elements, error) {
	e := &elements{ref: c.r.Action.Element, withIDs: haveIDs(columnsOf(c.old.MetaData().Schema)), gone: map[int64]map[int]bool{}}
	bound, err := bindFile(c.old, c.r.Matches)
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		if b == nil {
			continue
		}
		at := slices.IndexFunc(b.info, e.holds)
		if at < 0 {
			return nil, fmt.Errorf("no key column lies in %s: %w", strings.Join(e.ref.Path, "."), errCorrupt)
		}
		if err := e.level(c.old.MetaData().Schema.Column(b.cols[at]).SchemaNode(), b.info[at].group); err != nil {
			return nil, err
		}
		z := b.zip(c.ctx, c.old, e.group)
		err := z.run(func(row int64, element int) {
			if e.gone[row] == nil {
				e.gone[row] = map[int]bool{}
			}
			e.gone[row][element] = true
		})
		z.close()
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}

// level computes the levels of the innermost repeated group above a key column,
// which has to be the list that elements are removed from.
func (e *elements) level(n schema.Node, group string) error {
	if e.group != "" && e.group != group {
		return fmt.Errorf("keys lie in different lists: %w", errCorrupt)
	}
	e.group, e.rep, e.empty = group, 0, 0
	above := false
	for ; n != nil && n.Parent() != nil; n = n.Parent() {
		if n.Path() == group {
			above = true
			e.rep++
			continue // an empty list stops one definition level short of this
		}
		if !above {
			continue
		}
		switch n.RepetitionType() {
		case parquet.Repetitions.Repeated:
			e.rep++
			e.empty++
		case parquet.Repetitions.Optional:
			e.empty++
		}
	}
	if e.rep != 1 {
		return fmt.Errorf("elements of a list inside a list: %w", errCorrupt)
	}
	return nil
}

// holds says whether a column lies in the list.
func (e *elements) holds(f fileColumn) bool {
	_, ok := f.under(e.ref, e.withIDs)
	return ok
}

// entryOf is one level entry with its value.
type entryOf struct {
	def, rep int16
	v        []byte
}

// rowsOf walks a leaf row by row.
type rowsOf struct {
	l       *leaf
	b       *batch
	i, v    int
	pending *entryOf
}

func (r *rowsOf) entry() (*entryOf, error) {
	for r.b == nil || r.i == r.b.n {
		b, err := r.l.next()
		if err != nil || b == nil {
			return nil, err
		}
		r.b, r.i, r.v = b, 0, 0
	}
	e := &entryOf{}
	if r.b.rep != nil {
		e.rep = r.b.rep[r.i]
	}
	if r.b.def != nil {
		e.def = r.b.def[r.i]
	}
	if r.b.def == nil || e.def == r.l.maxDef() {
		e.v = bytes.Clone(r.b.value(r.v))
		r.v++
	}
	r.i++
	return e, nil
}

// row returns the next row's entries; nil at the end.
func (r *rowsOf) row() ([]entryOf, error) {
	var out []entryOf
	for {
		e := r.pending
		r.pending = nil
		if e == nil {
			var err error
			if e, err = r.entry(); err != nil {
				return nil, err
			}
		}
		if e == nil {
			return out, nil
		}
		if e.rep == 0 && len(out) > 0 {
			r.pending = e
			return out, nil
		}
		out = append(out, *e)
	}
}

// keep returns a row's entries without those of removed elements.
func (e *elements) keep(entries []entryOf, gone map[int]bool) []entryOf {
	if len(gone) == 0 {
		return entries
	}
	var out []entryOf
	element := -1
	for _, x := range entries {
		if x.rep <= e.rep {
			element++
		}
		if gone[element] {
			continue
		}
		if len(out) == 0 {
			x.rep = 0
		}
		out = append(out, x)
	}
	if len(out) == 0 {
		return []entryOf{{def: e.empty}}
	}
	return out
}

// elementColumn compares a leaf inside the list.
func (c *comparison) elementColumn(info fileColumn, j int, e *elements) error {
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
		want := e.keep(x, e.gone[row])
		same := slices.EqualFunc(want, y, func(p, q entryOf) bool { return p.def == q.def && p.rep == q.rep && bytes.Equal(p.v, q.v) })
		if !same || (x == nil) != (y == nil) {
			c.differ("column %s: row %d of the old file is not what removing elements makes of it", pathOf(info), row)
			return nil
		}
	}
}
