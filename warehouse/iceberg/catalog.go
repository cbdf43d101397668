package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
)

// CatalogOpener opens one kind of catalog from its properties. The closer
// releases what the opener itself holds, such as a database; it may be nil.
type CatalogOpener func(ctx context.Context, name string, props map[string]string) (catalog.Catalog, io.Closer, error)

var (
	openersMu sync.Mutex
	openers   = map[string]CatalogOpener{}
)

// RegisterCatalog makes a kind of catalog known, from an init function. The
// packages under catalogs/ each register one.
func RegisterCatalog(kind string, open CatalogOpener) {
	openersMu.Lock()
	defer openersMu.Unlock()
	openers[strings.ToLower(kind)] = open
}

// Catalog is an opened catalog under the name that a job gives it.
type Catalog struct {
	catalog.Catalog
	name   string
	props  map[string]string
	owned  bool
	closer io.Closer

	locations tableLocations
	shared    sharedFiles
}

var installOnce = sync.OnceFunc(func() { icebergio.Install(nil) })

// OpenCatalog opens a catalog from its configuration map: "type" is the kind
// (sql, rest, glue, hive), the rest are PyIceberg's property names. Nothing
// but the map is read, no file in a home directory.
//
// From the first call on, iceberg-go does its input and output through
// internal/storage for every scheme (icebergio.Install).
func OpenCatalog(ctx context.Context, name string, props map[string]string) (*Catalog, error) {
	installOnce()
	kind := strings.ToLower(props["type"])
	openersMu.Lock()
	open := openers[kind]
	known := slices.Sorted(maps.Keys(openers))
	openersMu.Unlock()
	if open == nil {
		return nil, fmt.Errorf("catalog %s: type %q is not one of %s: %w", name, kind, strings.Join(known, ", "), warehouse.ErrUnsupported)
	}
	cat, closer, err := open(ctx, name, props)
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", name, err)
	}
	return &Catalog{Catalog: cat, name: name, props: maps.Clone(props), owned: true, closer: closer}, nil
}

// NewCatalog wraps a catalog that the caller has opened and will close itself.
func NewCatalog(name string, cat catalog.Catalog, props map[string]string) *Catalog {
	return &Catalog{Catalog: cat, name: name, props: maps.Clone(props)}
}

// Name is the name that the job gives the catalog.
func (c *Catalog) Name() string { return c.name }

// Properties are those the catalog was opened with. They may hold secrets.
func (c *Catalog) Properties() map[string]string { return maps.Clone(c.props) }

// Close releases the catalog.
func (c *Catalog) Close() error {
	var errs []error
	if cl, ok := c.Catalog.(io.Closer); ok && c.owned {
		errs = append(errs, cl.Close())
	}
	if c.closer != nil {
		errs = append(errs, c.closer.Close())
	}
	return errors.Join(errs...)
}

