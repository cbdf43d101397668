package manifests

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestOutcomeRule: each clause of Decide's comment, one change at a time from
// a run that erased and verified everything.
func TestOutcomeRule(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(m *Manifest)
		want   Result
		reason string
	}{
		{"as it is", func(*Manifest) {}, Erased, "absent"},
		{"residue with a date", func(m *Manifest) { found(m, "history", "2026-11-09T00:00:00Z") }, ErasedPending, "until"},
		{"replaced files in grace, unlisted", func(m *Manifest) { m.Times.PurgeDue = ptr(at("2026-11-09T00:00:00Z")) }, ErasedPending, "until"},
		{"residue without a date", func(m *Manifest) { found(m, "history", "") }, Partial, "without a date"},
		{"residue past its date", func(m *Manifest) { found(m, "history", "2026-11-01T00:00:00Z") }, Partial, "past its date"},
		{"residue found and not listed", func(m *Manifest) { m.Verification.Surfaces[1].Result = Found }, Partial, "without a date"},
		{"nothing found", func(m *Manifest) { nothing(m) }, NothingToErase, "no row"},
		{"empty keyset", func(m *Manifest) {
			nothing(m)
			m.Keysets[0].Commitment = Commitment{Size: ptr(int64(0))}
			m.Verification = Verification{Mode: "none"}
		}, NothingToErase, "empty"},
		{"declared exclusion", func(m *Manifest) { m.Scope.Excluded = []Exclusion{{What: "backups", Reason: "r", Declared: true}} }, Erased, ""},
		{"undeclared exclusion", func(m *Manifest) { m.Scope.Excluded = []Exclusion{{What: "x.orc", Reason: "ORC"}} }, Partial, "excluded"},
		{"files left out silently", func(m *Manifest) { m.Evidence.Totals.Excluded = 1 }, Partial, "without a stated reason"},
		{"unreadable file", func(m *Manifest) { m.Evidence.Totals.Failed = 1 }, Partial, "could not be read"},
		{"failed file", func(m *Manifest) { m.Targets[0].FilesFailed = 1 }, Partial, "could not be read"},
		{"pinned by a ref", func(m *Manifest) { m.Targets[0].Blockers = []Blocker{{Ref: "x"}} }, Partial, "pins"},
		{"second target failed", func(m *Manifest) { m.Targets = append(m.Targets, Target{Name: "b", Status: TargetFailed}) }, Partial, "target failed"},
		{"only target failed", func(m *Manifest) { m.Targets = []Target{{Name: "b", Status: TargetFailed}} }, Failed, "every target"},
		{"unknown status", func(m *Manifest) { m.Targets = []Target{{Name: "b", Status: "great"}} }, Failed, "every target"},
		{"no target", func(m *Manifest) { m.Targets = nil }, Failed, "no target"},
		{"target not reached", func(m *Manifest) { m.Targets = append(m.Targets, Target{Name: "b", Status: TargetUntouched}) }, Partial, "not reached"},
		{"stopped before any change", func(m *Manifest) {
			m.Targets[0] = Target{Name: "a", Status: TargetStopped}
			m.Limits.StoppedBy = "rows"
		}, Failed, "before any change"},
		{"stopped after a change", func(m *Manifest) {
			m.Targets = append(m.Targets, Target{Name: "b", Status: TargetStopped})
			m.Limits.StoppedBy = "rows"
		}, Partial, "limit"},
		{"survivor differs", func(m *Manifest) { m.Verification.Surfaces[0].Result = Fail }, Failed, "verification failed"},
		{"unknown result", func(m *Manifest) { m.Verification.Surfaces[0].Result = "fine" }, Failed, "verification failed"},
		{"surface not checked", func(m *Manifest) { m.Verification.Surfaces[0].Result = NotChecked }, Partial, "not checked"},
		{"surface not there", func(m *Manifest) { m.Verification.Surfaces[1].Result = NotPresent }, Erased, ""},
		{"sampled less than required", func(m *Manifest) { m.Verification.Surfaces[0].CoveragePPM = 999999 }, Partial, "less than required"},
		{"sampled as declared", func(m *Manifest) { m.Verification.Surfaces[0].CoveragePPM, m.Verification.RequiredPPM = 50000, 50000 }, Erased, ""},
		{"not verified", func(m *Manifest) { m.Verification.Surfaces = nil }, Partial, "not verified"},
		{"no control", func(m *Manifest) { m.Verification.Controls = nil }, Partial, "positive control"},
		{"control of another target", func(m *Manifest) { m.Verification.Controls[0].Target = "b" }, Partial, "positive control"},
		{"powerless control", func(m *Manifest) { m.Verification.Controls[0].Before = false }, Failed, "control failed"},
		{"key survives", func(m *Manifest) { m.Verification.Controls[0].After = true }, Failed, "control failed"},
		{"rows do not add up", func(m *Manifest) { m.Targets[0].RowsOut-- }, Failed, "rows in"},
		{"restored", func(m *Manifest) { m.Kind = KindRestore; m.Targets[0].Status = TargetRestored }, Reverted, "back"},
		{"restored in part", func(m *Manifest) {
			m.Kind = KindRestore
			m.Targets[0].Status = TargetRestored
			m.Targets = append(m.Targets, Target{Name: "b", Status: TargetFailed})
		}, Partial, "target failed"},
		{"purged", func(m *Manifest) {
			m.Kind = KindPurge
			nothing(m)
			m.Targets[0].Status = TargetPurged
			m.Deletes.Objects = 3
		}, Erased, ""},
		{"audit finds nothing", func(m *Manifest) { m.Kind = KindAudit; nothing(m) }, NothingToErase, ""},
		{"audit finds a key", func(m *Manifest) { m.Kind = KindAudit; nothing(m); m.Verification.Surfaces[0].Result = Fail }, Failed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := erasedRun(t)
			tc.change(m)
			o := Decide(m)
			if o.Result != tc.want || !strings.Contains(strings.Join(o.Reasons, "; "), tc.reason) {
				t.Errorf("%s: %q, want %s because of %q", o.Result, o.Reasons, tc.want, tc.reason)
			}
			if (o.Result == ErasedPending) != (o.Pending != nil && o.Result != Partial) {
				t.Errorf("pending %v with %s", o.Pending, o.Result)
			}
			if len(o.Reasons) == 0 || !slices.IsSorted(o.Reasons) {
				t.Errorf("reasons %q", o.Reasons)
			}
		})
	}
}

