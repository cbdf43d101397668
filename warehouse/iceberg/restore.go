package iceberg

import (
	"context"
	"errors"

	"github.com/expunge/expunge/warehouse"
)

// Restore adds erased rows again on the current head.
func (t *Table) Restore(ctx context.Context, req warehouse.RestoreRequest) (*warehouse.Committed, error) {
	return nil, errors.ErrUnsupported
}
