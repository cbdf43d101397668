package cli

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
)

// catchUp bounds how many missed runs a job makes up.
const catchUp = 100

// timetable is one thing that a job does by a schedule: runs, or audits.
type timetable struct {
	kind string // KindRun, KindAudit
	of   func(*configs.Job) *configs.Schedule
	do   func(a *app, ctx context.Context, cmd *cobra.Command, j *configs.Job) error
}

var timetables = []timetable{
	{KindRun, func(j *configs.Job) *configs.Schedule { return j.Schedule },
		func(a *app, ctx context.Context, cmd *cobra.Command, j *configs.Job) error {
			return scheduled(a, ctx, cmd, a.backend.Run, RunRequest{Job: j})
		}},
	{KindAudit, func(j *configs.Job) *configs.Schedule {
		if j.Audit == nil {
			return nil
		}
		return j.Audit.Schedule
	}, func(a *app, ctx context.Context, cmd *cobra.Command, j *configs.Job) error {
		return scheduled(a, ctx, cmd, a.backend.Audit, AuditRequest{Job: j})
	}},
}

// schedule runs each job, and its audit, in goroutines of their own until the
// context ends. A run that fails is printed and does not end the scheduler.
func (a *app) schedule(ctx context.Context, cmd *cobra.Command, jobs []loadedJob) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, lj := range jobs {
		for _, table := range timetables {
			if table.of(lj.job) == nil {
				continue
			}
			wg.Go(func() {
				err := a.follow(ctx, cmd, lj, table)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// follow does one thing of a job by its schedule. Runs of one job never
// overlap, nor do its audits.
func (a *app) follow(ctx context.Context, cmd *cobra.Command, lj loadedJob, table timetable) error {
	last, err := a.lastStart(ctx, lj.job, table.kind)
	if err != nil {
		return err
	}
	if last.IsZero() {
		last = clock.Now(ctx) // a job that never ran has missed nothing
	}
	for first := true; ; first = false {
		policy := *table.of(lj.job)
		if !first && policy.Overlap == "queue" && policy.Missed == "skip" {
			policy.Missed = "once" // what came due during a run was not missed, it waits
		}
		due, err := policy.Due(last, clock.Now(ctx), catchUp)
		if err != nil {
			return err
		}
		for _, t := range due {
			slog.Info("missed, made up", "kind", table.kind, "job", lj.job.Name, "due", t)
			if lj, err = a.runScheduled(ctx, cmd, lj, table); err != nil {
				return err
			}
		}
		next, err := table.of(lj.job).NextRun(clock.Now(ctx))
		if err != nil {
			return err
		}
		slog.Info("waiting", "job", lj.job.Name, "for", table.kind, "next", next)
		if err := sleepUntil(ctx, next); err != nil {
			return err
		}
		if lj, err = a.runScheduled(ctx, cmd, lj, table); err != nil {
			return err
		}
		// With overlap skip, what came due during the run is passed over; with queue it is made up like a missed run.
		last = next
		if table.of(lj.job).Overlap == "skip" {
			last = clock.Now(ctx)
		}
	}
}

// runScheduled reads the job file again and runs it. A file that is broken now
// is reported, and the job as it was last read is not run in its place.
func (a *app) runScheduled(ctx context.Context, cmd *cobra.Command, lj loadedJob, table timetable) (loadedJob, error) {
	fresh, err := loadJob(lj.path)
	if err == nil && table.of(fresh) == nil {
		err = usagef("%s no longer has a schedule for this: %s", lj.path, table.kind)
	}
	if err != nil {
		_ = a.conclude(cmd, nil, err)
		return lj, ctx.Err()
	}
	lj.job = fresh
	_ = table.do(a, ctx, cmd, fresh)
	return lj, ctx.Err()
}

// scheduled calls the back end once and prints what came of it, without ending
// the scheduler.
func scheduled[Q any, R any](a *app, ctx context.Context, cmd *cobra.Command, f func(context.Context, Env, Q) (*R, error), q Q) error {
	p := a.progress()
	resp, err := f(ctx, Env{Reporter: p}, q)
	p.Close()
	var shown any
	if resp != nil {
		shown = resp
	}
	return a.conclude(cmd, shown, err)
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
