package jobs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// lapse makes every lease of a lake's state older than any can be.
func lapse(t testing.TB, lake *testlake.Lake) {
	t.Helper()
	leases, err := filepath.Glob(filepath.Join(lake.Dir, "state", "leases", "*.json"))
	if err != nil || len(leases) == 0 {
		t.Fatalf("leases: %v, %v", leases, err)
	}
	for _, f := range leases {
		old := time.Now().Add(-10 * time.Minute)
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// A run that was paused for longer than its lease lasts stops before its next
// commit or removal, whether it learns that from its clock or from the store.
func TestARunThatLostItsLeaseCommitsAndRemovesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		step  jobs.Step // in which the run is paused
		op    storage.Op
		path  string // of the operation before which it is paused
		taken bool   // another process holds the lease by the end of the pause
	}{
		{"in the scan, taken over", jobs.StepScan, storage.OpOpen, ".parquet", true},
		{"before the swap, taken over", jobs.StepCommit, storage.OpCreate, "-list", true},
		{"before the swap, lapsed", jobs.StepCommit, storage.OpCreate, "-list", false},
		{"before the first removal, taken over", jobs.StepPurge, storage.OpRemove, ".parquet", true},
		{"before the expiry, lapsed", jobs.StepPurge, storage.OpCreate, "-list", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lake := testlake.New(loud{t}, "2", nil, nil)
			lake.Append(testlake.IDs(1000, 1100)...)
			cfg := leakJob(t, lake, "0s", "")
			var (
				j      *jobs.Job
				ahead  atomic.Int64 // of the run's clock
				step   atomic.Value
				paused bool
				other  *state.Lease
				head   string
				stored map[string][]byte
			)
			ctx := clock.With(t.Context(), func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
			pause := func() {
				lake.Reload()
				head, stored = lake.Tbl.MetadataLocation(), lake.Stored()
				if !c.taken {
					ahead.Store(int64(10 * time.Minute))
					return
				}
				lapse(loud{t}, lake)
				var err error
				if other, err = j.State().Acquire(t.Context(), "table/"+lake.Tbl.Metadata().TableUUID().String(), "another run", state.MaxTTL); err != nil {
					loud{t}.Fatal(err)
				}
			}
			j = open(t, cfg, jobs.Env{LeaseTTL: state.MaxTTL,
				Reporter: jobs.ReporterFunc(func(e jobs.Event) {
					if e.Type == "step" {
						step.Store(e.Step)
					}
				}),
				WrapStore: func(role string, s storage.Store) storage.Store {
					return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, o storage.Call) *storage.Fault {
						if role != "lake" || paused || step.Load() != c.step || o.Op != c.op || !strings.Contains(o.Path, c.path) {
							return nil
						}
						paused = true
						return &storage.Fault{Action: storage.CallBefore, Do: pause}
					}})
				}})
			_, err := j.Run(ctx, jobs.RunOptions{})
			if !errors.Is(err, warehouse.ErrFenced) {
				t.Fatalf("%v, want ErrFenced", err)
			}
			t.Log(err)
			lake.Reload()
			if lake.Tbl.MetadataLocation() != head {
				t.Error("the table was changed without the lease")
			}
			now := lake.Stored()
			gone := 0
			for path := range stored {
				if _, ok := now[path]; !ok {
					gone++
				}
			}
			if allowed := map[bool]int{true: 1}[c.op == storage.OpRemove]; gone > allowed { // the one that was under way
				t.Errorf("%d files were removed without the lease", gone)
			}
			wantTakenUp(t, lake, j, other)
		})
	}
}

// wantTakenUp takes the run up once whoever had the lease is done.
func wantTakenUp(t *testing.T, lake *testlake.Lake, j *jobs.Job, other *state.Lease) {
	t.Helper()
	runs, err := jobs.Runs(t.Context(), j.State(), "", 1)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%v, %v", runs, err)
	}
	if other != nil {
		if _, err := j.Resume(t.Context(), runs[0].Run); !errors.Is(err, state.ErrLeaseHeld) {
			t.Errorf("resume while another run has the lease: %v", err)
		}
		if err := other.Release(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	} else {
		lapse(t, lake)
	}
	sum, err := j.Resume(t.Context(), runs[0].Run)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Erased) || sum.Targets[0].Committed.RowsErased != 1 {
		t.Errorf("%s (%v), %d rows erased; want ERASED and 1", sum.Outcome, sum.Reasons, sum.Targets[0].Committed.RowsErased)
	}
}
