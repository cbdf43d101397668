package jobs_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse/iceberg"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/rest"
)

const vaultKey = "for this table"

// vault makes gs:// buckets that open with a key alone.
var vault = sync.OnceFunc(func() {
	mem := storage.NewMem()
	storage.Register("gs", func(_ context.Context, at storage.Location, props map[string]string) (storage.Store, error) {
		if props["s3.access-key-id"] != vaultKey {
			return nil, fmt.Errorf("bucket %s: %w", at.Bucket, fs.ErrPermission)
		}
		return mem, nil
	})
})

// restCatalog serves a catalog by the Iceberg REST protocol, as far as a job
// needs it, and hands out the key with each table when vend is set.
func restCatalog(t *testing.T, cat catalog.Catalog, vend bool) string {
	t.Helper()
	ident := table.Identifier{"ns", "t"}
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"defaults": map[string]string{}, "overrides": map[string]string{}})
	})
	mux.HandleFunc("GET /v1/namespaces", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"namespaces": [][]string{{"ns"}}})
	})
	mux.HandleFunc("GET /v1/namespaces/ns/tables", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"identifiers": []map[string]any{{"namespace": []string{"ns"}, "name": "t"}}})
	})
	mux.HandleFunc("GET /v1/namespaces/ns/tables/t", func(w http.ResponseWriter, r *http.Request) {
		tbl, err := cat.LoadTable(r.Context(), ident)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		config := map[string]string{}
		if vend {
			config["s3.access-key-id"] = vaultKey
		}
		answer(w, map[string]any{"metadata-location": tbl.MetadataLocation(), "metadata": tbl.Metadata(), "config": config})
	})
	mux.HandleFunc("POST /v1/namespaces/ns/tables/t", func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Requirements table.Requirements `json:"requirements"`
			Updates      table.Updates      `json:"updates"`
		}
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(b, &req)
		}
		var meta table.Metadata
		var at string
		if err == nil {
			meta, at, err = cat.CommitTable(r.Context(), ident, req.Requirements, req.Updates)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, map[string]any{"metadata-location": at, "metadata": meta})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.Method+" "+r.URL.Path, http.StatusNotFound)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A REST catalog hands out the credentials of a table's files together with the
// table; a job has no others.
func TestCredentialsThatComeWithATableAreUsed(t *testing.T) {
	vault()
	for _, vend := range []bool{true, false} {
		t.Run(fmt.Sprint(vend), func(t *testing.T) {
			dir := t.TempDir()
			db, err := sql.Open("sqlite", "file:"+dir+"/catalog.db?_pragma=busy_timeout(5000)")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			// Opening a catalog is what gives iceberg-go our stores.
			if c, err := iceberg.OpenCatalog(t.Context(), "any", map[string]string{"type": "sql", "uri": dir + "/other.db", "init_catalog_tables": "true"}); err != nil {
				t.Fatal(err)
			} else if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			cat, err := sqlcat.NewCatalog("lake", db, sqlcat.SQLite, map[string]string{
				"init_catalog_tables": "true", "warehouse": "gs://vault/" + filepath.Base(filepath.Dir(dir)) + fmt.Sprint(vend), "s3.access-key-id": vaultKey})
			if err != nil {
				t.Fatal(err)
			}
			if err := cat.CreateNamespace(t.Context(), table.Identifier{"ns"}, nil); err != nil {
				t.Fatal(err)
			}
			tbl, err := cat.CreateTable(t.Context(), table.Identifier{"ns", "t"}, testlake.Schema)
			if err != nil {
				t.Fatal(err)
			}
			schema, err := table.SchemaToArrowSchema(testlake.Schema, nil, true, false)
			if err != nil {
				t.Fatal(err)
			}
			rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(`[{"id":1,"email":"a","n":1},{"id":2,"email":"b","n":2}]`))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tbl.AppendTable(t.Context(), array.NewTableFromRecords(schema, []arrow.RecordBatch{rec}), 1000, nil); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "job.yaml"), fmt.Appendf(nil, `version: 1
name: vended
state: state
grace: 0s
limits: {share: 100%%}
catalogs:
  lake: {type: rest, uri: %q}
keysets:
  users: {source: %q, key: {id: int64}}
targets:
  - {table: lake.ns.t, match: [{users: id}], action: delete}
`, restCatalog(t, cat, vend), write(t, "id\n1\n")), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := configs.Load(filepath.Join(dir, "job.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
			if !vend {
				if err == nil || strings.Contains(err.Error(), vaultKey) {
					t.Fatalf("without credentials: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if sum.Outcome != string(manifests.Erased) || sum.Targets[0].Committed.RowsErased != 1 {
				t.Errorf("%s (%v)", sum.Outcome, sum.Reasons)
				logSurfaces(t, sum)
			}
		})
	}
}
