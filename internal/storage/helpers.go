package storage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/expunge/expunge/internal/clock"
)

// isEOF says whether err is the end of an object. It is io.EOF itself then: a
// broken connection is an error that wraps io.EOF.
func isEOF(err error) bool { return err == io.EOF } //nolint:errorlint // see above

// ReadAll reads a whole object; it is for objects that are known to be small.
func ReadAll(ctx context.Context, s Store, path string) ([]byte, error) {
	o, err := s.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	data := make([]byte, o.Info().Size)
	if len(data) == 0 {
		return data, nil
	}
	if err := ReadFull(o, data, 0); err != nil {
		return nil, err
	}
	return data, nil
}

// ReadFull fills p from off on; a shorter object is a transient io.ErrUnexpectedEOF.
func ReadFull(o Object, p []byte, off int64) error {
	n, err := o.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || isEOF(err) {
		err = NewError("read", o.Info().Path, ErrTransient, "truncated", io.ErrUnexpectedEOF)
	}
	return err
}

// SHA256 reads an open object from its beginning to its end.
func SHA256(o Object) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for off, size := int64(0), o.Info().Size; off < size; {
		n := min(size-off, int64(len(buf)))
		if err := ReadFull(o, buf[:n], off); err != nil {
			return sum, err
		}
		h.Write(buf[:n])
		off += n
	}
	h.Sum(sum[:0])
	return sum, nil
}

// WriteAll writes a whole object. With IfNotExists, an object of the same
// content that is there already counts as written: a write whose answer was
// lost can be repeated.
func WriteAll(ctx context.Context, s Store, path string, data []byte, o CreateOptions) error {
	err := writeOnce(ctx, s, path, data, o)
	unsure := errors.Is(err, ErrExists) || errors.Is(err, ErrUnknownOutcome) || IsTransient(err)
	if !unsure || !o.IfNotExists {
		return err
	}
	if have, readErr := ReadAll(ctx, s, path); readErr == nil && bytes.Equal(have, data) {
		return nil
	}
	return err
}

func writeOnce(ctx context.Context, s Store, path string, data []byte, o CreateOptions) error {
	w, err := s.Create(ctx, path, o)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		_ = w.Abort()
		return err
	}
	if err := w.Close(); err != nil {
		_ = w.Abort()
		return err
	}
	return nil
}

// CopyRange appends a range of src to w: inside the store where that is
// possible, otherwise by reading and writing.
func CopyRange(w Writer, src Object, off, n int64) error {
	if rc, ok := w.(RangeCopier); ok {
		err := rc.CopyRange(src, off, n)
		if err == nil || !errors.Is(err, ErrUnsupported) {
			return err
		}
	}
	buf := make([]byte, min(n, 4<<20))
	for n > 0 {
		part := buf[:min(n, int64(len(buf)))]
		if err := ReadFull(src, part, off); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return nil
}

// streamChunk is how much a stream asks for at once.
const streamChunk = 4 << 20

// Stream reads an object from the beginning, a chunk a request; closing it closes the object.
func Stream(o Object) io.ReadCloser { return StreamRange(o, 0, o.Info().Size) }

// StreamRange reads n bytes from off on.
func StreamRange(o Object, off, n int64) io.ReadCloser {
	chunk := max(1, min(n, streamChunk))
	return &stream{r: bufio.NewReaderSize(exact{o, off, off + n}.reader(), int(chunk)), o: o}
}

type stream struct {
	r *bufio.Reader
	o Object
}

func (s *stream) Read(p []byte) (int, error)         { return s.r.Read(p) }
func (s *stream) WriteTo(w io.Writer) (int64, error) { return s.r.WriteTo(w) }
func (s *stream) Close() error                       { return s.o.Close() }

// exact reads a range of an object and takes an early end for what it is: a
// truncated read, not the end of the data.
type exact struct {
	o        Object
	off, end int64
}

func (e exact) reader() io.Reader { return &e }

func (e *exact) Read(p []byte) (int, error) {
	if e.off >= e.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), e.end-e.off)]
	if err := ReadFull(e.o, p, e.off); err != nil {
		return 0, err
	}
	e.off += int64(len(p))
	return len(p), nil
}

// Range is a part of an object.
type Range struct{ Off, Len int64 }

// Coalesce joins ranges that are at most gap bytes apart, so that one request
// serves several; no joined range is longer than most unless a single one is.
// The result is sorted and covers every input.
func Coalesce(ranges []Range, gap, most int64) []Range {
	in := slices.Clone(ranges)
	slices.SortFunc(in, func(a, b Range) int {
		if a.Off != b.Off {
			return int(min(max(a.Off-b.Off, -1), 1))
		}
		return int(min(max(b.Len-a.Len, -1), 1))
	})
	var out []Range
	for _, r := range in {
		if r.Len <= 0 {
			continue
		}
		if k := len(out) - 1; k >= 0 {
			end, last := r.Off+r.Len, out[k].Off+out[k].Len
			if end <= last {
				continue
			}
			if r.Off <= last || r.Off-last <= gap && end-out[k].Off <= most {
				out[k].Len = end - out[k].Off
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// First returns the first listed object, and whether there is one.
func First(seq iter.Seq2[Info, error]) (Info, bool, error) {
	for info, err := range seq {
		return info, err == nil, err
	}
	return Info{}, false, nil
}

// CleanUnfinished removes what writers that are gone left under a prefix:
// temporary files, and multipart uploads that were begun before olderThan ago.
// Whether an upload's writer is alive can't be told on an object store, so the
// age must be longer than any write lasts; on a local disk it can, and age
// does not matter.
func CleanUnfinished(ctx context.Context, s Store, prefix string, olderThan time.Duration) (int, error) {
	var found []Upload
	for u, err := range Unfinished(ctx, s, prefix) {
		if err != nil {
			return 0, err
		}
		if isTemp(u.ID) || clock.Now(ctx).Sub(u.Started) > olderThan {
			found = append(found, u)
		}
	}
	n := 0
	for _, u := range found {
		if err := RemoveUnfinished(ctx, s, u); err != nil && !errors.Is(err, ErrPrecondition) {
			return n, err
		}
		n++
	}
	return n, nil
}
