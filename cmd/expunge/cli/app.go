package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/expunge/expunge/configs"
)

// app is one invocation.
type app struct {
	io      Stdio
	backend Backend
	out     *output

	json       bool
	quiet      bool
	noProgress bool
	verbose    int
	logLevel   string
}

// Main runs one command line and returns the exit code. It never exits the process.
func Main(ctx context.Context, args []string, stdio Stdio, backend Backend) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the run in order; a second one ends the process at once.
	context.AfterFunc(ctx, stop)

	a := &app{io: stdio, backend: backend, out: &output{w: stdio.Out}}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	var done *exitError
	if errors.As(err, &done) && done.err == nil {
		return done.code
	}
	code, hint := ExitUsage, "" // what cobra itself refuses is wrong use
	if done != nil || errors.Is(err, configs.ErrInvalid) {
		code, hint = a.classify(ctx, nil, err)
	}
	if code == ExitUsage && hint == "" {
		hint = "see " + cmd.CommandPath() + " --help"
	}
	a.fail(cmd.Name(), nil, code, err, hint)
	return code
}

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "expunge",
		Short: "Erase people's data from lakehouses, and prove it",
		Long: `expunge erases people's data from lakehouses and object storage, and proves it.

A job file names the keysets (the ids to erase) and the targets (tables and
prefixes). A run finds the rows, rewrites only what must change, removes what
history still holds, has independent code read the result, and signs a manifest.

  first       expunge demo                  see a whole run on a lakehouse made on the spot
  then        expunge init > job.yaml       draft a job from your catalog
              expunge check job.yaml        prove its permissions, without writing
              expunge plan job.yaml         see what it would do
  every night expunge run job.yaml          do it; a run cut short is resumed by itself

Exit codes: 0 erased, pending or nothing to erase; 1 error; 3 partial; 4 verification
failed or residue; 5 stopped by a limit; 6 lease held by another run; 64 usage; 130
interrupted, resumable.`,
		Example:           "  expunge demo\n  expunge run configs/examples/nightly.yaml\n  expunge status last --json",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.begin(cmd) },
	}
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "one JSON object a line on standard output, the last of type summary")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress; only the result and errors")
	f.BoolVar(&a.noProgress, "no-progress", false, "plain lines instead of progress bars")
	f.CountVarP(&a.verbose, "verbose", "v", "log what happens; twice: details")
	f.StringVar(&a.logLevel, "log-level", "", "debug, info, warn or error (default warn)")
	_ = root.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))

	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Getting started:"},
		&cobra.Group{ID: "job", Title: "Jobs:"},
		&cobra.Group{ID: "run", Title: "Runs:"},
		&cobra.Group{ID: "evidence", Title: "Evidence:"},
		&cobra.Group{ID: "tool", Title: "Tools:"},
	)
	root.AddCommand(
		a.demo(), a.init(),
		a.check(), a.plan(), a.run(), a.compact(), a.scheduler(),
		a.resume(), a.runs(), a.status(), a.stop(), a.purge(), a.restore(),
		a.approve(), a.verify(), a.audit(), a.requests(), a.certificate(), a.log(), a.manifest(), a.serve(), a.keygen(),
		a.file(), a.version(),
	)
	root.SetHelpCommandGroupID("tool")
	root.SetCompletionCommandGroupID("tool")
	return root
}

// begin sets up logging once the flags are known.
func (a *app) begin(*cobra.Command) error {
	a.out.json = a.json
	level := slog.LevelWarn - slog.Level(4*a.verbose)
	if a.logLevel != "" {
		if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
			return usagef("--log-level %s: not debug, info, warn or error", a.logLevel)
		}
	}
	var h slog.Handler
	switch {
	case a.json:
		h = slog.NewJSONHandler(a.io.Err, &slog.HandlerOptions{Level: level})
	case a.io.ErrTTY:
		h = tint.NewTextHandler(a.io.Err, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != ""})
	default:
		h = slog.NewTextHandler(a.io.Err, &slog.HandlerOptions{Level: level})
	}
	slog.SetDefault(slog.New(h))
	return nil
}

// call runs one function of the backend and prints what came of it.
func call[Q, R any](a *app, cmd *cobra.Command, f func(context.Context, Env, Q) (*R, error), q Q) error {
	if f == nil {
		return &exitError{code: ExitError, err: errors.New(cmd.CommandPath() + " is not available in this build")}
	}
	progress := a.progress()
	resp, err := f(cmd.Context(), Env{Reporter: progress}, q)
	progress.Close()
	var shown any
	if resp != nil {
		shown = resp
	}
	return a.conclude(cmd, shown, err)
}

// conclude prints a response and an error and returns what carries the exit code.
func (a *app) conclude(cmd *cobra.Command, resp any, err error) error {
	code, hint := a.classify(cmd.Context(), resp, err)
	if err != nil {
		a.fail(cmd.Name(), resp, code, err, hint)
	} else {
		a.out.result(cmd.Name(), resp, code)
	}
	if code == ExitOK {
		return nil
	}
	return &exitError{code: code}
}
