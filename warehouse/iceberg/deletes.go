package iceberg

import (
	"context"
	"errors"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/warehouse"
)

// Deleted returns the row positions of the task's file that tombstones already delete.
func (t *Table) Deleted(ctx context.Context, task warehouse.Task) (*roaring64.Bitmap, error) {
	return nil, errors.ErrUnsupported
}

// deleteCache keeps delete files that several tasks share.
type deleteCache struct{}

func newDeleteCache() *deleteCache { return &deleteCache{} }
