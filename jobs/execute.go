package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// execute takes the run from wherever its journal ends to its manifest. The
// order of the steps is the one of the package comment.
func (r *Run) execute(ctx context.Context) (_ *Summary, err error) {
	defer func() { err = r.finishStatus(ctx, err) }()
	if r.resumed {
		if err := r.note(ctx, evResumed, "", nil); err != nil {
			return nil, err
		}
	}
	if r.finished() {
		return r.summary(ctx)
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	defer r.unlock(ctx)
	ctx, cancel := r.watch(ctx)
	defer cancel()
	if err := r.work(ctx); err != nil {
		if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return r.summary(ctx)
}

// finished says whether nothing is left to do but to say how it ended.
func (r *Run) finished() bool {
	return r.progress.ended != nil && r.progress.closed && len(r.progress.failed) == 0
}

// prepare does everything that comes before the first write to a target: load,
// resolve, lock, prove permissions, plan.
func (r *Run) prepare(ctx context.Context) error {
	if err := r.step(ctx, StepKeysets); err != nil {
		return err
	}
	if err := r.prepareKeysets(ctx); err != nil {
		return err
	}
	if err := r.step(ctx, StepPlan); err != nil {
		return err
	}
	if err := r.prepareTargets(ctx); err != nil {
		r.unlock(ctx)
		return err
	}
	r.worker = &Worker{job: r.job, run: r.st, targets: r.targets, keyID: keysetsID(r.progress.keysets), dry: r.opts.DryRun}
	return nil
}

func (r *Run) prepareKeysets(ctx context.Context) (err error) {
	if r.progress.keysets != nil {
		r.sets, err = r.thawKeysets(ctx, r.progress.keysets)
		r.reports = map[string]*keyset.Report{}
		for _, k := range r.progress.keysets.Keysets {
			r.reports[k.Name] = k.Report
		}
		return err
	}
	if r.opts.Compact {
		return r.note(ctx, evKeysets, "", &keysetsRecord{})
	}
	sets, reports, err := r.job.loadKeysets(ctx, r.opts.KeysFrom)
	if err != nil {
		return err
	}
	if err := r.job.checkDeadline(ctx, reports); err != nil {
		return err
	}
	rec, err := r.freezeKeysets(ctx, sets, reports)
	if err != nil {
		return err
	}
	r.sets, r.reports = sets, reports
	return r.note(ctx, evKeysets, "", rec)
}

// prepareTargets resolves, locks and plans. A resumed run keeps its plan: the
// commit looks at what has changed since.
func (r *Run) prepareTargets(ctx context.Context) (err error) {
	w := r.window()
	if r.progress.planned != nil {
		if err := r.rebind(ctx, w); err != nil {
			return err
		}
		if err := r.lock(ctx); err != nil {
			return err
		}
		return r.replanFailed(ctx)
	}
	if r.targets, r.excluded, err = r.job.resolveTargets(ctx, r.sets, w); err != nil {
		return err
	}
	if r.opts.Compact && len(r.targets)+len(r.excluded) == 0 {
		return fmt.Errorf("the job has no table to compact: %w", ErrUsage)
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	if err := r.job.trySigning(ctx); err != nil {
		return err
	}
	rec, err := r.plan(ctx)
	if err != nil {
		return err
	}
	return r.note(ctx, evPlanned, "", rec)
}

// prove shows, before the first write to any target, that every target can be
// read, written and listed (contract rule 12). It writes a probe object, so a
// dry run leaves it out.
func (r *Run) prove(ctx context.Context) error {
	if r.opts.DryRun {
		return nil
	}
	if err := r.step(ctx, StepCheck); err != nil {
		return err
	}
	for _, t := range r.targets {
		if err := t.prove(ctx); err != nil {
			return fmt.Errorf("check %s: %w", t.name, err)
		}
	}
	return nil
}

// writable is a target that can show, with an object that it removes again,
// that it can be written.
type writable interface {
	CheckWrite(ctx context.Context) error
}

func (t *boundTarget) prove(ctx context.Context) error {
	if err := t.target.Check(ctx, t.sel); err != nil {
		return err
	}
	if w, ok := t.target.(writable); ok {
		return w.CheckWrite(ctx)
	}
	return nil
}

// rebind opens the tables of a stored plan again.
func (r *Run) rebind(ctx context.Context, w window) error {
	r.targets, r.excluded = nil, r.progress.planned.Excluded
	for _, pt := range r.progress.planned.Targets {
		if pt.Config >= len(r.job.cfg.Targets) {
			return fmt.Errorf("plan names target %d of the job: %w", pt.Config, state.ErrCorrupt)
		}
		t, ex, err := r.job.bindTarget(ctx, pt.Config, pt.Name, r.sets, w)
		if err != nil {
			return err
		}
		if ex != nil {
			return fmt.Errorf("table %s was planned and is now excluded (%s): %w", pt.Name, ex.Reason, warehouse.ErrUnsupported)
		}
		d, err := t.target.Describe(ctx)
		if err != nil {
			return fmt.Errorf("describe %s: %w", pt.Name, err)
		}
		if d.UUID != pt.Plan.Description.UUID {
			return fmt.Errorf("table %s is not the table that was planned (its uuid differs): plan again: %w", pt.Name, ErrUsage)
		}
		t.slot, t.group = pt.Slot, pt.Group
		r.targets = append(r.targets, t)
	}
	return nil
}

// replanFailed gives every target that an earlier try left as it was a new plan.
func (r *Run) replanFailed(ctx context.Context) error {
	for _, slot := range sortedKeys(r.progress.failed) {
		t := r.targets[slot]
		pt, err := r.planTarget(ctx, t, r.progress.planned.Targets[slot].Gen+1)
		if err != nil {
			return fmt.Errorf("plan %s: %w", t.name, err)
		}
		if err := r.note(ctx, evReplanned, fmt.Sprint(slot), pt); err != nil {
			return err
		}
	}
	return nil
}

// work is everything from the first write on.
func (r *Run) work(ctx context.Context) error {
	if r.progress.ended != nil {
		return r.endManifest(ctx)
	}
	if err := r.approve(ctx); err != nil {
		return err
	}
	if r.opts.Confirm != nil && !r.resumed && !r.opts.DryRun {
		p, err := r.planSummary(ctx)
		if err != nil {
			return err
		}
		if err := r.opts.Confirm(ctx, p); err != nil {
			return err
		}
	}
	if r.progress.scanned == nil {
		if err := r.prove(ctx); err != nil {
			return err
		}
	}
	if err := r.scan(ctx); err != nil {
		return err
	}
	if err := r.checkLimits(ctx); err != nil || r.opts.DryRun {
		return err
	}
	if err := r.commitAll(ctx); err != nil {
		return err
	}
	if err := r.verifyAll(ctx); err != nil {
		return err
	}
	if r.job.cfg.Grace == 0 && r.verified() {
		if err := r.purgeAll(ctx); err != nil {
			return err
		}
	}
	if err := r.index(ctx); err != nil {
		return err
	}
	return r.end(ctx)
}

// scan runs every shard that has no result yet.
func (r *Run) scan(ctx context.Context) error {
	if r.progress.scanned != nil {
		return nil
	}
	if err := r.step(ctx, StepScan); err != nil {
		return err
	}
	if r.job.env.Engine == nil {
		return fmt.Errorf("no engine: %w", ErrUsage)
	}
	var total, done int64
	for _, pt := range r.progress.planned.Targets {
		total += pt.Plan.Tasks
		done += r.progress.totals(pt.Slot).Files
	}
	report := func() {
		r.job.env.Reporter.Report(Event{Type: "progress", Step: StepScan, Done: done, Total: total, Unit: "files"})
	}
	report()
	err := r.job.env.Engine.Run(ctx, r.openShards(), r.worker.RunShard, func(res ShardResult) error {
		if err := r.note(ctx, evShard, fmt.Sprintf("%d/%d/%d", res.Slot, res.Gen, res.Index), res); err != nil {
			return err
		}
		done += res.Files
		report()
		return r.tick(ctx, StepScan)
	})
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	rec := &scannedRecord{}
	for _, t := range r.targets {
		sum := r.progress.totals(t.slot)
		if sum.PerMatch, err = r.perMatch(ctx, t.slot); err != nil {
			return err
		}
		if err := r.columnsSeen(ctx, t); err != nil {
			return err
		}
		rec.Targets = append(rec.Targets, sum)
	}
	if r.opts.DryRun {
		r.progress.scanned = rec
		return nil
	}
	return r.note(ctx, evScanned, "", rec)
}

// openShards lists the shards of the plan that the journal does not mention.
// It looks at the journal now: shards finish while the engine still lists.
func (r *Run) openShards() iter.Seq2[Shard, error] {
	var open []Shard
	for _, pt := range r.progress.planned.Targets {
		if _, done := r.progress.committed[pt.Slot]; done {
			continue
		}
		for i, s := range pt.Shards {
			if _, done := r.progress.shards[pt.Slot][i]; !done {
				open = append(open, Shard{Target: pt.Name, Slot: pt.Slot, Gen: pt.Gen, Index: i, Tasks: s.Tasks, Rows: s.Rows, Bytes: s.Bytes})
			}
		}
	}
	return func(yield func(Shard, error) bool) {
		for _, s := range open {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// results streams the stored results of a slot.
func (r *Run) results(ctx context.Context, slot int) iter.Seq2[warehouse.Result, error] {
	return func(yield func(warehouse.Result, error) bool) {
		for _, ref := range r.progress.refs(slot) {
			for res, err := range state.ReadRecords[warehouse.Result](ctx, r.st, ref) {
				if !yield(res, err) || err != nil {
					return
				}
			}
		}
	}
}

func (r *Run) perMatch(ctx context.Context, slot int) ([]int64, error) {
	var sum []int64
	for res, err := range r.results(ctx, slot) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		for i, n := range res.PerMatch {
			if i == len(sum) {
				sum = append(sum, 0)
			}
			sum[i] += n
		}
	}
	return sum, nil
}

// finishStatus writes how the run stands after execute and maps the error to
// one that a caller decides on.
func (r *Run) finishStatus(ctx context.Context, err error) error {
	st := StateFinished
	switch {
	case err == nil || errors.Is(err, ErrVerification) && r.progress.ended != nil:
	case errors.Is(err, warehouse.ErrLimit):
		st = StateStopped
	case r.progress.planned == nil:
		st = StateFailed
	case errors.Is(err, ErrDeclined), errors.Is(err, ErrApproval):
		st = StatePlanned
	default:
		st = StateInterrupted
	}
	if r.opts.DryRun {
		st = StateFinished
	}
	if serr := r.setStatus(context.WithoutCancel(ctx), st, ""); serr != nil {
		err = errors.Join(err, serr)
	}
	return err
}

// ErrDeclined: the person who was asked said no.
var ErrDeclined = errors.New("declined")
