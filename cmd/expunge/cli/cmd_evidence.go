package cli

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
)

func (a *app) verify() *cobra.Command {
	var (
		b      bucket
		req    VerifyRequest
		sample string
	)
	c := &cobra.Command{
		Use:     "verify RUN | JOB",
		GroupID: "evidence",
		Short:   "Look for erased keys everywhere they can hide, with independent code",
		Long: `With a run: checks its targets again for the run's keys. With a job file: checks
the job's targets for the job's keysets, also where another tool did the erasing.
Reads every surface on which an erased value can stay: live rows, dictionary
entries, statistics, indexes, bloom filters, Iceberg manifests and metadata, old
snapshots, delete files, orphans. Reports what it found and where, never a key.
Exit code 4 means residue, or a control that failed; 3 that not everything could be read.`,
		Example: "  expunge verify last\n  expunge verify job.yaml --mode full\n  expunge verify job.yaml --mode sample --sample 5% --seed 7",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one run or one job file")
			}
			return nil
		},
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if sample != "" {
				s, err := configs.ParseShare(sample)
				if err != nil {
					return usagef("--sample %s: %s", sample, err)
				}
				req.Sample = s
			}
			switch req.Mode {
			case "", "full", "rewritten", "sample":
			default:
				return usagef("--mode %s: not full, rewritten or sample", req.Mode)
			}
			if (req.Mode == "sample") != (req.Sample > 0) {
				return usagef("--mode sample and --sample go together")
			}
			var err error
			if isJobFile(args[0]) {
				if req.Job, err = loadJob(args[0]); err == nil {
					req.State = stateOf(req.Job)
				}
			} else {
				req.RunID = args[0]
				req.State, err = b.state()
			}
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.Verify, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringVar(&req.Mode, "mode", "", "full, rewritten or sample (default: the job's)")
	f.StringVar(&sample, "sample", "", "share of the files that mode sample reads, such as 5%")
	f.Uint64Var(&req.Seed, "seed", 0, "seed of the sample (default: drawn, and stated)")
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"full", "rewritten", "sample"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// isJobFile tells a job file from a run id, which holds neither a slash nor a dot.
func isJobFile(arg string) bool {
	if strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml") {
		return true
	}
	info, err := os.Stat(arg)
	return err == nil && info.Mode().IsRegular()
}

func (a *app) manifest() *cobra.Command {
	c := &cobra.Command{
		Use:     "manifest",
		GroupID: "evidence",
		Short:   "Read and check audit manifests",
		Long: `A manifest is the signed statement of what a run did: an in-toto statement in a
DSSE envelope, with a sidecar of evidence for every file, in an append-only log.`,
		Example: "  expunge manifest show last\n  expunge manifest verify run.intoto.jsonl --key run.pub",
	}
	c.AddCommand(a.manifestShow(), a.manifestVerify(), a.manifestReport(), a.manifestSeal())
	return c
}

func manifestArg(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one manifest file or one run")
	}
	return nil
}

func (a *app) manifestShow() *cobra.Command {
	var (
		b   bucket
		req ManifestRequest
	)
	c := &cobra.Command{
		Use:     "show FILE | RUN",
		Short:   "Print a manifest in a readable form",
		Example: "  expunge manifest show last\n  expunge manifest show run.intoto.jsonl --json",
		Args:    manifestArg,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Manifest = args[0]
			if req.State, err = b.state(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.ManifestShow, req)
		},
	}
	b.flags(c)
	return c
}

