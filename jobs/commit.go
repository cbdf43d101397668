package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/warehouse"
)

// limitError says which limit of the job would be passed.
type limitError struct {
	Limit string
	Slot  int
	text  string
}

func (e *limitError) Error() string { return e.text }

// Is makes errors.Is(err, warehouse.ErrLimit) true.
func (e *limitError) Is(target error) bool { return target == warehouse.ErrLimit }

// checkLimits compares what the whole run would erase with the job's limits,
// before anything is committed. Passing one removes what was written.
func (r *Run) checkLimits(ctx context.Context) error {
	if r.progress.stopped != nil {
		return r.stoppedError()
	}
	if len(r.progress.committed) > 0 {
		return nil // they were checked before the first commit
	}
	err := r.overLimit()
	var le *limitError
	if !errors.As(err, &le) || r.opts.DryRun {
		return err
	}
	for _, t := range r.targets {
		if cerr := r.cleanTarget(ctx, t, ignoreRemovals); cerr != nil {
			return errors.Join(err, cerr)
		}
	}
	if nerr := r.note(ctx, evStopped, "", stopRecord{Limit: le.Limit, Slot: le.Slot, Text: le.text}); nerr != nil {
		return errors.Join(err, nerr)
	}
	return err
}

func (r *Run) stoppedError() error {
	return &limitError{Limit: r.progress.stopped.Limit, Slot: r.progress.stopped.Slot, text: r.progress.stopped.Text}
}

func (r *Run) overLimit() error {
	var rows, files int64
	lim, _ := r.limits()
	for _, t := range r.progress.scanned.Targets {
		rows += t.Erased + t.Changed
		files += t.Rewritten + t.Dropped
		total := max(r.progress.planned.Targets[t.Slot].Plan.TotalRows, t.Rows) // objects' rows are known once they are read
		if err := r.overShare(t.Slot, t.Erased+t.Changed, total); err != nil {
			return err
		}
	}
	if lim.rows > 0 && rows > lim.rows {
		return &limitError{Limit: "rows", Slot: -1, text: fmt.Sprintf("%d rows would be erased or changed and the job's limit is %d: nothing was committed", rows, lim.rows)}
	}
	if lim.files > 0 && files > lim.files {
		return &limitError{Limit: "files", Slot: -1, text: fmt.Sprintf("%d files would be replaced and the job's limit is %d: nothing was committed", files, lim.files)}
	}
	return nil
}

func (r *Run) overShare(slot int, erased, total int64) error {
	lim, _ := r.limits()
	share := lim.share
	if share == 0 || erased <= share.Of(total) {
		return nil
	}
	return &limitError{Limit: "share", Slot: slot, text: fmt.Sprintf("%d of %d rows of %s would be erased or changed and the job's limit is %s: nothing was committed",
		erased, total, r.targets[slot].name, share)}
}

// commitAll commits every target that has something to replace. A target that
// cannot be committed is left as it was and the others go on.
func (r *Run) commitAll(ctx context.Context) error {
	if err := r.step(ctx, StepCommit); err != nil {
		return err
	}
	for _, t := range r.targets {
		if _, done := r.progress.committed[t.slot]; done {
			continue
		}
		if _, failed := r.progress.failed[t.slot]; failed {
			continue
		}
		c, err := r.commit(ctx, t)
		switch {
		case err == nil:
			err = r.noteCommit(ctx, t.slot, c)
		case ctx.Err() != nil, runLevel(err), errors.Is(err, warehouse.ErrUnsettled):
			return err // what became of the table is settled when the run is taken up again
		case t.prefix() != nil && !errors.Is(err, warehouse.ErrLimit):
			return err // objects are changed one by one: what is begun is taken up, not left
		default:
			r.job.env.Reporter.Report(Event{Type: "warning", Step: StepCommit, Target: t.name, Message: "left as it was: " + err.Error()})
			err = r.note(ctx, evFailed, fmt.Sprint(t.slot), failRecord{Class: errorClass(err), Text: err.Error()})
		}
		if err != nil {
			return err
		}
		if err := r.tick(ctx, StepCommit); err != nil {
			return err
		}
		r.job.env.Reporter.Report(Event{Type: "progress", Step: StepCommit, Target: t.name, Done: 1, Total: 1, Unit: "commits"})
	}
	return nil
}

// noteCommit journals a commit with the sums over the results that it used.
func (r *Run) noteCommit(ctx context.Context, slot int, c *warehouse.Committed) error {
	rec := commitRecord{Committed: *c}
	for res, err := range r.final(ctx, slot, rec) {
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		if res.Status == warehouse.Rewritten || res.Status == warehouse.Dropped {
			rec.RowsIn += res.RowsIn
			rec.RowsOut += res.RowsOut
		}
	}
	return r.note(ctx, evCommitted, fmt.Sprint(slot), rec)
}

// errFiles: files of a target could not be read or written, so the target is left as it was.
var errFiles = errors.New("files could not be processed")

