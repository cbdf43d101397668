package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
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
	for _, slot := range r.progress.committedSlots() {
		if _, done := r.progress.purged[slot]; done {
			continue
		}
		if v, ok := r.progress.verified[slot]; !ok || !v.Passed {
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
	removals, err := r.openRemovals(ctx, slot)
	if err != nil {
		return err
	}
	req := warehouse.PurgeRequest{
		RunID: r.ID(), Committed: r.progress.committed[slot].Committed, Selection: t.sel, Fence: r.fence,
		Record: removals.record,
	}
	purged, err := t.target.Purge(ctx, req)
	if err == nil {
		_, err = t.target.CleanAttempts(ctx, r.ID(), removals.record)
	}
	// What was removed is evidence even when the purge did not get to its end.
	if cerr := removals.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	file := fmt.Sprintf("purge/%d/deletes", slot)
	counts, err := r.mergeRemovals(ctx, slot, file)
	if err != nil {
		return err
	}
	rec := purgeRecord{Purged: *purged, Deletes: file, Counts: counts, Time: clock.Now(ctx)}
	if rec.Residue, err = r.verifyResidue(ctx, t); err != nil {
		return err
	}
	r.job.env.Reporter.Report(Event{Type: "progress", Step: StepPurge, Target: t.name, Done: purged.FilesRemoved, Total: purged.FilesRemoved, Unit: "files"})
	return r.note(ctx, evPurged, fmt.Sprint(slot), rec)
}

// removals is one attempt's list of physical deletes.
type removals struct {
	out *lines
}

func (r *Run) removalFile(slot, attempt int) string {
	return fmt.Sprintf("purge/%d/attempt-%03d", slot, attempt)
}

func (r *Run) openRemovals(ctx context.Context, slot int) (*removals, error) {
	for attempt := 1; ; attempt++ {
		in, err := r.st.Open(ctx, r.removalFile(slot, attempt))
		if err == nil {
			in.Close()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list removals: %w", err)
		}
		out, err := newLines(context.WithoutCancel(ctx), r.st, r.removalFile(slot, attempt))
		if err != nil {
			return nil, err
		}
		return &removals{out: out}, nil
	}
}

func (d *removals) record(_ context.Context, del warehouse.PhysicalDelete) error {
	return d.out.encode(del)
}

func (d *removals) close() error { return d.out.close() }

// deleteCounts sums up a list of removals.
type deleteCounts struct {
	Objects     int64            `json:"objects"`
	AlreadyGone int64            `json:"already_gone"`
	Kinds       map[string]int64 `json:"kinds,omitempty"`
	First       time.Time        `json:"first,omitzero"`
	Last        time.Time        `json:"last,omitzero"`
}

func (c *deleteCounts) add(d warehouse.PhysicalDelete) {
	c.Objects++
	if d.Response == "already gone" {
		c.AlreadyGone++
	}
	if c.Kinds == nil {
		c.Kinds = map[string]int64{}
	}
	c.Kinds[d.Kind]++
	if c.First.IsZero() || d.Time.Before(c.First) {
		c.First = d.Time
	}
	if d.Time.After(c.Last) {
		c.Last = d.Time
	}
}

func (c deleteCounts) addTo(m *manifests.Deletes) {
	m.Objects += c.Objects
	m.AlreadyGone += c.AlreadyGone
	for _, k := range sortedKeys(c.Kinds) {
		i := slices.IndexFunc(m.ByKind, func(o manifests.KindCount) bool { return o.Kind == k })
		if i < 0 {
			m.ByKind = append(m.ByKind, manifests.KindCount{Kind: k})
			i = len(m.ByKind) - 1
		}
		m.ByKind[i].Objects += c.Kinds[k]
	}
	if f := optional(c.First); f != nil && (m.First == nil || f.Before(*m.First)) {
		m.First = f
	}
	if l := optional(c.Last); l != nil && (m.Last == nil || l.After(*m.Last)) {
		m.Last = l
	}
}

// mergeRemovals joins the attempts' lists. A crash in a removal loses the list
// of its attempt: those objects are then listed as already gone by the next one.
func (r *Run) mergeRemovals(ctx context.Context, slot int, file string) (counts deleteCounts, err error) {
	out, err := newLines(ctx, r.st, file)
	if err != nil {
		return counts, err
	}
	for d, err := range r.attemptRemovals(ctx, slot) {
		if err == nil {
			err = out.encode(d)
		}
		if err != nil {
			_ = out.close()
			return counts, err
		}
		counts.add(d)
	}
	return counts, out.close()
}

func (r *Run) attemptRemovals(ctx context.Context, slot int) iter.Seq2[warehouse.PhysicalDelete, error] {
	return func(yield func(warehouse.PhysicalDelete, error) bool) {
		for attempt := 1; ; attempt++ {
			name := r.removalFile(slot, attempt)
			for d, err := range state.ReadRecords[warehouse.PhysicalDelete](ctx, r.st, name) {
				if errors.Is(err, fs.ErrNotExist) {
					return
				}
				if !yield(d, err) || err != nil {
					return
				}
			}
			if in, err := r.st.Open(ctx, name); err != nil {
				return
			} else {
				in.Close()
			}
		}
	}
}

// due says whether the run waits for a purge whose time has come.
func (r *Run) due(now time.Time) (waits, isDue bool) {
	p := &r.progress
	if p.ended == nil || len(p.reverted) > 0 {
		return false, false
	}
	for _, slot := range p.committedSlots() {
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
	for _, slot := range r.progress.committedSlots() {
		if _, done := r.progress.purged[slot]; done {
			continue
		}
		t := r.targets[slot]
		p, err := t.target.Purge(ctx, warehouse.PurgeRequest{RunID: r.ID(), Committed: r.progress.committed[slot].Committed, Selection: t.sel,
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
	if err := r.rebind(ctx, window{r.frozen.Since, r.frozen.Until}); err != nil {
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
