package iceberg

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	icebergo "github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// eraser is a small stand-in for a job: it erases rows by the value of "id"
// with the plainest possible rewriter.
type eraser struct {
	l    *planLake
	tbl  *Table
	run  string
	keys map[int64]bool

	plan    *warehouse.Plan
	tasks   []warehouse.Task
	live    []string
	results []warehouse.Result
	rescans [][]warehouse.Task
	onScan  func(tasks []warehouse.Task) // called at the start of each rescan
	grace   time.Duration
	fence   func(context.Context) error
}

func (l *planLake) eraser(name, run string, keys ...int64) *eraser {
	e := &eraser{l: l, tbl: l.open(name), run: run, keys: map[int64]bool{}}
	for _, k := range keys {
		e.keys[k] = true
	}
	return e
}

func (e *eraser) selection() warehouse.Selection {
	var text []string
	for k := range e.keys {
		text = append(text, strconv.FormatInt(k, 10))
	}
	return selection(planKeys(e.l.t, keyset.Schema{part(e.l.t, "int64")}, text...), "id")
}

// prepare plans and rewrites; what happens to the table after it is concurrent.
func (e *eraser) prepare() *eraser {
	e.l.t.Helper()
	e.plan, e.tasks, e.live = e.l.plan(e.tbl, e.selection())
	for _, task := range e.tasks {
		r, err := e.shard(e.l.ctx, task)
		if err != nil {
			e.l.t.Fatal(err)
		}
		e.results = append(e.results, r)
	}
	return e
}

func (e *eraser) request() warehouse.CommitRequest {
	return warehouse.CommitRequest{
		RunID: e.run, Plan: *e.plan, Grace: e.grace, Fence: e.fence, Attempts: 8,
		Planned: func(context.Context) iter.Seq2[string, error] { return seqOf(e.live) },
		Results: func(context.Context) iter.Seq2[warehouse.Result, error] { return seqOf(e.results) },
		Rescan: func(ctx context.Context, tasks []warehouse.Task) ([]warehouse.Result, error) {
			e.rescans = append(e.rescans, tasks)
			if e.onScan != nil {
				e.onScan(tasks)
			}
			var out []warehouse.Result
			for _, task := range tasks {
				r, err := e.shard(ctx, task)
				if err != nil {
					return nil, err
				}
				out = append(out, r)
			}
			return out, nil
		},
	}
}

