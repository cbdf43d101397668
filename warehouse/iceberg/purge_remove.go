package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// removeBatch is how many objects are removed between two looks at the lease:
// one DeleteObjects request on S3.
const removeBatch = 1000

// The kinds of warehouse.PhysicalDelete.
const (
	kindData     = "data"
	kindDelete   = "delete file"
	kindManifest = "manifest"
	kindList     = "manifest list"
	kindMetadata = "metadata"
	kindStats    = "statistics"
	kindAttempt  = "failed attempt"
)

// The responses of warehouse.PhysicalDelete.
const (
	responseDeleted = "deleted"
	responseGone    = "already gone"
)

// remover removes objects in batches, fenced and recorded. Objects that have
// to go before others are flushed first.
type remover struct {
	t      *Table
	fence  func(context.Context) error
	record func(context.Context, warehouse.PhysicalDelete) error
	// single asks for one request an object, which tells those that are gone
	// already: a former call may have removed them and lost its record.
	single bool
	dry    bool // nothing is removed, what would be is counted

	roots   []string                                            // where the table's own files lie; nil: not asked
	keep    func(context.Context, []removal) ([]removal, error) // what of a batch may go; nil: all
	foreign int64                                               // files elsewhere, or of other tables too, which were left alone
	batch   []removal
}

// removal is one object to be removed; gone is called when it was there.
type removal struct {
	path, kind string
	gone       func()
}

// remove takes an object into the next batch.
func (r *remover) remove(ctx context.Context, path, kind string, gone func()) error {
	if r.roots != nil && !within(r.roots, path) {
		r.foreign++
		return nil
	}
	if r.batch = append(r.batch, removal{path, kind, gone}); len(r.batch) < removeBatch {
		return nil
	}
	return r.flush(ctx)
}

// flush removes what was taken in. What was removed is recorded even when
// another object of the batch could not be.
func (r *remover) flush(ctx context.Context) error {
	batch := r.batch
	if r.batch = nil; len(batch) == 0 {
		return nil
	}
	if r.keep != nil {
		var err error
		if batch, err = r.keep(ctx, batch); err != nil || len(batch) == 0 {
			return err
		}
	}
	if r.dry {
		for _, x := range batch {
			x.gone()
		}
		return nil
	}
	if r.fence != nil {
		if err := r.fence(ctx); err != nil {
			return err
		}
	}
	if r.single {
		for _, x := range batch {
			if err := r.settle(ctx, x, r.t.store.Remove(ctx, x.path)); err != nil {
				return err
			}
		}
		return nil
	}
	paths := make([]string, len(batch))
	for i, x := range batch {
		paths[i] = x.path
	}
	var first error
	for i, err := range storage.RemoveAll(ctx, r.t.store, paths) {
		if err := r.settle(ctx, batch[i], err); first == nil {
			first = err
		}
	}
	return first
}

// settle records the outcome of one removal. It is idempotent: an object that
// is gone already is evidence as well.
func (r *remover) settle(ctx context.Context, x removal, err error) error {
	d := warehouse.PhysicalDelete{Path: x.path, Kind: x.kind, Response: responseDeleted}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.Response = responseGone
	case err != nil:
		return fmt.Errorf("remove %s: %w", x.kind, hide(err))
	}
	d.Time = clock.Now(ctx)
	if d.Response == responseDeleted && x.gone != nil {
		x.gone()
	}
	if r.record == nil {
		return nil
	}
	if err := r.record(ctx, d); err != nil {
		return fmt.Errorf("record removal: %w", err)
	}
	return nil
}
