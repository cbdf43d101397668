package jobs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// badInput is something that is wrong before or while a job runs.
type badInput struct {
	name  string
	spoil func(t *testing.T, lake *demo.Lakehouse, cfg *configs.Job, env *jobs.Env)
	want  error // errors.Is
	// partial: the run goes on for the other tables and the spoilt one, named here, is left as it was.
	partial string
}

const ordersName, ticketsName = "lake.sales.orders", "lake.support.tickets"

func withKeyset(cfg *configs.Job, name string, f func(*configs.Keyset)) {
	k := cfg.Keysets[name]
	f(&k)
	cfg.Keysets[name] = k
}

func write(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "keys.csv")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// dataFiles of a table, so that one can be spoilt.
func dataFiles(t *testing.T, lake *demo.Lakehouse, name string) []string {
	t.Helper()
	tasks, err := loadTable(t, lake, name).Scan().PlanFiles(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, task := range tasks {
		out = append(out, strings.TrimPrefix(task.File.FilePath(), "file://"))
	}
	return out
}

func patch(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(raw), 0o600); err != nil {
		t.Fatal(err)
	}
}

var badInputs = []badInput{
	{name: "empty keyset", want: keyset.ErrEmpty, spoil: func(t *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		withKeyset(cfg, "users", func(k *configs.Keyset) {
			k.Source, k.Request, k.AllowEmpty = configs.Strings{write(t, "user_id\n")}, nil, false
		})
	}},
	{name: "malformed line", want: keyset.ErrMalformed, spoil: func(t *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		withKeyset(cfg, "users", func(k *configs.Keyset) {
			k.Source, k.Request = configs.Strings{write(t, "user_id\n17\nnot-a-number-4711\n")}, nil
		})
	}},
	{name: "missing source", want: keyset.ErrMissing, spoil: func(t *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		withKeyset(cfg, "users", func(k *configs.Keyset) { k.Source = configs.Strings{filepath.Join(t.TempDir(), "none.csv")} })
	}},
	{name: "missing hold file", want: keyset.ErrMissing, spoil: func(t *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		withKeyset(cfg, "users", func(k *configs.Keyset) { k.Holds = configs.Strings{filepath.Join(t.TempDir(), "none.csv")} })
	}},
	{name: "unknown column", want: warehouse.ErrNotFound, spoil: func(_ *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		cfg.Targets[0].Match[0].Columns = []string{"customer.nobody"}
	}},
	{name: "wrong type", want: warehouse.ErrType, spoil: func(_ *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		cfg.Targets[0].Match[0] = configs.Match{Keyset: "users", Columns: []string{"order_ts"}}
	}},
	{name: "missing table", want: warehouse.ErrNotFound, spoil: func(_ *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		cfg.Targets[0].Table = "lake.sales.nothing"
	}},
	{name: "pattern without a table", want: warehouse.ErrNotFound, spoil: func(_ *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		cfg.Targets[0].Table = "lake.nowhere.*"
	}},
	{name: "wrong signing key", want: manifests.ErrKey, spoil: func(t *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		cfg.Signing.Executor = "file:" + write(t, "not a key")
	}},
	{name: "since without a time column", want: jobs.ErrUsage, spoil: func(_ *testing.T, _ *demo.Lakehouse, cfg *configs.Job, _ *jobs.Env) {
		cfg.Targets[0].Time = ""
	}},
	{name: "read-only bucket", want: storage.ErrReadOnly, spoil: func(_ *testing.T, _ *demo.Lakehouse, _ *configs.Job, env *jobs.Env) {
		env.WrapStore = func(role string, s storage.Store) storage.Store {
			if role == "lake" {
				return storage.ReadOnly(s)
			}
			return s
		}
	}},
	{name: "full disk", want: storage.ErrNoSpace, spoil: func(_ *testing.T, _ *demo.Lakehouse, _ *configs.Job, env *jobs.Env) {
		env.WrapStore = func(role string, s storage.Store) storage.Store {
			return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
				if role == "lake" && c.Op.Mutates() && strings.Contains(c.Path, "/data/expunge-") {
					return &storage.Fault{Action: storage.FailBefore, Err: storage.ErrNoSpace}
				}
				return nil
			}})
		}
	}},
	{name: "corrupt Parquet", partial: ticketsName, spoil: func(t *testing.T, lake *demo.Lakehouse, _ *configs.Job, _ *jobs.Env) {
		for _, f := range dataFiles(t, lake, ticketsName) {
			patch(t, f, func(b []byte) []byte {
				for i := 4; i < len(b)/2; i++ {
					b[i] ^= 0x5a
				}
				return b
			})
		}
	}},
	{name: "truncated footer", partial: ticketsName, spoil: func(t *testing.T, lake *demo.Lakehouse, _ *configs.Job, _ *jobs.Env) {
		f := dataFiles(t, lake, ticketsName)[0]
		patch(t, f, func(b []byte) []byte { return append(b[:len(b)-12], make([]byte, 12)...) })
	}},
	{name: "unreadable object", partial: ticketsName, spoil: func(t *testing.T, lake *demo.Lakehouse, _ *configs.Job, env *jobs.Env) {
		victim := dataFiles(t, lake, ticketsName)[0]
		env.WrapStore = func(_ string, s storage.Store) storage.Store {
			return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
				if strings.HasSuffix(c.Path, victim) {
					return &storage.Fault{Action: storage.FailBefore, Err: os.ErrPermission}
				}
				return nil
			}})
		}
	}},
	{name: "missing data file", partial: ticketsName, spoil: func(t *testing.T, lake *demo.Lakehouse, _ *configs.Job, _ *jobs.Env) {
		if err := os.Remove(dataFiles(t, lake, ticketsName)[0]); err != nil {
			t.Fatal(err)
		}
	}},
}

