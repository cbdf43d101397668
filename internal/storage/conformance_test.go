package storage_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/storagetest"
)

func TestObjectsAreWholeOrAbsentUnderFaults(t *testing.T) {
	dir := t.TempDir() + "/"
	storagetest.WholeOrAbsent(t, storage.New(nil), dir, 200, 10_000)
	// An abort that fails leaves its temporary file to the next clean-up.
	for n := range 2 {
		if left, err := storage.CleanUnfinished(t.Context(), storage.New(nil), dir, 0); err != nil || n == 1 && left != 0 {
			t.Errorf("%d temporary files left, %v", left, err)
		}
	}
	storagetest.WholeOrAbsent(t, storage.NewMem(), "mem://b/", 1000, 10_000)
}

func TestConformance(t *testing.T) {
	t.Run("local", func(t *testing.T) {
		storagetest.Run(t, storage.New(nil), storagetest.Options{
			Root: t.TempDir() + "/", BigObject: 3 << 20, RemoveIf: true, KnowsMissing: true, CopyRange: true,
		})
	})
	t.Run("file URI", func(t *testing.T) {
		storagetest.Run(t, storage.New(nil), storagetest.Options{
			Root: "file://" + t.TempDir() + "/", BigObject: 1 << 20, RemoveIf: true, KnowsMissing: true, CopyRange: true,
		})
	})
	t.Run("relative", func(t *testing.T) {
		t.Chdir(t.TempDir())
		if err := os.Mkdir("w", 0o755); err != nil {
			t.Fatal(err)
		}
		storagetest.Run(t, storage.New(nil), storagetest.Options{
			Root: filepath.Join("w") + "/", BigObject: 1 << 20, RemoveIf: true, KnowsMissing: true, CopyRange: true,
		})
	})
	t.Run("mem", func(t *testing.T) {
		storagetest.Run(t, storage.New(nil), storagetest.Options{
			Root: "mem://conformance/", BigObject: 1 << 20, RemoveIf: true, KnowsMissing: true, CopyRange: true,
		})
	})
	t.Run("decorated", func(t *testing.T) {
		var n storage.Counters
		s := storage.WithRetry(storage.WithLimits(storage.WithCounters(storage.WithFaults(storage.New(nil), &storage.Faults{}), &n),
			storage.NewLimits(0, 0)), storage.DefaultRetry)
		storagetest.Run(t, s, storagetest.Options{
			Root: t.TempDir() + "/", BigObject: 1 << 20, RemoveIf: true, KnowsMissing: true, CopyRange: true,
		})
		if n.Mutations() == 0 || n.Snapshot().BytesRead == 0 {
			t.Errorf("counters saw nothing: %+v", n.Snapshot())
		}
	})
}