// erasedRun erased everything at once, without grace.
func erasedRun(t testing.TB) *Manifest {
	m, _ := sample(t, "run-1")
	m.Residue, m.Times.PurgeDue = nil, nil
	m.Verification.Surfaces = m.Verification.Surfaces[:2]
	return m
}

func found(m *Manifest, surface, goneBy string) {
	m.Verification.Surfaces = append(m.Verification.Surfaces, Surface{Target: m.Targets[0].Name, Surface: surface, Result: Found, CoveragePPM: 1000000, Findings: 1})
	r := Residue{Target: m.Targets[0].Name, Surface: surface, Count: 1}
	if goneBy != "" {
		r.GoneBy = ptr(at(goneBy))
	}
	m.Residue = append(m.Residue, r)
}

func nothing(m *Manifest) {
	t := &m.Targets[0]
	t.Status, t.RowsErased, t.FilesRewritten, t.FilesDropped, t.RowsIn, t.RowsOut, t.RowsDeleted = TargetClean, 0, 0, 0, 0, 0, 0
	m.Verification.Controls = nil
}

// TestOutcomeIsPure: deciding changes nothing, and gives the same twice.
func TestOutcomeIsPure(t *testing.T) {
	m := erasedRun(t)
	found(m, "history", "2026-11-09T00:00:00Z")
	before, err := m.clone()
	if err != nil {
		t.Fatal(err)
	}
	a, b := Decide(m), Decide(m)
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(m, before) {
		t.Error("not pure")
	}
}

// TestWorseFactsNeverMakeABetterOutcome: adding trouble to a run never leads
// from a lesser outcome to a full one.
func TestWorseFactsNeverMakeABetterOutcome(t *testing.T) {
	rank := map[Result]int{Failed: 0, Partial: 1, ErasedPending: 2, Erased: 3, NothingToErase: 3, Reverted: 3}
	trouble := []func(m *Manifest){
		func(m *Manifest) { m.Scope.Excluded = append(m.Scope.Excluded, Exclusion{What: "x", Reason: "y"}) },
		func(m *Manifest) { m.Targets = append(m.Targets, Target{Name: "b", Status: TargetFailed}) },
		func(m *Manifest) { m.Evidence.Totals.Failed++ },
		func(m *Manifest) { found(m, "history", "") },
		func(m *Manifest) { found(m, "manifest bounds", "2026-12-01T00:00:00Z") },
		func(m *Manifest) { m.Verification.Surfaces[0].Result = Fail },
		func(m *Manifest) { m.Verification.Surfaces[1].Result = NotChecked },
		func(m *Manifest) { m.Verification.Controls = append(m.Verification.Controls, Control{Target: "b"}) },
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := erasedRun(t)
		last := rank[Decide(m).Result]
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(trouble)-1), 1, 6).Draw(rt, "trouble") {
			trouble[i](m)
			now := rank[Decide(m).Result]
			if now > last {
				rt.Fatalf("step %d made it better", i)
			}
			last = now
		}
	})
}
