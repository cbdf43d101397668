// Package bare lets a benchmark measure what evidence costs: under a context
// that it marks, a run leaves out what only its evidence needs and does all
// else. Left out are the SHA-256 of table files before and after, the
// commitment to the keys, the measured rate of their filter, the record of what
// was found for each request, and the manifest: sidecar, Merkle trees,
// signatures, log and report. The outcome is derived all the same.
//
// No command and no option sets the mark, and nothing outside this module can.
package bare

import "context"

type key struct{}

// Run marks the context of a run that leaves no evidence.
func Run(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Is says whether the context is of such a run.
func Is(ctx context.Context) bool { return ctx.Value(key{}) != nil }
