package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// Kinds of what a purge removes.
const (
	kindOwn     = "run's own copy"
	kindVersion = "noncurrent version"
	kindMarker  = "delete marker"
	kindUpload  = "unfinished upload"
)

// Purge removes the run's protected copies, and, on a versioned bucket, every
// noncurrent version of the target's objects that holds an erased key, whoever
// wrote it, with the delete markers that hide nothing any more. Versions are
// read to know: keys are exact, never prefixes. What the store does not let go
// stays: it is a blocker, unless the store has a date for it (see Kept).
func (t *Target) Purge(ctx context.Context, req warehouse.PurgeRequest) (*warehouse.Purged, error) {
	r := &remover{t: t, req: &req, record: req.Record, blocked: map[blocked]int64{}}
	bound, err := t.Bind(ctx, req.Selection)
	if err != nil {
		return nil, err
	}
	keep, err := t.Retention(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("ask the bucket what it keeps: %w", err)
	}
	if keep.Versioned {
		if err := r.versions(ctx, bound); err != nil {
			return nil, err
		}
	}
	if !req.DryRun { // before the run's folder goes, which says which uploads are its own
		if err := r.uploads(ctx, req.RunID); err != nil {
			return nil, err
		}
	}
	if err := r.own(ctx, req.RunID); err != nil {
		return nil, err
	}
	if r.out.After, err = t.Describe(ctx); err != nil {
		return nil, err
	}
	for b, n := range r.blocked {
		r.out.Blockers = append(r.out.Blockers, warehouse.Blocker{Ref: fmt.Sprintf("%d × %s", n, b.kind), Type: "files", Reason: b.reason})
	}
	slices.SortFunc(r.out.Blockers, func(a, b warehouse.Blocker) int { return strings.Compare(a.Ref+a.Reason, b.Ref+b.Reason) })
	return &r.out, nil
}

// CleanAttempts removes everything below the run's folder.
func (t *Target) CleanAttempts(ctx context.Context, runID string, record func(context.Context, warehouse.PhysicalDelete) error) (int64, error) {
	r := &remover{t: t, req: &warehouse.PurgeRequest{}, record: record, blocked: map[blocked]int64{}}
	err := r.uploads(ctx, runID)
	if err == nil {
		err = r.own(ctx, runID)
	}
	return r.out.FilesRemoved, err
}

// CleanStaged removes the new contents that a commit has put in their places.
func (t *Target) CleanStaged(ctx context.Context, runID string) error {
	r := &remover{t: t, req: &warehouse.PurgeRequest{}, blocked: map[blocked]int64{}}
	return r.under(ctx, t.runFolder(runID)+"new/")
}

type remover struct {
	t       *Target
	req     *warehouse.PurgeRequest
	record  func(context.Context, warehouse.PhysicalDelete) error
	mu      sync.Mutex
	out     warehouse.Purged
	blocked map[blocked]int64 // what could not go
	steps   int
}

// blocked is why things of one kind could not go.
type blocked struct{ kind, reason string }

func (r *remover) fence(ctx context.Context) error {
	r.steps++
	if r.req.Fence == nil || r.steps%fenceEvery != 1 {
		return nil
	}
	return r.req.Fence(ctx)
}

func (r *remover) removed(ctx context.Context, kind string, info storage.Info) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.FilesRemoved++
	r.out.BytesRemoved += info.Size
	if r.record == nil || r.req.DryRun {
		return nil
	}
	return r.record(ctx, warehouse.PhysicalDelete{Path: info.Path, Kind: kind, Version: info.Version, Response: "deleted", Time: clock.Now(ctx)})
}

// own removes the run's folder.
func (r *remover) own(ctx context.Context, runID string) error {
	return r.under(ctx, r.t.runFolder(runID))
}

