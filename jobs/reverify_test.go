package jobs_test

import (
	"os"
	"slices"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/verifier"
)

// A young file that nothing refers to may be a writer's, but not where the run
// that is verified knows it as one that it replaced.
func TestAReplacedFileThatIsStillThereIsNobodysWork(t *testing.T) {
	lake := testlake.New(t, "2", nil, nil)
	lake.Append(testlake.IDs(1000, 1100)...)
	old := testlake.Local(lake.Files()[0].FilePath())
	raw, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	cfg := leakJob(t, lake, "0s", "")
	cfg.Retain.Keys = configs.Duration(day)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for run, want := range map[string][]string{"": nil, sum.RunID: {verifier.Orphans}} {
		v, err := j.Verify(t.Context(), run, jobs.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := leaking(v); !slices.Equal(got, want) {
			t.Errorf("verify %q finds it on %q, want %q", run, got, want)
		}
		for i, s := range v.Surfaces {
			if s.Surface == verifier.Orphans && v.GoneBy[i].IsZero() != (run != "") {
				t.Errorf("verify %q: gone by %v", run, v.GoneBy[i])
			}
		}
	}
}

// An audit names the run also of a key that a file does not store: its rows have
// it by their partition, or by the column's initial default.
func TestTheAuditNamesRunsOfKeysThatNoFileStores(t *testing.T) {
	imported := testlake.New(loud{t}, "2", testlake.ByID(), nil)
	imported.Import(leaver, 503, 504)
	imported.Append(7)
	defaulted := testlake.New(loud{t}, "3", nil, nil)
	defaulted.Append(1, 2, 3)
	defaulted.AddColumn("tenant", "acme")
	for name, lake := range map[string]*testlake.Lake{"partition value": imported, "initial default": defaulted} {
		t.Run(name, func(t *testing.T) {
			cfg := leakJob(t, lake, "7d", "")
			if name == "initial default" {
				cfg.Keysets = map[string]configs.Keyset{"tenants": {Source: configs.Strings{write(t, "tenant\nacme\n")}, Key: configs.KeyParts{{Name: "tenant", Type: "string"}}}}
				cfg.Targets[0].Match = []configs.Match{{Keyset: "tenants", Columns: []string{"tenant"}}}
			}
			cfg.Audit = &configs.Audit{Keep: configs.Duration(365 * day)}
			j := open(t, cfg, jobs.Env{})
			sum, err := j.Run(t.Context(), jobs.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := j.Audit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows := 0
			for _, f := range got.Findings {
				if f.Surface != verifier.History {
					continue
				}
				rows++
				if !slices.Equal(f.Runs, []string{sum.RunID}) {
					t.Errorf("%+v names no run", f)
				}
			}
			if rows == 0 {
				t.Errorf("nothing was found in history: %+v", got.Findings)
			}
		})
	}
}
