package objects

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// Restore is not how objects come back: RestoreObject is, one by one.
func (t *Target) Restore(context.Context, warehouse.RestoreRequest) (*warehouse.Committed, error) {
	return nil, fmt.Errorf("restore a prefix as a whole: %w", warehouse.ErrUnsupported)
}

// RestoreObject gives back what a run erased from one object. An object that is
// still as the run left it gets its old content back, with its attributes; so
// does one that the run removed. Where somebody has changed the object since,
// the erased records come back as an object of their own beside it: what others
// wrote is not undone. It can be repeated.
func (t *Target) RestoreObject(ctx context.Context, w Work, res warehouse.Result) error {
	old, err := t.Old(ctx, w.RunID, res.Task)
	if err != nil {
		return fmt.Errorf("open the old content of task %d: %w", res.Task.Index, err)
	}
	defer old.Close()
	where := res.Task.File.Path
	now, err := storage.Stat(ctx, t.store, where)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case gone && res.Status == warehouse.Dropped:
		if done, err := t.undelete(ctx, res.Task); done || err != nil {
			return err
		}
		err = t.copyTo(ctx, old, where, t.options(w.RunID, storage.CreateOptions{IfNotExists: true, Like: t.attributesOfOld(ctx, w.RunID, res)}))
		if errors.Is(err, storage.ErrExists) {
			return t.restoreBeside(ctx, w, res, old)
		}
		return err
	case gone:
		return t.restoreBeside(ctx, w, res, old)
	case err != nil:
		return err
	}
	if ours, err := t.ours(ctx, w, now, old, res); err != nil {
		return err
	} else if ours {
		like, err := storage.GetAttributes(ctx, t.store, where)
		if err != nil {
			return err
		}
		err = t.copyTo(ctx, old, where, t.options(w.RunID, storage.CreateOptions{IfMatch: now.ETag, Like: like}))
		if !errors.Is(err, storage.ErrPrecondition) {
			return err
		}
	} else if now.Size == old.Info().Size {
		cur, err := storage.OpenKnown(ctx, t.store, now)
		if err != nil {
			return err
		}
		defer cur.Close()
		if same, err := sameContent(cur, old); same || err != nil {
			return err // a former try
		}
	}
	return t.restoreBeside(ctx, w, res, old)
}

// undelete removes the delete marker that stands before the version a run
// removed: the object is back as it was.
func (t *Target) undelete(ctx context.Context, task warehouse.Task) (bool, error) {
	keep, err := t.Retention(ctx, task.File.Path)
	if err != nil || !keep.Versioned {
		return false, err
	}
	var marker *storage.Version
	for v, err := range storage.Versions(ctx, t.store, task.File.Path) {
		if err != nil {
			return false, fmt.Errorf("list versions: %w", err)
		}
		switch {
		case v.Path != task.File.Path:
			return false, nil
		case v.DeleteMarker && v.Latest:
			marker = &v
		case marker != nil && v.ETag == task.File.ETag:
			return true, storage.RemoveVersion(ctx, t.store, *marker)
		default:
			return false, nil
		}
	}
	return false, nil
}

// attributesOfOld are those of the version before, where the store still has it.
func (t *Target) attributesOfOld(ctx context.Context, runID string, res warehouse.Result) *storage.Attributes {
	a, err := storage.GetAttributes(ctx, t.store, t.keptPath(runID, res.Task))
	if err != nil {
		return nil
	}
	return a
}

// ours says whether an object still is what the run put there.
func (t *Target) ours(ctx context.Context, w Work, now storage.Info, old storage.Object, res warehouse.Result) (bool, error) {
	if res.Output == nil || now.Size != res.Output.Size {
		return false, nil
	}
	if res.Output.SHA256 == "" && res.RowsOut > 0 {
		var err error
		if res.Output, err = t.again(ctx, w, old, res); err != nil {
			return false, err
		}
	}
	err := t.done(ctx, now, res)
	if errors.Is(err, storage.ErrPrecondition) {
		return false, nil
	}
	return err == nil, err
}

// again computes the new content of a large object once more for its digest:
// its bytes did not pass through the process, and the copy that it was compared
// with went after the verification.
func (t *Target) again(ctx context.Context, w Work, old storage.Object, res warehouse.Result) (*warehouse.Output, error) {
	m, err := t.fix(res.Task.File.Path, w.Bound)
	if err != nil {
		return nil, err
	}
	f, err := scan(ctx, t.cfg.Format, old, t.request(m, w.Select))
	if err != nil {
		return nil, fmt.Errorf("scan the old content: %w", err)
	}
	done, err := f.rewrite(ctx, nowhere{}, rewriter.Options{})
	if err != nil {
		return nil, fmt.Errorf("compute the new content: %w", err)
	}
	out := *res.Output
	out.SHA256 = hex.EncodeToString(done.SHA256[:])
	return &out, nil
}

// nowhere is a storage.Writer that keeps nothing.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }
func (nowhere) Abort() error                { return nil }

// restoreBeside writes the erased records only, under a name of the same
// folder and suffix.
func (t *Target) restoreBeside(ctx context.Context, w Work, res warehouse.Result, old storage.Object) error {
	if !(request{action: w.Select.Action}).deletes() {
		return fmt.Errorf("object of task %d was changed by others since; its changed records are not put back: %w", res.Task.Index, warehouse.ErrConflict)
	}
	m, err := t.fix(res.Task.File.Path, w.Bound)
	if err != nil {
		return err
	}
	req := t.request(m, w.Select)
	req.invert = true
	f, err := scan(ctx, t.cfg.Format, old, req)
	if err != nil {
		return fmt.Errorf("scan the old content: %w", err)
	}
	if f.hits.IsEmpty() {
		return nil
	}
	where := beside(res.Task.File.Path, w.RunID)
	dst, err := t.store.Create(ctx, where, t.options(w.RunID, storage.CreateOptions{IfNotExists: true}))
	if err == nil {
		if _, err = f.rewrite(ctx, dst, rewriter.Options{}); err != nil {
			_ = dst.Abort()
			return fmt.Errorf("write erased records: %w", err)
		}
		if err = dst.Close(); err != nil {
			_ = dst.Abort()
		}
	}
	if errors.Is(err, storage.ErrExists) {
		return nil // a former try
	}
	return err
}

// beside is a name next to an object: "a/x.ndjson.gz" → "a/x.restored-RUN.ndjson.gz".
func beside(p, runID string) string {
	dir, base := path.Split(p)
	if strings.Contains(p, "://") {
		i := strings.LastIndex(p, "/") + 1
		dir, base = p[:i], p[i:]
	}
	stem, ext, ok := strings.Cut(base, ".")
	if ok {
		ext = "." + ext
	}
	return dir + stem + ".restored-" + runID + ext
}
