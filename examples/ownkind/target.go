package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/storage"
	"github.com/expunge/expunge/warehouse"
)

// ledger is one folder. CURRENT lists its live files; data/ holds them, and those
// that were replaced until a purge.
type ledger struct {
	store      storage.Store
	name, root string
}

// current is the pointer.
type current struct {
	Version int64    `json:"version"`
	Runs    []string `json:"runs,omitempty"` // whose commits are in
	Files   []file   `json:"files"`
}

type file struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	Rows int64  `json:"rows"`
}

func (c *current) has(path string) bool {
	return slices.ContainsFunc(c.Files, func(f file) bool { return f.Path == path })
}

func (l *ledger) pointer() string { return l.root + "CURRENT" }

// read returns the pointer and the tag that a swap compares.
func (l *ledger) read(ctx context.Context) (*current, string, error) {
	o, err := l.store.Open(ctx, l.pointer())
	if err != nil {
		return nil, "", fmt.Errorf("open ledger: %w", err)
	}
	defer o.Close()
	raw := make([]byte, o.Info().Size)
	if _, err := o.ReadAt(raw, 0); err != nil && len(raw) > 0 {
		return nil, "", fmt.Errorf("read ledger: %w", err)
	}
	c := &current{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, "", fmt.Errorf("read ledger: %w", err)
	}
	return c, o.Info().ETag, nil
}

// swap replaces the pointer if it is still the one that was read.
func (l *ledger) swap(ctx context.Context, c *current, tag string) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return storage.WriteAll(ctx, l.store, l.pointer(), raw, storage.CreateOptions{IfMatch: tag})
}

// Describe names the version that a plan is made from.
func (l *ledger) Describe(ctx context.Context) (warehouse.Description, error) {
	c, _, err := l.read(ctx)
	if err != nil {
		return warehouse.Description{}, err
	}
	return warehouse.Description{Name: l.name, Location: l.root, SnapshotID: c.Version}, nil
}

// Check proves that the ledger can be read and that the columns are right.
func (l *ledger) Check(ctx context.Context, sel warehouse.Selection) error {
	if _, err := l.Bind(ctx, sel); err != nil {
		return err
	}
	_, _, err := l.read(ctx)
	return err
}

// Bind knows one column, user.
func (l *ledger) Bind(_ context.Context, sel warehouse.Selection) ([]warehouse.BoundMatch, error) {
	var out []warehouse.BoundMatch
	for _, m := range sel.Match {
		if len(m.Columns) != 1 || m.Columns[0] != "user" {
			return nil, fmt.Errorf("%s: a ledger has the one column user: %w", l.name, warehouse.ErrNotFound)
		}
		out = append(out, warehouse.BoundMatch{Keys: m.Keys, Columns: []warehouse.ColumnRef{{Path: m.Columns}}})
	}
	return out, nil
}

// BindAction allows erasing only.
func (l *ledger) BindAction(_ context.Context, sel warehouse.Selection) (*warehouse.BoundAction, error) {
	if !sel.Action.Deletes() {
		return nil, fmt.Errorf("%s: lines of a ledger are erased, not changed: %w", l.name, warehouse.ErrAction)
	}
	return &warehouse.BoundAction{Kind: warehouse.Delete}, nil
}

// Plan makes every live file a task: a ledger has no statistics to prune by.
func (l *ledger) Plan(ctx context.Context, _ warehouse.Selection, emit func(warehouse.Task) error, live func(string) error) (*warehouse.Plan, error) {
	c, _, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	p := &warehouse.Plan{Description: warehouse.Description{Name: l.name, Location: l.root, SnapshotID: c.Version}}
	for _, f := range c.Files {
		if err := cmp.Or(emit(l.task(int(p.Tasks), f)), live(f.Path)); err != nil {
			return nil, err
		}
		p.Tasks, p.TaskRows, p.TaskBytes = p.Tasks+1, p.TaskRows+f.Rows, p.TaskBytes+f.Size
	}
	p.TotalFiles, p.TotalRows, p.TotalBytes = p.Tasks, p.TaskRows, p.TaskBytes
	return p, nil
}

