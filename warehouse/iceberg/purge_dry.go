package iceberg

import (
	"context"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// dryRun says what a purge would do. It writes nothing.
func (p *purge) dryRun(ctx context.Context, tbl *table.Table) (*warehouse.Purged, error) {
	meta := tbl.Metadata()
	h, err := p.history(ctx, meta)
	if err != nil {
		return nil, err
	}
	p.out.Blockers = append(p.out.Blockers, h.blockers...)
	going := map[int64]bool{}
	for _, s := range h.expire {
		going[s.SnapshotID] = true
		p.out.SnapshotsExpired = append(p.out.SnapshotsExpired, s.SnapshotID)
	}
	var remain []table.Snapshot
	for _, s := range meta.Snapshots() {
		// The head's files stay live even where its manifests are rewritten.
		if cur := meta.CurrentSnapshot(); !going[s.SnapshotID] || s.SnapshotID == cur.SnapshotID {
			remain = append(remain, s)
		}
	}
	s, err := p.t.newSweep(ctx, remain, h.expire)
	if err != nil {
		return nil, err
	}
	p.out.ManifestsRemoved = int64(len(s.dying))
	roots := ownFolders(meta)
	for _, m := range s.dying {
		err := s.each(ctx, m, func(df iceberg.DataFile) error {
			if within(roots, df.FilePath()) {
				p.out.FilesRemoved++
				p.out.BytesRemoved += df.FileSizeBytes()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	p.out.After, err = p.t.describe(ctx, tbl)
	return &p.out, err
}
