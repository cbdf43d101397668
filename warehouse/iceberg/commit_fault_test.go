package iceberg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
)

// hookedCatalog lets a test step in at each CommitTable.
type hookedCatalog struct {
	catalog.Catalog
	mu     sync.Mutex
	calls  int
	before func(call int) error
	after  func(call int) error
}

func (h *hookedCatalog) CommitTable(ctx context.Context, id table.Identifier, reqs []table.Requirement, ups []table.Update) (table.Metadata, string, error) {
	h.mu.Lock()
	h.calls++
	call := h.calls
	h.mu.Unlock()
	if h.before != nil {
		if err := h.before(call); err != nil {
			return nil, "", err
		}
	}
	meta, loc, err := h.Catalog.CommitTable(ctx, id, reqs, ups)
	if err == nil && h.after != nil {
		if err := h.after(call); err != nil {
			return nil, "", err
		}
	}
	return meta, loc, err
}

// hook makes the table's own swaps go through hooks; other writers' do not.
func (e *eraser) hook() *hookedCatalog {
	h := &hookedCatalog{Catalog: e.tbl.cat.Catalog}
	e.tbl.cat = NewCatalog(e.tbl.cat.name, h, e.tbl.cat.props)
	return h
}

var errUnknown = errors.New("gateway timeout")

