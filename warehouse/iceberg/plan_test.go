package iceberg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

func int64Keys(t *testing.T, keys ...string) *keyset.Set {
	return planKeys(t, keyset.Schema{part(t, "int64")}, keys...)
}

func idRow(id int, more ...string) string {
	return fmt.Sprintf(`{"id":%d%s}`, id, strings.Join(append([]string{""}, more...), ","))
}

func TestPlanOfAnEmptyTableHasNoTasks(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	plan, tasks, live := l.plan(l.open("t"), selection(int64Keys(t, "1"), "id"))
	if len(tasks)+len(live) != 0 || plan.Tasks != 0 || plan.Description.SnapshotID != 0 || plan.Description.Name != "lake.ns.t" {
		t.Errorf("%+v", plan)
	}
}

func TestPlanSurvivesRenamesAndPartitionEvolution(t *testing.T) {
	l := newPlanLake(t)
	spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "id_b", Transform: icebergo.BucketTransform{NumBuckets: 8}})
	l.create("t", 2, planSchema(), &spec)
	l.append("t", idRow(1), idRow(2), idRow(3), idRow(4), idRow(5), idRow(6))
	tx := l.raw("t").NewTransaction()
	if err := tx.UpdateSchema(true, true).RenameColumn([]string{"id"}, "user_id").Commit(); err != nil {
		t.Fatal(err)
	}
	if err := tx.UpdateSpec(true).RemoveField("id_b").AddField("user_id", icebergo.TruncateTransform{Width: 100}, "tr").Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.append("t", `{"user_id":1}`, `{"user_id":250}`)
	plan, tasks, live := l.plan(l.open("t"), selection(int64Keys(t, "1"), "user_id"))
	if len(tasks) != 2 || len(live) < 4 {
		t.Errorf("%d tasks of %d files, want one of each spec", len(tasks), len(live))
	}
	specs := map[int32]bool{}
	for i, task := range tasks {
		specs[task.File.SpecID] = true
		if task.Index != i || task.Target != "lake.ns.t" || task.File.Format != "parquet" || task.SchemaID != l.raw("t").Schema().ID {
			t.Errorf("task %+v", task)
		}
	}
	if len(specs) != 2 || !plan.Description.KeyPartitioned {
		t.Errorf("specs %v, key partitioned %v", specs, plan.Description.KeyPartitioned)
	}
	if len(plan.Skipped) != 1 || plan.Skipped[0].Reason != reasonPartition {
		t.Errorf("skipped %+v", plan.Skipped)
	}
}

func TestFirstRowIDsAreInheritedInOrder(t *testing.T) {
	l := newPlanLake(t)
	spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "id", Transform: icebergo.IdentityTransform{}})
	l.create("t", 3, planSchema(), &spec)
	l.append("t", idRow(1), idRow(1), idRow(2), idRow(3))
	l.append("t", idRow(2), idRow(4))
	_, tasks, _ := l.plan(l.open("t"), selection(int64Keys(t, "1", "2", "3", "4"), "id"))
	type span struct{ from, to int64 }
	var spans []span
	for _, task := range tasks {
		if task.File.FirstRowID == nil {
			t.Fatal("a data file of a version 3 table has no first row id")
		}
		spans = append(spans, span{*task.File.FirstRowID, *task.File.FirstRowID + task.File.Rows})
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	at := int64(0)
	for _, s := range spans {
		if s.from != at {
			t.Errorf("row ids %v leave a gap or overlap", spans)
		}
		at = s.to
	}
	if at != l.raw("t").Metadata().NextRowID() {
		t.Errorf("row ids end at %d, the table says %d", at, l.raw("t").Metadata().NextRowID())
	}
	// The library's own planner says the same.
	files, err := l.raw("t").Scan().PlanFiles(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		i := slices.IndexFunc(tasks, func(task warehouse.Task) bool { return task.File.Path == f.File.FilePath() })
		if i < 0 || *tasks[i].File.FirstRowID != *f.FirstRowID || tasks[i].File.DataSequence != *f.DataSequenceNumber {
			t.Errorf("file of first row id %d: task %d", *f.FirstRowID, i)
		}
	}
}

