package jobs_test

import (
	"path/filepath"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/engine/local"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/sql"
)

// lakehouse makes a small demo lakehouse and loads its job.
func lakehouse(t *testing.T, rows int64, grace string) (*demo.Lakehouse, *configs.Job) {
	t.Helper()
	lake, err := demo.Make(t.Context(), demo.Options{Dir: filepath.Join(t.TempDir(), "lake"), Rows: rows, Seed: 7, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(lake.Job)
	if err != nil {
		t.Fatal(err)
	}
	return lake, cfg
}

func open(t *testing.T, cfg *configs.Job, env jobs.Env) *jobs.Job {
	t.Helper()
	if env.Engine == nil {
		env.Engine = local.Engine{Workers: 2}
	}
	env.Version = "test"
	j, err := jobs.Open(t.Context(), cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// wantErased compares what a run erased with what the lakehouse's maker knows.
func wantErased(t *testing.T, lake *demo.Lakehouse, sum *jobs.Summary) {
	t.Helper()
	if len(sum.Targets) != len(lake.Tables) {
		t.Fatalf("%d targets, want %d", len(sum.Targets), len(lake.Tables))
	}
	for _, table := range lake.Tables {
		for _, got := range sum.Targets {
			if got.Name != table.Name {
				continue
			}
			if got.Committed == nil {
				t.Fatalf("%s: %s %s", got.Name, got.Status, got.Reason)
			}
			if got.Committed.RowsErased != table.ToErase {
				t.Errorf("%s: erased %d rows, want %d", table.Name, got.Committed.RowsErased, table.ToErase)
			}
		}
	}
}

func TestNightlyJobErasesExactlyTheKeysAndPurges(t *testing.T) {
	lake, cfg := lakehouse(t, 40_000, "0s")
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
	if sum.Outcome != string(manifests.Erased) {
		t.Errorf("outcome %s, want ERASED", sum.Outcome)
	}
}
