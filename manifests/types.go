package manifests

import "time"

// Identifiers of the formats. A reader refuses what it does not know.
const (
	// PredicateType names this predicate in the in-toto Statement.
	PredicateType = "https://github.com/expunge/expunge/manifests/v1"
	// StatementType is in-toto Statement v1's.
	StatementType = "https://in-toto.io/Statement/v1"
	// PayloadType is DSSE's payload type for in-toto.
	PayloadType = "application/vnd.in-toto+json"
	// SchemaVersion is what this package writes. Minor versions add fields only.
	SchemaVersion = "1.2"
)

// Kind says which step a manifest is about.
type Kind string

// The kinds of manifest.
const (
	KindRun     Kind = "run"     // plan, rewrite, commit, verify
	KindPurge   Kind = "purge"   // physical removal after the grace
	KindRestore Kind = "restore" // erased rows added back
	KindVerify  Kind = "verify"  // an independent re-read alone
	KindAudit   Kind = "audit"   // a pass of the audit loop
	KindSeal    Kind = "seal"    // destruction of a run's secret
)

// Manifest is the predicate. Times are UTC. Shares are parts per million, as
// the canonical form has integers only. Digests are lower-case hex SHA-256.
type Manifest struct {
	SchemaVersion string `json:"schema_version"`
	ID            string `json:"id"`
	RunID         string `json:"run_id"`
	Kind          Kind   `json:"kind"`
	Job           string `json:"job"`

	Continuity   Continuity   `json:"continuity"`
	Policy       Policy       `json:"policy"`
	Actors       []Actor      `json:"actors"`
	Tool         Tool         `json:"tool"`
	Keysets      []Keyset     `json:"keysets"`
	Scope        Scope        `json:"scope"`
	Targets      []Target     `json:"targets"`
	Evidence     Evidence     `json:"evidence"`
	Deletes      Deletes      `json:"physical_deletes"`
	Verification Verification `json:"verification"`
	Residue      []Residue    `json:"residue"`
	Incidents    Incidents    `json:"incidents"`
	Limits       Limits       `json:"limits"`
	Outcome      Outcome      `json:"outcome"`
	Times        Times        `json:"times"`
}

// Continuity chains a manifest to the ones before it. The previous one is that
// which it continues or supersedes, or else the one before it in the log.
type Continuity struct {
	PreviousID         string      `json:"previous_id,omitempty"`
	PreviousSHA256     string      `json:"previous_sha256,omitempty"` // of the previous manifest's envelope
	PreviousCheckpoint *Checkpoint `json:"previous_checkpoint,omitempty"`
	Supersedes         string      `json:"supersedes,omitempty"`  // manifest id
	Continues          string      `json:"continues,omitempty"`   // manifest id: a purge continues its run
	PlanSHA256         string      `json:"plan_sha256,omitempty"` // the plan that was executed
}

// Checkpoint is a log's head: so many leaves with this root.
type Checkpoint struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"` // hex
}

// Policy is the clock of GDPR Art. 12 and 17.
type Policy struct {
	Controller      string     `json:"controller,omitempty"`
	Environment     string     `json:"environment,omitempty"`
	LegalBasis      string     `json:"legal_basis,omitempty"`
	PolicyID        string     `json:"policy_id,omitempty"`
	Requests        int64      `json:"requests"`
	EarliestRequest *time.Time `json:"earliest_request,omitempty"`
	Deadline        *time.Time `json:"deadline,omitempty"`
	DeadlineMet     *bool      `json:"deadline_met,omitempty"`
	Grace           string     `json:"grace,omitempty"`
}

// Roles of an Actor and of a signing key.
const (
	RoleRequester = "requester"
	RoleApprover  = "approver"
	RoleExecutor  = "executor"
	RoleVerifier  = "verifier"
)

// Actor is who did a part. Separation of duties shows in different key ids.
type Actor struct {
	Role  string     `json:"role"`
	Name  string     `json:"name,omitempty"`
	KeyID string     `json:"key_id,omitempty"`
	Time  *time.Time `json:"time,omitempty"`
	// StatementSHA256 is the digest of the statement that the actor signed apart
	// from this one: an approval's envelope. Since version 1.1.
	StatementSHA256 string `json:"statement_sha256,omitempty"`
}

