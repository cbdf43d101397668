package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
)

var quick = storage.RetryPolicy{Attempts: 3, Base: time.Microsecond, Max: time.Millisecond}

// flaky fails every operation of a kind once in two.
func flaky(s storage.Store, action storage.Action) storage.Store {
	n := map[storage.Op]int{}
	return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
		n[c.Op]++
		if n[c.Op]%2 == 1 && c.Repeatable {
			return &storage.Fault{Action: action}
		}
		return nil
	}})
}

func TestRetryHidesTransientFailures(t *testing.T) {
	for _, action := range []storage.Action{storage.FailBefore, storage.FailAfter, storage.Truncate} {
		mem := storage.NewMem()
		s := storage.WithRetry(flaky(mem, action), quick)
		var want []string
		for i := range 2500 { // more than two pages of a listing
			p := fmt.Sprintf("mem://b/%05d", i)
			write(t, s, p, "x", storage.CreateOptions{})
			want = append(want, p)
		}
		if diff := cmp.Diff(want, listed(t, s, "mem://b/")); diff != "" {
			t.Errorf("action %d: %s", action, diff)
		}
		if got, err := storage.ReadAll(t.Context(), s, want[7]); err != nil || string(got) != "x" {
			t.Errorf("action %d: %q %v", action, got, err)
		}
		if err := s.Remove(t.Context(), want[7]); err != nil {
			t.Errorf("action %d: %v", action, err)
		}
		for i, err := range storage.RemoveAll(t.Context(), s, want) {
			if err != nil {
				t.Errorf("action %d: %d: %v", action, i, err)
			}
		}
		if got := listed(t, mem, "mem://b/"); len(got) != 0 {
			t.Errorf("action %d: left %d", action, len(got))
		}
	}
}

func TestListResumesBehindTheLastItem(t *testing.T) {
	mem := storage.NewMem()
	var want []string
	for i := range 20 {
		p := fmt.Sprintf("mem://b/%02d", i)
		write(t, mem, p, "x", storage.CreateOptions{})
		want = append(want, p)
	}
	s := storage.WithRetry(brokenList{mem, new(int)}, storage.RetryPolicy{Attempts: 10, Base: 1})
	if diff := cmp.Diff(want, listed(t, s, "mem://b/")); diff != "" {
		t.Error(diff)
	}
}

// brokenList breaks off every listing five items further on.
type brokenList struct {
	storage.Store
	far *int
}

