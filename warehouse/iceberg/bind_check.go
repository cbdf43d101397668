package iceberg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// Check proves, without writing, that the selection can be carried out: the
// table is of a supported kind, every column the selection names exists and
// can be compared or changed, and the head can be read. CheckWrite proves the
// permissions to write.
func (t *Table) Check(ctx context.Context, sel warehouse.Selection) error {
	tbl, err := t.load(ctx)
	if err != nil {
		return err
	}
	meta := tbl.Metadata()
	if err := t.whole(ctx, meta); err != nil {
		return err
	}
	if _, err := t.newPlanner(meta, sel); err != nil {
		if errors.Is(err, warehouse.ErrNotFound) && sel.MissingColumn == "list" {
			return nil
		}
		return err
	}
	if _, err := bindAction(meta, sel); err != nil {
		return fmt.Errorf("table %s: %w", t.name, err)
	}
	snap := meta.CurrentSnapshot()
	if snap == nil {
		return nil
	}
	manifests, err := snap.Manifests(t.fs(ctx))
	if err != nil {
		return fmt.Errorf("table %s: read manifest list: %w", t.name, cleanError(err))
	}
	if len(manifests) == 0 {
		return nil
	}
	obj, err := t.store.Open(ctx, manifests[0].FilePath())
	if err != nil {
		return fmt.Errorf("table %s: open manifest: %w", t.name, err)
	}
	return obj.Close()
}

// CheckWrite proves that objects can be written, listed and removed where the
// table keeps data and metadata. It leaves nothing behind.
func (t *Table) CheckWrite(ctx context.Context) error {
	tbl, err := t.load(ctx)
	if err != nil {
		return err
	}
	for _, dir := range writeFolders(tbl.Metadata()) {
		if err := t.probe(ctx, dir); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return nil
}

// writeFolders are where new data and metadata files of a table go.
func writeFolders(meta table.Metadata) []string {
	base := strings.TrimRight(meta.Location(), "/")
	data, metadata := base+"/data", base+"/metadata"
	if p := meta.Properties()["write.data.path"]; p != "" {
		data = strings.TrimRight(p, "/")
	}
	if p := meta.Properties()["write.metadata.path"]; p != "" {
		metadata = strings.TrimRight(p, "/")
	}
	return []string{data, metadata}
}

// probePrefix starts the names of probe objects.
const probePrefix = "expunge-probe-"

func (t *Table) probe(ctx context.Context, dir string) (err error) {
	path := dir + "/" + probePrefix + strings.ToLower(rand.Text())
	if err := storage.WriteAll(ctx, t.store, path, []byte("probe\n"), storage.CreateOptions{}); err != nil {
		return fmt.Errorf("write a probe object: %w", err)
	}
	defer func() {
		if rmErr := t.store.Remove(ctx, path); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the probe object: %w", rmErr))
		}
	}()
	for _, listErr := range t.store.List(ctx, path) {
		if listErr != nil {
			return fmt.Errorf("list a probe object: %w", listErr)
		}
		return nil
	}
	return errors.New("the probe object is not listed")
}
