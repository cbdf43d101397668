package gcs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/expunge/expunge/internal/clock"
	store "github.com/expunge/expunge/internal/storage"
)

// writer is one resumable upload. The client repeats its chunks; once it has
// given up, the object has to be written anew.
type writer struct {
	ctx    context.Context
	cancel context.CancelFunc
	w      *storage.Writer
	path   string
	o      store.CreateOptions
	closed bool
	err    error
}

// Create starts an object.
func (b *bucket) Create(ctx context.Context, path string, o store.CreateOptions) (store.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fail(ctx, "create", path, err)
	}
	handle := b.object(path)
	switch {
	case o.IfNotExists:
		handle = handle.If(storage.Conditions{DoesNotExist: true})
	case o.IfMatch != "":
		g, ok := generation(o.IfMatch)
		if !ok {
			return nil, store.NewError("create", path, store.ErrPrecondition, "", nil)
		}
		handle = handle.If(storage.Conditions{GenerationMatch: g})
	}
	upload, cancel := context.WithCancel(ctx)
	w := handle.Retryer(storage.WithPolicy(storage.RetryAlways), storage.WithMaxAttempts(4)).NewWriter(upload)
	w.ChunkSize = 8 << 20
	apply(w, o)
	return &writer{ctx: ctx, cancel: cancel, w: w, path: path, o: o}, nil
}

func apply(w *storage.Writer, o store.CreateOptions) {
	a := store.Attributes{ContentType: o.ContentType, Metadata: o.Metadata}
	if o.Like != nil {
		a = *o.Like
	}
	w.ContentType, w.ContentEncoding, w.ContentDisposition = a.ContentType, a.ContentEncoding, a.ContentDisposition
	w.ContentLanguage, w.CacheControl, w.Metadata = a.ContentLanguage, a.CacheControl, a.Metadata
	w.StorageClass, w.KMSKeyName = a.StorageClass, a.EncryptionKey
	w.ForceEmptyContentType = a.ContentType == "" && o.Like != nil
}

func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, store.NewError("write", w.path, nil, "", fs.ErrClosed)
	}
	n, err := w.w.Write(p)
	if err != nil {
		w.err = w.fail("write", err)
	}
	return n, w.err
}

func (w *writer) fail(op string, err error) error {
	err = fail(w.ctx, op, w.path, err)
	if errors.Is(err, store.ErrPrecondition) && w.o.IfNotExists {
		return store.NewError(op, w.path, store.ErrExists, "", nil)
	}
	if store.IsNotExist(err) && w.o.IfMatch != "" {
		return store.NewError(op, w.path, store.ErrPrecondition, "", nil)
	}
	return err
}

func (w *writer) Close() error {
	if w.closed {
		return w.err
	}
	if w.err != nil {
		err := w.err
		_ = w.Abort()
		return err
	}
	w.closed = true
	if err := w.w.Close(); err != nil {
		w.err = w.fail("close", err)
	}
	w.cancel()
	return w.err
}

func (w *writer) Abort() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if w.err == nil {
		w.err = store.NewError("close", w.path, nil, "", fs.ErrClosed)
	}
	w.cancel() // an upload whose context is done stores nothing
	_ = w.w.Close()
	return nil
}

// Remove deletes the live object. Where the bucket keeps versions, or removed
// objects for a while, the content stays: see Versions and Retention.
func (b *bucket) Remove(ctx context.Context, path string) error {
	return fail(ctx, "remove", path, b.object(path).Delete(ctx))
}

// RemoveIf deletes an object while it is that generation.
func (b *bucket) RemoveIf(ctx context.Context, path, etag string) error {
	g, ok := generation(etag)
	if !ok {
		return store.NewError("remove", path, store.ErrPrecondition, "", nil)
	}
	return fail(ctx, "remove", path, b.object(path).If(storage.Conditions{GenerationMatch: g}).Delete(ctx))
}

