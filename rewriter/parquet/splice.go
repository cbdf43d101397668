package parquet

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go/format"
)

// Editing inside a compressed page. A Snappy block is a list of elements,
// literals and copies from what was already put out. Cutting byte ranges out
// of the body leaves most elements as they are: only those that a cut passes
// through, and copies that reach back over one, are written anew. That is
// several times cheaper than compressing, and keeps the writer's compression.
// The result is checked like every rewritten page.

// bytesOp is a step of an edit in bytes of the uncompressed body: the source's
// [from, to), or size new bytes when from is negative.
type bytesOp struct {
	from, to int
	size     int
	at       int // place in the new body
}

// spliceable says whether a page's edit can be made in its compressed form.
func (j *pageJob) spliceable() bool {
	h := &j.page.Header
	return j.chunk.codec.kind == format.Snappy && h.Encoding == format.Plain && j.chunk.col.Type != format.Boolean &&
		!(h.Type == format.DataPageV2 && h.ValuesUncompressed)
}

// sparseCut is how many bytes of body there must be to each cut: with denser
// ones compressing anew is as cheap.
const sparseCut = 2 << 10

// splice edits the compressed body. levels is how much of the new body stands
// in front of the values. It returns nil where compressing anew is better.
func (j *pageJob) splice(dst []byte, d *decoded, list *editList, body []byte, levels int) []byte {
	if len(list.ops)*sparseCut > len(body) {
		return nil
	}
	src, base := j.page.Body, int(j.page.Header.UncompressedSize)-len(d.body.Values)
	if j.page.Header.Type == format.DataPageV2 {
		src, base = src[int(j.page.Header.RepLength)+int(j.page.Header.DefLength):], 0
		body, levels = body[levels:], 0
	}
	ops := make([]bytesOp, 0, len(list.ops))
	at := levels
	for _, o := range list.ops {
		b := bytesOp{at: at, from: -1}
		if o.literal == nil {
			b.from, b.to = base+o.from*d.view.width, base+o.to*d.view.width
			if d.view.offsets != nil {
				b.from, b.to = base+int(d.view.offsets[o.from]), base+int(d.view.offsets[o.to])
			}
			b.size = b.to - b.from
		} else {
			b.size = (o.to - o.from) * (len(o.literal) + int(d.view.prefix))
		}
		at += b.size
		ops = append(ops, b)
	}
	if at != len(body) {
		return nil
	}
	return spliceSnappy(dst[:0], src, ops, body, levels)
}

// spliceSnappy writes body, of which ops say where it comes from, from the
// elements of src. The first levels bytes of body are new. It returns nil when
// src is not what it should be.
func spliceSnappy(dst, src []byte, ops []bytesOp, body []byte, levels int) []byte {
	_, n := binary.Uvarint(src)
	if n <= 0 {
		return nil
	}
	w := snappyWriter{dst: binary.AppendUvarint(dst, uint64(len(body))), body: body}
	w.fresh(levels)
	r := snappyReader{src: src[n:]}
	for k := range ops {
		o := &ops[k]
		if o.from < 0 {
			w.fresh(o.at + o.size)
			continue
		}
		if !w.keep(&r, ops[:k+1]) {
			return nil
		}
	}
	w.flush()
	return w.dst
}

// element is one element of a Snappy block; offset 0 is a literal.
type element struct {
	at, size, offset int // place and length in the uncompressed body
	tag              int // where its bytes begin in the source
	end              int // and end
}

// snappyReader walks the elements.
type snappyReader struct {
	src  []byte
	next int // position in src
	at   int // in the uncompressed body
	cur  element
}

// read moves to the next element (format_description.txt of Snappy, section 2).
func (r *snappyReader) read() bool {
	if r.next >= len(r.src) {
		return false
	}
	i := r.next
	tag := r.src[i]
	e := element{at: r.at, tag: i}
	switch tag & 3 {
	case 0:
		size, extra := int(tag>>2), 0
		if size >= 60 {
			extra = size - 59
			if len(r.src)-i <= extra {
				return false
			}
			size = 0
			for b := range extra {
				size |= int(r.src[i+1+b]) << (8 * b)
			}
		}
		e.size = size + 1
		e.end = i + 1 + extra + e.size
	case 1:
		if len(r.src)-i < 2 {
			return false
		}
		e.size, e.offset, e.end = 4+int(tag>>2&7), int(tag>>5)<<8|int(r.src[i+1]), i+2
	case 2:
		if len(r.src)-i < 3 {
			return false
		}
		e.size, e.offset, e.end = 1+int(tag>>2), int(binary.LittleEndian.Uint16(r.src[i+1:])), i+3
	default:
		if len(r.src)-i < 5 {
			return false
		}
		e.size, e.offset, e.end = 1+int(tag>>2), int(binary.LittleEndian.Uint32(r.src[i+1:])), i+5
	}
	if e.end > len(r.src) || tag&3 != 0 && (e.offset == 0 || e.offset > e.at) {
		return false
	}
	r.cur, r.next, r.at = e, e.end, r.at+e.size
	return true
}

// snappyWriter writes elements. Bytes of body up to done are written or, from
// literal on, wait to be written as one literal.
type snappyWriter struct {
	dst           []byte
	body          []byte
	literal, done int
}

