package iceberg

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"go.uber.org/goleak"
)

// crowd is a set of writers that go on until stopped. Each step is one commit;
// a step that lost against another writer is tried again from the start.
type crowd struct {
	l    *planLake
	stop chan struct{}
	over atomic.Bool   // the runs have ended: who has not committed yet does so alone
	rest time.Duration // of every writer between its commits; 0 = its own
	wg   sync.WaitGroup

	// reading is held while a merge-on-read delete reads data files. A purge
	// without a grace waits for it: iceberg-go panics when a file goes under its reader.
	reading sync.RWMutex

	mu      sync.Mutex
	added   []int64
	deleted map[int64]bool
	commits map[string]int
}

func (c *crowd) start(name string, rest time.Duration, step func(n int) (func(), error)) {
	if c.rest > 0 {
		rest = c.rest
	}
	c.wg.Go(func() {
		for n := 0; ; {
			select {
			case <-c.stop:
				return
			case <-time.After(rest):
			}
			if n > 0 && c.over.Load() {
				continue // it had its turn: the slower ones get theirs
			}
			done, err := step(n)
			if err != nil {
				continue
			}
			n++
			c.mu.Lock()
			done()
			c.commits[name]++
			c.mu.Unlock()
		}
	})
}

// busy says that every writer had its turn.
func (c *crowd) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.commits) == 4
}

func (c *crowd) appends(from int) {
	c.start("append", 70*time.Millisecond, func(n int) (func(), error) {
		first := from + 10*n
		tbl, err := c.l.cat.LoadTable(c.l.ctx, table.Identifier{"ns", "t"})
		if err != nil {
			return nil, err
		}
		var text []string
		for i := first; i < first+4; i++ {
			text = append(text, fmt.Sprintf(`{"rn":%d,"id":%d,"s":"new","f":1}`, i, i))
		}
		rec := c.l.records(tbl, text...)
		at := array.NewTableFromRecords(rec.Schema(), []arrow.RecordBatch{rec})
		defer at.Release()
		if _, err := tbl.AppendTable(c.l.ctx, at, 1024, nil); err != nil {
			return nil, err
		}
		return func() {
			for i := first; i < first+4; i++ {
				c.added = append(c.added, int64(i))
			}
		}, nil
	})
}

// deletes hides rows one by one; equality says how.
func (c *crowd) deletes(rns []int64, equality bool) {
	name := map[bool]string{true: "equality delete", false: "merge-on-read delete"}[equality]
	c.start(name, 70*time.Millisecond, func(n int) (func(), error) {
		if n >= len(rns) {
			return func() {}, nil
		}
		c.reading.RLock()
		defer c.reading.RUnlock()
		tbl, err := c.l.cat.LoadTable(c.l.ctx, table.Identifier{"ns", "t"})
		if err != nil {
			return nil, err
		}
		tx := tbl.NewTransaction()
		if equality {
			field, _ := tbl.Schema().FindFieldByID(1)
			schema, err := table.SchemaToArrowSchema(icebergo.NewSchema(0, field), nil, true, false)
			if err != nil {
				return nil, err
			}
			rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(fmt.Sprintf(`[{"rn":%d}]`, rns[n])))
			if err != nil {
				return nil, err
			}
			var recs iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) { yield(rec, nil) }
			err = tx.CommitEqualityDeletes(c.l.ctx, []int{1}, recs, nil)
			if err != nil {
				return nil, err
			}
		} else if err := tx.Delete(c.l.ctx, icebergo.EqualTo(icebergo.Reference("rn"), rns[n]), nil); err != nil {
			return nil, err
		}
		if _, err := tx.Commit(c.l.ctx); err != nil {
			return nil, err
		}
		return func() { c.deleted[rns[n]] = true }, nil
	})
}

func (c *crowd) compacts() {
	c.start("compact", 5*time.Millisecond, func(int) (func(), error) { return func() {}, c.l.compactTwo("t") })
}

