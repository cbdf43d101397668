package parquet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// A copied range passes through memory in pieces of copyChunk bytes; pieces
// from readApart bytes on are read while the one before is written.
const (
	copyChunk = 4 << 20
	readApart = 64 << 10
)

// sink writes the new file front to back: bytes, and ranges of the source.
// The digest is computed beside the writing, not in front of it.
type sink struct {
	ctx    context.Context
	in     Input
	out    Output
	digest *digester // nil when not wanted
	bufs   [3][]byte // of copied ranges, in turns
	marks  [3]int64  // what the digest must have passed before a buffer is used again
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

// Write appends bytes that were produced. They must not change afterwards:
// the digest may look at them later.
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
	return s.pass(off, n)
}

// pass reads a range and writes it, the next piece being read meanwhile.
func (s *sink) pass(off, n int64) error {
	next := s.read(off, min(n, copyChunk))
	for n > 0 {
		p := <-next
		size := int64(len(p.data))
		off, n, next = off+size, n-size, nil
		if p.err != nil {
			return p.err
		}
		if n > 0 {
			next = s.read(off, min(n, copyChunk))
		}
		_, err := s.emit(p.data)
		s.marks[p.turn] = s.pos
		if err == nil {
			err = s.ctx.Err()
		}
		if err != nil {
			if next != nil {
				<-next
			}
			return err
		}
	}
	return nil
}

// piece is a part of a range that was read.
type piece struct {
	data []byte
	turn int
	err  error
}

// read starts to read [off, off+n) into the next buffer.
func (s *sink) read(off, n int64) <-chan piece {
	s.turn = (s.turn + 1) % len(s.bufs)
	turn := s.turn
	if s.bufs[turn] == nil {
		s.bufs[turn] = make([]byte, copyChunk)
	} else if s.digest != nil {
		s.digest.wait(s.marks[turn])
	}
	b := s.bufs[turn][:n]
	done := make(chan piece, 1)
	if n < readApart {
		done <- piece{b, turn, readFull(s.in, b, off)}
		return done
	}
	go func() { done <- piece{b, turn, readFull(s.in, b, off)} }()
	return done
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
