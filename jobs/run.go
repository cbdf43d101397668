package jobs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// States of a run, as state.Status names them.
const (
	StatePlanned     = "planned" // expunge plan: waits to be run
	StateRunning     = "running"
	StateInterrupted = "interrupted" // can be resumed
	StateStopped     = "stopped"     // by a limit, before any change
	StateFinished    = "finished"
	StateFailed      = "failed" // before any change
	StateAuditing    = "auditing"
)

// Labels of a run's status.
const (
	labelPurged   = "purged"   // when the last of its targets was purged, RFC 3339
	labelReverted = "reverted" // its rows were added back
	labelDryRun   = "dry_run"
	labelAudit    = "audit"   // a pass of the audit loop, which erases nothing
	labelCompact  = "compact" // it compacts tables and erases nothing
	// labelJobDigest is the digest of the job file as the run froze it.
	labelJobDigest = "job_digest"
)

// RunOptions narrow a run.
type RunOptions struct {
	Since, Until time.Time
	KeysFrom     []string
	DryRun       bool
	Compact      bool // compaction alone: no keys are loaded and no row is erased
	// Confirm is asked once the plan stands and before the first write to a target; nil = not asked.
	Confirm func(ctx context.Context, p *PlanSummary) error
}

// Run is one execution of a job, with all that its journal knows.
type Run struct {
	job      *Job
	st       *state.Run
	journal  *state.Journal
	frozen   *frozenJob
	opts     RunOptions
	progress progress
	sets     map[string]*keyset.Set
	reports  map[string]*keyset.Report
	targets  []*boundTarget
	excluded []warehouse.Excluded
	leases   []*state.Lease
	indexes  map[int]*iceberg.FileIndex // by slot, where the job keeps a key index
	worker   *Worker
	resumed  bool
	statusAt time.Time // when the status was last written
	planOnly bool      // expunge plan: no lease, nothing but the state bucket is written
	auditing bool      // a pass of the audit loop
}

// ID is the run's id: job, start time and a few random digits.
func (r *Run) ID() string { return r.st.ID() }

// newRunID draws an id: the prefix, the time, and some random digits.
func newRunID(job string, now time.Time) (string, error) {
	var b [3]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw run id: %w", err)
	}
	return job + "-" + now.Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:]), nil
}

// newRun creates a run's folder and freezes the job in it.
func (j *Job) newRun(ctx context.Context, o RunOptions) (*Run, error) {
	return j.newRunNamed(ctx, j.cfg.Name, o)
}

func (j *Job) newRunNamed(ctx context.Context, prefix string, o RunOptions) (*Run, error) {
	now := clock.Now(ctx)
	id, err := newRunID(prefix, now)
	if err != nil {
		return nil, err
	}
	st, err := j.state.NewRun(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("create run: %w", err)
	}
	r := &Run{job: j, st: st, opts: o}
	if r.journal, err = st.Journal(ctx, journalName); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	digest, err := j.cfg.Digest()
	if err != nil {
		return nil, err
	}
	r.frozen = &frozenJob{Job: j.cfg.Freeze(), Digest: digest,
		Since: o.Since, Until: o.Until, KeysFrom: o.KeysFrom, Compact: o.Compact, Started: now}
	if err := st.WriteJSON(ctx, fileJob, r.frozen); err != nil {
		return nil, fmt.Errorf("freeze job: %w", err)
	}
	if err := r.note(ctx, evCreated, "", nil); err != nil {
		return nil, err
	}
	return r, nil
}

