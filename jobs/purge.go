package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// purgeAll removes what history still holds of every committed target, once
// the verification has passed and no key of the run is held by now.
func (r *Run) purgeAll(ctx context.Context) error {
	if err := r.step(ctx, StepPurge); err != nil {
		return err
	}
	if err := r.checkHolds(ctx); err != nil {
		return err
	}
	for _, slot := range r.progress.purgeSlots() {
		if _, done := r.progress.purged[slot]; done {
			continue
		}
		if !r.tablePassed(slot) {
			continue
		}
		if err := r.purgeSlot(ctx, slot); err != nil {
			return fmt.Errorf("purge %s: %w", r.targets[slot].name, err)
		}
	}
	return nil
}

func (r *Run) purgeSlot(ctx context.Context, slot int) error {
	t := r.targets[slot]
	if _, begun := r.progress.intents[slot]; !begun { // from here on the run cannot be restored
		if err := r.note(ctx, evIntent, fmt.Sprint(slot), struct{}{}); err != nil {
			return err
		}
	}
	if err := r.lookIntoHistory(ctx, t); err != nil {
		return err
	}
	held, err := r.historyOf(ctx, t)
	if err != nil {
		return err
	}
	dir := fmt.Sprintf("purge/%d/", slot)
	removals, err := r.openRemovals(ctx, dir)
	if err != nil {
		return err
	}
	req := warehouse.PurgeRequest{
		RunID: r.ID(), Committed: r.progress.committed[slot].Committed, Selection: t.sel, Also: r.also(slot), Fence: r.fence,
		Record: removals.record, Found: held.found,
	}
	purged, err := t.target.Purge(ctx, req)
	if err == nil {
		_, err = t.target.CleanAttempts(ctx, r.ID(), removals.record)
	}
	var orphans *orphanRecord
	if err == nil {
		orphans, err = r.removeOrphans(ctx, t, removals)
	}
	// What was removed is evidence even when the purge did not get to its end.
	if cerr := errors.Join(removals.close(), held.close()); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	file := dir + "deletes"
	counts, err := r.mergeRemovals(ctx, dir, file)
	if err != nil {
		return err
	}
	rec := purgeRecord{Purged: *purged, Deletes: file, Counts: counts, Orphans: orphans, Time: clock.Now(ctx)}
	if rec.Residue, err = r.verifyResidue(ctx, t); err != nil {
		return err
	}
	r.job.env.Reporter.Report(Event{Type: "progress", Step: StepPurge, Target: t.name, Done: purged.FilesRemoved, Total: purged.FilesRemoved, Unit: "files"})
	return r.note(ctx, evPurged, fmt.Sprint(slot), rec)
}

// due says whether the run waits for a purge whose time has come.
func (r *Run) due(now time.Time) (waits, isDue bool) {
	p := &r.progress
	if p.ended == nil {
		return false, false
	}
	for _, slot := range p.purgeSlots() {
		if _, done := p.purged[slot]; !done {
			waits = true
		}
	}
	return waits, waits && !now.Before(r.purgeDue())
}

// Purge removes the history of a run whose grace has ended and issues the
// manifest that continues the run's. Before the grace ends it does nothing and
// says so.
func (j *Job) Purge(ctx context.Context, runID string, dry bool) (*PurgeSummary, error) {
	r, err := j.openRun(ctx, runID)
	if err != nil {
		return nil, err
	}
	sum := &PurgeSummary{RunID: runID, Job: j.cfg.Name}
	waits, due := r.due(clock.Now(ctx))
	if !waits {
		sum.NothingToDo = true
		return sum, nil
	}
	if !due {
		sum.NotBefore = r.purgeDue()
		return sum, nil
	}
	if err := r.reopen(ctx); err != nil {
		return nil, err
	}
	defer r.unlock(ctx)
	if dry {
		return r.purgePreview(ctx, sum)
	}
	ctx, cancel := r.watch(ctx)
	defer cancel()
	if err := r.purgeAll(ctx); err != nil {
		return nil, err
	}
	if err := r.finishPurge(ctx, sum); err != nil {
		return nil, err
	}
	return sum, nil
}

func (r *Run) finishPurge(ctx context.Context, sum *PurgeSummary) error {
	if err := r.noteRequests(ctx); err != nil { // anew: with what the purge found in history
		return err
	}
	m, err := r.writeManifest(ctx, manifests.KindPurge, r.progress.last)
	if err != nil {
		return err
	}
	if err := r.forgetKeys(ctx); err != nil {
		return err
	}
	sum.fill(r, m)
	return r.setStatus(ctx, StateFinished, "")
}

// forgetKeys removes the frozen keysets once the run is purged, unless the job
// retains them for later runs.
func (r *Run) forgetKeys(ctx context.Context) error {
	if r.job.cfg.Retain.Keys > 0 {
		return nil
	}
	for _, k := range r.progress.keysets.Keysets {
		if err := r.st.Remove(ctx, k.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove frozen keyset: %w", err)
		}
	}
	return nil
}

func (r *Run) purgePreview(ctx context.Context, sum *PurgeSummary) (*PurgeSummary, error) {
	sum.DryRun = true
	for _, slot := range r.progress.purgeSlots() {
		if _, done := r.progress.purged[slot]; done {
			continue
		}
		t := r.targets[slot]
		p, err := t.target.Purge(ctx, warehouse.PurgeRequest{RunID: r.ID(), Committed: r.progress.committed[slot].Committed, Selection: t.sel, Also: r.also(slot),
			Fence: r.fence, Record: func(context.Context, warehouse.PhysicalDelete) error { return nil }, DryRun: true})
		if err != nil {
			return nil, fmt.Errorf("purge %s: %w", t.name, err)
		}
		sum.add(*p)
	}
	return sum, nil
}

// reopen thaws keysets and targets of a finished run and takes its leases.
func (r *Run) reopen(ctx context.Context) (err error) {
	if r.progress.keysets == nil || r.progress.planned == nil {
		return fmt.Errorf("run %s never got to a plan: %w", r.ID(), ErrUsage)
	}
	if r.sets, err = r.thawKeysets(ctx, r.progress.keysets); err != nil {
		return err
	}
	if err := r.rebind(ctx, r.window()); err != nil {
		return err
	}
	if err := r.lock(ctx); err != nil {
		return err
	}
	r.worker = &Worker{job: r.job, run: r.st, targets: r.targets, keyID: keysetsID(r.progress.keysets)}
	return nil
}

// PurgeDue purges every run of the job whose grace has ended.
func (j *Job) PurgeDue(ctx context.Context, dry bool) ([]*PurgeSummary, error) {
	var out []*PurgeSummary
	for st, err := range j.state.Runs(ctx) {
		if err != nil {
			return out, fmt.Errorf("list runs: %w", err)
		}
		if st.Job != j.cfg.Name || st.PurgeDue.IsZero() || clock.Now(ctx).Before(st.PurgeDue) {
			continue
		}
		sum, err := j.Purge(ctx, st.Run, dry)
		if err != nil {
			return out, fmt.Errorf("purge run %s: %w", st.Run, err)
		}
		if !sum.NothingToDo {
			out = append(out, sum)
		}
	}
	return out, nil
}