func (a *app) manifestVerify() *cobra.Command {
	var (
		b   bucket
		req ManifestRequest
	)
	c := &cobra.Command{
		Use:   "verify FILE | RUN",
		Short: "Check a manifest's signature, log inclusion, sidecar and outcome",
		Long: `Checks the signature against the keys you name, the schema, the inclusion in the
log, the sidecar's digest and Merkle root, and that the outcome follows from the
evidence. A file is checked offline, alone with its public key. --against-data
reads the files that the manifest names again and compares digests and absence. Of a
sealed run the job has to be named with --job: its keys are gone, its files are compared.`,
		Example: "  expunge manifest verify run.intoto.jsonl --key run.pub\n  expunge manifest verify last --trust trust.json --against-data",
		Args:    manifestArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Manifest = args[0]
			js, err := b.jobState()
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			req.State, req.Job = js.State, js.Job
			return call(a, cmd, a.backend.ManifestVerify, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringSliceVar(&req.PublicKeys, "key", nil, "public key file to trust; may be repeated")
	f.StringVar(&req.Trust, "trust", "", "trust file: keys with their validity")
	f.BoolVar(&req.AgainstData, "against-data", false, "read the files again and compare")
	return c
}

func (a *app) manifestReport() *cobra.Command {
	var (
		b   bucket
		req ReportRequest
	)
	c := &cobra.Command{
		Use:   "report FILE | RUN",
		Short: "Write a manifest as one HTML file for people",
		Long: `Writes one self-contained HTML file: the outcome first, what was covered and what
was not, the clock, tables and objects, pictures, verification, what is still stored,
and how to check all of it. It loads nothing, runs nothing and prints well.

The manifest is checked first, as expunge manifest verify does, and the report says
what held. A file without --key or --trust is not checked, and the report says that.
Exit code 4 means that a check failed; the report is written all the same.`,
		Example: "  expunge manifest report last\n  expunge manifest report run.intoto.jsonl --key run.pub -o report.html",
		Args:    manifestArg,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Manifest = args[0]
			if req.State, err = b.state(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.ManifestReport, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringVarP(&req.Output, "output", "o", "", "file to write (default: the manifest's id with .html, in the current folder)")
	f.StringSliceVar(&req.PublicKeys, "key", nil, "public key file to trust; may be repeated")
	f.StringVar(&req.Trust, "trust", "", "trust file: keys with their validity")
	return c
}

func (a *app) keygen() *cobra.Command {
	var (
		req           KeygenRequest
		before, after string
	)
	c := &cobra.Command{
		Use:     "keygen -o FILE",
		GroupID: "evidence",
		Short:   "Make an Ed25519 key pair for signing manifests",
		Long: `Writes a private key that only its owner can read, and the public key beside it
with .pub. Name the private key in the job file as signing.executor: file:FILE; give
the public key to whoever checks manifests. --wrap has a KMS key wrap the file.

--trust adds the public key to a trust file: the keys that a reader believes, with
roles (executor, verifier, approver, log) and the time in which each is valid. To rotate
a key, --replaces ends the old one's validity where the new one's begins; what it signed
before stays valid.`,
		Example: `  expunge keygen -o run.key
  expunge keygen -o run.key --wrap awskms:///alias/expunge
  expunge keygen -o run-2027.key --trust trust.json --role executor,log --replaces ed25519:47dea58ea00fae9417ee19d76755bfef`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if req.Output == "" {
				return usagef("name the file to write with -o")
			}
			if req.Trust == "" && (req.Replaces != "" || before != "" || after != "") {
				return usagef("--replaces, --not-before and --not-after belong to --trust")
			}
			for _, d := range []struct {
				flag, text string
				to         *time.Time
			}{{"--not-before", before, &req.NotBefore}, {"--not-after", after, &req.NotAfter}} {
				if d.text == "" {
					continue
				}
				t, err := time.Parse(time.DateOnly, d.text)
				if err != nil {
					return usagef("%s %s: not a day such as 2027-01-31", d.flag, d.text)
				}
				*d.to = t
			}
			return call(a, cmd, a.backend.Keygen, req)
		},
	}
	f := c.Flags()
	f.StringVarP(&req.Output, "output", "o", "", "file of the private key")
	f.StringVar(&req.Name, "name", "", "name of the key in the trust file")
	f.BoolVar(&req.Force, "force", false, "replace an existing key")
	f.StringVar(&req.Wrap, "wrap", "", "URL of the KMS key that wraps the file: awskms, gcpkms or hashivault")
	f.StringVar(&req.Trust, "trust", "", "trust file to add the public key to")
	f.StringSliceVar(&req.Roles, "role", []string{"executor", "log"}, "roles in the trust file: executor, verifier, approver, log")
	f.StringVar(&before, "not-before", "", "first day of the key in the trust file (default: now, with --replaces)")
	f.StringVar(&after, "not-after", "", "last day of the key in the trust file")
	f.StringVar(&req.Replaces, "replaces", "", "id of the key in the trust file that this one follows")
	return c
}
