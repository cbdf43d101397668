package iceberg

import (
	"errors"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/warehouse"
)

func TestRestoreAddsErasedRowsAndUndoesNobody(t *testing.T) {
	eachVersion(t, func(t *testing.T, l *planLake, version int) {
		spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "s", Transform: icebergo.IdentityTransform{}})
		l.create("t", version, deleteSchema(), &spec)
		l.append("t", rows(0, 30, 10)...)
		l.append("t", rows(30, 30, 10)...)
		var ids map[int64]int64
		if version == 3 {
			ids = l.rowIDs("t")
		}
		e := l.eraser("t", "r1", 4, 7).prepare()
		e.grace = time.Hour
		c := e.commit()
		l.append("t", rows(100, 5, 1000)...)
		want := append(rowsOf(0, 60, 10), rowsOf(100, 5, 1000)...)
		if version == 2 {
			// Somebody deletes a person's rows meanwhile, erased ones among them.
			l.deleteEqual("t", []int{2, 3}, `{"id":7,"s":"s1"}`)
			want = want[:0]
			for _, rn := range append(rowsOf(0, 60, 10), rowsOf(100, 5, 1000)...) {
				if !(rn < 100 && rn%10 == 7 && rn%3 == 1) {
					want = append(want, rn)
				}
			}
		}
		req := warehouse.RestoreRequest{RunID: "r1", Committed: *c}
		for _, r := range e.results {
			if r.Status == warehouse.Clean {
				continue
			}
			if back, ok := e.erased(l.ctx, r); ok {
				req.Files = append(req.Files, back)
			}
		}
		done, err := e.tbl.Restore(l.ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		l.wantRows("t", want)
		l.wantTotals("t")
		if done.Adopted || done.Before.SnapshotID == done.After.SnapshotID {
			t.Errorf("restored %+v", done)
		}
		again, err := e.tbl.Restore(l.ctx, req)
		if err != nil || !again.Adopted || again.After.SnapshotID != done.After.SnapshotID {
			t.Errorf("a second restore: %+v, err %v", again, err)
		}
		l.wantRows("t", want)
		if version == 3 {
			now := l.rowIDs("t")
			for rn, id := range ids {
				if now[rn] != id {
					t.Errorf("row %d had _row_id %d and has %d now", rn, id, now[rn])
				}
			}
		}
	})
}

func TestRestoreAfterThePurgeIsRefused(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	back, _ := e.erased(l.ctx, e.results[0])
	e.purge(c)
	_, err := e.tbl.Restore(l.ctx, warehouse.RestoreRequest{RunID: "r1", Committed: *c, Files: []warehouse.Result{back}})
	if !errors.Is(err, warehouse.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	l.wantRows("t", rowsOf(0, 20, 10, 4))
}
