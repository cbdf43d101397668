package jobs

import "github.com/expunge/expunge/warehouse"

// purgeIntent lets a purge write down what it is about to remove, so that a
// crash between the commit that drops history and the removals leaves nothing
// behind.
func (r *Run) purgeIntent(*warehouse.PurgeRequest, int) {}
