package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// oldProbe is the age from which a probe object (see CheckWrite) has nobody
// left who would remove it.
const oldProbe = time.Hour

// CleanUnfinished removes what processes that died left half written: parts of
// uploads and temporary files under the run's own prefix, temporary files
// beside data and metadata on a local disk (whose writers are known to be gone),
// and old probe objects. Nothing of it is visible to a reader, but it can hold rows. It must
// not run beside the run itself; whoever has the table's lease may call it.
func (t *Table) CleanUnfinished(ctx context.Context, runID string) error {
	tbl, err := t.load(ctx)
	if err != nil {
		return err
	}
	meta := tbl.Metadata()
	prefixes := []string{outputDir(meta, runID) + "/", metadataDir(meta) + "/" + runPrefix(runID)}
	for _, dir := range writeFolders(meta) {
		prefixes = append(prefixes, dir+"/"+storage.TempPrefix)
	}
	for _, prefix := range prefixes {
		if _, err := storage.CleanUnfinished(ctx, t.store, prefix, 0); err != nil {
			return fmt.Errorf("clean unfinished writes at %s: %w", t.name, hide(err))
		}
	}
	for _, dir := range writeFolders(meta) {
		if err := t.cleanProbes(ctx, dir+"/"+probePrefix); err != nil {
			return fmt.Errorf("clean probe objects at %s: %w", t.name, hide(err))
		}
	}
	return nil
}

func (t *Table) cleanProbes(ctx context.Context, prefix string) error {
	for info, err := range t.store.List(ctx, prefix) {
		if err != nil {
			return err
		}
		if clock.Now(ctx).Sub(info.ModTime) < oldProbe {
			continue
		}
		if err := t.store.Remove(ctx, info.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
