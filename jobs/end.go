package jobs

import (
	"context"
	"fmt"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/manifests"
)

// end closes the run's main part: the manifest is written from what the
// journal says, and a verification that failed is an error all the same.
func (r *Run) end(ctx context.Context) error {
	if r.progress.ended == nil {
		// What was written for a target that was then left as it was is of no use.
		for _, slot := range sortedKeys(r.progress.failed) {
			if err := r.cleanTarget(ctx, r.targets[slot], ignoreRemovals); err != nil {
				return err
			}
		}
		rec := endRecord{Time: clock.Now(ctx)}
		if len(r.progress.purgeSlots()) > 0 && r.job.cfg.Grace > 0 {
			rec.PurgeDue = r.purgeDue()
		}
		if err := r.note(ctx, evEnded, "", rec); err != nil {
			return err
		}
	}
	return r.endManifest(ctx)
}

// endManifest writes the run's manifest unless the journal has it already.
func (r *Run) endManifest(ctx context.Context) error {
	if r.progress.closed {
		return r.verdict()
	}
	if err := r.noteRequests(ctx); err != nil {
		return err
	}
	if err := r.keepForAudit(ctx); err != nil {
		return err
	}
	if _, err := r.writeManifest(ctx, manifests.KindRun, r.progress.ended.Time); err != nil {
		return err
	}
	if len(r.progress.purged) > 0 {
		if err := r.forgetKeys(ctx); err != nil {
			return err
		}
	}
	return r.verdict()
}

func (r *Run) verdict() error {
	for _, slot := range sortedKeys(r.progress.verified) {
		if v := r.progress.verified[slot]; !v.Passed {
			return fmt.Errorf("%s: %s: %w", r.targets[slot].name, v.Class, ErrVerification)
		}
	}
	return nil
}
