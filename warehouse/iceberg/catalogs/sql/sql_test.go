package sql

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	icebergo "github.com/apache/iceberg-go"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse/iceberg"
)

func TestSQLiteCatalogIsOpenedButNotCreatedByDefault(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cat alog.db")
	props := map[string]string{"type": "sql", "uri": "sqlite:///" + path, "warehouse": dir + "/wh"}
	if _, err := iceberg.OpenCatalog(t.Context(), "lake", props); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a missing catalog file: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("opening created the catalog file")
	}
	props["init_catalog_tables"] = "true"
	cat, err := iceberg.OpenCatalog(t.Context(), "lake", props)
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.CreateNamespace(t.Context(), table.Identifier{"ns"}, nil); err != nil {
		t.Fatal(err)
	}
	schema := icebergo.NewSchema(0, icebergo.NestedField{ID: 1, Name: "id", Type: icebergo.PrimitiveTypes.Int64})
	if _, err := cat.CreateTable(t.Context(), table.Identifier{"ns", "t"}, schema); err != nil {
		t.Fatal(err)
	}
	if err := cat.Close(); err != nil {
		t.Fatal(err)
	}
	delete(props, "init_catalog_tables")
	for _, uri := range []string{"sqlite:///" + path, "sqlite:////" + strings.TrimPrefix(path, "/"), "sqlite://" + path, path, "file://" + path} {
		props["uri"] = uri
		cat, err := iceberg.OpenCatalog(t.Context(), "lake", props)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if ids, err := cat.Resolve(t.Context(), "lake.ns.*"); err != nil || len(ids) != 1 {
			t.Errorf("%s: %v %v", uri, ids, err)
		}
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	}
	props["catalog_name"] = "lake"
	other, err := iceberg.OpenCatalog(t.Context(), "alias", props)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if ids, err := other.Resolve(t.Context(), "alias.ns.t"); err != nil || len(ids) != 1 {
		t.Errorf("under another name: %v %v", ids, err)
	}
}

func TestDatabaseAddresses(t *testing.T) {
	for uri, want := range map[string]string{
		"postgresql://u:p@h/db":               "postgres://u:p@h/db",
		"postgres://h/db?sslmode=disable":     "postgres://h/db?sslmode=disable",
		"postgresql+psycopg2://u:p@h:5432/db": "postgres://u:p@h:5432/db",
	} {
		driver, dsn, dialect, err := dataSource(uri, false)
		if err != nil || driver != "pgx" || dsn != want || dialect != sqlcat.Postgres {
			t.Errorf("%s: %s %s %v", uri, driver, dsn, err)
		}
	}
	for _, uri := range []string{"", "mysql://u:secret@h/db"} {
		if _, _, _, err := dataSource(uri, true); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