func (l *ledger) task(i int, f file) warehouse.Task {
	return warehouse.Task{Target: l.name, Index: i, File: warehouse.File{Path: f.Path, Format: ledgerFormat, Size: f.Size, Rows: f.Rows}}
}

// KeyPaths is false: a ledger names its files without keys.
func (l *ledger) KeyPaths(context.Context, warehouse.Selection) (bool, error) { return false, nil }

// Deleted is empty: a ledger has no tombstones.
func (l *ledger) Deleted(context.Context, warehouse.Task) (*roaring64.Bitmap, error) {
	return roaring64.New(), nil
}

// OutputPath lies beside the other files, named after run and digest.
func (l *ledger) OutputPath(runID string, t warehouse.Task, digest string) string {
	return fmt.Sprintf("%sdata/%s-%d-%s.lines", l.root, runID, t.Index, digest)
}

// Metrics are none.
func (l *ledger) Metrics(context.Context, string) (warehouse.Metrics, error) {
	return warehouse.Metrics{}, nil
}

// Commit puts the outputs in the place of their sources in one swap of the pointer.
// What others appended since the plan is scanned first; a lost swap starts anew.
func (l *ledger) Commit(ctx context.Context, req warehouse.CommitRequest) (*warehouse.Committed, error) {
	done := &warehouse.Committed{RunID: req.RunID, Group: req.Group, Before: req.Plan.Description}
	planned := map[string]bool{}
	for path, err := range req.Planned(ctx) {
		if err != nil {
			return nil, err
		}
		planned[path] = true
	}
	for begun := time.Now(); ; {
		done.Attempts++
		err := l.try(ctx, req, planned, done)
		if !errors.Is(err, storage.ErrPrecondition) {
			return done, err
		}
		if done.Conflicts++; done.Attempts >= req.Attempts && time.Since(begun) >= req.Patience {
			return nil, fmt.Errorf("%s: %w", l.name, warehouse.ErrConflict)
		}
	}
}

func (l *ledger) try(ctx context.Context, req warehouse.CommitRequest, planned map[string]bool, done *warehouse.Committed) error {
	c, tag, err := l.read(ctx)
	if err != nil {
		return err
	}
	done.After = warehouse.Description{Name: l.name, Location: l.root, SnapshotID: c.Version}
	adopted := slices.Contains(c.Runs, req.RunID) // a try of this run whose answer was lost
	results, err := l.results(ctx, req, c, planned, done, adopted)
	if err != nil {
		return err
	}
	done.FilesReplaced, done.FilesDropped, done.RowsErased = 0, 0, 0
	totals := warehouse.Totals{}
	for _, f := range c.Files {
		totals.Rows += f.Rows
	}
	next := &current{Version: c.Version + 1, Runs: append(slices.Clone(c.Runs), req.RunID), Files: slices.Clone(c.Files)}
	for _, res := range results {
		src := res.Task.File
		next.Files = slices.DeleteFunc(next.Files, func(f file) bool { return f.Path == src.Path })
		done.RowsErased += res.Erased
		totals.Files, totals.Erased, totals.Bytes = totals.Files+1, totals.Erased+res.Erased, totals.Bytes+src.Size
		if res.Output == nil {
			done.FilesDropped++
			continue
		}
		done.FilesReplaced++
		next.Files = append(next.Files, file{Path: res.Output.Path, Size: res.Output.Size, Rows: res.Output.Rows})
	}
	switch {
	case adopted:
		done.Adopted = true
		return nil
	case len(results) == 0:
		done.NoChange = true
		return nil
	}
	if err := cmp.Or(req.Check(totals), req.Fence(ctx)); err != nil {
		return err
	}
	done.After.SnapshotID = next.Version
	return l.swap(ctx, next, tag)
}

