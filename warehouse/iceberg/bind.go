package iceberg

import (
	"context"
	"errors"

	"github.com/expunge/expunge/warehouse"
)

// Bind resolves the selection's columns against the table's current schema.
func (t *Table) Bind(ctx context.Context, sel warehouse.Selection) ([]warehouse.BoundMatch, error) {
	return nil, errors.ErrUnsupported
}

// Check proves that the selection can be carried out on the table.
func (t *Table) Check(ctx context.Context, sel warehouse.Selection) error {
	_, err := t.Bind(ctx, sel)
	return err
}
