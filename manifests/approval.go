package manifests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ApprovalType names an approval's predicate in its in-toto Statement.
const ApprovalType = "https://github.com/expunge/expunge/manifests/approval/v1"

// Approval says that somebody has looked at a plan and wants exactly it to be
// run. Its digests bind job, keysets and every task; those of the keysets and
// of the plan are keyed with the run's secret, so that they tell nothing.
type Approval struct {
	SchemaVersion string    `json:"schema_version"`
	RunID         string    `json:"run_id"` // the run that will execute the plan
	Job           string    `json:"job"`
	JobSHA256     string    `json:"job_sha256"`
	KeysetsHMAC   string    `json:"keysets_hmac"`
	PlanHMAC      string    `json:"plan_hmac"`
	KeyID         string    `json:"key_id"`
	Name          string    `json:"name,omitempty"`
	Time          time.Time `json:"time"`
	Expires       time.Time `json:"expires"`
	// Raised are limits of the job that this run may go up to instead.
	Raised Raised `json:"raised"`
}

// Raised are limits in place of a job's; 0 leaves the job's.
type Raised struct {
	Rows     int64 `json:"rows,omitempty"`
	SharePPM int64 `json:"share_ppm,omitempty"`
	Files    int64 `json:"files,omitempty"`
}

// Errors of approvals.
var (
	// ErrNotApproved: nobody who may has approved exactly this plan.
	ErrNotApproved = errors.New("the plan is not approved")
	// ErrApprovalExpired: the approval held once.
	ErrApprovalExpired = errors.New("the approval has expired")
)

type approvalStatement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Approval  `json:"predicate"`
}

func (a *Approval) statement() approvalStatement {
	return approvalStatement{StatementType, []Subject{{"plan:" + a.RunID, map[string]string{"hmacSha256": a.PlanHMAC}}}, ApprovalType, *a}
}

// SignApproval signs an approval as a DSSE envelope.
func SignApproval(ctx context.Context, a *Approval, s Signer) ([]byte, error) {
	a.SchemaVersion, a.KeyID = SchemaVersion, KeyID(s.Public())
	a.Time, a.Expires = a.Time.UTC(), a.Expires.UTC()
	payload, err := Canonical(a.statement())
	if err != nil {
		return nil, fmt.Errorf("encode approval: %w", err)
	}
	return SignPayload(ctx, payload, s)
}

// VerifyApproval checks an approval's signature by one of the trusted keys with
// the role approver, and that it holds at that time.
func VerifyApproval(ctx context.Context, envelope []byte, t *Trust, now time.Time) (*Approval, error) {
	e, payload, err := parseEnvelope(envelope)
	if err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	if err := t.checkSignatures(ctx, e); err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	if err := checkCanonical(payload); err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	st := new(approvalStatement)
	if err := dec.Decode(st); err != nil || st.Type != StatementType || st.PredicateType != ApprovalType {
		return nil, fmt.Errorf("approval: %w", ErrFormat)
	}
	a := &st.Predicate
	if want, err := Canonical(a.statement()); err != nil || !bytes.Equal(want, payload) {
		return nil, fmt.Errorf("approval: %w", ErrFormat)
	}
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != a.KeyID {
		return nil, fmt.Errorf("approval: %w: signed by another key than it names", ErrRole)
	}
	if err := t.key(a.KeyID).allows(RoleApprover, a.Time); err != nil {
		return nil, fmt.Errorf("approval: %w", err)
	}
	switch {
	case a.Time.After(now.Add(clockSlack)):
		return nil, fmt.Errorf("approval: %w", ErrTime)
	case !now.Before(a.Expires):
		return nil, fmt.Errorf("%w on %s", ErrApprovalExpired, a.Expires.Format(time.RFC3339))
	}
	return a, nil
}
