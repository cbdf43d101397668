package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// Worker runs shards of one run. Everything it needs is in the run's folder,
// so any process that can read the state bucket can be a worker.
type Worker struct {
	job     *Job
	run     *state.Run
	targets []*boundTarget
	keyID   string // digest of the keysets: part of output names
	dry     bool   // scan only: write nothing to a target
}

func planDir(slot, gen int) string { return fmt.Sprintf("plan/%d/%d/", slot, gen) }

func shardFile(slot, gen, index int) string {
	return fmt.Sprintf("%sshard-%06d", planDir(slot, gen), index)
}

// RunShard processes the tasks of one shard and stores their results.
func (w *Worker) RunShard(ctx context.Context, s Shard) (ShardResult, error) {
	if s.Slot < 0 || s.Slot >= len(w.targets) {
		return ShardResult{}, fmt.Errorf("shard names target %d of %d: %w", s.Slot, len(w.targets), ErrUsage)
	}
	t := w.targets[s.Slot]
	sum := ShardResult{Slot: s.Slot, Gen: s.Gen, Index: s.Index}
	results := func(yield func(warehouse.Result, error) bool) {
		for tasks, err := range w.units(ctx, s) {
			var done []warehouse.Result
			if err == nil {
				done, err = w.unit(ctx, t, tasks)
			}
			if err != nil {
				yield(warehouse.Result{}, err)
				return
			}
			for _, res := range done {
				sum.count(res)
				if !yield(res, nil) {
					return
				}
			}
		}
	}
	ref, err := w.store(ctx, s, results)
	if err != nil {
		return ShardResult{}, fmt.Errorf("shard %d of %s: %w", s.Index, t.name, err)
	}
	sum.Ref = ref
	return sum, nil
}

// units streams a shard's tasks: single ones, and those of a pack together.
func (w *Worker) units(ctx context.Context, s Shard) iter.Seq2[[]warehouse.Task, error] {
	return func(yield func([]warehouse.Task, error) bool) {
		var pack []warehouse.Task
		for task, err := range state.ReadRecords[warehouse.Task](ctx, w.run, shardFile(s.Slot, s.Gen, s.Index)) {
			if err == nil && len(pack) > 0 && (task.Pack == nil || task.Pack.ID != pack[0].Pack.ID) {
				err = errNoPack
			}
			if err != nil {
				yield(nil, fmt.Errorf("read shard: %w", err))
				return
			}
			if pack = append(pack, task); task.Pack != nil && len(pack) < task.Pack.Files {
				continue
			}
			if !yield(pack, nil) {
				return
			}
			pack = nil
		}
		if len(pack) > 0 {
			yield(nil, fmt.Errorf("read shard: %w", errNoPack))
		}
	}
}

func (w *Worker) unit(ctx context.Context, t *boundTarget, tasks []warehouse.Task) ([]warehouse.Result, error) {
	if len(tasks) > 1 {
		return w.pack(ctx, t, tasks)
	}
	res, err := w.file(ctx, t, tasks[0])
	return []warehouse.Result{res}, err
}

// store writes results under the first attempt's name that is free: a run that
// died after writing and before journaling leaves one behind.
func (w *Worker) store(ctx context.Context, s Shard, results iter.Seq2[warehouse.Result, error]) (string, error) {
	attempt := 1
	dir := fmt.Sprintf("%s%d/%d/%06d/", dirResults, s.Slot, s.Gen, s.Index)
	for _, err := range w.run.List(ctx, dir) {
		if err != nil {
			return "", fmt.Errorf("list results: %w", err)
		}
		attempt++
	}
	for ; ; attempt++ {
		ref := fmt.Sprintf("%s%03d.jsonl", dir, attempt)
		_, err := state.WriteRecords(ctx, w.run, ref, results)
		if errors.Is(err, fs.ErrExist) && attempt < 1000 {
			continue
		}
		return ref, err
	}
}

func (r *ShardResult) count(res warehouse.Result) {
	r.Files++
	switch res.Status {
	case warehouse.Clean:
		r.Clean++
	case warehouse.Rewritten:
		r.Rewritten++
	case warehouse.Dropped:
		r.Dropped++
	case warehouse.Failed:
		r.Failed++
	case warehouse.LeftAlone:
		r.LeftAlone++
	}
	r.Rows += res.RowsIn
	r.Erased += res.Erased
	r.Changed += res.Changed
	r.BytesRead += res.BytesRead
	r.Copied += res.BytesCopied
	r.Encoded += res.BytesEncoded
}

