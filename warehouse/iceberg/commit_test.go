package iceberg

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/warehouse"
)

func eachVersion(t *testing.T, f func(t *testing.T, l *planLake, version int)) {
	for v := 1; v <= 3; v++ {
		t.Run(fmt.Sprintf("v%d", v), func(t *testing.T) { f(t, newPlanLake(t), v) })
	}
}

func TestCommitReplacesFilesAndKeepsEverythingElse(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "s", Transform: icebergo.IdentityTransform{}})
		l.create("t", version, deleteSchema(), &spec)
		l.append("t", rows(0, 30, 10)...)
		l.append("t", rows(30, 30, 10)...)
		l.append("t", rows(60, 9, 1000)...)
		var ids map[int64]int64
		if version == 3 {
			ids = l.rowIDs("t")
		}
		before := l.raw("t")
		e := l.eraser("t", "r1", 4, 7).prepare()
		e.grace = time.Hour
		done := e.commit()
		want := append(rowsOf(0, 60, 10, 4, 7), rowsOf(60, 9, 1000)...)
		l.wantRows("t", want)
		l.wantTotals("t")
		after := l.raw("t")
		if done.RowsErased != 12 || done.NoChange || done.Adopted || done.Attempts != 1 {
			t.Errorf("committed %+v", done)
		}
		if done.Before.SnapshotID != before.CurrentSnapshot().SnapshotID || done.After.SnapshotID != after.CurrentSnapshot().SnapshotID {
			t.Errorf("before %d after %d", done.Before.SnapshotID, done.After.SnapshotID)
		}
		if ref := after.SnapshotByName("expunge-r1"); ref == nil || ref.SnapshotID != done.Before.SnapshotID || done.ProtectRef != "expunge-r1" {
			t.Errorf("no tag protects the snapshot before")
		}
		if got, want := fmt.Sprint(after.Properties()), fmt.Sprint(before.Properties()); got != want {
			t.Errorf("table properties went from %s to %s", want, got) // trap S10
		}
		if s := after.CurrentSnapshot(); s.Summary.Operation != table.OpOverwrite || s.Summary.Properties[propRun] != "r1" {
			t.Errorf("summary %v", s.Summary)
		}
		if version == 3 {
			now := l.rowIDs("t")
			for _, rn := range want {
				if now[rn] != ids[rn] {
					t.Errorf("row %d had _row_id %d and has %d now", rn, ids[rn], now[rn])
				}
			}
		}
		// Later writers build on it.
		l.append("t", rows(100, 3, 1000)...)
		l.wantRows("t", append(want, 100, 101, 102))
		l.wantTotals("t")
	})
}

func TestTombstonesOfACommitHoldNoBounds(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		l.create("t", version, deleteSchema(), nil)
		l.append("t", rows(0, 20, 10)...)
		l.append("t", rows(20, 20, 10)...)
		l.eraser("t", "r1", 4).prepare().commit()
		deleted := 0
		for _, e := range l.entriesOf("t") {
			df := e.DataFile()
			if e.Status() != icebergo.EntryStatusDELETED {
				if len(df.LowerBoundValues()) == 0 {
					t.Error("a live entry has no bounds")
				}
				continue
			}
			deleted++
			if len(df.LowerBoundValues())+len(df.UpperBoundValues())+len(df.ValueCounts()) > 0 {
				t.Error("a DELETED entry has column statistics")
			}
		}
		if deleted != 2 {
			t.Errorf("%d DELETED entries, want 2", deleted)
		}
	})
}

func TestCommitIsAdoptedBySecondTry(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	first := e.commit()
	l.append("t", rows(20, 5, 1000)...)
	again := e.commit()
	if !again.Adopted || again.RowsErased != first.RowsErased || again.FilesReplaced != first.FilesReplaced ||
		again.After.SnapshotID != first.After.SnapshotID || again.Before.SnapshotID != first.Before.SnapshotID || len(again.Withdrawn) != 0 {
		t.Errorf("adopted %+v, want %+v", again, first)
	}
	l.wantRows("t", append(rowsOf(0, 20, 10, 4), rowsOf(20, 5, 1000)...))
}

func TestAnAdoptedCommitTellsWhichResultsItUsed(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil, "write.delete.mode", "merge-on-read")
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	l.deleteWhere("t", icebergo.LessThan(icebergo.Reference("rn"), int64(3))) // one planned file is scanned again
	l.append("t", rows(40, 20, 10)...)                                        // one is new
	first := e.commit()
	if len(first.Withdrawn) != 1 || len(first.Results) != 2 {
		t.Fatalf("committed %+v", first)
	}
	req := e.again(l.open("t")).request()
	req.Earlier = func(context.Context) iter.Seq2[warehouse.Result, error] {
		stale := e.results[0]
		return seqOf(append([]warehouse.Result{stale}, first.Results...))
	}
	again, err := l.open("t").Commit(l.ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first.Withdrawn, again.Withdrawn); d != "" || !again.Adopted {
		t.Errorf("withdrawn: %s", d)
	}
	if d := cmp.Diff(first.Results, again.Results); d != "" {
		t.Errorf("results: %s", d)
	}
}

func TestNothingToReplaceMakesNoSnapshot(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	head := l.raw("t").CurrentSnapshot().SnapshotID
	e := l.eraser("t", "r1", 999).prepare()
	if done := e.commit(); !done.NoChange || l.raw("t").CurrentSnapshot().SnapshotID != head {
		t.Errorf("committed %+v", done)
	}
}

