package iceberg

import "github.com/expunge/expunge/warehouse"

// A Table is a whole target.
var _ warehouse.Target = (*Table)(nil)