// openRun takes up an existing run.
func (j *Job) openRun(ctx context.Context, id string) (*Run, error) {
	st, err := j.state.OpenRun(ctx, id)
	if errors.Is(err, state.ErrNoRun) {
		return nil, fmt.Errorf("%s: %w", id, ErrNoRun)
	}
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	r := &Run{job: j, st: st, resumed: true, frozen: &frozenJob{}}
	if err := st.ReadJSON(ctx, fileJob, r.frozen); err != nil {
		return nil, fmt.Errorf("read frozen job: %w", err)
	}
	r.opts = RunOptions{Since: r.frozen.Since, Until: r.frozen.Until, KeysFrom: r.frozen.KeysFrom, Compact: r.frozen.Compact}
	if r.journal, err = st.Journal(ctx, journalName); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	for e, err := range r.journal.Replay(ctx) {
		if err != nil {
			return nil, fmt.Errorf("replay journal: %w", err)
		}
		if err := r.progress.apply(e); err != nil {
			return nil, fmt.Errorf("replay journal: entry %d: %w", e.Seq, err)
		}
	}
	return r, nil
}

// FrozenJob returns the job file that a run was started with, so that resume,
// purge and restore need nothing but the state bucket.
func FrozenJob(ctx context.Context, s *state.State, runID string) (*configs.Job, error) {
	st, err := s.OpenRun(ctx, runID)
	if errors.Is(err, state.ErrNoRun) {
		return nil, fmt.Errorf("%s: %w", runID, ErrNoRun)
	}
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	var f frozenJob
	if err := st.ReadJSON(ctx, fileJob, &f); err != nil {
		return nil, fmt.Errorf("read frozen job: %w", err)
	}
	return f.Job.Thaw()
}

// note appends a journal entry and applies it.
func (r *Run) note(ctx context.Context, step, key string, data any) error {
	var raw json.RawMessage
	if data != nil {
		b, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("journal %s: %w", step, err)
		}
		raw = b
	}
	e, err := r.journal.Append(ctx, state.Event{Step: step, Key: key, Data: raw})
	if err != nil {
		return fmt.Errorf("journal %s: %w", step, err)
	}
	return r.progress.apply(e)
}

// step tells people and the status file where the run is.
func (r *Run) step(ctx context.Context, s Step) error {
	r.job.env.Reporter.Report(Event{Type: "step", Step: s})
	return r.setStatus(ctx, StateRunning, string(s))
}

func (r *Run) setStatus(ctx context.Context, st, step string) error {
	s := state.Status{Run: r.ID(), Job: r.job.cfg.Name, State: st, Step: step,
		Started: r.frozen.Started, Updated: clock.Now(ctx), Counters: map[string]int64{}}
	p := &r.progress
	if p.ended != nil {
		s.Outcome, s.Ended = p.ended.Outcome, p.ended.Time
		if len(p.purged) < len(p.purgeSlots()) {
			s.PurgeDue = p.ended.PurgeDue
		}
	}
	if p.planned != nil {
		for _, pt := range p.planned.Targets {
			s.Counters["files_total"] += pt.Plan.Tasks
			s.Counters["files_done"] += p.totals(pt.Slot).Files
		}
		s.Counters["tables_total"] = int64(len(p.planned.Targets))
		s.Counters["tables_committed"], s.Counters["tables_verified"] = int64(len(p.committed)), int64(len(p.verified))
	}
	for _, c := range p.committed {
		s.Counters["rows_erased"] += c.RowsErased
		if c.RowsChanged > 0 {
			s.Counters["rows_changed"] += c.RowsChanged
		}
		s.Counters["files_replaced"] += c.FilesReplaced + c.FilesDropped
	}
	for _, pu := range p.purged {
		s.Counters["files_removed"] += pu.Purged.FilesRemoved
	}
	s.Labels = map[string]string{labelJobDigest: r.frozen.Digest}
	if p.ended != nil && len(p.purged) > 0 && s.PurgeDue.IsZero() {
		s.Labels[labelPurged] = p.purgedAt().UTC().Format(time.RFC3339)
	}
	if len(p.reverted) > 0 {
		s.Labels[labelReverted] = "true"
	}
	if r.opts.DryRun {
		s.Labels[labelDryRun] = "true"
	}
	if r.auditing {
		s.Labels[labelAudit] = "true"
		if m, ok := p.manifest(string(manifests.KindAudit)); ok {
			s.Outcome, s.Ended = m.Outcome, p.last
		}
	}
	if r.frozen.Compact {
		s.Labels[labelCompact] = "true"
	}
	if err := r.st.SetStatus(ctx, s); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	r.statusAt = s.Updated
	return nil
}

