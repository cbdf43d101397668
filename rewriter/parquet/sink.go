package parquet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// copyChunk is how much of a copied range is in memory at a time.
const copyChunk = 1 << 20

// sink writes the new file front to back: bytes, and ranges of the source.
// The digest is computed beside the writing, not in front of it.
type sink struct {
	ctx    context.Context
	in     Input
	out    Output
	digest *digester // nil when not wanted
	bufs   [2][]byte // of copied ranges, in turns
	marks  [2]int64  // what the digest must have passed before a buffer is used again
	turn   int
	pos    int64

	copied, encoded int64
}

func newSink(ctx context.Context, in Input, out Output, digest bool) *sink {
	s := &sink{ctx: ctx, in: in, out: out}
	if digest {
		s.digest = newDigester()
	}
	return s
}

// Write appends bytes that were produced; they are not changed afterwards.
func (s *sink) Write(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.emit(b)
	s.encoded += int64(n)
	return n, err
}

func (s *sink) emit(b []byte) (int, error) {
	if s.digest != nil {
		s.digest.add(b)
	}
	n, err := s.out.Write(b)
	s.pos += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
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
	for n > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		b := s.buffer()[:min(n, copyChunk)]
		if err := readFull(s.in, b, off); err != nil {
			return err
		}
		if _, err := s.emit(b); err != nil {
			return err
		}
		s.marks[s.turn] = s.pos
		off += int64(len(b))
		n -= int64(len(b))
	}
	return nil
}

// buffer is the next copy buffer, free of the digest.
func (s *sink) buffer() []byte {
	s.turn ^= 1
	if s.bufs[s.turn] == nil {
		s.bufs[s.turn] = make([]byte, copyChunk)
	} else if s.digest != nil {
		s.digest.wait(s.marks[s.turn])
	}
	return s.bufs[s.turn]
}

// sum is the digest of what was written; zero when none was wanted.
func (s *sink) sum() (d [32]byte) {
	if s.digest != nil {
		return s.digest.sum()
	}
	return d
}

// close ends the digest's goroutine. It may be called again.
func (s *sink) close() {
	if s.digest != nil {
		s.digest.sum()
	}
}

// digester hashes on a goroutine of its own.
type digester struct {
	in     chan []byte
	passed chan int64 // running total after each piece
	total  int64      // as last seen by wait
	done   chan [32]byte
	result *[32]byte
}

// digestAhead is how many pieces may wait to be hashed.
const digestAhead = 16

func newDigester() *digester {
	d := &digester{in: make(chan []byte, digestAhead), passed: make(chan int64, 1), done: make(chan [32]byte, 1)}
	go d.run()
	return d
}

func (d *digester) run() {
	h := sha256.New()
	total := int64(0)
	for b := range d.in {
		h.Write(b)
		total += int64(len(b))
		select { // only the latest total counts
		case <-d.passed:
		default:
		}
		d.passed <- total
	}
	d.done <- [32]byte(h.Sum(nil))
}

func (d *digester) add(b []byte) {
	if len(b) > 0 {
		d.in <- b
	}
}

// wait returns once the first n bytes were hashed.
func (d *digester) wait(n int64) {
	for d.total < n {
		d.total = <-d.passed
	}
}

func (d *digester) sum() [32]byte {
	if d.result == nil {
		close(d.in)
		sum := <-d.done
		d.result = &sum
	}
	return *d.result
}

// readFull reads len(b) bytes at off.
func readFull(in Input, b []byte, off int64) error {
	if off < 0 || int64(len(b)) > in.Size || off > in.Size-int64(len(b)) {
		return corrupt("range outside the file")
	}
	n, err := in.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return corrupt("file ends %d bytes early", len(b)-n)
	}
	return fmt.Errorf("read: %w", err)
}
