package jobs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// smallLake is a lakehouse whose job has no share limit and one worker.
func smallLake(t *testing.T, grace string) (*demo.Lakehouse, *configs.Job) {
	t.Helper()
	lake, cfg := lakehouse(t, 4_000, grace)
	cfg.Limits.Share = configs.Whole
	return lake, cfg
}

// later is a context whose clock is ahead.
func later(t *testing.T, d time.Duration) context.Context {
	return clock.With(t.Context(), func() time.Time { return time.Now().Add(d) })
}

func allContents(t *testing.T, lake *demo.Lakehouse) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, table := range lake.Tables {
		out[table.Name], _ = contents(t, lake, table.Name)
	}
	return out
}

func TestWithinTheGraceARunIsPendingAndPurgeWaits(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
	if sum.Outcome != string(manifests.ErasedPending) || sum.PendingUntil.IsZero() || sum.Purged != nil {
		t.Errorf("outcome %s (%v), pending until %v, purged %v; want ERASED_PENDING with a date", sum.Outcome, sum.Reasons, sum.PendingUntil, sum.Purged)
	}
	p, err := j.Purge(t.Context(), sum.RunID, false)
	if err != nil || p.NotBefore.IsZero() || p.Totals.FilesRemoved != 0 {
		t.Errorf("a purge within the grace: %+v, %v; want nothing done and a date", p, err)
	}
	if p, err = j.Purge(later(t, 8*24*time.Hour), sum.RunID, true); err != nil || p.Totals.FilesRemoved == 0 {
		t.Errorf("a dry purge after the grace: %+v, %v; want a preview", p, err)
	}
	due, err := j.PurgeDue(later(t, 8*24*time.Hour), false)
	if err != nil || len(due) != 1 {
		t.Fatalf("purge of what is due: %v, %v; want one run", due, err)
	}
	if due[0].Outcome != string(manifests.Erased) || due[0].Totals.FilesRemoved == 0 || due[0].Manifest == "" {
		t.Errorf("purge %+v; want ERASED with a manifest", due[0])
	}
	if again, err := j.Purge(later(t, 8*24*time.Hour), sum.RunID, false); err != nil || !again.NothingToDo {
		t.Errorf("a second purge: %+v, %v; want nothing to do", again, err)
	}
}