// Tool makes a run reproducible.
type Tool struct {
	Name            string `json:"name"`
	Version         string `json:"version"`
	BinarySHA256    string `json:"binary_sha256,omitempty"`
	ConfigSHA256    string `json:"config_sha256,omitempty"`
	Verifier        string `json:"verifier,omitempty"` // library and version that re-read
	VerifierVersion string `json:"verifier_version,omitempty"`
	Engine          string `json:"engine,omitempty"`
	Platform        string `json:"platform,omitempty"`
}

// Keyset says what was asked without saying who.
type Keyset struct {
	Name       string      `json:"name"`
	Parts      []KeyPart   `json:"parts"`
	Commitment Commitment  `json:"commitment"`
	Sources    []KeySource `json:"sources"`
	Duplicates int64       `json:"duplicates"`
	Held       int64       `json:"held"` // keys taken out by legal holds
	Filter     *Filter     `json:"filter,omitempty"`
}

// KeyPart is one part of a keyset's key.
type KeyPart struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Normalize []string `json:"normalize,omitempty"`
}

// Commitment binds the manifest to a set of keys: the root of an RFC 6962
// Merkle tree over one token a key. Either Size or, for small sets, Band is set.
type Commitment struct {
	Scheme string `json:"scheme"` // CommitmentScheme
	Root   string `json:"root"`   // hex
	Size   *int64 `json:"size,omitempty"`
	Band   string `json:"band,omitempty"` // "1-9", "10-99"
}

// KeySource is one source of a keyset. The digest is keyed with the run's
// secret, because a small file of enumerable ids could be guessed from a plain one.
type KeySource struct {
	Name        string `json:"name"` // store or bucket, digest of the path under the run's secret, suffix
	KeyedDigest string `json:"keyed_digest"`
	Bytes       int64  `json:"bytes"`
	Hold        bool   `json:"hold,omitempty"`
}

// Filter describes the filter in front of the exact set, never its bits. It is
// absent for sets whose size is banded: its own size would tell theirs. A
// "bitmap" is exact; of others the false-positive rate was measured.
type Filter struct {
	Kind        string `json:"kind"`
	Bits        int64  `json:"bits"`
	Hashes      int    `json:"hashes"`
	DesignPPM   int64  `json:"design_false_positive_ppm"`
	MeasuredPPM *int64 `json:"measured_false_positive_ppm,omitempty"`
	Probes      int64  `json:"probes,omitempty"`
}

// Scope is what a run was about, and what it was not about.
type Scope struct {
	Included []Included  `json:"included"`
	Excluded []Exclusion `json:"excluded"`
	Since    *time.Time  `json:"since,omitempty"`
	Until    *time.Time  `json:"until,omitempty"`
	Claim    string      `json:"claim"`
}

// Included is a target in scope.
type Included struct {
	Target        string   `json:"target"`
	UUID          string   `json:"uuid,omitempty"`
	Location      string   `json:"location"`
	FormatVersion int      `json:"format_version,omitempty"`
	Refs          []string `json:"refs,omitempty"`
	Match         []string `json:"match"` // "users: customer.id"
	Action        string   `json:"action"`
}

// Exclusion is something left as it was. Declared ones come from the job and
// do not make an outcome PARTIAL.
type Exclusion struct {
	What     string `json:"what"`
	Target   string `json:"target,omitempty"`
	Reason   string `json:"reason"`
	Owner    string `json:"owner,omitempty"`
	GoneBy   string `json:"gone_by,omitempty"` // YYYY-MM-DD
	Declared bool   `json:"declared"`
	Count    int64  `json:"count,omitempty"` // files, when more than one
}

// Statuses of a Target.
const (
	TargetDone      = "done"      // committed
	TargetClean     = "clean"     // held no key
	TargetFailed    = "failed"    // left as it was after an error
	TargetStopped   = "stopped"   // a limit stopped it before any change
	TargetPurged    = "purged"    // history removed
	TargetRestored  = "restored"  // erased rows are back
	TargetUntouched = "untouched" // not reached before the run ended
)

