package parquet

import (
	"bytes"

	"github.com/expunge/expunge/rewriter"
)

// An editList says what becomes of a page's values: ranges of the source that
// stay, and literals, in output order. It is all that the value cutters get to
// see, so that a codec that edits compressed pages can take the same list.
type editList struct {
	ops []op
	n   int // values after the edit
}

// op keeps the source values [from, to), or puts to-from copies of literal.
type op struct {
	from, to int
	literal  []byte // PLAIN bytes without length; nil keeps
}

func (e *editList) keep(from, to int) {
	if from >= to {
		return
	}
	e.n += to - from
	if k := len(e.ops); k > 0 && e.ops[k-1].literal == nil && e.ops[k-1].to == from {
		e.ops[k-1].to = to
		return
	}
	e.ops = append(e.ops, op{from: from, to: to})
}

func (e *editList) put(literal []byte, n int) {
	if n == 0 {
		return
	}
	e.n += n
	if k := len(e.ops); k > 0 && e.ops[k-1].literal != nil && bytes.Equal(e.ops[k-1].literal, literal) {
		e.ops[k-1].to += n
		return
	}
	e.ops = append(e.ops, op{to: n, literal: literal})
}

// levels are a page's decoded levels; nil where the maximum is 0.
type levels struct {
	rep, def []uint8
	n        int // entries
}

// pageEdit is the edit of one page: levels as they become, and the value list.
type pageEdit struct {
	levels
	list editList
	rows int // rows that start in the page after the edit
	// entries are the level entries that stay; transformed says that others
	// were put in between.
	entries     editList
	transformed bool
}

// rowWork is what an edit asks of a page, in rows relative to the page's first
// one. In a page that starts in the middle of a row, that row is row 0.
type rowWork struct {
	erased []span
	first  int64 // file position of row 0
	leaf   *leafPlan
	// touched are rows with a redaction or removal, erased ones left out.
	touched []span
}

// editPage turns rows into level ranges and those into value ranges.
func editPage(src levels, w rowWork) pageEdit {
	e := pageEditor{src: src, work: w, maxDef: uint8(w.leaf.column.MaxDef)}
	if src.rep != nil {
		e.out.rep = make([]uint8, 0, src.n)
	}
	if src.def != nil {
		e.out.def = make([]uint8, 0, src.n)
	}
	e.run()
	return e.out
}

type pageEditor struct {
	src    levels
	work   rowWork
	maxDef uint8
	out    pageEdit

	entry, value int // position in the source
	// The last row that was looked up, and the entry at which it starts.
	rowOfEntry, entryOfRow int
}

func (e *pageEditor) run() {
	erased, touched := e.work.erased, e.work.touched
	for len(erased) > 0 || len(touched) > 0 {
		if len(touched) == 0 || len(erased) > 0 && erased[0].from < touched[0].from {
			e.keepTo(e.rowEntry(erased[0].from))
			e.skipTo(e.rowEntry(erased[0].to))
			erased = erased[1:]
			continue
		}
		for row := touched[0].from; row < touched[0].to; row++ {
			e.keepTo(e.rowEntry(row))
			e.transform(row, e.rowEntry(row+1))
		}
		touched = touched[1:]
	}
	e.keepTo(e.src.n)
	e.out.n = e.entries()
	e.out.rows = e.out.n
	if e.src.rep != nil {
		e.out.rows = bytes.Count(e.out.rep, []byte{0})
	}
}

func (e *pageEditor) entries() int {
	switch {
	case e.src.def != nil:
		return len(e.out.def)
	case e.src.rep != nil:
		return len(e.out.rep)
	}
	return e.out.list.n
}

// rowEntry is the level entry at which a row starts. Rows are asked for in
// ascending order, at or behind the current position.
func (e *pageEditor) rowEntry(row int) int {
	if e.src.rep == nil {
		return min(row, e.src.n)
	}
	if row <= e.rowOfEntry {
		return e.entryOfRow
	}
	// Rows start where the repetition level is 0; they are counted in blocks,
	// and only the last block is searched.
	const block = 512
	at, left := e.entryOfRow+1, row-e.rowOfEntry
	for at < e.src.n {
		end := min(at+block, e.src.n)
		n := bytes.Count(e.src.rep[at:end], []byte{0})
		if n >= left {
			break
		}
		at, left = end, left-n
	}
	for ; at < e.src.n; at++ {
		if e.src.rep[at] == 0 {
			if left--; left == 0 {
				e.rowOfEntry, e.entryOfRow = row, at
				return at
			}
		}
	}
	return e.src.n
}

