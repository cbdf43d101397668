package iceberg

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	icebergo "github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// deleteSchema numbers its rows, so that a scan tells which ones it hides.
func deleteSchema() *icebergo.Schema {
	return icebergo.NewSchema(0,
		icebergo.NestedField{ID: 1, Name: "rn", Type: icebergo.PrimitiveTypes.Int64, Required: true},
		icebergo.NestedField{ID: 2, Name: "id", Type: icebergo.PrimitiveTypes.Int32},
		icebergo.NestedField{ID: 3, Name: "s", Type: icebergo.PrimitiveTypes.String},
		icebergo.NestedField{ID: 4, Name: "f", Type: icebergo.PrimitiveTypes.Float64},
		icebergo.NestedField{ID: 5, Name: "n", Type: icebergo.DecimalTypeOf(9, 2)},
	)
}

func (l *planLake) deleteWhere(name string, filter icebergo.BooleanExpression) {
	l.t.Helper()
	tx := l.raw(name).NewTransaction()
	if err := tx.Delete(l.ctx, filter, nil); err != nil {
		l.t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		l.t.Fatal(err)
	}
}

func (l *planLake) deleteEqual(name string, ids []int, rows ...string) {
	l.t.Helper()
	tbl := l.raw(name)
	var fields []icebergo.NestedField
	for _, id := range ids {
		f, ok := tbl.Schema().FindFieldByID(id)
		if !ok {
			l.t.Fatalf("no field %d", id)
		}
		fields = append(fields, f)
	}
	schema, err := table.SchemaToArrowSchema(icebergo.NewSchema(0, fields...), nil, true, false)
	if err != nil {
		l.t.Fatal(err)
	}
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader("["+strings.Join(rows, ",")+"]"))
	if err != nil {
		l.t.Fatal(err)
	}
	tx := tbl.NewTransaction()
	var records iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) { yield(rec, nil) }
	if err := tx.CommitEqualityDeletes(l.ctx, ids, records, nil); err != nil {
		l.t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		l.t.Fatal(err)
	}
}