func TestTimeRangeSkipsOnlyWhatIsProvenOutside(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	l.append("t", idRow(1, `"ts":"2024-01-01T00:00:00"`, `"day":"2024-01-01"`), idRow(2, `"ts":"2024-01-31T23:59:59.999999"`, `"day":"2024-01-31"`))
	l.append("t", idRow(1, `"ts":"2024-02-01T00:00:00"`, `"day":"2024-02-01"`))
	l.append("t", idRow(1, `"ts":"2023-01-01T00:00:00"`, `"day":"2023-01-01"`), idRow(2)) // a row without a time
	l.append("t", idRow(1))
	tbl := l.open("t")
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		column       string
		since, until time.Time
		tasks        int
	}{
		{"ts", time.Time{}, time.Time{}, 4},
		{"ts", at("2024-01-31T23:59:59.999999Z"), time.Time{}, 4},
		{"ts", at("2024-02-01T00:00:00Z"), time.Time{}, 3},
		{"ts", time.Time{}, at("2024-02-01T00:00:00Z"), 3},
		{"ts", time.Time{}, at("2024-02-01T00:00:00.0000005Z"), 4},
		{"ts", at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"), 2},
		{"day", at("2024-02-01T12:00:00Z"), time.Time{}, 3},
		{"day", time.Time{}, at("2024-02-01T00:00:00Z"), 3},
		{"day", time.Time{}, at("2024-02-01T00:00:01Z"), 4},
	} {
		sel := selection(int64Keys(t, "1"), "id")
		sel.Time = &warehouse.TimeRange{Column: c.column, Since: c.since, Until: c.until}
		plan, tasks, live := l.plan(tbl, sel)
		if len(tasks) != c.tasks || len(live) != 4 {
			t.Errorf("%s [%s, %s): %d tasks, want %d", c.column, c.since, c.until, len(tasks), c.tasks)
		}
		if left := 4 - c.tasks; left > 0 {
			if len(plan.Skipped) != 1 || plan.Skipped[0].Reason != reasonTime || plan.Skipped[0].Files != int64(left) || len(plan.Excluded) != 1 || !plan.Excluded[0].Declared {
				t.Errorf("%s: %+v %+v", c.column, plan.Skipped, plan.Excluded)
			}
		}
	}
	for col, want := range map[string]error{"nope": warehouse.ErrNotFound, "id": warehouse.ErrType, "tags.element": warehouse.ErrType} {
		sel := selection(int64Keys(t, "1"), "id")
		sel.Time = &warehouse.TimeRange{Column: col, Since: at("2024-01-01T00:00:00Z")}
		if _, err := tbl.Plan(l.ctx, sel, nil, nil); !errors.Is(err, want) {
			t.Errorf("time column %s: %v, want %v", col, err, want)
		}
	}
}

func TestMissingMatchColumnIsAnErrorUnlessListed(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	l.append("t", idRow(1))
	tbl := l.open("t")
	sel := selection(int64Keys(t, "1"), "user.id")
	if _, err := tbl.Plan(l.ctx, sel, nil, nil); !errors.Is(err, warehouse.ErrNotFound) {
		t.Errorf("plan: %v, want ErrNotFound", err)
	}
	if err := tbl.Check(l.ctx, sel); !errors.Is(err, warehouse.ErrNotFound) {
		t.Errorf("check: %v, want ErrNotFound", err)
	}
	sel.MissingColumn = "list"
	plan, err := tbl.Plan(l.ctx, sel, nil, nil)
	if err != nil || len(plan.Excluded) != 1 || !plan.Excluded[0].Declared || plan.Tasks != 0 {
		t.Errorf("%+v, %v", plan, err)
	}
	if err := tbl.Check(l.ctx, sel); err != nil {
		t.Error(err)
	}
}

