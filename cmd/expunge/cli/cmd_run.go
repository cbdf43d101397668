package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
)

// bucket holds the flags that say where runs are kept.
type bucket struct {
	location string
	job      string
}

func (b *bucket) flags(c *cobra.Command) {
	b.add(c, true)
}

func (b *bucket) add(c *cobra.Command, job bool) {
	f := c.Flags()
	f.StringVar(&b.location, "state", "", "state bucket (default: $EXPUNGE_STATE, or the folder expunge-state)")
	if job {
		f.StringVar(&b.job, "job", "", "take the state bucket and its storage settings from this job file")
		_ = c.RegisterFlagCompletionFunc("job", completeJobs)
	}
}

// state resolves the flags, $EXPUNGE_STATE and the default, in this order.
func (b *bucket) state() (State, error) {
	var s State
	if b.job != "" {
		j, err := loadJob(b.job)
		if err != nil {
			return s, err
		}
		s = stateOf(j)
	}
	if b.location != "" {
		s.Location = b.location
	}
	if s.Location == "" {
		s.Location = os.Getenv("EXPUNGE_STATE")
	}
	if s.Location == "" {
		s.Location = configs.Default().State
	}
	return s, nil
}

func stateOf(j *configs.Job) State {
	return State{Location: j.State, Storage: j.Storage, Secrets: j.Secrets}
}

func runArg(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one run, or last; expunge runs lists them")
	}
	return nil
}

// completeRuns offers run ids of the state bucket.
func (a *app) completeRuns(b *bucket) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		s, err := b.state()
		if err != nil || a.backend.Runs == nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ids := []string{"last"}
		if resp, err := a.backend.Runs(cmd.Context(), Env{Reporter: silent{}}, RunsRequest{State: s, Limit: 50}); err == nil {
			for _, r := range resp.Runs {
				ids = append(ids, r.RunID+"\t"+r.Job+" "+r.State)
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

type silent struct{}

func (silent) Report(Event) {}

// onRun builds a command that takes a run and the bucket's flags.
func (a *app) onRun(c *cobra.Command, do func(cmd *cobra.Command, ref RunRef) error) *cobra.Command {
	b := &bucket{}
	c.GroupID = "run"
	c.Args = runArg
	c.ValidArgsFunction = a.completeRuns(b)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := b.state()
		if err != nil {
			return a.conclude(cmd, nil, err)
		}
		return do(cmd, RunRef{State: s, RunID: args[0]})
	}
	b.flags(c)
	return c
}

func (a *app) resume() *cobra.Command {
	return a.onRun(&cobra.Command{
		Use:   "resume RUN",
		Short: "Take up a run that was interrupted or ended PARTIAL",
		Long: `Continues a run from its journal: what is durable is not done again, what is not
is. Targets that failed are tried again. The end is the one an undisturbed run
would have had. expunge run JOB does this by itself for the job's own last run.`,
		Example: "  expunge resume last\n  expunge resume gdpr-nightly-20261123T041500Z-7f3a1b --state s3://acme-privacy/expunge",
	}, func(cmd *cobra.Command, ref RunRef) error {
		return call(a, cmd, a.backend.Resume, ref)
	})
}

func (a *app) status() *cobra.Command {
	return a.onRun(&cobra.Command{
		Use:     "status RUN",
		Short:   "Show how far a run is, or how it ended",
		Long:    "Reads the run's journal from the state bucket. Works while the run goes on elsewhere.",
		Example: "  expunge status last\n  expunge status last --json --job job.yaml",
	}, func(cmd *cobra.Command, ref RunRef) error {
		return call(a, cmd, a.backend.Status, ref)
	})
}

func (a *app) stop() *cobra.Command {
	return a.onRun(&cobra.Command{
		Use:   "stop RUN",
		Short: "Ask a run to stop at the next safe point",
		Long: `Writes a stop request that the run sees within seconds, wherever it runs. It ends
as an interrupted run does: nothing is half committed, and it can be resumed.`,
		Example: "  expunge stop last --job job.yaml",
	}, func(cmd *cobra.Command, ref RunRef) error {
		return call(a, cmd, a.backend.Stop, ref)
	})
}

func (a *app) runs() *cobra.Command {
	var (
		b   bucket
		req RunsRequest
	)
	c := &cobra.Command{
		Use:     "runs",
		GroupID: "run",
		Short:   "List runs and their outcomes, latest first",
		Example: "  expunge runs --limit 10\n  expunge runs --only gdpr-nightly --json | jq 'select(.outcome==\"PARTIAL\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := b.state()
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			req.State = s
			return call(a, cmd, a.backend.Runs, req)
		},
	}
	b.flags(c)
	c.Flags().IntVar(&req.Limit, "limit", 0, "at most this many (default: all)")
	c.Flags().StringVar(&req.Job, "only", "", "only runs of the job of this name")
	return c
}

func (a *app) purge() *cobra.Command {
	var (
		b   bucket
		req PurgeRequest
		yes bool
	)
	c := &cobra.Command{
		Use:     "purge RUN | --due",
		GroupID: "run",
		Short:   "Remove what history still holds of committed runs",
		Long: `Expires the snapshots that still reference replaced files, drops tombstone
manifests, and removes the files, each removal with evidence; then checks for
residue and signs a second manifest that is linked to the first. After it a run
cannot be restored. A run whose verification failed is never purged, nor one
whose grace has not ended. At a terminal it shows what would go and asks.`,
		Example: "  expunge purge --due --dry-run\n  expunge purge --due --yes\n  expunge purge last",
		Args: func(_ *cobra.Command, args []string) error {
			if req.Due && len(args) > 0 || !req.Due && len(args) != 1 {
				return usagef("name one run, or --due for every run whose grace has ended")
			}
			return nil
		},
		ValidArgsFunction: a.completeRuns(&b),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := b.state()
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			if req.State = s; len(args) == 1 {
				req.RunID = args[0]
			}
			if !req.DryRun {
				req.Confirm = ask(a, yes, func(p *PurgeResponse) string {
					return "Purge " + count(int64(len(p.Runs)), "run") + "? They cannot be restored afterwards."
				})
			}
			return call(a, cmd, a.backend.Purge, req)
		},
	}
	b.flags(c)
	c.Flags().BoolVar(&req.Due, "due", false, "every run whose grace has ended")
	c.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would be removed")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) restore() *cobra.Command {
	var (
		req RestoreRequest
		yes bool
	)
	c := a.onRun(&cobra.Command{
		Use:   "restore RUN",
		Short: "Re-add the rows that a run erased, while its grace lasts",
		Long: `Commits the erased rows, and only them, on each table's current head: what others
wrote since stays. Ends with a manifest of outcome REVERTED. It needs the files that
the grace protects, so it is not possible after the purge. Redacted values and removed
list elements belong to rows that stayed, and are not restored.`,
		Example: "  expunge restore last --dry-run\n  expunge restore last --table lake.sales.orders --yes",
	}, func(cmd *cobra.Command, ref RunRef) error {
		req.RunRef = ref
		if !req.DryRun {
			req.Confirm = ask(a, yes, func(p *RestoreResponse) string {
				return "Bring erased rows back into " + count(int64(len(p.Tables)), "table") + "?"
			})
		}
		return call(a, cmd, a.backend.Restore, req)
	})
	c.Flags().StringSliceVar(&req.Tables, "table", nil, "only this table; may be repeated")
	c.Flags().BoolVar(&req.DryRun, "dry-run", false, "only say what would be restored")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