// under removes all objects of a folder of the run's own, all their versions included.
func (r *remover) under(ctx context.Context, folder string) error {
	var batch []storage.Info
	flush := func() error {
		if len(batch) == 0 || r.req.DryRun {
			batch = batch[:0]
			return nil
		}
		if err := r.fence(ctx); err != nil {
			return err
		}
		paths := make([]string, len(batch))
		for i, info := range batch {
			paths[i] = info.Path
		}
		for i, err := range storage.RemoveAll(ctx, r.t.store, paths) {
			if errors.Is(err, fs.ErrPermission) {
				r.block(kindOwn, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("remove the run's own copies: %w", err)
			}
			if err := r.removed(ctx, kindOwn, batch[i]); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return nil
	}
	for info, err := range r.t.store.List(ctx, folder) {
		if err != nil {
			return fmt.Errorf("list the run's own copies: %w", err)
		}
		if r.req.DryRun {
			if err := r.removed(ctx, kindOwn, info); err != nil {
				return err
			}
			continue
		}
		if batch = append(batch, info); len(batch) == 500 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil || r.req.DryRun {
		return err
	}
	return r.t.forgetVersions(ctx, folder)
}

// forgetVersions removes every version and marker of what this program wrote
// for itself: of one path, or of a folder that ends in a slash.
func (t *Target) forgetVersions(ctx context.Context, at string) error {
	keep, err := t.Retention(ctx, at)
	if err != nil || !keep.Versioned {
		return err
	}
	for v, err := range storage.Versions(ctx, t.store, at) {
		if err != nil {
			return fmt.Errorf("list versions of the run's own copies: %w", err)
		}
		if v.Path != at && !strings.HasSuffix(at, "/") {
			continue
		}
		err := storage.RemoveVersion(ctx, t.store, v)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// A bucket that locks whatever is written to it locks these too. They hold no
		// erased record: on a versioned bucket no old content is copied.
		if a, aerr := storage.VersionAttributes(ctx, t.store, v); aerr == nil && a.Locked != "" {
			continue
		}
		return fmt.Errorf("remove versions of the run's own copies: %w", err)
	}
	return nil
}

// versions walks all versions of the prefix, one key's at a time.
func (r *remover) versions(ctx context.Context, bound []warehouse.BoundMatch) error {
	p := pool.New().WithMaxGoroutines(r.t.cfg.Workers).WithContext(ctx).WithCancelOnError().WithFirstError()
	var key []storage.Version
	var listErr error
	hand := func() {
		if len(key) == 0 || len(key) == 1 && key[0].Latest && !key[0].DeleteMarker {
			key = nil
			return
		}
		versions := key
		key = nil
		p.Go(func(ctx context.Context) error { return r.key(ctx, versions, bound) })
	}
	for v, err := range storage.Versions(ctx, r.t.store, r.t.prefix) {
		if err != nil {
			listErr = fmt.Errorf("list versions: %w", err)
			break
		}
		if len(key) > 0 && key[0].Path != v.Path {
			hand()
			if listErr = r.fence(ctx); listErr != nil {
				break
			}
		}
		key = append(key, v)
	}
	if listErr == nil {
		hand()
	}
	if err := p.Wait(); err != nil {
		return err
	}
	return listErr
}

// key removes the noncurrent versions of one object that hold an erased key. A
// delete marker goes when no version is left that it hides: otherwise removing
// it would bring an old version back to life.
func (r *remover) key(ctx context.Context, versions []storage.Version, bound []warehouse.BoundMatch) error {
	var marker *storage.Version
	hides, gone := 0, 0
	for _, v := range versions {
		if v.DeleteMarker {
			if v.Latest {
				marker = &v
			}
			continue
		}
		if v.Latest {
			hides++
			continue
		}
		went, err := r.version(ctx, v, bound)
		if err != nil {
			return err
		}
		if !went {
			hides++
			continue
		}
		gone++
		if err := r.removed(ctx, kindVersion, v.Info); err != nil {
			return err
		}
	}
	if marker == nil || gone == 0 || hides > 0 {
		return nil
	}
	return r.markers(ctx, versions)
}

// version removes a noncurrent version if it holds an erased key.
func (r *remover) version(ctx context.Context, v storage.Version, bound []warehouse.BoundMatch) (gone bool, err error) {
	keys, hit, err := r.t.holds(ctx, v, bound)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, err
	case err != nil:
		r.block(kindVersion, err)
		return false, nil
	case !hit:
		return false, nil
	case r.t.cfg.Versions == "report":
		r.block(kindVersion, errReported)
		return false, nil
	case r.req.DryRun:
		return true, nil
	}
	if err := r.found(ctx, v.Info, keys); err != nil {
		return false, err
	}
	err = storage.RemoveVersion(ctx, r.t.store, v)
	if err == nil {
		return true, nil
	}
	if storage.IsTransient(err) || ctx.Err() != nil {
		return false, fmt.Errorf("remove a noncurrent version: %w", err)
	}
	why, until := r.t.keeps(ctx, v)
	switch {
	case why != "" && !until.IsZero():
		return false, nil // residue with a date: see Kept
	case why != "":
		r.note(kindVersion, why)
	case errors.Is(err, fs.ErrPermission):
		r.block(kindVersion, err)
	default:
		return false, fmt.Errorf("remove a noncurrent version: %w", err)
	}
	return false, nil
}

// found tells of the keys of a version that is about to be removed.
func (r *remover) found(ctx context.Context, v storage.Info, keys []*roaring64.Bitmap) error {
	if r.req.Found == nil {
		return nil
	}
	return tell(func(h warehouse.Held) error { return r.req.Found(ctx, h) }, v, keys)
}

// markers removes all delete markers of a key of which nothing else is left.
func (r *remover) markers(ctx context.Context, versions []storage.Version) error {
	for _, v := range versions {
		if !v.DeleteMarker {
			continue
		}
		if !r.req.DryRun {
			err := storage.RemoveVersion(ctx, r.t.store, v)
			if errors.Is(err, fs.ErrPermission) {
				r.block(kindMarker, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("remove a delete marker: %w", err)
			}
		}
		if err := r.removed(ctx, kindMarker, v.Info); err != nil {
			return err
		}
	}
	return nil
}

// errReported: the job asks for versions to be reported only.
var errReported = errors.New("policy reports noncurrent versions")

func (r *remover) block(kind string, err error) { r.note(kind, blockReason(err)) }

func (r *remover) note(kind, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked[blocked{kind, reason}]++
}

func blockReason(err error) string {
	switch {
	case errors.Is(err, errReported):
		return "holds erased records; the job's policy is to report versions"
	case errors.Is(err, storage.ErrArchived):
		return "archived storage class: restore it, and a later run sees whether it holds erased records"
	case errors.Is(err, storage.ErrLocked):
		return storage.ErrLocked.Error()
	case errors.Is(err, fs.ErrPermission):
		return "access denied"
	}
	return "could not be read to see whether it holds erased records"
}

// holds says whether a version of a data object has a record with a key, and,
// by match, which keys.
func (t *Target) holds(ctx context.Context, v storage.Version, bound []warehouse.BoundMatch) ([]*roaring64.Bitmap, bool, error) {
	c, err := t.classify(v.Info)
	if err != nil || c != data {
		return nil, false, err
	}
	m, err := t.fix(v.Path, bound)
	if err != nil || len(m.match) == 0 && len(m.every) == 0 {
		return nil, false, err
	}
	if len(m.every) > 0 {
		return m.keys(nil, len(bound)), true, nil
	}
	src, err := storage.OpenVersion(ctx, t.store, v)
	if err != nil {
		return nil, false, err
	}
	defer src.Close()
	f, err := scan(ctx, t.cfg.Format, src, request{match: m.match, malformed: true})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, false, nil
		}
		return nil, false, err
	}
	return m.keys(f.keys, len(bound)), !f.hits.IsEmpty(), nil
}
