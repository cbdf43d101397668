package jobs_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// approver is a key and the file of its public part.
func approver(t *testing.T) (*manifests.Key, string) {
	t.Helper()
	k, err := manifests.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := manifests.PublicPEM(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "approver.pub")
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return k, file
}

func manifestOf(t *testing.T, path string) *manifests.Manifest {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifests.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOnlyAnApprovedPlanRuns: no run without one, none with another's, an
// expired or a changed one; and an approval is the only way past a limit.
func TestOnlyAnApprovedPlanRuns(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	alice, aliceFile := approver(t)
	bob, bobFile := approver(t)
	stranger, _ := approver(t)
	cfg.Approval = &configs.Approval{Keys: configs.Strings{aliceFile, bobFile}, Count: 2, Valid: configs.Duration(time.Hour)}
	cfg.Limits.Rows = 3
	before := allContents(t, lake)
	j := open(t, cfg, jobs.Env{})
	ctx := t.Context()
	if _, err := j.Run(ctx, jobs.RunOptions{}); !errors.Is(err, jobs.ErrApproval) {
		t.Fatalf("a run without a plan: %v", err)
	}
	if _, err := j.Run(ctx, jobs.RunOptions{DryRun: true}); !errors.Is(err, warehouse.ErrLimit) {
		t.Fatalf("a dry run needs no approval, and tells of the limit: %v", err)
	}
	p, err := j.Plan(ctx, jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := j.Plan(ctx, jobs.RunOptions{})
	if err != nil || other.Digest == p.Digest {
		t.Fatalf("two plans, one digest: %v", err)
	}
	for name, try := range map[string]func() error{
		"a stranger": func() error { _, err := j.Approve(ctx, p.RunID, stranger, jobs.ApproveOptions{}); return err },
		"another digest": func() error {
			_, err := j.Approve(ctx, p.RunID, alice, jobs.ApproveOptions{Digest: other.Digest})
			return err
		},
	} {
		if err := try(); !errors.Is(err, jobs.ErrUsage) {
			t.Errorf("%s approved: %v", name, err)
		}
	}
	raised := manifests.Raised{Rows: 1_000_000}
	a, err := j.Approve(ctx, p.RunID, alice, jobs.ApproveOptions{Name: "Alice", Digest: p.Digest, Raised: raised})
	if err != nil || a.Missing != 1 {
		t.Fatal(a, err)
	}
	refused := func(what string, runID string, ahead time.Duration) {
		t.Helper()
		if _, err := j.RunPlan(later(t, ahead), runID, "", nil); !errors.Is(err, jobs.ErrApproval) {
			t.Fatalf("%s: %v", what, err)
		}
		for name, want := range before {
			if got, _ := contents(t, lake, name); got != want {
				t.Fatalf("%s: %s changed", what, name)
			}
		}
	}
	refused("one of two", p.RunID, 0)
	if _, err := j.Approve(ctx, p.RunID, alice, jobs.ApproveOptions{Name: "Alice again", Raised: raised}); err != nil {
		t.Fatal(err)
	}
	refused("the same one twice", p.RunID, 0)
	// Bob's approval of the other plan, put in this one's place.
	b, err := j.Approve(ctx, other.RunID, bob, jobs.ApproveOptions{Raised: raised})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(b.Path, other.RunID, p.RunID, 1)
	if err := os.WriteFile(moved, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("another plan's", p.RunID, 0)
	if _, err := j.Approve(ctx, p.RunID, bob, jobs.ApproveOptions{Name: "Bob", Raised: raised}); err != nil {
		t.Fatal(err)
	}
	refused("expired", p.RunID, 2*time.Hour)

	sum, err := j.RunPlan(ctx, p.RunID, p.Digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
	m := manifestOf(t, sum.Manifest)
	var names []string
	for _, actor := range m.Actors {
		if actor.Role == manifests.RoleApprover && actor.KeyID != "" && actor.StatementSHA256 != "" {
			names = append(names, actor.Name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"Alice again", "Bob"}) || m.Limits.Rows != 1_000_000 || m.Limits.OverriddenBy == "" || m.Continuity.PlanSHA256 != p.Digest {
		t.Errorf("the manifest says approvers %v, limits %+v", names, m.Limits)
	}
}

// TestAnApprovalThatRaisesNothingLeavesTheLimits.
func TestAnApprovalThatRaisesNothingLeavesTheLimits(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	alice, file := approver(t)
	cfg.Approval = &configs.Approval{Keys: configs.Strings{file}, Count: 1, Valid: configs.Duration(time.Hour)}
	cfg.Limits.Rows = 3
	j := open(t, cfg, jobs.Env{})
	p, err := j.Plan(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Approve(t.Context(), p.RunID, alice, jobs.ApproveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.RunPlan(t.Context(), p.RunID, "", nil); !errors.Is(err, warehouse.ErrLimit) {
		t.Errorf("past the limit: %v", err)
	}
}

// TestACompactionTypedByHandNeedsApprovalToo: it waits, like any other run,
// until its plan is approved, and then does what was planned.
func TestACompactionTypedByHandNeedsApprovalToo(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	alice, file := approver(t)
	cfg.Approval = &configs.Approval{Keys: configs.Strings{file}, Count: 1, Valid: configs.Duration(time.Hour)}
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	before, was := allContents(t, lake), layoutOf(t, lake, ordersName)
	j := open(t, cfg, jobs.Env{})
	if _, err := j.Compact(t.Context(), jobs.RunOptions{}); !errors.Is(err, jobs.ErrApproval) {
		t.Fatalf("without an approval: %v", err)
	}
	if is := layoutOf(t, lake, ordersName); is != was {
		t.Fatalf("the table was %+v and is %+v", was, is)
	}
	if dry, err := j.Compact(t.Context(), jobs.RunOptions{DryRun: true}); err != nil || dry.Targets[0].Scan.Rewritten == 0 {
		t.Errorf("a dry run needs none: %+v, %v", dry, err)
	}
	runs, err := jobs.Runs(t.Context(), j.State(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	waiting := slices.IndexFunc(runs, func(s state.Status) bool { return s.State == jobs.StatePlanned })
	if waiting < 0 {
		t.Fatalf("no run waits for its approval: %+v", runs)
	}
	id := runs[waiting].Run
	if _, err := j.Approve(t.Context(), id, alice, jobs.ApproveOptions{Name: "Alice"}); err != nil {
		t.Fatal(err)
	}
	sum, err := j.RunPlan(t.Context(), id, "", nil)
	if err != nil || sum.Targets[0].Committed == nil || sum.Targets[0].Committed.RowsErased > 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if is := layoutOf(t, lake, ordersName); is.deletes > 0 || is.small > 0 {
		t.Errorf("the table is %+v", is)
	}
	if !maps.Equal(before, allContents(t, lake)) {
		t.Error("rows changed")
	}
}