func TestBadInputIsAClearErrorAndAnUntouchedTable(t *testing.T) {
	lake, _ := smallLake(t, "0s")
	pristine := snapshotDir(t, lake.Dir)
	before := allContents(t, lake)
	for _, bad := range badInputs {
		t.Run(bad.name, func(t *testing.T) {
			restoreDir(t, pristine, lake.Dir)
			cfg, err := configs.Load(lake.Job)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Limits.Share = configs.Whole
			env := jobs.Env{}
			bad.spoil(t, lake, cfg, &env)
			o := jobs.RunOptions{}
			if bad.name == "since without a time column" {
				o.Since = start
			}
			sum, err := open(t, cfg, env).Run(t.Context(), o)
			if bad.partial != "" {
				wantPartial(t, lake, sum, err, bad.partial)
				return
			}
			if err == nil || bad.want != nil && !errors.Is(err, bad.want) {
				t.Fatalf("%v, want %v", err, bad.want)
			}
			if strings.Contains(err.Error(), "4711") {
				t.Error("the error quotes the line")
			}
			t.Log(err)
			for name, want := range before {
				if got, _ := contents(t, lake, name); got != want {
					t.Errorf("%s changed", name)
				}
			}
		})
	}
}

// wantPartial: one table is left as it was, with its reason, and the others are done.
func wantPartial(t *testing.T, lake *demo.Lakehouse, sum *jobs.Summary, err error, name string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Partial) {
		t.Errorf("outcome %s (%v), want PARTIAL", sum.Outcome, sum.Reasons)
	}
	for _, table := range lake.Tables {
		for _, got := range sum.Targets {
			switch {
			case got.Name != table.Name:
			case got.Name == name:
				t.Log(got.Reason)
				if got.Status != manifests.TargetFailed || got.Reason == "" || got.Committed != nil {
					t.Errorf("%s: %s (%s), want failed with a reason", name, got.Status, got.Reason)
				}
			case got.Committed == nil || got.Committed.RowsErased != table.ToErase:
				t.Errorf("%s was not done: %s %s", got.Name, got.Status, got.Reason)
			}
		}
	}
}

func TestALeaseHeldByAnotherRunStopsThisOne(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	j := open(t, cfg, jobs.Env{})
	tbl := loadTable(t, lake, ordersName)
	l, err := j.State().Acquire(t.Context(), "table/"+tbl.Metadata().TableUUID().String(), "another run", leaseInSweep)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release(t.Context())
	before := allContents(t, lake)
	if _, err := j.Run(t.Context(), jobs.RunOptions{}); !errors.Is(err, state.ErrLeaseHeld) {
		t.Fatalf("%v, want ErrLeaseHeld", err)
	}
	for name, want := range before {
		if got, _ := contents(t, lake, name); got != want {
			t.Errorf("%s changed", name)
		}
	}
}

func TestResumeCompletesATargetThatFailed(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	victim := dataFiles(t, lake, ticketsName)[0]
	raw, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, victim, func(b []byte) []byte { return b[:len(b)/2] })
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	wantPartial(t, lake, sum, err, ticketsName)
	if err := os.WriteFile(victim, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if sum, err = j.Resume(t.Context(), sum.RunID); err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
	if sum.Outcome != string(manifests.Erased) {
		t.Errorf("outcome %s (%v), want ERASED", sum.Outcome, sum.Reasons)
	}
}

// start is within the demo's data.
var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
