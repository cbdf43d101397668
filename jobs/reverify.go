package jobs

import (
	"context"
	"fmt"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
)

// VerifyOptions override the job's verify section; zero fields keep it.
type VerifyOptions struct {
	Mode   string
	Sample configs.Share
	Seed   uint64
}

// Verify re-reads the targets with independent code, over every surface: with
// the frozen keys of a run, or with the job's keys of today when runID is "".
// It changes nothing and takes no lease.
func (j *Job) Verify(ctx context.Context, runID string, o VerifyOptions) (*manifests.Verification, error) {
	sets, w, err := j.verifyKeys(ctx, runID)
	if err != nil {
		return nil, err
	}
	targets, _, err := j.resolveTargets(ctx, sets, w)
	if err != nil {
		return nil, err
	}
	opts := verifier.Options{Mode: verifier.ModeFull, Workers: j.workers(), Files: true, Metadata: true, Orphans: true, Seed: o.Seed}
	if o.Mode != "" {
		opts.Mode = o.Mode
	}
	if opts.Mode == verifier.ModeSample {
		opts.SamplePPM = int64(o.Sample)
	}
	out := &manifests.Verification{Mode: opts.Mode}
	for _, t := range targets {
		surfaces, _, err := j.reread(ctx, t, opts)
		if err != nil {
			return nil, fmt.Errorf("verify %s: %w", t.name, err)
		}
		out.Surfaces = append(out.Surfaces, surfaces...)
	}
	return out, nil
}

// reread verifies a target as it is now. Findings are a table's: of a prefix
// the surfaces count alone.
func (j *Job) reread(ctx context.Context, t *boundTarget, o verifier.Options) (out []manifests.Surface, findings []verifier.Finding, err error) {
	j.env.Reporter.Report(Event{Type: "step", Step: StepVerify, Target: t.name})
	if t.prefix() != nil {
		found, err := j.auditPrefix(ctx, t, o)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range found {
			out = append(out, s.surface(t.name))
		}
		return out, nil, nil
	}
	store, err := j.targetStore(ctx, t.name)
	if err != nil {
		return nil, nil, err
	}
	desc, err := t.target.Describe(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("describe: %w", err)
	}
	rep, err := verifyTable(ctx, store, t, desc.MetadataLocation, o)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range rep.Surfaces {
		out = append(out, manifests.Surface{Target: t.name, Surface: s.Name, Result: s.Result, Objects: s.Objects,
			BytesRead: s.BytesRead, CoveragePPM: s.CoveragePPM, Findings: s.Findings, Note: s.Note})
	}
	return out, rep.Findings, nil
}

func (j *Job) verifyKeys(ctx context.Context, runID string) (map[string]*keyset.Set, window, error) {
	if runID == "" {
		sets, _, err := j.loadKeysets(ctx, nil)
		return sets, window{}, err
	}
	r, err := j.openRun(ctx, runID)
	if err != nil {
		return nil, window{}, err
	}
	if r.progress.keysets == nil {
		return nil, window{}, fmt.Errorf("run %s: %w", runID, errNoKeysets)
	}
	sets, err := r.thawKeysets(ctx, r.progress.keysets)
	return sets, window{}, err
}
