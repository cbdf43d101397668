package parquet

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/zstdedit"
)

// Editing inside a compressed page: what a cut does not pass through, or refer
// back over, is not compressed again. That is several times cheaper, and keeps
// the writer's compression. Package zstdedit does it for zstd. A Snappy block
// is a list of elements, literals and copies from what was already put out:
// most stay as they are, the others are written anew. The result is checked
// like every rewritten page.

// spliceable says whether a page's edit can be made in its compressed form.
func (j *pageJob) spliceable() bool {
	h, kind := &j.page.Header, j.chunk.codec.kind
	return (kind == format.Snappy || kind == format.Zstd && !j.chunk.recompress) && !(h.Type == format.DataPageV2 && h.ValuesUncompressed)
}

// sparseCut is how many bytes of body there must be to each cut: with denser
// ones compressing anew is as cheap. freshBytes is the most that is put in at
// one place without an attempt to compress it.
const (
	sparseCut  = 2 << 10
	freshBytes = 4 << 10
)

// splice edits the compressed body. It returns nil where compressing anew is better.
func (j *pageJob) splice(s *scratch, a *assembly) []byte {
	src, body := j.page.Body, a.buf[a.start:]
	kept, fresh := keptOps(a.ops)
	if kept*sparseCut > len(body) || fresh && j.chunk.codec.kind == format.Zstd {
		return nil
	}
	if j.page.Header.Type == format.DataPageV2 {
		src = src[int(j.page.Header.RepLength)+int(j.page.Header.DefLength):]
	}
	if j.chunk.codec.kind == format.Zstd {
		out, _ := s.zstd.Splice(s.first[:0], src, a.ops, body)
		return out
	}
	return spliceSnappy(s.first[:0], src, a.ops, body)
}

// spliceSnappy writes body, of which ops say where it comes from, from the
// elements of src. It returns nil when src is not what it should be.
func spliceSnappy(dst, src []byte, ops []zstdedit.Op, body []byte) []byte {
	_, n := binary.Uvarint(src)
	if n <= 0 {
		return nil
	}
	w := snappyWriter{dst: binary.AppendUvarint(dst, uint64(len(body))), body: body}
	r := snappyReader{src: src[n:]}
	for k := range ops {
		o := &ops[k]
		if o.From < 0 {
			w.fresh(o.At + o.Size)
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
func (w *snappyWriter) keep(r *snappyReader, ops []zstdedit.Op) bool {
	o := &ops[len(ops)-1]
	for at := o.From; at < o.To; {
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
		size := min(r.cur.at+r.cur.size, o.To) - at
		w.part(&r.cur, ops, at, size)
		at += size
	}
	return true
}

// run passes over elements that stay as they are, from the current one on. It
// returns their bytes' place in the source and where their output ends.
func (r *snappyReader) run(o *zstdedit.Op) (from, end, to int, ok bool) {
	from = r.cur.tag
	for {
		r.skim(o)
		if r.at >= o.To {
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
func (r *snappyReader) skim(o *zstdedit.Op) {
	src, i, at, limit := r.src, r.next, r.at, o.To-longest
	for i+3 <= len(src) && at <= limit {
		s := &steps[src[i]]
		offset := binary.LittleEndian.Uint16(src[i+1:])&s.mask | s.high
		if s.bytes == 0 || at-int(offset) < o.From {
			break
		}
		i += int(s.bytes)
		at += int(s.size)
	}
	r.next, r.at = i, at
}

// verbatim says whether the element lies in the kept range with all it refers to.
func (r *snappyReader) verbatim(o *zstdedit.Op) bool {
	return r.cur.at+r.cur.size <= o.To && r.cur.at-r.cur.offset >= o.From
}

// part writes source bytes [at, at+size) of an element: as a copy where what
// it refers to is still there, otherwise as a literal.
func (w *snappyWriter) part(e *element, ops []zstdedit.Op, at, size int) {
	if e.offset > 0 {
		from := at - e.offset
		k := len(ops) - 1
		for k >= 0 && (ops[k].From < 0 || ops[k].From > from) {
			k--
		}
		if k == len(ops)-1 || k >= 0 && from+size <= ops[k].To {
			if offset := w.done - (ops[k].At + from - ops[k].From); offset > 0 && offset < 1<<16 {
				w.copy(offset, size)
				return
			}
		}
	}
	w.done += size
}
