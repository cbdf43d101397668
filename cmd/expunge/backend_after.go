package main

import (
	"context"
	"fmt"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

func purge(ctx context.Context, e cli.Env, r cli.PurgeRequest) (*cli.PurgeResponse, error) {
	s, err := openState(ctx, r.State)
	if err != nil {
		return nil, err
	}
	var ids []string
	if !r.Due {
		id, err := find(ctx, s, r.RunID)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	} else {
		all, err := jobs.Runs(ctx, s, "", 0)
		if err != nil {
			return nil, err
		}
		for _, st := range all {
			if !st.PurgeDue.IsZero() && !clock.Now(ctx).Before(st.PurgeDue) {
				ids = append(ids, st.Run)
			}
		}
	}
	if r.Confirm != nil && !r.DryRun {
		preview, err := purgeRuns(ctx, e, r.State, ids, true)
		if err != nil {
			return preview, err
		}
		if err := r.Confirm(ctx, preview); err != nil {
			return nil, err
		}
	}
	return purgeRuns(ctx, e, r.State, ids, r.DryRun)
}

func purgeRuns(ctx context.Context, e cli.Env, s cli.State, ids []string, dry bool) (*cli.PurgeResponse, error) {
	resp := &cli.PurgeResponse{DryRun: dry}
	for _, id := range ids {
		j, _, err := openOf(ctx, e, cli.RunRef{State: s, RunID: id})
		if err != nil {
			return resp, fmt.Errorf("run %s: %w", id, err)
		}
		sum, err := j.Purge(ctx, id, dry)
		j.Close()
		if err != nil {
			return resp, fmt.Errorf("run %s: %w", id, err)
		}
		resp.Runs = append(resp.Runs, purgedRun(sum))
	}
	return resp, nil
}

func purgedRun(s *jobs.PurgeSummary) cli.PurgedRun {
	p := cli.PurgedRun{RunID: s.RunID, Job: s.Job, Outcome: s.Outcome, Manifest: s.Manifest, Totals: *purgeTotals(&s.Totals)}
	if !s.NotBefore.IsZero() {
		at := s.NotBefore
		p.NotBefore = &at
	}
	return p
}

func restore(ctx context.Context, e cli.Env, r cli.RestoreRequest) (*cli.RestoreResponse, error) {
	j, id, err := openOf(ctx, e, r.RunRef)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	if r.Confirm != nil && !r.DryRun {
		preview, err := j.Restore(ctx, id, r.Tables, true)
		if err != nil {
			return nil, err
		}
		if err := r.Confirm(ctx, restoreResponse(preview)); err != nil {
			return nil, err
		}
	}
	sum, err := j.Restore(ctx, id, r.Tables, r.DryRun)
	if err != nil {
		return nil, err
	}
	return restoreResponse(sum), nil
}

func restoreResponse(s *jobs.RestoreSummary) *cli.RestoreResponse {
	resp := &cli.RestoreResponse{RunID: s.RunID, Job: s.Job, DryRun: s.DryRun, Outcome: s.Outcome, Manifest: s.Manifest}
	for _, t := range s.Tables {
		resp.Tables = append(resp.Tables, cli.RestoredTarget{Target: t.Target, Rows: t.Rows, Files: t.Files, SnapshotID: t.SnapshotID})
	}
	return resp
}

func verify(ctx context.Context, e cli.Env, r cli.VerifyRequest) (*cli.VerifyResponse, error) {
	o := jobs.VerifyOptions{Mode: r.Mode, Sample: r.Sample, Seed: r.Seed}
	var (
		j   *jobs.Job
		id  string
		err error
	)
	if r.Job != nil {
		j, err = open(ctx, e, r.Job)
	} else {
		j, id, err = openOf(ctx, e, cli.RunRef{State: r.State, RunID: r.RunID})
	}
	if err != nil {
		return nil, err
	}
	defer j.Close()
	v, err := j.Verify(ctx, id, o)
	if err != nil {
		return nil, err
	}
	return verifyResponse(id, j.Config().Name, v), nil
}

// verifyResponse is a verification by itself, which the manifest's rules do not
// explain: what could not be read keeps it from passing.
func verifyResponse(run, job string, v *jobs.VerifyReport) *cli.VerifyResponse {
	out := &cli.VerifyResponse{RunID: run, Job: job, Verification: *verification(&v.Verification, nil)}
	out.Seed = v.Seed
	dates := map[[2]string]string{}
	for i, s := range v.Surfaces {
		if !v.GoneBy[i].IsZero() {
			dates[[2]string{s.Target, s.Surface}] = v.GoneBy[i].Format("2006-01-02")
		}
	}
	for i := range out.Surfaces {
		s := &out.Surfaces[i]
		s.GoneBy = dates[[2]string{s.Target, s.Name}]
	}
	if out.Controls != "" && out.Controls != "failed" {
		out.Controls = "a live key is found"
	}
	for _, s := range v.Surfaces {
		missed := s.Result == manifests.NotChecked || s.Result != manifests.NotPresent && s.CoveragePPM < 1e6
		if missed && v.Mode == "full" && out.Result == cli.VerifyPassed {
			out.Result = cli.VerifyPartly
		}
	}
	return out
}
