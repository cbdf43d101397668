package main

import (
	"errors"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/kms"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/jobs/filetool"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/review"
	"github.com/expunge/expunge/warehouse"
)

// classify gives the exit code and the hint of the errors that callers can act on.
func classify(err error) (int, string) {
	switch {
	case errors.Is(err, warehouse.ErrLimit):
		return cli.ExitLimit, "nothing was committed; read the plan, then raise the limit in the job file if it is right"
	case errors.Is(err, state.ErrLeaseHeld):
		return cli.ExitLease, "another run works on these tables; it ends by itself, or its lease lapses within a minute of its death"
	case errors.Is(err, warehouse.ErrFenced), errors.Is(err, state.ErrLeaseLost):
		return cli.ExitLease, "another run took over; expunge runs shows it"
	case errors.Is(err, jobs.ErrStopped):
		return cli.ExitInterrupted, "expunge resume last takes it up again"
	case errors.Is(err, jobs.ErrVerification):
		return cli.ExitVerify, "nothing was purged; expunge verify names the surfaces"
	case errors.Is(err, jobs.ErrHeld):
		return cli.ExitError, "nothing was purged; expunge restore brings the held rows back"
	case errors.Is(err, jobs.ErrApproval):
		return cli.ExitUsage, "nothing was touched; expunge approve the plan, then expunge run --plan"
	case errors.Is(err, manifests.ErrTruncated), errors.Is(err, manifests.ErrForked), errors.Is(err, manifests.ErrReplayed):
		return cli.ExitVerify, "compare with a copy of the log; somebody changed this one"
	case errors.Is(err, jobs.ErrNoSubject), errors.Is(err, jobs.ErrNothingKept):
		return cli.ExitError, ""
	case errors.Is(err, kms.ErrRef):
		return cli.ExitUsage, ""
	case errors.Is(err, state.ErrSealed):
		return cli.ExitError, "sealed runs can no longer be asked; their manifests stay valid"
	case errors.Is(err, jobs.ErrUsage):
		return cli.ExitUsage, ""
	case errors.Is(err, warehouse.ErrConflict):
		return cli.ExitError, "the table changes faster than the attempts allow; start the job again, or raise commit.attempts"
	case errors.Is(err, state.ErrNoRun), errors.Is(err, jobs.ErrNoRun):
		return cli.ExitUsage, "expunge runs lists the runs of a state bucket; --state or --job says which bucket"
	case errors.Is(err, keyset.ErrEmpty):
		return cli.ExitError, "set allow_empty: true where an empty keyset is normal"
	case errors.Is(err, filetool.ErrKeys):
		return cli.ExitUsage, "expunge file inspect FILE lists the columns"
	case errors.Is(err, storage.ErrExists):
		return cli.ExitError, "nothing is overwritten: choose another name or remove the file"
	case errors.Is(err, review.ErrToken), errors.Is(err, review.ErrWeakToken):
		return cli.ExitUsage, "openssl rand -hex 24 > token makes one; give it with --token-file"
	case errors.Is(err, storage.ErrScheme):
		return cli.ExitUsage, "paths are local, s3://, gs:// or abfss://"
	case errors.Is(err, warehouse.ErrNotFound):
		return cli.ExitError, "expunge check JOB lists what each target resolves to"
	}
	return 0, ""
}
