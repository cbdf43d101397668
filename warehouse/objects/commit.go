package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"

	"github.com/sourcegraph/conc/pool"
	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// rescanBatch is how many new objects are handed over at once.
const rescanBatch = 256

// fenceEvery is how many objects are changed on one look at the lease; each
// change is conditional on the object by itself.
const fenceEvery = 32

// Commit puts the new content of every result in its object's place. What came
// or changed since the plan is scanned first. Commit can be repeated: what is
// done already is found done.
func (t *Target) Commit(ctx context.Context, req warehouse.CommitRequest) (*warehouse.Committed, error) {
	c := &committer{t: t, req: req, changed: map[uint64]bool{}}
	c.out.RunID, c.out.Group, c.out.Attempts = req.RunID, req.Group, 1
	c.out.Before = req.Plan.Description
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	if err := c.earlier(ctx); err != nil {
		return nil, err
	}
	if err := c.arrivals(ctx); err != nil {
		return nil, err
	}
	if err := c.apply(ctx); err != nil {
		return nil, err
	}
	desc, err := t.Describe(ctx)
	if err != nil {
		return nil, err
	}
	desc.KeyPartitioned = req.Plan.Description.KeyPartitioned
	c.out.After = desc
	if c.out.NoChange = c.out.FilesReplaced+c.out.FilesDropped == 0; c.out.NoChange {
		// Old versions may hold what no live object does: then there is something to purge.
		held, err := t.versionHolds(ctx)
		if err != nil {
			return nil, fmt.Errorf("look at noncurrent versions: %w", err)
		}
		c.out.NoChange = !held
	}
	return &c.out, nil
}

type committer struct {
	t       *Target
	req     warehouse.CommitRequest
	changed map[uint64]bool // hashed paths of the results to apply
	extra   []warehouse.Result

	mu    sync.Mutex
	out   warehouse.Committed
	steps int
}

// check adds up what is to be done and remembers which objects are concerned.
func (c *committer) check(ctx context.Context) error {
	var n warehouse.Totals
	for res, err := range c.req.Results(ctx) {
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		c.changed[xxh3.HashString(res.Task.File.Path)] = true
		n.Files, n.Erased, n.Changed, n.Bytes = n.Files+1, n.Erased+res.Erased, n.Changed+res.Changed, n.Bytes+res.Task.File.Size
	}
	if c.req.Check == nil || n.Files == 0 {
		return nil
	}
	return c.req.Check(n)
}

// earlier takes up what a former try of this commit scanned by itself.
func (c *committer) earlier(ctx context.Context) error {
	if c.req.Earlier == nil {
		return nil
	}
	last := map[string]warehouse.Result{}
	for res, err := range c.req.Earlier(ctx) {
		if err != nil {
			return fmt.Errorf("read earlier results: %w", err)
		}
		if res.Status == warehouse.Rewritten || res.Status == warehouse.Dropped {
			last[res.Task.File.Path] = res
		}
	}
	for path, res := range last {
		h := xxh3.HashString(path)
		if c.changed[h] {
			continue // apply scans it again if it has to
		}
		c.changed[h] = true
		c.extra = append(c.extra, res)
	}
	return nil
}

// arrivals scans the objects that the plan does not know in this state. Both
// lists are in the order of paths, so that one of each is in memory.
func (c *committer) arrivals(ctx context.Context) error {
	next, stop := iter.Pull2(c.req.Planned(ctx))
	defer stop()
	known, err, more := next()
	var batch []warehouse.Task
	scanBatch := func() error {
		if len(batch) == 0 {
			return nil
		}
		found, err := c.req.Rescan(ctx, batch)
		if err != nil {
			return fmt.Errorf("scan what arrived meanwhile: %w", err)
		}
		for _, res := range found {
			if res.Status != warehouse.Clean {
				c.extra = append(c.extra, res)
			}
		}
		batch = batch[:0]
		return nil
	}
	walkErr := c.t.walk(ctx, func(info storage.Info, cl class) error {
		if cl != data {
			return nil
		}
		for more && err == nil && pathOf(known) < info.Path {
			known, err, more = next()
		}
		if err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		if more && known == planned(info.Path, info.ETag) || c.changed[xxh3.HashString(info.Path)] {
			return nil
		}
		batch = append(batch, c.t.task(info, arrived(c.req.Plan.Tasks, len(c.extra)+len(batch))))
		if len(batch) == rescanBatch {
			return scanBatch()
		}
		return nil
	})
	if walkErr != nil {
		return walkErr
	}
	return scanBatch()
}