// Resolve lists the tables that a pattern names, sorted. A pattern starts with
// the catalog's name; in the other parts * and ? stand for characters within
// one part, so "lake.events.*" is every table of one namespace. Views that
// match are listed too: opening one says that it is unsupported, so that
// nothing selected goes unnoticed. No match at all is warehouse.ErrNotFound.
func (c *Catalog) Resolve(ctx context.Context, pattern string) ([]table.Identifier, error) {
	parts := strings.Split(pattern, ".")
	if len(parts) < 3 || parts[0] != c.name || slices.Contains(parts, "") {
		return nil, fmt.Errorf("table %q is not catalog.namespace.table of catalog %s: %w", pattern, c.name, warehouse.ErrNotFound)
	}
	for _, p := range parts {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("table pattern %q: %w: %w", pattern, err, warehouse.ErrNotFound)
		}
	}
	parts = parts[1:]
	if !strings.ContainsAny(strings.Join(parts, ""), `*?[\`) {
		return c.resolveExact(ctx, parts)
	}
	var found []table.Identifier
	spaces, err := c.namespaces(ctx, parts[:len(parts)-1])
	if err != nil {
		return nil, fmt.Errorf("list namespaces of %s: %w", c.name, err)
	}
	for _, ns := range spaces {
		ids, err := c.tablesAndViews(ctx, ns)
		if err != nil {
			return nil, fmt.Errorf("list tables of %s.%s: %w", c.name, strings.Join(ns, "."), err)
		}
		for _, id := range ids {
			if matchParts(parts, id) {
				found = append(found, id)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no table matches %q: %w", pattern, warehouse.ErrNotFound)
	}
	return distinct(found), nil
}

func (c *Catalog) resolveExact(ctx context.Context, id table.Identifier) ([]table.Identifier, error) {
	ok, err := c.CheckTableExists(ctx, id)
	if err != nil && !errors.Is(err, catalog.ErrNoSuchTable) && !errors.Is(err, catalog.ErrNoSuchNamespace) {
		return nil, fmt.Errorf("look up table %s.%s: %w", c.name, strings.Join(id, "."), err)
	}
	if (err == nil && ok) || c.isView(ctx, id) {
		return []table.Identifier{id}, nil
	}
	return nil, fmt.Errorf("table %s.%s: %w", c.name, strings.Join(id, "."), warehouse.ErrNotFound)
}

// namespaces lists those that match the pattern's namespace parts. It walks
// down level by level, because a REST catalog lists one level at a time; a
// catalog that lists all levels at once only makes it meet some twice.
func (c *Catalog) namespaces(ctx context.Context, parts []string) ([]table.Identifier, error) {
	if !strings.ContainsAny(strings.Join(parts, ""), `*?[\`) {
		return []table.Identifier{parts}, nil
	}
	var found []table.Identifier
	level := []table.Identifier{nil}
	for depth := 1; depth <= len(parts); depth++ {
		var next []table.Identifier
		for _, parent := range level {
			children, err := c.ListNamespaces(ctx, parent)
			if errors.Is(err, catalog.ErrNoSuchNamespace) {
				continue // a name that is only the start of others
			}
			if err != nil {
				return nil, err
			}
			for _, ns := range children {
				if matchParts(parts, ns) {
					found = append(found, ns)
				}
				if len(ns) >= depth && matchParts(parts[:depth], ns[:depth]) {
					next = append(next, ns[:depth])
				}
			}
		}
		level = distinct(next)
	}
	return distinct(found), nil
}

// distinct sorts names and drops repeated ones.
func distinct(ids []table.Identifier) []table.Identifier {
	slices.SortFunc(ids, func(a, b table.Identifier) int { return slices.Compare(a, b) })
	return slices.CompactFunc(ids, func(a, b table.Identifier) bool { return slices.Equal(a, b) })
}

// viewer is what catalogs with views offer.
type viewer interface {
	CheckViewExists(ctx context.Context, identifier table.Identifier) (bool, error)
}

func (c *Catalog) isView(ctx context.Context, id table.Identifier) bool {
	v, ok := c.Catalog.(viewer)
	if !ok {
		return false
	}
	yes, err := v.CheckViewExists(ctx, id)
	return err == nil && yes
}

func (c *Catalog) tablesAndViews(ctx context.Context, ns table.Identifier) ([]table.Identifier, error) {
	var ids []table.Identifier
	for id, err := range c.ListTables(ctx, ns) {
		if errors.Is(err, catalog.ErrNoSuchNamespace) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	v, ok := c.Catalog.(interface {
		ListViews(ctx context.Context, namespace table.Identifier) iter.Seq2[table.Identifier, error]
	})
	if !ok {
		return ids, nil
	}
	for id, err := range v.ListViews(ctx, ns) {
		if err != nil {
			// Views hold no data of their own: a server without the endpoint loses nothing.
			break
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func matchParts(pattern []string, id table.Identifier) bool {
	if len(pattern) != len(id) {
		return false
	}
	for i, p := range pattern {
		if ok, err := path.Match(p, id[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// supported refuses tables that cannot be worked on as a whole.
func supported(meta table.Metadata) error {
	for range meta.EncryptionKeys() {
		return fmt.Errorf("table is encrypted: %w", warehouse.ErrUnsupported)
	}
	if meta.Properties()["encryption.key-id"] != "" {
		return fmt.Errorf("table is encrypted: %w", warehouse.ErrUnsupported)
	}
	if v := meta.Version(); v < 1 || v > 3 {
		return fmt.Errorf("table format version %d: %w", v, warehouse.ErrUnsupported)
	}
	return nil
}
