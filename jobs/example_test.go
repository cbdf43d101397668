package jobs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/engine/local"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
)

// A program runs a job as the command line does: read the job file, bind it,
// run it, look at the outcome.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "expunge-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	// A small lakehouse stands in for yours.
	lake, err := demo.Make(ctx, demo.Options{Dir: filepath.Join(dir, "lake"), Rows: 20_000})
	if err != nil {
		fmt.Println(err)
		return
	}

	cfg, err := configs.Load(lake.Job)
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg.Limits.Share = configs.Whole // the lakehouse is tiny, so its few keys are a large share of it
	job, err := jobs.Open(ctx, cfg, jobs.Env{Engine: local.Engine{Workers: 2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer job.Close()
	sum, err := job.Run(ctx, jobs.RunOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sum.Outcome)
	for _, t := range sum.Targets {
		fmt.Println(t.Name, t.Status, t.Committed.RowsErased > 0)
	}
	// Output:
	// ERASED
	// lake.sales.orders done true
	// lake.events.clicks done true
	// lake.events.logins done true
	// lake.support.tickets done true
}
