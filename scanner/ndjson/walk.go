package ndjson

import (
	"bytes"
	"errors"

	"github.com/expunge/expunge/scanner"
)

// Reasons for which a line is malformed. They carry nothing of it.
var (
	errSyntax = errors.New("not a JSON object")
	errTwice  = errors.New("a member on the way to a key occurs twice")
	errDeep   = errors.New("nested deeper than 512 levels")
)

const maxDepth = 512

// node is a place in a record on the way to a column.
type node struct {
	id    int // index into walker.seen
	names [][]byte
	kids  []*node
	elem  *node // elements, when the value is an array
	depth int   // lists around the elements: the index into a Place

	slots  []int // key columns that this value is
	redact []int // redactions that this value is
	list   bool  // its elements are to be removed
}

func (n *node) child(name string) *node {
	for i, have := range n.names {
		if string(have) == name {
			return n.kids[i]
		}
	}
	k := &node{depth: n.depth}
	n.names, n.kids = append(n.names, []byte(name)), append(n.kids, k)
	return k
}

func (n *node) element() *node {
	if n.elem == nil {
		n.elem = &node{depth: n.depth + 1}
	}
	return n.elem
}

// errLists: a column lies in more lists than are kept apart.
var errLists = errors.New("column lies in more than four lists")

// reach returns every node that a path may mean: "element" is a list's
// elements, or a member of that name; "list.element" also the elements alone.
func (n *node) reach(path []string) ([]*node, error) {
	ends := []*node{n}
	for i := 0; i < len(path); i++ {
		var next []*node
		step := path[i]
		for _, e := range ends {
			if step != "[*]" {
				next = append(next, e.child(step))
			}
			if scanner.IsListStep(step) {
				if e.depth == scanner.MaxLists {
					return nil, errLists
				}
				next = append(next, e.element())
			}
		}
		if step == "list" && i+1 < len(path) && path[i+1] == "element" {
			more, err := n.reachFrom(ends, path[i+1:])
			if err != nil {
				return nil, err
			}
			rest, err := n.reachFrom(next, path[i+1:])
			return append(more, rest...), err
		}
		ends = next
	}
	return ends, nil
}

func (n *node) reachFrom(from []*node, path []string) (ends []*node, err error) {
	for _, f := range from {
		e, err := f.reach(path)
		if err != nil {
			return nil, err
		}
		ends = append(ends, e...)
	}
	return ends, nil
}

// walker visits one record at a time.
type walker struct {
	root   *node
	nodes  int
	tuples *scanner.Tuples
	redact []scanner.Redact
	buf    []byte
	pos    int
	place  scanner.Place
	text   []byte // an unescaped string
	spans  []span // of values to redact and elements to remove
	remove bool
	shapes shapes
}

// span is a value's range in the record.
type span struct {
	from, to int
	redact   int // index of the redaction; -1: an element
	place    scanner.Place
	depth    int // of the element in place
	first    int // elements of its array that stand before it
	array    int // which array of the record it belongs to
}

func newWalker(req scanner.Records) (*walker, error) {
	t, err := scanner.NewTuples(req.Match)
	if err != nil {
		return nil, err
	}
	w := &walker{root: &node{}, tuples: t, redact: req.Redact, remove: req.Remove != nil}
	t.WantPlaces = w.remove
	slot := 0
	for _, m := range req.Match {
		for _, c := range m.Columns {
			ends, err := w.root.reach(c.Path)
			if err != nil {
				return nil, err
			}
			for _, n := range ends {
				n.slots = append(n.slots, slot)
			}
			slot++
		}
	}
	for i, r := range req.Redact {
		ends, err := w.root.reach(r.Column.Path)
		if err != nil {
			return nil, err
		}
		for _, n := range ends {
			n.redact = append(n.redact, i)
		}
	}
	if req.Remove != nil {
		ends, err := w.root.reach(req.Remove.Path)
		if err != nil {
			return nil, err
		}
		for _, n := range ends {
			if n.depth == scanner.MaxLists {
				return nil, errLists
			}
			n.list = true
		}
	}
	w.number(w.root)
	return w, nil
}

func (w *walker) number(n *node) {
	n.id = w.nodes
	w.nodes++
	for _, k := range n.kids {
		w.number(k)
	}
	if n.elem != nil {
		w.number(n.elem)
	}
}

// record checks a line that begins with its first byte that is no space.
func (w *walker) record(line []byte) error {
	w.tuples.Reset()
	w.buf, w.pos, w.place, w.spans = line, 0, scanner.NoPlace, w.spans[:0]
	if line[0] != '{' {
		return errSyntax
	}
	if err := w.object(w.root, 0); err != nil {
		return err
	}
	if w.space(); w.pos != len(w.buf) {
		return errSyntax
	}
	return nil
}

