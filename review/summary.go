package review

import (
	"time"

	"github.com/expunge/expunge/manifests"
)

// summary is what the index keeps of a manifest: no evidence, no digests.
type summary struct {
	ID, Run, Job string
	Kind         manifests.Kind
	Result       manifests.Result
	Pending      *time.Time
	Reasons      []string
	Start, End   time.Time

	Requests              int64
	Earliest, Deadline    *time.Time
	Met                   *bool
	RowsErased            int64
	Removed, RemovedBytes int64
	Records               int64
	Residue               []manifests.Residue
	Undeclared            int
	Targets               []targetSummary
}

// targetSummary is one target's part of a manifest.
type targetSummary struct {
	Name, Status      string
	Erased            int64
	Surfaces, Passed  int // looked at, and those of them on which nothing was found
	Failed, Unchecked int
	Controlled        bool
}

func summarise(m *manifests.Manifest) *summary {
	s := &summary{ID: m.ID, Run: m.RunID, Job: m.Job, Kind: m.Kind, Result: m.Outcome.Result, Pending: m.Outcome.Pending, Reasons: m.Outcome.Reasons,
		Start: m.Times.Start, End: m.Times.End, Requests: m.Policy.Requests, Earliest: m.Policy.EarliestRequest,
		Deadline: m.Policy.Deadline, Met: m.Policy.DeadlineMet, Removed: m.Deletes.Objects, RemovedBytes: m.Deletes.Bytes,
		Records: m.Evidence.Records, Residue: m.Residue}
	for _, e := range m.Scope.Excluded {
		if !e.Declared {
			s.Undeclared++
		}
	}
	at := make(map[string]int, len(m.Targets))
	for i := range m.Targets {
		t := &m.Targets[i]
		at[t.Name] = len(s.Targets)
		s.Targets = append(s.Targets, targetSummary{Name: t.Name, Status: t.Status, Erased: t.RowsErased})
		s.RowsErased += t.RowsErased
	}
	for _, f := range m.Verification.Surfaces {
		i, ok := at[f.Target]
		if !ok {
			continue
		}
		t := &s.Targets[i]
		switch f.Result {
		case manifests.Pass:
			t.Surfaces, t.Passed = t.Surfaces+1, t.Passed+1
		case manifests.NotPresent:
		case manifests.NotChecked:
			t.Unchecked++
		default:
			t.Surfaces, t.Failed = t.Surfaces+1, t.Failed+1
		}
	}
	for _, c := range m.Verification.Controls {
		if i, ok := at[c.Target]; ok && c.Before && !c.After {
			s.Targets[i].Controlled = true
		}
	}
	return s
}

// closes says whether the manifest states how a run's erasure stands. A
// verification or an audit is a look at it, and a seal says nothing of data.
func (s *summary) closes() bool {
	switch s.Kind {
	case manifests.KindRun, manifests.KindPurge, manifests.KindRestore:
		return true
	}
	return false
}

// open says whether the erasure that was asked for is not yet complete.
func (s *summary) open() bool {
	switch s.Result {
	case manifests.Erased, manifests.NothingToErase, manifests.Reverted:
		return false
	}
	return true
}
