package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
)

// Plan loads, resolves and plans without writing to any target. The plan stays
// in the state bucket as a run that waits; RunPlan executes exactly it.
func (j *Job) Plan(ctx context.Context, o RunOptions) (*PlanSummary, error) {
	r, err := j.newRun(ctx, o)
	if err != nil {
		return nil, err
	}
	r.planOnly = true
	err = r.prepare(ctx)
	st := StatePlanned
	if err != nil {
		st = StateFailed
	}
	if serr := r.setStatus(context.WithoutCancel(ctx), st, ""); err == nil {
		err = serr
	}
	if err != nil {
		return nil, err
	}
	return r.planSummary(ctx)
}

// RunPlan executes a plan. digest, when set, must be the plan's.
func (j *Job) RunPlan(ctx context.Context, runID, digest string, confirm func(context.Context, *PlanSummary) error) (*Summary, error) {
	unlock, err := j.lockJob(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := j.openRun(ctx, runID)
	if err != nil {
		return nil, err
	}
	if err := r.checkPlan(digest); err != nil {
		return nil, err
	}
	r.opts.Confirm = confirm
	if len(r.progress.shards) == 0 {
		r.resumed = false // its first execution
	}
	return r.execute(ctx)
}

// Run takes up the job's own unfinished run, if there is one, purges what is
// due, and starts a run unless the one taken up had the same keys.
func (j *Job) Run(ctx context.Context, o RunOptions) (*Summary, error) {
	if o.DryRun {
		r, err := j.newRun(ctx, o)
		if err != nil {
			return nil, err
		}
		return r.execute(ctx)
	}
	unlock, err := j.lockJob(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	resumed, r, err := j.resumeOwn(ctx, o.Compact)
	if err != nil {
		return resumed, err
	}
	due, err := j.PurgeDue(ctx, false)
	if err != nil {
		return nil, err
	}
	if _, err := j.SealDue(ctx); err != nil {
		return nil, err
	}
	if resumed != nil && o.Compact {
		resumed.PurgedDue = due
		return resumed, nil
	}
	if resumed != nil {
		same, err := r.sameKeys(ctx)
		if err != nil || same {
			resumed.PurgedDue = due
			return resumed, err
		}
	}
	if r, err = j.newRun(ctx, o); err != nil {
		return nil, err
	}
	sum, err := r.execute(ctx)
	if sum != nil {
		sum.PurgedDue = due
	}
	return sum, err
}

// resumeOwn finishes the newest unfinished run of this job, of those that erase
// or of those that compact alone.
func (j *Job) resumeOwn(ctx context.Context, compact bool) (*Summary, *Run, error) {
	var last string
	for st, err := range j.state.Runs(ctx) {
		if err != nil {
			return nil, nil, fmt.Errorf("list runs: %w", err)
		}
		if st.Job == j.cfg.Name && (st.State == StateRunning || st.State == StateInterrupted) && st.Labels[labelDryRun] == "" && (st.Labels[labelCompact] != "") == compact && st.Run > last {
			last = st.Run
		}
	}
	if last == "" {
		return nil, nil, nil
	}
	j.env.Reporter.Report(Event{Type: "note", Message: "taking up the unfinished run " + last})
	return j.resume(ctx, last)
}

func (j *Job) resume(ctx context.Context, id string) (*Summary, *Run, error) {
	r, err := j.openRun(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if r.progress.planned == nil && r.progress.keysets == nil {
		// It died before it had frozen anything: nothing was touched, a new run replaces it.
		if err := r.setStatus(ctx, StateFailed, ""); err != nil {
			return nil, nil, err
		}
		return nil, nil, nil
	}
	if err := r.st.ClearStop(ctx); err != nil {
		return nil, nil, fmt.Errorf("clear stop request: %w", err)
	}
	sum, err := r.execute(ctx)
	return sum, r, err
}

// Resume takes up one run: an interrupted one where it was, a finished one to
// try again the targets that it had to leave as they were.
func (j *Job) Resume(ctx context.Context, runID string) (*Summary, error) {
	unlock, err := j.lockJob(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	sum, r, err := j.resume(ctx, runID)
	if err == nil && r == nil {
		return nil, fmt.Errorf("run %s died before it had read its keys; start a new one: %w", runID, ErrUsage)
	}
	return sum, err
}

// sameKeys says whether today's keys are those the run was frozen with.
func (r *Run) sameKeys(ctx context.Context) (bool, error) {
	sets, _, err := r.job.loadKeysets(ctx, r.opts.KeysFrom)
	if err != nil {
		return false, err
	}
	for name, s := range sets {
		old, ok := r.sets[name]
		if !ok || old.Len() != s.Len() {
			return false, nil
		}
		for k := range s.All() {
			if !old.Contains(k) {
				return false, nil
			}
		}
	}
	return true, nil
}

// abandonedAfter is the age from which an unfinished upload to the state
// bucket, where every write takes seconds, has nobody left who would finish it.
const abandonedAfter = 24 * time.Hour

// lockJob keeps two processes from running the same job at once, and drops
// what a process that died left half written in the state bucket.
func (j *Job) lockJob(ctx context.Context) (func(), error) {
	l, err := j.state.Acquire(ctx, "job/"+j.cfg.Name, j.env.Holder, j.env.LeaseTTL)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", j.cfg.Name, err)
	}
	_, err = storage.CleanUnfinished(ctx, j.stateStore, j.state.Root(), abandonedAfter)
	if err := j.unless(ctx, err); err != nil {
		return nil, errors.Join(fmt.Errorf("clean the state bucket: %w", err), l.Release(context.WithoutCancel(ctx)))
	}
	return func() {
		ctx := context.WithoutCancel(ctx)
		if err := l.Release(ctx); err != nil {
			j.env.Log.WarnContext(ctx, "lease not released; it lapses by itself", "error", err)
		}
	}, nil
}

// Stop asks a running run to stop at the next safe point; it can be resumed.
func Stop(ctx context.Context, s *state.State, runID string) error {
	r, err := s.OpenRun(ctx, runID)
	if errors.Is(err, state.ErrNoRun) {
		return fmt.Errorf("%s: %w", runID, ErrNoRun)
	}
	if err != nil {
		return fmt.Errorf("open run: %w", err)
	}
	return r.RequestStop(ctx, "asked for on the command line")
}

// Runs lists the runs of a state bucket, newest first. job "" = all; limit 0 = all.
func Runs(ctx context.Context, s *state.State, job string, limit int) ([]state.Status, error) {
	var out []state.Status
	for st, err := range s.Runs(ctx) {
		if err != nil {
			return nil, fmt.Errorf("list runs: %w", err)
		}
		if job == "" || st.Job == job {
			out = append(out, st)
		}
	}
	slices.SortStableFunc(out, func(a, b state.Status) int { return b.Started.Compare(a.Started) })
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, nil
}

// KindOf says what a run is: "run", "audit", "dry run" or "compact".
func KindOf(st state.Status) string {
	for _, k := range [][2]string{{labelAudit, "audit"}, {labelDryRun, "dry run"}, {labelCompact, "compact"}} {
		if st.Labels[k[0]] != "" {
			return k[1]
		}
	}
	return "run"
}

// CheckResult is one condition that Check tried.
type CheckResult struct {
	What   string
	Target string
	OK     bool
	Detail string
}

// Check proves that the job can run: keysets read, tables resolve, state and
// signing work, and every table can be read, written and listed, for which a
// probe object is written where its files go and removed again.
func (j *Job) Check(ctx context.Context) []CheckResult {
	var out []CheckResult
	add := func(what, target string, err error) {
		c := CheckResult{What: what, Target: target, OK: err == nil}
		if err != nil {
			c.Detail = err.Error()
		}
		out = append(out, c)
	}
	add("write the state bucket", "", j.probeState(ctx))
	add("sign and log", "", j.trySigning(ctx))
	sets, reports, err := j.loadKeysets(ctx, nil)
	add("read the keysets and holds", "", err)
	if err != nil {
		return out
	}
	add("grace ends before the deadline", "", j.checkDeadline(ctx, reports))
	targets, excluded, err := j.resolveTargets(ctx, sets, window{})
	add("resolve the targets", "", err)
	for _, x := range excluded {
		out = append(out, CheckResult{What: "excluded: " + x.Reason, Target: x.What, OK: x.Declared})
	}
	for _, t := range targets {
		add("match columns, read, write, list", t.name, t.prove(ctx))
	}
	return out
}

func (j *Job) probeState(ctx context.Context) error {
	where := j.statePath("probe")
	if err := storage.WriteAll(ctx, j.stateStore, where, []byte("probe"), storage.CreateOptions{}); err != nil {
		return err
	}
	return j.stateStore.Remove(ctx, where)
}

func readAll(ctx context.Context, j *Job, path string) ([]byte, error) {
	return storage.ReadAll(ctx, j.stateStore, path)
}
