package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

func acquire(t *testing.T, s *State, holder string, ttl time.Duration) *Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), "lake.sales.orders", holder, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLeaseIsHeldRenewedAndReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openOn(t, storage.NewMem(), "mem://b/state")
		l := acquire(t, s, "one", 40*time.Second)
		time.Sleep(10 * time.Minute)
		if err := l.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := s.Acquire(t.Context(), "lake.sales.orders", "two", 40*time.Second)
		var held *LeaseHeld
		if !errors.As(err, &held) || !errors.Is(err, ErrLeaseHeld) || held.Holder != "one" {
			t.Fatal(err)
		}
		if until := held.Until.Sub(clock.Now(t.Context())); until <= 0 || until > 40*time.Second {
			t.Errorf("lapses in %s", until)
		}
		if other, err := s.Acquire(t.Context(), "another", "two", time.Second); err != nil {
			t.Error(err)
		} else if err := other.Release(t.Context()); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := l.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Check(t.Context()); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("after release: %v", err)
		}
		next := acquire(t, s, "two", 40*time.Second)
		if next.Epoch() <= l.Epoch() {
			t.Errorf("epoch went from %d to %d", l.Epoch(), next.Epoch())
		}
		if err := next.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// cut is a store that can be made unreachable.
func cut(s storage.Store, off *atomic.Bool) storage.Store {
	return storage.WithFaults(s, &storage.Faults{Pick: func(int64, storage.Call) *storage.Fault {
		if off.Load() {
			return &storage.Fault{Action: storage.FailBefore}
		}
		return nil
	}})
}

func TestHolderThatCannotRenewStopsBeforeTheLeaseLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storage.NewMem()
		var off atomic.Bool
		l := acquire(t, openOn(t, cut(mem, &off), "mem://b/state"), "one", 40*time.Second)
		other := openOn(t, mem, "mem://b/state")
		time.Sleep(time.Minute)
		off.Store(true)
		began := clock.Now(t.Context())
		<-l.Lost()
		stopped := clock.Now(t.Context()).Sub(began)
		if _, err := other.Acquire(t.Context(), "lake.sales.orders", "two", 40*time.Second); !errors.Is(err, ErrLeaseHeld) {
			t.Fatalf("the lease lapsed before its holder stopped: %v", err)
		}
		if stopped > 40*time.Second {
			t.Errorf("stopped after %s", stopped)
		}
		time.Sleep(40*time.Second - stopped)
		next := acquire(t, other, "two", 40*time.Second)
		off.Store(false)
		if err := l.Check(t.Context()); !errors.Is(err, ErrLeaseLost) {
			t.Errorf("old holder: %v", err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if err := next.Check(t.Context()); err != nil {
			t.Errorf("the old holder's release hurt the new one: %v", err)
		}
		if err := next.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestZombieIsFencedOff(t *testing.T) {
	s := openOn(t, storage.NewMem(), "mem://b/state")
	// The zombie's clock stands still, as a stopped process's does.
	frozen := clock.Now(t.Context())
	zombieTime := clock.With(t.Context(), func() time.Time { return frozen })
	l, err := s.Acquire(zombieTime, "x", "zombie", 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	l.stop() // it does not renew either
	<-l.done
	later := clock.With(t.Context(), func() time.Time { return frozen.Add(time.Minute) })
	next, err := s.Acquire(later, "x", "two", MaxTTL)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.fresh(zombieTime); err != nil {
		t.Fatal("the zombie does not believe in its lease, so this tests nothing")
	}
	if err := l.Check(zombieTime); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("zombie: %v", err)
	}
	if err := next.Release(later); err != nil {
		t.Error(err)
	}
}

func TestLostAnswersDoNotLoseTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storage.WithFaults(storage.NewMem(), &storage.Faults{Pick: func(n int64, c storage.Call) *storage.Fault {
			if n > 30 && n%11 == 0 {
				return &storage.Fault{Action: storage.FailAfter}
			}
			return nil
		}})
		l := acquire(t, openOn(t, store, "mem://b/state"), "one", 40*time.Second)
		time.Sleep(time.Hour)
		select {
		case <-l.Lost():
			t.Error("lost")
		default:
		}
		if err := l.Release(t.Context()); err != nil && !storage.IsTransient(err) {
			t.Error(err)
		}
	})
}