// Target is what became of one target.
type Target struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"` // a class, never raw error text

	Before *Version `json:"before,omitempty"`
	After  *Version `json:"after,omitempty"`

	FilesTotal     int64         `json:"files_total"`
	FilesScanned   int64         `json:"files_scanned"`
	FilesRewritten int64         `json:"files_rewritten"`
	FilesDropped   int64         `json:"files_dropped"`
	FilesExcluded  int64         `json:"files_excluded"`
	FilesFailed    int64         `json:"files_failed"`
	Skipped        []Skipped     `json:"skipped,omitempty"`
	RowsTotal      int64         `json:"rows_total"`
	RowsIn         int64         `json:"rows_in"`  // of rewritten and dropped files
	RowsOut        int64         `json:"rows_out"` // survivors written
	RowsErased     int64         `json:"rows_erased"`
	RowsChanged    int64         `json:"rows_changed,omitempty"` // survivors that were redacted or lost elements
	RowsDeleted    int64         `json:"rows_already_deleted"`
	RowsReturned   int64         `json:"rows_returned,omitempty"` // restore
	PerMatch       []MatchResult `json:"per_match,omitempty"`

	BytesRead    int64 `json:"bytes_read"`
	BytesCopied  int64 `json:"bytes_copied"`
	BytesEncoded int64 `json:"bytes_encoded"`

	DeleteFilesRemoved  int64     `json:"delete_files_removed"`
	DeleteFilesReplaced int64     `json:"delete_files_replaced"`
	ManifestsRemoved    int64     `json:"manifests_removed"`
	SnapshotsExpired    []string  `json:"snapshots_expired,omitempty"` // decimal ids: they exceed 2^53
	Blockers            []Blocker `json:"blockers,omitempty"`
	Groups              int64     `json:"groups"`
	Attempts            int64     `json:"attempts"`
	Conflicts           int64     `json:"conflicts"`
}

// Version is a table's state at one moment.
type Version struct {
	SnapshotID       string `json:"snapshot_id,omitempty"` // decimal: exceeds 2^53
	SequenceNumber   int64  `json:"sequence_number,omitempty"`
	MetadataLocation string `json:"metadata_location,omitempty"`
	MetadataSHA256   string `json:"metadata_sha256,omitempty"`
}

// Skipped counts files that could be left out, by reason.
type Skipped struct {
	Reason string `json:"reason"`
	Files  int64  `json:"files"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
}

// MatchResult counts the rows one match hit.
type MatchResult struct {
	Keyset  string   `json:"keyset"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
}

// Blocker is a ref that still pins data to be erased.
type Blocker struct {
	Ref        string `json:"ref"`
	Type       string `json:"type"`
	SnapshotID string `json:"snapshot_id"`
	Reason     string `json:"reason"`
}

