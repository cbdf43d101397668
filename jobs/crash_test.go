package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// flow is something that a job does and that is disturbed again and again.
type flow struct {
	name  string
	table string // the one target, to keep the job small
	grace string
	after bool // a run comes first, undisturbed
	many  bool // so many operations that only a full sweep takes it
	thin  bool // a thin sweep meets few of its operations
	stray bool // an orphan of old, with erased rows in it, is removed as well
	act   func(ctx context.Context, j *jobs.Job) (outcome string, err error)
	good  []manifests.Result // "" = nothing was left to do
}

var flows = []flow{
	{name: "run", table: "lake.support.tickets", grace: "0s", stray: true, act: actRun,
		good: []manifests.Result{manifests.Erased, manifests.NothingToErase}},
	{name: "run with deletion vectors and row ids", table: "lake.events.logins", grace: "0s", stray: true, act: actRun,
		good: []manifests.Result{manifests.Erased, manifests.NothingToErase}},
	{name: "compaction of equality deletes", table: "lake.events.clicks", grace: "0s", thin: true, stray: true, act: actCompact,
		good: []manifests.Result{manifests.Erased, manifests.NothingToErase}},
	{name: "compaction of position deletes", table: "lake.sales.orders", grace: "0s", many: true, stray: true, act: actCompact,
		good: []manifests.Result{manifests.Erased, manifests.NothingToErase}},
	{name: "compaction of deletion vectors and row ids", table: "lake.events.logins", grace: "0s", thin: true, stray: true, act: actCompact,
		good: []manifests.Result{manifests.Erased, manifests.NothingToErase}},
	{name: "purge", table: "lake.support.tickets", grace: "7d", after: true, stray: true, act: actPurge,
		good: []manifests.Result{manifests.Erased, ""}},
	{name: "restore", table: "lake.support.tickets", grace: "7d", after: true, act: actRestore,
		good: []manifests.Result{manifests.Reverted}},
}

func actRun(ctx context.Context, j *jobs.Job) (string, error) {
	sum, err := j.Run(ctx, jobs.RunOptions{})
	if err != nil {
		return "", err
	}
	return sum.Outcome, nil
}

// actCompact compacts; files that could not be read are left to the next compaction.
func actCompact(ctx context.Context, j *jobs.Job) (string, error) {
	sum, err := j.Compact(ctx, jobs.RunOptions{})
	if err == nil && sum.Outcome == string(manifests.Partial) {
		sum, err = j.Compact(ctx, jobs.RunOptions{})
	}
	if err != nil {
		return "", err
	}
	return sum.Outcome, nil
}

func actPurge(ctx context.Context, j *jobs.Job) (string, error) {
	ctx = clock.With(ctx, func() time.Time { return time.Now().Add(8 * 24 * time.Hour) })
	due, err := j.PurgeDue(ctx, false)
	if err != nil || len(due) == 0 {
		return "", err
	}
	return due[0].Outcome, nil
}

func actRestore(ctx context.Context, j *jobs.Job) (string, error) {
	runs, err := jobs.Runs(ctx, j.State(), "", 1)
	if err != nil {
		return "", err
	}
	back, err := j.Restore(ctx, runs[0].Run, nil, false)
	if err != nil {
		return "", err
	}
	return back.Outcome, nil
}

// sweep is a lakehouse on which one flow is disturbed.
type sweep struct {
	flow
	lake   *demo.Lakehouse
	copy   string
	orphan string // where the flow has one
	want   string // contents after an undisturbed flow
	files  int    // how many data and delete files are stored then
	ops    int64  // storage operations of an undisturbed flow
}

func newSweep(t *testing.T, f flow) *sweep {
	t.Helper()
	lake, _ := lakehouse(t, 3_000, f.grace)
	s := &sweep{flow: f, lake: lake}
	if f.after {
		if _, err := actRun(t.Context(), s.open(t, jobs.Env{})); err != nil {
			t.Fatal(err)
		}
	}
	if f.stray {
		s.orphan = plantOrphan(t, lake, s.table)
	}
	s.copy = snapshotDir(t, lake.Dir)
	var n atomic.Int64
	calm := s.counting(&n, 0, nil)
	calm.LeaseTTL = state.MaxTTL // nobody waits for it, and a busy machine may stall
	outcome, err := s.act(t.Context(), s.open(t, calm))
	if err != nil || !slices.Contains(f.good, manifests.Result(outcome)) {
		t.Fatalf("undisturbed: %s, %v", outcome, err)
	}
	if s.stays(t) {
		t.Fatal("the orphan is still there: the sweep shows nothing of its removal")
	}
	s.want, _ = contents(t, lake, s.table)
	s.files = len(s.stored(t))
	s.ops = n.Load()
	return s
}

