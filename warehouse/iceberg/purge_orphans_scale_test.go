package iceberg

import (
	"context"
	"fmt"
	"iter"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"
	"golang.org/x/sys/unix"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// manyObjects lists objects that do not exist: one in two is referenced, one in
// ten is an orphan, the others are young.
type manyObjects struct {
	storage.Store
	objects int
	removed int
	batches int
}

func (s *manyObjects) List(_ context.Context, prefix string) iter.Seq2[storage.Info, error] {
	old := time.Now().Add(-100 * time.Hour)
	return func(yield func(storage.Info, error) bool) {
		for i := range s.objects {
			info := storage.Info{Path: dataPath(i / 2), Size: 1, ModTime: old}
			if i%2 == 1 {
				info.Path = fmt.Sprintf("%sdata/00000-%08d-never-committed.parquet", prefix, i)
				if i%10 != 9 {
					info.ModTime = time.Now()
				}
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *manyObjects) RemoveAll(_ context.Context, paths []string) []error {
	s.removed += len(paths)
	s.batches++
	return make([]error, len(paths))
}

// TestOrphansOfManyObjectsAreFoundInBoundedMemory lists 100,000 objects of which
// half are referenced, or EXPUNGE_SCALE objects to measure: the listing streams,
// memory is bounded by the references.
func TestOrphansOfManyObjectsAreFoundInBoundedMemory(t *testing.T) {
	objects := 100_000
	if n, err := strconv.Atoi(os.Getenv("EXPUNGE_SCALE")); err == nil {
		objects = n
	}
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	snap := syntheticSnapshot(t, t.TempDir(), objects/2, 5000, 0)
	snap.TimestampMs, snap.Summary = time.Now().UnixMilli(), &table.Summary{Operation: table.OpAppend}
	_, _, err := l.cat.CommitTable(l.ctx, table.Identifier{"ns", "t"}, nil, []table.Update{
		table.NewAddSnapshotUpdate(snap), table.NewSetSnapshotRefUpdate("main", snap.SnapshotID, table.BranchRef, 0, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	tbl := l.open("t")
	many := &manyObjects{Store: tbl.store, objects: objects}
	tbl.store = many
	records := 0
	stop, peak := watchHeap()
	start, cpu := clock.Now(l.ctx), cpuTime()
	got, err := tbl.RemoveOrphans(l.ctx, warehouse.OrphanRequest{MinAge: 72 * time.Hour, Record: func(context.Context, warehouse.PhysicalDelete) error { records++; return nil }})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	want := int64(objects / 10)
	// The synthetic references lie in a bucket of their own: to the catalog they are files of another place.
	if got.Files != want || got.Young != int64(objects/2)-want || many.removed != int(want) || records != int(want) {
		t.Errorf("orphans %+v, %d removed, %d recorded; want %d", got, many.removed, records, want)
	}
	if most := int(want)/removeBatch + 1; many.batches > most {
		t.Errorf("%d requests for %d objects, want at most %d", many.batches, want, most)
	}
	t.Logf("%d objects, %d referenced: %v, %.1f CPU-µs an object, heap above the start %d MiB", objects, objects/2,
		clock.Now(l.ctx).Sub(start).Round(time.Millisecond), float64((cpuTime()-cpu).Microseconds())/float64(objects), peak.Load()>>20)
	if limit := uint64(64<<20) + uint64(objects)*300; peak.Load() > limit {
		t.Errorf("the heap grew by %d MiB, want at most %d", peak.Load()>>20, limit>>20)
	}
}

// cpuTime is the process's CPU time so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
