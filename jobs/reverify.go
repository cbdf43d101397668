package jobs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
)

// VerifyOptions override the job's verify section; zero fields keep it.
type VerifyOptions struct {
	Mode   string
	Sample configs.Share
	Seed   uint64 // of mode sample; 0 = drawn, and stated in the report
}

// VerifyReport is what a verification saw, without a key.
type VerifyReport struct {
	manifests.Verification
	Seed uint64 // of mode sample
	// GoneBy is, for each of the Surfaces, when what was found there is gone: with
	// the run's purge, or, for files in flight, when they count as orphans. Zero =
	// nobody said so.
	GoneBy []time.Time
}

// Verify re-reads the targets with independent code, over every surface: with
// the frozen keys of a run, or with the job's keys of today when runID is "".
// The tables may have been erased by any other tool. It changes nothing and
// takes no lease.
func (j *Job) Verify(ctx context.Context, runID string, o VerifyOptions) (*VerifyReport, error) {
	opts, err := j.verifyOptions(o)
	if err != nil {
		return nil, err
	}
	var run *Run
	if runID != "" {
		if run, err = j.openRun(ctx, runID); err != nil {
			return nil, err
		}
	} else if opts.Mode == verifier.ModeRewritten {
		return nil, fmt.Errorf("mode rewritten means the files that a run wrote: name the run, or use mode full: %w", ErrUsage)
	}
	sets, err := j.verifyKeys(ctx, run)
	if err != nil {
		return nil, err
	}
	targets, _, err := j.resolveTargets(ctx, sets, window{})
	if err != nil {
		return nil, err
	}
	out := &VerifyReport{Verification: manifests.Verification{Mode: opts.Mode}}
	if opts.Mode == verifier.ModeSample {
		out.Seed = opts.Seed
	}
	for _, t := range targets {
		if err := j.verifyTarget(ctx, t, run, opts, out); err != nil {
			return nil, fmt.Errorf("verify %s: %w", t.name, err)
		}
	}
	return out, nil
}

// reread verifies a target as it is now.
func (j *Job) reread(ctx context.Context, t *boundTarget, o verifier.Options) (out []manifests.Surface, findings []verifier.Finding, err error) {
	if t.prefix() != nil {
		return j.lookPrefix(ctx, t, o)
	}
	out, rep, err := j.look(ctx, t, o)
	if err != nil {
		return nil, nil, err
	}
	return out, rep.Findings, nil
}

func (j *Job) lookPrefix(ctx context.Context, t *boundTarget, o verifier.Options) (out []manifests.Surface, findings []verifier.Finding, err error) {
	j.env.Reporter.Report(Event{Type: "step", Step: StepVerify, Target: t.name})
	found, findings, err := j.auditPrefix(ctx, t, o)
	for _, s := range found {
		out = append(out, s.surface(t.name))
	}
	return out, findings, err
}

// look is reread with the whole report of a table; nil for a prefix.
func (j *Job) look(ctx context.Context, t *boundTarget, o verifier.Options) (out []manifests.Surface, rep *verifier.Report, err error) {
	if t.prefix() != nil {
		out, _, err := j.lookPrefix(ctx, t, o)
		return out, nil, err
	}
	j.env.Reporter.Report(Event{Type: "step", Step: StepVerify, Target: t.name})
	store, err := j.targetStore(ctx, t.name)
	if err != nil {
		return nil, nil, err
	}
	desc, err := t.target.Describe(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("describe: %w", err)
	}
	if rep, err = verifyTable(ctx, store, t, desc.MetadataLocation, o); err != nil {
		return nil, nil, err
	}
	if o.Only != nil {
		nothingRewritten(rep)
	}
	for _, s := range rep.Surfaces {
		out = append(out, manifests.Surface{Target: t.name, Surface: s.Name, Result: s.Result, Objects: s.Objects,
			BytesRead: s.BytesRead, CoveragePPM: s.CoveragePPM, Findings: s.Findings, Note: surfaceNote(s)})
	}
	return out, rep, nil
}