// plantOrphan leaves a copy of a data file that nothing refers to, a week old.
func plantOrphan(t *testing.T, lake *demo.Lakehouse, table string) string {
	t.Helper()
	tasks, err := loadTable(t, lake, table).Scan().PlanFiles(t.Context())
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no data file to copy: %v", err)
	}
	file := strings.TrimPrefix(tasks[0].File.FilePath(), "file://")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(filepath.Dir(file), "stray-attempt.parquet")
	if err := os.WriteFile(orphan, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	makeOld(t, orphan)
	return orphan
}

func makeOld(t *testing.T, path string) {
	t.Helper()
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

// restore puts everything back to what it was before the flow.
func (s *sweep) restore(t *testing.T) {
	t.Helper()
	restoreDir(t, s.copy, s.lake.Dir)
	if s.stray {
		makeOld(t, s.orphan)
	}
}

// stays says that there is an orphan and that it was not removed.
func (s *sweep) stays(t *testing.T) bool {
	t.Helper()
	if !s.stray {
		return false
	}
	_, err := os.Stat(s.orphan)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// open binds the job, narrowed to the flow's table. A process to be disturbed
// has a short lease, since the next one waits for it to lapse.
func (s *sweep) open(t *testing.T, env jobs.Env) *jobs.Job {
	t.Helper()
	cfg, err := configs.Load(s.lake.Job)
	if err != nil {
		t.Fatal(err)
	}
	if s.table != "" {
		cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return !covers(t.Table, s.table) })
		cfg.Targets[0].Table = s.table
	}
	small(cfg)
	if env.WrapStore != nil && env.LeaseTTL == 0 {
		env.LeaseTTL = leaseInSweep
	}
	return open(t, cfg, env)
}

// small narrows a job to its last target, which in the demo has the fewest files.
func small(cfg *configs.Job) *configs.Job {
	cfg.Targets = cfg.Targets[len(cfg.Targets)-1:]
	cfg.Engine.Workers = 1
	cfg.Orphans.Remove = true
	cfg.Limits.Share = configs.Whole // few rows, so the keys are a large share of them
	return cfg
}

func covers(pattern, name string) bool {
	ok, err := filepath.Match(pattern, name)
	return err == nil && ok
}

// counting numbers the operations of every store of a job together and
// disturbs the n-th.
func (s *sweep) counting(n *atomic.Int64, at int64, fault *storage.Fault) jobs.Env {
	return jobs.Env{WrapStore: func(_ string, st storage.Store) storage.Store {
		return storage.WithFaults(st, &storage.Faults{Pick: func(int64, storage.Call) *storage.Fault {
			if n.Add(1) == at {
				return fault
			}
			return nil
		}})
	}}
}

// settle does the same again, undisturbed, and demands the end state of a flow
// that nothing disturbed.
func (s *sweep) settle(t *testing.T, what string) {
	t.Helper()
	j := s.open(t, jobs.Env{})
	outcome, err := s.act(t.Context(), j)
	for deadline := time.Now().Add(time.Minute); errors.Is(err, state.ErrLeaseHeld) && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		outcome, err = s.act(t.Context(), j)
	}
	if err != nil {
		t.Fatalf("%s: again: %v", what, err)
	}
	if !slices.Contains(s.good, manifests.Result(outcome)) {
		t.Errorf("%s: outcome %s after doing it again", what, outcome)
	}
	if got, _ := contents(t, s.lake, s.table); got != s.want {
		t.Errorf("%s: the table is not the one that nothing disturbed", what)
	}
	if names := s.stored(t); len(names) != s.files {
		t.Errorf("%s: %d data and delete files are stored, want %d: %s", what, len(names), s.files, names)
	}
	s.noStrays(t, what)
	if s.stays(t) {
		t.Errorf("%s: the orphan is still there", what)
	}
}

func (s *sweep) location(t *testing.T) string {
	t.Helper()
	table, ok := s.lake.Find(s.table)
	if !ok {
		t.Fatalf("no table %s", s.table)
	}
	return table.Location
}

