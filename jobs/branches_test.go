package jobs_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// TestBranchesAreErasedToo: with branches: erase the rows of keys go from every
// branch; each keeps its other rows, and what is its alone.
func TestBranchesAreErasedToo(t *testing.T) {
	byID := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "id", Transform: icebergo.IdentityTransform{}})
	for _, tc := range []struct {
		name, version, grace string
		spec                 *icebergo.PartitionSpec
		replaced             bool // main was cleaned by another tool before
	}{
		{name: "version 1", version: "1", grace: "0s"},
		{name: "version 2", version: "2", grace: "0s"},
		{name: "version 3", version: "3", grace: "0s"},
		{name: "partitioned by the key", version: "2", grace: "0s", spec: &byID},
		{name: "after a grace", version: "2", grace: "7d"},
		{name: "nothing on main", version: "2", grace: "0s", replaced: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := testlake.New(t, tc.version, tc.spec, nil)
			l.Append(leaver-1, leaver, leaver+1)
			l.Ref("audit", table.BranchRef)
			l.AppendTo("dev", 2000, leaver)
			if tc.replaced {
				l.Replace(leaver-1, leaver+1)
			}
			l.Append(3000)
			j := open(t, leakJob(t, l, tc.grace, ", branches: erase"), jobs.Env{})
			sum, err := j.Run(t.Context(), jobs.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := manifests.Erased
			if tc.grace != "0s" {
				want = manifests.ErasedPending
			}
			if sum.Outcome != string(want) {
				t.Errorf("outcome %s: %s, %+v", sum.Outcome, sum.Reasons, sum.Residue)
			}
			if tc.grace != "0s" {
				due, err := j.PurgeDue(later(t, 8*24*time.Hour), false)
				if err != nil || len(due) != 1 || due[0].Outcome != string(manifests.Erased) {
					t.Fatalf("purge: %+v, %v", due, err)
				}
			}
			wantClean(t, j)
			for ref, rows := range map[string][]int{table.MainBranch: {leaver - 1, leaver + 1, 3000},
				"dev": {leaver - 1, leaver + 1, 2000}, "audit": {leaver - 1, leaver + 1}} {
				if got := rowIDs(t, l, ref); !slices.Equal(got, rows) {
					t.Errorf("%s: rows %v, want %v", ref, got, rows)
				}
			}
			for path, raw := range l.Stored() {
				if bytes.Contains(raw, []byte(testlake.Mail(leaver))) {
					t.Errorf("%s holds the e-mail", filepath.Base(path))
				}
			}
		})
	}
}

// TestABranchThatIsNotErasedBlocks: without the option a branch's rows stay, and
// the run says so.
func TestABranchThatIsNotErasedBlocks(t *testing.T) {
	l := testlake.New(t, "2", nil, nil)
	l.Append(leaver-1, leaver)
	l.AppendTo("dev", 2000)
	j := open(t, leakJob(t, l, "0s", ""), jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Partial) {
		t.Errorf("outcome %s: %s", sum.Outcome, sum.Reasons)
	}
	if got := rowIDs(t, l, "dev"); !slices.Equal(got, []int{leaver - 1, leaver, 2000}) {
		t.Errorf("dev: rows %v", got)
	}
}

// TestCompactionIsOfMain: a compaction leaves branches as they are, also where
// the job erases them.
func TestCompactionIsOfMain(t *testing.T) {
	l := testlake.New(t, "2", nil, nil)
	l.Append(leaver-1, leaver, leaver+1)
	l.AppendTo("dev", 2000)
	l.DeleteByPosition(l.Files()[0], 0)
	sum, err := open(t, leakJob(t, l, "0s", ", branches: erase"), jobs.Env{}).Compact(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Targets) != 1 {
		t.Errorf("targets %+v", sum.Targets)
	}
	for ref, rows := range map[string][]int{table.MainBranch: {leaver, leaver + 1}, "dev": {leaver - 1, leaver, leaver + 1, 2000}} {
		if got := rowIDs(t, l, ref); !slices.Equal(got, rows) {
			t.Errorf("%s: rows %v, want %v", ref, got, rows)
		}
	}
}
