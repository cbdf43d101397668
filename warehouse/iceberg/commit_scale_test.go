package iceberg

import (
	"context"
	"fmt"
	"iter"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// TestCommitMemoryDoesNotGrowWithTheTable replaces one file in a hundred of a
// table of 20,000 files, or of EXPUNGE_SCALE files to measure, spread over
// every manifest. The first swap loses, so that the second attempt shows how
// long the window is in which another writer can win.
func TestCommitMemoryDoesNotGrowWithTheTable(t *testing.T) {
	files := 20000
	if n, err := strconv.Atoi(os.Getenv("EXPUNGE_SCALE")); err == nil {
		files = n
	}
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	snap := syntheticSnapshot(t, t.TempDir(), files, 2000, files/10)
	snap.TimestampMs, snap.Summary = time.Now().UnixMilli(), &table.Summary{Operation: table.OpAppend}
	_, _, err := l.cat.CommitTable(l.ctx, table.Identifier{"ns", "t"}, nil, []table.Update{
		table.NewAddSnapshotUpdate(snap), table.NewSetSnapshotRefUpdate("main", snap.SnapshotID, table.BranchRef, 0, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	tbl := l.open("t")
	desc, err := tbl.Describe(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	result := func(i int) warehouse.Result {
		task := warehouse.Task{Index: i, File: warehouse.File{Path: dataPath(i), Rows: 10, DataSequence: 1}}
		r := warehouse.Result{Task: task, Status: warehouse.Dropped, RowsIn: 10, Erased: 10}
		if i%200 == 0 {
			r.Status, r.Erased, r.RowsOut = warehouse.Rewritten, 5, 5
			r.Output = &warehouse.Output{Path: fmt.Sprintf("%s/out-%d.parquet", l.dir, i), Size: 4, Rows: 5, Metrics: warehouse.Metrics{
				ValueCounts: map[int]int64{1: 5, 2: 5}, Lower: map[int][]byte{1: make([]byte, 8)}, Upper: map[int][]byte{1: make([]byte, 8)}}}
		}
		return r
	}
	for i := 0; i < files; i += 200 {
		if err := storage.WriteAll(l.ctx, l.store, fmt.Sprintf("%s/out-%d.parquet", l.dir, i), []byte("PAR1"), storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	e := &eraser{l: l, tbl: tbl}
	h := e.hook()
	var swaps [2]time.Time
	h.before = func(call int) error {
		swaps[call-1] = time.Now()
		if call == 1 {
			return table.ErrCommitFailed
		}
		return nil
	}
	stop, peak := watchHeap()
	start := time.Now()
	done, err := tbl.Commit(l.ctx, warehouse.CommitRequest{
		RunID: "r1", Plan: warehouse.Plan{Description: desc, Tasks: int64(files)},
		Planned: func(context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for i := 0; i < files && yield(dataPath(i), nil); i++ {
				}
			}
		},
		Results: func(context.Context) iter.Seq2[warehouse.Result, error] {
			return func(yield func(warehouse.Result, error) bool) {
				for i := 0; i < files && yield(result(i), nil); i += 100 {
				}
			}
		},
	})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	if done.FilesReplaced+done.FilesDropped != int64(files/100) || done.DeleteFilesRemoved != int64(files/1000) {
		t.Errorf("committed %+v", done)
	}
	t.Logf("%d files: first swap after %v, second %v later; heap above the start %d MiB, process %s", files,
		swaps[0].Sub(start).Round(time.Millisecond), swaps[1].Sub(swaps[0]).Round(time.Millisecond), peak.Load()>>20, rss())
	h.before = nil
	stop, purgePeak := watchHeap()
	start = time.Now()
	purged, err := tbl.Purge(l.ctx, warehouse.PurgeRequest{RunID: "r1", Committed: *done})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	// The synthetic files lie in a bucket of their own, as if another table's: none is touched.
	if len(purged.SnapshotsExpired) != 1 || len(purged.Blockers) != 1 || purged.ManifestsRemoved != 0 {
		t.Errorf("purged %+v", purged)
	}
	t.Logf("purge in %v, heap above the start %d MiB", time.Since(start).Round(time.Millisecond), purgePeak.Load()>>20)
	peak.Store(max(peak.Load(), purgePeak.Load()))
	if limit := uint64(96<<20) + uint64(files)*160; peak.Load() > limit {
		t.Errorf("the heap grew by %d MiB, want at most %d", peak.Load()>>20, limit>>20)
	}
}

// watchHeap samples the heap until stopped.
func watchHeap() (stop func(), peak *atomic.Uint64) {
	runtime.GC()
	debug.FreeOSMemory()
	var base runtime.MemStats
	runtime.ReadMemStats(&base)
	peak = &atomic.Uint64{}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak.Store(max(peak.Load(), now.HeapAlloc-min(base.HeapAlloc, now.HeapAlloc)))
		}
	}()
	return func() { close(done); <-ended }, peak
}