// stored lists the data and delete files under the table's location, temporary
// and abandoned ones included. A probe object that was never removed is young
// and stays.
func (s *sweep) stored(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.location(t), "data"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), "expunge-probe-") {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// noStrays demands that every file under the run's output folder is in use.
func (s *sweep) noStrays(t *testing.T, what string) {
	t.Helper()
	live := map[string]bool{}
	tasks, err := loadTable(t, s.lake, s.table).Scan().PlanFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		live[filepath.Base(task.File.FilePath())] = true
	}
	outputs, err := filepath.Glob(filepath.Join(s.location(t), "data", "expunge-*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range outputs {
		if !live[filepath.Base(f)] {
			t.Errorf("%s: %s was left behind", what, filepath.Base(f))
		}
	}
}

// sweepAll disturbs every operation of every flow once in each of the given
// ways: all of them with EXPUNGE_SWEEP=full, in slices side by side, else
// a few that are spread over the flow.
func sweepAll(t *testing.T, samples int64, ways []string, disturb func(t *testing.T, s *sweep, way string, at int64)) {
	if testing.Short() {
		t.Skip("a sweep is long")
	}
	slices, full := int64(1), os.Getenv("EXPUNGE_SWEEP") == "full"
	if full {
		slices = 8
	}
	for _, f := range flows {
		if f.many && os.Getenv("EXPUNGE_SWEEP") == "" {
			continue
		}
		for part := range slices {
			t.Run(fmt.Sprintf("%s/%d", f.name, part), func(t *testing.T) {
				t.Parallel()
				s := newSweep(t, f)
				t.Logf("%d storage operations", s.ops)
				step := slices
				if !full {
					step = max(1, s.ops/samples)
				}
				if !full && f.thin {
					step = max(1, 3*s.ops/samples)
				}
				if n, err := strconv.ParseInt(os.Getenv("EXPUNGE_SWEEP"), 10, 64); err == nil { // that one
					part, step = n-1, s.ops
				}
				for i, way := range ways {
					// The ways take turns, so that a thin sweep meets more operations.
					for at := 1 + part + int64(i)*(step/slices)/int64(len(ways)); at <= s.ops; at += step {
						s.restore(t)
						disturb(t, s, way, at)
						s.settle(t, fmt.Sprintf("%s operation %d", way, at))
					}
				}
			})
		}
	}
}

func TestFaultAtEveryStorageOperationEndsAsUndisturbed(t *testing.T) {
	permanent := errors.New("the store is gone")
	sweepAll(t, 12, []string{"fault before", "fault after"}, func(t *testing.T, s *sweep, way string, at int64) {
		f := storage.Fault{Action: storage.FailBefore, Err: permanent}
		if way == "fault after" {
			f.Action = storage.FailAfter
		}
		var n atomic.Int64
		outcome, err := s.act(t.Context(), s.open(t, s.counting(&n, at, &f)))
		t.Logf("%s operation %d: %s %v", way, at, outcome, err)
	})
}

func TestKillAtEveryStorageOperationEndsAsUndisturbed(t *testing.T) {
	var killed atomic.Int64
	t.Cleanup(func() {
		if killed.Load() == 0 && !testing.Short() {
			t.Error("no process was killed: the sweep shows nothing")
		}
	})
	sweepAll(t, 2, []string{"kill before", "kill after"}, func(t *testing.T, s *sweep, way string, at int64) {
		if kill(t, s.name, s.lake.Job, way, at) {
			killed.Add(1)
		}
	})
}

// kill runs a flow in a process that is killed at an operation, and says whether it was.
func kill(t *testing.T, flow, job, way string, at int64) bool {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
	c.Env = append(os.Environ(), "EXPUNGE_KILL_FLOW="+flow, "EXPUNGE_KILL_WAY="+way,
		"EXPUNGE_KILL_AT="+strconv.FormatInt(at, 10), "EXPUNGE_KILL_JOB="+job)
	out, err := c.CombinedOutput()
	if ws, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return true
	}
	if err != nil {
		// On a busy machine the short lease can lapse under its own holder: one disturbance more.
		t.Logf("%s operation %d: %v\n%s", way, at, err, out)
	}
	return false
}

// stride thins a sweep out for quick test runs; EXPUNGE_SWEEP=full takes every operation.
func stride(ops int64) int64 {
	if os.Getenv("EXPUNGE_SWEEP") == "full" {
		return 1
	}
	return max(1, ops/7)
}

// TestKilledProcess is the process that the test above kills.
func TestKilledProcess(t *testing.T) {
	at, err := strconv.ParseInt(os.Getenv("EXPUNGE_KILL_AT"), 10, 64)
	if err != nil {
		t.Skip("runs as a child process only")
	}
	f := flow{act: actRun} // a job with one target, as it is
	if i := slices.IndexFunc(flows, func(f flow) bool { return f.name == os.Getenv("EXPUNGE_KILL_FLOW") }); i >= 0 {
		f = flows[i]
	}
	s := &sweep{flow: f, lake: &demo.Lakehouse{Job: os.Getenv("EXPUNGE_KILL_JOB")}}
	action := storage.CallBefore
	if strings.HasSuffix(os.Getenv("EXPUNGE_KILL_WAY"), "after") {
		action = storage.CallAfter
	}
	var n atomic.Int64
	env := s.counting(&n, at, &storage.Fault{Action: action, Do: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }})
	if _, err := s.act(t.Context(), s.open(t, env)); err != nil {
		t.Fatal(err)
	}
}

// leaseInSweep is how long a killed process keeps its lease.
const leaseInSweep = 2 * time.Second
