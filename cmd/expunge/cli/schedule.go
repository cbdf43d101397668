package cli

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/expunge/expunge/internal/clock"
)

// catchUp bounds how many missed runs a job makes up.
const catchUp = 100

// schedule runs each job in a goroutine of its own until the context ends. A
// run that fails is printed and does not end the scheduler.
func (a *app) schedule(ctx context.Context, cmd *cobra.Command, jobs []loadedJob) error {
	var wg sync.WaitGroup
	errs := make([]error, len(jobs))
	for i, lj := range jobs {
		wg.Go(func() { errs[i] = a.follow(ctx, cmd, lj) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// follow runs one job by its schedule. Runs of one job never overlap.
func (a *app) follow(ctx context.Context, cmd *cobra.Command, lj loadedJob) error {
	last, err := a.lastStart(ctx, lj.job)
	if err != nil {
		return err
	}
	if last.IsZero() {
		last = clock.Now(ctx) // a job that never ran has missed nothing
	}
	for first := true; ; first = false {
		policy := *lj.job.Schedule
		if !first && policy.Overlap == "queue" && policy.Missed == "skip" {
			policy.Missed = "once" // what came due during a run was not missed, it waits
		}
		due, err := policy.Due(last, clock.Now(ctx), catchUp)
		if err != nil {
			return err
		}
		for _, t := range due {
			slog.Info("run missed, made up", "job", lj.job.Name, "due", t)
			if lj, err = a.runScheduled(ctx, cmd, lj); err != nil {
				return err
			}
		}
		next, err := lj.job.Schedule.NextRun(clock.Now(ctx))
		if err != nil {
			return err
		}
		slog.Info("waiting", "job", lj.job.Name, "next", next)
		if err := sleepUntil(ctx, next); err != nil {
			return err
		}
		if lj, err = a.runScheduled(ctx, cmd, lj); err != nil {
			return err
		}
		// With overlap skip, what came due during the run is passed over; with queue it is made up like a missed run.
		last = next
		if lj.job.Schedule.Overlap == "skip" {
			last = clock.Now(ctx)
		}
	}
}

// runScheduled reads the job file again and runs it. A file that is broken now
// is reported, and the job as it was last read is not run in its place.
func (a *app) runScheduled(ctx context.Context, cmd *cobra.Command, lj loadedJob) (loadedJob, error) {
	fresh, err := loadJob(lj.path)
	if err == nil && fresh.Schedule == nil {
		err = usagef("%s has no schedule", lj.path)
	}
	if err != nil {
		_ = a.conclude(cmd, nil, err)
		return lj, ctx.Err()
	}
	lj.job = fresh
	p := a.progress()
	resp, err := a.backend.Run(ctx, Env{Reporter: p}, RunRequest{Job: fresh})
	p.Close()
	var shown any
	if resp != nil {
		shown = resp
	}
	_ = a.conclude(cmd, shown, err)
	return lj, ctx.Err()
}

// sleepUntil waits for a time. It wakes up at least once a minute, so that a
// machine that slept or whose clock was set does not miss a run.
func sleepUntil(ctx context.Context, t time.Time) error {
	for {
		wait := t.Sub(clock.Now(ctx))
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(min(wait, time.Minute))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
