// Package configs reads job files: strict YAML in, a typed and checked Job out.
//
// A job file says everything a run may do: which keysets to erase, from which
// tables and prefixes, under which policy, limits and signing keys. The
// package is strict on purpose. An unknown field, a value of the wrong shape, a
// keyset nobody declared or a duration beyond the request deadline is an error
// that names file, line and column, because a silently ignored line in a job
// that erases data is worse than a job that does not start.
//
// Values that can be secrets (catalog and storage properties) are kept as
// Secret. They are written in the file as references, ${file:/path} or
// ${env:NAME}, resolved only when a client is opened, and never shown: their
// String, JSON, YAML and log forms are redacted, and error messages name the
// field without the value.
//
// The life of a job file:
//
//	Load or Parse   YAML to Job: defaults applied, every error with its position
//	Job.Validate    the same checks for a Job built in Go
//	Job.Digest      what plans, approvals and manifests quote; secrets left out
//	Job.Freeze      what a run keeps, so that a resume reads the job as it was
package configs
