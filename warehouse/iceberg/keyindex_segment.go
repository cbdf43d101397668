package iceberg

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
)

// errCorruptIndex: a segment is not what was written. Its files are scanned again.
var errCorruptIndex = errors.New("key index segment is corrupt")

const (
	segmentMagic = "XKI1"
	// maxFilterBytes bounds what a record may claim.
	maxFilterBytes = maxIndexedKeys * 8
	// maxSegments is when segments are merged into one.
	maxSegments = 12
)

// segment is one stored object of the index.
type segment struct {
	path  string
	files []fileDigest // of its filters
	bad   bool
}

// filterRecord is one filter of one file:
//
//	16 bytes file digest | 16 bytes signature | uvarint size | uvarint n | uvarint length | filter
type filterRecord struct {
	file   fileDigest
	sig    signature
	size   int64
	filter keyFilter
}

// load reads every segment, one filter at a time.
func (x *FileIndex) load(ctx context.Context) error {
	for info, err := range x.store.List(ctx, x.folder) {
		if err != nil {
			return err
		}
		if strings.HasSuffix(info.Path, ".seg") {
			x.segments = append(x.segments, segment{path: info.Path})
		}
	}
	for i := range x.segments {
		s := &x.segments[i]
		err := x.eachRecord(ctx, s.path, func(r filterRecord) error {
			s.files = append(s.files, r.file)
			return x.probe(r)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.bad = err != nil
	}
	return nil
}

// eachRecord streams a segment. Sealing makes a changed or cut one an error.
func (x *FileIndex) eachRecord(ctx context.Context, path string, visit func(filterRecord) error) error {
	obj, err := x.store.Open(ctx, path)
	if err != nil {
		return err
	}
	defer obj.Close()
	sealed, err := state.NewUnsealer(bufio.NewReaderSize(io.NewSectionReader(obj, 0, obj.Info().Size), 1<<20), x.secret, x.label(path))
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(sealed, 256<<10)
	magic := make([]byte, len(segmentMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != segmentMagic {
		return errCorruptIndex
	}
	var r filterRecord
	var buf []byte
	for {
		if _, err := io.ReadFull(in, r.file[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return errCorruptIndex
		}
		if _, err := io.ReadFull(in, r.sig[:]); err != nil {
			return errCorruptIndex
		}
		size, err1 := binary.ReadUvarint(in)
		n, err2 := binary.ReadUvarint(in)
		length, err3 := binary.ReadUvarint(in)
		if err1 != nil || err2 != nil || err3 != nil || n > maxIndexedKeys || length > maxFilterBytes || size > 1<<62 {
			return errCorruptIndex
		}
		if uint64(cap(buf)) < length {
			buf = make([]byte, length)
		}
		r.size, r.filter = int64(size), keyFilter{n: int(n), data: buf[:length]}
		if _, err := io.ReadFull(in, r.filter.data); err != nil {
			return errCorruptIndex
		}
		if err := visit(r); err != nil {
			return err
		}
	}
}

// label binds a segment to its place in the bucket.
func (x *FileIndex) label(path string) string {
	return "key index " + strings.TrimPrefix(path, x.folder)
}

// pendingSegment is the segment being written.
type pendingSegment struct {
	path   string
	sink   storage.Writer
	sealer *state.Sealer
	out    *bufio.Writer
	buf    []byte
	count  int
}

func (x *FileIndex) newSegment(ctx context.Context) (*pendingSegment, error) {
	p := &pendingSegment{path: x.folder + strings.ToLower(rand.Text()) + ".seg"}
	var err error
	if p.sink, err = x.store.Create(ctx, p.path, storage.CreateOptions{IfNotExists: true, Private: true}); err != nil {
		return nil, fmt.Errorf("create a key index segment: %w", err)
	}
	if p.sealer, err = state.NewSealer(p.sink, x.secret, x.label(p.path)); err != nil {
		return nil, errors.Join(err, p.sink.Abort())
	}
	p.out = bufio.NewWriterSize(p.sealer, 256<<10)
	_, err = p.out.WriteString(segmentMagic)
	return p, err
}

func (p *pendingSegment) write(r filterRecord) error {
	b := append(p.buf[:0], r.file[:]...)
	b = append(b, r.sig[:]...)
	b = binary.AppendUvarint(b, uint64(r.size))
	b = binary.AppendUvarint(b, uint64(r.filter.n))
	b = binary.AppendUvarint(b, uint64(len(r.filter.data)))
	p.buf = append(b, r.filter.data...)
	p.count++
	_, err := p.out.Write(p.buf)
	return err
}

func (p *pendingSegment) close() error {
	err := p.out.Flush()
	if err == nil {
		err = p.sealer.Close()
	}
	if err != nil {
		return errors.Join(err, p.sink.Abort())
	}
	return p.sink.Close()
}

// put appends a filter to the segment of this run.
func (x *FileIndex) put(ctx context.Context, r filterRecord) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.pending == nil {
		var err error
		if x.pending, err = x.newSegment(ctx); err != nil {
			return err
		}
	}
	if err := x.pending.write(r); err != nil {
		return fmt.Errorf("write the key index: %w", err)
	}
	return x.probe(r)
}

// Close stores the filters that were added. When every live file was seen by a
// plan, filters of files that are live no more are dropped: the segments
// that hold them are written anew without them, then removed. A crash in
// between leaves a filter twice, which does no harm.
func (x *FileIndex) Close(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.pending
	x.pending = nil
	old := x.stale()
	var err error
	if len(old) > 0 && p == nil {
		if p, err = x.newSegment(ctx); err != nil {
			return err
		}
	}
	done := map[fileDigest]map[signature]bool{}
	for _, s := range old {
		if s.bad {
			continue
		}
		err := x.eachRecord(ctx, s.path, func(r filterRecord) error {
			if !x.seen[r.file] || done[r.file][r.sig] {
				return nil
			}
			if done[r.file] == nil {
				done[r.file] = map[signature]bool{}
			}
			done[r.file][r.sig] = true
			return p.write(r)
		})
		if err != nil {
			return errors.Join(fmt.Errorf("merge the key index: %w", err), p.sink.Abort())
		}
	}
	if p == nil {
		return nil
	}
	if p.count == 0 {
		err = p.sink.Abort()
	} else {
		err = p.close()
	}
	if err != nil {
		return fmt.Errorf("write the key index: %w", err)
	}
	for _, s := range old {
		if err := x.store.Remove(ctx, s.path); err != nil && !storage.IsNotExist(err) {
			return fmt.Errorf("drop a key index segment: %w", err)
		}
	}
	return nil
}

// stale lists the segments to write anew: those with filters of files that are
// gone, or unreadable ones, or all of them when they are many.
func (x *FileIndex) stale() []segment {
	if len(x.seen) == 0 {
		return nil // nothing was planned: nothing is known of what is live
	}
	var out []segment
	for _, s := range x.segments {
		gone := func(d fileDigest) bool { return !x.seen[d] }
		if s.bad || len(x.segments) > maxSegments || slices.ContainsFunc(s.files, gone) {
			out = append(out, s)
		}
	}
	return out
}

// KeyIndexSecret reads the secret of a state bucket's key indexes, or makes one.
// Removing the object makes every index unreadable: the files are scanned again.
func KeyIndexSecret(ctx context.Context, store storage.Store, path string) ([]byte, error) {
	for range 2 {
		raw, err := storage.ReadAll(ctx, store, path)
		switch {
		case err == nil:
			var s struct {
				Secret []byte `json:"secret"`
			}
			if json.Unmarshal(raw, &s) != nil || len(s.Secret) != 32 {
				return nil, fmt.Errorf("key index secret: %w", errCorruptIndex)
			}
			return s.Secret, nil
		case !storage.IsNotExist(err):
			return nil, fmt.Errorf("read the key index secret: %w", err)
		}
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails since Go 1.24
		raw, err = json.Marshal(map[string][]byte{"secret": secret})
		if err != nil {
			return nil, err
		}
		err = storage.WriteAll(ctx, store, path, raw, storage.CreateOptions{IfNotExists: true, Private: true})
		if err == nil {
			return secret, nil
		}
		if !errors.Is(err, storage.ErrExists) {
			return nil, fmt.Errorf("store the key index secret: %w", err)
		}
	}
	return nil, errors.New("the key index secret changes under our hands")
}