func TestFilesThatArriveAreScannedBeforeTheCommit(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		l.create("t", version, deleteSchema(), nil)
		l.append("t", rows(0, 20, 10)...)
		e := l.eraser("t", "r1", 4).prepare()
		l.append("t", rows(20, 20, 10)...)
		late := false
		e.onScan = func([]warehouse.Task) {
			if !late { // another file arrives while the first one is scanned
				late = true
				l.append("t", rows(40, 20, 10)...)
			}
		}
		done := e.commit()
		l.wantRows("t", rowsOf(0, 60, 10, 4))
		l.wantTotals("t")
		if len(e.rescans) != 2 || len(done.Results) != 2 || done.RowsErased != 6 {
			t.Errorf("%d rescans, committed %+v", len(e.rescans), done)
		}
	})
}

func TestArrivedFilesWithoutAKeyStayAsTheyAre(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	l.append("t", rows(100, 20, 1000)...)
	done := e.commit()
	if done.FilesReplaced != 1 || len(done.Results) != 1 || done.Results[0].Status != warehouse.Clean {
		t.Errorf("committed %+v", done)
	}
	l.wantRows("t", append(rowsOf(0, 20, 10, 4), rowsOf(100, 20, 1000)...))
}

func TestVanishedSourcesAreWithdrawn(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	// Another writer drops a whole file meanwhile.
	l.deleteWhere("t", icebergo.LessThan(icebergo.Reference("rn"), int64(20)))
	done := e.commit()
	l.wantRows("t", rowsOf(20, 20, 10, 4))
	l.wantTotals("t")
	if len(done.Withdrawn) != 1 || done.FilesReplaced != 1 || done.RowsErased != 2 {
		t.Errorf("committed %+v", done)
	}
	n, err := e.tbl.CleanAttempts(l.ctx, "r1", nil)
	if err != nil || n != 1 {
		t.Errorf("cleaned %d files, err %v, want the withdrawn output alone", n, err)
	}
	l.wantRows("t", rowsOf(20, 20, 10, 4))
}

func TestConcurrentMergeOnReadDeleteIsNotUndone(t *testing.T) {
	for version := 2; version <= 3; version++ {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) { // trap S4
			l := newPlanLake(t)
			l.create("t", version, deleteSchema(), nil, "write.delete.mode", "merge-on-read")
			l.append("t", rows(0, 20, 10)...)
			l.append("t", rows(20, 20, 10)...)
			e := l.eraser("t", "r1", 4).prepare()
			l.deleteWhere("t", icebergo.LessThan(icebergo.Reference("rn"), int64(3)))
			done := e.commit()
			want := slices.DeleteFunc(rowsOf(0, 40, 10, 4), func(rn int64) bool { return rn < 3 })
			l.wantRows("t", want)
			l.wantTotals("t")
			if len(e.rescans) != 1 || len(e.rescans[0]) != 1 || done.RowsAlreadyDeleted != 3 || len(done.Withdrawn) != 1 {
				t.Errorf("rescans %v, committed %+v", e.rescans, done)
			}
			for _, en := range l.entriesOf("t") {
				if en.Status() != icebergo.EntryStatusDELETED && en.DataFile().ContentType() != icebergo.EntryContentData {
					t.Error("a delete file that covers nothing any more is still live")
				}
			}
		})
	}
}

func TestLaterEqualityDeletesStillApplyToReplacements(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	l.deleteEqual("t", []int{2}, `{"id":5}`)
	e.commit()
	if len(e.rescans) != 0 {
		t.Errorf("an equality delete made files be scanned again")
	}
	l.wantRows("t", rowsOf(0, 20, 10, 4, 5))
	l.wantTotals("t")
}

func TestFoldedDeleteFilesGoOnlyWhenNothingNeedsThem(t *testing.T) {
	for version := 2; version <= 3; version++ {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) { // traps S2 and S7
			l := newPlanLake(t)
			l.create("t", version, deleteSchema(), nil, "write.delete.mode", "merge-on-read")
			l.append("t", rows(0, 20, 10)...)
			l.append("t", rows(100, 20, 1000)...)
			// One delete touches both files, only one of them is rewritten.
			l.deleteWhere("t", icebergo.NewOr(
				icebergo.LessThan(icebergo.Reference("rn"), int64(2)),
				icebergo.GreaterThanEqual(icebergo.Reference("rn"), int64(118))))
			want := slices.DeleteFunc(append(rowsOf(0, 20, 10, 4), rowsOf(100, 20, 1000)...), func(rn int64) bool { return rn < 2 || rn >= 118 })
			l.eraser("t", "r1", 4).prepare().commit()
			l.wantRows("t", want)
			l.wantTotals("t")
			// Once the other file is rewritten too, the deletes go.
			l.eraser("t", "r2", 110).prepare().commit()
			l.wantRows("t", slices.DeleteFunc(want, func(rn int64) bool { return rn == 110 }))
			l.wantTotals("t")
			for _, en := range l.entriesOf("t") {
				if en.Status() != icebergo.EntryStatusDELETED && en.DataFile().ContentType() != icebergo.EntryContentData {
					t.Error("a delete file that covers nothing any more is still live")
				}
			}
		})
	}
}

func TestEqualityDeletesStayWhileAnOlderFileLives(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 1000)...)
	l.deleteEqual("t", []int{2}, `{"id":5}`, `{"id":22}`)
	l.eraser("t", "r1", 4).prepare().commit()
	want := slices.DeleteFunc(append(rowsOf(0, 20, 10, 4, 5), rowsOf(20, 20, 1000)...), func(rn int64) bool { return rn == 22 })
	l.wantRows("t", want)
	done := l.eraser("t", "r2", 30).prepare().commit()
	want = slices.DeleteFunc(want, func(rn int64) bool { return rn == 30 })
	l.wantRows("t", want)
	l.wantTotals("t")
	if done.DeleteFilesRemoved != 1 {
		t.Errorf("%d delete files removed, want the equality delete that no older file needs", done.DeleteFilesRemoved)
	}
}
