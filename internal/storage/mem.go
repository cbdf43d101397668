package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/expunge/expunge/internal/clock"
)

// Mem is a Store in memory, for tests. It keeps conditions, ETags and
// attributes as S3 does.
type Mem struct {
	mu      sync.Mutex
	objects map[string]*memEntry
	writes  int64
}

type memEntry struct {
	data  []byte
	etag  string
	at    time.Time
	attrs Attributes
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{objects: map[string]*memEntry{}} }

var memBuckets sync.Map // bucket name -> *Mem

// sharedMem is the store behind mem://bucket/, one for the whole process.
func sharedMem(bucket string) *Mem {
	m, _ := memBuckets.LoadOrStore(bucket, NewMem())
	return m.(*Mem)
}

func (m *Mem) get(op, path string) (*memEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.objects[path]
	if !ok {
		return nil, NewError(op, path, fs.ErrNotExist, "", nil)
	}
	return e, nil
}

func (e *memEntry) info(path string) Info {
	return Info{Path: path, Size: int64(len(e.data)), ETag: e.etag, ModTime: e.at}
}

type memObject struct {
	m    *Mem
	ctx  context.Context
	info Info
}

// Open opens an object.
func (m *Mem) Open(ctx context.Context, path string) (Object, error) {
	info, err := m.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	return m.OpenKnown(ctx, info)
}

// OpenKnown opens an object without looking whether it is there.
func (m *Mem) OpenKnown(ctx context.Context, known Info) (Object, error) {
	return &memObject{m: m, ctx: ctx, info: known}, nil
}

// Stat describes an object.
func (m *Mem) Stat(ctx context.Context, path string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, wrapErr("stat", path, err)
	}
	e, err := m.get("open", path)
	if err != nil {
		return Info{}, err
	}
	return e.info(path), nil
}

// Retention is none.
func (m *Mem) Retention(context.Context, string) (Retention, error) { return Retention{}, nil }

// Attributes returns what Create stored.
func (m *Mem) Attributes(_ context.Context, path string) (*Attributes, error) {
	e, err := m.get("stat", path)
	if err != nil {
		return nil, err
	}
	a := e.attrs
	return &a, nil
}

func (o *memObject) Info() Info   { return o.info }
func (o *memObject) Close() error { return nil }

func (o *memObject) ReadAt(p []byte, off int64) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, wrapErr("read", o.info.Path, err)
	}
	e, err := o.m.get("read", o.info.Path)
	if err != nil {
		return 0, err
	}
	if o.info.ETag != "" && e.etag != o.info.ETag {
		return 0, NewError("read", o.info.Path, ErrPrecondition, "", nil)
	}
	return bytes.NewReader(e.data).ReadAt(p, off)
}

type memWriter struct {
	m      *Mem
	ctx    context.Context
	path   string
	o      CreateOptions
	buf    []byte
	closed bool
	err    error
}

// Create starts an object.
func (m *Mem) Create(ctx context.Context, path string, o CreateOptions) (Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrapErr("create", path, err)
	}
	return &memWriter{m: m, ctx: ctx, path: path, o: o}, nil
}

func (w *memWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, NewError("write", w.path, nil, "", fs.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return 0, wrapErr("write", w.path, err)
	}
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// CopyRange copies from another object in memory.
func (w *memWriter) CopyRange(src Object, off, n int64) error {
	o, ok := Base(src).(*memObject)
	if !ok {
		return NewError("copy range", w.path, ErrUnsupported, "", nil)
	}
	buf := make([]byte, n)
	if m, err := o.ReadAt(buf, off); int64(m) < n {
		if isEOF(err) {
			err = io.ErrUnexpectedEOF
		}
		return wrapErr("copy range", w.path, err)
	}
	_, err := w.Write(buf)
	return err
}

func (w *memWriter) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	w.err = w.publish()
	w.buf = nil
	return w.err
}

func (w *memWriter) publish() error {
	if err := w.ctx.Err(); err != nil {
		return wrapErr("close", w.path, err)
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	old, ok := w.m.objects[w.path]
	if w.o.IfNotExists && ok {
		return NewError("close", w.path, ErrExists, "", nil)
	}
	if w.o.IfMatch != "" && (!ok || old.etag != w.o.IfMatch) {
		return NewError("close", w.path, ErrPrecondition, "", nil)
	}
	w.m.writes++
	sum := sha256.Sum256(w.buf)
	attrs := Attributes{ContentType: w.o.ContentType, Metadata: w.o.Metadata}
	if w.o.Like != nil {
		attrs = *w.o.Like
	}
	w.m.objects[w.path] = &memEntry{
		data:  w.buf,
		etag:  hex.EncodeToString(sum[:8]) + "-" + strconv.FormatInt(w.m.writes, 10),
		at:    clock.Now(w.ctx),
		attrs: attrs,
	}
	return nil
}

func (w *memWriter) Abort() error {
	if !w.closed {
		w.closed, w.buf = true, nil
		w.err = NewError("close", w.path, nil, "", fs.ErrClosed)
	}
	return nil
}

// Remove removes an object.
func (m *Mem) Remove(ctx context.Context, path string) error { return m.RemoveIf(ctx, path, "") }

// RemoveIf removes an object while it has that ETag.
func (m *Mem) RemoveIf(ctx context.Context, path, etag string) error {
	if err := ctx.Err(); err != nil {
		return wrapErr("remove", path, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.objects[path]
	if !ok {
		return NewError("remove", path, fs.ErrNotExist, "", nil)
	}
	if etag != "" && e.etag != etag {
		return NewError("remove", path, ErrPrecondition, "", nil)
	}
	delete(m.objects, path)
	return nil
}

// List yields the objects that were there when it began.
func (m *Mem) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		m.mu.Lock()
		var infos []Info
		for path, e := range m.objects {
			if strings.HasPrefix(path, prefix) {
				infos = append(infos, e.info(path))
			}
		}
		m.mu.Unlock()
		slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Path, b.Path) })
		for _, info := range infos {
			if err := ctx.Err(); err != nil {
				yield(Info{}, wrapErr("list", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}
