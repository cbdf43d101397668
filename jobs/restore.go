package jobs

import (
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/redact"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// Restore re-adds the rows that a run erased, on the current head of each
// table. It reads them from the replaced files, which the grace still keeps,
// and undoes nothing that others wrote meanwhile. tables narrows it; none = all.
func (j *Job) Restore(ctx context.Context, runID string, tables []string, dry bool) (*RestoreSummary, error) {
	r, err := j.openRun(ctx, runID)
	if err != nil {
		return nil, err
	}
	if err := r.reopen(ctx); err != nil {
		return nil, err
	}
	defer r.unlock(ctx)
	ctx, cancel := r.watch(ctx)
	defer cancel()
	slots, err := r.restorable(tables)
	if err != nil {
		return nil, err
	}
	sum := &RestoreSummary{RunID: runID, Job: j.cfg.Name, DryRun: dry}
	for _, slot := range slots {
		res, err := r.restoreSlot(ctx, slot, dry)
		if err != nil {
			return nil, fmt.Errorf("restore %s: %w", r.targets[slot].name, err)
		}
		sum.Tables = append(sum.Tables, *res)
	}
	if dry {
		return sum, nil
	}
	if len(tables) == 0 {
		if err := j.dropFromAudit(ctx, runID); err != nil {
			return nil, err
		}
	}
	m, err := r.writeManifest(ctx, manifests.KindRestore, r.progress.last)
	if err != nil {
		return nil, err
	}
	sum.Outcome, sum.Manifest = string(m.Outcome.Result), r.progress.manifests[len(r.progress.manifests)-1].Path
	return sum, r.setStatus(ctx, StateFinished, "")
}

// restorable are the slots to restore, or an error that says why one cannot be.
func (r *Run) restorable(tables []string) ([]int, error) {
	var slots []int
	for _, slot := range r.progress.committedSlots() {
		name := r.targets[slot].name
		if r.opts.Compact {
			return nil, fmt.Errorf("run %s compacted tables and erased no row, so there is none to add back: %w", r.ID(), ErrUsage)
		}
		if len(tables) > 0 && !slices.Contains(tables, name) {
			continue
		}
		if _, gone := r.progress.purged[slot]; gone {
			return nil, fmt.Errorf("%s was purged: the erased rows no longer exist: %w", name, ErrUsage)
		}
		if _, done := r.progress.intents[slot]; done {
			return nil, fmt.Errorf("%s: its purge has begun: %w", name, ErrUsage)
		}
		slots = append(slots, slot)
	}
	for _, t := range tables {
		if !slices.ContainsFunc(slots, func(s int) bool { return r.targets[s].name == t }) {
			return nil, fmt.Errorf("run changed no table %s: %w", t, ErrUsage)
		}
	}
	if len(slots) == 0 {
		return nil, fmt.Errorf("run changed no table: %w", ErrUsage)
	}
	return slots, r.onlyDeletes(slots)
}

func (r *Run) restoreSlot(ctx context.Context, slot int, dry bool) (*RestoredTable, error) {
	t := r.targets[slot]
	out := &RestoredTable{Target: t.name}
	if c, done := r.progress.reverted[slot]; done {
		out.Rows, out.SnapshotID = c.RowsErased, c.After.SnapshotID
		return out, nil
	}
	if t.prefix() != nil {
		return r.restorePrefix(ctx, t, dry)
	}
	var files []warehouse.Result
	for res, err := range r.final(ctx, slot, r.progress.committed[slot]) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if res.Erased == 0 || res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
			continue
		}
		out.Files, out.Rows = out.Files+1, out.Rows+res.Erased
		if dry {
			continue
		}
		back, err := r.erasedRows(ctx, t, res)
		if err != nil {
			return nil, err
		}
		files = append(files, *back)
	}
	if dry {
		return out, nil
	}
	c, err := t.target.Restore(ctx, warehouse.RestoreRequest{RunID: r.ID(), Committed: r.progress.committed[slot].Committed, Files: files, Fence: r.fence})
	if err != nil {
		return nil, err
	}
	c.RowsErased = out.Rows
	out.SnapshotID = c.After.SnapshotID
	return out, r.note(ctx, evReverted, fmt.Sprint(slot), c)
}

// erasedRows writes a file that holds only the rows which the run erased from
// one file: the rewriter with the edit turned round.
func (r *Run) erasedRows(ctx context.Context, t *boundTarget, res warehouse.Result) (*warehouse.Result, error) {
	format, ok := r.job.format(res.Task.File.Format)
	if !ok {
		return nil, fmt.Errorf("format %s: %w", res.Task.File.Format, warehouse.ErrUnsupported)
	}
	f := fileWork{Worker: r.worker, t: t, task: res.Task, format: format}
	store, err := r.job.targetStore(ctx, t.name)
	if err != nil {
		return nil, err
	}
	src, err := store.Open(ctx, res.Task.File.Path)
	if err != nil {
		return nil, fmt.Errorf("open replaced file: %w", err)
	}
	defer src.Close()
	scan, err := format.Scan(ctx, src, res.Task.File.Bind(t.bound))
	if err != nil {
		return nil, fmt.Errorf("scan replaced file: %w", err)
	}
	deleted, err := t.target.Deleted(ctx, res.Task)
	if err != nil {
		return nil, fmt.Errorf("read tombstones: %w", err)
	}
	back := scan.Hits.Clone()
	back.AndNot(deleted)
	if int64(back.GetCardinality()) != res.Erased {
		return nil, fmt.Errorf("%w: the replaced file holds another number of erased rows than the journal says", errRowCount)
	}
	keep := roaring64.New()
	keep.AddRange(0, uint64(res.RowsIn))
	keep.AndNot(back)
	edit := rewriter.Edit{Erase: keep}
	if id := res.Task.File.FirstRowID; id != nil {
		edit.Lineage = &rewriter.Lineage{FirstRowID: *id, Sequence: res.Task.File.DataSequence}
	}
	digest := redact.Digest(r.st.Secret(), "restore\x00"+res.Task.File.Path+"\x00"+bitmapDigest(back))[:16]
	path := t.target.OutputPath(r.ID(), res.Task, "restore-"+digest)
	written, err := f.write(ctx, store, path, src, edit)
	if err != nil {
		return nil, err
	}
	metrics, err := t.target.Metrics(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	res.Packed = nil
	res.Output = &warehouse.Output{Path: path, Size: written.Size, Rows: written.RowsOut, Metrics: metrics}
	res.RowsOut = written.RowsOut
	return &res, nil
}
