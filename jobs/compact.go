package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// Surfaces of a compaction, beside that of survivors.
const (
	surfaceReplaced = "replaced files" // gone after the purge
)

// Compact folds tombstones into the job's tables, packs small files and drops
// delete files that cover nothing, by the thresholds of the job's compact
// section. It is a run like any other, with plan, journal, verification, grace,
// purge and manifest, but loads no keys and erases no row.
func (j *Job) Compact(ctx context.Context, o RunOptions) (*Summary, error) {
	o.Compact, o.KeysFrom = true, nil
	if !o.Since.IsZero() || !o.Until.IsZero() {
		return nil, fmt.Errorf("a compaction is of whole tables: %w", ErrUsage)
	}
	return j.Run(ctx, o)
}

// window is what the run is asked beside its job.
func (r *Run) window() window { return window{r.opts.Since, r.opts.Until, r.opts.Compact} }

// compaction are the job's thresholds as the warehouse takes them. A run that
// is narrowed to a time range leaves compaction to the others.
func (j *Job) compaction(w window) *warehouse.Compaction {
	c := j.cfg.Compact
	switch {
	case !w.compact && (c == nil || !w.open()):
		return nil
	case c == nil:
		c = configs.DefaultCompact()
	}
	return &warehouse.Compaction{DeletedPPM: int64(c.DeletedRows), DeleteFiles: int(c.DeleteFiles), SmallFiles: int64(c.SmallFiles)}
}

// open says whether the run is not bounded in time.
func (w window) open() bool { return w.since.IsZero() && w.until.IsZero() }

// verifyCompaction is the verification of a run that erased nothing: what
// survivors there are is all there is to see.
func (r *Run) verifyCompaction(ctx context.Context, rec *verifyRecord) {
	if len(rec.Surfaces) == 0 {
		rec.Surfaces = append(rec.Surfaces, surfaceRecord{Surface: surfaceSurvivors, Result: manifests.NotPresent, CoveragePPM: 1e6, Note: "no file was rewritten"})
	}
	rec.Time = clock.Now(ctx)
}

// replacedResidue looks, after the purge of a compaction, for the files that it replaced.
func (r *Run) replacedResidue(ctx context.Context, t *boundTarget, store storage.Store) (verifyRecord, error) {
	rec := verifyRecord{Passed: true}
	s := surfaceRecord{Surface: surfaceReplaced, Result: manifests.Pass, CoveragePPM: 1e6}
	for res, err := range r.final(ctx, t.slot, r.progress.committed[t.slot]) {
		if err != nil {
			return rec, fmt.Errorf("read results: %w", err)
		}
		if res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
			continue
		}
		s.Objects++
		obj, err := store.Open(ctx, res.Task.File.Path)
		switch {
		case err == nil:
			obj.Close()
			s.Findings, s.Result = s.Findings+1, manifests.Found
		case !errors.Is(err, fs.ErrNotExist):
			return rec, fmt.Errorf("look for replaced file: %w", err)
		}
	}
	if s.Objects == 0 {
		s.Result, s.Note = manifests.NotPresent, "no file was replaced"
	}
	rec.Surfaces, rec.Time = []surfaceRecord{s}, clock.Now(ctx)
	return rec, nil
}