func TestCommitSurvivesFailuresOfTheSwap(t *testing.T) {
	conflict := errors.New(`requirement failed: branch "main" has changed`) // trap S5
	for name, fail := range map[string]func(h *hookedCatalog){
		"conflict before effect":      func(h *hookedCatalog) { h.before = failUntil(2, conflict) },
		"rest conflict before effect": func(h *hookedCatalog) { h.before = failUntil(2, table.ErrCommitFailed) },
		"unknown before effect":       func(h *hookedCatalog) { h.before = failUntil(2, errUnknown) },
		"unknown after effect":        func(h *hookedCatalog) { h.after = failUntil(1, errUnknown) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newPlanLake(t)
			l.create("t", 2, deleteSchema(), nil)
			l.append("t", rows(0, 20, 10)...)
			e := l.eraser("t", "r1", 4).prepare()
			e.grace = time.Hour
			h := e.hook()
			fail(h)
			done := e.commit()
			if done.RowsErased != 2 || done.Adopted != strings.HasSuffix(name, "after effect") {
				t.Errorf("committed %+v", done)
			}
			if done.ProtectRef != "expunge-r1" {
				t.Errorf("protecting tag %q", done.ProtectRef)
			}
			l.wantRows("t", rowsOf(0, 20, 10, 4))
			if n := len(l.raw("t").Metadata().Snapshots()); n != 2 {
				t.Errorf("%d snapshots, want 2", n)
			}
			if _, err := e.tbl.CleanAttempts(l.ctx, "r1", nil); err != nil {
				t.Error(err)
			}
			l.wantRows("t", rowsOf(0, 20, 10, 4))
			// The purge meets the same.
			h.calls = 0
			p, _ := e.purge(done)
			if len(p.Blockers) > 0 {
				t.Errorf("purged %+v", p)
			}
			l.wantRows("t", rowsOf(0, 20, 10, 4))
			if left := l.unreachable("t"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func failUntil(n int, err error) func(int) error {
	return func(call int) error {
		if call <= n {
			return err
		}
		return nil
	}
}

func TestCommitGivesUpAfterItsAttempts(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	h := e.hook()
	h.before = failUntil(1000, table.ErrCommitFailed)
	req := e.request()
	req.Attempts = 3
	_, err := e.tbl.Commit(l.ctx, req)
	if !errors.Is(err, warehouse.ErrConflict) || h.calls != 3 {
		t.Errorf("%d calls, %v", h.calls, err)
	}
	l.wantRows("t", rowsOf(0, 20, 10))
	n, err := e.tbl.CleanAttempts(l.ctx, "r1", nil)
	if err != nil || n == 0 {
		t.Errorf("cleaned %d files, err %v", n, err)
	}
	if left := l.unreachable("t"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// sweepLake keeps a table in memory, so that it can be put back to a former
// state in no time.
type sweepLake struct {
	*planLake
	db   *sql.DB
	base map[string][]byte
	loc  string
}

func newSweepLake(t *testing.T) *sweepLake {
	t.Helper()
	db, l := lakeAt(t, fmt.Sprintf("mem://sweep%d", time.Now().UnixNano()))
	return &sweepLake{planLake: l, db: db}
}

// newLakeAt is a lake whose tables lie below root.
func newLakeAt(t *testing.T, root string) *planLake {
	t.Helper()
	_, l := lakeAt(t, root)
	return l
}

func lakeAt(t *testing.T, root string) (*sql.DB, *planLake) {
	t.Helper()
	installIO()
	db, err := sql.Open("sqlite", "file:"+t.TempDir()+"/catalog.db?_pragma=busy_timeout(5000)&_pragma=synchronous(0)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	props := map[string]string{"warehouse": root}
	cat, err := sqlcat.NewCatalog("lake", db, sqlcat.SQLite, props)
	if err != nil {
		t.Fatal(err)
	}
	store := storage.New(nil)
	l := &planLake{t: t, ctx: icebergio.With(context.Background(), store), dir: root, cat: NewCatalog("lake", cat, props), store: store}
	if err := cat.CreateNamespace(l.ctx, table.Identifier{"ns"}, nil); err != nil {
		t.Fatal(err)
	}
	return db, l
}

func (s *sweepLake) remember() {
	s.base, s.loc = s.objects("t"), s.raw("t").MetadataLocation()
}

func (s *sweepLake) reset() {
	s.t.Helper()
	for path := range s.objects("t") {
		if _, ok := s.base[path]; !ok {
			if err := s.store.Remove(s.ctx, path); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for path, raw := range s.base {
		if err := storage.WriteAll(s.ctx, s.store, path, raw, storage.CreateOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, err := s.db.Exec(`UPDATE iceberg_tables SET metadata_location = ?`, s.loc); err != nil {
		s.t.Fatal(err)
	}
}

// whole does all that a run does with the table.
func (e *eraser) whole() error {
	c, err := e.tryCommit()
	if err != nil {
		return err
	}
	if _, err := e.tbl.Purge(e.l.ctx, e.purgeRequest(c)); err != nil {
		return err
	}
	_, err = e.tbl.CleanAttempts(e.l.ctx, e.run, nil)
	return err
}

// TestACrashAtAnyStorageOperationThenResumeEndsTheSame kills the run at every
// storage operation of commit, purge and cleaning, before or after the
// operation had its effect: from then on nothing works any more. A second try
// with a working store must end in the very state of an undisturbed run.
func TestACrashAtAnyStorageOperationThenResumeEndsTheSame(t *testing.T) {
	s := newSweepLake(t)
	spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "id", Transform: icebergo.IdentityTransform{}})
	s.create("t", 2, deleteSchema(), &spec, "write.delete.mode", "merge-on-read")
	s.append("t", rows(0, 20, 3)...)
	s.deleteWhere("t", icebergo.LessThan(icebergo.Reference("rn"), int64(2)))
	e := s.eraser("t", "r1", 1).prepare()
	s.append("t", rows(20, 6, 3)...) // arrives after the plan
	s.remember()
	want := rowsOf(2, 24, 3, 1)

	count := &storage.Faults{}
	e.tbl = s.open("t")
	e.tbl.store = storage.WithFaults(s.store, count)
	if err := e.whole(); err != nil {
		t.Fatal(err)
	}
	s.wantRows("t", want)
	total := count.Count()
	step := int64(13)
	if os.Getenv("EXPUNGE_FULL_SWEEP") != "" {
		step = 1
	}
	t.Logf("%d storage operations", total)
	for n := int64(1); n <= total; n += step {
		for _, action := range []storage.Action{storage.FailBefore, storage.FailAfter} {
			s.reset()
			crashed := e.again(s.open("t"))
			crashed.tbl.store = storage.WithFaults(s.store, crashAt(n, action))
			if err := crashed.whole(); err == nil {
				// A read whose failure does not matter, such as that of an expired list.
				s.wantRows("t", want)
			}
			resumed := e.again(s.open("t"))
			if err := resumed.whole(); err != nil {
				t.Fatalf("operation %d, action %d: resume: %v", n, action, err)
			}
			s.wantRows("t", want)
			s.wantTotals("t")
			if left := s.unreachable("t"); len(left) > 0 {
				t.Fatalf("operation %d, action %d: left behind: %v", n, action, left)
			}
			s.wantNoTombstones("t")
			if t.Failed() {
				t.Fatalf("at operation %d, action %d", n, action)
			}
		}
	}
}

// again is the same run in a new process: what was journaled is known.
func (e *eraser) again(tbl *Table) *eraser {
	c := *e
	c.tbl, c.rescans = tbl, nil
	return &c
}

func crashAt(n int64, action storage.Action) *storage.Faults {
	return &storage.Faults{Pick: func(i int64, _ storage.Call) *storage.Fault {
		switch {
		case i == n:
			return &storage.Fault{Action: action, Err: errCrash}
		case i > n:
			return &storage.Fault{Action: storage.FailBefore, Err: errCrash}
		}
		return nil
	}}
}

var errCrash = errors.New("crashed")
