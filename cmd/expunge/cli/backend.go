package cli

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/expunge/expunge/configs"
)

// Backend is what the commands call. It is a struct of functions rather than an
// interface, so that a test fakes only what it exercises; a nil function is
// reported as not available in this build.
//
// A response may come with an error: it then says how far the work got, and is
// printed too. No response holds a key, a bound or a raw line.
type Backend struct {
	Init           func(ctx context.Context, e Env, r InitRequest) (*InitResponse, error)
	Check          func(ctx context.Context, e Env, r CheckRequest) (*CheckResponse, error)
	Plan           func(ctx context.Context, e Env, r PlanRequest) (*PlanResponse, error)
	Run            func(ctx context.Context, e Env, r RunRequest) (*RunResponse, error)
	Resume         func(ctx context.Context, e Env, r RunRef) (*RunResponse, error)
	Runs           func(ctx context.Context, e Env, r RunsRequest) (*RunsResponse, error)
	Status         func(ctx context.Context, e Env, r RunRef) (*StatusResponse, error)
	Stop           func(ctx context.Context, e Env, r RunRef) (*StatusResponse, error)
	Purge          func(ctx context.Context, e Env, r PurgeRequest) (*PurgeResponse, error)
	Restore        func(ctx context.Context, e Env, r RestoreRequest) (*RestoreResponse, error)
	Verify         func(ctx context.Context, e Env, r VerifyRequest) (*VerifyResponse, error)
	ManifestShow   func(ctx context.Context, e Env, r ManifestRequest) (*ManifestResponse, error)
	ManifestVerify func(ctx context.Context, e Env, r ManifestRequest) (*ManifestResponse, error)
	ManifestReport func(ctx context.Context, e Env, r ReportRequest) (*ReportResponse, error)
	Serve          func(ctx context.Context, e Env, r ServeRequest) (*ServeResponse, error)
	Demo           func(ctx context.Context, e Env, r DemoRequest) (*RunResponse, error)
	Keygen         func(ctx context.Context, e Env, r KeygenRequest) (*KeygenResponse, error)
	FileErase      func(ctx context.Context, e Env, r FileRequest) (*FileResponse, error)
	FileCheck      func(ctx context.Context, e Env, r FileRequest) (*FileResponse, error)
	FileInspect    func(ctx context.Context, e Env, r FileRequest) (*FileResponse, error)

	EvidenceBackend

	// Classify maps an error of the backend to an exit code and a hint; code 0
	// means that it does not know the error. See exit.go.
	Classify func(err error) (code int, hint string)
	// Version describes the build.
	Version func() VersionResponse
}

// Env is what every command passes on.
type Env struct {
	Reporter Reporter
}