func (r *Run) commit(ctx context.Context, t *boundTarget) (*warehouse.Committed, error) {
	sum := r.progress.totals(t.slot)
	if sum.Failed > 0 {
		class, err := r.firstFailure(ctx, t.slot)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%d %w (%s)", sum.Failed, errFiles, class)
	}
	pt := r.progress.planned.Targets[t.slot]
	req := warehouse.CommitRequest{
		RunID:     r.ID(),
		Group:     t.group,
		Plan:      pt.Plan,
		Selection: t.sel,
		Planned: func(ctx context.Context) iter.Seq2[string, error] {
			return state.ReadRecords[string](ctx, r.st, pt.LiveFile)
		},
		Results: func(ctx context.Context) iter.Seq2[warehouse.Result, error] { return r.changes(ctx, t.slot) },
		Rescan: func(ctx context.Context, tasks []warehouse.Task) ([]warehouse.Result, error) {
			return r.rescan(ctx, t, tasks)
		},
		Earlier: func(ctx context.Context) iter.Seq2[warehouse.Result, error] { return r.earlier(ctx, t.slot) },
		Check: func(n warehouse.Totals) error {
			return r.overShare(t.slot, n.Erased+n.Changed, max(n.Rows, pt.Plan.TotalRows, sum.Rows))
		},
		Dangling:   t.sel.Compact != nil,
		Fence:      r.fence,
		Attempts:   r.job.cfg.Commit.Attempts,
		Patience:   r.job.cfg.Commit.Patience.Duration(),
		Grace:      r.job.cfg.Grace.Duration(),
		Properties: map[string]string{"expunge.job": r.job.cfg.Name},
		Redefined:  t.action.Redefined,
	}
	if len(t.sel.Match) == 0 {
		req.Planned = nil // there is no key that a file which arrived could hold
	}
	if req.Grace > 0 {
		req.ProtectUntil = clock.Now(ctx).Add(req.Grace)
	}
	return t.target.Commit(ctx, req)
}

// changes are the results that a commit acts on.
func (r *Run) changes(ctx context.Context, slot int) iter.Seq2[warehouse.Result, error] {
	return func(yield func(warehouse.Result, error) bool) {
		for res, err := range r.results(ctx, slot) {
			if err == nil && res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
				continue
			}
			if !yield(res, err) {
				return
			}
		}
	}
}

func (r *Run) firstFailure(ctx context.Context, slot int) (string, error) {
	for res, err := range r.results(ctx, slot) {
		if err != nil {
			return "", fmt.Errorf("read results: %w", err)
		}
		if res.Status == warehouse.Failed {
			return res.Reason, nil
		}
	}
	return "unknown", nil
}

// rescan runs the same file function on files that arrived or changed since the plan.
func (r *Run) rescan(ctx context.Context, t *boundTarget, tasks []warehouse.Task) ([]warehouse.Result, error) {
	out := make([]warehouse.Result, len(tasks))
	var mu sync.Mutex
	p := pool.New().WithMaxGoroutines(max(1, r.job.workers())).WithContext(ctx).WithCancelOnError().WithFirstError()
	for i, task := range tasks {
		p.Go(func(ctx context.Context) error {
			res, err := r.worker.file(ctx, t, task)
			if err != nil {
				return err
			}
			if res.Status == warehouse.Failed {
				return fmt.Errorf("a file that arrived meanwhile: %w (%s)", errFiles, res.Reason)
			}
			mu.Lock()
			defer mu.Unlock()
			out[i] = res
			return nil
		})
	}
	if err := p.Wait(); err != nil {
		return nil, err
	}
	return out, r.keepRescan(ctx, t.slot, out)
}

func rescanDir(slot int) string { return fmt.Sprintf("rescan/%d/", slot) }

// keepRescan stores what a commit attempt found by itself, so that the
// evidence is whole when the run dies between the commit and its journal entry.
func (r *Run) keepRescan(ctx context.Context, slot int, found []warehouse.Result) error {
	n := 0
	for _, err := range r.st.List(ctx, rescanDir(slot)) {
		if err != nil {
			return fmt.Errorf("list rescans: %w", err)
		}
		n++
	}
	_, err := state.WriteRecords(ctx, r.st, fmt.Sprintf("%s%06d", rescanDir(slot), n), func(yield func(warehouse.Result, error) bool) {
		for _, res := range found {
			if !yield(res, nil) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("store rescan: %w", err)
	}
	return nil
}

func (r *Run) earlier(ctx context.Context, slot int) iter.Seq2[warehouse.Result, error] {
	return func(yield func(warehouse.Result, error) bool) {
		for name, err := range r.st.List(ctx, rescanDir(slot)) {
			if err != nil {
				yield(warehouse.Result{}, err)
				return
			}
			for res, err := range state.ReadRecords[warehouse.Result](ctx, r.st, name) {
				if !yield(res, err) || err != nil {
					return
				}
			}
		}
	}
}

// cleanTarget removes the run's files under a target that no snapshot names.
func (r *Run) cleanTarget(ctx context.Context, t *boundTarget, record func(context.Context, warehouse.PhysicalDelete) error) error {
	if _, err := t.target.CleanAttempts(ctx, r.ID(), record); err != nil {
		return fmt.Errorf("remove unused files of %s: %w", t.name, err)
	}
	return nil
}

func ignoreRemovals(context.Context, warehouse.PhysicalDelete) error { return nil }