// everyTask lists each data file of the head as a task, with its delete files.
func (l *planLake) everyTask(tbl *Table) []warehouse.Task {
	l.t.Helper()
	raw, err := tbl.load(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	meta := raw.Metadata()
	snap := meta.CurrentSnapshot()
	if snap == nil {
		return nil
	}
	manifests, err := snap.Manifests(tbl.fs(l.ctx))
	if err != nil {
		l.t.Fatal(err)
	}
	deletes, err := tbl.indexDeletes(l.ctx, meta, manifests)
	if err != nil {
		l.t.Fatal(err)
	}
	var out []warehouse.Task
	for _, m := range manifests {
		if m.ManifestContent() != icebergo.ManifestContentData {
			continue
		}
		for e, err := range tbl.entries(l.ctx, m, icebergo.ManifestEntryProjection{}) {
			if err != nil {
				l.t.Fatal(err)
			}
			df := e.DataFile()
			out = append(out, warehouse.Task{Index: len(out), File: warehouse.File{
				Path: df.FilePath(), Rows: df.Count(), DataSequence: e.SequenceNum(), FirstRowID: df.FirstRowID(),
				Deletes: deletes.forFile(df, e.SequenceNum()).files,
			}})
		}
	}
	return out
}

// visible are the row numbers that a delete-aware scan of iceberg-go shows.
func (l *planLake) visible(name string) []int64 {
	l.t.Helper()
	rec, err := l.raw(name).Scan(table.WithSelectedFields("rn")).ToArrowTable(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	defer rec.Release()
	var out []int64
	for _, c := range rec.Column(0).Data().Chunks() {
		out = append(out, c.(*array.Int64).Int64Values()...)
	}
	slices.Sort(out)
	return out
}

// kept are the row numbers of the tasks' files that Deleted leaves.
func (l *planLake) kept(tbl *Table, tasks []warehouse.Task) []int64 {
	l.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var out []int64
	for _, task := range tasks {
		wg.Go(func() {
			deleted, err := tbl.Deleted(l.ctx, task)
			if err != nil {
				l.t.Error(err)
				return
			}
			rows := l.rowNumbers(tbl, task.File.Path)
			mu.Lock()
			defer mu.Unlock()
			for i, rn := range rows {
				if !deleted.Contains(uint64(i)) {
					out = append(out, rn)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(out)
	return out
}

func (l *planLake) rowNumbers(tbl *Table, path string) []int64 {
	f, err := openColumns(l.ctx, tbl.store, path)
	if err != nil {
		l.t.Error(err)
		return nil
	}
	defer f.Close()
	var out []int64
	err = f.eachTuple(l.ctx, []tupleColumn{{index: f.column(1, nil)}}, nil, func(_ int64, tuple []byte) error {
		v, _, _ := cutTupleBytes(tuple)
		var n int64
		for _, b := range v {
			n = n<<8 | int64(b)
		}
		out = append(out, n)
		return nil
	})
	if err != nil {
		l.t.Error(err)
	}
	return out
}

// deleteRow draws a row with values from small domains, NULLs among them.
func deleteRow(t *rapid.T, rn int) string {
	pick := func(name string, values ...string) string {
		return rapid.SampledFrom(append(values, "null")).Draw(t, name)
	}
	return fmt.Sprintf(`{"rn":%d,"id":%s,"s":%s,"f":%s,"n":%s}`, rn,
		pick("id", "1", "2", "3", "-4"), pick("s", `"a"`, `"b"`, `""`), pick("f", "0.5", "-1", "3"), pick("n", `"1.50"`, `"-2.00"`))
}

func TestDeletedHidesExactlyTheRowsThatAScanHides(t *testing.T) {
	l := newPlanLake(t)
	tables := 0
	fewer(t, 30, func(rt *rapid.T) {
		tables++
		name := fmt.Sprintf("t%d", tables)
		version := rapid.IntRange(2, 3).Draw(rt, "version")
		var spec *icebergo.PartitionSpec
		switch rapid.IntRange(0, 2).Draw(rt, "spec") {
		case 1:
			s := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "s", Transform: icebergo.IdentityTransform{}})
			spec = &s
		case 2:
			s := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "b", Transform: icebergo.BucketTransform{NumBuckets: 2}})
			spec = &s
		}
		l.create(name, version, deleteSchema(), spec, "write.delete.mode", "merge-on-read")
		rn := 0
		for range rapid.IntRange(2, 5).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "op") {
			case 0, 1:
				var rows []string
				for range rapid.IntRange(1, 12).Draw(rt, "rows") {
					rows = append(rows, deleteRow(rt, rn))
					rn++
				}
				l.append(name, rows...)
			case 2:
				if rn > 0 {
					n := rapid.Int64Range(0, int64(rn-1)).Draw(rt, "below")
					l.deleteWhere(name, icebergo.LessThan(icebergo.Reference("rn"), n))
				}
			case 3:
				if rn > 0 && (spec == nil || version == 2) {
					l.equalityStep(rt, name, spec)
				}
			}
		}
		tbl := l.open(name)
		tasks := l.everyTask(tbl)
		if got, want := l.kept(tbl, tasks), l.visible(name); !slices.Equal(got, want) {
			rt.Fatalf("kept %v, a scan shows %v", got, want)
		}
		tbl.deletes = newDeleteCache()
		tbl.deletes.fileLimit = 200 // too small to keep anything: chunks and filtered reads
		if got, want := l.kept(tbl, tasks), l.visible(name); !slices.Equal(got, want) {
			rt.Fatalf("without a cache: kept %v, a scan shows %v", got, want)
		}
	})
}

func (l *planLake) equalityStep(rt *rapid.T, name string, spec *icebergo.PartitionSpec) {
	cols := [][]int{{2}, {2, 3}, {3}, {5}, {2, 5}}
	if spec != nil { // the writer routes by the partition's source, so it has to be among the columns
		cols = [][]int{{2, 3}}
	}
	ids := rapid.SampledFrom(cols).Draw(rt, "ids")
	names := map[int][]string{2: {"1", "2", "null"}, 3: {`"a"`, `""`, "null"}, 5: {`"1.50"`, "null"}}
	field := map[int]string{2: "id", 3: "s", 5: "n"}
	var rows []string
	for range rapid.IntRange(1, 3).Draw(rt, "tuples") {
		var vals []string
		for _, id := range ids {
			vals = append(vals, fmt.Sprintf("%q:%s", field[id], rapid.SampledFrom(names[id]).Draw(rt, "value")))
		}
		rows = append(rows, "{"+strings.Join(vals, ",")+"}")
	}
	l.deleteEqual(name, ids, rows...)
}

func TestDeletionVectorGivesItsPositions(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 3, deleteSchema(), nil)
	var rows []string
	for i := range 100 {
		rows = append(rows, fmt.Sprintf(`{"rn":%d,"id":%d}`, i, i%5))
	}
	l.append("t", rows...)
	l.addVector("t", 3, 5, 99)
	tbl := l.open("t")
	tasks := l.everyTask(tbl)
	got, err := tbl.Deleted(l.ctx, tasks[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := roaring64.BitmapOf(3, 5, 99); !got.Equals(want) {
		t.Errorf("got %v, want %v", got.ToArray(), want.ToArray())
	}
	for _, change := range []func(*warehouse.DeleteFile){
		func(d *warehouse.DeleteFile) { d.ContentOffset++ },
		func(d *warehouse.DeleteFile) { d.ContentSize-- },
		func(d *warehouse.DeleteFile) { d.ContentSize = 1 << 40 },
		func(d *warehouse.DeleteFile) { d.ContentSize = 0 },
	} {
		task := tasks[0]
		task.File.Deletes = slices.Clone(task.File.Deletes)
		change(&task.File.Deletes[0])
		if _, err := tbl.Deleted(l.ctx, task); err == nil {
			t.Error("a damaged reference to a deletion vector is read without an error")
		}
	}
}

// addVector commits a deletion vector for the table's only data file.
func (l *planLake) addVector(name string, positions ...int64) {
	l.t.Helper()
	tbl := l.raw(name)
	tasks, err := tbl.Scan().PlanFiles(l.ctx)
	if err != nil || len(tasks) != 1 {
		l.t.Fatalf("%d files, err %v", len(tasks), err)
	}
	fs, err := tbl.FS(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	df := tasks[0].File
	w := dv.NewDVWriter(fs.(iceio.WriteFileIO), func(id int32) *icebergo.PartitionSpec { return tbl.Metadata().PartitionSpecByID(int(id)) })
	if err := w.Add(df.FilePath(), positions, df.SpecID(), df.Partition()); err != nil {
		l.t.Fatal(err)
	}
	files, err := w.Flush(context.Background(), tbl.Location()+"/data/dv.puffin")
	if err != nil {
		l.t.Fatal(err)
	}
	tx := tbl.NewTransaction()
	if err := tx.NewRowDelta(nil).AddDeletes(files...).Commit(l.ctx); err != nil {
		l.t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		l.t.Fatal(err)
	}
}

func TestPositionDeletesAreFoundByBoundsCutToAPrefix(t *testing.T) {
	x := &deleteIndex{byPath: map[string][]indexedDelete{}, byTuple: map[string][]indexedDelete{}}
	full := "/wh/ns/t/data/00001.parquet"
	x.byPath[full[:16]] = []indexedDelete{{file: warehouse.DeleteFile{Path: "cut", Sequence: 5}}}
	x.byPath[full] = []indexedDelete{{file: warehouse.DeleteFile{Path: "whole", Sequence: 5}}}
	x.seal()
	df := planDataFile(t, full)
	for seq, want := range map[int64]int{4: 2, 5: 2, 6: 0} {
		if got := x.forFile(df, seq).files; len(got) != want {
			t.Errorf("sequence %d: %d delete files, want %d", seq, len(got), want)
		}
	}
	if got := x.forFile(planDataFile(t, "/wh/ns/t/data/00002.parquet"), 1).files; len(got) != 1 {
		t.Errorf("another file of the prefix: %d delete files, want 1", len(got))
	}
}

func planDataFile(t *testing.T, path string) icebergo.DataFile {
	t.Helper()
	b, err := icebergo.NewDataFileBuilder(*icebergo.UnpartitionedSpec, icebergo.EntryContentData, path, icebergo.ParquetFile, nil, nil, nil, 10, 100)
	if err != nil {
		t.Fatal(err)
	}
	return b.Build()
}

// A delete file of another partition must not reach a data file through a set
// that both share because of a global delete file.
func TestEqualityDeletesOfAnotherPartitionStayThere(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", `{"rn":0,"id":1}`, `{"rn":1,"id":2}`, `{"rn":2,"id":3}`)
	l.append("t", `{"rn":3,"id":1}`, `{"rn":4,"id":2}`, `{"rn":5,"id":3}`)
	for _, id := range []string{"1", "2", "3"} {
		l.deleteEqual("t", []int{2}, `{"id":`+id+`}`)
	}
	tbl := l.open("t")
	tasks := l.everyTask(tbl)
	if len(tasks) != 2 || len(tasks[0].File.Deletes) != 3 {
		t.Fatalf("unexpected tasks %+v", tasks)
	}
	global, a, b := tasks[0].File.Deletes[0], tasks[0].File.Deletes[1], tasks[0].File.Deletes[2]
	tasks[0].File.Deletes = []warehouse.DeleteFile{global, a}
	tasks[1].File.Deletes = []warehouse.DeleteFile{global, b}
	for range 3 {
		for i, want := range []*roaring64.Bitmap{roaring64.BitmapOf(0, 1), roaring64.BitmapOf(0, 2)} {
			got, err := tbl.Deleted(l.ctx, tasks[i])
			if err != nil || !got.Equals(want) {
				t.Fatalf("task %d: %v %v, want %v", i, got.ToArray(), err, want.ToArray())
			}
		}
	}
}

func TestEqualityDeletesOfTheSameSequenceDoNotApply(t *testing.T) {
	x := &deleteIndex{global: []indexedDelete{{file: warehouse.DeleteFile{Path: "e", Kind: deleteEquality, Sequence: 5}}}}
	df := planDataFile(t, "/wh/ns/t/data/1.parquet")
	for seq, want := range map[int64]int{4: 1, 5: 0, 6: 0} {
		if got := x.forFile(df, seq).files; len(got) != want {
			t.Errorf("data sequence %d: %d delete files, want %d", seq, len(got), want)
		}
	}
}

func TestEqualityDeletesFollowSchemaEvolution(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	evolve := func(change func(*table.UpdateSchema)) {
		t.Helper()
		tx := l.raw("t").NewTransaction()
		us := tx.UpdateSchema(true, true)
		change(us)
		if err := us.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(l.ctx); err != nil {
			t.Fatal(err)
		}
	}
	// The library's own scan cannot tell: it compares an int with a long as
	// different values, and fails on a file that lacks the column.
	check := func(what string, want ...int64) {
		t.Helper()
		tbl := l.open("t")
		if got := l.kept(tbl, l.everyTask(tbl)); !slices.Equal(got, want) {
			t.Errorf("%s: kept %v, want %v", what, got, want)
		}
	}
	l.append("t", `{"rn":0,"id":1,"s":"a"}`, `{"rn":1,"id":2,"s":"b"}`, `{"rn":2,"s":"c"}`)
	l.deleteEqual("t", []int{3}, `{"s":"b"}`)
	check("before", 0, 2)
	evolve(func(u *table.UpdateSchema) {
		u.UpdateColumn([]string{"id"}, table.ColumnUpdate{FieldType: icebergo.Optional[icebergo.Type]{Valid: true, Val: icebergo.PrimitiveTypes.Int64}})
		u.AddColumn([]string{"extra"}, icebergo.PrimitiveTypes.String, "", false, nil)
		u.RenameColumn([]string{"s"}, "name")
	})
	l.append("t", `{"rn":3,"id":1,"name":"a","extra":"x"}`, `{"rn":4,"id":8589934592,"name":"b"}`)
	l.deleteEqual("t", []int{2}, `{"id":1}`)
	check("int became long", 2, 4)
	extra := l.raw("t").Schema().HighestFieldID()
	l.append("t", `{"rn":5,"extra":"y","name":"e"}`)
	l.deleteEqual("t", []int{extra}, `{"extra":"z"}`)
	check("a column that old files lack", 2, 4, 5)
	l.deleteEqual("t", []int{extra, 3}, `{"extra":null,"name":"c"}`)
	check("NULL equals a missing column", 4, 5)
}

func TestPositionDeletesOfAnotherFormatExcludeTheirDataFiles(t *testing.T) {
	x := &deleteIndex{byPath: map[string][]indexedDelete{"/x": {{file: warehouse.DeleteFile{Kind: deletePosition, Sequence: 5}, bad: "no"}}}}
	x.seal()
	if got := x.forFile(planDataFile(t, "/x"), 5); got.bad == "" {
		t.Error("a data file whose deletes cannot be read is planned")
	}
	if got := x.forFile(planDataFile(t, "/x"), 6); got.bad != "" {
		t.Error("a delete file that does not apply excludes a data file")
	}
}

// Files that were added to a table carry no field ids; the name mapping
// gives them, also after a rename.
func TestFilesWithoutFieldIDsAreReadByTheNameMapping(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "rn", Type: arrow.PrimitiveTypes.Int64},
		{Name: "id", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"rn":0,"id":1,"s":"a"},{"rn":1,"id":2,"s":"b"},{"rn":2,"id":1,"s":"c"}]`))
	if err != nil {
		t.Fatal(err)
	}
	at := array.NewTableFromRecords(schema, []arrow.RecordBatch{rec})
	defer at.Release()
	var buf bytes.Buffer
	if err := pqarrow.WriteTable(at, &buf, 1024, nil, pqarrow.DefaultWriterProps()); err != nil {
		t.Fatal(err)
	}
	path := l.raw("t").Location() + "/data/added.parquet"
	if err := storage.WriteAll(l.ctx, l.store, path, buf.Bytes(), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tx := l.raw("t").NewTransaction()
	if err := tx.AddFiles(l.ctx, []string{path}, nil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		t.Fatal(err)
	}
	tx = l.raw("t").NewTransaction()
	if err := tx.UpdateSchema(true, true).RenameColumn([]string{"id"}, "user_id").Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.deleteEqual("t", []int{2}, `{"user_id":2}`)
	tbl := l.open("t")
	f, err := openColumns(l.ctx, l.store, path)
	if err != nil || f.ids {
		t.Fatalf("the file has field ids (%v)", err)
	}
	_ = f.Close()
	sel := selection(int64Keys(t, "1"), "user_id")
	bound, err := tbl.Bind(l.ctx, sel)
	if err != nil || !slices.ContainsFunc(bound[0].Columns[0].Names, func(p []string) bool { return slices.Equal(p, []string{"id"}) }) {
		t.Errorf("the old name is not among %v (%v)", bound, err)
	}
	_, tasks, _ := l.plan(tbl, sel)
	if len(tasks) != 1 {
		t.Fatalf("%d tasks", len(tasks))
	}
	deleted, err := tbl.Deleted(l.ctx, tasks[0])
	if err != nil || !deleted.Equals(roaring64.BitmapOf(1)) {
		t.Errorf("deleted %v, %v", deleted.ToArray(), err)
	}
	for key, want := range map[string]bool{"1": false, "2": false, "3": true} {
		sel := selection(int64Keys(t, key), "user_id")
		x := l.openIndex(tbl, sel)
		if err := x.Add(l.ctx, path, tasks[0].File.Size); err != nil {
			t.Fatal(err)
		}
		if got := x.Excludes(path, tasks[0].File.Size, 0); got != want {
			t.Errorf("key %s: excluded %v, want %v", key, got, want)
		}
	}
}
