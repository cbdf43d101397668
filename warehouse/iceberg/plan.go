package iceberg

import (
	"context"
	"errors"

	"github.com/expunge/expunge/warehouse"
)

// Plan streams one task a data file of the head of main that may hold a key.
func (t *Table) Plan(ctx context.Context, sel warehouse.Selection, emit func(warehouse.Task) error, live func(path string) error) (*warehouse.Plan, error) {
	return nil, errors.ErrUnsupported
}
