package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/engine/local"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"

	// The back ends that a job can name. Each is one import: a smaller build leaves some out.
	_ "github.com/expunge/expunge/internal/storage/azure"
	_ "github.com/expunge/expunge/internal/storage/gcs"
	_ "github.com/expunge/expunge/internal/storage/s3"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/glue"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/hive"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/rest"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/sql"
)

// bindJobs connects the commands about jobs and runs to package jobs.
func bindJobs(b *cli.Backend) {
	b.Check, b.Plan, b.Run, b.Resume = check, plan, run, resume
	b.Runs, b.Status, b.Stop = runs, status, stop
	b.Purge, b.Restore, b.Verify = purge, restore, verify
}

// wrapStore decorates the stores of every job; tests inject faults here.
var wrapStore func(role string, s storage.Store) storage.Store

// open binds a job for one command.
func open(ctx context.Context, e cli.Env, cfg *configs.Job) (*jobs.Job, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	switch cfg.Engine.Type {
	case "", "local":
	default:
		return nil, fmt.Errorf("engine %s is not part of this build: %w", cfg.Engine.Type, jobs.ErrUsage)
	}
	return jobs.Open(ctx, cfg, jobs.Env{
		Engine:       local.Engine{Workers: cfg.Engine.Workers},
		Reporter:     jobs.ReporterFunc(func(ev jobs.Event) { e.Reporter.Report(event(ev)) }),
		Log:          slog.Default(),
		Version:      version().Version,
		BinarySHA256: binaryDigest(),
		WrapStore:    wrapStore,
		Holder:       fmt.Sprintf("%s process %d", host, os.Getpid()),
	})
}

func event(e jobs.Event) cli.Event {
	return cli.Event{Type: e.Type, Step: string(e.Step), Target: e.Target, Done: e.Done, Total: e.Total, Unit: e.Unit, Message: e.Message}
}

// openState opens a state bucket without a job.
func openState(ctx context.Context, s cli.State) (*state.State, error) {
	props, err := s.Storage.Reveal()
	if err != nil {
		return nil, fmt.Errorf("storage properties: %w", err)
	}
	opts, err := jobs.StateOptions(ctx, s.Secrets)
	if err != nil {
		return nil, err
	}
	return state.Open(ctx, storage.WithRetry(storage.New(props), storage.DefaultRetry), s.Location, opts...)
}

// find resolves a run reference: an id, a unique prefix of one, or "last".
func find(ctx context.Context, s *state.State, ref string) (string, error) {
	all, err := jobs.Runs(ctx, s, "", 0)
	if err != nil {
		return "", err
	}
	var found []string
	for _, r := range all {
		if r.Run == ref {
			return ref, nil
		}
		if ref == "last" || strings.HasPrefix(r.Run, ref) {
			found = append(found, r.Run)
		}
	}
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("run %q: %w", ref, jobs.ErrNoRun)
	case ref == "last" || len(found) == 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q begins the ids of %d runs: %w", ref, len(found), jobs.ErrUsage)
}

// openOf opens the job that a run was started with.
func openOf(ctx context.Context, e cli.Env, ref cli.RunRef) (*jobs.Job, string, error) {
	return openRunJob(ctx, e, nil, ref)
}

func check(ctx context.Context, e cli.Env, r cli.CheckRequest) (*cli.CheckResponse, error) {
	j, err := open(ctx, e, r.Job)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	resp := &cli.CheckResponse{Job: r.Job.Name}
	if resp.Digest, err = r.Job.Digest(); err != nil {
		return nil, err
	}
	for _, c := range j.Check(ctx) {
		resp.Checks = append(resp.Checks, cli.Check{What: c.What, Target: c.Target, OK: c.OK, Detail: c.Detail})
	}
	policy, warnings, err := j.Policy(ctx)
	if err != nil {
		return resp, err
	}
	resp.Policy, resp.Warnings = policy, warnings
	return resp, nil
}

// planFile is what plan --output writes: a reference to the plan in the state bucket.
type planFile struct {
	RunID  string `json:"run_id"`
	Job    string `json:"job"`
	State  string `json:"state"`
	Digest string `json:"digest"`
}

func options(s cli.Selection) jobs.RunOptions {
	return jobs.RunOptions{Since: s.Since, Until: s.Until, KeysFrom: s.KeysFrom}
}

