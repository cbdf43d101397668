package manifests

import (
	"slices"
	"time"
)

// RuleVersion names the rule that Decide applies. It changes with the rule.
const RuleVersion = "1"

// Decide derives the outcome from the facts that the manifest states. It is
// pure: Verify calls it again and compares. The first part that applies wins:
//
//   - FAILED: the verification failed (an erased key is live, a survivor
//     differs, or a control shows that the check has no power), no target was
//     in scope, every target failed, or a limit stopped the run before any
//     change.
//   - PARTIAL: a target failed, was stopped or not reached; something was
//     excluded that the job did not declare; a file could not be read; a ref
//     pins data; a surface was not checked, or less of it than required;
//     nothing was verified; rows were erased without a positive control;
//     residue has no date, or one that has passed; or a purge follows a restore
//     of some targets, whose rows are back.
//   - REVERTED: the step was a restore.
//   - ERASED_PENDING: residue remains, all of it with a date.
//   - NOTHING_TO_ERASE: no row was erased and nothing removed; a seal, which
//     erases none, too.
//   - ERASED otherwise.
//
// Exclusions that the job declares stay in the manifest and do not make it PARTIAL.
func Decide(m *Manifest) Outcome {
	f := facts{m: m}
	f.targets()
	f.scope()
	if m.Kind != KindRestore && m.Kind != KindSeal {
		f.verification()
		f.residue()
	}
	o := Outcome{Rule: RuleVersion}
	switch {
	case len(f.failed) > 0:
		o.Result, o.Reasons = Failed, append(f.failed, f.partial...)
	case len(f.partial) > 0:
		o.Result, o.Reasons = Partial, f.partial
	case m.Kind == KindRestore:
		o.Result, o.Reasons = Reverted, []string{"erased rows were added back"}
	case f.pending != nil:
		o.Result, o.Reasons = ErasedPending, []string{"residue remains until a stated date"}
	case m.Kind == KindSeal:
		o.Result, o.Reasons = NothingToErase, []string{"the run's secret was destroyed"}
	case f.nothing():
		o.Result, o.Reasons = NothingToErase, []string{"no row of a key was found"}
		if f.emptyKeysets() {
			o.Reasons = []string{"the keysets are empty"}
		}
	default:
		o.Result, o.Reasons = Erased, []string{"absent from every checked surface"}
	}
	if f.pending != nil && o.Result != Failed {
		o.Pending = f.pending
	}
	slices.Sort(o.Reasons)
	o.Reasons = slices.Compact(o.Reasons)
	return o
}

// facts collects which clauses apply.
type facts struct {
	m       *Manifest
	failed  []string
	partial []string
	pending *time.Time
}

func (f *facts) fail(why string)   { f.failed = append(f.failed, why) }
func (f *facts) lessen(why string) { f.partial = append(f.partial, why) }

func (f *facts) emptyKeysets() bool {
	for i := range f.m.Keysets {
		if !f.m.Keysets[i].Commitment.Empty() {
			return false
		}
	}
	return len(f.m.Keysets) > 0
}

func (f *facts) targets() {
	var failed, stopped, untouched, changed int
	for i := range f.m.Targets {
		t := &f.m.Targets[i]
		switch t.Status {
		case TargetDone, TargetPurged:
			changed++
		case TargetRestored:
			changed++
			if f.m.Kind == KindPurge {
				f.lessen("a target's erased rows were added back")
			}
		case TargetClean:
		case TargetStopped:
			stopped++
		case TargetUntouched:
			untouched++
		default: // an unknown status is no success
			failed++
		}
		if t.FilesFailed > 0 {
			f.lessen("a file could not be read or written")
		}
		if len(t.Blockers) > 0 {
			f.lessen("a ref still pins data to be erased")
		}
		if t.RowsChanged > t.RowsOut {
			f.fail("more rows changed than survived")
		}
		if t.RowsIn != t.RowsOut+t.RowsErased+t.RowsDeleted {
			f.fail("rows in are not survivors, erased and already deleted together")
		}
	}
	switch n := len(f.m.Targets); {
	case n == 0 && f.m.Kind != KindSeal:
		f.fail("no target in scope")
	case n > 0 && failed == n:
		f.fail("every target failed")
	case failed > 0:
		f.lessen("a target failed and was left as it was")
	}
	if stopped > 0 || f.m.Limits.StoppedBy != "" {
		if changed == 0 {
			f.fail("stopped by a limit before any change")
		} else {
			f.lessen("a limit stopped a target")
		}
	}
	if untouched > 0 {
		f.lessen("a target was not reached")
	}
	if f.m.Evidence.Totals.Failed > 0 {
		f.lessen("a file could not be read or written")
	}
}

