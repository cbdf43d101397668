package ndjson

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/expunge/expunge/scanner"
)

// Lines of one file look alike: the same members in the same order, written by
// the same program. Once a line has been checked, the bytes between its values
// are remembered. A line that has the same bytes there is a JSON object with
// the same members, and only its values are left to check; that they are
// anywhere else is what the comparison excludes. Where lines differ (an
// optional member, another order) the paths branch. A line that leaves every
// path is checked as the first one was, and its path added.

// Bounds of what is remembered, and how many lines may leave the paths before
// remembering is given up as useless: see shapes.worth.
const (
	maxPoints  = 1024
	maxLiteral = 1 << 10
	trialLines = 256
)

// point is a place between two values.
type point struct{ links []*link }

// link is what may follow at a point: bytes, and then a value.
type link struct {
	head, mask uint64 // the first eight bytes, as far as there are so many
	tail       uint64 // the last eight, of nine and more
	lit        []byte
	last       bool // the line ends behind the bytes
	node       *node
	slot       int // the value's only use is that of a key of one int64; -1
	depth      int // of the value
	next       point
}

func newLink(lit []byte) *link {
	l := &link{lit: bytes.Clone(lit), slot: -1, mask: 1<<(8*min(len(lit), 8)) - 1}
	if len(lit) >= 8 {
		l.mask = ^uint64(0)
	}
	var head [8]byte
	copy(head[:], lit)
	l.head = binary.LittleEndian.Uint64(head[:])
	if len(lit) > 8 {
		l.tail = binary.LittleEndian.Uint64(lit[len(lit)-8:])
	}
	return l
}

// shapes are the paths that lines took.
type shapes struct {
	start     point
	points    int
	hits, all int
}

// worth says whether lines follow paths often enough.
func (s *shapes) worth() bool { return s.all < trialLines || s.hits > s.all/2 }

// follow takes a line from its first byte along a path; it returns the position
// behind the line. It returns false for a line that leaves every path, is
// malformed, or whose end is not in data.
func (w *walker) follow(data []byte) (end int, ok bool) {
	values, foreign := w.tuples.Values, w.tuples.Foreign
	w.tuples.Reset()
	w.buf, w.place, w.spans = data, scanner.NoPlace, w.spans[:0]
	end, ok = w.along(data)
	if !ok {
		w.tuples.Values, w.tuples.Foreign = values, foreign // the line is looked at again
	}
	return end, ok
}

// along is follow's loop. It decides itself what most values are, strings
// without an escape and short integers; the rest is left to the functions that
// check any value.
func (w *walker) along(data []byte) (int, bool) {
	i := 0
	links := w.shapes.start.links
	for {
		l := match(links, data, i)
		if l == nil {
			return i, false
		}
		i += len(l.lit)
		if l.last {
			return i, true
		}
		links = l.next.links
		if i+8 > len(data) || data[i] <= ' ' {
			return i, false
		}
		if l.node == nil && data[i] == '"' {
			if end := passText(data, i+1); end < len(data) && data[end] == '"' {
				i = end + 1
				continue
			}
		} else if l.node == nil || l.slot >= 0 {
			if v, n := shortInteger(data, i); n > 0 {
				i += n
				if l.slot >= 0 {
					w.tuples.Seen(l.slot)
					w.tuples.AddInt64(l.slot, v, scanner.NoPlace)
				}
				continue
			}
		}
		var err error
		if l.node == nil {
			i, err = skipOnLine(data, i, l.depth)
		} else {
			i, err = w.visit(l.node, data, i, l.depth)
		}
		if err != nil {
			return i, false
		}
	}
}

// shortInteger reads an integer of up to fifteen digits; n is 0 for anything
// else. data holds eight bytes from i on.
func shortInteger(data []byte, i int) (v int64, n int) {
	v, n = leadingDigits(binary.LittleEndian.Uint64(data[i:]))
	if n == 8 {
		if i+16 > len(data) {
			return 0, 0
		}
		low, m := leadingDigits(binary.LittleEndian.Uint64(data[i+8:]))
		if m == 8 {
			return 0, 0
		}
		v, n = v*powers[m]+low, n+m
	}
	if c := data[i+n]; n == 0 || c == '.' || c|0x20 == 'e' || n > 1 && data[i] == '0' {
		return 0, 0
	}
	return v, n
}

var powers = [8]int64{1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000}

