package jobs

import (
	"testing"

	"github.com/expunge/expunge/configs"
)

// TestABranchWaitsForItsTable: nothing of a table is purged while the
// verification of one of its branches has not passed; other tables do not wait.
func TestABranchWaitsForItsTable(t *testing.T) {
	erase, keep := &configs.Target{Branches: eraseBranches}, &configs.Target{}
	r := &Run{targets: []*boundTarget{
		{slot: 0, name: "lake.db.t@dev", cfg: erase}, {slot: 1, name: "lake.db.t", cfg: erase},
		{slot: 2, name: "lake.db.t2", cfg: erase}, {slot: 3, name: "lake.db.t3", cfg: keep}}}
	r.progress.committed = map[int]commitRecord{0: {}, 1: {}, 2: {}, 3: {}}
	for _, tc := range []struct {
		failed int // slot, -1 = none
		purged [4]bool
	}{
		{-1, [4]bool{true, true, true, true}},
		{0, [4]bool{false, false, true, true}},
		{1, [4]bool{false, false, true, true}},
		{2, [4]bool{true, true, false, true}},
		{3, [4]bool{true, true, true, false}},
	} {
		r.progress.verified = map[int]verifyRecord{}
		for slot := range r.targets {
			if slot != tc.failed {
				r.progress.verified[slot] = verifyRecord{Passed: true}
			}
		}
		for slot, want := range tc.purged {
			if got := r.tablePassed(slot); got != want {
				t.Errorf("%d failed: slot %d purged %v, want %v", tc.failed, slot, got, want)
			}
		}
	}
}
