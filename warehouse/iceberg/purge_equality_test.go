package iceberg

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/warehouse"
)

// equalityIDs lists the ids that the equality delete files of every snapshot name.
func (l *planLake) equalityIDs(name string) []int32 {
	l.t.Helper()
	seen := map[string]bool{}
	var out []int32
	for _, s := range l.raw(name).Metadata().Snapshots() {
		for _, e := range l.entriesAt(name, &s) {
			df := e.DataFile()
			if e.Status() == icebergo.EntryStatusDELETED || df.ContentType() != icebergo.EntryContentEqDeletes || seen[df.FilePath()] {
				continue
			}
			seen[df.FilePath()] = true
			rec, err := readParquet(l.ctx, l.store, df.FilePath())
			if err != nil {
				l.t.Fatal(err)
			}
			if rec.NumRows() != df.Count() {
				l.t.Errorf("an equality delete file has %d rows, its entry says %d", rec.NumRows(), df.Count())
			}
			out = append(out, rec.Column(0).(*array.Int32).Int32Values()...)
		}
	}
	slices.Sort(out)
	return out
}

func TestPurgeTakesKeysOutOfEqualityDeletes(t *testing.T) {
	for version := 2; version <= 3; version++ {
		for _, parted := range []bool{false, true} {
			if parted && version == 3 {
				continue // the library's equality delete writer does not do these
			}
			t.Run(fmt.Sprintf("v%d partitioned %v", version, parted), func(t *testing.T) {
				l := newPlanLake(t)
				ids, row := []int{2}, `{"id":%d}`
				var spec *icebergo.PartitionSpec
				if parted {
					p := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "s", Transform: icebergo.IdentityTransform{}})
					spec, ids, row = &p, []int{2, 3}, `{"id":%d,"s":"s0"}`
				}
				l.create("t", version, deleteSchema(), spec)
				l.append("t", rows(0, 30, 10)...)
				l.append("t", rows(100, 30, 1000)...)
				l.deleteEqual("t", ids, fmt.Sprintf(row, 6), fmt.Sprintf(row, 105), fmt.Sprintf(row, 777))
				l.deleteEqual("t", ids, fmt.Sprintf(row, 6))
				want := slices.DeleteFunc(l.visible("t"), func(rn int64) bool { return rn%10 == 6 && rn < 100 })
				e := l.eraser("t", "r1", 6).prepare()
				c := e.commit()
				l.wantRows("t", want)
				l.append("t", rows(200, 3, 1000)...)
				want = append(want, 200, 201, 202)
				if !slices.Contains(l.equalityIDs("t"), 6) {
					t.Fatal("the commit left no key in equality deletes: nothing to show")
				}
				p, _ := e.purge(c)
				if got := l.equalityIDs("t"); !slices.Equal(got, []int32{105, 777}) {
					t.Errorf("equality deletes name %v, want 105 and 777", got)
				}
				l.wantRows("t", want)
				l.wantTotals("t")
				if len(p.Blockers) > 0 {
					t.Errorf("blockers %v", p.Blockers)
				}
				if left := l.unreachable("t"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				again, removed := e.purge(c)
				if len(again.SnapshotsExpired) > 0 || len(removed) > 0 {
					t.Errorf("a second purge did %+v", again)
				}
			})
		}
	}
}

func TestEqualityDeletesThatStillHideAKeyStay(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	l.deleteEqual("t", []int{2}, `{"id":6}`, `{"id":7}`)
	e := l.eraser("t", "r1", 6, 7).prepare()
	// One file is left as it is, as an unreadable one would be: the delete is
	// all that hides its rows of 6 and 7.
	e.results = e.results[:1]
	c := e.commit()
	if c.FilesReplaced != 1 {
		t.Fatalf("committed %+v", c)
	}
	want := rowsOf(0, 40, 10, 6, 7)
	l.wantRows("t", want)
	p, _ := e.purge(c)
	l.wantRows("t", want)
	if got := l.equalityIDs("t"); !slices.Contains(got, 6) || !slices.Contains(got, 7) {
		t.Errorf("equality deletes name %v", got)
	}
	if !slices.ContainsFunc(p.Blockers, func(b warehouse.Blocker) bool { return b.Type == "delete file" }) {
		t.Errorf("blockers %v", p.Blockers)
	}
}

func TestEqualityDeletesNewerThanTheCommitStay(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(100, 20, 1000)...)
	e := l.eraser("t", "r1", 6).prepare()
	c := e.commit()
	l.append("t", rows(20, 20, 10)...) // brings the key again, and its owner deletes it again
	l.deleteEqual("t", []int{2}, `{"id":6}`)
	want := append(rowsOf(0, 40, 10, 6), rowsOf(100, 20, 1000)...)
	l.wantRows("t", want)
	e.purge(c)
	l.wantRows("t", want)
	if got := l.equalityIDs("t"); !slices.Equal(got, []int32{6}) {
		t.Errorf("equality deletes name %v", got)
	}
}
