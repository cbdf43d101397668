package iceberg

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// CleanAttempts removes files under the run's prefix that no snapshot
// references: outputs that were withdrawn or written twice, manifests and
// lists of attempts that lost. It must not run beside the run itself.
func (t *Table) CleanAttempts(ctx context.Context, runID string, record func(context.Context, warehouse.PhysicalDelete) error) (int64, error) {
	n, err := t.cleanAttempts(ctx, runID, record)
	if err != nil {
		return n, fmt.Errorf("clean attempts at %s: %w", t.name, err)
	}
	return n, nil
}

func (t *Table) cleanAttempts(ctx context.Context, runID string, record func(context.Context, warehouse.PhysicalDelete) error) (int64, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return 0, err
	}
	meta := tbl.Metadata()
	if err := t.whole(ctx, meta); err != nil {
		return 0, err
	}
	r := &remover{t: t, record: record}
	n, err := t.cleanMetadata(ctx, meta, runID, r)
	if err != nil {
		return n, err
	}
	m, err := t.cleanData(ctx, meta, runID, r)
	return n + m, err
}

// attemptFile is what follows the run's prefix in the name of a manifest or
// manifest list; see author.
var attemptFile = regexp.MustCompile(`^(g\d+|purge|restore)-\d+-(m|list)\d+\.avro$`)

// listRun lists what lies under a prefix of the run.
func (t *Table) listRun(ctx context.Context, prefix string) (map[pathKey]string, error) {
	found := map[pathKey]string{}
	for info, err := range t.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list: %w", hide(err))
		}
		found[keyOf(canonical(info.Path))] = info.Path
	}
	return found, nil
}

// cleanMetadata removes the run's manifests and lists that no snapshot lists.
func (t *Table) cleanMetadata(ctx context.Context, meta table.Metadata, runID string, r *remover) (int64, error) {
	found, err := t.listRun(ctx, metadataDir(meta)+"/"+runPrefix(runID))
	if err != nil {
		return 0, err
	}
	for k, path := range found {
		// A run whose id starts with this one's has files here too.
		if !attemptFile.MatchString(path[strings.LastIndex(path, runPrefix(runID))+len(runPrefix(runID)):]) {
			delete(found, k)
		}
	}
	if len(found) > 0 {
		if _, err := t.eachManifest(ctx, meta, func(key pathKey) { delete(found, key) }); err != nil {
			return 0, err
		}
	}
	return r.removeAll(ctx, found)
}

// cleanData removes the run's outputs that no snapshot's files are.
func (t *Table) cleanData(ctx context.Context, meta table.Metadata, runID string, r *remover) (int64, error) {
	found, err := t.listRun(ctx, outputDir(meta, runID)+"/")
	if err != nil || len(found) == 0 {
		return 0, err
	}
	manifests, err := t.eachManifest(ctx, meta, func(pathKey) {})
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	err = inParallel(ctx, len(manifests), func(ctx context.Context, i int) error {
		var live []pathKey // of one manifest
		for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), manifests[i], true, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return err
			}
			live = append(live, keyOf(canonical(e.DataFile().FilePath())))
		}
		mu.Lock()
		defer mu.Unlock()
		for _, k := range live {
			delete(found, k)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read manifest: %w", hide(err))
	}
	return r.removeAll(ctx, found)
}

// eachManifest visits the lists and manifests of every snapshot and returns
// each manifest once.
func (t *Table) eachManifest(ctx context.Context, meta table.Metadata, visit func(key pathKey)) ([]iceberg.ManifestFile, error) {
	seen := pathSet{}
	var out []iceberg.ManifestFile
	for _, s := range meta.Snapshots() {
		visit(keyOf(canonical(s.ManifestList)))
		list, err := s.Manifests(t.fs(ctx))
		if err != nil {
			return nil, fmt.Errorf("read manifest list: %w", hide(err))
		}
		for _, m := range list {
			key := keyOf(canonical(m.FilePath()))
			visit(key)
			if !seen.has(key) {
				seen.add(key)
				out = append(out, m)
			}
		}
	}
	return out, nil
}

func (r *remover) removeAll(ctx context.Context, found map[pathKey]string) (n int64, err error) {
	for _, path := range found {
		if err := r.remove(ctx, path, kindAttempt, func() { n++ }); err != nil {
			return n, err
		}
	}
	err = r.flush(ctx)
	return n, err
}
