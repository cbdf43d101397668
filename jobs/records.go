package jobs

import (
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// Names of a run's files. All are sealed under the run's secret.
const (
	fileJob     = "job.json" // frozenJob
	filePlan    = "plan/plan.json"
	dirKeysets  = "keysets/"
	dirResults  = "results/"
	journalName = "journal"
)

// The steps a journal names. An entry is written once its effect is durable.
const (
	evCreated   = "created"   // frozenJob is stored
	evResumed   = "resumed"   // another process took the run up
	evKeysets   = "keysets"   // every keyset is frozen; keysetsRecord
	evPlanned   = "planned"   // the plan is stored; planRecord
	evReplanned = "replanned" // key = slot; planTarget: a failed target is tried again from a new plan
	evApproved  = "approved"  // approvedRecord: the approvals that the run stands on
	evShard     = "shard"     // ShardResult
	evScanned   = "scanned"   // all shards are done and within limits; scannedRecord
	evStopped   = "stopped"   // a limit stopped the run; stopRecord
	evCommitted = "committed" // key = slot; commitRecord
	evFailed    = "failed"    // key = slot; failRecord: the target is left as it was
	evOrphans   = "orphans"   // key = slot; orphanRecord: removed by the run itself, not by its purge
	evVerified  = "verified"  // key = slot; verifyRecord
	evIntent    = "intent"    // key = slot; its purge begins
	evHistory   = "history"   // key = slot; historyRecord: written before what holds the keys is removed
	evPurged    = "purged"    // key = slot; purgeRecord
	evReverted  = "reverted"  // key = slot; warehouse.Committed of the restore
	evManifest  = "manifest"  // key = kind; manifestRecord
	evEnded     = "ended"     // the run's main part is over; endRecord
)

// frozenJob is what a run was asked, stored before anything else happens.
type frozenJob struct {
	Job      configs.Frozen `json:"job"`
	Digest   string         `json:"digest"` // canonical digest, without secrets
	Since    time.Time      `json:"since,omitzero"`
	Until    time.Time      `json:"until,omitzero"`
	KeysFrom []string       `json:"keys_from,omitempty"`
	Compact  bool           `json:"compact,omitempty"`
	Started  time.Time      `json:"started"`
}

// keysetRecord sums up one frozen keyset.
type keysetRecord struct {
	Name       string         `json:"name"`
	File       string         `json:"file"`   // sealed keyset
	Digest     string         `json:"digest"` // SHA-256 of the frozen form
	Keys       int64          `json:"keys"`
	Report     *keyset.Report `json:"report"`
	Commitment []byte         `json:"commitment"` // manifests.Commitment as JSON
	// Filter is measured once: a set that is read back is hashed under another seed.
	Filter *manifests.Filter `json:"filter,omitempty"`
}

type keysetsRecord struct {
	Keysets []keysetRecord `json:"keysets"`
}

// planRecord is the plan of all targets; its digest is what an approval signs.
type planRecord struct {
	Targets  []planTarget         `json:"targets"`
	Excluded []warehouse.Excluded `json:"excluded,omitempty"` // whole targets
	Digest   string               `json:"digest"`
}

// planTarget is one table of the plan.
type planTarget struct {
	Slot     int            `json:"slot"`
	Gen      int            `json:"gen"`    // counts the plannings of a target, from 0
	Config   int            `json:"config"` // index into the job's targets
	Name     string         `json:"name"`
	Group    int            `json:"group,omitempty"` // of a branch's commit
	Plan     warehouse.Plan `json:"plan"`
	Shards   []planShard    `json:"shards"`
	LiveFile string         `json:"live_file"` // sealed list of the live paths that the plan covers
}

// planShard is one shard of the plan with the digest of its records.
type planShard struct {
	Tasks  int    `json:"tasks"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

type scannedRecord struct {
	Targets []scanTotals `json:"targets"`
}

// scanTotals adds up the shards of one target.
type scanTotals struct {
	Slot      int     `json:"slot"`
	Files     int64   `json:"files"`
	Clean     int64   `json:"clean"`
	Rewritten int64   `json:"rewritten"`
	Dropped   int64   `json:"dropped"`
	Failed    int64   `json:"failed"`
	LeftAlone int64   `json:"left_alone"`
	Rows      int64   `json:"rows"`
	Erased    int64   `json:"erased"`
	Changed   int64   `json:"changed,omitempty"`
	BytesRead int64   `json:"bytes_read"`
	Copied    int64   `json:"copied"`
	Encoded   int64   `json:"encoded"`
	PerMatch  []int64 `json:"per_match,omitempty"`
}

func (t *scanTotals) add(r ShardResult) {
	t.Files += r.Files
	t.Clean += r.Clean
	t.Rewritten += r.Rewritten
	t.Dropped += r.Dropped
	t.Failed += r.Failed
	t.LeftAlone += r.LeftAlone
	t.Rows += r.Rows
	t.Erased += r.Erased
	t.Changed += r.Changed
	t.BytesRead += r.BytesRead
	t.Copied += r.Copied
	t.Encoded += r.Encoded
}

type stopRecord struct {
	Limit string `json:"limit"` // "rows", "share", "files"
	Slot  int    `json:"slot"`
	Text  string `json:"text"`
}

// commitRecord is a commit with the sums over the results that it used.
type commitRecord struct {
	warehouse.Committed
	RowsIn  int64 `json:"rows_in"`
	RowsOut int64 `json:"rows_out"`
}

type failRecord struct {
	Class string `json:"class"` // goes into manifests: never raw error text
	Text  string `json:"text"`  // for the operator, from the sealed journal
}

type verifyRecord struct {
	Passed   bool            `json:"passed"`
	Class    string          `json:"class,omitempty"`
	Surfaces []surfaceRecord `json:"surfaces"`
	Controls []controlRecord `json:"controls,omitempty"`
	// Left are, by match, the keys of a prefix that noncurrent versions still hold.
	Left [][]byte `json:"left,omitempty"`
	// Purge says that history or metadata holds what a purge removes.
	Purge bool         `json:"purge,omitempty"`
	Kept  []keptRecord `json:"kept,omitempty"`
	Time  time.Time    `json:"time"`
}

// keptRecord is what the store keeps by itself of what a surface found.
type keptRecord struct {
	Surface string    `json:"surface"`
	State   string    `json:"state"`
	Count   int64     `json:"count"`
	GoneBy  time.Time `json:"gone_by,omitzero"` // when the store lets go, zero = there is no date
}

type surfaceRecord struct {
	Surface     string `json:"surface"`
	Result      string `json:"result"` // manifests.Pass …
	Objects     int64  `json:"objects"`
	BytesRead   int64  `json:"bytes_read"`
	CoveragePPM int64  `json:"coverage_ppm"`
	Findings    int64  `json:"findings"`
	Note        string `json:"note,omitempty"`
}

func (s surfaceRecord) surface(target string) manifests.Surface {
	return manifests.Surface{Target: target, Surface: s.Surface, Result: s.Result, Objects: s.Objects,
		BytesRead: s.BytesRead, CoveragePPM: s.CoveragePPM, Findings: s.Findings, Note: s.Note}
}

type controlRecord struct {
	Files  int64 `json:"files"`
	Before bool  `json:"before"`
	After  bool  `json:"after"`
}

type purgeRecord struct {
	Purged  warehouse.Purged `json:"purged"`
	Deletes string           `json:"deletes"` // sealed list of warehouse.PhysicalDelete
	Counts  deleteCounts     `json:"counts"`  // of that list
	Orphans *orphanRecord    `json:"orphans,omitempty"`
	Residue verifyRecord     `json:"residue"`
	Time    time.Time        `json:"time"`
}

// orphanRecord says what became of files that nothing refers to. Their removals
// are in Deletes, or among those of the purge that found them.
type orphanRecord struct {
	warehouse.Orphans
	Refused string       `json:"refused,omitempty"` // why none was removed: a class
	Deletes string       `json:"deletes,omitempty"` // sealed list of warehouse.PhysicalDelete
	Counts  deleteCounts `json:"counts,omitzero"`   // of that list
}

type manifestRecord struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	SHA256  string `json:"sha256"` // of the envelope
	Outcome string `json:"outcome"`
	Path    string `json:"path"`
}

type endRecord struct {
	Outcome  string    `json:"outcome"`
	PurgeDue time.Time `json:"purge_due,omitzero"`
	Time     time.Time `json:"time"`
}
