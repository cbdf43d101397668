package iceberg

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"slices"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

func TestOrphansGoAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for name, root := range map[string]string{"memory": "mem://orphans" + filepath.Base(dir), "plain path": dir + "/a", "file URI": "file://" + dir + "/b"} {
		t.Run(name, func(t *testing.T) { orphansGoAndNothingElse(t, newLakeAt(t, root)) })
	}
}

func orphansGoAndNothingElse(t *testing.T, l *planLake) {
	spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "s", Transform: icebergo.IdentityTransform{}})
	l.create("t", 2, deleteSchema(), &spec, "write.delete.mode", "merge-on-read")
	// Partition values that have to be escaped in a path.
	l.append("t", `{"rn":1,"id":1,"s":"a b/c%2Fd","f":1}`, `{"rn":2,"id":2,"s":"ü=é?#","f":1}`, `{"rn":3,"id":3,"s":"_x","f":1}`)
	l.append("t", rows(10, 9, 10)...)
	l.deleteWhere("t", icebergo.EqualTo(icebergo.Reference("rn"), int64(11)))
	want := l.visible("t")
	loc := l.raw("t").Location()
	orphans := []string{loc + "/data/lost.parquet", loc + "/data/s=x/lost.parquet", loc + "/metadata/lost-m0.avro", loc + "/metadata/snap-lost.avro"}
	kept := []string{loc + "/data/_temporary/part.parquet", loc + "/.hidden/x.parquet", loc + "/metadata/99999-lost.metadata.json", loc + "/metadata/version-hint.text"}
	for _, p := range slices.Concat(orphans, kept) {
		if err := l.write(p, "x"); err != nil {
			t.Fatal(err)
		}
	}
	before := l.objects("t")
	tbl := l.open("t")
	if _, err := tbl.RemoveOrphans(l.ctx, warehouse.OrphanRequest{MinAge: time.Hour}); !errors.Is(err, warehouse.ErrUnsupported) {
		t.Errorf("a minimum age of an hour: %v", err)
	}
	// A day later everything is old enough.
	if got, err := tbl.RemoveOrphans(l.ctx, warehouse.OrphanRequest{MinAge: 24 * time.Hour}); err != nil || got.Files != 0 || got.Young != 4 {
		t.Errorf("young files: %+v, err %v", got, err)
	}
	later := clock.With(l.ctx, func() time.Time { return time.Now().Add(25 * time.Hour) })
	dry, err := tbl.RemoveOrphans(later, warehouse.OrphanRequest{MinAge: 24 * time.Hour, DryRun: true})
	if err != nil || dry.Files != 4 || dry.Young != 0 || len(l.objects("t")) != len(before) {
		t.Errorf("dry run %+v, err %v", dry, err)
	}
	got, err := tbl.RemoveOrphans(later, warehouse.OrphanRequest{MinAge: 24 * time.Hour})
	if err != nil || *got != *dry {
		t.Errorf("removed %+v, err %v", got, err)
	}
	after := l.objects("t")
	for p := range before {
		if _, still := after[p]; still == slices.ContainsFunc(orphans, func(o string) bool { return canonical(o) == canonical(p) }) {
			t.Errorf("%s: still there %v", filepath.Base(p), still)
		}
	}
	l.wantRows("t", want)
	if got, err := tbl.RemoveOrphans(later, warehouse.OrphanRequest{MinAge: 24 * time.Hour}); err != nil || got.Files != 0 {
		t.Errorf("again: %+v, err %v", got, err)
	}
}

func TestOrphansOfSharedTablesAreNotTouched(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil, "gc.enabled", "false")
	l.append("t", rows(0, 3, 10)...)
	if _, err := l.open("t").RemoveOrphans(l.ctx, warehouse.OrphanRequest{MinAge: 48 * time.Hour}); !errors.Is(err, warehouse.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

// clone makes a second table that reads the files of another where they are,
// as add_files and the snapshot procedure do.
func (l *planLake) clone(name, of string) {
	l.t.Helper()
	l.create(name, 2, deleteSchema(), nil)
	var files []string
	for _, en := range l.entriesOf(of) {
		files = append(files, en.DataFile().FilePath())
	}
	tx := l.raw(name).NewTransaction()
	if err := tx.AddFiles(l.ctx, files, nil, false); err != nil {
		l.t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		l.t.Fatal(err)
	}
}

// TestFilesOfAnotherTableStay: what a clone or add_files refers to is neither an
// orphan nor history, although the table that it lies in has no use for it.
func TestFilesOfAnotherTableStay(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.clone("copy", "t")
	e := l.eraser("t", "r1", 4).prepare()
	p, removed := e.purge(e.commit())
	if len(p.Blockers) != 1 || p.Blockers[0].Type != "files" {
		t.Errorf("blockers %v, want the clone's file", p.Blockers)
	}
	for _, d := range removed {
		if d.Kind == kindData {
			t.Errorf("a file of the clone was removed: %+v", d)
		}
	}
	l.wantRows("copy", rowsOf(0, 20, 10))
	l.wantRows("t", rowsOf(0, 20, 10, 4))
	// Nothing of t names the file any more: only the clone keeps it from being an orphan.
	later := clock.With(l.ctx, func() time.Time { return time.Now().Add(25 * time.Hour) })
	for _, dry := range []bool{true, false} {
		got, err := l.open("t").RemoveOrphans(later, warehouse.OrphanRequest{MinAge: 24 * time.Hour, DryRun: dry})
		if err != nil || got.Files != 0 || got.Shared != 1 {
			t.Errorf("orphans %+v, err %v", got, err)
		}
	}
	l.wantRows("copy", rowsOf(0, 20, 10))
}

// TestOldFileThatIsCommittedMeanwhileIsNoOrphan: somebody registers an old file
// between the listing and the removal.
func TestOldFileThatIsCommittedMeanwhileIsNoOrphan(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	tbl := l.raw("t")
	lost := l.entriesOf("t")[0].DataFile().FilePath()
	raw, err := storage.ReadAll(l.ctx, l.store, lost)
	if err != nil {
		t.Fatal(err)
	}
	back := tbl.Location() + "/data/back.parquet"
	if err := l.write(back, string(raw)); err != nil {
		t.Fatal(err)
	}
	later := clock.With(l.ctx, func() time.Time { return time.Now().Add(25 * time.Hour) })
	target := l.open("t")
	once := false
	target.store = &listHook{Store: target.store, after: func() {
		if once {
			return
		}
		once = true
		tx := l.raw("t").NewTransaction()
		if err := tx.AddFiles(l.ctx, []string{back}, nil, false); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(l.ctx); err != nil {
			t.Fatal(err)
		}
	}}
	got, err := target.RemoveOrphans(later, warehouse.OrphanRequest{MinAge: 24 * time.Hour})
	if err != nil || got.Files != 0 || !once {
		t.Errorf("orphans %+v, err %v", got, err)
	}
	if len(l.visible("t")) != 60 {
		t.Errorf("%d rows, want 60: the file was removed", len(l.visible("t")))
	}
}

// listHook calls after at the end of each listing.
type listHook struct {
	storage.Store
	after func()
}

func (h *listHook) List(ctx context.Context, prefix string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range h.Store.List(ctx, prefix) {
			if !yield(info, err) {
				return
			}
		}
		h.after()
	}
}
