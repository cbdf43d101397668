package iceberg

import (
	"context"
	"errors"

	"github.com/expunge/expunge/warehouse"
)

// Purge removes what history still holds of a committed run.
func (t *Table) Purge(ctx context.Context, req warehouse.PurgeRequest) (*warehouse.Purged, error) {
	return nil, errors.ErrUnsupported
}

// CleanAttempts removes files under the run's prefix that no snapshot references.
func (t *Table) CleanAttempts(ctx context.Context, runID string, record func(context.Context, warehouse.PhysicalDelete) error) (int64, error) {
	return 0, errors.ErrUnsupported
}
