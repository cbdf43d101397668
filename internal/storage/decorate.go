package storage

import (
	"context"
	"errors"
	"io/fs"
	"iter"
)

// Op is a kind of storage operation.
type Op uint8

// The operations that a decorator sees.
const (
	OpOpen Op = iota + 1
	OpStat
	OpRead
	OpList
	OpCreate
	OpWrite
	OpCopyRange
	OpClose // makes a written object visible
	OpAbort
	OpRemove
	opEnd
)

var opNames = [opEnd]string{"", "open", "stat", "read", "list", "create", "write", "copy range", "close", "abort", "remove"}

func (o Op) String() string {
	if o < opEnd {
		return opNames[o]
	}
	return "?"
}

// Mutates says whether the operation changes what is stored.
func (o Op) Mutates() bool {
	switch o {
	case OpCreate, OpWrite, OpCopyRange, OpClose, OpRemove:
		return true
	}
	return false
}

// Call is one operation on its way to the back end.
type Call struct {
	Op       Op
	Path     string
	Bytes    int64 // to be read, written or copied
	Requests int   // about how many requests it costs
	// Repeatable: after a transient error the same call may be made again.
	Repeatable bool
}

// layer is what one decorator does around a call: it runs next zero or more times.
type layer func(ctx context.Context, c *Call, next func(context.Context) error) error

// decorated runs every operation of a Store through a layer. It has all the
// optional interfaces, so a decorator never hides one.
type decorated struct {
	inner Store
	do    layer
}

func decorate(s Store, l layer) Store { return &decorated{inner: s, do: l} }

// listPage is how many listed objects count as one request.
const listPage = 1000

// partBytes is how many written bytes count as one request.
const partBytes = 8 << 20

func (d *decorated) Open(ctx context.Context, path string) (o Object, err error) {
	err = d.call(ctx, OpOpen, path, func(ctx context.Context) error {
		o, err = d.inner.Open(ctx, path)
		return err
	})
	return d.object(ctx, o, err)
}

func (d *decorated) OpenKnown(ctx context.Context, known Info) (o Object, err error) {
	c := &Call{Op: OpOpen, Path: known.Path, Repeatable: true}
	err = d.do(ctx, c, func(ctx context.Context) error {
		o, err = OpenKnown(ctx, d.inner, known)
		return err
	})
	return d.object(ctx, o, err)
}

func (d *decorated) OpenVersion(ctx context.Context, v Version) (o Object, err error) {
	err = d.do(ctx, &Call{Op: OpOpen, Path: v.Path, Repeatable: true}, func(ctx context.Context) error {
		o, err = OpenVersion(ctx, d.inner, v)
		return err
	})
	return d.object(ctx, o, err)
}

func (d *decorated) object(ctx context.Context, o Object, err error) (Object, error) {
	if err != nil {
		if o != nil {
			o.Close()
		}
		return nil, err
	}
	return &decoratedObject{Object: o, d: d, ctx: ctx}, nil
}

func (d *decorated) Stat(ctx context.Context, path string) (info Info, err error) {
	err = d.call(ctx, OpStat, path, func(ctx context.Context) error {
		info, err = Stat(ctx, d.inner, path)
		return err
	})
	return info, err
}

func (d *decorated) Attributes(ctx context.Context, path string) (a *Attributes, err error) {
	err = d.call(ctx, OpStat, path, func(ctx context.Context) error {
		a, err = GetAttributes(ctx, d.inner, path)
		return err
	})
	return a, err
}

func (d *decorated) VersionAttributes(ctx context.Context, v Version) (a *Attributes, err error) {
	err = d.call(ctx, OpStat, v.Path, func(ctx context.Context) error {
		a, err = VersionAttributes(ctx, d.inner, v)
		return err
	})
	return a, err
}

func (d *decorated) Retention(ctx context.Context, path string) (r Retention, err error) {
	err = d.call(ctx, OpStat, path, func(ctx context.Context) error {
		r, err = GetRetention(ctx, d.inner, path)
		return err
	})
	return r, err
}

// call runs a simple operation of one request that may be repeated.
func (d *decorated) call(ctx context.Context, op Op, path string, next func(context.Context) error) error {
	return d.do(ctx, &Call{Op: op, Path: path, Requests: 1, Repeatable: true}, next)
}

func (d *decorated) Create(ctx context.Context, path string, o CreateOptions) (Writer, error) {
	var w Writer
	c := &Call{Op: OpCreate, Path: path, Repeatable: true}
	err := d.do(ctx, c, func(ctx context.Context) error {
		if w != nil {
			_ = w.Abort()
			w = nil
		}
		var err error
		w, err = d.inner.Create(ctx, path, o)
		return err
	})
	if err != nil {
		if w != nil {
			_ = w.Abort()
		}
		return nil, err
	}
	return &decoratedWriter{inner: w, d: d, ctx: ctx, path: path}, nil
}