// arrived numbers tasks that the plan does not have.
func arrived(tasks int64, n int) int { return int(tasks) + n }

func pathOf(line string) string {
	for i := range len(line) {
		if line[i] == 0 {
			return line[:i]
		}
	}
	return line
}

// apply changes the objects, several at a time.
func (c *committer) apply(ctx context.Context) error {
	p := pool.New().WithMaxGoroutines(c.t.cfg.Workers).WithContext(ctx).WithCancelOnError().WithFirstError()
	var listErr error
	for res, err := range c.all(ctx) {
		if err != nil {
			listErr = fmt.Errorf("read results: %w", err)
			break
		}
		if listErr = c.fence(ctx); listErr != nil {
			break
		}
		p.Go(func(ctx context.Context) error { return c.one(ctx, res) })
		if ctx.Err() != nil {
			break
		}
	}
	if err := p.Wait(); err != nil {
		return err
	}
	return listErr
}

func (c *committer) all(ctx context.Context) iter.Seq2[warehouse.Result, error] {
	return func(yield func(warehouse.Result, error) bool) {
		for res, err := range c.req.Results(ctx) {
			if !yield(res, err) || err != nil {
				return
			}
		}
		for _, res := range c.extra {
			if res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
				c.note(res, true)
			} else if !yield(extraResult(res), nil) {
				return
			}
		}
	}
}

// extraResult marks a result that the plan does not have; it is kept with the commit.
func extraResult(res warehouse.Result) warehouse.Result {
	res.Task.SchemaID = -1
	return res
}

func (c *committer) fence(ctx context.Context) error {
	c.steps++
	if c.req.Fence == nil || c.steps%fenceEvery != 1 {
		return nil
	}
	return c.req.Fence(ctx)
}

// one changes one object; while somebody else changes it, it is scanned again.
func (c *committer) one(ctx context.Context, res warehouse.Result) error {
	extra := res.Task.SchemaID == -1
	res.Task.SchemaID = 0
	for attempt := 0; ; attempt++ {
		err := c.t.replace(ctx, c.req.RunID, res)
		switch {
		case err == nil:
			c.note(res, extra)
			return nil
		case Refusal(err) != "":
			c.note(leftAlone(res, Refusal(err)), true)
			return nil
		case ctx.Err() != nil, storage.IsTransient(err), errors.Is(err, storage.ErrNoSpace), errors.Is(err, storage.ErrReadOnly), errors.Is(err, storage.ErrUnknownOutcome):
			return fmt.Errorf("replace object of task %d: %w", res.Task.Index, err)
		case !errors.Is(err, storage.ErrPrecondition) && !errors.Is(err, fs.ErrNotExist):
			c.note(leftAlone(res, "the store refused the change"), true)
			return nil
		}
		if attempt >= max(1, c.req.Attempts) {
			c.note(leftAlone(res, "object keeps changing"), true)
			return nil
		}
		c.mu.Lock()
		c.out.Conflicts++
		c.mu.Unlock()
		again, err := c.req.Rescan(ctx, []warehouse.Task{res.Task})
		if err != nil {
			return err
		}
		res, extra = again[0], true
		if res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
			c.note(res, true)
			return nil
		}
	}
}