func seqOf[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (e *eraser) commit() *warehouse.Committed {
	e.l.t.Helper()
	done, err := e.tbl.Commit(e.l.ctx, e.request())
	if err != nil {
		e.l.t.Fatal(err)
	}
	return done
}

// shard reads a file, leaves out deleted and erased rows and writes the rest.
func (e *eraser) shard(ctx context.Context, task warehouse.Task) (warehouse.Result, error) {
	r := warehouse.Result{Task: task, Status: warehouse.Clean, RowsIn: task.File.Rows}
	deleted, err := e.tbl.Deleted(ctx, task)
	if err != nil {
		return r, err
	}
	rec, err := readParquet(ctx, e.tbl.store, task.File.Path)
	if err != nil {
		return r, err
	}
	ids := rec.Column(rec.Schema().FieldIndices("id")[0]).(*array.Int32)
	var keep []int64
	hits := 0
	for i := range rec.NumRows() {
		hit := ids.IsValid(int(i)) && e.keys[int64(ids.Value(int(i)))]
		if hit {
			hits++
		}
		switch {
		case deleted.Contains(uint64(i)):
			r.AlreadyDeleted++
		case hit:
			r.Erased++
		default:
			keep = append(keep, i)
		}
	}
	if hits == 0 {
		r.AlreadyDeleted = 0
		r.RowsOut = r.RowsIn
		return r, nil
	}
	r.RowsOut = int64(len(keep))
	if len(keep) == 0 {
		r.Status = warehouse.Dropped
		return r, nil
	}
	r.Status = warehouse.Rewritten
	r.Output, err = e.write(ctx, task, rec, keep, fmt.Sprintf("%x", len(task.File.Deletes)))
	return r, err
}

func (e *eraser) write(ctx context.Context, task warehouse.Task, rec arrow.RecordBatch, keep []int64, digest string) (*warehouse.Output, error) {
	rec = takeRows(rec, keep)
	if first := task.File.FirstRowID; first != nil && len(rec.Schema().FieldIndices("_row_id")) == 0 {
		rec = withLineage(rec, keep, *first, task.File.DataSequence)
	}
	path := e.tbl.OutputPath(e.run, task, digest)
	size, err := writeParquet(ctx, e.tbl.store, path, rec)
	if err != nil {
		return nil, err
	}
	m, err := e.tbl.Metrics(ctx, path)
	if err != nil {
		return nil, err
	}
	return &warehouse.Output{Path: path, Size: size, Rows: rec.NumRows(), Metrics: m}, nil
}

// erased rewrites the other half: only the rows that were erased.
func (e *eraser) erased(ctx context.Context, source warehouse.Result) (warehouse.Result, bool) {
	e.l.t.Helper()
	rec, err := readParquet(ctx, e.tbl.store, source.Task.File.Path)
	if err != nil {
		e.l.t.Fatal(err)
	}
	deleted, err := e.tbl.Deleted(ctx, source.Task)
	if err != nil {
		e.l.t.Fatal(err)
	}
	ids := rec.Column(rec.Schema().FieldIndices("id")[0]).(*array.Int32)
	var take []int64
	for i := range rec.NumRows() {
		if ids.IsValid(int(i)) && e.keys[int64(ids.Value(int(i)))] && !deleted.Contains(uint64(i)) {
			take = append(take, i)
		}
	}
	if len(take) == 0 {
		return source, false
	}
	source.Output, err = e.write(ctx, source.Task, rec, take, "restored")
	if err != nil {
		e.l.t.Fatal(err)
	}
	return source, true
}

func readParquet(ctx context.Context, store storage.Store, path string) (arrow.RecordBatch, error) {
	raw, err := storage.ReadAll(ctx, store, path)
	if err != nil {
		return nil, err
	}
	r, err := file.NewParquetReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	tbl, err := fr.ReadTable(ctx)
	if err != nil {
		return nil, err
	}
	cols := make([]arrow.Array, tbl.NumCols())
	for i := range cols {
		if cols[i], err = array.Concatenate(tbl.Column(i).Data().Chunks(), memory.DefaultAllocator); err != nil {
			return nil, err
		}
	}
	return array.NewRecordBatch(tbl.Schema(), cols, tbl.NumRows()), nil
}

func takeRows(rec arrow.RecordBatch, keep []int64) arrow.RecordBatch {
	cols := make([]arrow.Array, rec.NumCols())
	for i := range cols {
		var parts []arrow.Array
		for _, r := range keep {
			parts = append(parts, array.NewSlice(rec.Column(i), r, r+1))
		}
		c, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			panic(err)
		}
		cols[i] = c
	}
	return array.NewRecordBatch(rec.Schema(), cols, int64(len(keep)))
}

func withLineage(rec arrow.RecordBatch, keep []int64, first, seq int64) arrow.RecordBatch {
	ids := array.NewInt64Builder(memory.DefaultAllocator)
	seqs := array.NewInt64Builder(memory.DefaultAllocator)
	for _, r := range keep {
		ids.Append(first + r)
		seqs.Append(seq)
	}
	field := func(name string, id int) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true,
			Metadata: arrow.MetadataFrom(map[string]string{"PARQUET:field_id": strconv.Itoa(id)})}
	}
	fields := append(slices.Clone(rec.Schema().Fields()), field("_row_id", 2147483540), field("_last_updated_sequence_number", 2147483539))
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), append(slices.Clone(rec.Columns()), ids.NewArray(), seqs.NewArray()), rec.NumRows())
}

func writeParquet(ctx context.Context, store storage.Store, path string, rec arrow.RecordBatch) (int64, error) {
	var buf bytes.Buffer
	w, err := pqarrow.NewFileWriter(rec.Schema(), &buf, parquet.NewWriterProperties(parquet.WithStats(true)), pqarrow.DefaultWriterProps())
	if err != nil {
		return 0, err
	}
	if err := w.Write(rec); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	return int64(buf.Len()), storage.WriteAll(ctx, store, path, buf.Bytes(), storage.CreateOptions{})
}

// rows makes n rows from a first row number; ids repeat from 0 to mod-1.
func rows(first, n, mod int) []string {
	var out []string
	for i := first; i < first+n; i++ {
		out = append(out, fmt.Sprintf(`{"rn":%d,"id":%d,"s":"s%d","f":%d.5}`, i, i%mod, i%3, i))
	}
	return out
}

// rowsOf are the numbers of such rows, less those of erased ids.
func rowsOf(first, n, mod int, gone ...int) []int64 {
	var out []int64
	for i := first; i < first+n; i++ {
		if !slices.Contains(gone, i%mod) {
			out = append(out, int64(i))
		}
	}
	return out
}

