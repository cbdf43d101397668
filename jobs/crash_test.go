package jobs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// sweep is a small job that is disturbed again and again: one table with
// renamed columns, position deletes and a purge at once.
type sweep struct {
	lake  *demo.Lakehouse
	copy  string
	table string
	stray string // an orphan of old, with erased rows in it
	want  string // contents after an undisturbed run
	ops   int64  // storage operations of an undisturbed run
}

// small narrows a demo job to its last target, which has the fewest files.
func small(cfg *configs.Job) *configs.Job {
	cfg.Targets = cfg.Targets[len(cfg.Targets)-1:]
	cfg.Engine.Workers = 1
	cfg.Orphans.Remove = true
	cfg.Limits.Share = configs.Whole // few rows, so the demo's keys are a large share of them
	return cfg
}

func newSweep(t *testing.T) *sweep {
	t.Helper()
	lake, cfg := lakehouse(t, 3_000, "0s")
	s := &sweep{lake: lake, table: small(cfg).Targets[0].Table}
	s.stray = plantOrphan(t, lake, s.table)
	s.copy = snapshotDir(t, lake.Dir)
	var n atomic.Int64
	if _, err := s.run(t, s.counting(&n, 0, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.stray); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the orphan is still there (%v): the sweep shows nothing of its removal", err)
	}
	s.want, _ = contents(t, lake, s.table)
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
	stray := filepath.Join(filepath.Dir(file), "stray-attempt.parquet")
	if err := os.WriteFile(stray, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	makeOld(t, stray)
	return stray
}

func makeOld(t *testing.T, path string) {
	t.Helper()
	old := time.Now().Add(-7 * 24 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
}

// restore puts everything back to what it was before the first run.
func (s *sweep) restore(t *testing.T) {
	t.Helper()
	restoreDir(t, s.copy, s.lake.Dir)
	makeOld(t, s.stray)
}

// counting numbers the operations of every store of a run together and
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

func (s *sweep) run(t *testing.T, env jobs.Env) (*jobs.Summary, error) {
	t.Helper()
	cfg, err := configs.Load(s.lake.Job)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, small(cfg), env).Run(t.Context(), jobs.RunOptions{})
}

// settle runs the job again, undisturbed, and demands the end state of a run
// that nothing disturbed.
func (s *sweep) settle(t *testing.T, what string) {
	t.Helper()
	sum, err := s.run(t, jobs.Env{})
	for deadline := time.Now().Add(20 * time.Second); errors.Is(err, state.ErrLeaseHeld) && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		sum, err = s.run(t, jobs.Env{})
	}
	if err != nil {
		t.Fatalf("%s: run again: %v", what, err)
	}
	if sum.Outcome != string(manifests.Erased) && sum.Outcome != string(manifests.NothingToErase) {
		t.Errorf("%s: outcome %s after running again: %s", what, sum.Outcome, sum.Reasons)
	}
	if got, _ := contents(t, s.lake, s.table); got != s.want {
		t.Errorf("%s: the table is not the one of an undisturbed run", what)
	}
	for _, table := range s.lake.Tables {
		if table.Name == s.table {
			s.noStrays(t, what, table.Location)
		}
	}
}

// noStrays demands that every file under the run's output folder is in use.
func (s *sweep) noStrays(t *testing.T, what, location string) {
	t.Helper()
	live := map[string]bool{}
	tbl := loadTable(t, s.lake, s.table)
	tasks, err := tbl.Scan().PlanFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		live[filepath.Base(task.File.FilePath())] = true
	}
	outputs, err := filepath.Glob(filepath.Join(location, "data", "expunge-*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range outputs {
		if !live[filepath.Base(f)] {
			t.Errorf("%s: %s was left behind", what, filepath.Base(f))
		}
	}
	if _, err := os.Stat(s.stray); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: the orphan is still there (%v)", what, err)
	}
}

// stride thins a sweep out for quick test runs; EXPUNGE_SWEEP=full takes every operation.
func stride(ops int64) int64 {
	if os.Getenv("EXPUNGE_SWEEP") == "full" {
		return 1
	}
	return max(1, ops/7)
}

func TestFaultAtEveryStorageOperationEndsAsUndisturbed(t *testing.T) {
	if testing.Short() {
		t.Skip("a sweep is long")
	}
	s := newSweep(t)
	t.Logf("%d storage operations", s.ops)
	permanent := errors.New("the store is gone")
	for _, f := range []storage.Fault{{Action: storage.FailBefore, Err: permanent}, {Action: storage.FailAfter, Err: permanent}} {
		for at := int64(1) + int64(f.Action); at <= s.ops; at += stride(s.ops) {
			what := fmt.Sprintf("action %d at operation %d", f.Action, at)
			s.restore(t)
			var n atomic.Int64
			_, _ = s.run(t, s.counting(&n, at, &f))
			s.settle(t, what)
		}
	}
}

// TestKilledProcess is the process that the next test kills.
func TestKilledProcess(t *testing.T) {
	at, err := strconv.ParseInt(os.Getenv("EXPUNGE_KILL_AT"), 10, 64)
	if err != nil {
		t.Skip("runs as a child process only")
	}
	s := &sweep{lake: &demo.Lakehouse{Job: os.Getenv("EXPUNGE_KILL_JOB")}}
	action := storage.CallBefore
	if os.Getenv("EXPUNGE_KILL_AFTER") != "" {
		action = storage.CallAfter
	}
	var n atomic.Int64
	env := s.counting(&n, at, &storage.Fault{Action: action, Do: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }})
	env.LeaseTTL = leaseInSweep
	if _, err := s.run(t, env); err != nil {
		t.Fatal(err)
	}
}

func TestKillAtEveryStorageOperationEndsAsUndisturbed(t *testing.T) {
	if testing.Short() {
		t.Skip("a sweep is long")
	}
	s := newSweep(t)
	killed := 0
	for _, after := range []string{"", "1"} {
		for at := int64(2); at <= s.ops; at += stride(s.ops) {
			what := fmt.Sprintf("kill at operation %d%s", at, after)
			s.restore(t)
			c := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
			c.Env = append(os.Environ(), "EXPUNGE_KILL_AT="+strconv.FormatInt(at, 10), "EXPUNGE_KILL_JOB="+s.lake.Job, "EXPUNGE_KILL_AFTER="+after)
			out, err := c.CombinedOutput()
			if ws, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
				killed++
			} else if err != nil {
				// On a busy machine the short lease can lapse under its own holder: one disturbance more.
				t.Logf("%s: %v\n%s", what, err, out)
			}
			s.settle(t, what)
		}
	}
	if killed == 0 {
		t.Error("no process was killed: the sweep shows nothing")
	}
}

// leaseInSweep is how long a killed process keeps its lease. The process that
// comes next waits for it to lapse.
const leaseInSweep = 2 * time.Second
