package objects

import (
	"context"
	"fmt"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// Fixed are the matches as they apply to one object: what its path fixes is
// taken out of them; every says that the path alone makes all records a hit.
func (t *Target) Fixed(path string, bound []warehouse.BoundMatch) (matches []warehouse.BoundMatch, every bool, err error) {
	m, err := t.fix(path, bound)
	if err != nil {
		return nil, false, err
	}
	return m.match, len(m.every) > 0, nil
}

// New opens the content that a run made: in its place if nobody has changed the
// object since, else the copy in the run's folder.
func (t *Target) New(ctx context.Context, res warehouse.Result) (storage.Object, error) {
	now, err := storage.Stat(ctx, t.store, res.Task.File.Path)
	if err == nil && t.done(ctx, now, res) == nil {
		return storage.OpenKnown(ctx, t.store, now)
	}
	obj, err := t.store.Open(ctx, res.Output.Path)
	if err != nil {
		return nil, err
	}
	return &renamed{Object: obj, path: res.Task.File.Path}, nil
}

// Live calls visit for every object of the target's data.
func (t *Target) Live(ctx context.Context, visit func(storage.Info) error) error {
	return t.walk(ctx, func(info storage.Info, c class) error {
		if c != data {
			return nil
		}
		return visit(info)
	})
}

// Versions says what noncurrent versions hold.
type Versions struct {
	Kept       bool  // the bucket keeps versions
	Untold     bool  // whether it does cannot be told: unsupported, or access denied
	Seen, Hits int64 // noncurrent versions of data objects, and those that hold an erased key
}

// versionHolds says whether any noncurrent version holds an erased key, as far
// as they can be read.
func (t *Target) versionHolds(ctx context.Context) (bool, error) {
	keep, err := t.Retention(ctx, "")
	if err != nil || !keep.Versioned {
		return false, err
	}
	t.mu.Lock()
	bound := t.bound
	t.mu.Unlock()
	for version, err := range storage.Versions(ctx, t.store, t.prefix) {
		if err != nil {
			return false, err
		}
		if version.Latest || version.DeleteMarker {
			continue
		}
		if hit, err := t.holds(ctx, version, bound); hit && err == nil {
			return true, nil
		}
	}
	return false, nil
}

// Kept counts what is still stored beside the live objects: noncurrent versions
// with an erased key, and what lies in the run's folder ("" = no run's).
func (t *Target) Kept(ctx context.Context, runID string, bound []warehouse.BoundMatch) (v Versions, copies int64, err error) {
	keep, err := t.Retention(ctx, "")
	if err != nil {
		return v, 0, err
	}
	t.keep.mu.Lock()
	v.Untold = t.keep.untold
	t.keep.mu.Unlock()
	if v.Kept = keep.Versioned; v.Kept {
		for version, err := range storage.Versions(ctx, t.store, t.prefix) {
			if err != nil {
				return v, 0, fmt.Errorf("list versions: %w", err)
			}
			if version.Latest || version.DeleteMarker {
				continue
			}
			if c, err := t.classify(version.Info); err != nil || c != data {
				continue
			}
			v.Seen++
			// What cannot be read may hold a key: it is said to.
			if hit, err := t.holds(ctx, version, bound); hit || err != nil {
				v.Hits++
			}
		}
	}
	if runID == "" {
		return v, 0, nil
	}
	for _, err := range t.store.List(ctx, t.runFolder(runID)) {
		if err != nil {
			return v, copies, fmt.Errorf("list the run's own copies: %w", err)
		}
		copies++
	}
	return v, copies, nil
}
