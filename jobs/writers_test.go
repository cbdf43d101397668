package jobs_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// traffic is writers that go on while runs go on: one appends rows with and
// without keys, one deletes rows by their id, merge on read.
type traffic struct {
	lake *demo.Lakehouse
	cat  *iceberg.Catalog
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	appended int            // times that the rows of fresh were appended
	deleted  map[int64]bool // order ids
}

func (tr *traffic) every(rest time.Duration, step func(context.Context, *table.Table) (func(), error)) {
	tr.wg.Go(func() {
		for {
			select {
			case <-tr.stop:
				return
			case <-time.After(rest):
			}
			tbl, err := tr.cat.LoadTable(context.Background(), table.Identifier{"sales", "orders"})
			if err != nil {
				continue
			}
			done, err := step(context.Background(), tbl)
			if err != nil { // lost against another writer: again with the new head
				continue
			}
			tr.mu.Lock()
			done()
			tr.mu.Unlock()
		}
	})
}

// busy says that both writers had their turns.
func (tr *traffic) busy() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.appended >= 3 && len(tr.deleted) >= 3
}

// orderRows reads the orders' rows: ids, and which of them hold a key.
func orderRows(t *testing.T, lake *demo.Lakehouse) (all arrow.Table, ids []int64, keyed []bool) {
	t.Helper()
	all, err := loadTable(t, lake, ordersName).Scan().ToArrowTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	all = oneChunk(t, all)
	ids = all.Column(0).Data().Chunk(0).(*array.Int64).Int64Values()
	customer := all.Column(1).Data().Chunk(0).(*array.Struct).Field(0).(*array.Int64)
	for i := range ids {
		keyed = append(keyed, !customer.IsNull(i) && slices.Contains(lake.Erased, customer.Value(i)))
	}
	return all, ids, keyed
}

func oneChunk(t *testing.T, tbl arrow.Table) arrow.Table {
	t.Helper()
	r := array.NewTableReader(tbl, tbl.NumRows())
	defer r.Release()
	var recs []arrow.RecordBatch
	for r.Next() {
		rec := r.RecordBatch()
		rec.Retain()
		recs = append(recs, rec)
	}
	cols := make([]arrow.Array, tbl.NumCols())
	for i := range cols {
		var parts []arrow.Array
		for _, rec := range recs {
			parts = append(parts, rec.Column(i))
		}
		var err error
		if cols[i], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			t.Fatal(err)
		}
	}
	return array.NewTableFromRecords(tbl.Schema(), []arrow.RecordBatch{array.NewRecordBatch(tbl.Schema(), cols, tbl.NumRows())})
}

func sliceTable(tbl arrow.Table, from, to int64) arrow.Table {
	r := array.NewTableReader(tbl, tbl.NumRows())
	defer r.Release()
	r.Next()
	return array.NewTableFromRecords(tbl.Schema(), []arrow.RecordBatch{r.RecordBatch().NewSlice(from, to)})
}

// TestWritersDuringRunsAreNeverUndoneAndNoKeySurvives runs the job again and
// again while others write, then once in peace. What is left is what was there, plus what
// was appended, less what was deleted, less every row of a key.
func TestWritersDuringRunsAreNeverUndoneAndNoKeySurvives(t *testing.T) {
	if testing.Short() {
		t.Skip("writers need time to write")
	}
	lake, cfg := smallLake(t, "0s")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	cfg.Limits.Share = 0
	all, ids, keyed := orderRows(t, lake)
	withKey := int64(slices.Index(keyed, true))
	cat, err := iceberg.OpenCatalog(t.Context(), "lake", lake.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()

	tr := &traffic{lake: lake, cat: cat, stop: make(chan struct{}), deleted: map[int64]bool{}}
	tr.every(500*time.Millisecond, func(ctx context.Context, tbl *table.Table) (func(), error) {
		// A row of a key: late data, as it were.
		if _, err := tbl.AppendTable(ctx, sliceTable(all, withKey, withKey+1), 1024, nil); err != nil {
			return nil, err
		}
		return func() { tr.appended++ }, nil
	})
	next := 0
	tr.every(500*time.Millisecond, func(ctx context.Context, tbl *table.Table) (func(), error) {
		for next < len(ids) && keyed[next] {
			next++
		}
		id := ids[next]
		tx := tbl.NewTransaction()
		if err := tx.SetProperties(icebergo.Properties{"write.delete.mode": "merge-on-read"}); err != nil {
			return nil, err
		}
		if err := tx.Delete(ctx, icebergo.EqualTo(icebergo.Reference("order_id"), id), nil); err != nil {
			return nil, err
		}
		if _, err := tx.Commit(ctx); err != nil {
			return nil, err
		}
		next++
		return func() { tr.deleted[id] = true }, nil
	})
	for range 20 {
		if tr.busy() {
			break
		}
		sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		logSurfaces(t, sum)
		if sum.Targets[0].Committed == nil {
			t.Fatalf("not committed: %s", sum.Targets[0].Reason)
		}
		t.Logf("%s (%v) after %d attempts, %d conflicts", sum.Outcome, sum.Reasons, sum.Targets[0].Committed.Attempts, sum.Targets[0].Committed.Conflicts)
	}
	close(tr.stop)
	tr.wg.Wait()
	if tr.appended == 0 || len(tr.deleted) == 0 {
		t.Fatalf("%d appends and %d deletes: the writers did not get to write", tr.appended, len(tr.deleted))
	}
	sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// A writer's attempt that lost leaves files behind that nothing refers to and
	// that may hold a key. They are too young to be removed, so they are residue.
	young := sum.Outcome == string(manifests.Partial) && len(sum.Residue) == 1 && sum.Residue[0].Surface == verifier.Orphans
	if sum.Outcome != string(manifests.Erased) && sum.Outcome != string(manifests.NothingToErase) && !young {
		t.Errorf("outcome %s (%v)", sum.Outcome, sum.Reasons)
		logSurfaces(t, sum)
	}
	wantOrders(t, lake, tr, ids)
}

// logSurfaces says what stands behind an outcome that was not expected.
func logSurfaces(t *testing.T, sum *jobs.Summary) {
	t.Helper()
	for _, r := range sum.Residue {
		t.Logf("residue: %+v", r)
	}
	for _, s := range sum.Verification.Surfaces {
		if s.Result != manifests.Pass && s.Result != manifests.NotPresent {
			t.Logf("%s: %s: %s, %d of %d ppm, %d found %s", s.Target, s.Surface, s.Result, s.Objects, s.CoveragePPM, s.Findings, s.Note)
		}
	}
}

func wantOrders(t *testing.T, lake *demo.Lakehouse, tr *traffic, ids []int64) {
	t.Helper()
	_, left, keyed := orderRows(t, lake)
	if slices.Contains(keyed, true) {
		t.Error("a row of a key is still there")
	}
	var table demo.Table
	for _, x := range lake.Tables {
		if x.Name == ordersName {
			table = x
		}
	}
	if want := table.Live - table.ToErase - int64(len(tr.deleted)); int64(len(left)) != want {
		t.Errorf("%d rows are left of %d, want %d (%d appends, %d deletes)", len(left), len(ids), want, tr.appended, len(tr.deleted))
	}
	for _, id := range left {
		if tr.deleted[id] {
			t.Errorf("order %d came back", id)
		}
	}
}
