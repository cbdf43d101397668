package cli

import (
	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
)

func (a *app) approve() *cobra.Command {
	var (
		b                  bucket
		req                ApproveRequest
		rows, files, share string
	)
	c := &cobra.Command{
		Use:     "approve PLAN --key FILE",
		GroupID: "job",
		Short:   "Sign a plan, so that a job that needs approval runs exactly it",
		Long: `Signs the digests of the plan's job, keysets and tasks with the approver's own key and
stores the approval in the state bucket. A job with an approval section runs approved
plans only, and nothing else lifts a limit of a job: --rows, --share and --files state
how far this one run may go.`,
		Example: `  expunge plan job.yaml -o erase.plan
  expunge approve erase.plan --key alice.key --name "Alice, DPO"
  expunge approve erase.plan --key alice.key --rows 20M --share 3%
  expunge run --plan erase.plan`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one plan: the file of expunge plan -o, or the run id that it printed")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Plan = args[0]
			if req.Key == "" {
				return usagef("name the approver's private key with --key; expunge keygen makes one")
			}
			for _, l := range []struct {
				flag, text string
				to         *int64
			}{{"--rows", rows, &req.Rows}, {"--files", files, &req.Files}} {
				if l.text == "" {
					continue
				}
				n, err := configs.ParseCount(l.text)
				if err != nil {
					return usagef("%s %s: %s", l.flag, l.text, err)
				}
				*l.to = int64(n)
			}
			if share != "" {
				if req.Share, err = configs.ParseShare(share); err != nil {
					return usagef("--share %s: %s", share, err)
				}
			}
			if req.JobState, err = b.jobState(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.Approve, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringVar(&req.Key, "key", "", "the approver's key: a file, env:NAME, or a URL of gcpkms or hashivault")
	f.StringVar(&req.Name, "name", "", "the approver's name, for the manifest")
	f.StringVar(&rows, "rows", "", "let this run erase up to so many rows")
	f.StringVar(&files, "files", "", "let this run replace up to so many files")
	f.StringVar(&share, "share", "", "let this run erase up to this share of a table, such as 3%")
	return c
}

func (a *app) audit() *cobra.Command {
	return &cobra.Command{
		Use:     "audit JOB",
		GroupID: "evidence",
		Short:   "Look for erased data that came back",
		Long: `Looks in the job's targets as they are today for the keys of past runs, which the job
keeps encrypted as long as audit.keep says: late backfills and restored copies bring
data back. Names the run that had erased it, the table, the file and the state of the
copy, and ends with a manifest. Exit code 4 means that erased data is stored again.
expunge scheduler runs it where the job has audit.schedule.`,
		Example:           "  expunge audit job.yaml\n  expunge audit job.yaml --json | jq 'select(.type==\"finding\")'",
		Args:              jobArg,
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := loadJob(args[0])
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.Audit, AuditRequest{Job: j})
		},
	}
}

func (a *app) log() *cobra.Command {
	c := &cobra.Command{
		Use:     "log",
		GroupID: "evidence",
		Short:   "Check the append-only log of manifests",
		Long: `Every manifest is in a Merkle log (C2SP tlog-tiles) with signed checkpoints. That
nothing was cut off its end shows only to who kept a checkpoint, or where a witness
has cosigned: keep one outside of the bucket.`,
		Example: "  expunge log checkpoint -o kept.checkpoint --job job.yaml\n  expunge log verify --since kept.checkpoint --job job.yaml",
	}
	c.AddCommand(a.logVerify(), a.logCheckpoint())
	return c
}

func (a *app) logVerify() *cobra.Command {
	var (
		b   bucket
		req LogRequest
	)
	c := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole log and every manifest that it names",
		Long: `Rebuilds the log from its entries and compares every tile, bundle and the checkpoint;
compares each manifest with the digest that was logged. --since proves that nothing
was removed or changed since a checkpoint (or a log proof) that you kept. Exit code 4
when a manifest is missing or another one.`,
		Example: "  expunge log verify --job job.yaml --trust trust.json\n  expunge log verify --job job.yaml --since kept.checkpoint --key run.pub",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.JobState, err = b.jobState(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.LogVerify, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringVar(&req.Since, "since", "", "file with a checkpoint that you kept")
	f.StringVar(&req.Trust, "trust", "", "trust file (default: the job's)")
	f.StringSliceVar(&req.PublicKeys, "key", nil, "public key file to trust; may be repeated")
	return c
}

func (a *app) logCheckpoint() *cobra.Command {
	var (
		b   bucket
		req LogRequest
	)
	c := &cobra.Command{
		Use:     "checkpoint",
		Short:   "Print the log's signed head, to keep elsewhere",
		Example: "  expunge log checkpoint -o kept.checkpoint --job job.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.JobState, err = b.jobState(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.LogCheckpoint, req)
		},
	}
	b.flags(c)
	c.Flags().StringVarP(&req.Output, "output", "o", "", "file to write it to")
	return c
}