func plan(ctx context.Context, e cli.Env, r cli.PlanRequest) (*cli.PlanResponse, error) {
	j, err := open(ctx, e, r.Job)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	p, err := j.Plan(ctx, options(r.Selection))
	if err != nil {
		return nil, err
	}
	resp := planResponse(p)
	if r.Output == "" {
		return resp, nil
	}
	raw, err := json.MarshalIndent(planFile{RunID: p.RunID, Job: p.Job, State: r.Job.State, Digest: p.Digest}, "", "  ")
	if err != nil {
		return resp, fmt.Errorf("encode plan: %w", err)
	}
	if err := os.WriteFile(r.Output, append(raw, '\n'), 0o644); err != nil {
		return resp, fmt.Errorf("write plan: %w", err)
	}
	resp.Path = r.Output
	return resp, nil
}

func run(ctx context.Context, e cli.Env, r cli.RunRequest) (*cli.RunResponse, error) {
	var confirm func(context.Context, *jobs.PlanSummary) error
	if r.Confirm != nil {
		confirm = func(ctx context.Context, p *jobs.PlanSummary) error { return r.Confirm(ctx, planResponse(p)) }
	}
	if r.Plan != "" {
		return runPlan(ctx, e, r, confirm)
	}
	if r.Engine != "" {
		r.Job.Engine.Type = r.Engine
	}
	if r.Workers > 0 {
		r.Job.Engine.Workers = r.Workers
	}
	j, err := open(ctx, e, r.Job)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	o := options(r.Selection)
	o.DryRun, o.Confirm = r.DryRun, confirm
	if r.Compact {
		sum, err := j.Compact(ctx, o)
		return runResponse(sum), err
	}
	sum, err := j.Run(ctx, o)
	return runResponse(sum), err
}

// planRef reads a plan's file, or takes a run id as it is.
func planRef(plan string, s cli.State) (ref cli.RunRef, digest string, err error) {
	ref = cli.RunRef{State: s, RunID: plan}
	raw, err := os.ReadFile(plan)
	if errors.Is(err, fs.ErrNotExist) {
		return ref, "", nil
	}
	if err != nil {
		return ref, "", fmt.Errorf("read plan: %w", err)
	}
	var p planFile
	if err := json.Unmarshal(raw, &p); err != nil || p.RunID == "" {
		return ref, "", fmt.Errorf("%s is not a plan of expunge plan --output: %w", plan, jobs.ErrUsage)
	}
	ref.RunID, ref.State.Location = p.RunID, p.State
	return ref, p.Digest, nil
}

// runPlan executes a plan given as a file of plan --output or as a run id.
func runPlan(ctx context.Context, e cli.Env, r cli.RunRequest, confirm func(context.Context, *jobs.PlanSummary) error) (*cli.RunResponse, error) {
	ref, digest, err := planRef(r.Plan, r.State)
	if err != nil {
		return nil, err
	}
	j, id, err := openOf(ctx, e, ref)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	sum, err := j.RunPlan(ctx, id, digest, confirm)
	return runResponse(sum), err
}

func resume(ctx context.Context, e cli.Env, r cli.RunRef) (*cli.RunResponse, error) {
	j, id, err := openOf(ctx, e, r)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	sum, err := j.Resume(ctx, id)
	return runResponse(sum), err
}

func runs(ctx context.Context, _ cli.Env, r cli.RunsRequest) (*cli.RunsResponse, error) {
	s, err := openState(ctx, r.State)
	if err != nil {
		return nil, err
	}
	all, err := jobs.Runs(ctx, s, r.Job, 0)
	if err != nil {
		return nil, err
	}
	resp := &cli.RunsResponse{}
	for _, st := range all {
		if r.Kind != "" && jobs.KindOf(st) != r.Kind {
			continue
		}
		if resp.Runs = append(resp.Runs, runInfo(st)); len(resp.Runs) == r.Limit {
			break
		}
	}
	return resp, nil
}

func status(ctx context.Context, _ cli.Env, r cli.RunRef) (*cli.StatusResponse, error) {
	s, err := openState(ctx, r.State)
	if err != nil {
		return nil, err
	}
	id, err := find(ctx, s, r.RunID)
	if err != nil {
		return nil, err
	}
	st, err := s.OpenRun(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	now, err := st.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return &cli.StatusResponse{RunInfo: runInfo(now), Step: now.Step, Done: now.Counters["files_done"], Total: now.Counters["files_total"]}, nil
}

func stop(ctx context.Context, e cli.Env, r cli.RunRef) (*cli.StatusResponse, error) {
	s, err := openState(ctx, r.State)
	if err != nil {
		return nil, err
	}
	id, err := find(ctx, s, r.RunID)
	if err != nil {
		return nil, err
	}
	if err := jobs.Stop(ctx, s, id); err != nil {
		return nil, err
	}
	return status(ctx, e, cli.RunRef{State: r.State, RunID: id})
}
