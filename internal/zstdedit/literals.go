package zstdedit

import (
	"errors"

	"github.com/klauspost/compress/huff0"
)

// The kinds of literals sections (RFC 8878, 3.1.1.3.1.1).
const (
	literalsRaw = iota
	literalsRLE
	literalsCompressed
	literalsTreeless
)

// literals is a block's literals section.
type literals struct {
	kind    int
	size    int    // of the literals
	section []byte // all of it
	streams []byte // its Huffman streams, without the tree
	single  bool   // one stream, else four
	tree    []byte // description of the tree that its streams need
}

// openLiterals reads the section's header and how long the section is.
func (e *Editor) openLiterals(b []byte) (l literals, n int, ok bool) {
	if len(b) < 1 {
		return l, 0, false
	}
	l.kind = int(b[0] & 3)
	format := b[0] >> 2 & 3
	var head, stored int
	if l.kind <= literalsRLE {
		switch format {
		case 1:
			head = 2
		case 3:
			head = 3
		default:
			head = 1
		}
		v, ok := little(b, head)
		if !ok {
			return l, 0, false
		}
		if l.size, stored = int(v>>4), 1; head == 1 {
			l.size = int(v >> 3)
		}
		if l.kind == literalsRaw {
			stored = l.size
		}
	} else {
		width := [4]uint{10, 10, 14, 18}[format]
		head = [4]int{3, 3, 4, 5}[format]
		l.single = format == 0
		v, ok := little(b, head)
		if !ok {
			return l, 0, false
		}
		l.size, stored = int(v>>4)&(1<<width-1), int(v>>(4+width))&(1<<width-1)
	}
	n = head + stored
	if n > len(b) || l.size > maxBlock {
		return l, 0, false
	}
	l.section, l.streams = b[:n], b[head:n]
	return l, n, e.openTree(&l)
}

func little(b []byte, n int) (v uint64, ok bool) {
	if n > len(b) {
		return 0, false
	}
	for i := range n {
		v |= uint64(b[i]) << (8 * i)
	}
	return v, true
}

// openTree cuts the tree's description off the streams (RFC 8878, 4.2.1).
func (e *Editor) openTree(l *literals) bool {
	switch l.kind {
	case literalsTreeless:
		l.tree = e.source.tree
		return l.tree != nil
	case literalsCompressed:
		if len(l.streams) == 0 {
			return false
		}
		n := int(l.streams[0])
		if n >= 128 {
			n = (n - 127 + 1) / 2
		}
		if n++; n > len(l.streams) {
			return false
		}
		l.tree, l.streams = l.streams[:n:n], l.streams[n:]
		e.source.tree = l.tree
	}
	return true
}

// ownTree stands for a tree that no block of the source has.
var ownTree = []byte{0}

// keepSection appends a section whose literals stay. The tree of an earlier
// block is repeated where the new frame does not have it.
func (e *Editor) keepSection(b []byte, l *literals) []byte {
	if l.kind != literalsTreeless || sameTree(l.tree, e.written.tree) {
		if l.kind >= literalsCompressed {
			e.written.tree = l.tree
		}
		return append(b, l.section...)
	}
	e.written.tree = l.tree
	b = appendHuffmanHeader(b, len(l.tree)+len(l.streams), l.size, l.single)
	return append(append(b, l.tree...), l.streams...)
}

// newSection codes the gathered literals.
func (e *Editor) newSection(b []byte) ([]byte, bool) {
	lits := e.lits
	var out []byte
	err := huff0.ErrIncompressible
	single := len(lits) < 1<<10
	switch {
	case len(lits) <= 32:
	case single:
		out, _, err = huff0.Compress1X(lits, &e.huff)
	default:
		out, _, err = huff0.Compress4X(lits, &e.huff)
	}
	if err == nil && len(out)+2 >= len(lits) {
		err = huff0.ErrIncompressible
	}
	switch {
	case err == nil:
		e.written.tree = ownTree
		return append(appendHuffmanHeader(b, len(out), len(lits), single), out...), true
	case errors.Is(err, huff0.ErrUseRLE):
		return append(appendPlainHeader(b, literalsRLE, len(lits)), lits[0]), true
	case errors.Is(err, huff0.ErrIncompressible):
		return append(appendPlainHeader(b, literalsRaw, len(lits)), lits...), true
	}
	return b, false
}

func appendPlainHeader(b []byte, kind, size int) []byte {
	v := uint32(kind)
	switch {
	case size < 1<<5:
		return append(b, byte(v|uint32(size)<<3))
	case size < 1<<12:
		v |= 1<<2 | uint32(size)<<4
		return append(b, byte(v), byte(v>>8))
	}
	v |= 3<<2 | uint32(size)<<4
	return append(b, byte(v), byte(v>>8), byte(v>>16))
}

// appendHuffmanHeader is for a section with a tree; one stream is of at most 1 KiB.
func appendHuffmanHeader(b []byte, stored, size int, single bool) []byte {
	v, width, n := uint64(literalsCompressed), uint(10), 3
	switch most := max(stored, size); {
	case most < 1<<10 && single:
	case most < 1<<10:
		v |= 1 << 2
	case most < 1<<14:
		v, width, n = v|2<<2, 14, 4
	default:
		v, width, n = v|3<<2, 18, 5
	}
	v |= uint64(size)<<4 | uint64(stored)<<(4+width)
	for range n {
		b = append(b, byte(v))
		v >>= 8
	}
	return b
}
