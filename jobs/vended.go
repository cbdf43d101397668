package jobs

import (
	"context"
	"maps"
	"strings"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// openVended opens a table of a catalog that may hand out storage credentials
// with it (Iceberg REST specification, LoadTableResult). They win over the job's and
// the catalog's, for this table alone, and are those of the moment at which the
// run opened the table: a run that outlasts them ends with the store's error and
// gets new ones when it is resumed.
func (j *Job) openVended(ctx context.Context, cat *iceberg.Catalog, name string, ident []string, plain storage.Store) (warehouse.Target, error) {
	own := cat.Properties()
	var last error
	t, err := iceberg.OpenWith(ctx, cat, ident, func(_ context.Context, props map[string]string) storage.Store {
		vended := vendedProperties(own, props)
		if len(vended) == 0 {
			j.setVended(name, nil)
			return plain
		}
		all := maps.Clone(own)
		maps.Copy(all, vended)
		s, err := j.openStore(cat.Name(), all)
		if err != nil {
			last = err
			return plain
		}
		j.setVended(name, s)
		return s
	})
	if last != nil {
		return nil, last
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// vendedProperties are the storage properties that came with a table and are
// not the catalog's own. A table's other properties are none of storage's business.
func vendedProperties(own, props map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range props {
		for _, prefix := range []string{"s3.", "gcs.", "adls.", "client."} {
			if strings.HasPrefix(k, prefix) && own[k] != v {
				out[k] = v
			}
		}
	}
	return out
}

func (j *Job) setVended(name string, s storage.Store) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s == nil {
		delete(j.vended, name)
		return
	}
	j.vended[name] = s
}

// vendedStore is the store of a table that came with credentials, nil otherwise.
func (j *Job) vendedStore(name string) storage.Store {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s, ok := j.vended[name]; ok {
		return s
	}
	table, _ := branchOf(name)
	return j.vended[table]
}