func leftAlone(res warehouse.Result, reason string) warehouse.Result {
	return warehouse.Result{Task: res.Task, Status: warehouse.LeftAlone, Reason: reason, RowsIn: res.RowsIn, BytesRead: res.BytesRead}
}

// note counts a result; kept ones take the planned result's place in the evidence.
func (c *committer) note(res warehouse.Result, kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch res.Status {
	case warehouse.Rewritten:
		c.out.FilesReplaced++
	case warehouse.Dropped:
		c.out.FilesDropped++
	}
	if res.Status == warehouse.Rewritten || res.Status == warehouse.Dropped {
		c.out.RowsErased += res.Erased
		c.out.RowsChanged += res.Changed
	}
	if kept {
		c.out.Results = append(c.out.Results, res)
	}
}

// replace puts a result in its object's place, once: when it is there already
// nothing happens. storage.ErrPrecondition: the object is another by now;
// fs.ErrNotExist: it is gone.
func (t *Target) replace(ctx context.Context, runID string, res warehouse.Result) error {
	path := res.Task.File.Path
	now, err := storage.Stat(ctx, t.store, path)
	if errors.Is(err, fs.ErrNotExist) {
		if res.Status == warehouse.Dropped {
			return nil // this run's former try, or somebody else
		}
		return err
	}
	if err != nil {
		return err
	}
	if now.ETag != res.Task.File.ETag {
		return t.done(ctx, now, res)
	}
	like, err := storage.GetAttributes(ctx, t.store, path)
	if err != nil {
		return fmt.Errorf("read attributes: %w", err)
	}
	if err := admit(like); err != nil { // it may have been locked since the scan
		return err
	}
	if err := t.protect(ctx, runID, res.Task, like); err != nil {
		return fmt.Errorf("keep the old content: %w", err)
	}
	if res.Status == warehouse.Dropped {
		err = storage.RemoveIf(ctx, t.store, path, now.ETag)
	} else {
		err = t.put(ctx, runID, now, res, like)
	}
	if err == nil {
		return nil
	}
	// The answer may have been lost, or an error come after the effect: look.
	after, serr := storage.Stat(ctx, t.store, path)
	switch {
	case errors.Is(serr, fs.ErrNotExist) && res.Status == warehouse.Dropped:
		return nil
	case serr == nil && after.ETag != now.ETag && t.done(ctx, after, res) == nil:
		return nil
	}
	return err
}

func (t *Target) put(ctx context.Context, runID string, now storage.Info, res warehouse.Result, like *storage.Attributes) error {
	staged, err := t.store.Open(ctx, res.Output.Path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return storage.NewError("open", res.Output.Path, storage.ErrPrecondition, "new content is gone", err)
		}
		return err
	}
	defer staged.Close()
	if n := staged.Info().Size; n != res.Output.Size {
		return storage.NewError("open", res.Output.Path, storage.ErrPrecondition, "new content has another size", nil)
	}
	return t.copyTo(ctx, staged, now.Path, t.options(runID, storage.CreateOptions{IfMatch: now.ETag, Like: like}))
}

// done says whether an object that is not the planned one is already the
// result: nil, or storage.ErrPrecondition.
func (t *Target) done(ctx context.Context, now storage.Info, res warehouse.Result) error {
	changed := storage.NewError("replace", now.Path, storage.ErrPrecondition, "", nil)
	if res.Status != warehouse.Rewritten || res.Output == nil || now.Size != res.Output.Size {
		return changed
	}
	obj, err := storage.OpenKnown(ctx, t.store, now)
	if err != nil {
		return err
	}
	defer obj.Close()
	same := false
	if res.Output.SHA256 != "" {
		var have string
		have, err = digest(obj)
		same = have == res.Output.SHA256
	} else {
		var staged storage.Object
		if staged, err = t.store.Open(ctx, res.Output.Path); err == nil {
			same, err = sameContent(obj, staged)
			staged.Close()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !same {
		return changed
	}
	return nil
}
