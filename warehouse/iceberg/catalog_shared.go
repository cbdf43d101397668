package iceberg

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
)

// sharedFiles are the files that tables of a catalog refer to although they lie
// outside their own folders: a clone (Iceberg's snapshot procedure) reads its
// source's files, add_files takes in files from anywhere, register_table makes
// a second table of one metadata file. A table whose folder holds such a file
// must not remove it, whatever its own metadata says.
type sharedFiles struct {
	mu     sync.Mutex
	read   time.Time
	known  references
	unread int                  // tables whose references could not be read
	plain  map[pathKey]struct{} // manifests of former reads that name nothing outside
}

// notForeign leaves out of a batch what other tables of the catalog refer to,
// as far as they can be read.
func (t *Table) notForeign(ctx context.Context, r *remover, batch []removal) ([]removal, error) {
	others, _, err := t.cat.sharedFiles(ctx, t)
	if err != nil {
		return nil, err
	}
	out := make([]removal, 0, len(batch))
	for _, x := range batch {
		if others.refers(x.path) {
			r.foreign++
			continue
		}
		out = append(out, x)
	}
	return out, nil
}

// foreignAll returns what other tables refer to, for callers who must not go on
// without all of it.
func (t *Table) foreignAll(ctx context.Context) (references, error) {
	refs, unread, err := t.cat.sharedFiles(ctx, t)
	if err == nil && unread > 0 {
		err = fmt.Errorf("the references of %d other tables of the catalog cannot be read, so no file can be called an orphan: %w", unread, warehouse.ErrUnsupported)
	}
	return refs, err
}

func (c *Catalog) sharedFiles(ctx context.Context, t *Table) (references, int, error) {
	s := &c.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := clock.Now(ctx); s.known.keys == nil || now.Sub(s.read) > locationsAge {
		known, unread, err := c.readShared(icebergio.With(ctx, t.store), t)
		if err != nil {
			return references{}, 0, fmt.Errorf("look for files that other tables refer to: %w", err)
		}
		s.known, s.unread, s.read = known, unread, now
	}
	return s.known, s.unread, nil
}

// readShared reads the manifests of every table of the catalog, table by
// table, and keeps only paths that lie outside the table that names them.
func (c *Catalog) readShared(ctx context.Context, t *Table) (references, int, error) {
	out, unread := references{keys: pathSet{}}, 0
	if c.shared.plain == nil {
		c.shared.plain = map[pathKey]struct{}{}
	}
	spaces, err := c.allNamespaces(ctx, nil, 0)
	if err != nil {
		return out, 0, err
	}
	for _, ns := range spaces {
		for id, err := range c.ListTables(ctx, ns) {
			if err != nil {
				unread++ // a namespace that cannot be listed
				break
			}
			tbl, err := c.LoadTable(ctx, id)
			if err == nil {
				err = t.outside(ctx, tbl.Metadata(), c.shared.plain, out)
			}
			if ctx.Err() != nil {
				return out, 0, ctx.Err()
			}
			if err != nil {
				unread++
			}
		}
	}
	return out, unread, nil
}

// outside adds the files that a table's snapshots refer to and that lie outside
// its folders. Manifests are immutable, so one that names no such file is read
// once.
func (t *Table) outside(ctx context.Context, meta table.Metadata, plain map[pathKey]struct{}, out references) error {
	roots := ownFolders(meta)
	add := func(path string) bool {
		if path == "" || within(roots, path) {
			return false
		}
		out.add(path)
		return true
	}
	for f := range meta.Statistics() {
		add(f.StatisticsPath)
	}
	for f := range meta.PartitionStatistics() {
		add(f.StatisticsPath)
	}
	seen := pathSet{}
	for _, s := range meta.Snapshots() {
		list, err := s.Manifests(t.fs(ctx))
		if err != nil {
			return hide(err)
		}
		add(s.ManifestList)
		for _, m := range list {
			k := placeOf(m.FilePath())
			if _, ok := plain[k]; ok || seen.has(k) {
				continue
			}
			seen.add(k)
			away := add(m.FilePath())
			for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
				if err != nil {
					return hide(err)
				}
				away = add(e.DataFile().FilePath()) || away
			}
			if !away {
				plain[k] = struct{}{}
			}
		}
	}
	return nil
}
