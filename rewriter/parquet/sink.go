package parquet

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
)

// copyChunk is how much of a copied range is in memory at a time.
const copyChunk = 1 << 20

// sink writes the new file front to back: bytes, and ranges of the source.
type sink struct {
	ctx    context.Context
	in     Input
	out    Output
	digest hash.Hash // nil when not wanted
	buf    []byte
	pos    int64

	copied, encoded int64
}

func newSink(ctx context.Context, in Input, out Output, digest bool) *sink {
	s := &sink{ctx: ctx, in: in, out: out}
	if digest {
		s.digest = sha256.New()
	}
	return s
}

// Write appends bytes that were produced.
func (s *sink) Write(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.emit(b)
	s.encoded += int64(n)
	return n, err
}

func (s *sink) emit(b []byte) (int, error) {
	n, err := s.out.Write(b)
	if s.digest != nil {
		s.digest.Write(b[:n])
	}
	s.pos += int64(n)
	if err != nil {
		return n, fmt.Errorf("write: %w", err)
	}
	return n, nil
}

// copyRange appends a range of the source.
func (s *sink) copyRange(off, n int64) error {
	if n <= 0 {
		return nil
	}
	s.copied += n
	if s.out.Copy != nil && s.digest == nil {
		if err := s.out.Copy(off, n); err != nil {
			return fmt.Errorf("copy range: %w", err)
		}
		s.pos += n
		return s.ctx.Err()
	}
	if s.buf == nil {
		s.buf = make([]byte, copyChunk)
	}
	for n > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		b := s.buf[:min(n, copyChunk)]
		if err := readFull(s.in, b, off); err != nil {
			return err
		}
		if _, err := s.emit(b); err != nil {
			return err
		}
		off += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}

// sum is the digest of what was written; zero when none was wanted.
func (s *sink) sum() (d [32]byte) {
	if s.digest != nil {
		s.digest.Sum(d[:0])
	}
	return d
}

// readFull reads len(b) bytes at off.
func readFull(in Input, b []byte, off int64) error {
	if off < 0 || off+int64(len(b)) > in.Size {
		return corrupt("range outside the file")
	}
	n, err := in.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return fmt.Errorf("read: %w", err)
}
