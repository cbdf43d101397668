// Command ownkind shows how a program that has expunge as a library brings its own
// kind of target: here ledgers, folders of text files with one line an entry
//
//	<user id><TAB><text>
//
// and a pointer, CURRENT, that lists the live files and is replaced atomically. The
// job, its limits, journal, evidence and manifest are those of every other target.
//
//	ownkind JOB.yaml
//
// Four things are needed: a Format that scans and rewrites a file (format.go), a
// warehouse.Target that plans, commits and purges (target.go), jobs.Checked, which
// verifies with code of its own (check.go), and a catalog of type "custom" in the job.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/engine/local"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/warehouse"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: ownkind JOB.yaml")
		os.Exit(64)
	}
	if err := run(context.Background(), os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, file string) error {
	cfg, err := configs.Load(file)
	if err != nil {
		return err
	}
	job, err := jobs.Open(ctx, cfg, jobs.Env{
		Engine:     local.Engine{},
		OpenTarget: openLedger,
		Formats:    map[string]jobs.Format{ledgerFormat: lines{}},
	})
	if err != nil {
		return err
	}
	defer job.Close()
	sum, err := job.Run(ctx, jobs.RunOptions{})
	if err != nil {
		return err
	}
	for _, t := range sum.Targets {
		fmt.Fprintf(out, "%s: %d lines erased\n", t.Name, t.Committed.RowsErased)
	}
	fmt.Fprintln(out, sum.Outcome)
	return nil
}

// openLedger opens the target catalog.a.b in the folder a/b under the catalog's warehouse.
func openLedger(_ context.Context, j *jobs.Job, name string) (warehouse.Target, error) {
	parts := strings.Split(name, ".")
	store, err := j.CatalogStore(parts[0])
	if err != nil {
		return nil, err
	}
	root := j.Config().Catalogs[parts[0]].Get("warehouse")
	return &ledger{store: store, name: name, root: strings.TrimSuffix(root, "/") + "/" + strings.Join(parts[1:], "/") + "/"}, nil
}
