package jobs_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// An equality delete applies to files whose sequence number is lower than its
// own. A packed file holds rows of before and after some of them.
func TestEqualityDeletesReachExactlyTheRowsTheyAreMeantFor(t *testing.T) {
	for _, version := range []string{"2", "3"} {
		t.Run("v"+version, func(t *testing.T) {
			l := compactLake(t, version, nil, nil)
			l.Append(1, 5, 7) // the 5 of old goes
			l.DeleteByKey(5)
			l.Append(5, 9) // this 5 came back, and is packed with rows that are older than the delete
			want := without(shown(t, l), 7)
			if len(want) != 3 {
				t.Fatalf("%v", want)
			}
			// A delete that is newer than what is packed still applies, and a row that comes after it stays.
			sum := compact(t, l, everything, at(storage.OpClose, writesOutput, 1, func() {
				l.Reload()
				l.DeleteByKey(7)
				l.Append(7)
				want = shown(t, l)
			}))
			wantShown(t, l, want)
			if len(want) != 4 || sum.Targets[0].Committed.FilesReplaced != 2 {
				t.Errorf("%d rows, %d files replaced: the writer did not get in between", len(want), sum.Targets[0].Committed.FilesReplaced)
			}
			if n := len(l.Entries(true)); n != 1 {
				t.Errorf("%d delete files, want the one that is newer than the plan", n)
			}
			compact(t, l, everything, jobs.Env{})
			wantShown(t, l, want)
			wantNoDeletes(t, l)
		})
	}
}

// A writer replaces a file that is in a pack while the pack is written: its
// rows are the writer's, and the other files are still compacted.
func TestAPackWhoseMemberWasReplacedIsTakenApart(t *testing.T) {
	for _, moment := range []string{writesOutput, writesList} {
		l := threeSmall(t, "2")
		var want []string
		compact(t, l, everything, at(storage.OpClose, moment, 1, func() {
			l.Reload()
			l.Drop(l.Entries(false)[0])
			l.Append(42, 43)
			want = shown(t, l)
		}))
		wantShown(t, l, want)
		wantNoDeletes(t, l)
		if len(want) != 21 && len(want) != 22 { // the file with the hidden row, or another
			t.Errorf("%d rows: the writer did not get in between", len(want))
		}
		compact(t, l, everything, jobs.Env{})
		wantShown(t, l, want)
		if n := len(l.Entries(false)); n != 1 {
			t.Errorf("%d files after a second compaction, want one", n)
		}
	}
}

// Files of a sorted table stay apart, keep their order, and say so.
func TestSortedTablesStaySorted(t *testing.T) {
	order, err := table.NewSortOrder(1, []table.SortField{{SourceIDs: []int{1}, Transform: icebergo.IdentityTransform{}, Direction: table.SortASC, NullOrder: table.NullsFirst}})
	if err != nil {
		t.Fatal(err)
	}
	l := compactLake(t, "2", nil, nil, catalog.WithSortOrder(order))
	l.Append(testlake.IDs(0, 50)...)
	l.Append(testlake.IDs(25, 75)...)
	l.Append(testlake.IDs(10, 90)...)
	l.Delete(icebergo.NewOr(id(30), id(60)))
	want := shown(t, l)
	sortOrders := func() (out []int) {
		for _, f := range l.Entries(false) {
			n := -1
			if p := f.SortOrderID(); p != nil {
				n = *p
			}
			out = append(out, n)
		}
		return out
	}
	before := sortOrders()
	compact(t, l, everything, jobs.Env{})
	wantShown(t, l, want)
	wantNoDeletes(t, l)
	if after := sortOrders(); !slices.Equal(before, after) {
		t.Errorf("the files' sort orders were %v and are %v", before, after)
	}
	for _, f := range l.Entries(false) {
		if ids := idsOf(t, f.FilePath()); !slices.IsSorted(ids) {
			t.Errorf("a file's rows are out of order: %v", ids)
		}
	}
}

// Row ids and change numbers survive being inherited, stored, packed with
// others, and packed once more after rows were added.
func TestRowLineageSurvivesCompactionAfterCompaction(t *testing.T) {
	l := compactLake(t, "3", nil, nil)
	for i := range 3 {
		l.Append(testlake.IDs(100*i, 100*i+10)...)
	}
	l.HideByVector(l.Entries(false)[1], 0, 4, 9)
	for round := range 3 {
		want := shown(t, l)
		compact(t, l, everything, jobs.Env{})
		wantShown(t, l, want)
		if n := len(l.Entries(false)); n != 1+min(round, 1) {
			t.Errorf("round %d: %d files", round, n)
		}
		l.Append(1000 + round)
	}
}

// A table that could not be committed to is planned again when its run is taken
// up, and compacted then.
func TestResumedCompactionCompletesATableThatFailed(t *testing.T) {
	l := threeSmall(t, "2")
	want := shown(t, l)
	gone := errors.New("the store is gone")
	env := jobs.Env{WrapStore: func(_ string, st storage.Store) storage.Store {
		return storage.WithFaults(st, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
			if c.Op != storage.OpCreate || !strings.Contains(c.Path, writesList) {
				return nil
			}
			return &storage.Fault{Action: storage.FailBefore, Err: gone}
		}})
	}}
	cfg := compactJob(t, l, everything)
	failed, err := open(t, cfg, env).Compact(t.Context(), jobs.RunOptions{})
	if err != nil || failed.Outcome != string(manifests.Failed) {
		t.Fatalf("%+v, %v", failed, err)
	}
	wantShown(t, l, want)
	sum, err := open(t, cfg, jobs.Env{}).Resume(t.Context(), failed.RunID)
	if err != nil || sum.Outcome != string(manifests.Erased) {
		t.Fatalf("%s %v, %v", sum.Outcome, sum.Reasons, err)
	}
	wantShown(t, l, want)
	wantNoDeletes(t, l)
	if n := len(l.Entries(false)); n != 1 {
		t.Errorf("%d files, want one", n)
	}
}
