package packed

import (
	"encoding/binary"
	"fmt"
	"io"
)

// zstdFrame reads the header of the next frame (RFC 8878, section 3.1.1) and
// returns a reader that yields exactly this frame's stored bytes, found by
// walking its block headers. A skippable frame is passed and skip is true.
func zstdFrame(s *source) (frame io.Reader, skip bool, err error) {
	magic, err := s.uint32(binary.LittleEndian)
	if err != nil {
		return nil, false, err
	}
	if magic&0xfffffff0 == 0x184d2a50 {
		n, err := s.uint32(binary.LittleEndian)
		if err != nil {
			return nil, false, err
		}
		if _, err := io.CopyN(io.Discard, s, int64(n)); err != nil {
			return nil, false, early(err)
		}
		return nil, true, nil
	}
	if magic != 0xfd2fb528 {
		return nil, false, fmt.Errorf("zstd: bytes behind the last frame: %w", ErrCorrupt)
	}
	f := &zstdWalk{s: s, pending: binary.LittleEndian.AppendUint32(nil, magic)}
	var desc byte
	if desc, err = f.byte(); err != nil {
		return nil, false, err
	}
	f.checksum = desc&4 != 0
	single := desc&0x20 != 0
	n := []int{0, 1, 2, 4}[desc&3] // dictionary id
	if !single {
		n++ // window descriptor
	}
	switch size := desc >> 6; {
	case size == 0 && single:
		n++
	case size > 0:
		n += 1 << size
	}
	for range n {
		if _, err := f.byte(); err != nil {
			return nil, false, err
		}
	}
	return f, false, nil
}

// zstdWalk yields the stored bytes of one frame.
type zstdWalk struct {
	s        *source
	pending  []byte // header bytes to yield
	left     int    // bytes of the block's body
	last     bool   // the last block's header was seen
	checksum bool   // four bytes follow the last block
}

func (f *zstdWalk) byte() (byte, error) {
	b, err := f.s.ReadByte()
	if err != nil {
		return 0, early(err)
	}
	f.pending = append(f.pending, b)
	return b, nil
}

func (f *zstdWalk) Read(p []byte) (int, error) {
	for len(f.pending) == 0 && f.left == 0 {
		switch {
		case !f.last:
			if err := f.header(); err != nil {
				return 0, err
			}
		case f.checksum:
			f.checksum, f.left = false, 4
		default:
			return 0, io.EOF
		}
	}
	if len(f.pending) > 0 {
		n := copy(p, f.pending)
		f.pending = f.pending[n:]
		return n, nil
	}
	n, err := f.s.Read(p[:min(len(p), f.left)])
	f.left -= n
	if err != nil {
		return n, early(err)
	}
	return n, nil
}

// header reads a block's three bytes: last, type, size.
func (f *zstdWalk) header() error {
	var h uint32
	for i := range 3 {
		b, err := f.byte()
		if err != nil {
			return err
		}
		h |= uint32(b) << (8 * i)
	}
	f.last = h&1 != 0
	f.left = int(h >> 3)
	switch h >> 1 & 3 {
	case 1:
		f.left = 1 // one byte, repeated
	case 3:
		return fmt.Errorf("zstd: block of a reserved type: %w", ErrCorrupt)
	}
	return nil
}
