package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// SealSummary says what sealing a run came to.
type SealSummary struct {
	RunID    string
	Job      string
	Manifest string    // path of the manifest that records it
	Sealed   time.Time // when the secret was destroyed
	Already  bool      // it was sealed and recorded before
}

// Seal destroys a run's secret for good and records that in a manifest. What
// the run stored can then no longer be read, nor a certificate be issued; its
// manifests stay valid. A run that is not over, or still waits for its purge,
// is refused: the purge needs what the secret opens.
func (j *Job) Seal(ctx context.Context, runID string) (*SealSummary, error) {
	// Signing is tried before anything is destroyed.
	if _, _, err := j.log(ctx); err != nil {
		return nil, err
	}
	st, err := j.state.OpenRun(ctx, runID)
	if errors.Is(err, state.ErrNoRun) {
		return nil, fmt.Errorf("%s: %w", runID, ErrNoRun)
	}
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	status, err := st.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	if err := sealable(status); err != nil {
		return nil, err
	}
	if err := st.DestroySecret(ctx); err != nil {
		return nil, fmt.Errorf("destroy the run's secret: %w", err)
	}
	return j.recordSeal(ctx, status)
}

func sealable(st state.Status) error {
	switch {
	case st.State == StateRunning || st.State == StateInterrupted:
		return fmt.Errorf("run %s is not over: %w", st.Run, ErrUsage)
	case !st.PurgeDue.IsZero():
		return fmt.Errorf("run %s waits for its purge, which needs the secret (due %s): %w", st.Run, st.PurgeDue.UTC().Format(time.RFC3339), ErrUsage)
	}
	return nil
}

// recordSeal writes the manifest. It needs nothing that the secret opened, so
// that it can be repeated when the process died after the destruction.
func (j *Job) recordSeal(ctx context.Context, st state.Status) (*SealSummary, error) {
	id := st.Run + "-" + string(manifests.KindSeal)
	now := clock.Now(ctx)
	out := &SealSummary{RunID: st.Run, Job: st.Job}
	where := j.statePath("manifests", manifests.EnvelopeName(id))
	if _, err := storage.Stat(ctx, j.stateStore, where); err == nil {
		out.Already = true
	}
	m, rec, err := j.publish(ctx, id, manifests.KindSeal, func(log *manifests.Log, signers []manifests.Signer) ([]byte, error) {
		m := j.head(id, st.Run, manifests.KindSeal, st.Labels[labelJobDigest])
		m.Times = manifests.Times{Start: now, End: now}
		m.Actors = actors(signers, now)
		run := st.Run + "-" + string(manifests.KindRun)
		raw, err := storage.ReadAll(ctx, j.stateStore, j.statePath("manifests", manifests.EnvelopeName(run)))
		if err == nil {
			m.Continuity.PreviousID, m.Continuity.PreviousSHA256, m.Continuity.Continues = run, manifests.Digest(raw), run
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the run's manifest: %w", err)
		}
		if err := follow(ctx, log, m); err != nil {
			return nil, err
		}
		return manifests.Sign(ctx, m, signers...)
	})
	if err != nil {
		return nil, err
	}
	out.Manifest, out.Sealed = rec.Path, m.Times.End
	return out, nil
}

// SealDue seals the runs of the job whose secrets have been kept as long as
// retain.secrets says.
func (j *Job) SealDue(ctx context.Context) ([]*SealSummary, error) {
	keep := j.cfg.Retain.Secrets.Duration()
	if keep == 0 {
		return nil, nil
	}
	all, err := Runs(ctx, j.state, j.cfg.Name, 0)
	if err != nil {
		return nil, err
	}
	var out []*SealSummary
	for _, st := range all {
		end := st.Ended
		if at, err := time.Parse(time.RFC3339, st.Labels[labelPurged]); err == nil {
			end = at
		}
		if st.Sealed || end.IsZero() || sealable(st) != nil || clock.Now(ctx).Before(end.Add(keep)) {
			continue
		}
		sum, err := j.Seal(ctx, st.Run)
		if err != nil {
			return out, fmt.Errorf("seal run %s: %w", st.Run, err)
		}
		out = append(out, sum)
	}
	return out, nil
}
