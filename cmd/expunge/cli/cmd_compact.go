package cli

import "github.com/spf13/cobra"

func (a *app) compact() *cobra.Command {
	var (
		req RunRequest
		yes bool
	)
	c := &cobra.Command{
		Use:     "compact JOB",
		GroupID: "job",
		Short:   "Fold tombstones into the job's tables and pack small files; erase nothing",
		Long: `Rewrites the data files that the thresholds of the job's compact section name:
position deletes, equality deletes and deletion vectors are folded in, small files
of a partition are packed to the table's target size, and delete files that cover
nothing any more are dropped. Rows, row ids, sort order and partitions stay as
they are. Without a compact section every tombstone is folded in.

No key is loaded and no row erased, but rows that were only hidden are gone for
good after the grace: the run has a plan, a verification of every row, a grace, a
purge and a manifest like any other, takes itself up again after a crash, and waits
for an approved plan where the job has an approval section.
With a compact section in the job file, expunge run does the same in its commits.`,
		Example: `  expunge compact job.yaml --dry-run
  expunge compact job.yaml --yes --workers 4`,
		Args:              jobArg,
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Job, err = loadJob(args[0]); err != nil {
				return a.conclude(cmd, nil, err)
			}
			req.Compact = true
			if !req.DryRun {
				req.Confirm = ask(a, yes, func(p *PlanResponse) string {
					return "Compact " + count(int64(len(p.Targets)), "table") + " as planned?"
				})
			}
			return call(a, cmd, a.backend.Run, req)
		},
	}
	f := c.Flags()
	f.BoolVar(&req.DryRun, "dry-run", false, "plan and read tombstones only; write nothing to any table")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.IntVar(&req.Workers, "workers", 0, "shards at a time (default: the job's)")
	return c
}
