package iceberg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// unreachable lists stored objects that neither the current metadata nor
// anything it leads to needs.
func (l *planLake) unreachable(name string) []string {
	l.t.Helper()
	tbl := l.raw(name)
	fs, err := tbl.FS(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	need := map[string]bool{canonical(tbl.MetadataLocation()): true}
	for _, s := range tbl.Metadata().Snapshots() {
		need[canonical(s.ManifestList)] = true
		list, err := s.Manifests(fs)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, m := range list {
			need[canonical(m.FilePath())] = true
			for e, err := range m.Entries(fs, true) {
				if err != nil {
					l.t.Fatal(err)
				}
				need[canonical(e.DataFile().FilePath())] = true
			}
		}
	}
	var out []string
	for path, raw := range l.objects(name) {
		if strings.HasSuffix(path, ".metadata.json") && !mentionsGone(raw, tbl.Metadata()) {
			continue // an old version that tells of nothing but what remains
		}
		if !need[canonical(path)] {
			out = append(out, path[strings.LastIndex(path, "/")+1:])
		}
	}
	return out
}

func mentionsGone(raw []byte, now table.Metadata) bool {
	old, err := table.ParseMetadataBytes(raw)
	if err != nil {
		return true
	}
	for _, s := range old.Snapshots() {
		if now.SnapshotByID(s.SnapshotID) == nil {
			return true
		}
	}
	return false
}

func (e *eraser) purgeRequest(c *warehouse.Committed) warehouse.PurgeRequest {
	return warehouse.PurgeRequest{RunID: e.run, Committed: *c, Selection: e.selection(), Fence: e.fence}
}

func (e *eraser) purge(c *warehouse.Committed) (*warehouse.Purged, []warehouse.PhysicalDelete) {
	e.l.t.Helper()
	var removed []warehouse.PhysicalDelete
	req := e.purgeRequest(c)
	req.Record = func(_ context.Context, d warehouse.PhysicalDelete) error { removed = append(removed, d); return nil }
	p, err := e.tbl.Purge(e.l.ctx, req)
	if err != nil {
		e.l.t.Fatal(err)
	}
	return p, removed
}

// wantNoTombstones checks every snapshot of the table.
func (l *planLake) wantNoTombstones(name string) {
	l.t.Helper()
	for _, s := range l.raw(name).Metadata().Snapshots() {
		for _, e := range l.entriesAt(name, &s) {
			if e.Status() == icebergo.EntryStatusDELETED {
				l.t.Errorf("snapshot %d still has a DELETED entry", s.SnapshotID)
			}
		}
	}
}

func TestPurgeLeavesNothingOfHistory(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		l.create("t", version, deleteSchema(), nil)
		l.append("t", rows(0, 20, 10)...)
		l.append("t", rows(20, 20, 10)...)
		if version > 1 {
			l.deleteEqual("t", []int{2}, `{"id":4}`)
		}
		l.append("t", rows(100, 5, 1000)...)
		e := l.eraser("t", "r1", 4).prepare()
		e.grace = time.Hour
		c := e.commit()
		want := append(rowsOf(0, 40, 10, 4), rowsOf(100, 5, 1000)...)
		dry := e.purgeRequest(c)
		dry.DryRun = true
		before := l.objects("t")
		would, err := e.tbl.Purge(l.ctx, dry)
		if err != nil {
			t.Fatal(err)
		}
		if after := l.objects("t"); len(after) != len(before) {
			t.Errorf("a dry run went from %d to %d objects", len(before), len(after))
		}
		p, removed := e.purge(c)
		l.wantRows("t", want)
		l.wantTotals("t")
		if left := l.unreachable("t"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		tbl := l.raw("t")
		if n := len(tbl.Metadata().Snapshots()); n != 2 {
			t.Errorf("%d snapshots, want the run's and the clean head", n)
		}
		for name := range tbl.Metadata().Refs() {
			if name != table.MainBranch {
				t.Errorf("ref %s is left", name)
			}
		}
		for _, en := range l.entriesOf("t") {
			if en.Status() == icebergo.EntryStatusDELETED {
				t.Error("the head has a DELETED entry")
			}
		}
		if len(p.Blockers) > 0 || p.TombstonesDropped == 0 || len(p.SnapshotsExpired) == 0 || p.FilesRemoved == 0 {
			t.Errorf("purged %+v", p)
		}
		if would.FilesRemoved < 2 || len(would.SnapshotsExpired) != len(p.SnapshotsExpired) {
			t.Errorf("a dry run said %+v, it did %+v", would, p)
		}
		for _, d := range removed {
			if d.Path == "" || d.Kind == "" || d.Response != "deleted" || d.Time.IsZero() {
				t.Errorf("evidence %+v", d)
			}
		}
		// Again, nothing is left to do.
		again, removed := e.purge(c)
		if len(again.SnapshotsExpired) != 0 || len(removed) != 0 || again.TombstonesDropped != 0 {
			t.Errorf("a second purge did %+v", again)
		}
		l.append("t", rows(200, 5, 1000)...)
		l.wantRows("t", append(want, rowsOf(200, 5, 1000)...))
		l.wantTotals("t")
	})
}

