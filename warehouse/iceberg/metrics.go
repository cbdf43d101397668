package iceberg

import (
	"context"
	"errors"

	"github.com/expunge/expunge/warehouse"
)

// Metrics reads a written file's column metrics from its footer.
func (t *Table) Metrics(ctx context.Context, path string) (warehouse.Metrics, error) {
	return warehouse.Metrics{}, errors.ErrUnsupported
}
