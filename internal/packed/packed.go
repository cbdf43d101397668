// Package packed reads and edits compressed byte streams frame by frame.
//
// A frame is the smallest part of a stored file that can be decompressed by
// itself: a gzip member, a zstd frame, a chunk of Snappy's framing format, a
// block of Hadoop's Snappy codec; a file that is not compressed is one frame.
// Positions in the content are positions after decompression. Records may
// cross frames: nothing here knows of records.
//
// Reader yields the content and remembers the frames it passed. Rewrite then
// writes the content less, or with, a list of edits: frames that no edit
// touches are copied as they are stored, by the store itself where it can;
// the others are decompressed, edited and compressed anew.
package packed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/expunge/expunge/internal/storage"
)

// Kind is how a file is compressed.
type Kind string

// The kinds. Bzip2 can be read and not written.
const (
	Plain  Kind = ""
	Gzip   Kind = "gzip"
	Zstd   Kind = "zstd"
	Snappy Kind = "snappy"        // the framing format
	Hadoop Kind = "hadoop-snappy" // blocks with big endian lengths, no magic
	Bzip2  Kind = "bzip2"
)

// Errors of a compressed stream.
var (
	// ErrCorrupt: the stream contradicts itself or its checksums, or ends early.
	ErrCorrupt = errors.New("corrupt compressed data")
	// ErrUnsupported: a compression that is not read, or one that cannot be written.
	ErrUnsupported = errors.New("unsupported compression")
)

var (
	gzipMagic   = []byte{0x1f, 0x8b}
	zstdMagic   = []byte{0x28, 0xb5, 0x2f, 0xfd}
	snappyMagic = []byte("\xff\x06\x00\x00sNaPpY")
	bzip2Magic  = []byte{0x31, 0x41, 0x59, 0x26, 0x53, 0x59} // behind "BZh" and a digit
	bzip2End    = []byte{0x17, 0x72, 0x45, 0x38, 0x50, 0x90}
	xzMagic     = []byte("\xfd7zXZ\x00")
	lz4Magic    = []byte{0x04, 0x22, 0x4d, 0x18}
)

// headSize is how many bytes Detect wants to see.
const headSize = 16

// Detect says how a file is compressed, from its first bytes, and from its
// name where the format has no magic. ErrUnsupported names one that is known
// and not read.
func Detect(head []byte, name string) (Kind, error) {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return Gzip, nil
	case bytes.HasPrefix(head, zstdMagic):
		return Zstd, nil
	case len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return Zstd, nil // a skippable frame comes first
	case bytes.HasPrefix(head, snappyMagic):
		return Snappy, nil
	case len(head) >= 10 && string(head[:3]) == "BZh" && (bytes.Equal(head[4:10], bzip2Magic) || bytes.Equal(head[4:10], bzip2End)):
		return Bzip2, nil
	case bytes.HasPrefix(head, xzMagic):
		return Plain, fmt.Errorf("xz: %w", ErrUnsupported)
	case bytes.HasPrefix(head, lz4Magic):
		return Plain, fmt.Errorf("lz4: %w", ErrUnsupported)
	}
	for _, suffix := range []string{".lz4", ".lzo", ".xz", ".br", ".deflate", ".zlib", ".zip"} {
		if strings.HasSuffix(strings.ToLower(name), suffix) {
			return Plain, fmt.Errorf("%s: %w", suffix[1:], ErrUnsupported)
		}
	}
	if strings.HasSuffix(strings.ToLower(name), ".snappy") {
		return Hadoop, nil
	}
	return Plain, nil
}

// Frame is one frame: where it is stored and which content it holds.
type Frame struct {
	Off, Len    int64 // as stored
	Start, Size int64 // of the content; Size is 0 for what holds none
}

// End is the content position behind the frame.
func (f Frame) End() int64 { return f.Start + f.Size }

// Edit replaces a range of the content. Edits are sorted and do not overlap.
type Edit struct {
	Off, Len int64
	With     []byte // nil: the range goes
}

