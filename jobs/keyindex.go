package jobs

import (
	"context"
	"fmt"

	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// openIndex gives planning the key index of a table, where the job keeps one:
// files that a former night has read and that cannot hold a key of tonight are
// then not read again. nil = no index.
func (r *Run) openIndex(ctx context.Context, t *boundTarget) (*iceberg.FileIndex, error) {
	tbl, ok := t.target.(*iceberg.Table)
	if !ok || !r.job.cfg.KeyIndex || r.opts.Compact || t.group > 0 {
		return nil, nil
	}
	secret, err := iceberg.KeyIndexSecret(ctx, r.job.stateStore, r.job.statePath("secrets", "key-index"))
	if err != nil {
		return nil, fmt.Errorf("secret of the key index: %w", err)
	}
	d, err := tbl.Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	x, err := iceberg.OpenFileIndex(ctx, r.job.stateStore, r.job.statePath("key-index", d.UUID), secret, tbl, t.sel)
	if err != nil {
		return nil, err
	}
	tbl.UseKeyIndex(x)
	return x, nil
}

// index adds what the run has read and written to the key index. The index
// prunes only, so that a run which dies before this loses time and nothing else.
func (r *Run) index(ctx context.Context) error {
	for _, t := range r.targets {
		c, ok := r.progress.committed[t.slot]
		x := r.indexes[t.slot]
		if x == nil || !ok {
			continue
		}
		if err := r.indexTarget(ctx, t, c, x); err != nil {
			return fmt.Errorf("key index of %s: %w", t.name, err)
		}
	}
	return nil
}

func (r *Run) indexTarget(ctx context.Context, t *boundTarget, c commitRecord, x *iceberg.FileIndex) error {
	p := pool.New().WithMaxGoroutines(r.job.workers()).WithContext(ctx).WithCancelOnError().WithFirstError()
	var listErr error
	for res, err := range r.final(ctx, t.slot, c) {
		if err != nil {
			listErr = fmt.Errorf("read results: %w", err)
			break
		}
		path, size := res.Task.File.Path, res.Task.File.Size
		switch {
		case res.Packed != nil && res.Packed.FirstRow > 0:
			continue // its output is that of the pack's first file
		case res.Status == warehouse.Rewritten && res.Output != nil:
			path, size = res.Output.Path, res.Output.Size
		case res.Status != warehouse.Clean:
			continue
		}
		// The index writes on after this pool has ended, so it gets the run's context.
		p.Go(func(context.Context) error { return x.Add(ctx, path, size) })
	}
	if err := p.Wait(); err != nil {
		return err
	}
	if listErr != nil {
		return listErr
	}
	return x.Close(ctx)
}