func TestRestoreGivesBackExactlyTheErasedRows(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	before := allContents(t, lake)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	back, err := j.Restore(t.Context(), sum.RunID, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if back.Outcome != string(manifests.Reverted) {
		t.Errorf("outcome %s, want REVERTED", back.Outcome)
	}
	for name, want := range before {
		if got, _ := contents(t, lake, name); got != want {
			t.Errorf("%s: restored rows are not the erased ones", name)
		}
	}
	if p, err := j.Purge(later(t, 8*24*time.Hour), sum.RunID, false); err != nil || !p.NothingToDo {
		t.Errorf("purge of a reverted run: %+v, %v; want nothing to do", p, err)
	}
}

func TestAfterARestoreOfOneTableTheOthersArePurged(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	before, _ := contents(t, lake, ordersName)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Restore(t.Context(), sum.RunID, []string{ordersName}, false); err != nil {
		t.Fatal(err)
	}
	want := allContents(t, lake)
	due, err := j.PurgeDue(later(t, 8*24*time.Hour), false)
	if err != nil || len(due) != 1 {
		t.Fatalf("purge of what is due: %v, %v; want one run", due, err)
	}
	if due[0].Outcome != string(manifests.Partial) || due[0].Totals.FilesRemoved == 0 {
		t.Errorf("purge %+v; want PARTIAL, since one table's rows are back", due[0])
	}
	if got, _ := contents(t, lake, ordersName); got != before || got != want[ordersName] {
		t.Error("the purge changed the restored table")
	}
	for _, table := range lake.Tables {
		if got, _ := contents(t, lake, table.Name); got != want[table.Name] {
			t.Errorf("the purge changed the rows of %s", table.Name)
		}
	}
	for _, target := range sum.Targets {
		old := loadTable(t, lake, target.Name).Metadata().SnapshotByID(target.Committed.Before.SnapshotID)
		if (old != nil) != (target.Name == ordersName) {
			t.Errorf("%s: the snapshot from before the run is there: %t", target.Name, old != nil)
		}
	}
	if again, err := j.Purge(later(t, 8*24*time.Hour), sum.RunID, false); err != nil || !again.NothingToDo {
		t.Errorf("a second purge: %+v, %v; want nothing to do", again, err)
	}
}

func TestDryRunWritesNothingToATarget(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	stamp := fileTimes(t, filepath.Join(lake.Dir, "warehouse"))
	j := open(t, cfg, jobs.Env{ReadOnly: true})
	sum, err := j.Run(t.Context(), jobs.RunOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var found int64
	for _, target := range sum.Targets {
		found += target.Scan.Erased
	}
	if found == 0 {
		t.Error("the dry run found no row: it shows nothing")
	}
	if _, err := j.Plan(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := fileTimes(t, filepath.Join(lake.Dir, "warehouse")); got != stamp {
		t.Error("files of the warehouse changed")
	}
}

// fileTimes lists a folder's files with sizes and times of change.
func fileTimes(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + info.ModTime().String() + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRunPlanExecutesExactlyThePlan(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	j := open(t, cfg, jobs.Env{})
	p, err := j.Plan(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.RunPlan(t.Context(), p.RunID, strings.Repeat("0", 64), nil); !errors.Is(err, jobs.ErrUsage) {
		t.Errorf("a plan with another digest: %v, want a refusal", err)
	}
	sum, err := j.RunPlan(t.Context(), p.RunID, p.Digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
	if sum.RunID != p.RunID {
		t.Errorf("run %s, want the plan's %s", sum.RunID, p.RunID)
	}
}

func TestSecondNightFindsNothing(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	j := open(t, cfg, jobs.Env{})
	if _, err := j.Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.NothingToErase) {
		t.Errorf("outcome %s (%v), want NOTHING_TO_ERASE", sum.Outcome, sum.Reasons)
	}
}

func TestSecondNightWithAKeyIndexReadsOnlyWhatIsNew(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	cfg.KeyIndex = true
	j := open(t, cfg, jobs.Env{})
	first, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, first)
	second, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read := func(s *jobs.Summary) (files int64) {
		for _, target := range s.Targets {
			if target.Name != ticketsName { // people are in a list there, which the index does not cover
				files += target.Scan.Files
			}
		}
		return files
	}
	if read(first) == 0 || read(second) != 0 {
		t.Errorf("%d files read in the first night, %d in the second; want none", read(first), read(second))
	}
}

func TestSinceLeavesOutOnlyFilesProvablyOutsideAndSaysSo(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	cfg.Targets[0].Time = "order_ts"
	all, err := open(t, cfg, jobs.Env{ReadOnly: true}).Run(t.Context(), jobs.RunOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{Since: start})
	if err != nil {
		t.Fatal(err)
	}
	got, whole := sum.Targets[0], all.Targets[0]
	if got.Scan.Files == 0 || got.Scan.Files >= whole.Scan.Files || got.Scan.Erased == 0 {
		t.Errorf("%d files read and %d rows erased since %s; without it %d files", got.Scan.Files, got.Scan.Erased, start.Format(time.DateOnly), whole.Scan.Files)
	}
	if !slices.ContainsFunc(got.Plan.Skipped, func(s warehouse.Skipped) bool { return s.Reason == "outside time range" && s.Files > 0 }) {
		t.Errorf("skipped %v: what lies outside is not listed", got.Plan.Skipped)
	}
	if !slices.ContainsFunc(sum.ScopeExcluded, func(x manifests.Exclusion) bool { return x.Reason == "outside time range" && x.Count > 0 }) {
		t.Error("the manifest does not list what lies outside as excluded")
	}
}

func TestLimitStopsBeforeAnythingIsCommitted(t *testing.T) {
	for _, limit := range []string{"rows", "files", "share"} {
		t.Run(limit, func(t *testing.T) {
			lake, cfg := smallLake(t, "0s")
			switch limit {
			case "rows":
				cfg.Limits.Rows = 3
			case "files":
				cfg.Limits.Files = 1
			case "share":
				cfg.Limits.Share = 1
			}
			before := allContents(t, lake)
			_, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
			if !errors.Is(err, warehouse.ErrLimit) {
				t.Fatalf("%v, want a limit", err)
			}
			for name, want := range before {
				if got, _ := contents(t, lake, name); got != want {
					t.Errorf("%s changed", name)
				}
			}
			outputs, _ := filepath.Glob(filepath.Join(lake.Dir, "warehouse", "*", "*", "data", "expunge-*", "*"))
			if len(outputs) > 0 {
				t.Errorf("%d files were left behind", len(outputs))
			}
		})
	}
}

func TestKeysFromAppliesRetainedKeysAgain(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	cfg.Retain.Keys = configs.Duration(24 * time.Hour)
	targets := cfg.Targets
	cfg.Targets = targets[:1]
	first, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The key file is gone, the retained keys are not.
	for name, k := range cfg.Keysets {
		empty := filepath.Join(t.TempDir(), "none.csv")
		head := make([]string, 0, len(k.Key))
		for _, p := range k.Key {
			head = append(head, p.Name)
		}
		if k.Request != nil {
			head = append(head, k.Request.ID, k.Request.ReceivedAt)
		}
		if err := os.WriteFile(empty, []byte(strings.Join(head, ",")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		k.Source, k.AllowEmpty = configs.Strings{empty}, false
		cfg.Keysets[name] = k
	}
	cfg.Targets = targets
	j := open(t, cfg, jobs.Env{})
	if _, err := j.Run(t.Context(), jobs.RunOptions{}); !errors.Is(err, keyset.ErrEmpty) {
		t.Fatalf("empty keysets without --keys-from: %v, want ErrEmpty", err)
	}
	sum, err := j.Run(t.Context(), jobs.RunOptions{KeysFrom: []string{first.RunID}})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range lake.Tables[1:] {
		for _, got := range sum.Targets {
			if got.Name == table.Name && got.Committed.RowsErased != table.ToErase {
				t.Errorf("%s: %d rows erased, want %d", table.Name, got.Committed.RowsErased, table.ToErase)
			}
		}
	}
}

func TestGraceBeyondADeadlineIsRefused(t *testing.T) {
	_, cfg := smallLake(t, "7d")
	cfg.Policy.Deadline = configs.Duration(24 * time.Hour)
	_, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if !errors.Is(err, configs.ErrDeadline) {
		t.Errorf("%v, want ErrDeadline", err)
	}
}

func TestNoKeyInClearInTheStateBucket(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	if _, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, needle := range canaries(t, lake) {
		if found := filesContaining(t, filepath.Join(lake.Dir, "state"), needle); len(found) > 0 {
			t.Errorf("a key stands in clear in %s", strings.Join(found, ", "))
		}
	}
	if len(filesContaining(t, lake.Dir, canaries(t, lake)[0])) == 0 {
		t.Error("the canary is not even in the key file: the test shows nothing")
	}
}

// canaries are the e-mail addresses of the key file.
func canaries(t *testing.T, lake *demo.Lakehouse) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(lake.Dir, "*.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for field := range strings.FieldsFuncSeq(string(raw), func(r rune) bool { return r == ',' || r == '\n' || r == '\r' || r == '"' }) {
			if strings.Contains(field, "@") {
				out = append(out, strings.ToLower(strings.TrimSpace(field)))
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("no e-mail address in the key file")
	}
	return out
}