func TestOneOfManyAcquirersWins(t *testing.T) {
	for range 5 {
		s := open(t)
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				l, err := s.Acquire(t.Context(), "x", fmt.Sprint(i), 10*time.Second)
				if err == nil {
					won.Add(1)
					defer l.stop()
				} else if !errors.Is(err, ErrLeaseHeld) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d holders", won.Load())
		}
	}
}

// noConditions is a store that ignores if-match, if-none-match, or both.
type noConditions struct {
	storage.Store
	match, none bool
}

func (s noConditions) Create(ctx context.Context, p string, o storage.CreateOptions) (storage.Writer, error) {
	if s.match {
		o.IfMatch = ""
	}
	if s.none {
		o.IfNotExists = false
	}
	return s.Store.Create(ctx, p, o)
}

func TestStoreThatIgnoresConditionsIsRefused(t *testing.T) {
	for _, bad := range []noConditions{{match: true}, {none: true}, {match: true, none: true}} {
		bad.Store = storage.NewMem()
		s := openOn(t, bad, "mem://b/state")
		if _, err := s.Acquire(t.Context(), "x", "one", time.Second); !errors.Is(err, ErrNoCAS) {
			t.Errorf("%+v: %v", bad, err)
		}
		for info := range bad.List(t.Context(), "") {
			t.Errorf("left %s", info.Path)
		}
	}
}

func TestTimeToLiveIsBounded(t *testing.T) {
	s := open(t)
	for _, ttl := range []time.Duration{0, -1, MaxTTL + 1} {
		if _, err := s.Acquire(t.Context(), "x", "one", ttl); err == nil || errors.Is(err, ErrLeaseHeld) {
			t.Errorf("%s: %v", ttl, err)
		}
	}
}

// holdLease is the body of a child process: it takes the lease, says so, and
// renews it until it is killed.
func holdLease() {
	s, err := Open(context.Background(), storage.New(nil), os.Getenv("EXPUNGE_TEST_HOLD"))
	if err == nil {
		_, err = s.Acquire(context.Background(), "x", "child", time.Second)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	time.Sleep(time.Minute)
}

// contend is the body of a child process: it takes the lease five times, and
// each time expects to be alone.
func contend(root string) error {
	ctx := context.Background()
	s, err := Open(ctx, storage.New(nil), root+"/state")
	if err != nil {
		return err
	}
	for done := 0; done < 5; {
		l, err := s.Acquire(ctx, "x", fmt.Sprint(os.Getpid()), 5*time.Second)
		if errors.Is(err, ErrLeaseHeld) {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		inside, err := os.OpenFile(root+"/inside", os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("two processes hold the lease: %w", err)
		}
		inside.Close()
		time.Sleep(3 * time.Millisecond)
		if err := errors.Join(l.Check(ctx), os.Remove(root+"/inside"), l.Release(ctx)); err != nil {
			return err
		}
		done++
	}
	return nil
}

func TestContendingProcessesHoldTheLeaseOneByOne(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), "EXPUNGE_TEST_CONTEND="+root)
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%s: %v", out, err)
			}
		})
	}
	wg.Wait()
	l, err := openOn(t, storage.New(nil), root+"/state").Acquire(t.Context(), "x", "last", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if l.Epoch() != 21 {
		t.Errorf("epoch is %d after 20 holders", l.Epoch())
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestKilledHolderLosesTheLeaseWithinItsTime(t *testing.T) {
	root := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "EXPUNGE_TEST_HOLD="+root)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := out.Read(buf); err != nil || string(buf) != "held" {
		t.Fatalf("child: %q %v", buf, err)
	}
	s := openOn(t, storage.New(nil), root)
	// It holds on for longer than its time to live, because it renews.
	for began := clock.Now(t.Context()); clock.Now(t.Context()).Sub(began) < 1500*time.Millisecond; time.Sleep(100 * time.Millisecond) {
		if _, err := s.Acquire(t.Context(), "x", "parent", time.Second); !errors.Is(err, ErrLeaseHeld) {
			t.Fatalf("took the lease of a live holder: %v", err)
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := clock.Now(t.Context())
	_ = child.Wait()
	for {
		l, err := s.Acquire(t.Context(), "x", "parent", time.Second)
		if err == nil {
			if took := clock.Now(t.Context()).Sub(killed); took > 1500*time.Millisecond {
				t.Errorf("lapsed only after %s", took)
			}
			if l.Epoch() != 2 {
				t.Errorf("epoch is %d", l.Epoch())
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, ErrLeaseHeld) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