// statusEvery is how often a step that goes on tells the status file how far it is.
const statusEvery = 2 * time.Second

// tick writes the status anew where the last one is old.
func (r *Run) tick(ctx context.Context, s Step) error {
	if clock.Now(ctx).Sub(r.statusAt) < statusEvery {
		return nil
	}
	return r.setStatus(ctx, StateRunning, string(s))
}

// lock takes the lease of every table of the run, in the order of their ids so
// that two runs cannot wait for each other.
func (r *Run) lock(ctx context.Context) error {
	if r.opts.DryRun || r.planOnly {
		return nil
	}
	names := map[string]string{}
	for _, t := range r.targets {
		d, err := t.target.Describe(ctx)
		if err != nil {
			return fmt.Errorf("describe %s: %w", t.name, err)
		}
		id := d.UUID
		if id == "" {
			id = d.Location
		}
		names[id] = t.name
	}
	for _, id := range sortedKeys(names) {
		l, err := r.job.state.Acquire(ctx, "table/"+id, r.job.env.Holder+" "+r.ID(), r.job.env.LeaseTTL)
		if err != nil {
			r.unlock(ctx)
			return fmt.Errorf("table %s: %w", names[id], err)
		}
		r.leases = append(r.leases, l)
	}
	return r.cleanUnfinished(ctx)
}

// unfinisher is a target that can drop what dead processes of a run left half
// written in it.
type unfinisher interface {
	CleanUnfinished(ctx context.Context, runID string) error
}

// cleanUnfinished comes right after the leases: nobody else is writing for this run.
func (r *Run) cleanUnfinished(ctx context.Context) error {
	for _, t := range r.targets {
		u, ok := t.target.(unfinisher)
		if !ok {
			continue
		}
		if err := r.job.unless(ctx, u.CleanUnfinished(ctx, r.ID())); err != nil {
			r.unlock(ctx)
			return err
		}
	}
	return nil
}

// unless lets a cleaning that the store does not allow pass with a warning:
// whoever gave so few permissions gets litter, not a run that stands still.
func (j *Job) unless(ctx context.Context, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, storage.ErrUnsupported) || errors.Is(err, storage.ErrReadOnly) {
		j.env.Log.WarnContext(ctx, "unfinished writes of dead processes were not looked for", "error", err)
		return nil
	}
	return err
}

func (r *Run) unlock(ctx context.Context) {
	// A run that was cancelled still gives its leases back.
	ctx = context.WithoutCancel(ctx)
	for _, l := range r.leases {
		if err := l.Release(ctx); err != nil {
			r.job.env.Log.WarnContext(ctx, "lease not released; it lapses by itself", "error", err)
		}
	}
	r.leases = nil
}

// fence fails once any lease of the run is lost.
func (r *Run) fence(ctx context.Context) error {
	for _, l := range r.leases {
		if err := l.Check(ctx); err != nil {
			return fmt.Errorf("%w: %w", warehouse.ErrFenced, err)
		}
	}
	return nil
}

// watch cancels the returned context when somebody asks the run to stop or a
// lease is lost.
func (r *Run) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	for _, l := range r.leases {
		go func() {
			select {
			case <-l.Lost():
				cancel(warehouse.ErrFenced)
			case <-ctx.Done():
			case <-done:
			}
		}()
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		tick := time.NewTicker(r.job.env.StopPoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_, stop, err := r.st.StopRequested(ctx)
				if err == nil && stop {
					cancel(ErrStopped)
					return
				}
			}
		}
	}()
	return ctx, func() {
		close(done)
		cancel(context.Canceled)
		<-finished
	}
}