// leadingDigits reads the digits that eight bytes begin with.
func leadingDigits(x uint64) (v int64, n int) {
	x ^= '0' * lanes
	n = 8
	if ends := (x + 0x76*lanes | x) & tops; ends != 0 { // the lowest is the first byte that is no digit
		if n = bits.TrailingZeros64(ends) >> 3; n == 0 {
			return 0, 0
		}
		x <<= 64 - 8*n // eight digits, the leading ones 0
	}
	x = x*10 + x>>8 // pairs, then all four of them at once
	return int64(((x&0x000000ff000000ff)*(100+1000000<<32) + (x>>16&0x000000ff000000ff)*(1+10000<<32)) >> 32), n
}

// match finds the link whose bytes stand at i.
func match(links []*link, data []byte, i int) *link {
	if i+8 > len(data) {
		return nil
	}
	x := binary.LittleEndian.Uint64(data[i:])
	for _, l := range links {
		if (x^l.head)&l.mask != 0 {
			continue
		}
		if n := len(l.lit); n > 8 && (len(data)-i < n || binary.LittleEndian.Uint64(data[i+n-8:]) != l.tail ||
			n > 16 && string(data[i+8:i+n-8]) != string(l.lit[8:n-8])) {
			continue
		}
		return l
	}
	return nil
}

// skipOnLine passes a value that lies on one line.
func skipOnLine(data []byte, i, depth int) (int, error) {
	switch c := data[i]; {
	case c == '"':
		end, _, err := skipString(data, i)
		return end, err
	case c-'0' <= 9:
		return skipNumber(data, i)
	case c == '{' || c == '[':
		end, err := skipValue(data, i, depth)
		if err == nil && bytes.IndexByte(data[i:end], '\n') >= 0 {
			err = errSyntax
		}
		return end, err
	}
	return skipValue(data, i, depth)
}

// visit passes a value on the way to a column.
func (w *walker) visit(n *node, data []byte, i, depth int) (int, error) {
	w.pos = i
	err := w.value(n, depth)
	if err == nil && (data[i] == '{' || data[i] == '[') && bytes.IndexByte(data[i:w.pos], '\n') >= 0 {
		err = errSyntax
	}
	return w.pos, err
}

// learn remembers the path of a line that has been found to be a JSON object; to
// is behind its newline.
func (w *walker) learn(line []byte) {
	if w.shapes.points >= maxPoints || line[len(line)-1] != '\n' {
		return
	}
	p := &learning{w: w, line: line, at: &w.shapes.start}
	p.object(0, w.root, 0)
	p.step(len(line), nil, 0, true)
}

// learning walks along a line that is known to be an object.
type learning struct {
	w    *walker
	line []byte
	from int // behind the last value
	at   *point
	lost bool // too long to remember
}

// step ends the bytes between two values at i, where the next one begins.
func (p *learning) step(i int, n *node, depth int, last bool) {
	lit := p.line[p.from:i]
	if p.lost = p.lost || len(lit) > maxLiteral; p.lost {
		return
	}
	for _, l := range p.at.links {
		if bytes.Equal(l.lit, lit) {
			p.at = &l.next
			return
		}
	}
	l := newLink(lit)
	l.node, l.depth, l.last = n, depth, last
	if n != nil && len(n.slots) == 1 && len(n.redact) == 0 && p.w.tuples.IsInt64(n.slots[0]) {
		l.slot = n.slots[0]
	}
	p.w.shapes.points++
	p.at.links = append(p.at.links, l)
	p.at = &l.next
}

// object goes through the members of an object that begins at i.
func (p *learning) object(i int, n *node, depth int) int {
	b := p.line
	if i = space(b, i+1); b[i] == '}' {
		return i + 1
	}
	for {
		from := i + 1
		end, escaped, _ := skipString(b, i)
		var kid *node
		if n != nil && len(n.kids) > 0 {
			name := b[from : end-1]
			if escaped {
				name = p.w.unescape(name)
			}
			if k := n.index(name); k >= 0 {
				kid = n.kids[k]
			}
		}
		i = p.value(space(b, space(b, end)+1), kid, depth+1)
		if i = space(b, i); b[i] == '}' {
			return i + 1
		}
		i = space(b, i+1)
	}
}

// value goes into an object that is nothing but its members; other values end
// the bytes that are remembered.
func (p *learning) value(i int, n *node, depth int) int {
	if p.line[i] == '{' && (n == nil || len(n.slots) == 0 && len(n.redact) == 0) {
		return p.object(i, n, depth)
	}
	p.step(i, n, depth, false)
	p.from, _ = skipValue(p.line, i, depth)
	return p.from
}
