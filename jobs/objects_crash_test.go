package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// settleObjects runs the job again, undisturbed, and demands the end state of a
// run that nothing disturbed.
func (l *objectLake) settleObjects(t *testing.T, what string) {
	t.Helper()
	var sum *jobs.Summary
	var err error
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		sum, err = open(t, l.reload(t), jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
		if !errors.Is(err, state.ErrLeaseHeld) || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatalf("%s: run again: %v", what, err)
	}
	if sum.Outcome != string(manifests.Erased) && sum.Outcome != string(manifests.NothingToErase) {
		t.Errorf("%s: outcome %s after running again: %s", what, sum.Outcome, sum.Reasons)
	}
	if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
		t.Errorf("%s: %s", what, diff)
	}
	if n := l.own(t); n != 0 {
		t.Errorf("%s: %d objects of the runs' own are left", what, n)
	}
}

func (l *objectLake) reload(t *testing.T) *configs.Job {
	t.Helper()
	cfg, err := configs.Load(filepath.Join(l.dir, "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return small(cfg)
}

// TestFaultsAtObjectsEndAsUndisturbed: any storage operation of the target
// fails, with or without effect, or is cut short.
func TestFaultsAtObjectsEndAsUndisturbed(t *testing.T) {
	if testing.Short() {
		t.Skip("a sweep is long")
	}
	l := newObjectLake(t)
	l.fill(t)
	l.job(t, "0s", ndjsonTarget)
	copied := snapshotDir(t, l.dir)
	faults := func(n *atomic.Int64, at int64, fault *storage.Fault) jobs.Env {
		return jobs.Env{WrapStore: func(role string, s storage.Store) storage.Store {
			if role != "objects" {
				return s
			}
			return storage.WithFaults(s, &storage.Faults{Pick: func(int64, storage.Call) *storage.Fault {
				if n.Add(1) == at {
					return fault
				}
				return nil
			}})
		}}
	}
	var n atomic.Int64
	if _, err := open(t, l.reload(t), faults(&n, 0, nil)).Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	ops := n.Load()
	t.Logf("%d storage operations", ops)
	step := stride(ops)
	if step > 1 {
		step *= 2
	}
	gone := errors.New("the store is gone")
	for _, f := range []storage.Fault{{Action: storage.FailBefore, Err: gone}, {Action: storage.FailAfter, Err: gone}, {Action: storage.Truncate}} {
		for at := int64(1) + int64(f.Action); at <= ops; at += step {
			restoreDir(t, copied, l.dir)
			var n atomic.Int64
			_, _ = open(t, l.reload(t), faults(&n, at, &f)).Run(t.Context(), jobs.RunOptions{})
			l.settleObjects(t, fmt.Sprintf("action %d at operation %d", f.Action, at))
		}
	}
}

// TestKillsAtObjectsEndAsUndisturbed kills the process instead.
func TestKillsAtObjectsEndAsUndisturbed(t *testing.T) {
	if testing.Short() {
		t.Skip("a sweep is long")
	}
	l := newObjectLake(t)
	l.fill(t)
	l.job(t, "0s", ndjsonTarget)
	copied := snapshotDir(t, l.dir)
	s := &sweep{}
	var n atomic.Int64
	if _, err := open(t, l.reload(t), s.counting(&n, 0, nil)).Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for at := int64(3); at <= n.Load(); at += 2 * stride(n.Load()) {
		restoreDir(t, copied, l.dir)
		way := []string{"kill before", "kill after"}[at%2]
		if kill(t, "", filepath.Join(l.dir, "job.yaml"), way, at) {
			killed++
		}
		l.settleObjects(t, fmt.Sprintf("kill at operation %d", at))
	}
	if killed == 0 {
		t.Error("no process was killed: the sweep shows nothing")
	}
}

// TestWritersOfObjectsLoseNothing: others append to the objects, make new ones
// and remove some while the job runs. Every record they wrote is there in the
// end, and after one quiet run no erased one.
func TestWritersOfObjectsLoseNothing(t *testing.T) {
	l := newObjectLake(t)
	store := storage.New(nil)
	ctx := t.Context()
	path := func(i int) string { return fmt.Sprintf("%s/data/%d.ndjson", l.dir, i) }
	const objects = 12
	for i := range objects {
		l.put(t, fmt.Sprintf("%d.ndjson", i), fmt.Sprintf("{\"user\":{\"id\":7},\"n\":%d}\n{\"user\":{\"id\":1},\"n\":%d}\n", i, i), "")
	}
	cfg := l.job(t, "0s", ndjsonTarget)
	var turns atomic.Int64
	written := map[string]bool{}
	write := func(turn int) error {
		line := fmt.Sprintf("{\"user\":{\"id\":100},\"turn\":%d}\n", turn)
		p := path(turn % (objects + 5))
		for {
			old, etag := []byte{}, ""
			if obj, err := store.Open(ctx, p); err == nil {
				old, etag = make([]byte, obj.Info().Size), obj.Info().ETag
				err = storage.ReadFull(obj, old, 0)
				obj.Close()
				if err != nil {
					return err
				}
			}
			o := storage.CreateOptions{IfMatch: etag, IfNotExists: etag == ""}
			err := storage.WriteAll(ctx, store, p, append(old, fmt.Sprintf("{\"user\":{\"id\":13}}\n%s", line)...), o)
			if errors.Is(err, storage.ErrPrecondition) || errors.Is(err, storage.ErrExists) {
				continue // the job was faster
			}
			if err == nil {
				written[strings.TrimSpace(line)] = true
			}
			return err
		}
	}
	// A turn of the writers comes before every fifth operation of the job's.
	env := jobs.Env{WrapStore: func(role string, s storage.Store) storage.Store {
		if role != "objects" {
			return s
		}
		return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
			if n := turns.Add(1); n%5 == 0 && n < 400 {
				if err := write(int(n)); err != nil {
					t.Error(err)
				}
			}
			return nil
		}})
	}}
	sum, err := open(t, cfg, env).Run(ctx, jobs.RunOptions{})
	// A writer may bring a key of the set back after the commit: the verification then says so, and the next run erases it.
	if err != nil && !errors.Is(err, jobs.ErrVerification) {
		t.Fatal(err)
	}
	if len(written) < 20 {
		t.Fatalf("%d turns: the test shows nothing", len(written))
	}
	if sum != nil {
		t.Logf("%d turns, %d conflicts", len(written), sum.Targets[0].Committed.Conflicts)
	}
	if _, err := open(t, cfg, jobs.Env{}).Run(context.WithoutCancel(ctx), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	left := map[string]int{}
	for _, text := range l.contents(t) {
		for line := range strings.Lines(text) {
			left[strings.TrimSpace(line)]++
		}
	}
	for line := range written {
		if left[line] != 1 {
			t.Errorf("%s is there %d times", line, left[line])
		}
	}
	for i := range objects {
		if line := fmt.Sprintf("{\"user\":{\"id\":1},\"n\":%d}", i); left[line] != 1 {
			t.Errorf("%s is there %d times", line, left[line])
		}
	}
	for line := range left {
		if strings.Contains(line, "\"id\":7}") || strings.Contains(line, "\"id\":13}") {
			t.Errorf("%s is still there", line)
		}
	}
}
