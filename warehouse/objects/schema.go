package objects

import (
	"context"
	"errors"
	"fmt"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	rewriteparquet "github.com/expunge/expunge/rewriter/parquet"
	"github.com/expunge/expunge/warehouse"
)

// schemaChecks is how many objects are asked at most whether they have an
// action's columns: their schemas may have evolved.
const schemaChecks = 100

// schemaCheck refuses, while a prefix is planned, an action that its Parquet
// objects do not take: a null in a required column, a constant of another type,
// elements of what is no list, or a column that none of them has. It opens
// objects until one has all columns.
type schemaCheck struct {
	t     *Target
	edit  rewriter.Edit
	err   error // of the last object that was asked
	looks int
	done  bool
}

func (t *Target) newSchemaCheck(sel warehouse.Selection) *schemaCheck {
	c := &schemaCheck{t: t, done: t.cfg.Format != "parquet" || request{action: sel.Action}.deletes()}
	if c.done {
		return c
	}
	c.edit, c.err = request{action: sel.Action}.parquetEdit(nil, nil, false)
	c.done = c.err != nil
	return c
}

// look asks one object. What cannot be read says nothing of its schema: the
// scan lists it.
func (c *schemaCheck) look(ctx context.Context, info storage.Info) error {
	if c.done || c.looks == schemaChecks {
		return nil
	}
	src, err := storage.OpenKnown(ctx, c.t.store, info)
	if err == nil {
		err = rewriteparquet.Check(ctx, rewriteparquet.Input{ReaderAt: src, Size: info.Size}, c.edit)
		src.Close()
	}
	switch {
	case err == nil:
		c.done, c.err = true, nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, rewriter.ErrColumn):
		c.looks++
		c.err = fmt.Errorf("%s: no object has all columns of the action: %w: %w", c.t.name, warehouse.ErrNotFound, err)
	case errors.Is(err, rewriter.ErrUnsupported), errors.Is(err, rewriteparquet.ErrConstant):
		return fmt.Errorf("%s: %w: %w", c.t.name, warehouse.ErrAction, err)
	}
	return nil
}

// verdict is nil where an object has all columns, or none could be asked.
func (c *schemaCheck) verdict() error { return c.err }
