package iceberg

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// syntheticSnapshot writes the manifests of a table of many files that do not
// exist. File i holds the ids from 10·i to 10·i+9.
func syntheticSnapshot(t testing.TB, dir string, files, perManifest, deletes int) *table.Snapshot {
	t.Helper()
	schema := planSchema()
	var list []icebergo.ManifestFile
	long := func(v int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
	for from := 0; from < files; from += perManifest {
		var entries []icebergo.ManifestEntry
		for i := from; i < min(from+perManifest, files); i++ {
			entries = append(entries, syntheticEntry(t, icebergo.EntryContentData, i, func(b *icebergo.DataFileBuilder) {
				b.ValueCounts(map[int]int64{1: 10, 2: 10, 3: 10, 4: 10}).NullValueCounts(map[int]int64{1: 0, 2: 0, 3: 0, 4: 0})
				b.LowerBoundValues(map[int][]byte{1: long(10 * i), 2: []byte("user-0000000")}).UpperBoundValues(map[int][]byte{1: long(10*i + 9), 2: []byte("user-9999999")})
			}))
		}
		list = append(list, syntheticManifest(t, dir, len(list), schema, icebergo.ManifestContentData, entries))
	}
	for from := 0; from < deletes; from += perManifest {
		var entries []icebergo.ManifestEntry
		for i := from; i < min(from+perManifest, deletes); i++ {
			entries = append(entries, syntheticEntry(t, icebergo.EntryContentPosDeletes, i, func(b *icebergo.DataFileBuilder) {
				// As version 2 manifests say it: both bounds of file_path are the path.
				b.LowerBoundValues(map[int][]byte{filePathField: []byte(dataPath(i))}).UpperBoundValues(map[int][]byte{filePathField: []byte(dataPath(i))})
			}))
		}
		list = append(list, syntheticManifest(t, dir, len(list), schema, icebergo.ManifestContentDeletes, entries))
	}
	path := filepath.Join(dir, "list.avro")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seq := int64(1)
	if err := icebergo.WriteManifestList(2, f, 1, nil, &seq, 0, list); err != nil {
		t.Fatal(err)
	}
	return &table.Snapshot{SnapshotID: 1, SequenceNumber: 1, ManifestList: path}
}

func dataPath(i int) string {
	return fmt.Sprintf("s3://bucket/warehouse/sales.db/orders/data/00000-%08d-3f2b7c1e-4f0a-4d55-9c0e-0e8c0b1f7a11.parquet", i)
}

func syntheticEntry(t testing.TB, content icebergo.ManifestEntryContent, i int, fill func(*icebergo.DataFileBuilder)) icebergo.ManifestEntry {
	t.Helper()
	path := dataPath(i)
	if content != icebergo.EntryContentData {
		path = fmt.Sprintf("s3://bucket/warehouse/sales.db/orders/data/00000-%08d-deletes.parquet", i)
	}
	b, err := icebergo.NewDataFileBuilder(*icebergo.UnpartitionedSpec, content, path, icebergo.ParquetFile, nil, nil, nil, 10, 1000)
	if err != nil {
		t.Fatal(err)
	}
	fill(b)
	id := int64(1)
	return icebergo.NewManifestEntryBuilder(icebergo.EntryStatusADDED, &id, b.Build()).Build()
}

func syntheticManifest(t testing.TB, dir string, n int, schema *icebergo.Schema, content icebergo.ManifestContent, entries []icebergo.ManifestEntry) icebergo.ManifestFile {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("m%d.avro", n))
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := icebergo.NewManifestWriter(2, f, *icebergo.UnpartitionedSpec, schema, 1, icebergo.WithManifestWriterContent(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := w.ToManifestFile(path, info.Size(), icebergo.WithManifestFileContent(content))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPlanningMemoryDoesNotGrowWithTheTable plans a table of 20,000 files, or
// of EXPUNGE_SCALE files to measure, with a position delete file for one data
// file in ten, under a heap limit that its entries would not fit.
func TestPlanningMemoryDoesNotGrowWithTheTable(t *testing.T) {
	files := 20000
	if n, err := strconv.Atoi(os.Getenv("EXPUNGE_SCALE")); err == nil {
		files = n
	}
	dir := t.TempDir()
	snap := syntheticSnapshot(t, dir, files, 2000, files/10)
	var keys []string
	for i := 0; i < files; i += 100 {
		keys = append(keys, strconv.Itoa(10*i+3))
	}
	meta := planMetadata(t, planSchema(), nil)
	tbl := &Table{store: storage.New(nil), name: "lake.ns.t", deletes: newDeleteCache()}
	p, err := tbl.newPlanner(meta, selection(planKeys(t, keyset.Schema{part(t, "int64")}, keys...), "id"))
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	debug.FreeOSMemory()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	plan := &warehouse.Plan{}
	start := time.Now()
	var seen, tasks, deletes int
	var peak uint64
	err = p.run(t.Context(), snap, plan,
		func(task warehouse.Task) error { tasks++; deletes += len(task.File.Deletes); return nil },
		func(string) error {
			if seen++; seen%(files/20) == 0 {
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc-min(before.HeapAlloc, now.HeapAlloc))
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	if seen != files || tasks != files/100 || deletes != tasks/10 || plan.TotalFiles != int64(files) {
		t.Errorf("%d files, %d tasks, %d delete files", seen, tasks, deletes)
	}
	t.Logf("%d files: %v, %.1f µs a file, heap above the start %d MiB, process %s", files, took.Round(time.Millisecond),
		float64(took.Microseconds())/float64(files), peak>>20, rss())
	if limit := uint64(96<<20) + uint64(files/10)*600; peak > limit {
		t.Errorf("the heap grew by %d MiB, want at most %d", peak>>20, limit>>20)
	}
}

func rss() string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if len(line) > 6 && line[:6] == "VmHWM:" {
			return strings.TrimSpace(line[6:])
		}
	}
	return "unknown"
}