func TestBranchesAndTagsAreReported(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	l.append("t", idRow(1))
	first := l.raw("t").CurrentSnapshot().SnapshotID
	l.append("t", idRow(2))
	for name, kind := range map[string]table.RefType{"audit": table.BranchRef, "v1": table.TagRef} {
		u := table.NewSetSnapshotRefUpdate(name, first, kind, -1, -1, -1)
		if _, _, err := l.cat.CommitTable(l.ctx, table.Identifier{"ns", "t"}, nil, []table.Update{u}); err != nil {
			t.Fatal(err)
		}
	}
	plan, _, _ := l.plan(l.open("t"), selection(int64Keys(t, "1"), "id"))
	if len(plan.Blockers) != 2 || plan.Blockers[0].Ref != "audit" || plan.Blockers[0].Type != "branch" || plan.Blockers[1].SnapshotID != first {
		t.Errorf("%+v", plan.Blockers)
	}
	if d := plan.Description; len(d.Refs) != 3 || len(d.MetadataSHA256) != 64 || d.UUID == "" {
		t.Errorf("%+v", d)
	}
}

func TestUnreadableManifestsAreErrorsWithoutPaths(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	l.append("t", idRow(1))
	tbl := l.open("t")
	raw := l.raw("t")
	manifests, err := raw.CurrentSnapshot().Manifests(tbl.fs(l.ctx))
	if err != nil {
		t.Fatal(err)
	}
	sel := selection(int64Keys(t, "1"), "id")
	for _, path := range []string{manifests[0].FilePath(), raw.CurrentSnapshot().ManifestList} {
		data, err := storage.ReadAll(l.ctx, l.store, path)
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{"cut": data[:len(data)-20], "empty": {}, "garbage": []byte("not avro at all, not at all"), "gone": nil} {
			if bad == nil {
				err = l.store.Remove(l.ctx, path)
			} else {
				err = storage.WriteAll(l.ctx, l.store, path, bad, storage.CreateOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err := tbl.Plan(l.ctx, sel, func(warehouse.Task) error { return nil }, func(string) error { return nil })
			if err == nil {
				t.Errorf("%s: planned without an error", name)
			} else if strings.Contains(err.Error(), strings.TrimSuffix(path[strings.LastIndex(path, "/")+1:], ".avro")) {
				t.Errorf("%s: the error holds a path: %v", name, err)
			}
		}
		if err := storage.WriteAll(l.ctx, l.store, path, data, storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFailingVisitorStopsThePlan(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	for i := range 5 {
		l.append("t", idRow(i))
	}
	stop := errors.New("stop")
	_, err := l.open("t").Plan(l.ctx, selection(int64Keys(t, "0", "4"), "id"), func(warehouse.Task) error { return stop }, func(string) error { return nil })
	if !errors.Is(err, stop) {
		t.Errorf("%v, want the visitor's error", err)
	}
}

func TestOtherFormatsAreExcludedOnlyWhenTheyMayHoldAKey(t *testing.T) {
	meta := planMetadata(t, planSchema(), nil)
	tbl := &Table{name: "lake.ns.t", store: storage.New(nil), deletes: newDeleteCache()}
	p, err := tbl.newPlanner(meta, selection(int64Keys(t, "5"), "id"))
	if err != nil {
		t.Fatal(err)
	}
	p.deletes = newDeleteIndex(meta)
	long := func(v byte) []byte { return []byte{v, 0, 0, 0, 0, 0, 0, 0} }
	for _, c := range []struct {
		format   icebergo.FileFormat
		lo, hi   byte
		key      []byte
		excluded bool
		reason   string
	}{
		{icebergo.OrcFile, 1, 9, nil, true, ""},
		{icebergo.AvroFile, 1, 9, nil, true, ""},
		{icebergo.OrcFile, 6, 9, nil, false, reasonBounds},
		{icebergo.ParquetFile, 1, 9, []byte("k"), true, ""},
		{icebergo.ParquetFile, 1, 9, nil, false, ""},
	} {
		b, err := icebergo.NewDataFileBuilder(*icebergo.UnpartitionedSpec, icebergo.EntryContentData, "/x", c.format, nil, nil, nil, 10, 100)
		if err != nil {
			t.Fatal(err)
		}
		b.LowerBoundValues(map[int][]byte{1: long(c.lo)}).UpperBoundValues(map[int][]byte{1: long(c.hi)})
		if c.key != nil {
			b.KeyMetadata(c.key)
		}
		id := int64(1)
		f := p.decide(icebergo.NewManifestEntryBuilder(icebergo.EntryStatusADDED, &id, b.Build()).SequenceNum(1).Build(), p.specs[0], false)
		if (f.excluded != "") != c.excluded || f.reason != c.reason {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

func TestUnsupportedTablesAreRefusedAsAWhole(t *testing.T) {
	l := newPlanLake(t)
	l.create("enc", 2, planSchema(), nil, "encryption.key-id", "k1")
	if _, err := Open(l.ctx, l.cat, table.Identifier{"ns", "enc"}, l.store); !errors.Is(err, warehouse.ErrUnsupported) {
		t.Errorf("encrypted: %v", err)
	}
	if _, err := Open(l.ctx, l.cat, table.Identifier{"ns", "nope"}, l.store); !errors.Is(err, warehouse.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	l.create("a", 2, planSchema(), nil)
	base := l.raw("a").Location()
	if _, err := l.cat.CreateTable(l.ctx, table.Identifier{"ns", "inside"}, planSchema(), catalog.WithLocation(base+"/sub")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.open("a").Plan(l.ctx, selection(int64Keys(t, "1"), "id"), nil, nil); !errors.Is(err, warehouse.ErrUnsupported) || !strings.Contains(err.Error(), "lake.ns.inside") {
		t.Errorf("overlapping location: %v", err)
	}
}

func TestOverlapIsDecidedByFoldersNotByPrefixes(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"s3://b/wh/t", "s3://b/wh/t2", false},
		{"s3://b/wh/t", "s3a://b/wh/t/", true},
		{"s3://b/wh/t", "s3://b/wh/t/sub", true},
		{"s3://b/wh/t/sub", "s3://b/wh/t", true},
		{"file:///wh/t", "/wh/t", true},
		{"file:/wh/t", "/wh/t", true},
		{"gs://b/wh/t", "s3://b/wh/t", false},
	} {
		if got := overlaps(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %v", c.a, c.b, got)
		}
	}
}

func TestCheckWriteLeavesNothingBehind(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	tbl := l.open("t")
	objects := func() (n int) {
		for _, err := range l.store.List(l.ctx, l.raw("t").Location()) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	before := objects()
	if err := tbl.CheckWrite(l.ctx); err != nil {
		t.Error(err)
	}
	if objects() != before {
		t.Error("a probe object is left behind")
	}
	tbl.store = storage.ReadOnly(l.store)
	if err := tbl.CheckWrite(l.ctx); err == nil {
		t.Error("a store that cannot be written passes")
	}
	if err := tbl.Check(l.ctx, selection(int64Keys(t, "1"), "id")); err != nil {
		t.Errorf("a check writes: %v", err)
	}
}

func TestCheckResolvesWhatTheActionChanges(t *testing.T) {
	l := newPlanLake(t)
	spec := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "sid", Transform: icebergo.IdentityTransform{}})
	l.create("t", 2, planSchema(), &spec)
	tbl := l.open("t")
	for _, c := range []struct {
		action warehouse.Action
		want   error
	}{
		{warehouse.Action{Kind: "delete"}, nil},
		{warehouse.Action{Kind: "redact", Redact: map[string]string{"customer.mail": "x"}, Null: []string{"num"}}, nil},
		{warehouse.Action{Kind: "redact", Null: []string{"nope"}}, warehouse.ErrNotFound},
		{warehouse.Action{Kind: "redact", Null: []string{"customer", "tags"}}, nil},
		{warehouse.Action{Kind: "redact", Redact: map[string]string{"customer": "x"}}, warehouse.ErrAction},
		{warehouse.Action{Kind: "redact", Redact: map[string]string{"sid": "x"}}, warehouse.ErrAction},
		{warehouse.Action{Kind: "remove_element", Element: "tags"}, warehouse.ErrAction}, // the key lies elsewhere
		{warehouse.Action{Kind: "remove_element", Element: "id"}, warehouse.ErrAction},
		{warehouse.Action{Kind: "remove_element", Element: "nope"}, warehouse.ErrNotFound},
	} {
		sel := selection(int64Keys(t, "1"), "id")
		sel.Action = c.action
		if err := tbl.Check(l.ctx, sel); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.action, err, c.want)
		}
	}
}
