package iceberg

import (
	"context"
	"fmt"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// adopt tells what a commit that an earlier try has made did. The try may have
// died before it could say so; the snapshot itself knows.
func (c *committer) adopt(ctx context.Context, tbl *table.Table, snap *table.Snapshot) (*warehouse.Committed, error) {
	after, err := c.t.describe(ctx, tbl)
	if err != nil {
		return nil, err
	}
	after.KeyPartitioned = c.req.Plan.Description.KeyPartitioned
	before := after
	after.SnapshotID, after.SequenceNumber = snap.SnapshotID, snap.SequenceNumber
	before.SnapshotID, before.SequenceNumber = 0, 0
	if snap.ParentSnapshotID != nil {
		before.SnapshotID = *snap.ParentSnapshotID
		if p := tbl.Metadata().SnapshotByID(before.SnapshotID); p != nil {
			before.SequenceNumber = p.SequenceNumber
		}
	}
	number := func(key string) int64 {
		n, err := strconv.ParseInt(snap.Summary.Properties[key], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	out := &warehouse.Committed{
		RunID: c.req.RunID, Group: c.req.Group, Before: before, After: after, Adopted: true,
		FilesReplaced: number(propReplaced), FilesDropped: number(propDropped),
		RowsErased: number(propErased), RowsAlreadyDeleted: number(propDeleted), DeleteFilesRemoved: number(propDeleteFiles),
	}
	for name, ref := range tbl.Metadata().Refs() {
		if isProtectRef(name, ref) && ref.SnapshotID == before.SnapshotID {
			if want := protectRef(c.req.RunID, c.req.Group); name == want || name == want+".s"+strconv.FormatInt(snap.SnapshotID, 10) {
				out.ProtectRef = name
			}
		}
	}
	removed, err := c.t.removedBy(ctx, snap)
	if err != nil {
		return nil, err
	}
	if out.Withdrawn, err = c.withdrawn(ctx, removed); err != nil {
		return nil, err
	}
	out.Results, err = c.earlier(ctx, removed, out.Withdrawn)
	return out, err
}

// earlier are the results of former tries' rescans that the adopted commit
// stands on: the last one of each file that it removed and no planned result accounts for.
func (c *committer) earlier(ctx context.Context, removed map[pathKey]bool, withdrawn []string) ([]warehouse.Result, error) {
	if c.req.Earlier == nil {
		return nil, nil
	}
	planned := map[pathKey]bool{}
	for r, err := range c.req.Results(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		planned[keyOf(r.Task.File.Path)] = true
	}
	for _, p := range withdrawn {
		delete(planned, keyOf(p))
	}
	last := map[pathKey]int{}
	var out []warehouse.Result
	for r, err := range c.req.Earlier(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read results of former tries: %w", err)
		}
		k := keyOf(r.Task.File.Path)
		if planned[k] || !removed[k] || r.Status != warehouse.Rewritten && r.Status != warehouse.Dropped {
			continue
		}
		if i, ok := last[k]; ok {
			out[i] = r
			continue
		}
		last[k] = len(out)
		out = append(out, r)
	}
	return out, nil
}

// removedBy reads which data files a snapshot of ours replaced or dropped.
func (t *Table) removedBy(ctx context.Context, snap *table.Snapshot) (map[pathKey]bool, error) {
	list, err := snap.Manifests(t.fs(ctx))
	if err != nil {
		return nil, fmt.Errorf("read manifest list: %w", hide(err))
	}
	removed := map[pathKey]bool{}
	for _, m := range list {
		if m.SnapshotID() != snap.SnapshotID || m.DeletedDataFiles() == 0 || m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, false, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", hide(err))
			}
			if e.Status() == iceberg.EntryStatusDELETED && e.SnapshotID() == snap.SnapshotID {
				removed[keyOf(e.DataFile().FilePath())] = true
			}
		}
	}
	return removed, nil
}
