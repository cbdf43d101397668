package iceberg

import (
	"context"
	"fmt"
	"sync"
	"weak"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// known remembers some metadata of each open table, for what is asked once a
// task and must not ask the catalog each time: folders and the schema's names.
var known sync.Map // weak.Pointer[Table] → table.Metadata

// anyMetadata is metadata of the table that need not be the newest.
func (t *Table) anyMetadata(ctx context.Context) (table.Metadata, error) {
	key := weak.Make(t)
	if m, ok := known.Load(key); ok {
		return m.(table.Metadata), nil
	}
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	known.Store(key, tbl.Metadata())
	return tbl.Metadata(), nil
}

// OutputPath is where the replacement of a task's file goes. It is the same
// for the same run, task and digest, and holds neither keys nor partition
// values. It is empty when the table cannot be loaded.
func (t *Table) OutputPath(runID string, task warehouse.Task, digest string) string {
	meta, err := t.anyMetadata(context.Background())
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s/%d-%s.parquet", outputDir(meta, runID), task.Index, digest)
}

// outputDir is the folder of a run's data files within a table.
func outputDir(meta table.Metadata, runID string) string {
	return dataDir(meta) + "/expunge-" + runID
}