// rowIDs maps row numbers to _row_id, as a scan of iceberg-go sees them.
func (l *planLake) rowIDs(name string) map[int64]int64 {
	l.t.Helper()
	tbl, err := l.raw(name).Scan(table.WithRowLineage()).ToArrowTable(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	defer tbl.Release()
	out := map[int64]int64{}
	var rns, ids []int64
	for i, f := range tbl.Schema().Fields() {
		for _, c := range tbl.Column(i).Data().Chunks() {
			switch f.Name {
			case "rn":
				rns = append(rns, c.(*array.Int64).Int64Values()...)
			case "_row_id":
				ids = append(ids, c.(*array.Int64).Int64Values()...)
			}
		}
	}
	for i, rn := range rns {
		out[rn] = ids[i]
	}
	return out
}

// addVectorFor commits deletion vectors, merging those that exist.
func (l *planLake) addVectorFor(name, path string, positions ...int64) {
	l.t.Helper()
	tbl := l.raw(name)
	tasks, err := tbl.Scan().PlanFiles(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, task := range tasks {
		if task.File.FilePath() != path {
			continue
		}
		fs, err := tbl.FS(l.ctx)
		if err != nil {
			l.t.Fatal(err)
		}
		df := task.File
		w := dv.NewDVWriter(fs.(iceio.WriteFileIO), func(id int32) *icebergo.PartitionSpec { return tbl.Metadata().PartitionSpecByID(int(id)) })
		if err := w.Add(df.FilePath(), positions, df.SpecID(), df.Partition()); err != nil {
			l.t.Fatal(err)
		}
		files, err := w.Flush(l.ctx, fmt.Sprintf("%s/data/dv-%d.puffin", tbl.Location(), time.Now().UnixNano()))
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
		return
	}
	l.t.Fatal("no such data file")
}

// entriesOf lists the entries of the head's manifests, DELETED ones included.
func (l *planLake) entriesOf(name string) []icebergo.ManifestEntry {
	l.t.Helper()
	return l.entriesAt(name, l.raw(name).CurrentSnapshot())
}

func (l *planLake) entriesAt(name string, snap *table.Snapshot) []icebergo.ManifestEntry {
	l.t.Helper()
	fs, err := l.raw(name).FS(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	list, err := snap.Manifests(fs)
	if err != nil {
		l.t.Fatal(err)
	}
	var out []icebergo.ManifestEntry
	for _, m := range list {
		for e, err := range m.Entries(fs, false) {
			if err != nil {
				l.t.Fatal(err)
			}
			out = append(out, e)
		}
	}
	return out
}

// objects lists everything stored under the table's location.
func (l *planLake) objects(name string) map[string][]byte {
	l.t.Helper()
	out := map[string][]byte{}
	for info, err := range l.store.List(l.ctx, l.raw(name).Location()+"/") {
		if err != nil {
			l.t.Fatal(err)
		}
		raw, err := storage.ReadAll(l.ctx, l.store, info.Path)
		if err != nil {
			l.t.Fatal(err)
		}
		out[info.Path] = raw
	}
	return out
}

func (l *planLake) wantRows(name string, want []int64) {
	l.t.Helper()
	got := l.visible(name)
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		l.t.Fatalf("the table shows rows %v, want %v", got, want)
	}
}

// wantTotals compares the head's summary with what its manifests hold.
func (l *planLake) wantTotals(name string) {
	l.t.Helper()
	snap := l.raw(name).CurrentSnapshot()
	want := map[string]int64{sumDataFiles: 0, sumRows: 0, sumDeleteFiles: 0, sumBytes: 0, sumPosDeletes: 0, sumEqDeletes: 0}
	for _, e := range l.entriesOf(name) {
		if e.Status() == icebergo.EntryStatusDELETED {
			continue
		}
		df := e.DataFile()
		want[sumBytes] += df.FileSizeBytes()
		switch df.ContentType() {
		case icebergo.EntryContentData:
			want[sumDataFiles]++
			want[sumRows] += df.Count()
		case icebergo.EntryContentEqDeletes:
			want[sumDeleteFiles]++
			want[sumEqDeletes] += df.Count()
		default:
			want[sumDeleteFiles]++
			want[sumPosDeletes] += df.Count()
		}
	}
	for k, v := range want {
		if got := snap.Summary.Properties[k]; got != strconv.FormatInt(v, 10) {
			l.t.Errorf("summary says %s = %q, the manifests %d", k, got, v)
		}
	}
}

func (l *planLake) write(path, text string) error {
	return storage.WriteAll(l.ctx, l.store, path, []byte(text), storage.CreateOptions{})
}
