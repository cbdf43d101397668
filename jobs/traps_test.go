package jobs_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
)

// The traps are those of iceberg-go v0.7.0 for whoever rewrites files of a
// table with it. Each test first shows that its table holds the trap, where
// that can be seen from outside, and then that expunge does not step into it.

var byHundred = icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "hundred", Transform: icebergo.TruncateTransform{Width: 100}})

func id(n int) icebergo.BooleanExpression {
	return icebergo.EqualTo(icebergo.Reference("id"), int64(n))
}

// TestTrapS1 is about files above the split size: the library plans them in
// pieces, and whoever takes a piece for a file loses the others' rows.
func TestTrapS1FilesAboveTheSplitSizeAreCompactedWhole(t *testing.T) {
	l := compactLake(t, "2", nil, icebergo.Properties{"read.split.target-size": "1", "write.parquet.row-group-limit": "10"})
	l.Append(testlake.IDs(0, 95)...)
	l.Append(testlake.IDs(100, 145)...)
	l.Delete(icebergo.NewOr(id(3), id(120)))
	tasks, err := l.Tbl.Scan().PlanFiles(context.Background())
	if err != nil || len(tasks) <= 2 {
		t.Fatalf("%d tasks for 2 files, %v: no trap here", len(tasks), err)
	}
	want := shown(t, l)
	compact(t, l, everything, jobs.Env{})
	wantShown(t, l, want)
	if n := len(l.Entries(false)); n != 1 || len(want) != 138 {
		t.Errorf("%d files with %d rows, want one with 138", n, len(want))
	}
	wantNoDeletes(t, l)
}

// TestTrapS2 is about delete files that cover a file that is left as it is:
// taken away with the files that are rewritten, they bring its rows back.
func TestTrapS2DeletesThatCoverAKeptFileStay(t *testing.T) {
	l := compactLake(t, "2", nil, nil)
	l.Append(testlake.IDs(0, 10)...)
	l.Append(testlake.IDs(100, 200)...)
	l.Delete(icebergo.NewOr(icebergo.LessThan(icebergo.Reference("id"), int64(5)), id(150)))
	if n := len(l.Entries(true)); n != 1 {
		t.Fatalf("%d delete files, want one over both data files", n)
	}
	want := shown(t, l)
	sum := compact(t, l, "{deleted_rows: 20%}", jobs.Env{})
	if n := sum.Targets[0].Committed.FilesReplaced; n != 1 {
		t.Fatalf("%d files replaced, want the one whose half is hidden", n)
	}
	wantShown(t, l, want)
	if len(l.Entries(true)) != 1 {
		t.Error("the delete file is gone, or doubled")
	}
	compact(t, l, everything, jobs.Env{})
	wantShown(t, l, want)
	wantNoDeletes(t, l)
}

// TestTrapS3 is about copy-on-write deletes of the library: they resurrect
// hidden rows and drop those whose key is NULL. A run that erases and compacts
// does neither.
func TestTrapS3HiddenAndNullRowsOutliveAnErasure(t *testing.T) {
	for _, version := range []string{"2", "3"} {
		t.Run("v"+version, func(t *testing.T) {
			l := compactLake(t, version, nil, nil)
			l.Append(testlake.IDs(1000, 1050)...)
			l.AppendNulls(4)
			l.Append(testlake.IDs(1050, 1060)...)
			if version == "3" {
				l.HideByVector(l.Entries(false)[0], 2, 3)
			} else {
				l.HideRows(l.Entries(false)[:1], []int64{2})
				l.DeleteByKey(1007)
			}
			want := without(shown(t, l), leaver)
			if n := len(want); n != 61 {
				t.Fatalf("%d rows are to be kept, want 61", n)
			}
			sum, err := open(t, compactJob(t, l, everything), jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
			if err != nil || sum.Targets[0].Committed.RowsErased != 1 {
				t.Fatalf("%+v, %v", sum, err)
			}
			wantShown(t, l, want)
		})
	}
}

// TestTrapS4 is about a merge-on-read delete that lands between plan and
// commit: a replacement that does not know it brings the row back.
func TestTrapS4AConcurrentDeleteOfAPackedRowIsNotUndone(t *testing.T) {
	for _, version := range []string{"2", "3"} {
		for when, moment := range map[string]string{"while files are written": writesOutput, "before the swap": writesList} {
			t.Run("v"+version+" "+when, func(t *testing.T) {
				l := threeSmall(t, version)
				want := without(shown(t, l), 105)
				sum := compact(t, l, everything, at(storage.OpClose, moment, 1, func() { l.Reload(); l.Delete(id(105)) }))
				wantShown(t, l, want)
				if n := sum.Targets[0].Committed.Conflicts; (n == 1) != (moment == writesList) {
					t.Errorf("%d conflicts", n)
				}
				if n := sum.Targets[0].Committed.RowsAlreadyDeleted; n != 2 {
					t.Errorf("%d hidden rows were folded in, want that of before and that of meanwhile", n)
				}
				wantNoDeletes(t, l)
			})
		}
	}
}

// threeSmall is a table of three small files with one hidden row.
func threeSmall(t *testing.T, version string) *testlake.Lake {
	l := compactLake(t, version, nil, nil)
	for i := range 3 {
		l.Append(testlake.IDs(100*i, 100*i+10)...)
	}
	l.Delete(id(205))
	return l
}

// TestTrapS5 is about the sql catalog, which says of a conflict nothing but
// "requirement failed", and about transactions that are dead then.
// TestTrapS6 is about appends, with which a plain replacement conflicts again
// and again.
func TestTrapS5AndS6AppendsAtEverySwapAreConflictsThatPass(t *testing.T) {
	l := threeSmall(t, "2")
	want := shown(t, l)
	n := 0
	var env jobs.Env
	env.WrapStore = func(_ string, st storage.Store) storage.Store {
		return storage.WithFaults(st, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
			if c.Op != storage.OpClose || !strings.Contains(c.Path, writesList) || n == 3 {
				return nil
			}
			n++
			return &storage.Fault{Action: storage.CallBefore, Do: func() { l.Reload(); l.Append(1000 + n) }}
		}})
	}
	cfg := compactJob(t, l, everything)
	cfg.Commit.Attempts = 2 // more than that are made for conflicts alone
	sum, err := open(t, cfg, env).Compact(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Targets[0].Committed == nil {
		t.Fatalf("%+v, %v", sum, err)
	}
	if c := sum.Targets[0].Committed; c.Conflicts != 3 || c.FilesReplaced != 3 {
		t.Errorf("%d conflicts and %d files replaced, want 3 of each", c.Conflicts, c.FilesReplaced)
	}
	got := shown(t, l)
	if !slices.Equal(without(got, 1001, 1002, 1003), want) || len(got) != len(want)+3 {
		t.Errorf("%d rows, want the %d of before and the 3 that were appended", len(got), len(want))
	}
}

