package jobs_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// contents digests what a reader of the head sees: every row, all columns,
// deletes applied, whatever the files are, and from version 3 on the ids of the
// rows as well. Rows are compared as a set.
func contents(t *testing.T, lake *demo.Lakehouse, name string) (digest string, rows int64) {
	t.Helper()
	tbl := loadTable(t, lake, name)
	var opts []table.ScanOption
	if tbl.Metadata().Version() >= 3 {
		opts = append(opts, table.WithRowLineage())
	}
	arrow, err := tbl.Scan(opts...).ToArrowTable(context.Background())
	if err != nil {
		t.Fatalf("scan %s: %v", name, err)
	}
	defer arrow.Release()
	lines := make([]string, 0, arrow.NumRows())
	tr := newRowText(arrow)
	for tr.next() {
		lines = append(lines, tr.text())
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		fmt.Fprintln(h, l)
	}
	return hex.EncodeToString(h.Sum(nil)), arrow.NumRows()
}

func loadTable(t *testing.T, lake *demo.Lakehouse, name string) *table.Table {
	t.Helper()
	cat, err := iceberg.OpenCatalog(context.Background(), "lake", lake.Catalog)
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	parts := strings.Split(name, ".")
	tbl, err := cat.LoadTable(context.Background(), parts[1:])
	if err != nil {
		t.Fatalf("load %s: %v", name, err)
	}
	return tbl
}

// snapshotDir copies a folder; restoreDir puts the copy back in its place.
func snapshotDir(t *testing.T, dir string) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return copied
}

func restoreDir(t *testing.T, copied, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
}

// strings under a folder that contain needle, for residue checks on raw bytes.
func filesContaining(t *testing.T, dir, needle string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(raw), needle) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
