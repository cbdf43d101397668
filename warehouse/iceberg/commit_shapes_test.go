package iceberg

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/warehouse"
)

// mixManifests rewrites the head the way the Java writer leaves it: one
// manifest a content with live and DELETED entries side by side, the DELETED
// ones with all their bounds. remove says which files go.
func (l *planLake) mixManifests(name string, remove func(df icebergo.DataFile) bool) {
	l.t.Helper()
	tbl := l.open(name)
	raw, err := tbl.load(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	meta := raw.Metadata()
	a := tbl.newAuthor(meta, "java", "g0")
	a.base = metadataDir(meta) + "/java"
	rolls := map[icebergo.ManifestContent]*roll{}
	list, err := meta.CurrentSnapshot().Manifests(tbl.fs(l.ctx))
	if err != nil {
		l.t.Fatal(err)
	}
	d := draft{op: table.OpOverwrite}
	for _, m := range list {
		r := rolls[m.ManifestContent()]
		if r == nil {
			r = &roll{a: a, spec: int(m.PartitionSpecID()), content: m.ManifestContent()}
			rolls[m.ManifestContent()] = r
		}
		for e, err := range m.Entries(tbl.fs(l.ctx), true) {
			if err != nil {
				l.t.Fatal(err)
			}
			if remove(e.DataFile()) {
				err = r.put(l.ctx, func(w *manifestWriter) error { return w.Delete(e) })
				if e.DataFile().ContentType() == icebergo.EntryContentData {
					d.stats.removeData(e.DataFile().Count(), e.DataFile().FileSizeBytes())
				} else {
					d.stats.removeDelete(deleteEquality, e.DataFile().Count(), e.DataFile().FileSizeBytes())
				}
			} else {
				err = r.existing(l.ctx, e)
			}
			if err != nil {
				l.t.Fatal(err)
			}
		}
	}
	for _, r := range rolls {
		if err := r.close(); err != nil {
			l.t.Fatal(err)
		}
		d.manifests = append(d.manifests, r.done...)
	}
	l.commitDraft(a, raw, d)
}

func (l *planLake) commitDraft(a *author, raw *table.Table, d draft) {
	l.t.Helper()
	snap, err := a.writeList(l.ctx, raw.Metadata(), raw.CurrentSnapshot(), d)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := a.commit(l.ctx, raw, snap, nil, nil); err != nil {
		l.t.Fatal(err)
	}
}

// boundsOfTombstones counts DELETED entries that still tell of values.
func (l *planLake) boundsOfTombstones(name string, since int64) int {
	n := 0
	for _, s := range l.raw(name).Metadata().Snapshots() {
		if s.SequenceNumber < since {
			continue
		}
		for _, e := range l.entriesAt(name, &s) {
			if e.Status() == icebergo.EntryStatusDELETED && len(e.DataFile().LowerBoundValues()) > 0 {
				n++
			}
		}
	}
	return n
}

func mixedLake(t *testing.T) (*planLake, []int64) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	for i := range 4 {
		l.append("t", rows(20*i, 20, 10)...)
	}
	l.deleteEqual("t", []int{2}, `{"id":5}`)
	l.deleteEqual("t", []int{2}, `{"id":6}`)
	dels := 0
	l.mixManifests("t", func(df icebergo.DataFile) bool {
		if df.ContentType() != icebergo.EntryContentData {
			dels++
			return dels == 1
		}
		return df.LowerBoundValues()[1][0] == 0 // the file that starts with row 0
	})
	return l, l.visible("t")
}

func TestTombstonesOfOthersGoWithTheCommit(t *testing.T) {
	l, want := mixedLake(t)
	if l.boundsOfTombstones("t", 0) != 2 {
		t.Fatal("the fixture has no mixed manifests")
	}
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	if n := l.boundsOfTombstones("t", c.After.SequenceNumber); n > 0 {
		t.Errorf("%d DELETED entries with bounds are carried on", n)
	}
	want = slices.DeleteFunc(want, func(rn int64) bool { return rn%10 == 4 })
	l.wantRows("t", want)
	l.wantTotals("t")
	e.purge(c)
	l.wantRows("t", want)
	l.wantTotals("t")
	if n := l.boundsOfTombstones("t", 0); n > 0 {
		t.Errorf("%d DELETED entries with bounds after the purge", n)
	}
}

