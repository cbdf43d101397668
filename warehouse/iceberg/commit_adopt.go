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
		RowsErased: number(propErased), RowsChanged: number(propChanged), RowsAlreadyDeleted: number(propDeleted), DeleteFilesRemoved: number(propDeleteFiles),
	}
	for name, ref := range tbl.Metadata().Refs() {
		if isProtectRef(name, ref) && ref.SnapshotID == before.SnapshotID {
			if want := protectRef(c.req.RunID, c.req.Group); name == want || name == want+".s"+strconv.FormatInt(snap.SnapshotID, 10) {
				out.ProtectRef = name
			}
		}
	}
	by, err := c.t.changesBy(ctx, snap)
	if err != nil {
		return nil, err
	}
	live := map[pathKey]bool{}
	for r, err := range c.req.Results(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if by.used(r) {
			live[keyOf(r.Task.File.Path)] = true
		}
	}
	if out.Withdrawn, err = c.withdrawn(ctx, live); err != nil {
		return nil, err
	}
	out.Results, err = c.earlier(ctx, by, live)
	return out, err
}

// fileChanges are the data files that a snapshot of ours replaced or dropped,
// and those that it added.
type fileChanges struct{ removed, added pathSet }

// used says that the snapshot did what the result says. A file may have been
// scanned again before the swap: then the first result's output was not added.
func (c *fileChanges) used(r warehouse.Result) bool {
	switch {
	case !c.removed.has(keyOf(r.Task.File.Path)):
		return false
	case r.Status == warehouse.Dropped:
		return true
	}
	return r.Status == warehouse.Rewritten && r.Output != nil && c.added.has(keyOf(r.Output.Path))
}

// earlier are the results of rescans, of former tries and of this one, that
// the adopted commit stands on: the last one of each file that no planned
// result accounts for.
func (c *committer) earlier(ctx context.Context, by *fileChanges, planned map[pathKey]bool) ([]warehouse.Result, error) {
	last := map[pathKey]int{}
	var out []warehouse.Result
	add := func(r warehouse.Result) {
		k := keyOf(r.Task.File.Path)
		if planned[k] || !by.used(r) {
			return
		}
		if i, ok := last[k]; ok {
			out[i] = r
			return
		}
		last[k] = len(out)
		out = append(out, r)
	}
	if c.req.Earlier != nil {
		for r, err := range c.req.Earlier(ctx) {
			if err != nil {
				return nil, fmt.Errorf("read results of former tries: %w", err)
			}
			add(r)
		}
	}
	for _, r := range c.extra {
		add(r)
	}
	return out, nil
}

// changesBy reads what a snapshot of ours did to data files.
func (t *Table) changesBy(ctx context.Context, snap *table.Snapshot) (*fileChanges, error) {
	list, err := snap.Manifests(t.fs(ctx))
	if err != nil {
		return nil, fmt.Errorf("read manifest list: %w", hide(err))
	}
	out := &fileChanges{removed: pathSet{}, added: pathSet{}}
	for _, m := range list {
		if m.SnapshotID() != snap.SnapshotID || m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, false, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", hide(err))
			}
			if e.SnapshotID() != snap.SnapshotID {
				continue
			}
			switch e.Status() {
			case iceberg.EntryStatusDELETED:
				out.removed.add(keyOf(e.DataFile().FilePath()))
			case iceberg.EntryStatusADDED:
				out.added.add(keyOf(e.DataFile().FilePath()))
			}
		}
	}
	return out, nil
}