func (d *decorated) Remove(ctx context.Context, path string) error {
	return d.remove(ctx, path, func(ctx context.Context) error { return d.inner.Remove(ctx, path) })
}

func (d *decorated) RemoveIf(ctx context.Context, path, etag string) error {
	return d.remove(ctx, path, func(ctx context.Context) error { return RemoveIf(ctx, d.inner, path, etag) })
}

func (d *decorated) RemoveVersion(ctx context.Context, v Version) error {
	return d.remove(ctx, v.Path, func(ctx context.Context) error { return RemoveVersion(ctx, d.inner, v) })
}

func (d *decorated) RemoveUnfinished(ctx context.Context, u Upload) error {
	return d.remove(ctx, u.Path, func(ctx context.Context) error { return RemoveUnfinished(ctx, d.inner, u) })
}

// remove runs a removal. When an earlier try may have had its effect, that the
// object is gone now is what was wanted.
func (d *decorated) remove(ctx context.Context, path string, next func(context.Context) error) error {
	tries := 0
	return d.call(ctx, OpRemove, path, func(ctx context.Context) error {
		tries++
		err := next(ctx)
		if tries > 1 && IsNotExist(err) {
			return nil
		}
		return err
	})
}

// RemoveAll is one call a page of paths where the store below removes many at
// once, and one a path elsewhere.
func (d *decorated) RemoveAll(ctx context.Context, paths []string) []error {
	if !removesBulk(d.inner) {
		errs := make([]error, len(paths))
		for i, p := range paths {
			if err := d.Remove(ctx, p); err != nil && !IsNotExist(err) {
				errs[i] = err
			}
		}
		return errs
	}
	errs := make([]error, len(paths))
	for start := 0; start < len(paths); start += listPage {
		part := paths[start:min(start+listPage, len(paths))]
		d.removePart(ctx, part, errs[start:start+len(part)])
	}
	return errs
}

func removesBulk(s Store) bool {
	if d, ok := s.(*decorated); ok {
		return removesBulk(d.inner)
	}
	_, ok := s.(BulkRemover)
	return ok
}

// removePart removes up to a page of objects in one call; a retry repeats only
// those that failed.
func (d *decorated) removePart(ctx context.Context, paths []string, errs []error) {
	todo := make([]int, len(paths))
	for i := range todo {
		todo[i] = i
	}
	err := d.call(ctx, OpRemove, paths[0], func(ctx context.Context) error {
		part := make([]string, len(todo))
		for j, i := range todo {
			part[j] = paths[i]
		}
		var again []int
		var transient error
		for j, err := range RemoveAll(ctx, d.inner, part) {
			errs[todo[j]] = err
			if IsTransient(err) {
				again, transient = append(again, todo[j]), err
			}
		}
		todo = again
		return transient
	})
	if err == nil {
		return
	}
	for _, i := range todo { // never tried, or still failing
		if errs[i] == nil {
			errs[i] = err
		}
	}
}

func (d *decorated) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return listed(ctx, d, prefix, func(ctx context.Context) iter.Seq2[Info, error] { return d.inner.List(ctx, prefix) },
		func(i Info) string { return i.Path })
}

func (d *decorated) Versions(ctx context.Context, prefix string) iter.Seq2[Version, error] {
	return listed(ctx, d, prefix, func(ctx context.Context) iter.Seq2[Version, error] { return Versions(ctx, d.inner, prefix) }, nil)
}

func (d *decorated) Unfinished(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	return listed(ctx, d, prefix, func(ctx context.Context) iter.Seq2[Upload, error] { return Unfinished(ctx, d.inner, prefix) }, nil)
}

// errConsumerDone ends a listing that its consumer has had enough of.
var errConsumerDone = errors.New("consumer is done")

// listed runs a listing as one call a page. A call that is repeated goes on
// behind the last item that was yielded, which order makes possible; without
// an order only the beginning can be repeated.
func listed[T any](ctx context.Context, d *decorated, prefix string, list func(context.Context) iter.Seq2[T, error], path func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last string
		count := 0
		err := d.do(ctx, &Call{Op: OpList, Path: prefix, Requests: 1, Repeatable: true}, func(ctx context.Context) error {
			resumed := count > 0
			for item, err := range list(ctx) {
				if err != nil {
					if path == nil && count > 0 {
						return notRepeatable{err}
					}
					return err
				}
				if resumed && path != nil && path(item) <= last {
					continue
				}
				if count++; count%listPage == 0 {
					if err := d.do(ctx, &Call{Op: OpList, Path: prefix, Requests: 1}, func(context.Context) error { return nil }); err != nil {
						return notRepeatable{err}
					}
				}
				if path != nil {
					last = path(item)
				}
				if !yield(item, nil) {
					return errConsumerDone
				}
			}
			return nil
		})
		if err == nil || errors.Is(err, errConsumerDone) {
			return
		}
		var final notRepeatable
		if errors.As(err, &final) {
			err = final.error
		}
		var zero T
		yield(zero, err)
	}
}

