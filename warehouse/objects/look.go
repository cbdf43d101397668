package objects

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

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

// FoundKeys are, by match, the numbers of the keys that an object, or the
// version of it, holds; nil = none of that match's.
func (t *Target) FoundKeys(ctx context.Context, path, version string, bound []warehouse.BoundMatch) ([]*roaring64.Bitmap, error) {
	m, err := t.fix(path, bound)
	if err != nil {
		return nil, err
	}
	var src storage.Object
	if version == "" {
		src, err = t.store.Open(ctx, path)
	} else {
		src, err = storage.OpenVersion(ctx, t.store, storage.Version{Info: storage.Info{Path: path, Version: version}})
	}
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer src.Close()
	f, err := scan(ctx, t.cfg.Format, src, request{match: m.match, every: len(m.every) > 0, malformed: true})
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	return m.keys(f.keys, len(bound)), nil
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
	Held       []Held
}

// Held are those of the hits that the store does not let go.
type Held struct {
	Reason string
	Count  int64
	Until  time.Time // when it lets go of the last of them, zero = there is no date
}

// keeps asks why the store would not let a version go, "" = it would, as far as
// it tells, and until when.
func (t *Target) keeps(ctx context.Context, v storage.Version) (why string, until time.Time) {
	a, err := storage.VersionAttributes(ctx, t.store, v)
	switch {
	case err != nil:
		return "", time.Time{}
	case !a.LockedUntil.IsZero():
		return "retention", a.LockedUntil
	case a.Locked != "":
		return a.Locked, time.Time{}
	case a.Archived:
		return storage.ErrArchived.Error(), time.Time{}
	}
	return "", time.Time{}
}

func (v *Versions) held(reason string, until time.Time) {
	i := slices.IndexFunc(v.Held, func(h Held) bool { return h.Reason == reason })
	if i < 0 {
		i = len(v.Held)
		v.Held = append(v.Held, Held{Reason: reason})
	}
	h := &v.Held[i]
	if h.Count++; until.After(h.Until) {
		h.Until = until
	}
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
		if _, hit, err := t.holds(ctx, version, bound); hit && err == nil {
			return true, nil
		}
	}
	return false, nil
}

// Kept counts what is still stored beside the live objects: noncurrent versions
// with an erased key, and what lies in the run's folder ("" = no run's). found
// is called for each of those versions, with its keys as far as it can be read;
// it may be nil.
func (t *Target) Kept(ctx context.Context, runID string, bound []warehouse.BoundMatch, found func(warehouse.Held) error) (v Versions, copies int64, err error) {
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
			keys, hit, err := t.holds(ctx, version, bound)
			if !hit && err == nil {
				continue
			}
			v.Hits++
			if why, until := t.keeps(ctx, version); why != "" {
				v.held(why, until)
			}
			if err := tell(found, version.Info, keys); err != nil {
				return v, 0, err
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

func tell(found func(warehouse.Held) error, v storage.Info, keys []*roaring64.Bitmap) error {
	if found == nil {
		return nil
	}
	numbers, err := warehouse.KeyNumbers(keys)
	if err != nil {
		return err
	}
	return found(warehouse.Held{Path: v.Path, Version: v.Version, Keys: numbers})
}
