package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/expunge/expunge/configs"
)

// The exit codes of expunge. They are a contract: docs/exit-codes.md describes
// them, and a test keeps the two alike.
const (
	ExitOK          = 0   // ERASED, ERASED_PENDING or NOTHING_TO_ERASE; or the command did what it was asked
	ExitError       = 1   // an error; what was not committed is as it was
	ExitPartial     = 3   // PARTIAL: some targets were left as they were, the manifest lists them
	ExitVerify      = 4   // verification failed, or residue was found
	ExitLimit       = 5   // a limit stopped the run before it harmed; nothing was committed
	ExitLease       = 6   // another run holds the lease of the job's tables
	ExitUsage       = 64  // wrong arguments or job file
	ExitInterrupted = 130 // SIGINT or SIGTERM: the run can be resumed
)

// exitError carries an exit code and a hint through cobra. A nil err means that
// everything has been printed.
type exitError struct {
	code int
	err  error
	hint string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usagef returns an error of wrong use.
func usagef(format string, args ...any) error {
	return &exitError{code: ExitUsage, err: fmt.Errorf(format, args...)}
}

// errDeclined: the person at the terminal said no.
var errDeclined = errors.New("not confirmed; nothing was changed")

// coder is a response whose contents decide the exit code.
type coder interface{ exitCode() int }

// classify turns a response and an error into an exit code and a hint.
// The interruption wins: a run that was cancelled may fail in any way on its way out.
func (a *app) classify(ctx context.Context, resp any, err error) (int, string) {
	var own *exitError
	switch {
	case err == nil:
		if c, ok := resp.(coder); ok {
			return c.exitCode(), ""
		}
		return ExitOK, ""
	case errors.As(err, &own):
		return own.code, own.hint
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
		return ExitInterrupted, resumeHint(resp)
	case errors.Is(err, configs.ErrInvalid):
		return ExitUsage, "compare with configs/examples; expunge check JOB checks a job without running it"
	case errors.Is(err, configs.ErrDeadline):
		return ExitUsage, "shorten grace in the job file"
	case errors.Is(err, configs.ErrSecret):
		return ExitUsage, "set the variable or mount the file that the job file refers to"
	}
	if a.backend.Classify != nil {
		if code, hint := a.backend.Classify(err); code != 0 {
			return code, hint
		}
	}
	return ExitError, ""
}

// errInterrupted replaces the many ways in which cancelled work ends.
var errInterrupted = errors.New("interrupted")

func resumeHint(resp any) string {
	run, ok := resp.(*RunResponse)
	if !ok || run == nil || run.RunID == "" {
		return ""
	}
	return "the run is kept: start the same job again, or expunge resume " + run.RunID
}

// loadJob reads a job file; what is wrong with it is a usage error.
func loadJob(path string) (*configs.Job, error) {
	j, err := configs.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &exitError{code: ExitUsage, err: err, hint: "expunge init drafts a job file from a catalog"}
	}
	return j, err
}

func (r *RunResponse) exitCode() int {
	if r.Verification != nil && (r.Verification.Result == VerifyFailed || r.Verification.Result == VerifyResidue) {
		return ExitVerify
	}
	return outcomeCode(r.Outcome)
}

func outcomeCode(outcome string) int {
	switch outcome {
	case Partial:
		return ExitPartial
	case Failed:
		return ExitError
	}
	return ExitOK
}

func (r *CheckResponse) exitCode() int { return failedCheck(r.Checks, ExitError) }

func failedCheck(checks []Check, code int) int {
	for _, c := range checks {
		if !c.OK {
			return code
		}
	}
	return ExitOK
}

func (r *PurgeResponse) exitCode() int {
	code := ExitOK
	for _, p := range r.Runs {
		if v := p.Verification; v != nil && v.Result != VerifyPassed {
			return ExitVerify
		}
		if len(p.Totals.Blockers) > 0 || p.Outcome == Partial {
			code = ExitPartial
		}
	}
	return code
}

func (r *RestoreResponse) exitCode() int { return outcomeCode(r.Outcome) }

func (r *VerifyResponse) exitCode() int {
	if r.Result == VerifyFailed || r.Result == VerifyResidue {
		return ExitVerify
	}
	if r.Result == VerifyPartly {
		return ExitPartial
	}
	return ExitOK
}

func (r *ManifestResponse) exitCode() int {
	if r.Valid != nil && !*r.Valid {
		return ExitVerify
	}
	return ExitOK
}

func (r *ReportResponse) exitCode() int {
	if r.Valid != nil && !*r.Valid {
		return ExitVerify
	}
	return ExitOK
}

// exitCode makes expunge file check fail when a key is still stored.
func (r *FileResponse) exitCode() int {
	if r.Found > 0 {
		return ExitVerify
	}
	return ExitOK
}