// notRepeatable keeps a retry away from an error that is transient in itself.
type notRepeatable struct{ error }

type decoratedObject struct {
	Object
	d   *decorated
	ctx context.Context
}

// Unwrap returns the object below.
func (o *decoratedObject) Unwrap() Object { return o.Object }

func (o *decoratedObject) ReadAt(p []byte, off int64) (int, error) {
	var n int
	var end error // io.EOF is a result, no failure
	c := &Call{Op: OpRead, Path: o.Info().Path, Bytes: int64(len(p)), Requests: 1, Repeatable: true}
	err := o.d.do(o.ctx, c, func(context.Context) error {
		var err error
		n, err = o.Object.ReadAt(p[:min(c.Bytes, int64(len(p)))], off)
		if end = nil; isEOF(err) {
			end, err = err, nil
		}
		return err
	})
	if err != nil {
		return n, err
	}
	return n, end
}

// Base returns the object below all decorators.
func Base(o Object) Object {
	for {
		u, ok := o.(interface{ Unwrap() Object })
		if !ok {
			return o
		}
		o = u.Unwrap()
	}
}

type decoratedWriter struct {
	inner   Writer
	d       *decorated
	ctx     context.Context
	path    string
	written int64
	closed  bool
	err     error
}

// Resumable is an optional interface of a Writer: after a transient error the
// rest of a Write, or Close, may be tried again on the same Writer.
type Resumable interface{ Resumable() bool }

// Resumable says what the writer below says.
func (w *decoratedWriter) Resumable() bool {
	r, ok := w.inner.(Resumable)
	return ok && r.Resumable()
}

// Spliced says what the writer below says.
func (w *decoratedWriter) Spliced() (int64, string) { return Spliced(w.inner) }

// Parts says what the writer below says.
func (w *decoratedWriter) Parts() (copied, uploaded int) { return Parts(w.inner) }

// parts counts the requests that writing n more bytes costs.
func (w *decoratedWriter) parts(n int64) int {
	before := w.written / partBytes
	w.written += n
	return int(w.written/partBytes - before)
}

func (w *decoratedWriter) Write(p []byte) (int, error) {
	n := 0
	c := &Call{Op: OpWrite, Path: w.path, Bytes: int64(len(p)), Requests: w.parts(int64(len(p))), Repeatable: w.Resumable()}
	err := w.d.do(w.ctx, c, func(context.Context) error {
		m, err := w.inner.Write(p[n:max(int64(n), min(c.Bytes, int64(len(p))))])
		n += m
		return err
	})
	return n, err
}

func (w *decoratedWriter) CopyRange(src Object, off, n int64) error {
	rc, ok := w.inner.(RangeCopier)
	if !ok {
		return NewError("copy range", w.path, ErrUnsupported, "", nil)
	}
	c := &Call{Op: OpCopyRange, Path: w.path, Bytes: n, Requests: w.parts(n), Repeatable: w.Resumable()}
	done := false
	return w.d.do(w.ctx, c, func(context.Context) error {
		if done {
			return nil // a failure that was reported after the effect
		}
		err := rc.CopyRange(src, off, n)
		done = err == nil
		return err
	})
}

func (w *decoratedWriter) Close() error {
	if w.closed {
		return w.err
	}
	c := &Call{Op: OpClose, Path: w.path, Requests: 1, Repeatable: w.Resumable()}
	w.err = w.d.do(w.ctx, c, func(context.Context) error { return w.inner.Close() })
	if !IsTransient(w.err) {
		w.closed = true
	}
	if w.closed && w.err != nil {
		// A decorator may have refused before the writer below was closed: its
		// temporary file or upload must not stay. After a Close this does nothing.
		_ = w.inner.Abort()
	}
	return w.err
}

func (w *decoratedWriter) Abort() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if w.err == nil {
		w.err = NewError("close", w.path, nil, "", fs.ErrClosed)
	}
	c := &Call{Op: OpAbort, Path: w.path, Requests: 1, Repeatable: true}
	// The context may be what ended the write, and what was written must not stay.
	return w.d.do(context.WithoutCancel(w.ctx), c, func(context.Context) error { return w.inner.Abort() })
}
