package jobs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// ErrApproval: the job runs approved plans only, and this one is not.
var ErrApproval = errors.New("the job needs an approved plan")

// ApproveOptions say who approves a plan, and how far.
type ApproveOptions struct {
	Name   string           // of the approver
	Digest string           // of the plan that was looked at; "" = the stored plan's
	Raised manifests.Raised // limits of the job that the run may go up to instead
}

// ApprovalSummary is a stored approval.
type ApprovalSummary struct {
	RunID, Job, Digest, KeyID, Path string
	Expires                         time.Time
	Missing                         int // further approvals that the run needs
}

// Approve signs, with an approver's key, the digests of a stored plan's job,
// keysets and tasks. It is refused for a key that the job does not take
// approvals from, and for the executor's own.
func (j *Job) Approve(ctx context.Context, runID string, signer manifests.Signer, o ApproveOptions) (*ApprovalSummary, error) {
	if j.cfg.Approval == nil {
		return nil, fmt.Errorf("job %s has no approval section, so nothing would look at an approval: %w", j.cfg.Name, ErrUsage)
	}
	r, err := j.openRun(ctx, runID)
	if err != nil {
		return nil, err
	}
	if err := r.checkPlan(o.Digest); err != nil {
		return nil, err
	}
	if len(r.progress.shards) > 0 || r.progress.ended != nil {
		return nil, fmt.Errorf("run %s has begun: %w", runID, ErrUsage)
	}
	trust, err := j.approvers(ctx)
	if err != nil {
		return nil, err
	}
	now := clock.Now(ctx)
	a := &manifests.Approval{RunID: runID, Job: j.cfg.Name, JobSHA256: r.frozen.Digest, PlanHMAC: r.progress.planned.Digest,
		Name: o.Name, Time: now, Expires: now.Add(j.cfg.Approval.Valid.Duration()), Raised: o.Raised}
	if a.KeysetsHMAC, err = r.keyed("keysets digest", keysetsID(r.progress.keysets)); err != nil {
		return nil, err
	}
	envelope, err := manifests.SignApproval(ctx, a, signer)
	if err != nil {
		return nil, err
	}
	if _, err := manifests.VerifyApproval(ctx, envelope, trust, now); err != nil {
		return nil, fmt.Errorf("the job takes no approval from this key: %w: %w", err, ErrUsage)
	}
	if err := j.notTheExecutor(ctx, a.KeyID); err != nil {
		return nil, err
	}
	out := &ApprovalSummary{RunID: runID, Job: j.cfg.Name, Digest: a.PlanHMAC, KeyID: a.KeyID, Expires: a.Expires,
		Path: j.statePath("approvals", runID, strings.ReplaceAll(a.KeyID, ":", "-")+".intoto.jsonl")}
	if err := storage.WriteAll(ctx, j.stateStore, out.Path, envelope, storage.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("store approval: %w", err)
	}
	have, err := r.findApprovals(ctx)
	out.Missing = max(0, j.cfg.Approval.Count-len(have))
	return out, err
}

func (j *Job) notTheExecutor(ctx context.Context, keyID string) error {
	signers, err := j.signers(ctx)
	if err != nil {
		return nil //nolint:nilerr // an approver's machine need not have the executor's key; the run itself has it and looks again
	}
	for _, s := range signers[:1] {
		if manifests.KeyID(s.Public()) == keyID {
			return fmt.Errorf("the executor's key cannot approve its own run: %w", ErrUsage)
		}
	}
	return nil
}

