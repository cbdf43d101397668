package jobs

import (
	"slices"
	"strconv"
	"time"

	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// targetFacts adds what became of one target to a manifest.
func (r *Run) targetFacts(m *manifests.Manifest, t *boundTarget, kind manifests.Kind) {
	p := &r.progress
	plan := p.planned.Targets[t.slot].Plan
	sum := p.totals(t.slot)
	mt := manifests.Target{
		Name: t.name, Status: manifests.TargetUntouched,
		FilesTotal: plan.TotalFiles, FilesScanned: sum.Files, RowsTotal: plan.TotalRows,
		FilesExcluded: sum.LeftAlone, FilesFailed: sum.Failed,
		BytesRead: sum.BytesRead, BytesCopied: sum.Copied, BytesEncoded: sum.Encoded,
	}
	for _, s := range plan.Skipped {
		mt.Skipped = append(mt.Skipped, manifests.Skipped{Reason: s.Reason, Files: s.Files, Rows: s.Rows, Bytes: s.Bytes})
	}
	for _, b := range plan.Blockers {
		if !r.frozen.Compact && (t.sel.Refs != "report" || kind != manifests.KindRun) {
			mt.Blockers = append(mt.Blockers, blocker(b))
		}
	}
	r.perMatchFacts(&mt, t)
	r.statusFacts(&mt, m, t)
	c, committed := p.committed[t.slot]
	if committed {
		r.commitFacts(&mt, m, c, t.slot)
	}
	m.Incidents.Skips += mt.FilesExcluded
	if r.job.cfg.Verify.Mode == verifier.ModeSample {
		m.Verification.Seed = strconv.FormatUint(r.seed(), 10)
	}
	if kind == manifests.KindRun || committed && c.NoChange { // what was not changed has no purge: it stays as it was verified
		r.verifyFacts(m, t.name, t.slot)
		if o, ok := p.orphans[t.slot]; ok && kind == manifests.KindRun {
			r.orphanFacts(m, t.name, &o)
		}
	} else {
		m.Verification.Mode = r.job.cfg.Verify.Mode
	}
	if pu, ok := p.purged[t.slot]; ok && kind != manifests.KindRestore {
		r.purgeFacts(&mt, m, t.name, pu, kind)
	}
	if rev, ok := p.reverted[t.slot]; ok && kind != manifests.KindRun {
		mt.Status, mt.After = manifests.TargetRestored, version(rev.After)
		mt.RowsReturned = rev.RowsErased
	}
	m.Targets = append(m.Targets, mt)
}

func blocker(b warehouse.Blocker) manifests.Blocker {
	return manifests.Blocker{Ref: b.Ref, Type: b.Type, SnapshotID: strconv.FormatInt(b.SnapshotID, 10), Reason: b.Reason}
}

func version(d warehouse.Description) *manifests.Version {
	if d.SnapshotID == 0 && d.MetadataLocation == "" {
		return nil // objects have no versions of the whole
	}
	return &manifests.Version{SnapshotID: strconv.FormatInt(d.SnapshotID, 10), SequenceNumber: d.SequenceNumber,
		MetadataLocation: d.MetadataLocation, MetadataSHA256: d.MetadataSHA256}
}

func (r *Run) perMatchFacts(mt *manifests.Target, t *boundTarget) {
	if r.progress.scanned == nil {
		return
	}
	for _, s := range r.progress.scanned.Targets {
		if s.Slot != t.slot {
			continue
		}
		for i, n := range s.PerMatch {
			if i < len(t.sel.Match) {
				mt.PerMatch = append(mt.PerMatch, manifests.MatchResult{Keyset: t.sel.Match[i].Keyset, Columns: t.sel.Match[i].Columns, Rows: n})
			}
		}
	}
}

func (r *Run) statusFacts(mt *manifests.Target, m *manifests.Manifest, t *boundTarget) {
	p := &r.progress
	if c, ok := p.committed[t.slot]; ok {
		mt.Status = manifests.TargetDone
		if c.NoChange {
			mt.Status = manifests.TargetClean
		}
		return
	}
	if f, ok := p.failed[t.slot]; ok {
		mt.Status, mt.Reason = manifests.TargetFailed, f.Class
		m.Incidents.Failures++
		m.Incidents.Notes = append(m.Incidents.Notes, manifests.Incident{Target: t.name, What: f.Class, Count: 1})
		return
	}
	if p.stopped != nil {
		mt.Status = manifests.TargetStopped
	}
}

func (r *Run) commitFacts(mt *manifests.Target, m *manifests.Manifest, c commitRecord, slot int) {
	mt.Before, mt.After = version(c.Before), version(c.After)
	mt.FilesRewritten, mt.FilesDropped = c.FilesReplaced, c.FilesDropped
	mt.RowsErased, mt.RowsChanged, mt.RowsDeleted = c.RowsErased, c.RowsChanged, c.RowsAlreadyDeleted
	mt.DeleteFilesRemoved, mt.DeleteFilesReplaced = c.DeleteFilesRemoved, c.DeleteFilesReplaced
	mt.Groups, mt.Attempts, mt.Conflicts = 1, int64(c.Attempts), int64(c.Conflicts)
	mt.RowsIn, mt.RowsOut = c.RowsIn, c.RowsOut
	m.Incidents.Conflicts += int64(c.Conflicts)
	m.Incidents.Retries += int64(max(0, c.Attempts-1))
	if r.job.cfg.Grace == 0 || !slices.Contains(r.progress.purgeSlots(), slot) {
		return
	}
	if due := r.purgeDue(); m.Kind == manifests.KindRun {
		m.Times.PurgeDue = &due
		if c.NoChange {
			return // what its history holds is residue of the surfaces that were looked at
		}
		m.Residue = append(m.Residue, manifests.Residue{Target: mt.Name, Surface: "replaced files and history",
			Count: c.FilesReplaced + c.FilesDropped, State: "within grace", GoneBy: &due, Owner: "expunge"})
	}
}

// purgeDue is when the grace of the run's commits ends.
func (r *Run) purgeDue() time.Time {
	return r.progress.commitAt.Add(r.job.cfg.Grace.Duration())
}

func (r *Run) purgeFacts(mt *manifests.Target, m *manifests.Manifest, name string, pu purgeRecord, kind manifests.Kind) {
	if kind == manifests.KindPurge {
		mt.Status = manifests.TargetPurged
	}
	mt.After = version(pu.Purged.After)
	mt.ManifestsRemoved = pu.Purged.ManifestsRemoved
	for _, id := range pu.Purged.SnapshotsExpired {
		mt.SnapshotsExpired = append(mt.SnapshotsExpired, strconv.FormatInt(id, 10))
	}
	mt.Blockers = nil
	for _, b := range pu.Purged.Blockers {
		mt.Blockers = append(mt.Blockers, blocker(b))
	}
	m.Deletes.Bytes += pu.Purged.BytesRemoved
	pu.Counts.addTo(&m.Deletes)
	r.orphanFacts(m, name, pu.Orphans)
	at := pu.Time.UTC()
	if m.Times.Purged == nil || at.After(*m.Times.Purged) {
		m.Times.Purged = &at
	}
	r.addSurfaces(m, name, pu.Residue)
}

// orphanFacts adds the removal of files that nothing refers to; its evidence is
// the list of removals that it belongs to.
func (r *Run) orphanFacts(m *manifests.Manifest, name string, o *orphanRecord) {
	if o == nil {
		return
	}
	m.Deletes.Bytes += o.Bytes
	o.Counts.addTo(&m.Deletes)
	if o.Refused != "" {
		m.Incidents.Notes = append(m.Incidents.Notes, manifests.Incident{Target: name, What: o.Refused, Count: 1})
	}
	if o.Shared > 0 {
		m.Incidents.Notes = append(m.Incidents.Notes, manifests.Incident{Target: name, What: "files that only another table refers to were left", Count: o.Shared})
	}
}

func (r *Run) verifyFacts(m *manifests.Manifest, name string, slot int) {
	m.Verification.Mode = r.job.cfg.Verify.Mode
	v, ok := r.progress.verified[slot]
	if !ok {
		return
	}
	r.addSurfaces(m, name, v)
	at := v.Time.UTC()
	if m.Times.Verified == nil || at.After(*m.Times.Verified) {
		m.Times.Verified = &at
	}
}

// addSurfaces adds what a verification saw. A later look at a surface takes
// the place of an earlier one, unless it did not look.
func (r *Run) addSurfaces(m *manifests.Manifest, name string, v verifyRecord) {
	for _, s := range v.Surfaces {
		next := s.surface(name)
		i := slices.IndexFunc(m.Verification.Surfaces, func(o manifests.Surface) bool { return o.Target == name && o.Surface == s.Surface })
		switch {
		case i < 0:
			m.Verification.Surfaces = append(m.Verification.Surfaces, next)
		case s.Result != manifests.NotChecked:
			m.Verification.Surfaces[i] = next
		}
	}
	for _, c := range v.Controls {
		m.Verification.Controls = append(m.Verification.Controls, manifests.Control{Target: name, Files: c.Files, Before: c.Before, After: c.After})
	}
}

// residueFacts lists what the last look at each surface still found. Before
// the purge, what only history holds goes with it, at a date that is known.
func (r *Run) residueFacts(m *manifests.Manifest) {
	for _, s := range m.Verification.Surfaces {
		if s.Result != manifests.Found {
			continue
		}
		res := manifests.Residue{Target: s.Target, Surface: s.Surface, Count: s.Findings, State: "unexplained"}
		if m.Times.PurgeDue != nil && m.Times.Purged == nil && s.Surface != verifier.Orphans {
			res.State, res.GoneBy, res.Owner = "within grace", m.Times.PurgeDue, "expunge"
		}
		if slices.ContainsFunc(m.Targets, func(t manifests.Target) bool { return t.Name == s.Target && len(t.Blockers) > 0 }) {
			res.State, res.GoneBy = "pinned by ref", nil
		}
		m.Residue = append(m.Residue, r.objectResidue(m, res)...)
	}
}
