package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/expunge/expunge/warehouse"
)

// orphanRemover is a target that can remove files which nothing refers to.
type orphanRemover interface {
	RemoveOrphans(ctx context.Context, req warehouse.OrphanRequest) (*warehouse.Orphans, error)
}

// orphansOf removes a target's orphans where no purge follows that does so,
// once the survivors of the run's own rewrites were compared. A run that is
// resumed does not repeat it.
func (r *Run) orphansOf(ctx context.Context, t *boundTarget) error {
	if _, done := r.progress.orphans[t.slot]; done || !r.job.cfg.Orphans.Remove {
		return nil
	}
	if err := r.step(ctx, StepOrphans); err != nil {
		return err
	}
	dir := fmt.Sprintf("orphans/%d/", t.slot)
	removals, err := r.openRemovals(ctx, dir)
	if err != nil {
		return err
	}
	rec, err := r.removeOrphans(ctx, t, removals)
	if cerr := removals.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if rec == nil {
		rec = &orphanRecord{}
	}
	rec.Deletes = dir + "deletes"
	if rec.Counts, err = r.mergeRemovals(ctx, dir, rec.Deletes); err != nil {
		return err
	}
	return r.note(ctx, evOrphans, fmt.Sprint(t.slot), rec)
}

// removeOrphans removes them and says why it did not, where the table is of a
// kind whose files are not for us to judge. nil: the job does not ask for it.
func (r *Run) removeOrphans(ctx context.Context, t *boundTarget, removals *removals) (*orphanRecord, error) {
	target, ok := t.target.(orphanRemover)
	if !ok || !r.job.cfg.Orphans.Remove || t.group > 0 { // those of a branch go with main
		return nil, nil
	}
	out, err := target.RemoveOrphans(ctx, warehouse.OrphanRequest{MinAge: r.job.cfg.Orphans.MinAge.Duration(), Fence: r.fence, Record: removals.record})
	if errors.Is(err, warehouse.ErrUnsupported) {
		r.job.env.Reporter.Report(Event{Type: "warning", Step: StepOrphans, Target: t.name, Message: "orphans were left: " + err.Error()})
		return &orphanRecord{Refused: "orphans were left: the table's files may be in use elsewhere"}, nil
	}
	if err != nil {
		return nil, err
	}
	r.job.env.Reporter.Report(Event{Type: "progress", Step: StepOrphans, Target: t.name, Done: out.Files, Total: out.Files, Unit: "files"})
	return &orphanRecord{Orphans: *out}, nil
}
