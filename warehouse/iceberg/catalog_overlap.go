package iceberg

import (
	"context"
	"sync"

	"github.com/apache/iceberg-go/table"
)

// locations remembers where the tables of a catalog lie.
type locations struct {
	mu    sync.Mutex
	known map[string]string // table name → location
}

var _ = func(context.Context, table.Identifier) {}
