package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const testJob = `version: 1
name: small
catalogs: {lake: {type: sql, uri: "sqlite:///x.db"}}
keysets: {users: {source: keys.csv, key: {id: int64}}}
targets: [{table: lake.a.b, match: [{users: id}]}]
`

func writeJob(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(testJob), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	errLimit = errors.New("share of lake.a.b above 1%: limit reached")
	errLease = errors.New("lease held by run r0")
)

// fake is a backend whose outcome the mode decides.
func fake(mode string) Backend {
	at := time.Date(2026, 11, 23, 4, 15, 0, 0, time.UTC)
	until := at.AddDate(0, 0, 7)
	run := func(ctx context.Context, e Env) (*RunResponse, error) {
		e.Reporter.Report(Event{Type: "step", Step: "plan"})
		e.Reporter.Report(Event{Type: "progress", Step: "scan", Target: "lake.a.b", Done: 50, Total: 100, Unit: "files"})
		e.Reporter.Report(Event{Type: "progress", Step: "scan", Target: "lake.a.b", Done: 100, Total: 100, Unit: "files"})
		e.Reporter.Report(Event{Type: "warning", Message: "a streaming reader follows lake.a.b"})
		r := &RunResponse{
			RunID: "20261123T0415-7f3a", Job: "small", Outcome: Erased, Started: at, Ended: at.Add(4200 * time.Millisecond),
			Keysets:      []KeysetInfo{{Name: "users", Keys: 25, Held: 2, Requests: 14}},
			Targets:      []TargetResult{{Target: "lake.a.b", Status: "erased", FilesScanned: 12, FilesTotal: 100, FilesReplaced: 7, FilesDropped: 1, RowsErased: 1234, RowsTotal: 800000, AlreadyDeleted: 204}},
			Purged:       &PurgeTotals{Files: 9, Bytes: 41 << 20, Snapshots: 3, Manifests: 4},
			Verification: &Verification{Result: VerifyPassed, Mode: "rewritten", Coverage: 1, Survivors: 798766, BytesRead: 80 << 20, Controls: "found before, absent after"},
			Excluded:     []ExcludedInfo{{What: "RDS backups", Reason: "rolling", Owner: "dba", GoneBy: "2027-01-31", Declared: true}},
			Manifest:     "state/manifests/20261123T0415-7f3a.intoto.jsonl", Report: "state/manifests/20261123T0415-7f3a.txt",
			BytesRead: 3 << 20, BytesCopied: 38 << 20, BytesEncoded: 700 << 10,
		}
		switch mode {
		case "pending":
			r.Outcome, r.PendingUntil, r.Purged = ErasedPending, &until, nil
		case "nothing":
			r.Outcome, r.Targets[0] = NothingToErase, TargetResult{Target: "lake.a.b", Status: "nothing found", FilesScanned: 3, FilesTotal: 100}
		case "partial":
			r.Outcome = Partial
			r.Targets = append(r.Targets, TargetResult{Target: "lake.a.c", Status: "failed", Reason: "unreadable file"})
		case "residue":
			r.Verification.Result = VerifyResidue
			r.Verification.Surfaces = []Surface{{Name: "dictionary pages", Target: "lake.a.b", Checked: 9, Coverage: 1, Residue: 2}}
		case "failed":
			r.Outcome = Failed
		case "limit":
			return nil, errLimit
		case "lease":
			return nil, errLease
		case "error":
			return nil, errors.New("open footer: corrupt Parquet")
		case "hang":
			if err := os.WriteFile("started", nil, 0o600); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return &RunResponse{RunID: r.RunID, Job: "small"}, ctx.Err()
		}
		return r, nil
	}
	b := Backend{
		Init: func(_ context.Context, _ Env, r InitRequest) (*InitResponse, error) {
			return &InitResponse{YAML: testJob, Tables: []InitTable{{Table: "lake.a.b", Column: "id", Type: "long"}}}, nil
		},
		Check: func(context.Context, Env, CheckRequest) (*CheckResponse, error) {
			c := []Check{{What: "read", Target: "lake.a.b", OK: true}, {What: "sign", OK: mode != "failed", Detail: "file:run.key"}}
			return &CheckResponse{Job: "small", Digest: "abc", Checks: c, Policy: json.RawMessage(`{"Version":"2012-10-17"}`)}, nil
		},
		Plan: func(_ context.Context, _ Env, r PlanRequest) (*PlanResponse, error) { return fakePlan(), nil },
		Run: func(ctx context.Context, e Env, r RunRequest) (*RunResponse, error) {
			if r.Confirm != nil {
				if err := r.Confirm(ctx, fakePlan()); err != nil {
					return nil, err
				}
			}
			resp, err := run(ctx, e)
			if resp != nil {
				resp.DryRun = r.DryRun
			}
			return resp, err
		},
		Resume: func(ctx context.Context, e Env, r RunRef) (*RunResponse, error) { return run(ctx, e) },
		Runs: func(context.Context, Env, RunsRequest) (*RunsResponse, error) {
			return &RunsResponse{Runs: []RunInfo{{RunID: "r2", Job: "small", State: "finished", Outcome: ErasedPending, Started: at, Rows: 1234, PurgeDue: &until}, {RunID: "r1", Job: "small", State: "finished", Outcome: Erased, Started: at, Purged: true}}}, nil
		},
		Status: func(context.Context, Env, RunRef) (*StatusResponse, error) {
			return &StatusResponse{RunInfo: RunInfo{RunID: "r2", Job: "small", State: "running", Started: at}, Step: "scan", Done: 50, Total: 200}, nil
		},
		Purge: func(ctx context.Context, _ Env, r PurgeRequest) (*PurgeResponse, error) {
			p := &PurgeResponse{DryRun: r.DryRun, Runs: []PurgedRun{{RunID: "r1", Job: "small", Outcome: Erased, Totals: PurgeTotals{Files: 9, Bytes: 41 << 20}}}}
			if r.Confirm != nil {
				return p, r.Confirm(ctx, p)
			}
			return p, nil
		},
		Restore: func(ctx context.Context, _ Env, r RestoreRequest) (*RestoreResponse, error) {
			p := &RestoreResponse{RunID: r.RunID, Job: "small", DryRun: r.DryRun, Outcome: Reverted, Tables: []RestoredTarget{{Target: "lake.a.b", Rows: 1234, Files: 8}}}
			if r.Confirm != nil {
				return p, r.Confirm(ctx, p)
			}
			return p, nil
		},
		Verify: func(context.Context, Env, VerifyRequest) (*VerifyResponse, error) {
			v := &VerifyResponse{Job: "small", Verification: Verification{Result: VerifyPassed, Mode: "full", Coverage: 1, Surfaces: []Surface{{Name: "live rows", Target: "lake.a.b", Checked: 100, Coverage: 1}}}}
			if mode == "residue" {
				v.Result = VerifyResidue
				v.Surfaces[0].Residue = 3
			}
			return v, nil
		},
		ManifestVerify: func(_ context.Context, _ Env, r ManifestRequest) (*ManifestResponse, error) {
			ok := mode != "failed"
			return &ManifestResponse{Manifest: r.Manifest, Outcome: Erased, Valid: &ok, Checks: []Check{{What: "signature", OK: ok}}}, nil
		},
		EvidenceBackend: EvidenceBackend{Requests: func(context.Context, Env, RequestsRequest) (*RequestsResponse, error) {
			return &RequestsResponse{Requests: []RequestInfo{
				{ID: "T-1", Status: "part held", Keys: 2, Held: 1, Found: 2, Runs: []string{"r1"}},
				{ID: "T-2", Status: "pending", Until: &until, Keys: 1, Held: 2, Found: 1, Runs: []string{"r1"}},
				{ID: "T-3", Status: "erased from history", Keys: 1, History: 1, Runs: []string{"r1"}}}}, nil
		}},
		FileCheck: func(_ context.Context, _ Env, r FileRequest) (*FileResponse, error) {
			f := &FileResponse{Input: r.Input, BytesRead: 10 << 20, Surfaces: []Surface{{Name: "data pages", Checked: 12, Coverage: 1}}}
			if mode == "residue" {
				f.Found = 1
			}
			return f, nil
		},
		FileInspect: func(_ context.Context, _ Env, r FileRequest) (*FileResponse, error) {
			return &FileResponse{Input: r.Input, Sections: []TableSection{{Title: "Row groups", Head: []string{"GROUP", ">ROWS"}, Rows: [][]string{{"0", "10,000"}, {"1", "7"}}}}}, nil
		},
		Classify: func(err error) (int, string) {
			switch {
			case errors.Is(err, errLimit):
				return ExitLimit, "nothing was committed"
			case errors.Is(err, errLease):
				return ExitLease, "wait for it"
			}
			return 0, ""
		},
		Version: func() VersionResponse {
			return VersionResponse{Version: "1.2.3", Go: "go1.26", Platform: "linux/amd64"}
		},
	}
	return b
}

func fakePlan() *PlanResponse {
	return &PlanResponse{RunID: "20261123T0415-7f3a", Job: "small", Path: "state/runs/x/plan", Digest: "0123456789abcdef0123",
		Keysets: []KeysetInfo{{Name: "users", Keys: 25, Held: 2}},
		Targets: []TargetPlan{{Target: "lake.a.b", Files: 12, Rows: 90_000, Bytes: 5 << 20, TotalFiles: 100, TotalBytes: 44 << 20, Skipped: []Skipped{{Reason: "pruned by bounds", Files: 88}}, Blockers: []string{"tag audit-2025 pins snapshot 7"}}}}
}