func (j *Job) verifyOptions(o VerifyOptions) (verifier.Options, error) {
	opts := verifier.Options{Mode: verifier.ModeFull, Workers: j.workers(), Files: true, Metadata: true, Orphans: true,
		Seed: o.Seed, OrphanAge: j.cfg.Orphans.MinAge.Duration()}
	if o.Mode != "" {
		opts.Mode = o.Mode
	}
	if opts.Mode != verifier.ModeSample {
		return opts, nil
	}
	if opts.SamplePPM = int64(o.Sample); opts.Seed == 0 {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return opts, fmt.Errorf("draw seed: %w", err)
		}
		opts.Seed = binary.BigEndian.Uint64(b[:]) >> 11 // a number that JSON carries whole
	}
	return opts, nil
}

func (j *Job) verifyTarget(ctx context.Context, t *boundTarget, run *Run, opts verifier.Options, out *VerifyReport) error {
	if run != nil {
		if err := run.narrow(ctx, t.name, &opts); err != nil {
			return err
		}
	}
	surfaces, rep, err := j.look(ctx, t, opts)
	if err != nil {
		return err
	}
	out.Surfaces = append(out.Surfaces, surfaces...)
	if rep == nil {
		out.GoneBy = append(out.GoneBy, make([]time.Time, len(surfaces))...)
		return nil
	}
	due := run.dueFor(ctx, t.name)
	for _, s := range rep.Surfaces {
		goneBy := s.GoneBy
		if s.Result == verifier.Residue && inPurge(s) {
			goneBy = due
		}
		out.GoneBy = append(out.GoneBy, goneBy)
	}
	if c := rep.Control; c != nil {
		out.Controls = append(out.Controls, manifests.Control{Target: t.name, Files: c.Files, Before: c.Found})
	}
	return nil
}

// dueFor is when the purge of a run that waits for it removes what the history
// of a table holds; zero when no purge will.
func (r *Run) dueFor(ctx context.Context, target string) time.Time {
	if r == nil {
		return time.Time{}
	}
	if waits, _ := r.due(clock.Now(ctx)); !waits || r.progress.planned == nil {
		return time.Time{}
	}
	for _, slot := range r.progress.purgeSlots() {
		if _, done := r.progress.purged[slot]; !done && r.progress.planned.Targets[slot].Name == target {
			return r.purgeDue().UTC()
		}
	}
	return time.Time{}
}

// narrow tells a verification what the run did to a target: which files it put
// there, where only those are asked for, and which it took out, on whichever
// branch. No writer is about to commit one of these.
func (r *Run) narrow(ctx context.Context, target string, o *verifier.Options) error {
	written, replaced := map[uint64]bool{}, map[uint64]bool{}
	table, _ := branchOf(target)
	for _, pt := range r.committedTo(table) {
		out, err := r.replaced(ctx, pt.Slot)
		if err != nil {
			return err
		}
		maps.Copy(replaced, out)
		if o.Mode != verifier.ModeRewritten || pt.Name != target {
			continue
		}
		in, err := r.replacements(ctx, pt.Slot)
		if err != nil {
			return err
		}
		maps.Copy(written, in)
	}
	o.Replaced = func(path string) bool { return replaced[xxh3.HashString(storage.Canonical(path))] }
	if o.Mode == verifier.ModeRewritten {
		o.Only = func(path string) bool { return written[xxh3.HashString(path)] }
	}
	return nil
}

// committedTo are the run's commits to a table and its branches.
func (r *Run) committedTo(table string) (out []planTarget) {
	if r.progress.planned == nil {
		return nil
	}
	for _, pt := range r.progress.planned.Targets {
		base, _ := branchOf(pt.Name)
		if _, done := r.progress.committed[pt.Slot]; done && base == table {
			out = append(out, pt)
		}
	}
	return out
}

func (j *Job) verifyKeys(ctx context.Context, run *Run) (map[string]*keyset.Set, error) {
	if run == nil {
		sets, _, err := j.loadKeysets(ctx, nil)
		return sets, err
	}
	if run.progress.keysets == nil {
		return nil, fmt.Errorf("run %s: %w", run.ID(), errNoKeysets)
	}
	return run.thawKeysets(ctx, run.progress.keysets)
}
