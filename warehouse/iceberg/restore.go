package iceberg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// Restore adds the erased rows of a run again, on top of the current head.
// Whatever others committed since stays; nothing is rolled back.
//
// Each output takes the partition, the sort order and the data sequence number
// of the file its rows came from, so that an equality delete that would have
// deleted a row there still does. Rows that a folded delete hid are not in the
// outputs. The snapshot names the run, which makes a second call find it.
func (t *Table) Restore(ctx context.Context, req warehouse.RestoreRequest) (*warehouse.Committed, error) {
	out, err := t.restore(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", t.name, err)
	}
	return out, nil
}

func (t *Table) restore(ctx context.Context, req warehouse.RestoreRequest) (*warehouse.Committed, error) {
	if err := t.checkRestored(ctx, req.Files); err != nil {
		return nil, err
	}
	out := &warehouse.Committed{RunID: req.RunID, Group: req.Committed.Group}
	began := clock.Now(ctx)
	for {
		done, err := t.restoreOnce(ctx, req, out)
		var swap *swapError
		if err == nil || !errors.As(err, &swap) || ctx.Err() != nil {
			return done, err
		}
		out.Conflicts++
		if out.Attempts >= purgeAttempts && (!swap.conflict() || clock.Now(ctx).Sub(began) >= purgePatience) {
			if swap.conflict() {
				return nil, fmt.Errorf("%d attempts, the table kept changing; run it again: %w", out.Attempts, warehouse.ErrConflict)
			}
			return nil, err
		}
		if err := pause(ctx, out.Attempts, swap.conflict()); err != nil {
			return nil, err
		}
	}
}

func (t *Table) checkRestored(ctx context.Context, files []warehouse.Result) error {
	seen := pathSet{}
	for _, r := range files {
		if r.Output == nil || r.Output.Rows <= 0 {
			return fmt.Errorf("result of task %d has no output", r.Task.Index)
		}
		if k := keyOf(r.Task.File.Path); !seen.has(k) {
			seen.add(k)
		} else {
			return fmt.Errorf("result of task %d: its file has a result already", r.Task.Index)
		}
	}
	return inParallel(ctx, len(files), func(ctx context.Context, i int) error {
		return t.checkOutput(ctx, files[i].Output.Path, files[i].Output.Size)
	})
}

func (t *Table) restoreOnce(ctx context.Context, req warehouse.RestoreRequest, out *warehouse.Committed) (*warehouse.Committed, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	meta := tbl.Metadata()
	if want := req.Committed.After.UUID; want != "" && want != meta.TableUUID().String() {
		return nil, fmt.Errorf("the table was replaced by another of the same name since the commit: %w", warehouse.ErrNotFound)
	}
	if out.Before, err = t.describe(ctx, tbl); err != nil {
		return nil, err
	}
	out.After = out.Before
	if snap := marked(meta, restoredBy(req)); snap != nil {
		out.Adopted = true
		out.After.SnapshotID, out.After.SequenceNumber = snap.SnapshotID, snap.SequenceNumber
		return out, nil
	}
	if len(req.Files) == 0 {
		out.NoChange = true
		return out, nil
	}
	head := meta.CurrentSnapshot()
	if head == nil {
		return nil, fmt.Errorf("the table has no snapshot any more: %w", warehouse.ErrNotFound)
	}
	d, err := t.restoreDraft(ctx, meta, head, req)
	if err != nil {
		return nil, err
	}
	out.Attempts++
	snap, err := d.author.writeList(ctx, meta, head, d.draft)
	if err != nil {
		return nil, err
	}
	after, err := d.author.commit(ctx, tbl, snap, d.draft.tag, req.Fence)
	if err != nil {
		return nil, err
	}
	out.Results = req.Files
	if out.After, err = t.describe(ctx, after); err != nil {
		return nil, err
	}
	return out, nil
}

func restoredBy(req warehouse.RestoreRequest) map[string]string {
	return map[string]string{propRestored: req.RunID, propGroup: strconv.Itoa(req.Committed.Group)}
}

type authored struct {
	author *author
	draft  draft
}

// restoreDraft carries every manifest of the head and adds those of the outputs.
func (t *Table) restoreDraft(ctx context.Context, meta table.Metadata, head *table.Snapshot, req warehouse.RestoreRequest) (*authored, error) {
	before := meta.SnapshotByID(req.Committed.Before.SnapshotID)
	if before == nil {
		return nil, fmt.Errorf("the snapshot before the run is gone, its grace is over: %w", warehouse.ErrNotFound)
	}
	a := t.newAuthor(meta, req.RunID, "restore")
	byPath := map[pathKey]warehouse.Result{}
	for _, r := range req.Files {
		byPath[keyOf(r.Task.File.Path)] = r
	}
	stats := changes{}
	added, err := a.addBeside(ctx, before, byPath, &stats)
	if err != nil {
		return nil, err
	}
	if len(byPath) > 0 {
		return nil, fmt.Errorf("%d files to restore were not in the snapshot before the run: %w", len(byPath), warehouse.ErrNotFound)
	}
	list, err := head.Manifests(t.fs(ctx))
	if err != nil {
		return nil, fmt.Errorf("read manifest list: %w", hide(err))
	}
	return &authored{author: a, draft: draft{
		op: table.OpAppend, manifests: append(added, list...), stats: stats, props: restoredBy(req),
	}}, nil
}

// addBeside writes an entry for each output, next to what the entry of its
// source says in an older snapshot, and takes found ones out of the map.
func (a *author) addBeside(ctx context.Context, before *table.Snapshot, outputs map[pathKey]warehouse.Result, stats *changes) ([]iceberg.ManifestFile, error) {
	list, err := before.Manifests(a.t.fs(ctx))
	if err != nil {
		return nil, fmt.Errorf("read manifest list of the snapshot before: %w", hide(err))
	}
	rolls := map[int32]*roll{}
	defer func() {
		for _, r := range rolls {
			r.abort()
		}
	}()
	for _, m := range list {
		if m.ManifestContent() != iceberg.ManifestContentData || len(outputs) == 0 {
			continue
		}
		for e, err := range iceberg.EntriesWithProjection(a.t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", hide(err))
			}
			src := e.DataFile()
			key := keyOf(src.FilePath())
			r, ok := outputs[key]
			if !ok {
				continue
			}
			delete(outputs, key)
			w := rolls[src.SpecID()]
			if w == nil {
				w = &roll{a: a, spec: int(src.SpecID()), content: iceberg.ManifestContentData, limit: manifestTarget}
				rolls[src.SpecID()] = w
			}
			df, err := a.dataFile(partition{spec: src.SpecID(), values: src.Partition()}, r.Output, src.SortOrderID(), src.FirstRowID())
			if err != nil {
				return nil, err
			}
			if err := w.added(ctx, a.sequence(e.SequenceNum()), df); err != nil {
				return nil, err
			}
			stats.addData(r.Output.Rows, r.Output.Size)
		}
	}
	var out []iceberg.ManifestFile
	for _, spec := range slices.Sorted(maps.Keys(rolls)) {
		if err := rolls[spec].close(); err != nil {
			return nil, err
		}
		out = append(out, rolls[spec].done...)
	}
	return out, nil
}
