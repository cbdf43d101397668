package keyset

import (
	"bytes"
	"context"
	"errors"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// NDJSON is read by a scanner of our own that validates each line in one pass
// and takes out the wanted members: numbers never pass through a float, strings
// are unescaped, and a member that occurs twice is an error, since readers
// disagree on which one counts.

var (
	errJSON        = errors.New("not a JSON object")
	errJSONDepth   = errors.New("JSON nested deeper than 256 levels")
	errJSONTwice   = errors.New("a member occurs twice")
	errJSONScalar  = errors.New("an object, array or boolean where a key is expected")
	errJSONInner   = errors.New("not an object where the column's path descends")
	errJSONUnicode = errors.New("a string that is not Unicode text")
)

const maxJSONDepth = 256

func (p *pass) readNDJSON(ctx context.Context, in io.Reader) error {
	root := &jsonNode{}
	for i, c := range p.columns {
		if err := root.add(splitPath(c), i); err != nil {
			return p.errAt(0, i, err)
		}
	}
	nodes := root.number() // here: the workers only read the tree
	mark := func(data []byte) (int, error) {
		if bytes.HasPrefix(data, byteOrderMark) {
			return len(byteOrderMark), nil
		}
		return 0, nil
	}
	return p.chunks(ctx, in, splitLines, mark, func(s *sink, c chunk) error {
		j := jsonScanner{vals: make([]value, len(p.columns)), cells: make([][]byte, len(p.columns)), seen: make([]bool, nodes)}
		line := c.line
		for rest := c.data; len(rest) > 0; line++ {
			var rec []byte
			rec, rest, _ = bytes.Cut(rest, newline)
			if len(bytes.Trim(rec, " \t\r")) == 0 {
				continue
			}
			bad := j.record(root, rec)
			if bad == nil {
				bad = s.row(j.vals)
			}
			if bad != nil {
				return p.errAt(line, bad.column, bad.reason)
			}
		}
		return nil
	})
}

// splitPath cuts a column at its dots; a backslash keeps a dot in a name.
func splitPath(column string) []string {
	var out []string
	var name []byte
	for i := 0; i < len(column); i++ {
		switch c := column[i]; {
		case c == '\\' && i+1 < len(column) && (column[i+1] == '.' || column[i+1] == '\\'):
			i++
			name = append(name, column[i])
		case c == '.':
			out = append(out, string(name))
			name = nil
		default:
			name = append(name, c)
		}
	}
	return append(out, string(name))
}

// jsonNode is a member on the way to wanted ones.
type jsonNode struct {
	id       int // index into jsonScanner.seen
	names    []string
	children []*jsonNode
	slots    []int // wanted columns that this member is
}

func (n *jsonNode) add(path []string, slot int) error {
	for i, name := range path {
		child := n.child([]byte(name))
		if child == nil {
			child = &jsonNode{}
			n.names = append(n.names, name)
			n.children = append(n.children, child)
		}
		n = child
		if i < len(path)-1 && len(n.slots) > 0 {
			return errJSONInner
		}
	}
	if n.slots = append(n.slots, slot); len(n.children) > 0 {
		return errJSONInner
	}
	return nil
}

// number gives every node its id and returns how many there are.
func (n *jsonNode) number() int {
	next := 0
	var walk func(*jsonNode)
	walk = func(n *jsonNode) {
		n.id = next
		next++
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(n)
	return next
}

func (n *jsonNode) child(name []byte) *jsonNode {
	for i, s := range n.names {
		if s == string(name) {
			return n.children[i]
		}
	}
	return nil
}

// jsonScanner takes the wanted members out of one record at a time.
type jsonScanner struct {
	b     []byte
	at    int
	vals  []value
	cells [][]byte // backing of unescaped strings, by column
	seen  []bool   // by node, in this record
	name  []byte   // scratch for escaped member names
	bad   *cellError
}

// record fills vals from one line.
func (j *jsonScanner) record(root *jsonNode, line []byte) *cellError {
	j.b, j.at, j.bad = line, 0, nil
	for i := range j.vals {
		j.vals[i] = value{null: true}
	}
	clear(j.seen)
	j.space()
	if j.peek() != '{' || !j.object(root, 0) {
		return j.failed()
	}
	if j.space(); j.at != len(j.b) {
		return j.failed()
	}
	return nil
}

func (j *jsonScanner) failed() *cellError {
	if j.bad != nil {
		return j.bad
	}
	return &cellError{-1, errJSON}
}

func (j *jsonScanner) refuse(n *jsonNode, reason error) bool {
	column := -1
	for n != nil && len(n.slots) == 0 && len(n.children) > 0 {
		n = n.children[0]
	}
	if n != nil && len(n.slots) > 0 {
		column = n.slots[0]
	}
	j.bad = &cellError{column, reason}
	return false
}

func (j *jsonScanner) space() {
	for j.at < len(j.b) {
		switch j.b[j.at] {
		case ' ', '\t', '\r', '\n':
			j.at++
		default:
			return
		}
	}
}

func (j *jsonScanner) peek() byte {
	if j.at < len(j.b) {
		return j.b[j.at]
	}
	return 0
}

// object reads an object; n is nil when none of its members is wanted.
func (j *jsonScanner) object(n *jsonNode, depth int) bool {
	if depth > maxJSONDepth {
		return j.refuse(n, errJSONDepth)
	}
	j.at++ // {
	if j.space(); j.peek() == '}' {
		j.at++
		return true
	}
	for {
		j.space()
		name, escaped, ok := j.stringToken()
		if !ok {
			return false
		}
		var child *jsonNode
		if n != nil {
			if escaped {
				if j.name, ok = unescape(j.name[:0], name); !ok {
					return j.refuse(nil, errJSONUnicode)
				}
				name = j.name
			}
			child = n.child(name)
		}
		if j.space(); j.peek() != ':' {
			return false
		}
		j.at++
		j.space()
		if child != nil {
			if j.seen[child.id] {
				return j.refuse(child, errJSONTwice)
			}
			j.seen[child.id] = true
			ok = j.wanted(child, depth)
		} else {
			ok = j.skip(depth)
		}
		if !ok {
			return false
		}
		switch j.space(); j.peek() {
		case ',':
			j.at++
		case '}':
			j.at++
			return true
		default:
			return false
		}
	}
}

// wanted reads the value of a member that is, or leads to, a column.
func (j *jsonScanner) wanted(n *jsonNode, depth int) bool {
	c := j.peek()
	if c == 'n' {
		return j.literal("null") // stays NULL
	}
	if len(n.children) > 0 {
		if c != '{' {
			return j.refuse(n, errJSONInner)
		}
		return j.object(n, depth+1)
	}
	var v value
	switch {
	case c == '"':
		text, escaped, ok := j.stringToken()
		if !ok {
			return false
		}
		if v.b = text; escaped {
			slot := n.slots[0]
			if j.cells[slot], ok = unescape(j.cells[slot][:0], text); !ok {
				return j.refuse(n, errJSONUnicode)
			}
			v.b = j.cells[slot]
		}
	case c == '-' || '0' <= c && c <= '9':
		start := j.at
		if !j.number() {
			return false
		}
		v = value{b: j.b[start:j.at], number: true}
	default:
		return j.refuse(n, errJSONScalar)
	}
	for _, slot := range n.slots {
		j.vals[slot] = v
	}
	return true
}

// skip reads any value.
func (j *jsonScanner) skip(depth int) bool {
	switch c := j.peek(); {
	case c == '"':
		_, _, ok := j.stringToken()
		return ok
	case c == '{':
		return j.object(nil, depth+1)
	case c == '[':
		return j.array(depth + 1)
	case c == '-' || '0' <= c && c <= '9':
		return j.number()
	case c == 't':
		return j.literal("true")
	case c == 'f':
		return j.literal("false")
	case c == 'n':
		return j.literal("null")
	}
	return false
}

func (j *jsonScanner) array(depth int) bool {
	if depth > maxJSONDepth {
		return j.refuse(nil, errJSONDepth)
	}
	j.at++ // [
	if j.space(); j.peek() == ']' {
		j.at++
		return true
	}
	for {
		if j.space(); !j.skip(depth) {
			return false
		}
		switch j.space(); j.peek() {
		case ',':
			j.at++
		case ']':
			j.at++
			return true
		default:
			return false
		}
	}
}

func (j *jsonScanner) literal(word string) bool {
	if !bytes.HasPrefix(j.b[j.at:], []byte(word)) {
		return false
	}
	j.at += len(word)
	return true
}

// number reads -? int frac? exp? (RFC 8259, section 6).
func (j *jsonScanner) number() bool {
	digits := func() bool {
		start := j.at
		for c := j.peek(); '0' <= c && c <= '9'; c = j.peek() {
			j.at++
		}
		return j.at > start
	}
	if j.peek() == '-' {
		j.at++
	}
	if j.peek() == '0' {
		j.at++
	} else if !digits() {
		return false
	}
	if j.peek() == '.' {
		if j.at++; !digits() {
			return false
		}
	}
	if c := j.peek(); c == 'e' || c == 'E' {
		j.at++
		if c := j.peek(); c == '+' || c == '-' {
			j.at++
		}
		return digits()
	}
	return true
}

// stringToken reads a string and returns what stands between its quotes.
func (j *jsonScanner) stringToken() (text []byte, escaped, ok bool) {
	if j.peek() != '"' {
		return nil, false, false
	}
	start := j.at + 1
	for i := start; i < len(j.b); i++ {
		switch c := j.b[i]; {
		case c == '"':
			j.at = i + 1
			return j.b[start:i], escaped, true
		case c == '\\':
			escaped = true
			i++
			if i == len(j.b) || !validEscape(j.b[i:]) {
				return nil, false, false
			}
		case c < 0x20:
			return nil, false, false
		}
	}
	return nil, false, false
}

// validEscape reports whether b, after a backslash, is an escape.
func validEscape(b []byte) bool {
	switch b[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		_, ok := hex4(b[1:])
		return ok
	}
	return false
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		d := unhex[c]
		if d > 15 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

// unescape appends the text of a string token whose escapes are valid. False: a
// surrogate without its other half.
func unescape(dst, text []byte) ([]byte, bool) {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(dst, text...), true
		}
		dst = append(dst, text[:i]...)
		c := text[i+1]
		text = text[i+2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(text)
			text = text[4:]
			if utf16.IsSurrogate(r) {
				if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
					return dst, false
				}
				low, _ := hex4(text[2:])
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return dst, false
				}
				text = text[6:]
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
}
