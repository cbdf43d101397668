package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// jobState resolves the bucket's flags to the bucket and, where one was named, its job.
func (b *bucket) jobState() (JobState, error) {
	s, err := b.state()
	out := JobState{State: s}
	if err == nil && b.job != "" {
		out.Job, err = loadJob(b.job)
	}
	return out, err
}

func (a *app) requests() *cobra.Command {
	var (
		b   bucket
		req RequestsRequest
	)
	c := &cobra.Command{
		Use:     "requests [REQUEST]",
		GroupID: "evidence",
		Short:   "Say what became of each erasure request, against its deadline",
		Long: `Over all runs of the state bucket: erased, erased from history (no live row had it; old
snapshots or object versions did, and are gone), nothing found, held (every key is under
legal hold), part held (some are), pending (erased, and the last copies go at a date), not
covered (a target failed or was not reached, or the run was undone). Needs keysets with request columns;
sealed runs can no longer be asked and are counted.`,
		Example: "  expunge requests --job job.yaml\n  expunge requests DSAR-1001 --job job.yaml --json\n  expunge requests --open",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.State, err = b.state(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			if len(args) == 1 {
				req.ID = args[0]
			}
			return call(a, cmd, a.backend.Requests, req)
		},
	}
	b.flags(c)
	c.Flags().StringVar(&req.Job, "only", "", "only requests of runs of the job of this name")
	c.Flags().BoolVar(&req.Open, "open", false, "only requests that are not done")
	return c
}

func (a *app) certificate() *cobra.Command {
	c := &cobra.Command{
		Use:     "certificate",
		GroupID: "evidence",
		Short:   "Prove to one person what was done about their data",
		Long: `A certificate is a signed statement that a person's keys were in runs' keysets, with
inclusion proofs and the evidence of the files concerned. It reveals nobody else. Give
it to the person only: whoever holds it can try guesses of the key on it.`,
		Example: "  expunge certificate issue --subject-file anna.csv -o anna.intoto.jsonl --job job.yaml\n  expunge certificate verify anna.intoto.jsonl --subject-file anna.csv --key run.pub",
	}
	c.AddCommand(a.certificateIssue(), a.certificateVerify())
	return c
}

func (a *app) certificateIssue() *cobra.Command {
	var (
		b   bucket
		req CertificateRequest
	)
	c := &cobra.Command{
		Use:   "issue --subject-file FILE -o OUT",
		Short: "Sign a certificate for one person, with a printable page",
		Long: `Reads the person's keys from a file of the form of a keyset's source (one row with
its columns), finds the runs that had them, and signs what these runs did: JSON in OUT,
and a page to print beside it with .html. Not possible for sealed runs.`,
		Example: "  expunge certificate issue --subject-file anna.csv -o anna.intoto.jsonl --job job.yaml --request DSAR-1001",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.Subject == "" || req.Output == "" {
				return usagef("name the person's file with --subject-file and the file to write with -o")
			}
			if req.JobState, err = b.jobState(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.CertificateIssue, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringVar(&req.Subject, "subject-file", "", "file with one row: the person's keys")
	f.StringVarP(&req.Output, "output", "o", "", "file to write the certificate to")
	f.StringVar(&req.Request, "request", "", "reference of the person's request, for the page")
	f.StringSliceVar(&req.Runs, "run", nil, "only this run; may be repeated")
	return c
}

func (a *app) certificateVerify() *cobra.Command {
	var req CertificateRequest
	c := &cobra.Command{
		Use:   "verify FILE --subject-file FILE",
		Short: "Check a certificate with the person's keys, offline",
		Long: `Checks the signature, that the keys of the subject file are those that the runs had
committed to, the evidence of the files, and that the runs' manifests were logged.`,
		Example: "  expunge certificate verify anna.intoto.jsonl --subject-file anna.csv --key run.pub\n  expunge certificate verify anna.intoto.jsonl --subject-file anna.csv --trust trust.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Certificate = args[0]
			if req.Subject == "" || req.Trust == "" && len(req.PublicKeys) == 0 {
				return usagef("name the person's file with --subject-file and whom you trust with --trust or --key")
			}
			return call(a, cmd, a.backend.CertificateVerify, req)
		},
	}
	f := c.Flags()
	f.StringVar(&req.Subject, "subject-file", "", "file with one row: the person's keys")
	f.StringVar(&req.Trust, "trust", "", "trust file: keys and logs")
	f.StringSliceVar(&req.PublicKeys, "key", nil, "public key file to trust; may be repeated")
	f.StringSliceVar(&req.Manifests, "manifest", nil, "manifest to compare with; may be repeated")
	return c
}

func (a *app) manifestSeal() *cobra.Command {
	var (
		b   bucket
		yes bool
	)
	c := &cobra.Command{
		Use:   "seal RUN",
		Short: "Destroy a run's secret for good, and record that",
		Long: `Closes the link from what the run stored to any person: its keys, plan, results and
journal can no longer be read, and no certificate can be issued. Its manifests stay
valid. A manifest records it. Refused while the run waits for its purge.`,
		Example:           "  expunge manifest seal 20261123T0415-7f3a --job job.yaml\n  expunge manifest seal last --yes",
		Args:              runArg,
		ValidArgsFunction: a.completeRuns(&b),
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := b.jobState()
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			req := SealRequest{JobState: js, RunID: args[0]}
			if q := ask(a, yes, func(id *string) string { return "Destroy the secret of " + *id + "? This cannot be undone." }); q != nil {
				req.Confirm = func(ctx context.Context, id string) error { return q(ctx, &id) }
			}
			return call(a, cmd, a.backend.Seal, req)
		},
	}
	b.flags(c)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}
