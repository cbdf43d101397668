package iceberg

import (
	"context"
	"fmt"

	"github.com/expunge/expunge/warehouse"
)

// loadSources takes in the results to commit and checks what must hold of
// each: the row sum of contract rule 2, and that its output is durable at the
// size it says. Nothing is replaced by a file that is not there.
func (c *committer) loadSources(ctx context.Context) error {
	type output struct {
		path string
		size int64
	}
	var outputs []output
	flush := func() error {
		err := inParallel(ctx, len(outputs), func(ctx context.Context, i int) error {
			return c.t.checkOutput(ctx, outputs[i].path, outputs[i].size)
		})
		outputs = outputs[:0]
		return err
	}
	for r, err := range c.req.Results(ctx) {
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		if r.Status != warehouse.Rewritten && r.Status != warehouse.Dropped {
			continue
		}
		if err := c.addSource(r, -1, c.req.Plan.Description.SequenceNumber); err != nil {
			return err
		}
		if r.Output != nil && (r.Packed == nil || r.Packed.FirstRow == 0) {
			outputs = append(outputs, output{path: r.Output.Path, size: r.Output.Size})
		}
		if len(outputs) >= 256 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return c.checkPacks()
}

func (t *Table) checkOutput(ctx context.Context, path string, size int64) error {
	obj, err := t.store.Open(ctx, path)
	if err != nil {
		return fmt.Errorf("output is not there: %w", hide(err))
	}
	defer obj.Close()
	if n := obj.Info().Size; n != size {
		return fmt.Errorf("output has %d bytes, its result says %d", n, size)
	}
	return nil
}

// addSource makes a result part of the commit. seq is the sequence number up
// to which its task's deletes were known.
func (c *committer) addSource(r warehouse.Result, extra int, seq int64) error {
	if err := checkResult(r); err != nil {
		return fmt.Errorf("result of task %d: %w", r.Task.Index, err)
	}
	key := keyOf(r.Task.File.Path)
	if old := c.sources[key]; old != nil && extra < 0 {
		return fmt.Errorf("result of task %d: its file has a result already", r.Task.Index)
	}
	s := &source{
		status: r.Status, seq: max(seq, r.Task.File.DataSequence), extra: extra,
		rows: r.RowsIn, rowsOut: r.RowsOut, bytes: r.Task.File.Size, erased: r.Erased, changed: r.Changed, deleted: r.AlreadyDeleted,
	}
	if r.Output != nil {
		s.outBytes = r.Output.Size
	}
	if old := c.sources[key]; old != nil {
		s.part, s.sortOrder, s.firstRow, s.entrySeq, s.listed = old.part, old.sortOrder, old.firstRow, old.entrySeq, old.listed
	}
	c.sources[key] = s
	c.addPack(key, s, r)
	for _, d := range r.Task.File.Deletes {
		if d.Kind == deletePosition {
			c.related.add(deleteKeyOf(d.Path, d.ContentOffset))
		}
	}
	return nil
}

func checkResult(r warehouse.Result) error {
	if r.RowsIn != r.RowsOut+r.Erased+r.AlreadyDeleted {
		return fmt.Errorf("rows in %d, out %d, erased %d, already deleted %d do not add up", r.RowsIn, r.RowsOut, r.Erased, r.AlreadyDeleted)
	}
	if r.Changed < 0 || r.Changed > r.RowsOut {
		return fmt.Errorf("changed %d of %d rows", r.Changed, r.RowsOut)
	}
	if r.RowsIn != r.Task.File.Rows {
		return fmt.Errorf("read %d rows of a file with %d", r.RowsIn, r.Task.File.Rows)
	}
	if r.Status == warehouse.Dropped {
		if r.RowsOut != 0 || r.Output != nil {
			return fmt.Errorf("dropped with %d rows left", r.RowsOut)
		}
		return nil
	}
	switch {
	case r.Output == nil || r.Output.Path == "":
		return fmt.Errorf("rewritten without an output")
	case r.Packed != nil && r.RowsOut > 0 && r.Packed.FirstRow >= 0 && r.Packed.FirstRow+r.RowsOut <= r.Output.Rows:
	case r.Output.Rows != r.RowsOut || r.RowsOut == 0:
		return fmt.Errorf("output has %d rows, its result says %d", r.Output.Rows, r.RowsOut)
	case r.Output.Path == r.Task.File.Path:
		return fmt.Errorf("output has the path of its source")
	}
	return nil
}

// withdraw takes a source out of the commit: it stays in the table as it is.
func (c *committer) withdraw(key pathKey) {
	delete(c.sources, key)
	// Manifests were read and written as if it left.
	c.forgetAll()
}
