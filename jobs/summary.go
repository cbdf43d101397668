package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// Summary is how a run ended, for people and programs. It holds no key.
type Summary struct {
	RunID        string
	Job          string
	DryRun       bool
	Resumed      bool
	Outcome      string   // manifests.Result; "" for a dry run
	Reasons      []string // clauses of the outcome's rule
	PendingUntil time.Time
	Keysets      []KeysetSummary
	Targets      []TargetSummary
	Excluded     []warehouse.Excluded
	Warnings     []string
	PurgedDue    []*PurgeSummary
	Purged       *warehouse.Purged // sums over the run's targets; nil = not purged yet
	Manifest     string            // path of the envelope
	Report       string            // path of its readable form
	Verification *manifests.Verification
	Residue      []manifests.Residue
	// ScopeExcluded is what the manifest lists as not covered.
	ScopeExcluded []manifests.Exclusion
	Started       time.Time
	Ended         time.Time
}

// KeysetSummary sums up a loaded keyset.
type KeysetSummary struct {
	Name                 string
	Keys, Held, Requests int64
}

// TargetSummary is one table's part.
type TargetSummary struct {
	Name      string
	Status    string // manifests.TargetDone …
	Reason    string
	Plan      warehouse.Plan
	Scan      TargetScan
	Committed *warehouse.Committed
}

// TargetScan counts what scanning a table came to.
type TargetScan struct {
	Files, Clean, Rewritten, Dropped, Failed, LeftAlone int64
	Erased, Changed                                     int64 // rows
	BytesRead, Copied, Encoded                          int64
}

// PlanSummary says what a run would do.
type PlanSummary struct {
	RunID    string
	Job      string
	Digest   string
	Keysets  []KeysetSummary
	Targets  []TargetSummary
	Excluded []warehouse.Excluded
}

// Blocked says whether a ref with policy block pins data to be erased.
func (p *PlanSummary) Blocked() bool {
	for _, t := range p.Targets {
		if len(t.Plan.Blockers) > 0 {
			return true
		}
	}
	return false
}

// PurgeSummary is what a purge removed, or would.
type PurgeSummary struct {
	RunID       string
	Job         string
	DryRun      bool
	NothingToDo bool      // purged already, reverted, or nothing was committed
	NotBefore   time.Time // the grace has not ended: nothing was removed
	Outcome     string
	Manifest    string
	Totals      warehouse.Purged
}

func (s *PurgeSummary) add(p warehouse.Purged) { addPurged(&s.Totals, p) }

func addPurged(sum *warehouse.Purged, p warehouse.Purged) {
	sum.SnapshotsExpired = append(sum.SnapshotsExpired, p.SnapshotsExpired...)
	sum.Blockers = append(sum.Blockers, p.Blockers...)
	sum.ManifestsRemoved += p.ManifestsRemoved
	sum.FilesRemoved += p.FilesRemoved
	sum.BytesRemoved += p.BytesRemoved
	sum.TombstonesDropped += p.TombstonesDropped
}

func (s *PurgeSummary) fill(r *Run, m *manifests.Manifest) {
	for _, slot := range sortedKeys(r.progress.purged) {
		s.add(r.progress.purged[slot].Purged)
	}
	s.Outcome = string(m.Outcome.Result)
	if rec, ok := r.progress.manifest(string(manifests.KindPurge)); ok {
		s.Manifest = rec.Path
	}
}

// RestoreSummary is what a restore re-added, or would.
type RestoreSummary struct {
	RunID    string
	Job      string
	DryRun   bool
	Outcome  string
	Manifest string
	Tables   []RestoredTable
}

// RestoredTable is one table of a restore.
type RestoredTable struct {
	Target     string
	Rows       int64
	Files      int64
	SnapshotID int64
}

func (r *Run) keysetSummaries() []KeysetSummary {
	var out []KeysetSummary
	if r.progress.keysets == nil {
		return nil
	}
	for _, k := range r.progress.keysets.Keysets {
		s := KeysetSummary{Name: k.Name, Keys: k.Keys}
		if k.Report != nil {
			s.Held, s.Requests = k.Report.Held, k.Report.Requests
		}
		out = append(out, s)
	}
	return out
}

func (r *Run) planSummary(context.Context) (*PlanSummary, error) {
	p := &PlanSummary{RunID: r.ID(), Job: r.job.cfg.Name, Digest: r.progress.planned.Digest,
		Keysets: r.keysetSummaries(), Excluded: r.excluded}
	for _, pt := range r.progress.planned.Targets {
		p.Targets = append(p.Targets, TargetSummary{Name: pt.Name, Plan: pt.Plan})
	}
	return p, nil
}

func (r *Run) summary(ctx context.Context) (*Summary, error) {
	s := &Summary{RunID: r.ID(), Job: r.job.cfg.Name, DryRun: r.opts.DryRun, Resumed: r.resumed,
		Keysets: r.keysetSummaries(), Excluded: r.excluded, Started: r.frozen.Started, Ended: r.progress.last}
	for _, pt := range r.progress.planned.Targets {
		s.Targets = append(s.Targets, r.targetSummary(pt))
	}
	for _, slot := range sortedKeys(r.progress.purged) {
		if s.Purged == nil {
			s.Purged = &warehouse.Purged{}
		}
		addPurged(s.Purged, r.progress.purged[slot].Purged)
	}
	rec, ok := r.progress.manifest(string(manifests.KindRun))
	if !ok {
		return s, nil
	}
	s.Manifest, s.Outcome = rec.Path, rec.Outcome
	if bare.Is(ctx) {
		return s, nil
	}
	s.Report = strings.TrimSuffix(rec.Path, ".intoto.jsonl") + ".html"
	m, err := r.job.readManifest(ctx, rec.Path)
	if err != nil {
		return nil, err
	}
	s.Verification, s.Reasons, s.Residue = &m.Verification, m.Outcome.Reasons, m.Residue
	s.ScopeExcluded = m.Scope.Excluded
	if m.Outcome.Pending != nil {
		s.PendingUntil = *m.Outcome.Pending
	}
	return s, nil
}

func (r *Run) targetSummary(pt planTarget) TargetSummary {
	sum := r.progress.totals(pt.Slot)
	out := TargetSummary{Name: pt.Name, Status: manifests.TargetUntouched, Plan: pt.Plan,
		Scan: TargetScan{Files: sum.Files, Clean: sum.Clean, Rewritten: sum.Rewritten, Dropped: sum.Dropped, Failed: sum.Failed,
			LeftAlone: sum.LeftAlone, Erased: sum.Erased, Changed: sum.Changed, BytesRead: sum.BytesRead, Copied: sum.Copied, Encoded: sum.Encoded}}
	if c, ok := r.progress.committed[pt.Slot]; ok {
		out.Committed, out.Status = &c.Committed, manifests.TargetDone
		if c.NoChange {
			out.Status = manifests.TargetClean
		}
	} else if f, ok := r.progress.failed[pt.Slot]; ok {
		out.Status, out.Reason = manifests.TargetFailed, f.Text
	} else if r.progress.stopped != nil {
		out.Status, out.Reason = manifests.TargetStopped, r.progress.stopped.Limit
	}
	return out
}

func (j *Job) readManifest(ctx context.Context, path string) (*manifests.Manifest, error) {
	raw, err := readAll(ctx, j, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("manifest is missing: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return manifests.Read(raw)
}