// Evidence binds the sidecar: its bytes, and the RFC 6962 root over its records.
type Evidence struct {
	Name    string `json:"name,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	Bytes   int64  `json:"bytes"`
	Records int64  `json:"records"`
	Root    string `json:"root,omitempty"`
	Totals  Totals `json:"totals"`
}

// Totals are sums over the sidecar; Verify adds them up again.
type Totals struct {
	Files      int64 `json:"files"`
	RowsIn     int64 `json:"rows_in"`
	RowsOut    int64 `json:"rows_out"`
	RowsErased int64 `json:"rows_erased"`
	Changed    int64 `json:"rows_changed,omitempty"`
	Deleted    int64 `json:"rows_already_deleted"`
	Deletes    int64 `json:"physical_deletes"`
	Failed     int64 `json:"files_failed"`
	Excluded   int64 `json:"files_excluded"`
}

// Deletes sums up the physical removals; each is a Record in the sidecar.
type Deletes struct {
	Objects     int64        `json:"objects"`
	AlreadyGone int64        `json:"already_gone"`
	Bytes       int64        `json:"bytes"`
	ByKind      []KindCount  `json:"by_kind,omitempty"`
	First       *time.Time   `json:"first,omitempty"`
	Last        *time.Time   `json:"last,omitempty"`
	Stores      []StoreCount `json:"stores,omitempty"`
}

// KindCount counts objects of a kind.
type KindCount struct {
	Kind    string `json:"kind"`
	Objects int64  `json:"objects"`
}

// StoreCount counts objects of a store.
type StoreCount struct {
	Store   string `json:"store"`
	Objects int64  `json:"objects"`
}

// Verification is the independent re-read.
type Verification struct {
	Mode        string    `json:"mode"` // "full", "rewritten", "sample", "none"
	Seed        string    `json:"seed,omitempty"`
	Surfaces    []Surface `json:"surfaces"`
	Controls    []Control `json:"controls"`
	RequiredPPM int64     `json:"required_coverage_ppm"`
}

// Results of a Surface.
const (
	Pass       = "pass"        // checked, nothing found
	Fail       = "fail"        // an erased value is live, or a survivor differs
	Found      = "residue"     // an erased value is still stored; Residue has the date
	NotChecked = "not_checked" // listed, but nobody looked
	NotPresent = "not_present" // the target has no such surface
)

// Surface is one place where erased values hide, and what was seen there.
type Surface struct {
	Target      string `json:"target"`
	Surface     string `json:"surface"`
	Result      string `json:"result"`
	Objects     int64  `json:"objects"`
	BytesRead   int64  `json:"bytes_read"`
	CoveragePPM int64  `json:"coverage_ppm"`
	Findings    int64  `json:"findings"`
	Note        string `json:"note,omitempty"`
}

// Control shows that the check can find things: a known key is found in the
// replaced file and not in its replacement, by the same code.
type Control struct {
	Target string `json:"target"`
	Files  int64  `json:"files"`
	Before bool   `json:"found_before"`
	After  bool   `json:"found_after"`
}

// Residue is an erased value that is still stored somewhere.
type Residue struct {
	Target  string     `json:"target"`
	Surface string     `json:"surface"`
	Count   int64      `json:"count"`
	Bytes   int64      `json:"bytes,omitempty"`
	State   string     `json:"state"` // "within grace", "pinned by ref", "soft deleted", "noncurrent version", "locked by the store: …", "unexplained"
	GoneBy  *time.Time `json:"gone_by,omitempty"`
	Owner   string     `json:"owner,omitempty"`
}

// Incidents is what did not go smoothly.
type Incidents struct {
	Failures  int64      `json:"failures"`
	Retries   int64      `json:"retries"`
	Conflicts int64      `json:"conflicts"`
	Skips     int64      `json:"skips"`
	Resumes   int64      `json:"resumes"`
	Notes     []Incident `json:"notes,omitempty"`
}

// Incident is one class of trouble.
type Incident struct {
	Target string `json:"target,omitempty"`
	What   string `json:"what"` // a class, never raw error text
	Count  int64  `json:"count"`
}

// Limits are the limits in force and whether one stopped the run.
type Limits struct {
	Rows         int64  `json:"rows,omitempty"`
	SharePPM     int64  `json:"share_ppm,omitempty"`
	Files        int64  `json:"files,omitempty"`
	StoppedBy    string `json:"stopped_by,omitempty"`    // "rows", "share", "files"
	OverriddenBy string `json:"overridden_by,omitempty"` // key id of the approval
}

// Result names an outcome.
type Result string

// The outcomes.
const (
	Erased         Result = "ERASED"
	ErasedPending  Result = "ERASED_PENDING"
	NothingToErase Result = "NOTHING_TO_ERASE"
	Partial        Result = "PARTIAL"
	Failed         Result = "FAILED"
	Reverted       Result = "REVERTED"
)

// Outcome is what Decide derived.
type Outcome struct {
	Result  Result     `json:"result"`
	Pending *time.Time `json:"pending_until,omitempty"` // ERASED_PENDING: when the last residue with a date is gone
	Reasons []string   `json:"reasons"`                 // sorted; which clauses of the rule applied
	Rule    string     `json:"rule"`                    // RuleVersion
}

// Times of a run.
type Times struct {
	Start    time.Time  `json:"start"`
	End      time.Time  `json:"end"`
	Commit   *time.Time `json:"commit,omitempty"`
	Verified *time.Time `json:"verified,omitempty"`
	Purged   *time.Time `json:"purged,omitempty"`
	PurgeDue *time.Time `json:"purge_due,omitempty"`
}