func TestPurgeCleansATableWhereNothingHadToBeErased(t *testing.T) {
	l, want := mixedLake(t)
	e := l.eraser("t", "r1", 999).prepare()
	c := e.commit()
	if !c.NoChange {
		t.Fatalf("committed %+v", c)
	}
	p, _ := e.purge(c)
	if p.TombstonesDropped != 2 {
		t.Errorf("purged %+v", p)
	}
	l.wantRows("t", want)
	l.wantTotals("t")
	l.wantNoTombstones("t")
	if left := l.unreachable("t"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// partitionsOf maps live file paths to their partition tuples.
func (l *planLake) partitionsOf(name string) map[string]string {
	out := map[string]string{}
	for _, e := range l.entriesOf(name) {
		if e.Status() != icebergo.EntryStatusDELETED {
			out[e.DataFile().FilePath()] = tupleKey(e.DataFile())
		}
	}
	return out
}

func TestPartitionValuesOutliveDroppedAndPromotedColumns(t *testing.T) {
	for version := 1; version <= 3; version++ {
		for what, change := range map[string]func(l *planLake){
			"promoted": func(l *planLake) {
				l.change("t", func(tx *table.Transaction) error {
					return tx.UpdateSchema(true, true).UpdateColumn([]string{"p"}, table.ColumnUpdate{FieldType: icebergo.Optional[icebergo.Type]{Val: icebergo.PrimitiveTypes.Int64, Valid: true}}).Commit()
				})
			},
			"dropped": func(l *planLake) {
				l.change("t", func(tx *table.Transaction) error { return tx.UpdateSpec(true).RemoveField("p").Commit() })
				l.change("t", func(tx *table.Transaction) error {
					return tx.UpdateSchema(true, true).DeleteColumn([]string{"p"}).Commit()
				})
			},
		} {
			t.Run(fmt.Sprintf("v%d %s", version, what), func(t *testing.T) {
				l := newPlanLake(t)
				schema := icebergo.NewSchema(0,
					icebergo.NestedField{ID: 1, Name: "rn", Type: icebergo.PrimitiveTypes.Int64, Required: true},
					icebergo.NestedField{ID: 2, Name: "id", Type: icebergo.PrimitiveTypes.Int32},
					icebergo.NestedField{ID: 3, Name: "p", Type: icebergo.PrimitiveTypes.Int32},
				)
				spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "p", Transform: icebergo.IdentityTransform{}})
				l.create("t", version, schema, &spec)
				var text []string
				for i := range 30 {
					text = append(text, fmt.Sprintf(`{"rn":%d,"id":%d,"p":%d}`, i, i%7, i%3))
				}
				l.append("t", text...)
				before := l.partitionsOf("t")
				change(l)
				e := l.eraser("t", "r1", 0).prepare() // rows 0, 7, 14, 21, 28: in every partition
				e.commit()
				l.wantRows("t", rowsOf(0, 30, 7, 0))
				after := l.partitionsOf("t")
				if d := cmp.Diff(values(before), values(after)); d != "" {
					t.Errorf("partitions: %s", d)
				}
				e.keys = map[int64]bool{1: true}
				l.eraser("t", "r2", 1).prepare().commit()
				l.wantRows("t", rowsOf(0, 30, 7, 0, 1))
				if d := cmp.Diff(values(before), values(l.partitionsOf("t"))); d != "" {
					t.Errorf("partitions after a second run: %s", d)
				}
			})
		}
	}
}