func (f *facts) scope() {
	var stated int64 // files that an exclusion accounts for
	for _, e := range f.m.Scope.Excluded {
		if !e.Declared {
			f.lessen("something was excluded that the job does not declare")
		}
		if e.Target != "" {
			stated += max(1, e.Count)
		}
	}
	if f.m.Evidence.Totals.Excluded > stated {
		f.lessen("files were left out without a stated reason")
	}
}

func (f *facts) verification() {
	v := &f.m.Verification
	checked := map[string]bool{}
	for _, s := range v.Surfaces {
		switch s.Result {
		case Pass, Found, NotPresent:
			checked[s.Target] = true
		case NotChecked:
			f.lessen("a surface was not checked")
		default: // Fail, and any word this version does not know
			checked[s.Target] = true
			f.fail("verification failed")
		}
		if (s.Result == Pass || s.Result == Found) && s.CoveragePPM < v.RequiredPPM {
			f.lessen("a surface was covered less than required")
		}
		if s.Result == Found && !f.explained(s) {
			f.lessen("residue without a date")
		}
	}
	if f.emptyKeysets() {
		return // nothing to look for
	}
	controlled := map[string]bool{}
	for _, c := range v.Controls {
		if !c.Before || c.After {
			f.fail("a positive control failed")
		}
		controlled[c.Target] = true
	}
	for i := range f.m.Targets {
		t := &f.m.Targets[i]
		if t.Status != TargetDone && t.Status != TargetClean && t.Status != TargetPurged {
			continue
		}
		if !checked[t.Name] {
			f.lessen("a target was not verified")
		}
		if t.RowsErased+t.RowsChanged > 0 && f.m.Kind == KindRun && !controlled[t.Name] {
			f.lessen("rows were erased without a positive control")
		}
	}
}

// explained says whether a residue entry accounts for what a surface found.
func (f *facts) explained(s Surface) bool {
	return slices.ContainsFunc(f.m.Residue, func(r Residue) bool {
		return r.Target == s.Target && r.Surface == s.Surface
	})
}

func (f *facts) residue() {
	until := func(t time.Time) {
		if t.Before(f.m.Times.End) {
			f.lessen("residue is past its date")
			return
		}
		if f.pending == nil || t.After(*f.pending) {
			f.pending = &t
		}
	}
	for _, r := range f.m.Residue {
		if r.GoneBy == nil {
			f.lessen("residue without a date")
			continue
		}
		until(*r.GoneBy)
	}
	// Replaced files within their grace are residue whether or not somebody listed them.
	if t := &f.m.Times; t.PurgeDue != nil && t.Purged == nil && !f.nothing() {
		until(*t.PurgeDue)
	}
}

// nothing says whether the step had nothing to do.
func (f *facts) nothing() bool {
	if len(f.m.Residue) > 0 || f.m.Deletes.Objects > 0 || f.m.Kind == KindPurge {
		return false
	}
	for i := range f.m.Targets {
		if t := &f.m.Targets[i]; t.RowsErased+t.RowsChanged > 0 || t.FilesRewritten+t.FilesDropped > 0 {
			return false
		}
	}
	return true
}
