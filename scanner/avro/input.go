package avro

import (
	"fmt"

	"github.com/expunge/expunge/internal/storage"
)

// window is how much of a file is read at once.
const window = 4 << 20

// input reads a file forward.
type input struct {
	src  storage.Object
	size int64
	at   int64 // of buf[0]
	buf  []byte
	pos  int
	read int64
}

func (i *input) offset() int64 { return i.at + int64(i.pos) }

// take returns the next n bytes, valid until the next call.
func (i *input) take(n int) ([]byte, error) {
	if n < 0 || n > maxBlock || i.offset()+int64(n) > i.size {
		return nil, fmt.Errorf("ends early: %w", ErrCorrupt)
	}
	if i.pos+n > len(i.buf) {
		rest := len(i.buf) - i.pos
		want := int(min(i.size-i.offset(), int64(max(n, window))))
		buf := make([]byte, want)
		copy(buf, i.buf[i.pos:])
		off := i.offset()
		if err := storage.ReadFull(i.src, buf[rest:], off+int64(rest)); err != nil {
			return nil, err
		}
		i.read += int64(want - rest)
		i.buf, i.at, i.pos = buf, off, 0
	}
	b := i.buf[i.pos : i.pos+n]
	i.pos += n
	return b, nil
}

// long reads a zigzag varint of at most ten bytes.
func (i *input) long() (int64, error) {
	var v uint64
	for shift := uint(0); shift < 70; shift += 7 {
		b, err := i.take(1)
		if err != nil {
			return 0, err
		}
		v |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			return int64(v>>1) ^ -int64(v&1), nil
		}
	}
	return 0, fmt.Errorf("number too long: %w", ErrCorrupt)
}

func (i *input) bytes() ([]byte, error) {
	n, err := i.long()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxBlock {
		return nil, fmt.Errorf("length: %w", ErrCorrupt)
	}
	return i.take(int(n))
}
