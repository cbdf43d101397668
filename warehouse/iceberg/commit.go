package iceberg

import (
	"context"
	"errors"

	"github.com/expunge/expunge/warehouse"
)

// Commit replaces files of the table in one atomic step.
func (t *Table) Commit(ctx context.Context, req warehouse.CommitRequest) (*warehouse.Committed, error) {
	return nil, errors.ErrUnsupported
}

// OutputPath is where the replacement of a task's file goes.
func (t *Table) OutputPath(runID string, task warehouse.Task, digest string) string { return "" }
