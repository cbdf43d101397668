package main

import (
	"bytes"
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
)

// tables are the tables as the catalog has them: name to metadata file, which
// every change of a table replaces.
func tables(t *testing.T, l *demo.Lakehouse) map[string]string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(l.Dir, "catalog.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT table_namespace || '.' || table_name, metadata_location FROM iceberg_tables")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, at string
		if err := rows.Scan(&name, &at); err != nil {
			t.Fatal(err)
		}
		out["lake."+name] = at
	}
	if err := rows.Err(); err != nil || len(out) != len(l.Tables) {
		t.Fatalf("%d tables, %v", len(out), err)
	}
	return out
}

// files are the contents of every file below the warehouse.
func files(t *testing.T, l *demo.Lakehouse) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(filepath.Join(l.Dir, "warehouse"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// victim is a data file of the orders.
func victim(t *testing.T, l *demo.Lakehouse) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(l.Dir, "warehouse/sales/orders/data/*/*.parquet"))
	if err != nil || len(found) == 0 {
		t.Fatalf("data files: %v, %v", found, err)
	}
	return found[0]
}

func spoil(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o644); err != nil {
		t.Fatal(err)
	}
}

// faulty makes the operations on the tables' files that pick chooses end as f says.
func faulty(t *testing.T, f *storage.Fault, pick func(storage.Call) bool) {
	t.Helper()
	wrapStore = func(role string, s storage.Store) storage.Store {
		return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
			if role == "lake" && pick(c) {
				return f
			}
			return nil
		}})
	}
	t.Cleanup(func() { wrapStore = nil })
}

