package iceberg

import (
	"context"
	"fmt"

	"github.com/apache/iceberg-go"

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
	intent := keyOf(intentPath(meta, runID))
	found := map[pathKey]string{}
	for _, prefix := range []string{outputDir(meta, runID) + "/", metadataDir(meta) + "/" + runPrefix(runID)} {
		for info, err := range t.store.List(ctx, prefix) {
			if err != nil {
				return 0, fmt.Errorf("list: %w", hide(err))
			}
			if k := keyOf(canonical(info.Path)); k != intent && k != keyOf(canonical(intentPath(meta, runID))) {
				found[k] = info.Path
			}
		}
	}
	if len(found) == 0 {
		return 0, nil
	}
	seen := pathSet{}
	for _, s := range meta.Snapshots() {
		delete(found, keyOf(canonical(s.ManifestList)))
		list, err := s.Manifests(t.fs(ctx))
		if err != nil {
			return 0, fmt.Errorf("read manifest list: %w", hide(err))
		}
		for _, m := range list {
			k := keyOf(canonical(m.FilePath()))
			delete(found, k)
			if seen.has(k) || len(found) == 0 {
				continue
			}
			seen.add(k)
			for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
				if err != nil {
					return 0, fmt.Errorf("read manifest: %w", hide(err))
				}
				delete(found, keyOf(canonical(e.DataFile().FilePath())))
			}
		}
	}
	r := &remover{t: t, record: record}
	var n int64
	for _, path := range found {
		was, err := r.remove(ctx, path, kindAttempt)
		if err != nil {
			return n, err
		}
		if was {
			n++
		}
	}
	return n, nil
}