// compactTwo merges two files of one shape that have no deletes into one.
func (l *planLake) compactTwo(name string) error {
	tbl, err := l.cat.LoadTable(l.ctx, table.Identifier{"ns", name})
	if err != nil {
		return err
	}
	tasks, err := tbl.Scan().PlanFiles(l.ctx)
	if err != nil {
		return err
	}
	var pick []icebergo.DataFile
	for _, task := range tasks {
		df := task.File
		if len(task.DeleteFiles)+len(task.EqualityDeleteFiles)+len(task.DeletionVectorFiles) == 0 && len(pick) < 2 &&
			!strings.Contains(df.FilePath(), "expunge") && (len(pick) == 0 || tupleKey(pick[0]) == tupleKey(df)) {
			pick = append(pick, df)
		}
	}
	if len(pick) < 2 {
		return errNothingToCompact
	}
	recs := make([]arrow.RecordBatch, 2)
	for i, df := range pick {
		if recs[i], err = readParquet(l.ctx, l.store, df.FilePath()); err != nil {
			return err
		}
	}
	if !recs[0].Schema().Equal(recs[1].Schema()) {
		return errNothingToCompact
	}
	cols := make([]arrow.Array, recs[0].NumCols())
	for i := range cols {
		if cols[i], err = array.Concatenate([]arrow.Array{recs[0].Column(i), recs[1].Column(i)}, memory.DefaultAllocator); err != nil {
			return err
		}
	}
	total := recs[0].NumRows() + recs[1].NumRows()
	path := fmt.Sprintf("%s/data/compact-%d.parquet", tbl.Location(), time.Now().UnixNano())
	size, err := writeParquet(l.ctx, l.store, path, array.NewRecordBatch(recs[0].Schema(), cols, total))
	if err != nil {
		return err
	}
	spec := tbl.Metadata().PartitionSpecByID(int(pick[0].SpecID()))
	b, err := icebergo.NewDataFileBuilder(*spec, icebergo.EntryContentData, path, icebergo.ParquetFile, pick[0].Partition(), nil, nil, total, size)
	if err != nil {
		return err
	}
	tx := tbl.NewTransaction()
	if err := tx.ReplaceDataFilesWithDataFiles(l.ctx, pick, []icebergo.DataFile{b.Build()}, nil); err != nil {
		return err
	}
	_, err = tx.Commit(l.ctx)
	return err
}

var errNothingToCompact = errors.New("nothing to compact")

// TestBusyWritersAreNeverUndoneAndDoNotStarveARun lets others append, delete
// in both ways and compact all the time, while runs erase, purge and clean.
func TestBusyWritersAreNeverUndoneAndDoNotStarveARun(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil, "write.delete.mode", "merge-on-read", "commit.retry.num-retries", "0")
	for i := range 6 {
		l.append("t", rows(40*i, 40, 10)...)
	}
	before := goleak.IgnoreCurrent()
	c := &crowd{l: l, stop: make(chan struct{}), deleted: map[int64]bool{}, commits: map[string]int{}}
	var byPos, byEq []int64
	for rn := int64(0); rn < 240; rn += 7 {
		if rn%2 == 0 {
			byPos = append(byPos, rn)
		} else {
			byEq = append(byEq, rn)
		}
	}
	c.appends(1000)
	c.deletes(byPos, false)
	c.deletes(byEq, true)
	c.compacts()
	gone := []int{3, 4}
	conflicts, rescans := 0, 0
	for i, key := range gone {
		e := l.eraser("t", fmt.Sprintf("r%d", i), int64(key)).prepare()
		done := e.commit()
		conflicts += done.Conflicts
		rescans += len(e.rescans)
		if done.RowsErased == 0 {
			t.Errorf("run %d erased nothing", i)
		}
		c.reading.Lock()
		if p, _ := e.purge(done); len(p.Blockers) > 0 {
			t.Errorf("blockers %v", p.Blockers)
		}
		c.reading.Unlock()
		if _, err := e.tbl.CleanAttempts(l.ctx, e.run, nil); err != nil {
			t.Error(err)
		}
	}
	c.over.Store(true)
	for end := time.Now().Add(time.Minute); !c.busy() && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	close(c.stop)
	c.wg.Wait()
	// The library leaves goroutines behind when a commit fails: let them end.
	_ = goleak.Find(before)
	t.Logf("writers made %v commits; %d conflicts, %d rescans", c.commits, conflicts, rescans)
	want := slices.DeleteFunc(append(rowsOf(0, 240, 10, gone...), c.added...), func(rn int64) bool { return c.deleted[rn] })
	l.wantRows("t", want)
	if len(c.commits) != 4 {
		t.Error("the writers were idle")
	}
}