// TestTrapS7 is about position deletes that look as if they covered their
// partition, since their entry names no file and their bounds are cut: what
// they touch is in them alone.
func TestTrapS7WhatADeleteFileTouchesIsReadInIt(t *testing.T) {
	l := compactLake(t, "2", &byHundred, nil)
	l.Append(testlake.IDs(0, 20)...)
	l.Append(testlake.IDs(20, 40)...)
	files := l.Entries(false)
	l.HideRows(files[:1], []int64{7})
	l.HideRows(files[:1], []int64{8})
	l.HideRows(files[1:], []int64{9})
	for _, del := range l.Entries(true) {
		if del.ReferencedDataFile() != nil {
			t.Fatal("the entry names its data file: no trap here")
		}
	}
	want := shown(t, l)
	// Each delete file is listed for both files, but only one has two that hide rows of it.
	sum := compact(t, l, "{delete_files: 2}", jobs.Env{})
	if n := sum.Targets[0].Committed.FilesReplaced; n != 1 {
		t.Errorf("%d files were rewritten for delete files that touch one", n)
	}
	wantShown(t, l, want)
	if n := len(l.Entries(true)); n != 1 {
		t.Errorf("%d delete files are left, want that of the file that was left", n)
	}
}

// TestTrapS8 is about a deletion vector whose data file has left the table:
// the file it names stays pinned for the library's orphan cleanup.
func TestTrapS8ADanglingVectorGoesAndPinsNothing(t *testing.T) {
	l := compactLake(t, "3", nil, nil)
	l.Append(testlake.IDs(0, 10)...)
	l.Append(testlake.IDs(10, 20)...)
	gone := l.Entries(false)[0]
	l.HideByVector(gone, 1)
	l.Drop(gone)
	if n := len(l.Entries(true)); n != 1 {
		t.Fatalf("%d vectors, want the dangling one: no trap here", n)
	}
	l.Expire(false)
	l.Age(testlake.Local(gone.FilePath()), 48*time.Hour)
	want := shown(t, l)
	compact(t, l, everything, jobs.Env{})
	wantShown(t, l, want)
	wantNoDeletes(t, l)
	if _, err := os.Stat(testlake.Local(gone.FilePath())); !os.IsNotExist(err) {
		t.Errorf("the data file that only the vector named is still stored: %v", err)
	}
}

// TestTrapS9 is about write.data.path, which the library forgets when a
// partitioned table is appended to.
func TestTrapS9OutputsLieWhereTheTableWantsItsData(t *testing.T) {
	elsewhere := t.TempDir()
	l := compactLake(t, "2", &byHundred, icebergo.Properties{"write.data.path": "file://" + elsewhere})
	l.Append(testlake.IDs(0, 20)...)
	l.Append(testlake.IDs(20, 40)...)
	want := shown(t, l)
	compact(t, l, everything, jobs.Env{})
	wantShown(t, l, want)
	for _, e := range l.Entries(false) {
		if !strings.HasPrefix(testlake.Local(e.FilePath()), elsewhere+"/") {
			t.Errorf("%s lies outside write.data.path", e.FilePath())
		}
	}
}

// TestTrapS10 is about table properties: the library sets a name mapping when
// it deletes or replaces.
func TestTrapS10CompactionSetsNoTableProperty(t *testing.T) {
	l := threeSmall(t, "2")
	// The library's delete has set it in the fixture: that is the trap.
	const mapping = "schema.name-mapping.default"
	if l.Tbl.Properties()[mapping] == "" {
		t.Fatal("the library's delete sets no name mapping: no trap here")
	}
	l.Update(table.NewRemovePropertiesUpdate([]string{mapping}))
	before := maps.Clone(l.Tbl.Properties())
	compact(t, l, everything, jobs.Env{})
	if after := l.Tbl.Properties(); !maps.Equal(before, after) {
		t.Errorf("properties were %v and are %v", before, after)
	}
}

// readFile reads a Parquet file of a table.
func readFile(t *testing.T, path string) arrow.Table {
	t.Helper()
	r, err := file.OpenParquetFile(testlake.Local(path), false)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	defer r.Close()
	f, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := f.ReadTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}
