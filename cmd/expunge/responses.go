package main

import (
	"slices"

	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"sync"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// binaryDigest names the program that ran, for the manifest.
var binaryDigest = sync.OnceValue(func() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
})

func keysetInfos(in []jobs.KeysetSummary) []cli.KeysetInfo {
	var out []cli.KeysetInfo
	for _, k := range in {
		out = append(out, cli.KeysetInfo{Name: k.Name, Keys: k.Keys, Held: k.Held, Requests: k.Requests})
	}
	return out
}

func excludedInfos(in []warehouse.Excluded) []cli.ExcludedInfo {
	var out []cli.ExcludedInfo
	for _, x := range in {
		out = append(out, cli.ExcludedInfo{What: x.What, Reason: x.Reason, Owner: x.Owner, GoneBy: x.GoneBy, Declared: x.Declared})
	}
	return out
}

func planResponse(p *jobs.PlanSummary) *cli.PlanResponse {
	resp := &cli.PlanResponse{RunID: p.RunID, Job: p.Job, Path: p.RunID, Digest: p.Digest, Keysets: keysetInfos(p.Keysets),
		Excluded: excludedInfos(p.Excluded), Blocked: p.Blocked()}
	for _, t := range p.Targets {
		tp := cli.TargetPlan{Target: t.Name, SnapshotID: t.Plan.Description.SnapshotID, Files: t.Plan.Tasks, Rows: t.Plan.TaskRows,
			Bytes: t.Plan.TaskBytes, TotalFiles: t.Plan.TotalFiles, TotalBytes: t.Plan.TotalBytes, Warnings: t.Plan.Warnings}
		for _, s := range t.Plan.Skipped {
			tp.Skipped = append(tp.Skipped, cli.Skipped{Reason: s.Reason, Files: s.Files, Bytes: s.Bytes})
		}
		for _, b := range t.Plan.Blockers {
			tp.Blockers = append(tp.Blockers, b.Type+" "+b.Ref+": "+b.Reason)
		}
		resp.Targets = append(resp.Targets, tp)
	}
	return resp
}

func runResponse(s *jobs.Summary) *cli.RunResponse {
	if s == nil {
		return nil
	}
	resp := &cli.RunResponse{RunID: s.RunID, Job: s.Job, DryRun: s.DryRun, Resumed: s.Resumed, Outcome: s.Outcome,
		Keysets: keysetInfos(s.Keysets), Excluded: excludedInfos(s.Excluded), Warnings: s.Warnings,
		Manifest: s.Manifest, Report: s.Report, Started: s.Started, Ended: s.Ended}
	if !s.PendingUntil.IsZero() {
		at := s.PendingUntil
		resp.PendingUntil = &at
	}
	for _, t := range s.Targets {
		resp.BytesRead += t.Scan.BytesRead
		resp.BytesCopied += t.Scan.Copied
		resp.BytesEncoded += t.Scan.Encoded
		target := targetResult(t)
		if s.DryRun {
			target.Status = dryWords[target.RowsErased > 0]
			if target.RowsErased == 0 && target.RowsChanged > 0 {
				target.Status = "would be changed"
			}
		}
		resp.Targets = append(resp.Targets, target)
	}
	if s.Purged != nil {
		resp.Purged = purgeTotals(s.Purged)
	}
	for _, p := range s.PurgedDue {
		resp.PurgedDue = append(resp.PurgedDue, p.RunID)
	}
	if s.Verification != nil {
		resp.Verification = verification(s.Verification, s.Residue)
	}
	return resp
}

// words are the statuses of a target as the terminal says them.
var words = map[string]string{
	manifests.TargetDone: "erased", manifests.TargetClean: "nothing found", manifests.TargetFailed: "failed",
	manifests.TargetStopped: "stopped by a limit", manifests.TargetUntouched: "not reached",
}

// dryWords are what a dry run says of a target, by whether it found rows.
var dryWords = map[bool]string{true: "would be erased", false: "nothing found"}

func targetResult(t jobs.TargetSummary) cli.TargetResult {
	out := cli.TargetResult{Target: t.Name, Status: words[t.Status], Reason: t.Reason,
		FilesScanned: t.Scan.Files, FilesTotal: t.Plan.TotalFiles, RowsTotal: t.Plan.TotalRows, SnapshotBefore: t.Plan.Description.SnapshotID,
		FilesReplaced: t.Scan.Rewritten, FilesDropped: t.Scan.Dropped, RowsErased: t.Scan.Erased, RowsChanged: t.Scan.Changed}
	if c := t.Committed; c != nil {
		out.FilesReplaced, out.FilesDropped, out.RowsErased = c.FilesReplaced, c.FilesDropped, c.RowsErased
		if out.RowsChanged = c.RowsChanged; out.RowsErased == 0 && out.RowsChanged > 0 {
			out.Status = "changed"
		}
		out.AlreadyDeleted, out.DeleteFiles, out.Attempts = c.RowsAlreadyDeleted, c.DeleteFilesRemoved, c.Attempts
		out.SnapshotAfter = c.After.SnapshotID
	}
	return out
}

func purgeTotals(p *warehouse.Purged) *cli.PurgeTotals {
	out := &cli.PurgeTotals{Files: p.FilesRemoved, Bytes: p.BytesRemoved, Snapshots: int64(len(p.SnapshotsExpired)), Manifests: p.ManifestsRemoved}
	for _, b := range p.Blockers {
		out.Blockers = append(out.Blockers, b.Type+" "+b.Ref+": "+b.Reason)
	}
	return out
}

// verification sums up the surfaces of a manifest for the terminal. Residue
// that the manifest dates, such as files within their grace, is no finding.
func verification(v *manifests.Verification, residue []manifests.Residue) *cli.Verification {
	dated := func(s manifests.Surface) bool {
		return slices.ContainsFunc(residue, func(r manifests.Residue) bool {
			return r.Target == s.Target && r.Surface == s.Surface && r.GoneBy != nil
		})
	}
	out := &cli.Verification{Result: cli.VerifyPassed, Mode: v.Mode, Coverage: 1}
	for _, s := range v.Surfaces {
		switch s.Result {
		case manifests.Fail:
			out.Result = cli.VerifyFailed
		case manifests.Found:
			if out.Result == cli.VerifyPassed && !dated(s) {
				out.Result = cli.VerifyResidue
			}
		}
		out.BytesRead += s.BytesRead
		if s.Result == manifests.NotChecked || s.Result == manifests.NotPresent {
			continue
		}
		out.Coverage = min(out.Coverage, float64(s.CoveragePPM)/1e6)
		out.Surfaces = append(out.Surfaces, cli.Surface{Name: s.Surface, Target: s.Target, Checked: s.Objects,
			Coverage: float64(s.CoveragePPM) / 1e6, Residue: s.Findings, Detail: s.Note})
	}
	if len(v.Controls) > 0 {
		out.Controls = "found before, absent after"
		for _, c := range v.Controls {
			if !c.Before || c.After {
				out.Controls, out.Result = "failed", cli.VerifyFailed
			}
		}
	}
	return out
}

func runInfo(st state.Status) cli.RunInfo {
	r := cli.RunInfo{RunID: st.Run, Job: st.Job, Kind: jobs.KindOf(st), State: st.State, Outcome: st.Outcome, Started: st.Started, Rows: st.Counters["rows_erased"],
		Purged: st.Counters["files_removed"] > 0}
	if !st.Ended.IsZero() {
		at := st.Ended
		r.Ended = &at
	}
	if !st.PurgeDue.IsZero() {
		at := st.PurgeDue
		r.PurgeDue = &at
	}
	return r
}