// AddEdit appends an edit, joining a removal to the one it follows.
func AddEdit(edits []Edit, e Edit) []Edit {
	if n := len(edits) - 1; n >= 0 && e.With == nil && edits[n].With == nil && edits[n].Off+edits[n].Len == e.Off {
		edits[n].Len += e.Len
		return edits
	}
	return append(edits, e)
}

// source reads a stored file forward and knows where it is.
type source struct {
	src  storage.Object
	at   int64 // of buf[0]
	pos  int   // in buf
	buf  []byte
	held *[]byte // what buf lies in
	size int64
	read int64 // bytes fetched
}

// window is how many bytes one read of a source asks for.
const window = 4 << 20

// The sizes of buffers: files that are small come by the million, and content
// after decompression should stay in the processor's cache until it is looked at.
const (
	small = 256 << 10
	chunk = 3 << 19
)

var buffers = map[int]*sync.Pool{small: pool(small), chunk: pool(chunk), window: pool(window)}

func pool(n int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, n); return &b }}
}

// borrow takes a buffer for a file, or the part of one, of n bytes as stored.
func borrow(n int64) *[]byte {
	if n <= small {
		return buffers[small].Get().(*[]byte)
	}
	return buffers[window].Get().(*[]byte)
}

// Return gives back a buffer that a Reader lent.
func Return(b *[]byte) { buffers[len(*b)].Put(b) }

func newSource(src storage.Object, off, n int64) *source {
	return &source{src: src, at: off, size: off + n}
}

func (s *source) offset() int64 { return s.at + int64(s.pos) }

// fill has at least one byte ready, or returns io.EOF.
func (s *source) fill() error {
	if s.pos < len(s.buf) {
		return nil
	}
	at := s.offset()
	n := min(window, s.size-at)
	if n <= 0 {
		return io.EOF
	}
	if s.held == nil {
		s.held = borrow(n)
	}
	s.buf = (*s.held)[:n]
	s.at, s.pos = at, 0
	if err := storage.ReadFull(s.src, s.buf, at); err != nil {
		s.buf = s.buf[:0]
		return err
	}
	s.read += n
	return nil
}

// release gives the window back; what it held is gone.
func (s *source) release() {
	if s.held != nil {
		Return(s.held)
		s.at, s.pos, s.buf, s.held = s.offset(), 0, nil, nil
	}
}

func (s *source) Read(p []byte) (int, error) {
	if s.pos == len(s.buf) && len(p) >= window/2 {
		return s.direct(p)
	}
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.buf[s.pos:])
	s.pos += n
	return n, nil
}

// direct reads into a buffer that is as good as a window.
func (s *source) direct(p []byte) (int, error) {
	s.release()
	p = p[:min(int64(len(p)), s.size-s.at)]
	if len(p) == 0 {
		return 0, io.EOF
	}
	if err := storage.ReadFull(s.src, p, s.at); err != nil {
		return 0, err
	}
	s.at += int64(len(p))
	s.read += int64(len(p))
	return len(p), nil
}

// ReadByte keeps decompressors from reading past the end of a frame.
func (s *source) ReadByte() (byte, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	b := s.buf[s.pos]
	s.pos++
	return b, nil
}

// full reads len(p) bytes; an early end is ErrCorrupt.
func (s *source) full(p []byte) error {
	if _, err := io.ReadFull(s, p); err != nil {
		return early(err)
	}
	return nil
}

func (s *source) uint32(order binary.ByteOrder) (uint32, error) {
	var b [4]byte
	err := s.full(b[:])
	return order.Uint32(b[:]), err
}

// early names an end of the data where none should be.
func early(err error) error {
	var store *storage.Error
	if errors.As(err, &store) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ends early: %w", ErrCorrupt)
	}
	return err
}

// damaged wraps what a decompressor says, unless the store is to blame.
func damaged(kind Kind, err error) error {
	var store *storage.Error
	if err == nil || errors.As(err, &store) || errors.Is(err, ErrCorrupt) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: ends early: %w", kind, ErrCorrupt)
	}
	return fmt.Errorf("%s: %w", kind, ErrCorrupt) // the library's words may quote bytes
}
