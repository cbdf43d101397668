package main

import (
	"context"
	"fmt"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// runDemo makes a lakehouse, runs the nightly job on it, and holds the result
// against what the maker of the lakehouse knows.
func runDemo(ctx context.Context, e cli.Env, r cli.DemoRequest) (*cli.RunResponse, error) {
	e.Reporter.Report(cli.Event{Type: "step", Step: "demo", Message: "make a lakehouse"})
	lake, err := demo.Make(ctx, demo.Options{Dir: r.Dir, Rows: r.Rows, Seed: r.Seed, Report: func(m string) {
		e.Reporter.Report(cli.Event{Type: "note", Step: "demo", Message: m})
	}})
	if err != nil {
		return nil, fmt.Errorf("make the lakehouse: %w", err)
	}
	if r.Keep {
		return &cli.RunResponse{Job: lake.Job}, nil
	}
	cfg, err := configs.Load(lake.Job)
	if err != nil {
		return nil, err
	}
	j, err := open(ctx, e, cfg)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	sum, err := j.Run(ctx, jobs.RunOptions{})
	if err != nil {
		return runResponse(sum), err
	}
	if err := compareDemo(lake, sum); err != nil {
		return runResponse(sum), err
	}
	return runResponse(sum), nil
}

// compareDemo: the maker of the lakehouse knows how many rows there were to erase.
func compareDemo(lake *demo.Lakehouse, sum *jobs.Summary) error {
	want := map[string]int64{}
	for _, t := range lake.Tables {
		want[t.Name] = t.ToErase
	}
	for _, t := range sum.Targets {
		var got int64
		if t.Status == manifests.TargetDone && t.Committed != nil {
			got = t.Committed.RowsErased
		}
		if got != want[t.Name] {
			return fmt.Errorf("%s: %d rows were erased and the demo put %d there: %w", t.Name, got, want[t.Name], jobs.ErrVerification)
		}
	}
	return nil
}
