// Package demo makes a small lakehouse on a local disk, for expunge demo, for
// tests and for benchmarks. Nothing but this program is needed: the catalog is
// a SQLite file, the warehouse a folder.
//
// The lakehouse is small but not simple. Its four tables have what makes
// erasing hard in real ones:
//
//	lake.sales.orders     v2, months of order_ts; customer.id and contact.email in structs; a column that was
//	                      renamed after half of the files were written; position deletes
//	lake.events.clicks    v2, bucket[8] of user_id (int32); equality deletes by user_id, which are keys themselves
//	lake.events.logins    v3, months of ts, later also region; deletion vectors, inherited row ids
//	lake.support.tickets  v2, region; people in a list of structs
//
// Ids and e-mail addresses are dictionary-encoded, files have several row
// groups, many pages, page indexes and some bloom filters. Beside the tables
// lie a key file, a hold file and a job file. The same seed makes the same rows,
// and Make returns how many live rows a correct run erases from each table.
package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/sourcegraph/conc/pool"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Options say what to make.
type Options struct {
	Dir   string // made; replaced when an earlier demo made it
	Rows  int64  // in all tables together, about; 0 = 2,000,000
	Seed  uint64 // 0 = 1
	Grace string // of the job file; "" = 0s, so that the demo ends with a purge
	// Report is told what is being made; nil = silent.
	Report func(message string)
}

// Lakehouse says what was made.
type Lakehouse struct {
	Dir     string
	Job     string            // the job file
	Catalog map[string]string // properties of the catalog "lake"
	Tables  []Table
	Erased  []int64 // user ids that the job erases
	Held    []int64 // user ids in the key file that the hold file keeps
	Keys    int     // lines of the key file
}

// Table is one table and the truth about it.
type Table struct {
	Name     string // "lake.sales.orders"
	Rows     int64  // stored, tombstoned ones included
	Live     int64
	ToErase  int64 // live rows of the keys to erase
	Deleted  int64 // rows that tombstones delete
	Files    int
	Location string // local folder
}

// marker is the file that shows that a folder was made by a demo and may be replaced.
const marker = ".expunge-demo"

// ErrForeign: the folder holds something that no demo made.
var ErrForeign = errors.New("folder is not empty and was not made by a demo")

// Make builds the lakehouse.
func Make(ctx context.Context, o Options) (*Lakehouse, error) {
	if o.Rows == 0 {
		o.Rows = 2_000_000
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Grace == "" {
		o.Grace = "0s"
	}
	if o.Report == nil {
		o.Report = func(string) {}
	}
	dir, err := prepare(o.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lakehouse{Dir: dir, Job: filepath.Join(dir, "job.yaml"), Catalog: map[string]string{
		"type":      "sql",
		"uri":       "sqlite:///" + filepath.Join(dir, "catalog.db"),
		"warehouse": "file://" + filepath.Join(dir, "warehouse"),
	}}
	p := newPeople(o.Seed, max(o.Rows/10, 100))
	l.Erased, l.Held = p.erased, p.held
	if err := l.inputs(p, o.Grace); err != nil {
		return nil, err
	}
	return l, l.tables(ctx, o, p)
}

// prepare makes an empty folder, in place of an earlier demo's only.
func prepare(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("name a folder for the demo")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("demo folder: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return "", fmt.Errorf("%s: %w", dir, ErrForeign)
		}
		if err := os.RemoveAll(dir); err != nil {
			return "", fmt.Errorf("demo folder: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "warehouse"), 0o755); err != nil {
		return "", fmt.Errorf("demo folder: %w", err)
	}
	return dir, os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}

// tables makes the catalog and the tables, two at a time.
func (l *Lakehouse) tables(ctx context.Context, o Options, p *people) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(l.Dir, "catalog.db")+"?_pragma=busy_timeout(15000)&_pragma=journal_mode(WAL)&_txlock=immediate")
	if err != nil {
		return fmt.Errorf("open catalog file: %w", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	cat, err := sqlcat.NewCatalog("lake", db, sqlcat.SQLite, iceberg.Properties{"init_catalog_tables": "true", "warehouse": l.Catalog["warehouse"]})
	if err != nil {
		return fmt.Errorf("make catalog: %w", err)
	}
	for _, ns := range []string{"sales", "events", "support"} {
		if err := cat.CreateNamespace(ctx, catalog.ToIdentifier(ns), nil); err != nil {
			return fmt.Errorf("make namespace %s: %w", ns, err)
		}
	}
	kinds := []kind{ordersKind(), clicksKind(), loginsKind(), ticketsKind()}
	l.Tables = make([]Table, len(kinds))
	work := pool.New().WithMaxGoroutines(2).WithErrors().WithContext(ctx).WithCancelOnError()
	for i, k := range kinds {
		work.Go(func(ctx context.Context) error {
			b, err := newBuilder(ctx, cat, l.Dir, k, p, o)
			if err != nil {
				return fmt.Errorf("make table %s: %w", k.name, err)
			}
			if err := k.fill(ctx, b, o.Rows*k.percent/100); err != nil {
				return fmt.Errorf("fill table %s: %w", k.name, err)
			}
			l.Tables[i] = b.truth(p)
			o.Report(fmt.Sprintf("%s: %d rows in %d files", l.Tables[i].Name, l.Tables[i].Rows, l.Tables[i].Files))
			return nil
		})
	}
	return work.Wait()
}

// Find returns the table of that name.
func (l *Lakehouse) Find(name string) (Table, bool) {
	i := slices.IndexFunc(l.Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return Table{}, false
	}
	return l.Tables[i], true
}
