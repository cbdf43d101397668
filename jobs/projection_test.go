package jobs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// livePaths are the base names of the head's data files.
func livePaths(lake *testlake.Lake) (out []string) {
	lake.Reload()
	for _, f := range lake.Files() {
		out = append(out, f.FilePath())
	}
	slices.Sort(out)
	return out
}

// A file that does not store the key column has the key all the same, by its
// partition (Iceberg specification, "Column Projection").
func TestAKeyThatOnlyThePartitionHoldsIsFound(t *testing.T) {
	for _, when := range []string{"planned", "arrived", "second night"} {
		t.Run(when, func(t *testing.T) {
			lake := testlake.New(loud{t}, "2", testlake.ByID(), nil)
			other := lake.Import(7, 501, 502)
			victim := lake.Import(leaver, 503, 504, 505)
			cfg := leakJob(t, lake, "7d", "")
			env, want := jobs.Env{}, int64(3)
			switch when {
			case "arrived": // a file more, once the scan has begun
				var done bool
				want = 4
				env.WrapStore = func(role string, s storage.Store) storage.Store {
					return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
						if role != "lake" || done || !strings.HasSuffix(c.Path, ".parquet") {
							return nil
						}
						done = true
						return &storage.Fault{Action: storage.CallBefore, Do: func() { lake.Import(leaver, 506) }}
					}})
				}
			case "second night": // after a night that read both files for other keys
				cfg.KeyIndex = true
				tonight := cfg.Keysets["users"].Source
				withKeyset(cfg, "users", func(k *configs.Keyset) { k.Source = configs.Strings{write(t, "id\n123\n")} })
				if _, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{}); err != nil {
					t.Fatal(err)
				}
				withKeyset(cfg, "users", func(k *configs.Keyset) { k.Source = tonight })
			}
			before := lake.Files()
			j := open(t, cfg, env)
			sum, err := j.Run(t.Context(), jobs.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if sum.Outcome != string(manifests.ErasedPending) || sum.Targets[0].Committed.RowsErased != want {
				t.Errorf("%s (%v), %d rows erased, want %d", sum.Outcome, sum.Reasons, sum.Targets[0].Committed.RowsErased, want)
			}
			if got := livePaths(lake); !slices.Equal(got, []string{other.FilePath()}) {
				t.Errorf("live files %v, want the one of somebody else", got)
			}
			if when != "planned" {
				return
			}
			if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
				t.Fatal(err)
			}
			lake.Reload()
			var rows int64
			for _, f := range lake.Files() {
				if rows += f.Count(); f.FilePath() == victim.FilePath() {
					t.Error("the replaced file itself is back")
				}
			}
			if len(lake.Files()) != len(before) || rows != 5 {
				t.Errorf("%d files with %d rows after the restore, want %d with 5", len(lake.Files()), rows, len(before))
			}
		})
	}
}

// Of a key of two parts one may be in the file and the other in the partition.
func TestACompositeKeyThatIsPartlyInThePartitionIsFound(t *testing.T) {
	lake := testlake.New(loud{t}, "2", testlake.ByID(), nil)
	other := lake.Import(7, 503, 504)
	lake.Import(leaver, 502, 503, 504, 505)
	cfg := leakJob(t, lake, "0s", "")
	pairs := fmt.Sprintf("id,email\n%d,%s\n%d,%s\n7,%s\n", leaver, testlake.Mail(505), leaver, testlake.Mail(503), testlake.Mail(505))
	cfg.Keysets = map[string]configs.Keyset{"pairs": {
		Source: configs.Strings{write(t, pairs)},
		Key:    configs.KeyParts{{Name: "id", Type: "int64"}, {Name: "email", Type: "string"}},
	}}
	cfg.Targets[0].Match = []configs.Match{{Keyset: "pairs", Columns: []string{"id", "email"}}}
	sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Erased) || sum.Targets[0].Committed.RowsErased != 2 {
		t.Errorf("%s (%v), %d rows erased, want 2", sum.Outcome, sum.Reasons, sum.Targets[0].Committed.RowsErased)
		logSurfaces(t, sum)
	}
	lake.Reload()
	var rows int64
	for _, f := range lake.Files() {
		rows += f.Count()
	}
	if rows != 4 || !slices.Contains(livePaths(lake), other.FilePath()) {
		t.Errorf("%d rows are left, want 4, two of them in the file of somebody else", rows)
	}
	for path, raw := range lake.Stored() {
		if strings.Contains(string(raw), testlake.Mail(505)) {
			t.Errorf("%s holds what was erased", path)
		}
	}
}

// A file from before a column was added has the column's initial default in
// every row (Iceberg specification, "Default values").
func TestAKeyThatIsAColumnsInitialDefaultIsFound(t *testing.T) {
	lake := testlake.New(loud{t}, "3", nil, nil)
	lake.Append(1, 2, 3)
	lake.AddColumn("tenant", "acme")
	cfg := leakJob(t, lake, "0s", "")
	cfg.KeyIndex = true
	cfg.Keysets = map[string]configs.Keyset{"tenants": {Source: configs.Strings{write(t, "tenant\nother\n")}, Key: configs.KeyParts{{Name: "tenant", Type: "string"}}}}
	cfg.Targets[0].Match = []configs.Match{{Keyset: "tenants", Columns: []string{"tenant"}}}
	for _, night := range []struct {
		keys string
		want []int64
	}{{"tenant\nother\n", []int64{1, 2, 3}}, {"tenant\nacme\n", nil}} {
		withKeyset(cfg, "tenants", func(k *configs.Keyset) { k.Source = configs.Strings{write(t, night.keys)} })
		sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lake.Reload()
		if got := lake.Rows(); !slices.Equal(got, night.want) {
			t.Errorf("%s (%v): rows %v are left, want %v", sum.Outcome, sum.Reasons, got, night.want)
		}
	}
}