// Event is one report of progress.
type Event struct {
	Type    string `json:"type"` // "step", "progress", "note", "warning"
	Step    string `json:"step,omitempty"`
	Target  string `json:"target,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Unit    string `json:"unit,omitempty"` // "files", "bytes", "keys"
	Message string `json:"message,omitempty"`
}

// Reporter receives events, from several goroutines at once.
type Reporter interface{ Report(Event) }

// State says which state bucket a command works on.
type State struct {
	Location string        // folder or bucket URL
	Storage  configs.Props // object store properties, from the job when one was given
	Secrets  *configs.Secrets
}

// RunRef names a run. An id may be shortened to a unique prefix; "last" is the latest.
type RunRef struct {
	State State
	RunID string
}

// InitRequest drafts a job file from a catalog.
type InitRequest struct {
	Name    string
	Catalog string        // the catalog's name in the job
	Props   configs.Props // its properties
	Tables  []string      // patterns below the catalog: "sales.*"; none = all
	Column  string        // key column to look for; "" = guess (user_id, customer_id, email …)
	Keys    string        // key source to write into the draft
}

// InitResponse is the draft.
type InitResponse struct {
	YAML   string      `json:"-"`
	Tables []InitTable `json:"tables"`
}

// InitTable is a table that the draft names or leaves out.
type InitTable struct {
	Table  string `json:"table"`
	Column string `json:"column,omitempty"`
	Type   string `json:"type,omitempty"`
	Reason string `json:"reason,omitempty"` // why it was left out
}

// CheckRequest proves that a job can run.
type CheckRequest struct {
	Job *configs.Job
}

// CheckResponse lists what was tried. Nothing was written to a target.
type CheckResponse struct {
	Job      string          `json:"job"`
	Digest   string          `json:"digest"`
	Checks   []Check         `json:"-"`                // printed one a line
	Policy   json.RawMessage `json:"policy,omitempty"` // minimal IAM policy
	Warnings []string        `json:"warnings,omitempty"`
}

// Check is one permission or condition that was tried.
type Check struct {
	What   string `json:"what"` // "read", "list", "write state bucket", "sign", "match columns"
	Target string `json:"target,omitempty"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Selection narrows a run.
type Selection struct {
	Since, Until time.Time // zero = open; bound each target's time column
	KeysFrom     []string  // runs whose retained keysets are applied as well
}

// PlanRequest plans a job.
type PlanRequest struct {
	Job       *configs.Job
	Selection Selection
	Output    string // where the plan is written besides the state bucket; "" = there only
}

// PlanResponse sums up a plan.
type PlanResponse struct {
	RunID    string         `json:"run_id"` // the run that would execute it
	Job      string         `json:"job"`
	Path     string         `json:"path"`
	Digest   string         `json:"digest"`
	Keysets  []KeysetInfo   `json:"keysets,omitempty"`
	Targets  []TargetPlan   `json:"-"` // printed one a line
	Excluded []ExcludedInfo `json:"excluded,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	Blocked  bool           `json:"blocked"` // a ref with policy block pins data
}

// KeysetInfo sums up a loaded keyset.
type KeysetInfo struct {
	Name     string `json:"name"`
	Keys     int64  `json:"keys"`
	Held     int64  `json:"held"`
	Requests int64  `json:"requests,omitempty"`
}

// TargetPlan is one target's part of a plan.
type TargetPlan struct {
	Target     string    `json:"target"`
	SnapshotID int64     `json:"snapshot_id,omitempty"`
	Files      int64     `json:"files"` // to scan
	Rows       int64     `json:"rows"`
	Bytes      int64     `json:"bytes"`
	TotalFiles int64     `json:"total_files"`
	TotalBytes int64     `json:"total_bytes"`
	Skipped    []Skipped `json:"skipped,omitempty"`
	Blockers   []string  `json:"blockers,omitempty"`
	Warnings   []string  `json:"warnings,omitempty"`
}

// Skipped counts files left out of a plan.
type Skipped struct {
	Reason string `json:"reason"`
	Files  int64  `json:"files"`
	Bytes  int64  `json:"bytes"`
}

// ExcludedInfo is something left as it is.
type ExcludedInfo struct {
	What     string `json:"what"`
	Reason   string `json:"reason"`
	Owner    string `json:"owner,omitempty"`
	GoneBy   string `json:"gone_by,omitempty"`
	Declared bool   `json:"declared"`
}

// RunRequest executes a job or a plan.
type RunRequest struct {
	Job       *configs.Job // nil with Plan
	Plan      string       // path of a plan: exactly it is executed
	State     State        // of a plan
	Selection Selection
	Compact   bool   // fold tombstones in and pack small files; no key is loaded and no row erased
	DryRun    bool   // stop after the plan and scan; nothing is written to a target
	Engine    string // overrides the job's
	Workers   int    // overrides the job's; 0 = the job's
	// Confirm is asked once the plan stands and before the first write to a
	// target; an error ends the run. nil = not asked.
	Confirm func(ctx context.Context, p *PlanResponse) error
}

// The outcomes of a run, derived by rule from its evidence.
const (
	Erased         = "ERASED"
	ErasedPending  = "ERASED_PENDING"
	NothingToErase = "NOTHING_TO_ERASE"
	Partial        = "PARTIAL"
	Failed         = "FAILED"
	Reverted       = "REVERTED"
)

// The results of a verification.
const (
	VerifyPassed  = "passed"
	VerifyFailed  = "failed"  // a survivor differs, or a control did not find its key
	VerifyResidue = "residue" // an erased value is still stored where it should not be
	// VerifyPartly: nothing was found, but not everything could be read.
	VerifyPartly = "incomplete"
)

// RunResponse is the summary of a run.
type RunResponse struct {
	RunID        string         `json:"run_id"`
	Job          string         `json:"job"`
	DryRun       bool           `json:"dry_run,omitempty"`
	Resumed      bool           `json:"resumed,omitempty"`
	Outcome      string         `json:"outcome,omitempty"`
	PendingUntil *time.Time     `json:"pending_until,omitempty"`
	Keysets      []KeysetInfo   `json:"keysets,omitempty"`
	Targets      []TargetResult `json:"-"` // printed one a line
	Purged       *PurgeTotals   `json:"purged,omitempty"`
	PurgedDue    []string       `json:"purged_due,omitempty"` // earlier runs whose grace had ended
	Verification *Verification  `json:"verification,omitempty"`
	Excluded     []ExcludedInfo `json:"excluded,omitempty"`
	Warnings     []string       `json:"warnings,omitempty"`
	Manifest     string         `json:"manifest,omitempty"`
	Report       string         `json:"report,omitempty"` // its readable form
	Started      time.Time      `json:"started,omitzero"`
	Ended        time.Time      `json:"ended,omitzero"`
	BytesRead    int64          `json:"bytes_read"`
	BytesCopied  int64          `json:"bytes_copied"`
	BytesEncoded int64          `json:"bytes_encoded"`
}

// TargetResult is one target's part of a run.
type TargetResult struct {
	Target         string `json:"target"`
	Status         string `json:"status"` // "erased", "changed", "nothing found", "failed", "excluded"
	Reason         string `json:"reason,omitempty"`
	FilesScanned   int64  `json:"files_scanned"`
	FilesTotal     int64  `json:"files_total"`
	FilesReplaced  int64  `json:"files_replaced"`
	FilesDropped   int64  `json:"files_dropped"`
	RowsErased     int64  `json:"rows_erased"`
	RowsChanged    int64  `json:"rows_changed,omitempty"` // redacted, or freed of list elements
	AlreadyDeleted int64  `json:"already_deleted"`        // tombstoned rows folded in
	RowsTotal      int64  `json:"rows_total"`
	DeleteFiles    int64  `json:"delete_files_removed"`
	Attempts       int    `json:"attempts,omitempty"`
	SnapshotBefore int64  `json:"snapshot_before,omitempty"`
	SnapshotAfter  int64  `json:"snapshot_after,omitempty"`
	Pages          int64  `json:"pages,omitempty"` // touched
	PagesTotal     int64  `json:"pages_total,omitempty"`
}

// PurgeTotals is what was removed from storage.
type PurgeTotals struct {
	Files     int64    `json:"files"`
	Bytes     int64    `json:"bytes"`
	Snapshots int64    `json:"snapshots"`
	Manifests int64    `json:"manifests"`
	Blockers  []string `json:"blockers,omitempty"`
}

// Verification sums up an independent check.
type Verification struct {
	Result    string    `json:"result"` // VerifyPassed, VerifyFailed, VerifyResidue, VerifyPartly
	Mode      string    `json:"mode"`
	Coverage  float64   `json:"coverage"` // 0 to 1
	Seed      uint64    `json:"seed,omitempty"`
	Survivors int64     `json:"survivors_compared"` // rows
	BytesRead int64     `json:"bytes_read"`
	Controls  string    `json:"controls,omitempty"` // "found before, absent after"
	Surfaces  []Surface `json:"surfaces,omitempty"`
}

// Surface is one place where erased values can hide.
type Surface struct {
	Name     string  `json:"name"`
	Target   string  `json:"target,omitempty"`
	Checked  int64   `json:"checked"`
	Coverage float64 `json:"coverage"`
	Residue  int64   `json:"residue"`
	GoneBy   string  `json:"gone_by,omitempty"`
	Detail   string  `json:"detail,omitempty"`
}

// RunsRequest lists runs, latest first.
type RunsRequest struct {
	State State
	Job   string // only this job's; "" = all
	Kind  string // only of this kind, KindRun or KindAudit; "" = all
	Limit int    // 0 = all
}

// Kinds of runs.
const (
	KindRun     = "run"
	KindAudit   = "audit" // a pass of the audit loop
	KindDryRun  = "dry run"
	KindCompact = "compact" // erases nothing
)

// RunsResponse lists runs.
type RunsResponse struct {
	Runs []RunInfo `json:"-"` // printed one a line
}

// RunInfo is one line of the list of runs.
type RunInfo struct {
	RunID    string     `json:"run_id"`
	Job      string     `json:"job"`
	Kind     string     `json:"kind"`  // "run", "audit", "dry run", "compact"
	State    string     `json:"state"` // "running", "interrupted", "stopped", "finished"
	Outcome  string     `json:"outcome,omitempty"`
	Started  time.Time  `json:"started"`
	Ended    *time.Time `json:"ended,omitempty"`
	Rows     int64      `json:"rows_erased"`
	PurgeDue *time.Time `json:"purge_due,omitempty"`
	Purged   bool       `json:"purged,omitempty"`
}

// StatusResponse is one run in full.
type StatusResponse struct {
	RunInfo
	Step    string         `json:"step,omitempty"` // the last one begun
	Done    int64          `json:"done,omitempty"`
	Total   int64          `json:"total,omitempty"`
	Holder  string         `json:"lease_holder,omitempty"`
	Targets []TargetResult `json:"targets,omitempty"`
	Result  *RunResponse   `json:"result,omitempty"`
}

// PurgeRequest removes what history holds of committed runs.
type PurgeRequest struct {
	State  State
	RunID  string // "" with Due
	Due    bool   // every run whose grace has ended
	DryRun bool
	// Confirm is asked with what would be removed; nil = not asked.
	Confirm func(ctx context.Context, p *PurgeResponse) error
}

// PurgeResponse is what was (dry run: would be) removed.
type PurgeResponse struct {
	DryRun bool        `json:"dry_run,omitempty"`
	Runs   []PurgedRun `json:"-"` // printed one a line
}

// PurgedRun is the purge of one run.
type PurgedRun struct {
	RunID        string        `json:"run_id"`
	Job          string        `json:"job"`
	Outcome      string        `json:"outcome"`
	Totals       PurgeTotals   `json:"totals"`
	Verification *Verification `json:"verification,omitempty"`
	Manifest     string        `json:"manifest,omitempty"`
	NotBefore    *time.Time    `json:"not_before,omitempty"` // the grace has not ended: nothing was removed
}

// RestoreRequest re-adds the rows that a run erased.
type RestoreRequest struct {
	RunRef
	Tables  []string // none = all
	DryRun  bool
	Confirm func(ctx context.Context, p *RestoreResponse) error
}

// RestoreResponse is what was (dry run: would be) re-added.
type RestoreResponse struct {
	RunID    string           `json:"run_id"`
	Job      string           `json:"job"`
	DryRun   bool             `json:"dry_run,omitempty"`
	Outcome  string           `json:"outcome,omitempty"`
	Tables   []RestoredTarget `json:"-"` // printed one a line
	Manifest string           `json:"manifest,omitempty"`
}

// RestoredTarget is one table of a restore.
type RestoredTarget struct {
	Target     string `json:"target"`
	Rows       int64  `json:"rows"`
	Files      int64  `json:"files"`
	SnapshotID int64  `json:"snapshot_id,omitempty"`
}

// VerifyRequest checks a run, or the targets of a job against its keysets.
type VerifyRequest struct {
	State  State
	RunID  string
	Job    *configs.Job
	Mode   string // "" = the job's
	Sample configs.Share
	Seed   uint64
}

// VerifyResponse is the verifier's report.
type VerifyResponse struct {
	RunID string `json:"run_id,omitempty"`
	Job   string `json:"job"`
	Verification
}

// ManifestRequest shows or checks an audit manifest.
type ManifestRequest struct {
	State       State
	Manifest    string   // file or run id
	PublicKeys  []string // files; trusted besides Trust
	Trust       string   // trust file
	AgainstData bool     // re-read the files it names
	// Job is asked where the run is sealed and no longer tells its own; it may be nil.
	Job *configs.Job
}

// ManifestResponse is a manifest, or what checking it showed.
type ManifestResponse struct {
	Manifest string          `json:"manifest"`
	RunID    string          `json:"run_id,omitempty"`
	Outcome  string          `json:"outcome,omitempty"`
	Valid    *bool           `json:"valid,omitempty"` // nil: not checked
	Checks   []Check         `json:"-"`
	Text     string          `json:"-"` // readable form
	Body     json.RawMessage `json:"predicate,omitempty"`
}

// ReportRequest renders a manifest as one HTML file.
type ReportRequest struct {
	ManifestRequest
	Output string // "" = the manifest's id with .html, in the current folder
}

// ReportResponse names the report, and what checking the manifest showed.
type ReportResponse struct {
	Manifest string  `json:"manifest"`
	RunID    string  `json:"run_id"`
	Outcome  string  `json:"outcome"`
	Report   string  `json:"report"`
	Valid    *bool   `json:"valid,omitempty"` // nil: not checked
	Checks   []Check `json:"-"`               // printed one a line
}

// ServeRequest serves the pages over a state bucket until the context ends.
type ServeRequest struct {
	State           State
	Job             *configs.Job // whose keys are trusted; nil = Trust, PublicKeys, or each run's own job
	Listen          string       // host:port
	Token           string       // "" = loopback only
	Hosts           []string     // names by which browsers may ask
	TLSCert, TLSKey string       // files; both or none
	Trust           string
	PublicKeys      []string
	Certificates    string // folder of issued certificates; "" = none are shown
	Requests        bool   // show requests, for which sealed files of runs are opened
}

// ServeResponse is what was served, once it ended.
type ServeResponse struct {
	Address string `json:"address"`
}

// DemoRequest makes an embedded lakehouse and runs the nightly job on it.
type DemoRequest struct {
	Dir  string
	Rows int64
	Seed uint64
	Keep bool // do not run the job: only make the lakehouse
}

// KeygenRequest makes a signing key.
type KeygenRequest struct {
	Output string // private key, mode 0600; the public key goes beside it with .pub
	Wrap   string // key of a KMS that the file is wrapped with; "" = not wrapped
	// Trust is a trust file to add the public key to, made if it is not there.
	Trust     string
	Roles     []string
	NotBefore time.Time
	NotAfter  time.Time
	Replaces  string // key id whose validity ends when the new key's begins
	Name      string // key name recorded in signatures
	Force     bool
}

// KeygenResponse names what was written.
type KeygenResponse struct {
	Private string `json:"private"`
	Public  string `json:"public"`
	KeyID   string `json:"key_id"`
	Trust   string `json:"trust,omitempty"`
}

// FileRequest is the work of expunge file on one Parquet file.
type FileRequest struct {
	Input      string
	Output     string
	Columns    []string // one a key part
	Keys       string
	KeysFormat string
	KeyTypes   []string // "" = from the file's column
	Engine     string   // "", "surgical", "reference"
	Workers    int
	NoCheck    bool // switch the decode check off
	SHA256     bool // digest of the output
	Pages      bool // inspect: list pages too
}

// FileResponse is what was done to, or found in, one file.
type FileResponse struct {
	Input        string         `json:"input"`
	Output       string         `json:"output,omitempty"`
	Rows         int64          `json:"rows"`
	Erased       int64          `json:"erased,omitempty"`
	Found        int64          `json:"found"` // check: places that still hold a key
	Engine       string         `json:"engine,omitempty"`
	Fallback     string         `json:"fallback,omitempty"` // why the surgical path refused
	BytesRead    int64          `json:"bytes_read"`
	BytesCopied  int64          `json:"bytes_copied,omitempty"`
	BytesEncoded int64          `json:"bytes_encoded,omitempty"`
	PagesTouched int64          `json:"pages_touched,omitempty"`
	PagesTotal   int64          `json:"pages_total,omitempty"`
	Size         int64          `json:"size"`
	SHA256       string         `json:"sha256,omitempty"`
	Surfaces     []Surface      `json:"surfaces,omitempty"`
	Findings     []FileFinding  `json:"findings,omitempty"` // check
	Empty        bool           `json:"empty,omitempty"`    // every row was erased: no file was written
	Sections     []TableSection `json:"-"`                  // inspect
}

// FileFinding is one thing that expunge file check found. It names a column, never a value.
type FileFinding struct {
	Surface   string `json:"surface"`
	Column    string `json:"column,omitempty"`
	Count     int64  `json:"count"`
	What      string `json:"what"`
	Certainty string `json:"certainty"` // "certain", "possible"
}

// TableSection is a table to print: a title, a head and rows.
type TableSection struct {
	Title string     `json:"title"`
	Head  []string   `json:"head"`
	Rows  [][]string `json:"rows"`
}

// VersionResponse describes the build.
type VersionResponse struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Stdio is the terminal, replaced in tests.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	// OutTTY and ErrTTY say whether the streams are terminals, InTTY whether a question can be answered.
	InTTY, OutTTY, ErrTTY bool
}
