package zstdedit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/klauspost/compress/huff0"
)

// Op is a step of an edit, in bytes of the uncompressed content: the old
// content's [From, To), or Size new bytes when From is negative. At is its
// place in the new content. Ops are in that order, without gaps.
type Op struct {
	From, To int
	Size     int
	At       int
}

// Editor holds the memory of edits. It is not safe for concurrent use.
type Editor struct {
	ops   []Op
	kept  []Op // those that keep
	gone  []gone
	fresh int // new bytes
	body  []byte
	out   []byte

	k    int // op that is worked on
	done int // new content that was taken up
	old  int // old content that was passed

	tables   []*table
	nTables  int
	source   state
	written  state
	lastHead int // place of the last block's header in out

	seqs, edited []sequence
	codes        []codes
	run          int // literals since the last sequence
	lits         []byte
	stream       []byte
	section      []byte
	huff         huff0.Scratch
}

// state is what a block inherits: tables, Huffman tree, recent distances.
type state struct {
	tables [3]*table
	tree   []byte // description of the tree, nil before the first
	reps   [3]uint32
}

// sameTree compares trees by where they stand: each description is stored once.
func sameTree(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

const (
	magic      = 0xFD2FB528
	maxBlock   = 128 << 10
	maxContent = 8 << 20 // so that any reader's window is large enough
	maxGrowth  = 64      // a frame may become larger by this part, beside new bytes
)

const (
	blockRaw = iota
	blockRLE
	blockCompressed
)

// Splice appends to dst a frame that holds body, which ops make of the content
// of frame. False: it cannot be done here.
func (e *Editor) Splice(dst, frame []byte, ops []Op, body []byte) ([]byte, bool) {
	rest, tail, ok := openFrame(frame)
	if !ok || len(body) > maxContent || len(body) == 0 || len(ops) == 0 {
		return nil, false
	}
	e.reset(dst, ops, body)
	if ops[0].From < 0 { // a block of its own: the first one may be full
		e.literals(0, ops[0].Size)
		e.k++
		e.raw(0)
	}
	for last := false; !last; {
		if len(rest) < 3 {
			return nil, false
		}
		h := uint32(rest[0]) | uint32(rest[1])<<8 | uint32(rest[2])<<16
		last = h&1 != 0
		size, stored := int(h>>3), int(h>>3)
		kind := int(h >> 1 & 3)
		if kind == blockRLE {
			stored = 1
		}
		if size > maxBlock || stored > len(rest)-3 {
			return nil, false
		}
		content := rest[3 : 3+stored]
		rest = rest[3+stored:]
		switch kind {
		case blockRaw, blockRLE:
			e.plain(size)
			ok = true
		case blockCompressed:
			ok = e.compressed(content)
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
	if len(rest) != tail || e.k < len(e.ops)-1 || e.done != len(body) || e.lastHead < 0 {
		return nil, false
	}
	e.out[e.lastHead] |= 1
	out := e.out
	if grown := len(out) - len(dst) - len(frame) - e.fresh; grown > 64 && grown > len(frame)/maxGrowth {
		return nil, false // too much went that others were copied from
	}
	e.out, e.body, e.ops = nil, nil, nil
	return out, true
}

func (e *Editor) reset(dst []byte, ops []Op, body []byte) {
	e.ops, e.body, e.kept, e.gone = ops, body, e.kept[:0], e.gone[:0]
	e.fresh = 0
	for _, o := range ops {
		if o.From >= 0 {
			e.kept = append(e.kept, o)
		} else {
			e.fresh += o.Size
		}
	}
	e.k, e.done, e.old, e.nTables, e.lastHead = 0, 0, 0, 0, -1
	e.source = state{reps: [3]uint32{1, 4, 8}}
	e.written = e.source
	e.out = appendFrameHeader(dst, len(body))
	e.huff.Reuse = huff0.ReusePolicyNone
}

// openFrame returns the blocks and how many bytes follow them. One frame,
// no dictionary.
func openFrame(b []byte) (blocks []byte, tail int, ok bool) {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != magic {
		return nil, 0, false
	}
	d := b[4]
	if d&3 != 0 || d&8 != 0 { // a dictionary, or reserved
		return nil, 0, false
	}
	n := 5
	single := d&0x20 != 0
	if !single {
		n++
	}
	switch d >> 6 {
	case 0:
		if single {
			n++
		}
	case 1:
		n += 2
	case 2:
		n += 4
	default:
		n += 8
	}
	if d&4 != 0 {
		tail = 4
	}
	return b[min(n, len(b)):], tail, n < len(b)
}

// appendFrameHeader announces a single segment: the window is the content.
func appendFrameHeader(dst []byte, size int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, magic)
	switch {
	case size < 256:
		return append(dst, 0x20, byte(size))
	case size < 256+1<<16:
		return binary.LittleEndian.AppendUint16(append(dst, 0x60), uint16(size-256))
	}
	return binary.LittleEndian.AppendUint32(append(dst, 0xA0), uint32(size))
}

// next is the op that keeps position at or something behind it. New bytes that
// come before it are taken up as literals.
func (e *Editor) next(at int) *Op {
	for e.k < len(e.ops) {
		o := &e.ops[e.k]
		switch {
		case o.From < 0:
			e.literals(o.At, o.Size)
		case o.To > at:
			return o
		}
		e.k++
	}
	return nil
}

// literals takes up n bytes of the new content as literals.
func (e *Editor) literals(at, n int) {
	e.lits = append(e.lits, e.body[at:at+n]...)
	e.run += n
	e.done = at + n
}

// keepLiterals takes up what is kept of the old content's [a, b).
func (e *Editor) keepLiterals(a, b int) {
	for a < b {
		o := e.next(a)
		if o == nil || o.From >= b {
			return
		}
		a = max(a, o.From)
		n := min(b, o.To) - a
		e.literals(o.At+a-o.From, n)
		a += n
	}
}

// keepMatch takes up what is kept of [a, b), a copy from off bytes back.
func (e *Editor) keepMatch(a, b, off int) {
	for a < b {
		o := e.next(a)
		if o == nil || o.From > a {
			to := b
			if o != nil {
				to = min(b, o.From)
			}
			e.gone = append(e.gone, gone{a, to, off})
			a = to
			continue
		}
		end := min(b, o.To)
		for a < end {
			n, distance := e.trace(a, end-a, off, o)
			if distance > 0 && n >= minMatch {
				e.edited = append(e.edited, sequence{uint32(e.run), uint32(n), uint32(distance)})
				e.run, e.done = 0, o.At+a-o.From+n
			} else {
				e.literals(o.At+a-o.From, n)
			}
			a += n
		}
	}
}

// gone is a part of the old content that went and was a copy itself: what
// copied it may copy what it was copied from.
type gone struct{ from, to, off int }

// trace says how many of n bytes at a, copied from off back, have one origin:
// kept bytes at some distance in the new content, or none that is left
// (distance 0).
func (e *Editor) trace(a, n, off int, o *Op) (int, int) {
	from := a - off
	if from >= o.From {
		return n, off
	}
	for {
		i := e.find(from)
		if i == len(e.kept) || from < 0 {
			return n, 0
		}
		s := &e.kept[i]
		if s.From <= from {
			return min(n, s.To-from), o.At + a - o.From - (s.At + from - s.From)
		}
		n = min(n, s.From-from)
		g, _ := slices.BinarySearchFunc(e.gone, from, func(g gone, at int) int { return cmp.Compare(g.to, at+1) })
		if g == len(e.gone) {
			return n, 0
		}
		if at := e.gone[g].from; at > from {
			return min(n, at-from), 0
		}
		n = min(n, e.gone[g].to-from)
		from -= e.gone[g].off
	}
}

// find is the first kept op that ends behind a position.
func (e *Editor) find(at int) int {
	lo, hi := 0, len(e.kept)
	for lo < hi {
		if m := int(uint(lo+hi) >> 1); e.kept[m].To > at {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// plain edits a block without sequences and literals of its own.
func (e *Editor) plain(size int) {
	start := e.done
	e.lits, e.run = e.lits[:0], 0
	e.keepLiterals(e.old, e.old+size)
	e.old += size
	e.next(e.old)
	e.raw(start)
}

// raw writes new content from start on as it is, or its only byte.
func (e *Editor) raw(start int) {
	for ; e.done-start > maxBlock; start += maxBlock {
		e.head(blockRaw, maxBlock)
		e.out = append(e.out, e.body[start:start+maxBlock]...)
	}
	b := e.body[start:e.done]
	switch {
	case len(b) == 0:
	case bytes.Equal(b[1:], b[:len(b)-1]):
		e.head(blockRLE, len(b))
		e.out = append(e.out, b[0])
	default:
		e.head(blockRaw, len(b))
		e.out = append(e.out, b...)
	}
}

func (e *Editor) head(kind, size int) {
	e.lastHead = len(e.out)
	h := uint32(kind)<<1 | uint32(size)<<3
	e.out = append(e.out, byte(h), byte(h>>8), byte(h>>16))
}

// compressed edits a compressed block.
func (e *Editor) compressed(b []byte) bool {
	was := e.source
	lit, n, ok := e.openLiterals(b)
	if !ok {
		return false
	}
	modes, ok := e.decodeSequences(b[n:])
	if !ok {
		return false
	}
	size := lit.size
	for i := range e.seqs {
		size += int(e.seqs[i].match)
	}
	if size > maxBlock {
		return false
	}
	start := e.done
	e.lits, e.run, e.edited = e.lits[:0], 0, e.edited[:0]
	o := e.next(e.old)
	if e.run == 0 && o != nil && o.From <= e.old && (o.To > e.old+size || o.To == e.old+size && e.k == len(e.ops)-1) {
		if moved, ok := e.move(o); ok {
			e.old += size
			e.done = o.At + e.old - o.From
			if !moved && e.inherits(&was, &lit, modes) {
				e.head(blockCompressed, len(b))
				e.out = append(e.out, b...)
				e.inherit(&lit)
				return true
			}
			return e.write(start, &lit)
		}
		e.edited = e.edited[:0]
	}
	at := e.old
	for _, s := range e.seqs {
		e.keepLiterals(at, at+int(s.lits))
		at += int(s.lits)
		e.keepMatch(at, at+int(s.match), int(s.offset))
		at += int(s.match)
	}
	e.old += size
	e.keepLiterals(at, e.old)
	e.next(e.old)
	return e.write(start, nil)
}

// move gives the sequences of a block that is kept whole, in op o, their new
// distances. Not ok: some copy bytes that went.
func (e *Editor) move(o *Op) (moved, ok bool) {
	at := e.old
	for _, s := range e.seqs {
		at += int(s.lits)
		if from := at - int(s.offset); from < o.From {
			i := e.find(from)
			if i == len(e.kept) || e.kept[i].From > from || e.kept[i].To < from+int(s.match) {
				return false, false
			}
			d := o.At + at - o.From - (e.kept[i].At + from - e.kept[i].From)
			moved = moved || d != int(s.offset)
			s.offset = uint32(d)
		}
		at += int(s.match)
		e.edited = append(e.edited, s)
	}
	return moved, true
}

// inherits says that a block decodes in the new frame as it did in the old one.
func (e *Editor) inherits(was *state, lit *literals, modes byte) bool {
	if lit.kind == literalsTreeless && !sameTree(was.tree, e.written.tree) {
		return false
	}
	if len(e.seqs) == 0 {
		return true
	}
	for i := range was.tables {
		if modes>>(6-2*i)&3 == modeRepeat && was.tables[i] != e.written.tables[i] {
			return false
		}
	}
	return was.reps == e.written.reps
}

// inherit moves the written state on behind a block that was copied.
func (e *Editor) inherit(lit *literals) {
	if lit.kind == literalsCompressed {
		e.written.tree = lit.tree
	}
	if len(e.seqs) > 0 {
		e.written.tables, e.written.reps = e.source.tables, e.source.reps
	}
}

// write codes the block from e.edited and its literals: the old section, or
// those gathered in e.lits. It is stored plain where that is no larger.
func (e *Editor) write(start int, old *literals) bool {
	if e.done-start > maxBlock {
		return old == nil && e.split(start)
	}
	if e.done == start {
		return true
	}
	was := e.written
	b := e.section[:0]
	var ok bool
	if old != nil {
		b = e.keepSection(b, old)
	} else if b, ok = e.newSection(b); !ok {
		return false
	}
	b, ok = e.appendSequences(b)
	e.section = b
	if !ok {
		return false
	}
	if len(b) >= e.done-start {
		e.written = was
		e.raw(start)
		return true
	}
	e.head(blockCompressed, len(b))
	e.out = append(e.out, b...)
	return true
}

// split writes as two blocks what new bytes made too large for one: the first
// ends among literals, or behind a copy, about half way.
func (e *Editor) split(start int) bool {
	end, edited, lits := e.done, e.edited, e.lits
	half := start + (end-start)/2
	k, taken, at := 0, 0, start
	for ; k < len(edited) && at+int(edited[k].lits) < half; k++ {
		taken += int(edited[k].lits)
		if at += int(edited[k].lits) + int(edited[k].match); at >= half {
			k++
			break
		}
	}
	if at < half {
		n := half - at
		taken, at = taken+n, half
		if k < len(edited) {
			edited[k].lits -= uint32(n)
		}
	}
	if at-start > maxBlock {
		return false
	}
	e.edited, e.lits, e.done = edited[:k], lits[:taken], at
	if !e.write(start, nil) {
		return false
	}
	e.edited, e.lits, e.done = edited[k:], lits[taken:], end
	ok := e.write(at, nil)
	e.edited, e.lits = edited, lits
	return ok
}