// results are those that the commit stands on: the planned ones whose file is still
// live, and those of files that came since.
func (l *ledger) results(ctx context.Context, req warehouse.CommitRequest, c *current, planned map[string]bool, done *warehouse.Committed, adopted bool) ([]warehouse.Result, error) {
	var out []warehouse.Result
	done.Withdrawn = nil
	for res, err := range req.Results(ctx) {
		if err != nil {
			return nil, err
		}
		if adopted || c.has(res.Task.File.Path) {
			out = append(out, res)
		} else {
			done.Withdrawn = append(done.Withdrawn, res.Task.File.Path)
		}
	}
	var tasks []warehouse.Task
	for _, f := range c.Files {
		if !planned[f.Path] && !adopted {
			tasks = append(tasks, l.task(len(planned)+len(tasks), f))
		}
	}
	if len(tasks) == 0 {
		return out, nil
	}
	late, err := req.Rescan(ctx, tasks)
	if err != nil {
		return nil, err
	}
	done.Results = slices.DeleteFunc(late, func(r warehouse.Result) bool {
		return r.Status != warehouse.Rewritten && r.Status != warehouse.Dropped
	})
	return append(out, done.Results...), nil
}

// Restore adds the files of erased rows to the head.
func (l *ledger) Restore(ctx context.Context, req warehouse.RestoreRequest) (*warehouse.Committed, error) {
	for {
		c, tag, err := l.read(ctx)
		if err != nil {
			return nil, err
		}
		before := c.Version
		for _, r := range req.Files {
			if !c.has(r.Output.Path) {
				c.Files = append(c.Files, file{Path: r.Output.Path, Size: r.Output.Size, Rows: r.Output.Rows})
			}
		}
		c.Version++
		if err := req.Fence(ctx); err != nil {
			return nil, err
		}
		err = l.swap(ctx, c, tag)
		if err == nil {
			return &warehouse.Committed{RunID: req.RunID, Before: warehouse.Description{Name: l.name, SnapshotID: before},
				After: warehouse.Description{Name: l.name, Location: l.root, SnapshotID: c.Version}}, nil
		}
		if !errors.Is(err, storage.ErrPrecondition) {
			return nil, err
		}
	}
}

// Purge removes the files that the pointer no longer lists and that a commit of the
// run took out of it. A ledger keeps no other history.
func (l *ledger) Purge(ctx context.Context, req warehouse.PurgeRequest) (*warehouse.Purged, error) {
	out := &warehouse.Purged{After: req.Committed.After}
	err := l.unreferenced(ctx, "", func(info storage.Info) error {
		out.FilesRemoved, out.BytesRemoved = out.FilesRemoved+1, out.BytesRemoved+info.Size
		if req.DryRun {
			return nil
		}
		return l.remove(ctx, info, req.Fence, "data", req.Record)
	})
	return out, err
}

// CleanAttempts removes outputs of the run that no commit took.
func (l *ledger) CleanAttempts(ctx context.Context, runID string, record func(context.Context, warehouse.PhysicalDelete) error) (n int64, err error) {
	err = l.unreferenced(ctx, runID+"-", func(info storage.Info) error {
		n++
		return l.remove(ctx, info, nil, "failed attempt", record)
	})
	return n, err
}

func (l *ledger) unreferenced(ctx context.Context, prefix string, f func(storage.Info) error) error {
	c, _, err := l.read(ctx)
	if err != nil {
		return err
	}
	for info, err := range l.store.List(ctx, l.root+"data/"+prefix) {
		if err != nil {
			return fmt.Errorf("list ledger: %w", err)
		}
		if strings.HasSuffix(info.Path, ".lines") && !c.has(info.Path) {
			if err := f(info); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *ledger) remove(ctx context.Context, info storage.Info, fence func(context.Context) error, kind string, record func(context.Context, warehouse.PhysicalDelete) error) error {
	if fence != nil {
		if err := fence(ctx); err != nil {
			return err
		}
	}
	if err := l.store.Remove(ctx, info.Path); err != nil {
		return fmt.Errorf("remove a file of the ledger: %w", err)
	}
	if record == nil {
		return nil
	}
	return record(ctx, warehouse.PhysicalDelete{Path: info.Path, Kind: kind, Response: "deleted", Time: time.Now().UTC()})
}
