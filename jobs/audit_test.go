package jobs_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// TestTheAuditFindsDataThatCameBack: nothing after a run; after a restored
// copy of the table, the run, the table, files and state are named; and once
// the keys have expired there is nothing left to look for.
func TestTheAuditFindsDataThatCameBack(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	cfg.Audit = &configs.Audit{Keep: configs.Duration(365 * day)}
	j := open(t, cfg, jobs.Env{})
	if _, err := j.Audit(t.Context()); !errors.Is(err, jobs.ErrNothingKept) {
		t.Fatalf("an audit before any run: %v", err)
	}
	copied := snapshotDir(t, lake.Dir)
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Seal(t.Context(), sum.RunID); err != nil { // which leaves the audit's keys alone
		t.Fatal(err)
	}
	clean, err := j.Audit(t.Context())
	if err != nil || clean.CameBack || len(clean.Findings) > 0 || clean.Outcome != string(manifests.NothingToErase) || clean.Keys == 0 {
		t.Fatalf("an audit of a clean table: %+v, %v", clean, err)
	}
	// The backup of before the run is put back; the state bucket stays.
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	state := snapshotDir(t, filepath.Join(lake.Dir, "state"))
	restoreDir(t, copied, lake.Dir)
	restoreDir(t, state, filepath.Join(lake.Dir, "state"))
	j = open(t, cfg, jobs.Env{})
	back, err := j.Audit(t.Context())
	if err != nil || !back.CameBack || back.Outcome != string(manifests.Failed) {
		t.Fatalf("an audit of a restored backup: %s, %v, %v", back.Outcome, back.CameBack, err)
	}
	if !slices.ContainsFunc(back.Findings, func(f jobs.AuditFinding) bool {
		return f.Target == ordersName && f.State == "live" && f.Count > 0 && f.File != "" && slices.Equal(f.Runs, []string{sum.RunID})
	}) {
		t.Errorf("%d findings and no live file with its run", len(back.Findings))
	}
	records := evidenceOf(t, j, back.Manifest)
	if len(records) != len(back.Findings) || records[0].Status != manifests.StatusFound {
		t.Errorf("%d records of %d findings", len(records), len(back.Findings))
	}
	trust, err := j.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := j.VerifyLog(t.Context(), trust, nil)
	if err != nil || !st.OK() || st.Manifests < 4 {
		t.Errorf("the passes are in the log: %+v, %v", st, err)
	}
	late := later(t, 366*day)
	if _, err := j.Audit(late); !errors.Is(err, jobs.ErrNothingKept) {
		t.Errorf("after the keys have expired: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(lake.Dir, "state", "secrets", "audit-*")); len(left) > 0 {
		t.Errorf("secrets that outlive their keys: %v", left)
	}
	if _, unread := requests(t, j, time.Now()); unread != 1 {
		t.Errorf("%d sealed runs, want the one", unread)
	}
}
