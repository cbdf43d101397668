package state

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/expunge/expunge/internal/storage"
)

// crash makes operation n, and all that follow, fail: from then on the process
// is as good as dead.
func crash(n int64, action storage.Action) *storage.Faults {
	dead := &storage.Fault{Action: storage.FailBefore, Err: errors.New("process is dead")}
	return &storage.Faults{Pick: func(i int64, _ storage.Call) *storage.Fault {
		switch {
		case i == n:
			return &storage.Fault{Action: action, Err: dead.Err}
		case i > n:
			return dead
		}
		return nil
	}}
}

// somewhere is a fresh place for a run: mostly in memory, every fifth on disk,
// where each write waits for the disk.
func somewhere(t *testing.T, n int64) (storage.Store, string) {
	if n%5 == 0 {
		return storage.New(nil), t.TempDir()
	}
	return storage.NewMem(), "mem://b/state"
}

// acknowledged is what a process was told is durable.
type acknowledged struct {
	run    bool
	events int64
	files  []string
}

// work is a small run: resumed if it is there, idempotent by its file names.
func work(ctx context.Context, store storage.Store, root string) (ack acknowledged, err error) {
	s, err := Open(ctx, store, root)
	if err != nil {
		return ack, err
	}
	r, err := s.OpenRun(ctx, "run")
	if errors.Is(err, ErrNoRun) {
		r, err = s.NewRun(ctx, "run")
	}
	if err != nil {
		return ack, err
	}
	ack.run = true
	j, err := r.Journal(ctx, "main")
	if err != nil {
		return ack, err
	}
	ack.events = j.Len()
	for i := range 3 {
		name := fmt.Sprintf("results/%d", i)
		if ok, err := r.Exists(ctx, name); err != nil {
			return ack, err
		} else if !ok {
			if _, err := WriteRecords(ctx, r, name, records(20)); err != nil {
				return ack, err
			}
		}
		ack.files = append(ack.files, name)
		if j.Len() > int64(i) {
			continue
		}
		e, err := j.Append(ctx, Event{Step: "done", Key: name})
		if err != nil {
			return ack, err
		}
		ack.events = e.Seq
	}
	return ack, r.SetStatus(ctx, Status{State: "done"})
}

// TestCrashAtAnyOperationThenResume kills the run at every storage operation,
// before and after its effect, and resumes: what was acknowledged is there,
// nothing is there twice, and the end is that of an undisturbed run.
func TestCrashAtAnyOperationThenResume(t *testing.T) {
	plain := storage.New(nil)
	counting := &storage.Faults{}
	if _, err := work(t.Context(), storage.WithFaults(plain, counting), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	total := counting.Count()
	if total < 20 {
		t.Fatalf("only %d operations", total)
	}
	for n := int64(1); n <= total; n++ {
		for _, action := range []storage.Action{storage.FailBefore, storage.FailAfter, storage.Truncate} {
			plain, root := somewhere(t, n)
			ack, err := work(t.Context(), storage.WithFaults(plain, crash(n, action)), root)
			if err == nil && n < total {
				t.Fatalf("operation %d did not fail", n)
			}
			checkAcknowledged(t, plain, root, ack)
			if _, err := work(t.Context(), plain, root); err != nil {
				t.Fatalf("resume after a crash at %d (%d): %v", n, action, err)
			}
			checkFinal(t, plain, root, n)
		}
	}
}

func checkAcknowledged(t *testing.T, store storage.Store, root string, ack acknowledged) {
	t.Helper()
	if !ack.run {
		return
	}
	r, err := openOn(t, store, root).OpenRun(t.Context(), "run")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range ack.files {
		if _, err := r.ReadBytes(t.Context(), name); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
	}
	j, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	if j.Len() < ack.events {
		t.Errorf("journal has %d events, %d were acknowledged", j.Len(), ack.events)
	}
}

func checkFinal(t *testing.T, store storage.Store, root string, n int64) {
	t.Helper()
	r, err := openOn(t, store, root).OpenRun(t.Context(), "run")
	if err != nil {
		t.Fatal(err)
	}
	j, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	events, err := replay(t.Context(), j)
	if err != nil || len(events) != 3 {
		t.Fatalf("crash at %d: %d events, %v", n, len(events), err)
	}
	for i, e := range events {
		if e.Key != fmt.Sprintf("results/%d", i) {
			t.Errorf("crash at %d: event %d is %q", n, i, e.Key)
		}
		count := 0
		for _, err := range ReadRecords[rec](t.Context(), r, e.Key) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if count != 20 {
			t.Errorf("crash at %d: %s has %d records", n, e.Key, count)
		}
	}
	if st, err := r.Status(t.Context()); err != nil || st.State != "done" {
		t.Errorf("crash at %d: %+v %v", n, st, err)
	}
}

// TestTransientFaultsAreRiddenOut: with retries, one transient failure at any
// operation changes nothing for the caller, lost answers included.
func TestTransientFaultsAreRiddenOut(t *testing.T) {
	policy := storage.DefaultRetry
	policy.Base = 1
	plain := storage.New(nil)
	counting := &storage.Faults{}
	if _, err := work(t.Context(), storage.WithFaults(plain, counting), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); n <= counting.Count(); n++ {
		for _, action := range []storage.Action{storage.FailBefore, storage.FailAfter} {
			plain, root := somewhere(t, n)
			store := storage.WithRetry(storage.WithFaults(plain, storage.At(n, storage.Fault{Action: action})), policy)
			for try := 0; ; try++ {
				_, err := work(t.Context(), store, root)
				if err == nil {
					break
				}
				// A local writer can't repeat a failed write: the step is repeated instead.
				if !storage.IsTransient(err) || try == 2 {
					t.Fatalf("operation %d: %v", n, err)
				}
			}
			checkFinal(t, plain, root, n)
		}
	}
}
