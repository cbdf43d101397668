package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
)

// jobArg checks for exactly one job file.
func jobArg(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one job file, got %d", len(args))
	}
	return nil
}

// completeJobs offers YAML files.
func completeJobs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

func (a *app) init() *cobra.Command {
	var (
		req    InitRequest
		props  []string
		output string
		force  bool
	)
	c := &cobra.Command{
		Use:     "init",
		GroupID: "start",
		Short:   "Draft a job file from a catalog",
		Long: `Reads a catalog and drafts a job file: each table that has a column which looks
like the key becomes a target, the others are named in comments with the reason.
The draft is written to standard output unless -o names a file. Nothing is erased;
read the draft, correct it, then run expunge check.

Properties are PyIceberg's. Secrets belong in references, not on the command line:
--set 'token=${file:/run/secrets/token}' (in single quotes).`,
		Example: `  expunge init --set type=rest --set uri=https://catalog.internal > job.yaml
  expunge init --catalog lake --set type=sql --set uri=sqlite:///lake/catalog.db --table 'sales.*' --column customer_id -o job.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parsed, err := parseProps(props)
			if err != nil {
				return err
			}
			req.Props = parsed
			if a.backend.Init == nil {
				return call(a, cmd, a.backend.Init, req)
			}
			p := a.progress()
			resp, err := a.backend.Init(cmd.Context(), Env{Reporter: p}, req)
			p.Close()
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			return a.writeDraft(cmd, resp, output, force)
		},
	}
	f := c.Flags()
	f.StringVar(&req.Name, "name", "erase", "the job's name")
	f.StringVar(&req.Catalog, "catalog", "lake", "the catalog's name in the job")
	f.StringArrayVar(&props, "set", nil, "a catalog property, name=value; may be repeated")
	f.StringSliceVar(&req.Tables, "table", nil, "only tables like this, such as 'sales.*'; may be repeated")
	f.StringVar(&req.Column, "column", "", "the key column to look for (default: one that looks like a person's id)")
	f.StringVar(&req.Keys, "keys", "", "the key source to write into the draft")
	f.StringVarP(&output, "output", "o", "", "file to write; default standard output")
	f.BoolVar(&force, "force", false, "overwrite the file")
	return c
}

func parseProps(pairs []string) (configs.Props, error) {
	var b strings.Builder
	if len(pairs) == 0 {
		return nil, usagef("describe the catalog: --set type=rest --set uri=https://…")
	}
	seen := map[string]string{}
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, usagef("--set takes name=value")
		}
		seen[name] = value
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		fmt.Fprintf(&b, "%q: %q\n", n, seen[n])
	}
	return configs.ParseProps([]byte(b.String()))
}

func (a *app) writeDraft(cmd *cobra.Command, resp *InitResponse, output string, force bool) error {
	if output == "" {
		if !a.json {
			fmt.Fprint(a.io.Out, resp.YAML)
			return nil
		}
		return a.conclude(cmd, struct {
			*InitResponse
			YAML string `json:"yaml"`
		}{resp, resp.YAML}, nil)
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(output, mode, 0o644)
	if err != nil {
		return a.conclude(cmd, nil, fmt.Errorf("write draft: %w", err))
	}
	_, err = f.WriteString(resp.YAML)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return a.conclude(cmd, resp, err)
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use:     "check JOB",
		GroupID: "job",
		Short:   "Prove that a job can run, without writing to any target",
		Long: `Reads the job file, resolves every target and column against the catalogs, loads
the keysets and holds, and tries each permission that the run will need: listing
and reading the targets, writing the state bucket, signing. Prints the minimal IAM
policy of the job. Nothing is written to a target.`,
		Example:           "  expunge check job.yaml\n  expunge check job.yaml --json | jq 'select(.type==\"summary\").policy'",
		Args:              jobArg,
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := loadJob(args[0])
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.Check, CheckRequest{Job: j})
		},
	}
}

// selection holds the flags that narrow a run.
type selection struct {
	since, until string
	keysFrom     []string
}

func (s *selection) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.since, "since", "", "only rows from this day or time on, by each target's time column")
	f.StringVar(&s.until, "until", "", "only rows before this day or time")
	f.StringSliceVar(&s.keysFrom, "keys-from", nil, "apply the retained keysets of these runs too")
}

func (s *selection) parse() (Selection, error) {
	out := Selection{KeysFrom: s.keysFrom}
	for _, b := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", s.since, &out.Since}, {"--until", s.until, &out.Until}} {
		if b.text == "" {
			continue
		}
		t, err := time.Parse(time.DateOnly, b.text)
		if err != nil {
			t, err = time.Parse(time.RFC3339, b.text)
		}
		if err != nil {
			return out, usagef("%s %s: not a day (2026-01-31) or a time (2026-01-31T12:00:00Z)", b.flag, b.text)
		}
		*b.to = t.UTC()
	}
	if !out.Since.IsZero() && !out.Until.IsZero() && !out.Since.Before(out.Until) {
		return out, usagef("--since %s is not before --until %s", s.since, s.until)
	}
	return out, nil
}

func (a *app) plan() *cobra.Command {
	var (
		sel    selection
		output string
	)
	c := &cobra.Command{
		Use:     "plan JOB",
		GroupID: "job",
		Short:   "Write down what a run would do, and the plan's digest",
		Long: `Plans every target from one snapshot: which files may hold a key and will be
scanned, which are ruled out and by what, which refs would block the purge, and
which readers of a stream would see rewritten files. Writes the plan to the state
bucket; -o writes a copy that expunge run --plan executes, exactly it.`,
		Example:           "  expunge plan job.yaml\n  expunge plan job.yaml -o erase.plan && expunge run --plan erase.plan",
		Args:              jobArg,
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := sel.parse()
			if err != nil {
				return err
			}
			j, err := loadJob(args[0])
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.Plan, PlanRequest{Job: j, Selection: s, Output: output})
		},
	}
	sel.flags(c)
	c.Flags().StringVarP(&output, "output", "o", "", "file to write the plan to as well")
	return c
}

func (a *app) run() *cobra.Command {
	var (
		sel  selection
		bkt  bucket
		req  RunRequest
		yes  bool
		plan string
	)
	c := &cobra.Command{
		Use:     "run JOB | --plan PLAN",
		GroupID: "job",
		Short:   "Erase: plan, rewrite, commit, verify, purge what is due, sign the manifest",
		Long: `Executes a job, or exactly the plan that --plan names. First it purges earlier
runs whose grace has ended, and takes up its own unfinished run if there is one: a
scheduler that starts the same command again needs no run id.

Nothing is committed when a limit of the job would be passed, and nothing is
removed before independent code has verified the result. At a terminal it shows
the plan and asks; --yes answers. --dry-run stops after planning and scanning,
and writes nothing to any target.`,
		Example: `  expunge run job.yaml --dry-run
  expunge run job.yaml --yes
  expunge run --plan erase.plan
  expunge run backfill.yaml --since 2019-01-01 --until 2024-01-01`,
		Args: func(_ *cobra.Command, args []string) error {
			if plan != "" && len(args) > 0 || plan == "" && len(args) != 1 {
				return usagef("name one job file, or a plan with --plan")
			}
			return nil
		},
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Selection, err = sel.parse(); err != nil {
				return err
			}
			if plan != "" && (sel.since != "" || sel.until != "" || len(sel.keysFrom) > 0) {
				return usagef("a plan is executed as it is: --since, --until and --keys-from belong to expunge plan")
			}
			if req.Plan = plan; plan != "" {
				req.State, err = bkt.state()
			} else {
				req.Job, err = loadJob(args[0])
			}
			if err != nil {
				return a.conclude(cmd, nil, err)
			}
			if !req.DryRun {
				req.Confirm = ask(a, yes, func(p *PlanResponse) string {
					return "Erase as planned from " + count(int64(len(p.Targets)), "target") + "?"
				})
			}
			return call(a, cmd, a.backend.Run, req)
		},
	}
	sel.flags(c)
	bkt.flags(c)
	f := c.Flags()
	f.StringVar(&plan, "plan", "", "execute exactly this plan")
	f.BoolVar(&req.DryRun, "dry-run", false, "plan and scan only; write nothing to any target")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.StringVar(&req.Engine, "engine", "", "where shards run: local or temporal (default: the job's)")
	f.IntVar(&req.Workers, "workers", 0, "shards at a time (default: the job's)")
	return c
}

// loadedJob is a job of the scheduler.
type loadedJob struct {
	path string
	job  *configs.Job
}

func (a *app) scheduler() *cobra.Command {
	return &cobra.Command{
		Use:     "scheduler JOB…",
		GroupID: "job",
		Short:   "Run jobs by the schedules in their files, until stopped",
		Long: `Stays in the foreground and runs each job when its schedule says so. What was
due while nothing ran is made up as schedule.missed says; a run that is due while
the same job still runs is skipped or queued as schedule.overlap says. audit.schedule
says the same of the job's audits; they may go on beside its runs. A job file is read
anew before each run. Each run and audit prints its result as expunge run and audit do.`,
		Example: "  expunge scheduler nightly.yaml hourly.yaml\n  expunge scheduler /etc/expunge/*.yaml --json >> /var/log/expunge.jsonl",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name at least one job file")
			}
			return nil
		},
		ValidArgsFunction: completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			jobs := make([]loadedJob, 0, len(args))
			names := map[string]string{}
			for _, path := range args {
				j, err := loadJob(path)
				switch {
				case err != nil:
				case !slices.ContainsFunc(timetables, func(t timetable) bool { return t.of(j) != nil }):
					err = usagef("%s has no schedule, nor one of its audit (audit.schedule)", path)
				case names[j.Name] != "":
					err = usagef("%s and %s are both named %s", names[j.Name], path, j.Name)
				}
				if err != nil {
					return a.conclude(cmd, nil, err)
				}
				names[j.Name] = path
				jobs = append(jobs, loadedJob{path, j})
			}
			if a.backend.Run == nil || a.backend.Runs == nil || a.backend.Audit == nil {
				return call(a, cmd, a.backend.Run, RunRequest{})
			}
			return a.conclude(cmd, nil, a.schedule(cmd.Context(), cmd, jobs))
		},
	}
}

// lastStart returns when the job's latest run of a kind started, zero for none.
func (a *app) lastStart(ctx context.Context, j *configs.Job, kind string) (time.Time, error) {
	resp, err := a.backend.Runs(ctx, Env{Reporter: warningsOnly{a.io.Err}}, RunsRequest{State: stateOf(j), Job: j.Name, Kind: kind, Limit: 1})
	if err != nil || len(resp.Runs) == 0 {
		return time.Time{}, err
	}
	return resp.Runs[0].Started, nil
}
