// Package ndjson finds the records of newline-delimited JSON that hold a key,
// and the bytes to change so that they no longer do.
//
// A record is a line. One pass over its bytes checks that it is one JSON
// object (RFC 8259) and visits the values on the paths of the key columns;
// everything else is only skipped. Nothing is converted and written back: what
// changes are ranges of bytes, so every other byte of the file stays as it is.
//
// Lines of white space are no records and stay. A line that is no JSON object,
// or in which a member on the way to a key occurs twice (readers disagree on
// which one counts), is malformed.
package ndjson

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/scanner"
)

// maxRecord bounds the memory that one record may take.
const maxRecord = 256 << 20

var byteOrderMark = []byte("\xef\xbb\xbf")

// ErrTooLong: a record is longer than this package takes into memory.
var ErrTooLong = errors.New("record longer than 256 MiB")

// Scan reads an object. A malformed record is scanner.ErrMalformed, unless the
// request keeps those; the compressed stream's errors are package packed's.
func Scan(ctx context.Context, src storage.Object, req scanner.Records) (*scanner.RecordsFound, error) {
	in, err := packed.Open(src)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	s, err := newScan(req)
	if err != nil {
		return nil, err
	}
	if err := s.read(ctx, in); err != nil {
		return nil, err
	}
	s.found.Kind, s.found.Frames, s.found.BytesRead = in.Kind(), in.Frames(), in.BytesRead()
	return s.found, nil
}

type scan struct {
	req   scanner.Records
	found *scanner.RecordsFound
	walk  *walker
	at    int64 // content position of the chunk
}

func newScan(req scanner.Records) (*scan, error) {
	w, err := newWalker(req)
	if err != nil {
		return nil, err
	}
	return &scan{req: req, found: scanner.NewRecordsFound(len(req.Match)), walk: w}, nil
}

// read cuts the content into chunks of whole lines.
func (s *scan) read(ctx context.Context, in *packed.Reader) error {
	held := in.Buffer()
	defer packed.Return(held)
	buf := (*held)[:0]
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(buf) == cap(buf) {
			if len(buf) >= maxRecord {
				return ErrTooLong
			}
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end := err == io.EOF //nolint:errorlint // the end itself
		if err != nil && !end {
			return err
		}
		if !end && len(buf) < cap(buf) {
			continue // fill the buffer first
		}
		whole := len(buf)
		if !end {
			if whole = bytes.LastIndexByte(buf, '\n') + 1; whole == 0 {
				continue
			}
		}
		if err := s.lines(buf[:whole]); err != nil {
			return err
		}
		s.at += int64(whole)
		buf = buf[:copy(buf, buf[whole:])]
		if end {
			s.found.Content = s.at
			t := s.walk.tuples
			s.found.Present, s.found.Values, s.found.Foreign = t.HavePresent, t.Values, t.Foreign
			s.found.Keys = t.Keys
			return nil
		}
	}
}

func (s *scan) lines(data []byte) error {
	pos := 0
	if s.at == 0 && bytes.HasPrefix(data, byteOrderMark) {
		pos = len(byteOrderMark)
		s.found.Header = byteOrderMark
	}
	for pos < len(data) {
		end, err := s.line(data, pos)
		if err != nil {
			return err
		}
		pos = end
	}
	return nil
}

// line looks at the line that begins at from; it returns where it ends, behind
// its newline.
func (s *scan) line(data []byte, from int) (end int, err error) {
	if shapes := &s.walk.shapes; len(shapes.start.links) > 0 && shapes.worth() {
		shapes.all++
		if n, ok := s.walk.follow(data[from:]); ok {
			shapes.hits++
			s.record(data, from, from, from+n)
			return from + n, nil
		}
	}
	to := len(data)
	if i := bytes.IndexByte(data[from:], '\n'); i >= 0 {
		to = from + i + 1
	}
	start := from
	for start < to && (data[start] == ' ' || data[start] == '\t' || data[start] == '\r' || data[start] == '\n') {
		start++
	}
	if start == to {
		return to, nil
	}
	if err := s.walk.record(data[start:to]); err != nil {
		return to, s.found.Malform(&s.req, s.at+int64(from), int64(to-from), err)
	}
	s.record(data, from, start, to)
	if start == from {
		s.walk.learn(data[from:to])
	}
	return to, nil
}

// record decides on data[from:to], newline included, a record that begins at start.
func (s *scan) record(data []byte, from, start, to int) {
	row := s.found.Rows
	s.found.Rows++
	hit := s.req.Every
	for m, h := range s.walk.tuples.Finish() {
		if h {
			s.found.PerMatch[m]++
			hit = true
		}
	}
	switch {
	case s.req.Invert:
		if hit {
			s.found.Hits.Add(uint64(row))
		} else {
			s.found.Remove(s.at+int64(from), int64(to-from))
		}
	case hit && s.req.Deletes():
		s.found.Hits.Add(uint64(row))
		s.found.Remove(s.at+int64(from), int64(to-from))
	case hit:
		s.change(uint64(row), data, start)
	}
}

// change notes the edits inside a record that stays. A record in which nothing
// changes, because an earlier run has changed it, is no hit.
func (s *scan) change(row uint64, data []byte, start int) {
	edits := s.walk.changes(data[start:])
	for _, e := range edits {
		s.found.Edits = packed.AddEdit(s.found.Edits, packed.Edit{Off: s.at + int64(start) + e.Off, Len: e.Len, With: e.With})
	}
	if len(edits) > 0 {
		s.found.Hits.Add(row)
	}
}
