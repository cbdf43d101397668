package iceberg

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/errgroup"

	"github.com/expunge/expunge/internal/clock"
)

const (
	// locationsAge is how long the tables' locations are believed.
	locationsAge = 10 * time.Minute
	// locationWorkers load tables at a time.
	locationWorkers = 8
)

// tableLocations remembers where the tables of a catalog lie.
type tableLocations struct {
	mu    sync.Mutex
	read  time.Time
	known map[string]string // table name → location
}

// overlapping returns the name of another table of the catalog whose location
// contains, or lies in, the given one; "" = none. Removing what a table does
// not reference would remove the other's files. Tables that cannot be loaded
// say nothing of their location and are passed over.
func (c *Catalog) overlapping(ctx context.Context, ident table.Identifier, location string) (string, error) {
	l := &c.locations
	l.mu.Lock()
	defer l.mu.Unlock()
	now := clock.Now(ctx)
	if l.known == nil || now.Sub(l.read) > locationsAge {
		known, err := c.allLocations(ctx)
		if err != nil {
			return "", err
		}
		l.known, l.read = known, now
	}
	self := strings.Join(ident, ".")
	for _, name := range sortedKeys(l.known) {
		if name != self && overlaps(location, l.known[name]) {
			return c.name + "." + name, nil
		}
	}
	return "", nil
}

func (c *Catalog) allLocations(ctx context.Context) (map[string]string, error) {
	spaces, err := c.allNamespaces(ctx, nil, 0)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	known := map[string]string{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(locationWorkers)
	for _, ns := range spaces {
		for id, err := range c.ListTables(ctx, ns) {
			if err != nil {
				break
			}
			g.Go(func() error {
				tbl, err := c.LoadTable(gctx, id)
				if err != nil {
					return gctx.Err()
				}
				mu.Lock()
				defer mu.Unlock()
				known[strings.Join(id, ".")] = tbl.Location()
				return nil
			})
		}
	}
	return known, g.Wait()
}

// maxNamespaceDepth ends the walk in catalogs that list a parent among its children.
const maxNamespaceDepth = 8

func (c *Catalog) allNamespaces(ctx context.Context, parent table.Identifier, depth int) ([]table.Identifier, error) {
	children, err := c.ListNamespaces(ctx, parent)
	if err != nil {
		if depth > 0 {
			return nil, nil // hive and glue know one level only
		}
		return nil, err
	}
	var out []table.Identifier
	for _, ns := range children {
		if len(ns) <= len(parent) {
			continue
		}
		out = append(out, ns)
		if depth < maxNamespaceDepth {
			below, err := c.allNamespaces(ctx, ns, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, below...)
		}
	}
	return distinct(out), nil
}

// overlaps says whether one location is the other or lies in it.
func overlaps(a, b string) bool {
	a, b = normalLocation(a), normalLocation(b)
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// normalLocation writes a location one way: one scheme a store, one slash at the end.
func normalLocation(l string) string {
	for _, alias := range [][2]string{{"s3a://", "s3://"}, {"s3n://", "s3://"}, {"abfss://", "abfs://"}, {"wasbs://", "wasb://"}, {"file://", ""}, {"file:", ""}} {
		if rest, ok := strings.CutPrefix(l, alias[0]); ok {
			l = alias[1] + rest
			break
		}
	}
	return strings.TrimRight(l, "/") + "/"
}
