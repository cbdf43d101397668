package verifier

import (
	"context"
	"errors"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

func verifyTable(ctx context.Context, store storage.Store, t Target, m []warehouse.BoundMatch, o Options) (*Report, error) {
	return nil, errors.ErrUnsupported
}