func TestPurgeOfAKeyPartitionedTableLeavesNoTombstoneAnywhere(t *testing.T) {
	l := newPlanLake(t)
	spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "id", Transform: icebergo.IdentityTransform{}})
	l.create("t", 2, deleteSchema(), &spec)
	l.append("t", rows(0, 20, 5)...)
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	if !c.After.KeyPartitioned || c.FilesDropped != 1 {
		t.Fatalf("committed %+v", c)
	}
	l.append("t", rows(20, 3, 3)...)
	p, _ := e.purge(c)
	if len(p.Blockers) > 0 {
		t.Errorf("blockers %v", p.Blockers)
	}
	l.wantNoTombstones("t")
	l.wantRows("t", append(rowsOf(0, 20, 5, 4), 20, 21, 22))
	if left := l.unreachable("t"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPurgeKeepsHistoryAfterTheCommit(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	l.append("t", rows(20, 5, 1000)...)
	l.append("t", rows(30, 5, 1000)...)
	e.purge(c)
	// The run's snapshot, two appends and the clean head.
	if n := len(l.raw("t").Metadata().Snapshots()); n != 4 {
		t.Errorf("%d snapshots, want 4", n)
	}
	l.wantRows("t", append(rowsOf(0, 20, 10, 4), append(rowsOf(20, 5, 1000), rowsOf(30, 5, 1000)...)...))
}

func (l *planLake) tag(name, ref string, id int64, kind table.RefType) {
	l.t.Helper()
	_, _, err := l.cat.CommitTable(l.ctx, table.Identifier{"ns", name}, nil,
		[]table.Update{table.NewSetSnapshotRefUpdate(ref, id, kind, 0, 0, 0)})
	if err != nil {
		l.t.Fatal(err)
	}
}

func TestRefsThatPinErasedDataBlockOrAreDropped(t *testing.T) {
	for _, policy := range []string{"block", "report", "drop"} {
		t.Run(policy, func(t *testing.T) {
			l := newPlanLake(t)
			l.create("t", 2, deleteSchema(), nil)
			l.append("t", rows(0, 20, 10)...)
			old := l.raw("t").CurrentSnapshot().SnapshotID
			l.tag("t", "audit-2026", old, table.TagRef)
			l.tag("t", "dev", old, table.BranchRef)
			l.append("t", rows(20, 20, 10)...)
			l.tag("t", "expunge-other", l.raw("t").CurrentSnapshot().SnapshotID, table.TagRef)
			e := l.eraser("t", "r1", 4).prepare()
			e.grace = time.Hour
			c := e.commit()
			l.tag("t", "clean", c.After.SnapshotID, table.TagRef)
			var removed []warehouse.PhysicalDelete
			req := e.purgeRequest(c)
			req.Selection.Refs = policy
			req.Record = func(_ context.Context, d warehouse.PhysicalDelete) error { removed = append(removed, d); return nil }
			p, err := e.tbl.Purge(l.ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			for _, b := range p.Blockers {
				names[b.Ref] = true
			}
			if policy == "drop" {
				if len(names) != 1 || !names["expunge-other"] {
					t.Errorf("blockers %v, want the other run's protecting tag alone", names)
				}
			} else if len(names) != 3 {
				t.Errorf("blockers %v, want audit-2026, dev and the other run's tag", names)
			}
			l.wantRows("t", rowsOf(0, 40, 10, 4))
			refs := l.raw("t").Metadata()
			if refs.SnapshotByName("clean") == nil || refs.SnapshotByName("expunge-r1") != nil || refs.SnapshotByName("expunge-other") == nil {
				t.Error("wrong refs were dropped")
			}
			if (refs.SnapshotByName("dev") == nil) != (policy == "drop") {
				t.Error("the policy was not followed")
			}
			// What a ref pins can still be read.
			for ref := range refs.Refs() {
				if _, err := l.raw("t").Scan(table.WithSnapshotID(refs.SnapshotByName(ref).SnapshotID)).ToArrowTable(l.ctx); err != nil {
					t.Errorf("%s: %v", ref, err)
				}
			}
			if left := l.unreachable("t"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestPurgeRefusesARolledBackCommit(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	l.tag("t", table.MainBranch, c.Before.SnapshotID, table.BranchRef)
	if _, err := e.tbl.Purge(l.ctx, e.purgeRequest(c)); !errors.Is(err, warehouse.ErrConflict) {
		t.Errorf("got %v", err)
	}
	l.wantRows("t", rowsOf(0, 20, 10))
	// A rolled back commit is not adopted either: the keys are live again.
	done := l.eraser("t", "r1", 4).prepare().commit()
	if done.Adopted || done.RowsErased != 2 {
		t.Errorf("committed %+v", done)
	}
	l.wantRows("t", rowsOf(0, 20, 10, 4))
}

func TestNoFileOfATableWithoutGarbageCollectionGoes(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil, "gc.enabled", "false")
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	n := len(l.objects("t"))
	p, removed := e.purge(c)
	if len(p.Blockers) != 1 || len(removed) != 0 || len(l.objects("t")) != n {
		t.Errorf("purged %+v", p)
	}
}

func TestPurgeStopsWithoutALease(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	lost := fmt.Errorf("gone: %w", warehouse.ErrFenced)
	e.fence = func(context.Context) error { return lost }
	head := l.raw("t").MetadataLocation()
	if _, err := e.tbl.Purge(l.ctx, e.purgeRequest(c)); !errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if _, err := l.eraser("t", "r2", 5).prepare().withFence(e.fence).tryCommit(); !errors.Is(err, warehouse.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if l.raw("t").MetadataLocation() != head {
		t.Error("the table moved")
	}
}

func (e *eraser) withFence(f func(context.Context) error) *eraser { e.fence = f; return e }

func (e *eraser) tryCommit() (*warehouse.Committed, error) { return e.tbl.Commit(e.l.ctx, e.request()) }

func TestPurgeAfterSomebodyElseExpiredTheCommit(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		l.create("t", version, deleteSchema(), nil)
		l.append("t", rows(0, 20, 10)...)
		e := l.eraser("t", "r1", 4).prepare()
		e.grace = time.Hour
		c := e.commit()
		l.append("t", rows(20, 5, 1000)...)
		l.append("t", rows(30, 5, 1000)...)
		_, _, err := l.cat.CommitTable(l.ctx, table.Identifier{"ns", "t"}, nil, []table.Update{
			table.NewRemoveSnapshotsUpdate([]int64{c.After.SnapshotID}, false)})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := e.purge(c)
		if len(p.Blockers) > 0 {
			t.Errorf("blockers %v", p.Blockers)
		}
		l.wantRows("t", append(rowsOf(0, 20, 10, 4), append(rowsOf(20, 5, 1000), rowsOf(30, 5, 1000)...)...))
		if l.raw("t").Metadata().SnapshotByID(c.Before.SnapshotID) != nil {
			t.Error("the snapshot before the run is still there")
		}
		if left := l.unreachable("t"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestPurgeOfARunOnAnEmptyTableDoesNothing(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		l.create("t", version, deleteSchema(), nil)
		e := l.eraser("t", "r1", 4).prepare()
		c := e.commit()
		if p, removed := e.purge(c); len(removed) > 0 || len(p.Blockers) > 0 {
			t.Errorf("purged %+v", p)
		}
		l.append("t", rows(0, 20, 10)...)
		if p, removed := e.purge(c); len(removed) > 0 || len(p.SnapshotsExpired) > 0 {
			t.Errorf("purged %+v", p)
		}
		l.wantRows("t", rowsOf(0, 20, 10))
	})
}
