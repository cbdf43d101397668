package jobs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// wantCheck looks at one check of a comparison with the data.
func wantCheck(t *testing.T, what string, c manifests.Check, ok bool, reasons ...string) {
	t.Helper()
	if c.OK != ok || c.Skipped && ok {
		t.Errorf("%s: %+v, want ok %t", what, c, ok)
	}
	for _, reason := range reasons {
		if !strings.Contains(c.Reason, reason) {
			t.Errorf("%s: %s: %q, want %q", what, c.Name, c.Reason, reason)
		}
	}
}

// TestWhatAPartialManifestExcludesIsNotJudged: an object that the run left as
// it was keeps its keys, as the manifest says. Keys elsewhere are still named.
func TestWhatAPartialManifestExcludesIsNotJudged(t *testing.T) {
	l := newObjectLake(t)
	l.fill(t)
	l.put(t, "a/odd.ndjson", "{\"user\":{\"id\":7}}\nno record\n", "")
	cfg := l.job(t, "0s", ndjsonTarget)
	cfg.Retain.Keys = configs.Duration(30 * day)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != string(manifests.Partial) {
		t.Fatalf("%+v, %v", sum, err)
	}
	got := against(t, j, sum.Manifest)
	wantCheck(t, "files", got[jobs.CheckFiles], true)
	wantCheck(t, "absence", got[jobs.CheckAbsence], true, "not judged: ", "1 that the manifest excludes")
	l.put(t, "a/clean.ndjson", "{\"user\":{\"id\":7}}\n", "")
	wantCheck(t, "absence, a key elsewhere", against(t, j, sum.Manifest)[jobs.CheckAbsence], false, "keys are there again", "not judged: ")
}

// TestFilesOutsideTheTimeRangeAreNotJudged: --since leaves them out, and the
// manifest says so.
func TestFilesOutsideTheTimeRangeAreNotJudged(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	cfg.Targets[0].Time = "order_ts"
	cfg.Verify.Mode = "full"
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{Since: start})
	if err != nil || sum.Outcome == string(manifests.Failed) {
		t.Fatalf("%+v, %v", sum, err)
	}
	if v, err := j.Verify(t.Context(), sum.RunID, jobs.VerifyOptions{}); err != nil || !slices.ContainsFunc(v.Surfaces, func(s manifests.Surface) bool { return s.Result == manifests.Fail }) {
		t.Fatalf("nothing of the keys lies outside the range: %+v, %v", v, err)
	}
	wantCheck(t, "absence", against(t, j, sum.Manifest)[jobs.CheckAbsence], true, "files outside the run's time range")
}

// TestATargetThatFailedIsNotJudged by the manifest that says so.
func TestATargetThatFailedIsNotJudged(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	broken := ""
	err := filepath.WalkDir(filepath.Join(lake.Dir, "warehouse"), func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, "/orders/data/") && strings.HasSuffix(path, ".parquet") {
			broken = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(broken, 100); err != nil {
		t.Fatal(err)
	}
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != string(manifests.Partial) {
		t.Fatalf("%+v, %v", sum, err)
	}
	wantCheck(t, "absence", against(t, j, sum.Manifest)[jobs.CheckAbsence], true, "not judged: "+ordersName+": left as it was after a failure")
}

// TestAnOlderManifestSaysWhatALaterRunReplaced, and a change that no run of
// ours made is still called one.
func TestAnOlderManifestSaysWhatALaterRunReplaced(t *testing.T) {
	l := newObjectLake(t)
	l.fill(t)
	l.put(t, "a/hit.ndjson", "{\"user\":{\"id\":7}}\n{\"user\":{\"id\":8}}\n{\"user\":{\"id\":9}}\n", "")
	j := open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{})
	first, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "users.csv"), []byte("user_id\n8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil || second.Outcome != string(manifests.Erased) {
		t.Fatalf("%+v, %v", second, err)
	}
	wantCheck(t, "after a later run", against(t, j, first.Manifest)[jobs.CheckFiles], true, "1 were replaced later by run "+second.RunID+" and are as its evidence states")
	if _, err := j.Seal(t.Context(), second.RunID); err != nil {
		t.Fatal(err)
	}
	wantCheck(t, "after the later run was sealed", against(t, j, first.Manifest)[jobs.CheckFiles], true, "1 were replaced later by run "+second.RunID+" and not judged: that run is sealed")

	// Neither run wrote this, and evidence that does not verify explains nothing.
	l.put(t, "a/packed.ndjson.gz", "{\"user\":{\"id\":55}}\n", "")
	wantCheck(t, "a change of somebody else's", against(t, j, first.Manifest)[jobs.CheckFiles], false, "1 of 3 are changed")
	side := strings.TrimSuffix(second.Manifest, ".intoto.jsonl") + ".evidence.parquet"
	raw, err := os.ReadFile(side)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(side, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	wantCheck(t, "with a tampered later sidecar", against(t, j, first.Manifest)[jobs.CheckFiles], false, "2 of 3 are changed")
}

// TestARestoredRunIsNotJudgedAgainstTheData: its rows are back, as its restore says.
func TestARestoredRunIsNotJudgedAgainstTheData(t *testing.T) {
	l := newObjectLake(t)
	l.fill(t)
	j := open(t, l.job(t, "7d", ndjsonTarget), jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
		t.Fatal(err)
	}
	got := against(t, j, sum.Manifest)
	wantCheck(t, "files", got[jobs.CheckFiles], true, "3 not judged: the run was undone there")
	if c := got[jobs.CheckAbsence]; !c.Skipped || !strings.Contains(c.Reason, "the run was undone there") {
		t.Errorf("absence: %+v", c)
	}
}