func values(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

func (l *planLake) change(name string, f func(tx *table.Transaction) error) {
	l.t.Helper()
	tx := l.raw(name).NewTransaction()
	if err := f(tx); err != nil {
		l.t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		l.t.Fatal(err)
	}
}

func TestManifestListsWithoutCountsAreRead(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 1, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	l.mixManifests("t", func(df icebergo.DataFile) bool { return false })
	tbl := l.open("t")
	raw, err := tbl.load(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	list, err := raw.CurrentSnapshot().Manifests(tbl.fs(l.ctx))
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range list {
		list[i] = icebergo.NewManifestFile(1, m.FilePath(), m.Length(), m.PartitionSpecID(), m.SnapshotID()).
			AddedFiles(-1).ExistingFiles(-1).DeletedFiles(-1).AddedRows(-1).ExistingRows(-1).DeletedRows(-1).Build()
	}
	a := tbl.newAuthor(raw.Metadata(), "old", "g0")
	l.commitDraft(a, raw, draft{op: table.OpReplace, manifests: list})
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	l.wantRows("t", rowsOf(0, 40, 10, 4))
	l.wantTotals("t")
	e.purge(c)
	l.wantRows("t", rowsOf(0, 40, 10, 4))
	l.wantTotals("t")
	if left := l.unreachable("t"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestADeletionVectorOfAFileThatIsGoneGoesToo(t *testing.T) {
	l := newPlanLake(t) // trap S8
	l.create("t", 3, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	var gone string
	for path := range l.partitionsOf("t") {
		gone = max(gone, path)
	}
	l.addVectorFor("t", gone, 0, 1)
	want := l.visible("t")
	l.mixManifests("t", func(df icebergo.DataFile) bool { return df.FilePath() == gone })
	want = slices.DeleteFunc(want, func(rn int64) bool { return !slices.Contains(l.visible("t"), rn) })
	done := l.eraser("t", "r1", 4).prepare().commit()
	if done.DeleteFilesRemoved != 1 {
		t.Errorf("%d delete files removed, want the dangling vector", done.DeleteFilesRemoved)
	}
	l.wantRows("t", slices.DeleteFunc(want, func(rn int64) bool { return rn%10 == 4 }))
	l.wantTotals("t")
}

func TestFilesOutsideTheTableAreLeftToTheirOwner(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	rec := l.records(l.raw("t"), rows(20, 20, 10)...)
	foreign := l.dir + "/elsewhere/part.parquet"
	if _, err := writeParquet(l.ctx, l.store, foreign, rec); err != nil {
		t.Fatal(err)
	}
	l.change("t", func(tx *table.Transaction) error {
		return tx.AddFiles(l.ctx, []string{foreign}, nil, false)
	})
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	l.wantRows("t", rowsOf(0, 40, 10, 4))
	p, _ := e.purge(c)
	if len(p.Blockers) != 1 || p.Blockers[0].Type != "files" {
		t.Errorf("blockers %+v", p.Blockers)
	}
	if _, err := l.store.Open(l.ctx, foreign); err != nil {
		t.Errorf("a file of another owner: %v", err)
	}
}

func TestLimitsStopBeforeTheSwap(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	req := e.request()
	var got warehouse.Totals
	req.Check = func(n warehouse.Totals) error { got = n; return fmt.Errorf("too much: %w", warehouse.ErrLimit) }
	head := l.raw("t").MetadataLocation()
	if _, err := e.tbl.Commit(l.ctx, req); err == nil || l.raw("t").MetadataLocation() != head {
		t.Errorf("err %v", err)
	}
	if got.Files != 1 || got.Rows != 20 || got.Erased != 2 || got.Bytes == 0 {
		t.Errorf("totals %+v", got)
	}
}

func TestResultsThatDoNotAddUpAreRefused(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	e := l.eraser("t", "r1", 4).prepare()
	good := e.results[0]
	for name, bad := range map[string]func(r *warehouse.Result){
		"row sum":        func(r *warehouse.Result) { r.Erased-- },
		"rows read":      func(r *warehouse.Result) { r.RowsIn--; r.Erased-- },
		"output rows":    func(r *warehouse.Result) { o := *r.Output; o.Rows--; r.Output = &o },
		"output size":    func(r *warehouse.Result) { o := *r.Output; o.Size--; r.Output = &o },
		"output missing": func(r *warehouse.Result) { o := *r.Output; o.Path += "x"; r.Output = &o },
		"no output":      func(r *warehouse.Result) { r.Output = nil },
		"dropped rows":   func(r *warehouse.Result) { r.Status = warehouse.Dropped },
	} {
		r := good
		bad(&r)
		e.results = []warehouse.Result{r}
		if _, err := e.tryCommit(); err == nil {
			t.Errorf("%s: committed", name)
		}
	}
	e.results = []warehouse.Result{good, good}
	if _, err := e.tryCommit(); err == nil {
		t.Error("two results of one file: committed")
	}
	l.wantRows("t", rowsOf(0, 20, 10))
}

func TestStatisticsFilesGoWithTheirSnapshots(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 20, 10)...)
	id := l.raw("t").CurrentSnapshot().SnapshotID
	path := l.raw("t").Location() + "/metadata/" + strconv.FormatInt(id, 10) + ".stats"
	if err := l.write(path, "theta sketch"); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.cat.CommitTable(l.ctx, table.Identifier{"ns", "t"}, nil, []table.Update{
		table.NewSetStatisticsUpdate(table.StatisticsFile{SnapshotID: id, StatisticsPath: path, FileSizeInBytes: 12, FileFooterSizeInBytes: 1}),
	})
	if err != nil {
		t.Fatal(err)
	}
	e := l.eraser("t", "r1", 4).prepare()
	c := e.commit()
	_, removed := e.purge(c)
	if !slices.ContainsFunc(removed, func(d warehouse.PhysicalDelete) bool { return d.Path == path && d.Kind == "statistics" }) {
		t.Error("the statistics file was not removed")
	}
	for range l.raw("t").Metadata().Statistics() {
		t.Error("the metadata still lists it")
	}
	if left := l.unreachable("t"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCommitAfterThePlannedSnapshotWasExpired(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil, "write.delete.mode", "merge-on-read")
	l.append("t", rows(0, 20, 10)...)
	l.append("t", rows(20, 20, 10)...)
	l.deleteWhere("t", icebergo.LessThan(icebergo.Reference("rn"), int64(2)))
	e := l.eraser("t", "r1", 4).prepare()
	l.append("t", rows(40, 20, 10)...)
	planned := e.plan.Description.SnapshotID
	_, _, err := l.cat.CommitTable(context.Background(), table.Identifier{"ns", "t"}, nil, []table.Update{
		table.NewRemoveSnapshotsUpdate([]int64{planned}, false)})
	if err != nil {
		t.Fatal(err)
	}
	done := e.commit()
	if done.RowsErased != 6 || len(done.Withdrawn) != 0 || len(e.rescans) != 1 || len(e.rescans[0]) != 1 {
		t.Errorf("%d rescans, committed %+v", len(e.rescans), done)
	}
	l.wantRows("t", rowsOf(2, 58, 10, 4))
	l.wantTotals("t")
}
