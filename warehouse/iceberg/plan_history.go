package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// History visits every data file that other snapshots reach and the head does
// not, and that may hold a key by what its manifest says of it. Nobody reads
// such a row any more, and it is stored all the same.
func (t *Table) History(ctx context.Context, sel warehouse.Selection, visit func(warehouse.File) error) error {
	tbl, err := t.load(ctx)
	if err != nil {
		return err
	}
	meta := tbl.Metadata()
	var head, old []table.Snapshot
	for _, s := range meta.Snapshots() {
		if cur := meta.CurrentSnapshot(); cur != nil && s.SnapshotID == cur.SnapshotID {
			head = append(head, s)
		} else {
			old = append(old, s)
		}
	}
	if len(old) == 0 {
		return nil
	}
	sel.Compact, sel.Time, sel.Residue = nil, nil, false
	p, err := t.newPlanner(meta, sel)
	if errors.Is(err, warehouse.ErrNotFound) && sel.MissingColumn == "list" {
		return nil
	}
	if err != nil {
		return err
	}
	if p.deletes, err = t.indexDeletes(ctx, meta, nil); err != nil {
		return err
	}
	s, err := t.newSweep(ctx, head, old)
	if err != nil {
		return err
	}
	for _, m := range s.dying {
		if m.ManifestContent() != icebergo.ManifestContentData {
			continue
		}
		if err := p.history(ctx, s, m, visit); err != nil {
			return fmt.Errorf("history of %s: %w", t.name, err)
		}
	}
	return nil
}

// history visits what one manifest of old snapshots adds to those before it.
func (p *planner) history(ctx context.Context, s *sweep, m icebergo.ManifestFile, visit func(warehouse.File) error) error {
	spec := p.specs[m.PartitionSpecID()]
	if spec == nil {
		return fmt.Errorf("manifest follows partition spec %d, which the table does not have", m.PartitionSpecID())
	}
	for e, err := range p.t.entries(ctx, m, icebergo.ManifestEntryProjection{IncludePruningStats: true}) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		k := placeOf(e.DataFile().FilePath())
		if !s.files.has(k) {
			continue
		}
		delete(s.files, k)
		if f := p.decide(e, spec, false); f.reason == "" && f.excluded == "" {
			if err := visit(f.file); err != nil {
				return err
			}
		}
	}
	return nil
}