func (b brokenList) List(ctx context.Context, prefix string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		*b.far += 5
		n := 0
		for info, err := range b.Store.List(ctx, prefix) {
			if n++; n > *b.far {
				yield(storage.Info{}, storage.NewError("list", prefix, storage.ErrTransient, "", nil))
				return
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func TestRetryGivesUpAndHonoursTheContext(t *testing.T) {
	tries := 0
	s := storage.WithFaults(storage.NewMem(), &storage.Faults{Pick: func(int64, storage.Call) *storage.Fault {
		tries++
		return &storage.Fault{Action: storage.FailBefore}
	}})
	if _, err := storage.WithRetry(s, quick).Open(t.Context(), "mem://b/x"); !storage.IsTransient(err) || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	tries = 0
	boom := errors.New("boom")
	err := quick.Do(t.Context(), func(context.Context) error { tries++; return boom })
	if !errors.Is(err, boom) || tries != 1 {
		t.Errorf("a permanent error was tried %d times: %v", tries, err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tries := 0
		slow := storage.RetryPolicy{Attempts: 1000, Base: 10 * time.Second, Max: 20 * time.Second}
		err := slow.Do(ctx, func(context.Context) error { tries++; return storage.ErrTransient })
		if !storage.IsTransient(err) || tries < 3 || tries > 8 {
			t.Errorf("%v after %d tries", err, tries)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		// A store that asks to slow down gets more patience.
		tries := 0
		_ = storage.DefaultRetry.Do(t.Context(), func(context.Context) error { tries++; return storage.ErrThrottled })
		if tries != 12 {
			t.Errorf("throttled: %d tries", tries)
		}
	})
}

func TestLimitsHoldForAllStoresTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storage.NewMem()
		write(t, mem, "mem://b/x", strings.Repeat("x", 1000), storage.CreateOptions{})
		limits := storage.NewLimits(100_000, 0)
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			s := storage.WithLimits(mem, limits)
			wg.Go(func() {
				for range 250 {
					if _, err := storage.ReadAll(t.Context(), s, "mem://b/x"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		// 1 MB at 100 kB/s, less the burst of a quarter of a second.
		if took := time.Since(start); took < 9700*time.Millisecond || took > 10200*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := storage.WithLimits(storage.NewMem(), storage.NewLimits(0, 10))
		start := time.Now()
		for range 100 {
			_, _ = storage.Stat(t.Context(), s, "mem://b/x")
		}
		if took := time.Since(start); took < 9700*time.Millisecond || took > 10200*time.Millisecond {
			t.Errorf("requests took %s", took)
		}
	})
}

func TestThrottledRateFallsOnceAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := false
		inner := storage.WithFaults(storage.NewMem(), &storage.Faults{Pick: func(int64, storage.Call) *storage.Fault {
			if slow {
				return &storage.Fault{Action: storage.FailBefore, Err: storage.ErrThrottled}
			}
			return nil
		}})
		limits := storage.NewLimits(0, 100)
		s := storage.WithLimits(inner, limits)
		ask := func(n int) {
			for range n {
				_, _ = storage.Stat(t.Context(), s, "mem://b/x")
			}
		}
		ask(200)
		slow = true
		ask(10) // at the same moment: one event
		if _, rate, n := limits.Rates(); rate != 50 || n != 10 {
			t.Errorf("rate is %f after %d", rate, n)
		}
		slow = false
		for range 20 {
			time.Sleep(time.Second)
			ask(1)
		}
		if _, rate, _ := limits.Rates(); rate != 100 {
			t.Errorf("rate recovers to %f", rate)
		}
		limits.Set(0, 0)
		ask(10)
		slow = true
		ask(1)
		if _, rate, _ := limits.Rates(); math.IsInf(rate, 1) || rate < 1 {
			t.Errorf("unlimited rate falls to %f", rate)
		}
	})
}

func TestLimitedWaitEndsWithItsContext(t *testing.T) {
	s := storage.WithLimits(storage.NewMem(), storage.NewLimits(0, 0.001))
	_, _ = storage.Stat(t.Context(), s, "mem://b/x")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := storage.Stat(ctx, s, "mem://b/x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// mutate makes every kind of change there is.
func mutate(ctx context.Context, s storage.Store, base string) []error {
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	try(storage.WriteAll(ctx, s, base+"new", []byte("x"), storage.CreateOptions{}))
	try(storage.WriteAll(ctx, s, base+"old", []byte("x"), storage.CreateOptions{}))
	try(s.Remove(ctx, base+"old"))
	try(storage.RemoveIf(ctx, s, base+"old", "x"))
	errs = append(errs, storage.RemoveAll(ctx, s, []string{base + "old"})...)
	try(storage.RemoveVersion(ctx, s, storage.Version{Info: storage.Info{Path: base + "old"}}))
	try(storage.RemoveUnfinished(ctx, s, storage.Upload{Path: base + "old"}))
	return errs
}

func TestReadOnlyStoreChangesNothing(t *testing.T) {
	for _, base := range []string{"mem://read-only/", t.TempDir() + "/"} {
		var n storage.Counters
		plain := storage.New(nil)
		write(t, plain, base+"old", "old", storage.CreateOptions{})
		s := storage.WithRetry(storage.ReadOnly(storage.WithCounters(plain, &n)), quick)
		for i, err := range mutate(t.Context(), s, base) {
			if !errors.Is(err, storage.ErrReadOnly) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if n.Mutations() != 0 {
			t.Errorf("%d changes reached the store", n.Mutations())
		}
		if got, err := storage.ReadAll(t.Context(), s, base+"old"); err != nil || string(got) != "old" {
			t.Errorf("%q %v", got, err)
		}
		if diff := cmp.Diff([]string{base + "old"}, listed(t, s, base)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestGuardStopsAWriteThatHasBegun(t *testing.T) {
	stop := errors.New("kill switch is on")
	on := false
	mem := storage.NewMem()
	s := storage.WithGuard(mem, func(context.Context, storage.Call) error {
		if on {
			return stop
		}
		return nil
	})
	w, err := s.Create(t.Context(), "mem://b/x", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	on = true
	if err := w.Close(); !errors.Is(err, stop) || !strings.Contains(err.Error(), "kill switch") {
		t.Errorf("close: %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if got := listed(t, mem, ""); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

func TestAnAbortReachesTheStoreAfterTheContextEnded(t *testing.T) {
	for name, wrap := range map[string]func(storage.Store) storage.Store{
		"limits": func(s storage.Store) storage.Store { return storage.WithLimits(s, storage.NewLimits(0, 0)) },
		"retry":  func(s storage.Store) storage.Store { return storage.WithRetry(s, quick) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			w, err := wrap(storage.New(nil)).Create(ctx, dir+"/x", storage.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := w.Abort(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}

func TestCountersSeeEveryAttempt(t *testing.T) {
	var n storage.Counters
	mem := storage.NewMem()
	s := storage.WithRetry(storage.WithCounters(flaky(mem, storage.FailBefore), &n), quick)
	write(t, s, "mem://b/x", "12345", storage.CreateOptions{})
	o, err := s.Open(t.Context(), "mem://b/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.ReadAt(make([]byte, 3), 1); err != nil {
		t.Fatal(err)
	}
	c := n.Snapshot()
	want := map[string]int64{"create": 2, "write": 1, "close": 1, "open": 2, "read": 2}
	if diff := cmp.Diff(want, c.Ops); diff != "" {
		t.Error(diff)
	}
	if c.BytesRead != 3 || c.BytesWritten != 5 || c.Failures["read"] != 1 {
		t.Errorf("%+v", c)
	}
}

func TestFaultsHitWhereTheyAreAimed(t *testing.T) {
	count := &storage.Faults{}
	run := func(f *storage.Faults) (*storage.Mem, error) {
		mem := storage.NewMem()
		return mem, storage.WriteAll(t.Context(), storage.WithFaults(mem, f), "mem://b/x", []byte("1234"), storage.CreateOptions{})
	}
	if _, err := run(count); err != nil || count.Count() != 3 {
		t.Fatalf("%d operations, %v", count.Count(), err)
	}
	for n := int64(1); n <= 3; n++ {
		mem, err := run(storage.At(n, storage.Fault{Action: storage.FailAfter}))
		if !storage.IsTransient(err) {
			t.Errorf("%d: %v", n, err)
		}
		if there := len(listed(t, mem, "")) == 1; there != (n == 3) {
			t.Errorf("%d: object is there: %v", n, there)
		}
		called := 0
		if _, err := run(storage.At(n, storage.Fault{Action: storage.CallBefore, Do: func() { called++ }})); err != nil || called != 1 {
			t.Errorf("%d: called %d times, %v", n, called, err)
		}
	}
}

func TestStreamNeverTakesATruncatedReadForTheEnd(t *testing.T) {
	mem := storage.NewMem()
	data := strings.Repeat("0123456789", 1000)
	write(t, mem, "mem://b/x", data, storage.CreateOptions{})
	short := storage.WithFaults(mem, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
		if c.Op == storage.OpRead {
			return &storage.Fault{Action: storage.Truncate}
		}
		return nil
	}})
	r, err := storage.Opener(short).Open(t.Context(), "mem://b/x")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err == nil {
		t.Errorf("read %d bytes as if that were all", len(got))
	}
	r.Close()
}

func TestCoalescedRangesCoverTheirInputs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Custom(func(t *rapid.T) storage.Range {
			return storage.Range{Off: rapid.Int64Range(0, 500).Draw(t, "off"), Len: rapid.Int64Range(0, 50).Draw(t, "len")}
		})).Draw(t, "ranges")
		gap, most := rapid.Int64Range(0, 40).Draw(t, "gap"), rapid.Int64Range(1, 200).Draw(t, "most")
		out := storage.Coalesce(in, gap, most)
		for _, r := range in {
			covered := r.Len == 0
			for _, o := range out {
				covered = covered || r.Off >= o.Off && r.Off+r.Len <= o.Off+o.Len
			}
			if !covered {
				t.Fatalf("%v is not covered by %v", r, out)
			}
		}
		for i := 1; i < len(out); i++ {
			if out[i].Off <= out[i-1].Off+out[i-1].Len {
				t.Fatalf("%v touch", out[i-1:i+1])
			}
		}
	})
}

func TestGlobMatchesSegments(t *testing.T) {
	mem := storage.NewMem()
	for _, p := range []string{"a/x.csv", "a/x.csv.zst", "a/b/y.csv", "a/b/c/z.csv", "a/x1.csv", "aa/q.csv"} {
		write(t, mem, "mem://b/"+p, "", storage.CreateOptions{})
	}
	for pattern, want := range map[string][]string{
		"a/*.csv":    {"a/x.csv", "a/x1.csv"},
		"a/x?.csv":   {"a/x1.csv"},
		"a/**/*.csv": {"a/b/c/z.csv", "a/b/y.csv", "a/x.csv", "a/x1.csv"},
		"**":         {"a/b/c/z.csv", "a/b/y.csv", "a/x.csv", "a/x.csv.zst", "a/x1.csv", "aa/q.csv"},
		"a/":         {"a/b/c/z.csv", "a/b/y.csv", "a/x.csv", "a/x.csv.zst", "a/x1.csv"},
		"a/x.csv":    {"a/x.csv"},
		"a/none":     nil,
		"*/q.csv":    {"aa/q.csv"},
		"a/[b]/*":    {"a/b/y.csv"},
	} {
		got, err := storage.Glob(t.Context(), mem, "mem://b/"+pattern)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "mem://b/")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", pattern, diff)
		}
	}
	if _, err := storage.Glob(t.Context(), mem, "mem://b/a/[x"); err == nil {
		t.Error("a malformed pattern matched")
	}
}

func TestUnknownSchemeIsAnErrorOfTheFirstOperation(t *testing.T) {
	s := storage.New(nil)
	_, err := s.Open(t.Context(), "ftp://host/x")
	if !errors.Is(err, storage.ErrScheme) {
		t.Error(err)
	}
	for _, err := range s.List(t.Context(), "ftp://host/x") {
		if !errors.Is(err, storage.ErrScheme) {
			t.Error(err)
		}
	}
	if errs := storage.RemoveAll(t.Context(), s, []string{"ftp://host/x", "mem://none/x"}); !errors.Is(errs[0], storage.ErrScheme) || errs[1] != nil {
		t.Error(errs)
	}
}

func BenchmarkDecoratedReadAt(b *testing.B) {
	mem := storage.NewMem()
	if err := storage.WriteAll(b.Context(), mem, "mem://b/x", bytes.Repeat([]byte("x"), 1<<20), storage.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	var n storage.Counters
	s := storage.WithRetry(storage.WithLimits(storage.WithCounters(mem, &n), storage.NewLimits(0, 0)), quick)
	o, err := s.Open(b.Context(), "mem://b/x")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 4096)
	for b.Loop() {
		if _, err := o.ReadAt(buf, 4096); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRefusedCloseLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	gone := errors.New("gone")
	s := storage.WithFaults(storage.New(nil), &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
		if c.Op == storage.OpClose {
			return &storage.Fault{Action: storage.FailBefore, Err: gone}
		}
		return nil
	}})
	w, err := s.Create(t.Context(), dir+"/x", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, gone) {
		t.Errorf("close: %v, want the injected error", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("%d files are left (%v), want none", len(names), err)
	}
}