// ordersLease takes the lease of the orders' table for another run, whoever has it.
func ordersLease(t *testing.T, l *demo.Lakehouse) {
	t.Helper()
	leases, err := filepath.Glob(filepath.Join(l.Dir, "state", "leases", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range leases { // their holders were paused for longer than a lease lasts
		old := time.Now().Add(-10 * time.Minute)
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	meta := tables(t, l)["lake.sales.orders"]
	b, err := os.ReadFile(strings.TrimPrefix(meta, "file://"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte(`"table-uuid":`))
	id, _, _ := bytes.Cut(bytes.TrimLeft(rest, ` "`), []byte(`"`))
	s, err := state.Open(context.Background(), storage.New(nil), filepath.Join(l.Dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := s.Acquire(context.Background(), "table/"+string(id), "another run", state.MaxTTL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lease.Release(context.Background()) })
}

// TestBadInputIsAClearErrorAndLeavesTheTables: each case ends with its exit
// code and says what is wrong, and what it concerns is as it was. With exit
// code 3 that is the orders; the other tables are done.
func TestBadInputIsAClearErrorAndLeavesTheTables(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, l *demo.Lakehouse)
		code  int
		want  string // in what is printed
	}{
		{"typo in the job", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "targets:", "tagets:") }, 64, `unknown field "tagets"; did you mean "targets"?`},
		{"unknown column", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "customer.id", "customer.idd") }, 1, "customer.idd"},
		{"wrong type", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "{user_id: int64}", "{user_id: date}") }, 1, "user_id"},
		{"missing table", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "lake.sales.orders", "lake.sales.order") }, 1, "lake.sales.order"},
		{"missing catalog", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "catalog.db", "other.db") }, 1, "catalog"},
		{"missing keys", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "keys.csv", "kyes.csv") }, 1, "missing"},
		{"missing hold file", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "holds.csv", "hold.csv") }, 1, "missing"},
		{"empty keyset", func(t *testing.T, l *demo.Lakehouse) {
			spoil(t, filepath.Join(l.Dir, "keys.csv"), func([]byte) []byte { return []byte("user_id,email,ticket,received\n") })
		}, 1, "empty keyset"},
		{"malformed key", func(t *testing.T, l *demo.Lakehouse) {
			edit(t, filepath.Join(l.Dir, "keys.csv"), "user_id,email,ticket,received\n", "user_id,email,ticket,received\nhunter2,a@b,x,2026-11-01\n")
		}, 1, ".csv):2"},
		{"missing secret", func(t *testing.T, l *demo.Lakehouse) {
			edit(t, l.Job, "type: sql", `type: sql, token: "${env:NOT_SET}"`)
		}, 64, "NOT_SET"},
		{"wrong signing key", func(t *testing.T, l *demo.Lakehouse) {
			edit(t, l.Job, "grace:", "signing: {executor: \"file:keys.csv\"}\ngrace:")
		}, 1, "key"},
		{"limit", func(t *testing.T, l *demo.Lakehouse) { edit(t, l.Job, "rows: 1M", "rows: 1") }, 5, "limit"},
		{"lease of another run", ordersLease, 6, "another run"},
		{"lost lease", func(t *testing.T, l *demo.Lakehouse) {
			var lost bool
			faulty(t, &storage.Fault{Action: storage.CallBefore, Do: func() { ordersLease(t, l) }}, func(c storage.Call) bool {
				if lost || c.Op != storage.OpCreate || !strings.Contains(c.Path, "sales/orders") || !strings.Contains(c.Path, "-list") {
					return false
				}
				lost = true
				return true
			})
		}, 6, "lease"},
		{"read-only bucket", func(t *testing.T, l *demo.Lakehouse) {
			faulty(t, &storage.Fault{Action: storage.FailBefore, Err: storage.ErrReadOnly}, func(c storage.Call) bool { return c.Op.Mutates() })
		}, 1, "read"},
		{"full disk", func(t *testing.T, l *demo.Lakehouse) {
			faulty(t, &storage.Fault{Action: storage.FailBefore, Err: storage.ErrNoSpace}, func(c storage.Call) bool {
				return c.Op.Mutates() && strings.Contains(c.Path, "/data/expunge-") && strings.HasSuffix(c.Path, ".parquet")
			})
		}, 1, "space"},
		{"truncated footer", func(t *testing.T, l *demo.Lakehouse) {
			spoil(t, victim(t, l), func(b []byte) []byte { return b[:len(b)-5] })
		}, 3, "lake.sales.orders"},
		{"corrupt footer", func(t *testing.T, l *demo.Lakehouse) {
			spoil(t, victim(t, l), func(b []byte) []byte {
				for i := len(b) - 200; i < len(b)-8; i++ {
					b[i] ^= 0x5a
				}
				return b
			})
		}, 3, "lake.sales.orders"},
		{"corrupt pages", func(t *testing.T, l *demo.Lakehouse) {
			spoil(t, victim(t, l), func(b []byte) []byte {
				for i := 4; i < len(b)/2; i++ {
					b[i] ^= 0x5a
				}
				return b
			})
		}, 3, "lake.sales.orders"},
		{"unreadable object", func(t *testing.T, l *demo.Lakehouse) {
			path := victim(t, l)
			faulty(t, &storage.Fault{Action: storage.FailBefore, Err: os.ErrPermission}, func(c storage.Call) bool { return strings.HasSuffix(c.Path, path) })
		}, 3, "lake.sales.orders"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lakehouse(t)
			c.spoil(t, l)
			heads, stored := tables(t, l), files(t, l)
			code, out, errs := expunge(t, "run", l.Job, "--quiet")
			if strings.Contains(out+errs, "hunter2") {
				t.Errorf("a key is shown: %s%s", out, errs)
			}
			if code != c.code || !strings.Contains(out+errs, c.want) || (code != cli.ExitPartial && !strings.Contains(errs, "error: ")) {
				t.Errorf("exit %d, want %d, with %q: %s%s", code, c.code, c.want, out, errs)
			}
			now := tables(t, l)
			for name, head := range heads {
				alone := code == cli.ExitPartial && name != "lake.sales.orders"
				if (now[name] == head) == alone {
					t.Errorf("%s: changed is %t", name, alone)
				}
			}
			left := files(t, l)
			for path, b := range stored {
				if (code != cli.ExitPartial || strings.Contains(path, "sales/orders")) && left[path] != b {
					t.Errorf("%s is not as it was", path)
				}
			}
		})
	}
}
