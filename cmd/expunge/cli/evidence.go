package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/expunge/expunge/configs"
)

// EvidenceBackend is what the commands about approvals, the log, requests,
// certificates and audits call.
type EvidenceBackend struct {
	Approve           func(ctx context.Context, e Env, r ApproveRequest) (*ApproveResponse, error)
	Audit             func(ctx context.Context, e Env, r AuditRequest) (*AuditResponse, error)
	LogVerify         func(ctx context.Context, e Env, r LogRequest) (*LogResponse, error)
	LogCheckpoint     func(ctx context.Context, e Env, r LogRequest) (*CheckpointResponse, error)
	Requests          func(ctx context.Context, e Env, r RequestsRequest) (*RequestsResponse, error)
	CertificateIssue  func(ctx context.Context, e Env, r CertificateRequest) (*CertificateResponse, error)
	CertificateVerify func(ctx context.Context, e Env, r CertificateRequest) (*CertificateResponse, error)
	Seal              func(ctx context.Context, e Env, r SealRequest) (*SealResponse, error)
}

// JobState names a state bucket, and the job when its file was given: without
// it, the job is the one that the latest run was started with.
type JobState struct {
	State State
	Job   *configs.Job
}

// ApproveRequest signs a plan.
type ApproveRequest struct {
	JobState
	Plan  string // file of expunge plan -o, or a run id
	Key   string // the approver's private key
	Name  string
	Rows  int64 // limits that the run may go up to instead of the job's; 0 = the job's
	Files int64
	Share configs.Share
}

// ApproveResponse is a stored approval.
type ApproveResponse struct {
	RunID   string    `json:"run_id"`
	Job     string    `json:"job"`
	Digest  string    `json:"digest"`
	KeyID   string    `json:"key_id"`
	Expires time.Time `json:"expires"`
	Missing int       `json:"missing"` // further approvals that the run needs
	Path    string    `json:"path"`
}

// AuditRequest looks for the keys of past runs.
type AuditRequest struct {
	Job *configs.Job
}

// AuditResponse is a pass of the audit.
type AuditResponse struct {
	RunID    string         `json:"run_id"`
	Job      string         `json:"job"`
	Outcome  string         `json:"outcome"`
	Reasons  []string       `json:"reasons,omitempty"`
	Runs     []string       `json:"runs"` // whose keys were looked for
	Keys     int64          `json:"keys"`
	Expired  []string       `json:"expired,omitempty"`
	CameBack bool           `json:"came_back"`
	Manifest string         `json:"manifest"`
	Findings []AuditFinding `json:"-"` // printed one a line
}

// AuditFinding is an object that holds erased data.
type AuditFinding struct {
	Target  string   `json:"target"`
	File    string   `json:"file"`
	Keyed   bool     `json:"keyed,omitempty"`
	Version string   `json:"version,omitempty"`
	Surface string   `json:"surface"`
	State   string   `json:"state"`
	Count   int64    `json:"count"`
	Runs    []string `json:"runs,omitempty"`
}

// LogRequest reads the log of a state bucket.
type LogRequest struct {
	JobState
	Trust      string
	PublicKeys []string
	Since      string // file with a checkpoint that the reader kept
	Output     string // file to write the checkpoint to
}

// LogResponse is what the log showed.
type LogResponse struct {
	Origin    string   `json:"origin"`
	Size      int64    `json:"size"`
	Root      string   `json:"root"`
	Since     int64    `json:"since,omitempty"`
	Objects   int64    `json:"objects"` // tiles and bundles compared
	Pending   int64    `json:"pending"`
	Manifests int64    `json:"manifests"`
	Missing   []string `json:"missing,omitempty"`
	Changed   []string `json:"changed,omitempty"`
	Unlogged  []string `json:"unlogged,omitempty"`
	OK        bool     `json:"ok"`
}

// CheckpointResponse is the log's signed head.
type CheckpointResponse struct {
	Checkpoint string `json:"checkpoint"`
	Path       string `json:"path,omitempty"`
}

// RequestsRequest asks what became of erasure requests.
type RequestsRequest struct {
	State State
	Job   string // only this job's; "" = all
	ID    string // only this request; "" = all
	Open  bool   // only those that are not erased or empty
}

// RequestsResponse lists requests.
type RequestsResponse struct {
	Requests []RequestInfo `json:"-"` // printed one a line
	Late     int           `json:"late"`
	Unread   int           `json:"sealed_runs"` // runs that can no longer be asked
}

// RequestInfo is one request over all runs.
type RequestInfo struct {
	ID       string     `json:"id,omitempty"`
	Received *time.Time `json:"received,omitempty"`
	Status   string     `json:"status"`
	Until    *time.Time `json:"until,omitempty"`
	Deadline *time.Time `json:"deadline,omitempty"`
	Met      *bool      `json:"deadline_met,omitempty"`
	Keys     int        `json:"keys"`              // that were to be erased
	Held     int        `json:"held,omitempty"`    // keys beside them that are under legal hold
	Found    int        `json:"found"`             // keys that live rows had
	History  int        `json:"history,omitempty"` // keys that only old snapshots or object versions had
	Targets  []string   `json:"targets,omitempty"`
	Missed   []string   `json:"not_covered,omitempty"`
	Runs     []string   `json:"runs"`
}

// CertificateRequest issues or checks one person's certificate.
type CertificateRequest struct {
	JobState
	Subject     string   // file with the person's keys, of the form of a keyset's source
	Request     string   // reference for the page
	Runs        []string // none = all
	Output      string   // certificate; the page goes beside it with .html
	Certificate string   // verify: the file
	Trust       string
	PublicKeys  []string
	Manifests   []string // verify: envelopes to compare with
}

// CertificateResponse is a certificate, or what checking it showed.
type CertificateResponse struct {
	ID     string          `json:"id"`
	Path   string          `json:"path,omitempty"`
	Page   string          `json:"page,omitempty"`
	Runs   []CertifiedRun  `json:"-"` // printed one a line
	Sealed []string        `json:"sealed_runs,omitempty"`
	Valid  *bool           `json:"valid,omitempty"` // nil: issued, not checked
	Checks []Check         `json:"checks,omitempty"`
	Body   json.RawMessage `json:"certificate,omitempty"`
}

// CertifiedRun is one manifest that the certificate rests on.
type CertifiedRun struct {
	Manifest string    `json:"manifest"`
	Job      string    `json:"job"`
	Kind     string    `json:"kind"`
	Outcome  string    `json:"outcome"`
	Keyset   string    `json:"keyset"`
	End      time.Time `json:"end"`
	Files    int       `json:"files"`
}

// SealRequest destroys a run's secret.
type SealRequest struct {
	JobState
	RunID   string
	Confirm func(ctx context.Context, runID string) error
}

// SealResponse says what sealing came to.
type SealResponse struct {
	RunID    string    `json:"run_id"`
	Job      string    `json:"job"`
	Sealed   time.Time `json:"sealed"`
	Already  bool      `json:"already,omitempty"`
	Manifest string    `json:"manifest"`
}

func (r *AuditResponse) exitCode() int {
	if r.CameBack {
		return ExitVerify
	}
	return outcomeCode(r.Outcome)
}

func (r *LogResponse) exitCode() int {
	if !r.OK {
		return ExitVerify
	}
	return ExitOK
}

func (r *CertificateResponse) exitCode() int {
	if r.Valid != nil && !*r.Valid {
		return ExitVerify
	}
	return ExitOK
}