// approvers are the keys that the job takes approvals from.
func (j *Job) approvers(ctx context.Context) (*manifests.Trust, error) {
	if len(j.cfg.Approval.Keys) == 0 {
		return j.Trust(ctx)
	}
	var keys []manifests.TrustedKey
	for _, f := range j.cfg.Approval.Keys {
		raw, err := storage.ReadAll(ctx, j.keys, f)
		if err != nil {
			return nil, fmt.Errorf("read approver's key: %w", err)
		}
		pub, err := manifests.ParsePublic(string(raw))
		if err != nil {
			return nil, fmt.Errorf("approver's key %s: %w", f, err)
		}
		k, err := manifests.Trusted(pub, "", manifests.RoleApprover)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return manifests.NewTrust(keys...)
}

// approvalRecord is an approval that a run stands on.
type approvalRecord struct {
	KeyID  string           `json:"key_id"`
	Name   string           `json:"name,omitempty"`
	Time   time.Time        `json:"time"`
	SHA256 string           `json:"sha256"` // of the envelope
	Raised manifests.Raised `json:"raised"`
}

type approvedRecord struct {
	Approvals []approvalRecord `json:"approvals"`
}

// findApprovals returns the valid approvals of exactly this plan, one a key.
// Those that are not are reported, and do not count.
func (r *Run) findApprovals(ctx context.Context) ([]approvalRecord, error) {
	trust, err := r.job.approvers(ctx)
	if err != nil {
		return nil, err
	}
	keysets, err := r.keyed("keysets digest", keysetsID(r.progress.keysets))
	if err != nil {
		return nil, err
	}
	var out []approvalRecord
	seen := map[string]bool{}
	for info, err := range r.job.stateStore.List(ctx, r.job.statePath("approvals", r.ID())+"/") {
		if err != nil {
			return nil, fmt.Errorf("list approvals: %w", err)
		}
		raw, err := storage.ReadAll(ctx, r.job.stateStore, info.Path)
		if err != nil {
			return nil, fmt.Errorf("read approval: %w", err)
		}
		a, err := manifests.VerifyApproval(ctx, raw, trust, clock.Now(ctx))
		if err == nil && (a.RunID != r.ID() || a.Job != r.job.cfg.Name || a.JobSHA256 != r.frozen.Digest ||
			a.PlanHMAC != r.progress.planned.Digest || a.KeysetsHMAC != keysets) {
			err = manifests.ErrNotApproved
		}
		if err == nil {
			err = r.job.notTheExecutor(ctx, a.KeyID)
		}
		if err != nil {
			r.job.env.Reporter.Report(Event{Type: "warning", Message: "an approval does not count: " + err.Error()})
			continue
		}
		if !seen[a.KeyID] {
			seen[a.KeyID] = true
			out = append(out, approvalRecord{a.KeyID, a.Name, a.Time, manifests.Digest(raw), a.Raised})
		}
	}
	return out, nil
}

// approve lets a run go on to its first write only with the approvals that the
// job asks for. A compaction needs them too: it erases no row, but what was
// hidden, and the history of the table, is gone for good after its grace. They are journaled: a resumed run stands on the same ones.
func (r *Run) approve(ctx context.Context) error {
	c := r.job.cfg.Approval
	if c == nil || r.opts.DryRun || r.progress.approved != nil {
		return nil
	}
	found, err := r.findApprovals(ctx)
	if err != nil {
		return err
	}
	if len(found) < c.Count {
		return fmt.Errorf("%w: plan %s of run %s has %d of %d approvals", ErrApproval, r.progress.planned.Digest[:16], r.ID(), len(found), c.Count)
	}
	return r.note(ctx, evApproved, "", approvedRecord{found})
}

// checkPlan compares the stored plan with its digest, and with the one given.
func (r *Run) checkPlan(digest string) error {
	p := r.progress.planned
	if p == nil {
		return fmt.Errorf("run %s has no plan: %w", r.ID(), ErrUsage)
	}
	if digest != "" && digest != p.Digest {
		return fmt.Errorf("the plan's digest is not the one given: %w", ErrUsage)
	}
	got, err := r.planDigest(p)
	if err != nil {
		return err
	}
	if got != p.Digest {
		return fmt.Errorf("the stored plan does not have its own digest: %w", state.ErrCorrupt)
	}
	return nil
}

// keyed is an HMAC under the run's secret: digests of few or guessable things
// are shown in no other form.
func (r *Run) keyed(purpose, text string) (string, error) {
	key, err := r.st.Derive(purpose)
	if err != nil {
		return "", err
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil)), nil
}

// limits are the job's, or what every approval raised them to: where several
// approve, the lowest of their words holds.
func (r *Run) limits() (l limits, raisedBy string) {
	c := r.job.cfg.Limits
	l = limits{rows: int64(c.Rows), files: int64(c.Files), share: c.Share}
	if r.progress.approved == nil {
		return l, ""
	}
	rows, files, share := int64(0), int64(0), int64(0)
	for i, a := range r.progress.approved.Approvals {
		if i == 0 {
			rows, files, share = a.Raised.Rows, a.Raised.Files, a.Raised.SharePPM
			continue
		}
		rows, files, share = min(rows, a.Raised.Rows), min(files, a.Raised.Files), min(share, a.Raised.SharePPM)
	}
	if l.raise(rows, files, share) {
		raisedBy = r.progress.approved.Approvals[0].KeyID
	}
	return l, raisedBy
}

// limits stop a run; 0 = none.
type limits struct {
	rows, files int64
	share       configs.Share
}

// raise lifts the limits that are lower, and says whether one was.
func (l *limits) raise(rows, files, share int64) bool {
	up := false
	lift := func(to *int64, by int64) {
		if *to > 0 && by > *to {
			*to, up = by, true
		}
	}
	lift(&l.rows, rows)
	lift(&l.files, files)
	s := int64(l.share)
	lift(&s, share)
	l.share = configs.Share(s)
	return up
}