// smallFresh is how many new bytes go out as a literal without an attempt to compress them.
const smallFresh = 256

// fresh writes new bytes of the body, up to the given place.
func (w *snappyWriter) fresh(to int) {
	if to-w.done > smallFresh {
		w.flush()
		block := s2.EncodeSnappy(nil, w.body[w.done:to])
		_, n := binary.Uvarint(block)
		w.dst = append(w.dst, block[n:]...)
		w.literal = to
	}
	w.done = to
}

// flush writes the waiting literal.
func (w *snappyWriter) flush() {
	b := w.body[w.literal:w.done]
	w.literal = w.done
	if len(b) == 0 {
		return
	}
	switch n := len(b) - 1; {
	case n < 60:
		w.dst = append(w.dst, byte(n)<<2)
	case n < 1<<8:
		w.dst = append(w.dst, 60<<2, byte(n))
	case n < 1<<16:
		w.dst = append(w.dst, 61<<2, byte(n), byte(n>>8))
	default:
		w.dst = append(w.dst, 63<<2, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	w.dst = append(w.dst, b...)
}

// copy writes size bytes that stand offset bytes back.
func (w *snappyWriter) copy(offset, size int) {
	w.flush()
	w.done += size
	w.literal = w.done
	for size > 0 {
		n := min(size, 64)
		if n >= 4 && n <= 11 && offset < 2048 {
			w.dst = append(w.dst, byte(offset>>8)<<5|byte(n-4)<<2|1, byte(offset))
		} else {
			w.dst = append(w.dst, byte(n-1)<<2|2, byte(offset), byte(offset>>8))
		}
		size -= n
	}
}

// keep writes the last of ops, a range of the source. Elements that lie in it
// and refer to nothing in front of it go out as they are, many at a time.
func (w *snappyWriter) keep(r *snappyReader, ops []bytesOp) bool {
	o := &ops[len(ops)-1]
	for at := o.from; at < o.to; {
		for r.cur.at+r.cur.size <= at {
			if !r.read() {
				return false
			}
		}
		if r.cur.at == at && r.verbatim(o) {
			w.flush()
			run, end, to, ok := r.run(o)
			if !ok {
				return false
			}
			w.dst = append(w.dst, r.src[run:end]...)
			w.done += to - at
			w.literal = w.done
			at = to
			continue
		}
		size := min(r.cur.at+r.cur.size, o.to) - at
		w.part(&r.cur, ops, at, size)
		at += size
	}
	return true
}

// run passes over elements that stay as they are, from the current one on. It
// returns their bytes' place in the source and where their output ends.
func (r *snappyReader) run(o *bytesOp) (from, end, to int, ok bool) {
	from = r.cur.tag
	for {
		r.skim(o)
		if r.at >= o.to {
			return from, r.next, r.at, r.next <= len(r.src)
		}
		if !r.read() {
			return 0, 0, 0, false
		}
		if !r.verbatim(o) {
			return from, r.cur.tag, r.cur.at, true
		}
	}
}

// longest is the most that a common element puts out.
const longest = 64

// steps are the common elements by their first byte: their length in the
// source (0: of another kind), what they put out, and where their offset is:
// the two bytes that follow, masked, and high bits in the first byte.
var steps = func() (t [256]struct {
	bytes, size uint8
	mask, high  uint16
}) {
	for i := range t {
		switch n := uint8(i >> 2); i & 3 {
		case 0:
			if n < 60 {
				t[i].bytes, t[i].size = n+2, n+1
			}
		case 1:
			t[i].bytes, t[i].size, t[i].mask, t[i].high = 2, 4+(n&7), 0xFF, uint16(i>>5)<<8
		case 2:
			t[i].bytes, t[i].size, t[i].mask = 3, n+1, 0xFFFF
		}
	}
	return t
}()

// skim passes over common elements that stay as they are: that end in the
// kept range and refer to nothing in front of it. Most of a page goes this
// way, so the loop has no branch on the kind of element.
func (r *snappyReader) skim(o *bytesOp) {
	src, i, at, limit := r.src, r.next, r.at, o.to-longest
	for i+3 <= len(src) && at <= limit {
		s := &steps[src[i]]
		offset := binary.LittleEndian.Uint16(src[i+1:])&s.mask | s.high
		if s.bytes == 0 || at-int(offset) < o.from {
			break
		}
		i += int(s.bytes)
		at += int(s.size)
	}
	r.next, r.at = i, at
}

// verbatim says whether the element lies in the kept range with all it refers to.
func (r *snappyReader) verbatim(o *bytesOp) bool {
	return r.cur.at+r.cur.size <= o.to && r.cur.at-r.cur.offset >= o.from
}

// part writes source bytes [at, at+size) of an element: as a copy where what
// it refers to is still there, otherwise as a literal.
func (w *snappyWriter) part(e *element, ops []bytesOp, at, size int) {
	if e.offset > 0 {
		from := at - e.offset
		k := len(ops) - 1
		for k >= 0 && (ops[k].from < 0 || ops[k].from > from) {
			k--
		}
		if k == len(ops)-1 || k >= 0 && from+size <= ops[k].to {
			if offset := w.done - (ops[k].at + from - ops[k].from); offset > 0 && offset < 1<<16 {
				w.copy(offset, size)
				return
			}
		}
	}
	w.done += size
}
