package jobs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// against compares a run's manifest with the data as it is.
func against(t *testing.T, j *jobs.Job, manifest string) map[string]manifests.Check {
	t.Helper()
	raw, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifests.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	side, err := storage.New(nil).Open(t.Context(), strings.TrimSuffix(manifest, ".intoto.jsonl")+".evidence.parquet")
	if err != nil {
		t.Fatal(err)
	}
	defer side.Close()
	checks, err := j.AgainstData(t.Context(), m, side, side.Info().Size)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]manifests.Check{}
	for _, c := range checks {
		out[c.Name] = c
	}
	return out
}

// TestAgainstTheDataEachChangeIsNamed: a changed file, one that is missing, one
// that was removed and is there again, and keys that came back.
func TestAgainstTheDataEachChangeIsNamed(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	before := snapshotDir(t, lake.Dir)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range against(t, j, sum.Manifest) {
		if !c.OK {
			t.Errorf("untouched: %s: %s", name, c.Reason)
		}
	}
	var written, removed string
	for _, rec := range evidenceOf(t, j, sum.Manifest) {
		if rec.Kind == manifests.RecordFile && rec.Status == manifests.StatusRewritten {
			written = strings.TrimPrefix(rec.NewPath, "file://")
		}
		if rec.Kind == manifests.RecordDelete && rec.Object == "data" {
			removed = strings.TrimPrefix(rec.Path, "file://")
		}
	}
	content, err := os.ReadFile(written)
	if err != nil || removed == "" {
		t.Fatal(err)
	}
	wantNamed := func(what, check, reason string) {
		t.Helper()
		got := against(t, j, sum.Manifest)
		if c := got[check]; c.OK || c.Skipped || !strings.Contains(c.Reason, reason) {
			t.Errorf("%s: %s: %+v, want %q", what, check, c, reason)
		}
	}
	changed := slices.Clone(content)
	changed[len(changed)/2] ^= 1
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(written, changed)
	wantNamed("a changed file", jobs.CheckFiles, "1 of ")
	wantNamed("a changed file", jobs.CheckFiles, "digests differ")
	if err := os.Remove(written); err != nil {
		t.Fatal(err)
	}
	wantNamed("a missing file", jobs.CheckFiles, "1 are missing although the table still names them")
	write(written, content)
	write(removed, []byte("anything"))
	wantNamed("a removed file", jobs.CheckRemovals, "are there (again)")
	if err := os.Remove(removed); err != nil {
		t.Fatal(err)
	}
	for name, c := range against(t, j, sum.Manifest) {
		if !c.OK {
			t.Errorf("put right again: %s: %s", name, c.Reason)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	state := snapshotDir(t, filepath.Join(lake.Dir, "state"))
	restoreDir(t, before, lake.Dir)
	restoreDir(t, state, filepath.Join(lake.Dir, "state"))
	j = open(t, cfg, jobs.Env{})
	wantNamed("the table of before", jobs.CheckAbsence, "keys are there again: "+ordersName)
}