// file processes one task. What is wrong with the file is a result; only what
// is wrong with the run (a lost context, a state bucket that fails) is an error.
func (w *Worker) file(ctx context.Context, t *boundTarget, task warehouse.Task) (res warehouse.Result, err error) {
	res = warehouse.Result{Task: task, RowsIn: task.File.Rows}
	defer func() {
		if r := recover(); r != nil {
			// The value of a panic may quote data, so only its class is kept.
			res, err = failed(res, "internal error"), nil
		}
	}()
	if t.prefix() != nil {
		return w.object(ctx, t, task)
	}
	format, ok := w.job.format(task.File.Format)
	if !ok {
		res.Status, res.Reason = warehouse.LeftAlone, "unsupported format"
		return res, nil
	}
	work := fileWork{Worker: w, t: t, task: task, format: format}
	_, err = w.guard(ctx, t, &res, func() error { return work.do(ctx, &res) })
	return res, err
}

// guard runs one file's work and turns what is wrong with the file into its
// result; ok says that nothing was.
func (w *Worker) guard(ctx context.Context, t *boundTarget, res *warehouse.Result, do func() error) (ok bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			// The value of a panic may quote data, so only its class is kept.
			*res, ok, err = failed(*res, "internal error"), false, nil
		}
	}()
	if err = do(); err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	class := errorClass(err)
	w.job.env.Log.WarnContext(ctx, "file left as it was", "target", t.name, "task", res.Task.Index, "class", class, "error", err)
	switch {
	case class == "unsupported":
		left(res, warehouse.LeftAlone, "unsupported: "+unsupportedWhat(err))
	case runLevel(err):
		return false, err
	case len(t.bound) == 0: // compaction alone: the other files need not wait for this one
		left(res, warehouse.LeftAlone, class)
	default:
		*res = failed(*res, class)
	}
	return false, nil
}

// left makes a file's result say that nothing is done to it.
func left(res *warehouse.Result, s warehouse.Status, reason string) {
	res.Status, res.Reason, res.Output, res.Packed = s, reason, nil, nil
	res.RowsOut, res.Erased, res.Changed, res.AlreadyDeleted = 0, 0, 0, 0
}

func failed(res warehouse.Result, class string) warehouse.Result {
	res.Status, res.Reason, res.Output = warehouse.Failed, class, nil
	return res
}

// runLevel errors are about the whole run, not about one file.
func runLevel(err error) bool {
	return errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrReadOnly) ||
		errors.Is(err, warehouse.ErrFenced)
}

// errorClass names an error for a manifest without quoting it.
func errorClass(err error) string {
	switch {
	case errors.Is(err, rewriter.ErrUnsupported), errors.Is(err, pq.ErrUnsupported), errors.Is(err, warehouse.ErrUnsupported):
		return "unsupported"
	case errors.Is(err, rewriter.ErrCorrupt), errors.Is(err, pq.ErrCorrupt):
		return "corrupt file"
	case errors.Is(err, fs.ErrNotExist):
		return "file is missing"
	case errors.Is(err, fs.ErrPermission):
		return "access denied"
	case errors.Is(err, storage.ErrThrottled), errors.Is(err, storage.ErrTransient):
		return "store unavailable"
	case errors.Is(err, storage.ErrNoSpace):
		return "store is full"
	case errors.Is(err, storage.ErrReadOnly):
		return "store is read-only"
	case errors.Is(err, errRowCount):
		return "row counts do not add up"
	case errors.Is(err, warehouse.ErrConflict):
		return "conflicts used up"
	case errors.Is(err, warehouse.ErrFenced):
		return "lease lost"
	case errors.Is(err, warehouse.ErrLimit):
		return "limit"
	case errors.Is(err, ErrVerification):
		return "verification failed"
	default:
		return "error"
	}
}

func unsupportedWhat(err error) string {
	var u *rewriter.UnsupportedError
	if errors.As(err, &u) {
		return u.What
	}
	return "file feature"
}

// errRowCount: rows in are not survivors + erased + already deleted (contract rule 2).
var errRowCount = errors.New("rows in do not equal survivors + erased + already deleted")