// values counts the values among entries [from, to).
func (e *pageEditor) values(from, to int) int {
	if e.src.def == nil {
		return to - from
	}
	return bytes.Count(e.src.def[from:to], []byte{e.maxDef})
}

func (e *pageEditor) keepTo(to int) {
	if to <= e.entry {
		return
	}
	n := e.values(e.entry, to)
	e.out.list.keep(e.value, e.value+n)
	e.out.entries.keep(e.entry, to)
	if e.src.rep != nil {
		e.out.rep = append(e.out.rep, e.src.rep[e.entry:to]...)
	}
	if e.src.def != nil {
		e.out.def = append(e.out.def, e.src.def[e.entry:to]...)
	}
	e.entry, e.value = to, e.value+n
}

func (e *pageEditor) skipTo(to int) {
	if to > e.entry {
		e.value += e.values(e.entry, to)
		e.entry = to
	}
}

// entry is one level entry of a row that is being transformed.
type entry struct {
	rep, def uint8
	value    int    // source value, -1 = none
	literal  []byte // replaces the value
}

// transform edits the row whose entries are [e.entry, to).
func (e *pageEditor) transform(row, to int) {
	e.out.transformed = true
	position := uint64(e.work.first) + uint64(row)
	var in []entry
	v := e.value
	for i := e.entry; i < to; i++ {
		x := entry{def: e.maxDef, value: -1}
		if e.src.rep != nil {
			x.rep = e.src.rep[i]
		}
		if e.src.def != nil {
			x.def = e.src.def[i]
		}
		if x.def == e.maxDef {
			x.value = v
			v++
		}
		in = append(in, x)
	}
	for _, r := range e.work.leaf.removal {
		in = dropElements(in, r, position)
	}
	for _, r := range e.work.leaf.redact {
		if r.rows.Contains(position) {
			in = redactEntries(in, r, e.maxDef)
		}
	}
	for _, x := range in {
		if e.src.rep != nil {
			e.out.rep = append(e.out.rep, x.rep)
		}
		if e.src.def != nil {
			e.out.def = append(e.out.def, x.def)
		}
		if x.literal != nil {
			e.out.list.put(x.literal, 1)
		} else if x.value >= 0 {
			e.out.list.keep(x.value, x.value+1)
		}
	}
	e.entry, e.value = to, v
}

// redactEntries nulls a group or replaces the leaf's values in one row.
// Entries that repeat inside a group that becomes null go.
func redactEntries(in []entry, r redaction, maxDef uint8) []entry {
	out := in[:0]
	for _, x := range in {
		switch {
		case r.literal != nil:
			if x.def == maxDef {
				x.literal = r.literal
			}
		case int(x.rep) > r.group.Rep:
			continue
		case int(x.def) >= r.group.Def:
			x = entry{rep: x.rep, def: uint8(r.group.Def - 1), value: -1}
		}
		out = append(out, x)
	}
	return out
}

// dropElements takes elements out of one row's list. The first entry that
// stays starts the list; a list that loses all elements keeps one entry that
// says it is empty (definition level of the repeated node less one).
func dropElements(in []entry, r removal, row uint64) []entry {
	var out []entry
	index := uint32(0)
	for i := 0; i < len(in); {
		j := i + 1 // [i, j) is one instance of the list
		for j < len(in) && int(in[j].rep) >= r.list.Rep {
			j++
		}
		if int(in[i].def) < r.list.Def {
			out = append(out, in[i:j]...)
			i = j
			continue
		}
		kept := len(out)
		for k := i; k < j; {
			m := k + 1 // [k, m) is one element
			for m < j && int(in[m].rep) > r.list.Rep {
				m++
			}
			if !r.elements.Contains(rewriter.ElementKey(row, index)) {
				out = append(out, in[k:m]...)
			}
			index++
			k = m
		}
		if kept == len(out) {
			out = append(out, entry{def: uint8(r.list.Def - 1), value: -1})
		}
		out[kept].rep = in[i].rep
		i = j
	}
	return out
}
