// Package sql registers the catalog kind "sql": SQLite in a local file, or
// PostgreSQL. Properties:
//
//   - uri: a SQLite path or sqlite:///path (SQLAlchemy's way of writing it is
//     understood), or postgresql://user:password@host/database.
//   - catalog_name: the name under which the tables are stored, where it is not
//     the name that the job gives the catalog.
//   - init_catalog_tables: "true" creates the catalog's tables, and a missing
//     SQLite file. By default nothing is created, so that a mistyped path is an
//     error and a dry run writes nothing.
//
// All properties reach the tables' storage as well (s3.endpoint and so on).
package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"strings"

	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/expunge/expunge/warehouse/iceberg"
)

func init() { iceberg.RegisterCatalog("sql", Open) }

// Open opens the database and the catalog in it. The closer closes the database.
func Open(ctx context.Context, name string, props map[string]string) (catalog.Catalog, io.Closer, error) {
	create := strings.EqualFold(props["init_catalog_tables"], "true")
	driver, dsn, dialect, err := dataSource(props["uri"], create)
	if err != nil {
		return nil, nil, err
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, nil, errors.New("uri is not a database address") // the driver's error may quote the password
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("connect to the database: %w", err), db.Close())
	}
	if n := props["catalog_name"]; n != "" {
		name = n
	}
	p := maps.Clone(props)
	p["init_catalog_tables"] = fmt.Sprint(create)
	cat, err := sqlcat.NewCatalog(name, db, dialect, p)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the sql catalog: %w", err), db.Close())
	}
	return cat, db, nil
}

// dataSource turns a uri into a driver's name for the database.
func dataSource(uri string, create bool) (driver, dsn string, dialect sqlcat.SupportedDialect, err error) {
	scheme, rest, ok := strings.Cut(uri, "://")
	scheme, _, _ = strings.Cut(scheme, "+") // postgresql+psycopg2
	switch {
	case uri == "":
		return "", "", "", errors.New("uri is missing")
	case ok && (scheme == "postgresql" || scheme == "postgres"):
		return "pgx", "postgres://" + rest, sqlcat.Postgres, nil
	case ok && scheme == "sqlite":
		// Three slashes start a relative path, four an absolute one; two slashes
		// and an absolute path are what people write by mistake.
		uri = rest
		if strings.HasPrefix(rest, "//") || (strings.HasPrefix(rest, "/") && !exists(rest)) {
			uri = rest[1:]
		}
	case ok && scheme == "file":
		uri = rest
	case ok:
		return "", "", "", fmt.Errorf("database %q is not one of sqlite, postgresql", scheme)
	}
	path, _, _ := strings.Cut(uri, "?")
	if !create && !exists(path) {
		return "", "", "", fmt.Errorf("catalog file: %w", os.ErrNotExist)
	}
	// WAL lets readers go on beside one writer; a transaction that writes takes
	// its lock at the start and waits for it, instead of failing in the middle.
	q := url.Values{"_pragma": {"busy_timeout(15000)", "journal_mode(WAL)"}, "_txlock": {"immediate"}}
	return "sqlite", "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode(), sqlcat.SQLite, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
