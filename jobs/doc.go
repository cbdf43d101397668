// Package jobs is the main job: it turns a job file into an erased table and a
// signed manifest, in a fixed order that is never changed by an option:
//
//	keysets → plan → scan and rewrite → limits → commit → verify → purge → verify residue → manifest
//
// The order of the destructive steps is what keeps data safe. Replacements are
// written and durable before a commit names them; nothing old is removed before
// independent code has shown that erased keys are absent and survivors equal;
// and a purge waits out the grace (contract rule 4).
//
// # State
//
// Everything a run knows is in the state bucket. A run is a folder there: the
// frozen job and keysets, the plan in shards, one result file a shard, and a
// journal. Each journal entry is written after the step it names is durable, so
// a run that dies at any moment is taken up again by replaying the journal and
// doing what it does not yet mention (contract rule 5). Steps whose effect lies
// outside the state bucket, a commit or a removal, are idempotent by the run's
// id or by the object's absence.
//
// # Engines
//
// Scanning and rewriting is cut into shards. An Engine decides where shards
// run; it calls the one shard function of Worker and passes references, never
// rows or paths. The engine in engine/local is a bounded pool in this process.
//
// Package jobs prints nothing. It reports through Reporter.
package jobs