func (w *walker) space() { w.pos = space(w.buf, w.pos) }

// next is the next byte that is no space, 0 at the end.
func (w *walker) next() byte {
	w.space()
	if w.pos == len(w.buf) {
		return 0
	}
	return w.buf[w.pos]
}

// value visits one value; where no column lies, n is nil and it is only checked.
func (w *walker) value(n *node, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	c := w.next()
	from := w.pos
	var err error
	if n == nil {
		w.pos, err = skipValue(w.buf, w.pos, depth)
		return err
	}
	switch {
	case c == '{':
		err = w.object(n, depth)
	case c == '[':
		err = w.array(n, depth)
	case c == '"':
		err = w.stringValue(n)
	case c == '-' || c >= '0' && c <= '9':
		err = w.numeral(n)
	default:
		w.pos, err = skipWord(w.buf, w.pos)
	}
	if err == nil {
		w.passed(n, from, c)
	}
	return err
}

// passed notes a value of a column.
func (w *walker) passed(n *node, from int, c byte) {
	for _, slot := range n.slots {
		w.tuples.Seen(slot)
		if c == '{' || c == '[' || c == 't' || c == 'f' {
			w.tuples.Add(slot, nil, false, false, w.place)
		}
	}
	for _, i := range n.redact {
		w.spans = append(w.spans, span{from: from, to: w.pos, redact: i})
	}
}

func (w *walker) object(n *node, depth int) error {
	w.pos++
	var seen uint64 // children passed; more than 64 are looked for in twice
	var more map[*node]bool
	if w.next() == '}' {
		w.pos++
		return nil
	}
	for {
		if w.next() != '"' {
			return errSyntax
		}
		from := w.pos + 1
		end, escaped, err := skipString(w.buf, w.pos)
		if err != nil {
			return err
		}
		w.pos = end
		var kid *node
		if len(n.kids) > 0 {
			name := w.buf[from : w.pos-1]
			if escaped {
				name = w.unescape(name)
			}
			i := n.index(name)
			if i >= 0 {
				kid = n.kids[i]
				if i < 64 {
					if seen>>i&1 != 0 {
						return errTwice
					}
					seen |= 1 << i
				} else if more[kid] {
					return errTwice
				} else {
					if more == nil {
						more = map[*node]bool{}
					}
					more[kid] = true
				}
			}
		}
		if w.next() != ':' {
			return errSyntax
		}
		w.pos++
		if err := w.value(kid, depth+1); err != nil {
			return err
		}
		switch w.next() {
		case ',':
			w.pos++
		case '}':
			w.pos++
			return nil
		default:
			return errSyntax
		}
	}
}

func (n *node) index(name []byte) int {
	for i, have := range n.names {
		if bytes.Equal(have, name) {
			return i
		}
	}
	return -1
}

func (w *walker) array(n *node, depth int) error {
	w.pos++
	elem, list := n.elem, n.list
	if w.next() == ']' {
		w.pos++
		return nil
	}
	array := w.pos
	for i := 0; ; i++ {
		if elem != nil || list {
			w.place[n.depth] = int32(i)
		}
		w.space()
		from := w.pos
		if err := w.value(elem, depth+1); err != nil {
			return err
		}
		if list {
			w.spans = append(w.spans, span{from: from, to: w.pos, redact: -1, place: w.place, depth: n.depth, first: i, array: array})
		}
		switch w.next() {
		case ',':
			w.pos++
		case ']':
			w.pos++
			if elem != nil || list {
				w.place[n.depth] = -1
			}
			return nil
		default:
			return errSyntax
		}
	}
}

func (w *walker) stringValue(n *node) error {
	from := w.pos + 1
	end, escaped, err := skipString(w.buf, w.pos)
	w.pos = end
	if err != nil || len(n.slots) == 0 {
		return err
	}
	s := w.buf[from : w.pos-1]
	if escaped {
		s = w.unescape(s)
	}
	for _, slot := range n.slots {
		out, ok, comparable := w.tuples.Part(slot).String(w.tuples.Arena(), s)
		w.tuples.Add(slot, out, ok, comparable, w.place)
	}
	return nil
}

func (w *walker) numeral(n *node) error {
	from := w.pos
	end, err := skipNumber(w.buf, from)
	w.pos = end
	if err != nil {
		return err
	}
	for _, slot := range n.slots {
		out, ok, comparable := w.tuples.Part(slot).Number(w.tuples.Arena(), w.buf[from:end])
		w.tuples.Add(slot, out, ok, comparable, w.place)
	}
	return nil
}
