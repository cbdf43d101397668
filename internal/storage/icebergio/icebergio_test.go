package icebergio

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"
	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/expunge/expunge/internal/storage"
)

func newCatalog(t *testing.T, warehouse string) *sqlcat.Catalog {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "catalog.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	cat, err := sqlcat.NewCatalog("test", db, sqlcat.SQLite, iceberg.Properties{"warehouse": warehouse})
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

// TestLibraryDoesAllItsWorkThroughTheStore: a table is made, appended to,
// scanned and expired, and not one object comes into being, is read or goes
// that the counters did not see.
func TestLibraryDoesAllItsWorkThroughTheStore(t *testing.T) {
	Install(nil)
	for _, warehouse := range []string{t.TempDir(), "file://" + t.TempDir(), "mem://wh-" + filepath.Base(t.TempDir())} {
		t.Run(strings.SplitN(warehouse, ":", 2)[0], func(t *testing.T) {
			var n storage.Counters
			store := storage.WithCounters(storage.New(nil), &n)
			ctx := With(t.Context(), store)
			cat := newCatalog(t, warehouse)
			if err := cat.CreateNamespace(ctx, table.Identifier{"db"}, nil); err != nil {
				t.Fatal(err)
			}
			schema := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64})
			tbl, err := cat.CreateTable(ctx, table.Identifier{"db", "t"}, schema)
			if err != nil {
				t.Fatal(err)
			}
			rb := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil))
			rb.Field(0).(*array.Int64Builder).AppendValues([]int64{1, 2, 3}, nil)
			batch := rb.NewRecordBatch()
			defer batch.Release()
			for range 2 {
				rdr, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
				if err != nil {
					t.Fatal(err)
				}
				if tbl, err = tbl.Append(ctx, rdr, nil); err != nil {
					t.Fatal(err)
				}
			}
			scanned, err := tbl.Scan().ToArrowTable(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if scanned.NumRows() != 6 {
				t.Errorf("%d rows", scanned.NumRows())
			}
			stored := int64(0)
			for info, err := range store.List(t.Context(), warehouse) {
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(info.Path, "/db") {
					t.Errorf("strange path %s", info.Path)
				}
				stored++
			}
			if stored < 7 || n.Of(storage.OpClose) != stored {
				t.Errorf("%d objects, %d seen", stored, n.Of(storage.OpClose))
			}
			if n.Snapshot().BytesRead == 0 {
				t.Error("the scan read nothing through the store")
			}
		})
	}
}

func TestReadOnlyStoreStopsTheLibrary(t *testing.T) {
	Install(nil)
	cat := newCatalog(t, t.TempDir())
	ctx := With(t.Context(), storage.ReadOnly(storage.New(nil)))
	if err := cat.CreateNamespace(ctx, table.Identifier{"db"}, nil); err != nil {
		t.Fatal(err)
	}
	schema := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64})
	if _, err := cat.CreateTable(ctx, table.Identifier{"db", "t"}, schema); !errors.Is(err, storage.ErrReadOnly) {
		t.Fatal(err)
	}
}

func TestContextStoreGoesBeforeTheInstalledOne(t *testing.T) {
	Install(nil)
	mem := storage.NewMem()
	fio, err := factory(With(t.Context(), mem), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := Store(fio); !ok || s != storage.Store(mem) {
		t.Error("not the context's store")
	}
}

func TestFileReadsSeeksAndEndsAsAFile(t *testing.T) {
	mem := storage.NewMem()
	data := strings.Repeat("0123456789", 300_000)
	if err := storage.WriteAll(t.Context(), mem, "mem://b/x", []byte(data), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	fio := FromStore(t.Context(), mem)
	f, err := fio.Open("mem://b/x")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || string(got) != data {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for _, pos := range []int64{0, 5, 1 << 20, int64(len(data)) - 3, int64(len(data))} {
		if at, err := f.Seek(pos, io.SeekStart); at != pos || err != nil {
			t.Fatal(at, err)
		}
		rest, err := io.ReadAll(io.LimitReader(f, 17))
		if err != nil || string(rest) != data[pos:min(pos+17, int64(len(data)))] {
			t.Fatalf("at %d: %q %v", pos, rest, err)
		}
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("sought before the beginning")
	}
	if at, err := f.Seek(-4, io.SeekEnd); at != int64(len(data))-4 || err != nil {
		t.Error(at, err)
	}
	if _, err := fio.Open("mem://b/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestFailedWriteStaysInvisible(t *testing.T) {
	mem := storage.NewMem()
	boom := errors.New("boom")
	store := storage.WithFaults(mem, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
		if c.Op == storage.OpWrite {
			return &storage.Fault{Action: storage.FailBefore, Err: boom}
		}
		return nil
	}})
	w, err := FromStore(t.Context(), store).Create("mem://b/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := mem.Open(t.Context(), "mem://b/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestWalkVisitsWhatWalkDirWould compares with the standard library's walk of
// the same tree, skips included.
func TestWalkVisitsWhatWalkDirWould(t *testing.T) {
	names := []string{"a/b/1", "a/b/2", "a/b.c", "a/c/d/3", "a/e", "f", "g/h/4", "g/h/5", "g/i"}
	mem, std := storage.NewMem(), fstest.MapFS{}
	for _, n := range names {
		std["root/"+n] = &fstest.MapFile{Data: []byte(n)}
		if err := storage.WriteAll(t.Context(), mem, "mem://b/root/"+n, []byte(n), storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, skip := range []string{"", "a/b", "a/b/1", "a/c/d", "g/h/4", "g", "."} {
		for _, how := range []error{fs.SkipDir, fs.SkipAll} {
			collect := func(strip string, out map[string]bool) fs.WalkDirFunc {
				return func(p string, d fs.DirEntry, err error) error {
					if err != nil {
						return err
					}
					p = strings.TrimPrefix(strings.TrimPrefix(p, strip), "/")
					if p == "" {
						p = "."
					}
					out[p] = d.IsDir()
					if p == skip {
						return how
					}
					return nil
				}
			}
			got, want := map[string]bool{}, map[string]bool{}
			if err := FromStore(t.Context(), mem).WalkDir("mem://b/root/", collect("mem://b/root", got)); err != nil {
				t.Fatal(err)
			}
			if err := fs.WalkDir(std, "root", collect("root", want)); err != nil {
				t.Fatal(err)
			}
			if errors.Is(how, fs.SkipAll) { // the two orders differ between a file and a folder of like names
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("skip %q: %s", skip, diff)
			}
		}
	}
	boom := errors.New("boom")
	if err := FromStore(t.Context(), mem).WalkDir("mem://b/root", func(string, fs.DirEntry, error) error { return boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
}

func TestBulkRemovalReportsWhatIsGone(t *testing.T) {
	mem := storage.NewMem()
	var paths []string
	for i := range 3 {
		p := fmt.Sprintf("mem://b/%d", i)
		paths = append(paths, p)
		if err := storage.WriteAll(t.Context(), mem, p, nil, storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	store := storage.WithFaults(mem, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
		if strings.HasSuffix(c.Path, "1") {
			return &storage.Fault{Action: storage.FailBefore}
		}
		return nil
	}})
	deleted, err := FromStore(t.Context(), store).DeleteFiles(t.Context(), append(paths, "mem://b/none"))
	if err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff([]string{paths[0], paths[2], "mem://b/none"}, deleted); diff != "" {
		t.Error(diff)
	}
}