// list yields what a query finds, in the order of names.
func (b *bucket) list(ctx context.Context, path string, q *storage.Query) iter.Seq2[*storage.ObjectAttrs, error] {
	return func(yield func(*storage.ObjectAttrs, error) bool) {
		q.Prefix = store.ParseLocation(path).Key
		q.Projection = storage.ProjectionNoACL
		it := b.handle.Objects(ctx, q)
		for {
			a, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(nil, fail(ctx, "list", path, err))
				return
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// List yields the live objects of a prefix.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		for a, err := range b.list(ctx, prefix, &storage.Query{}) {
			if err != nil {
				yield(store.Info{}, err)
				return
			}
			if !yield(b.info(a), nil) {
				return
			}
		}
	}
}

// Versions yields every generation by name, latest first.
func (b *bucket) Versions(ctx context.Context, prefix string) iter.Seq2[store.Version, error] {
	return func(yield func(store.Version, error) bool) {
		var same []store.Version // of one name, in ascending order
		flush := func() bool {
			slices.Reverse(same)
			for _, v := range same {
				if !yield(v, nil) {
					return false
				}
			}
			same = same[:0]
			return true
		}
		for a, err := range b.list(ctx, prefix, &storage.Query{Versions: true}) {
			if err != nil {
				yield(store.Version{}, err)
				return
			}
			v := store.Version{Info: b.info(a), Latest: a.Deleted.IsZero()}
			if len(same) > 0 && same[0].Path != v.Path && !flush() {
				return
			}
			same = append(same, v)
		}
		flush()
	}
}

// RemoveVersion deletes one generation.
func (b *bucket) RemoveVersion(ctx context.Context, v store.Version) error {
	g, ok := generation(v.Version)
	if !ok {
		return store.NewError("remove version", v.Path, store.ErrPrecondition, "no version id", nil)
	}
	err := fail(ctx, "remove version", v.Path, b.object(v.Path).Generation(g).Delete(ctx))
	if store.IsNotExist(err) {
		return nil
	}
	return err
}

// Retention reads the bucket's versioning and soft-delete policy.
func (b *bucket) Retention(ctx context.Context, path string) (store.Retention, error) {
	a, err := b.handle.Attrs(ctx)
	if err != nil {
		return store.Retention{}, fail(ctx, "read retention", path, err)
	}
	r := store.Retention{Versioned: a.VersioningEnabled}
	if a.SoftDeletePolicy != nil {
		r.SoftDelete = a.SoftDeletePolicy.RetentionDuration
	}
	return r, nil
}

// Attributes reads what an object carries besides its content.
func (b *bucket) Attributes(ctx context.Context, path string) (*store.Attributes, error) {
	a, err := b.object(path).Attrs(ctx)
	if err != nil {
		return nil, fail(ctx, "stat", path, err)
	}
	return described(ctx, a), nil
}

// VersionAttributes reads what a generation carries besides its content.
func (b *bucket) VersionAttributes(ctx context.Context, v store.Version) (*store.Attributes, error) {
	g, ok := generation(v.Version)
	if !ok {
		return nil, store.NewError("stat", v.Path, store.ErrPrecondition, "no version id", nil)
	}
	a, err := b.object(v.Path).Generation(g).Attrs(ctx)
	if err != nil {
		return nil, fail(ctx, "stat", v.Path, err)
	}
	return described(ctx, a), nil
}

func described(ctx context.Context, a *storage.ObjectAttrs) *store.Attributes {
	out := &store.Attributes{
		ContentType: a.ContentType, ContentEncoding: a.ContentEncoding, ContentDisposition: a.ContentDisposition,
		ContentLanguage: a.ContentLanguage, CacheControl: a.CacheControl, Metadata: a.Metadata,
		StorageClass: a.StorageClass, EncryptionKey: keyName(a.KMSKeyName),
	}
	switch {
	case a.EventBasedHold, a.TemporaryHold:
		out.Locked = "hold"
	case a.RetentionExpirationTime.After(clock.Now(ctx)):
		out.LockedUntil = a.RetentionExpirationTime.UTC()
		out.Locked = "retention until " + out.LockedUntil.Format(time.DateOnly)
	}
	return out
}

// keyName is a KMS key without the version that the service appends: a write
// names the key alone.
func keyName(name string) string {
	const versions = "/cryptoKeyVersions/"
	for i := range name {
		if len(name)-i > len(versions) && name[i:i+len(versions)] == versions {
			return name[:i]
		}
	}
	return name
}
