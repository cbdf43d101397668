package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/kms"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"

	// The key management services that a job can name.
	_ "github.com/expunge/expunge/internal/kms/awskms"
	_ "github.com/expunge/expunge/internal/kms/gcpkms"
	_ "github.com/expunge/expunge/internal/kms/hashivault"
)

// bindEvidence connects approvals, log, requests, certificates and audits.
func bindEvidence(b *cli.Backend) {
	b.EvidenceBackend = cli.EvidenceBackend{
		Approve: approve, Audit: audit, LogVerify: logVerify, LogCheckpoint: logCheckpoint, Requests: requests,
		CertificateIssue: certificateIssue, CertificateVerify: certificateVerify, Seal: seal,
	}
}

// openJobState opens the job of the file that was given, or of the latest run.
func openJobState(ctx context.Context, e cli.Env, js cli.JobState) (*jobs.Job, error) {
	if js.Job != nil {
		return open(ctx, e, js.Job)
	}
	j, _, err := openOf(ctx, e, cli.RunRef{State: js.State, RunID: "last"})
	return j, err
}

// openRunJob finds a run and opens the job given for it, or else the one that it was frozen with.
func openRunJob(ctx context.Context, e cli.Env, given *configs.Job, ref cli.RunRef) (*jobs.Job, string, error) {
	s, err := openState(ctx, ref.State)
	if err != nil {
		return nil, "", err
	}
	id, err := find(ctx, s, ref.RunID)
	if err != nil {
		return nil, "", err
	}
	if given == nil {
		if given, err = jobs.FrozenJob(ctx, s, id); err != nil {
			return nil, "", err
		}
	}
	j, err := open(ctx, e, given)
	return j, id, err
}

func approve(ctx context.Context, e cli.Env, r cli.ApproveRequest) (*cli.ApproveResponse, error) {
	ref, digest, err := planRef(r.Plan, r.State)
	if err != nil {
		return nil, err
	}
	j, id, err := openRunJob(ctx, e, r.Job, ref)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	key, err := kms.OpenKey(ctx, r.Key)
	if err != nil {
		return nil, fmt.Errorf("approver's key: %w", err)
	}
	a, err := j.Approve(ctx, id, key, jobs.ApproveOptions{Name: r.Name, Digest: digest,
		Raised: manifests.Raised{Rows: r.Rows, SharePPM: int64(r.Share), Files: r.Files}})
	if err != nil {
		return nil, err
	}
	return &cli.ApproveResponse{RunID: a.RunID, Job: a.Job, Digest: a.Digest, KeyID: a.KeyID, Expires: a.Expires, Missing: a.Missing, Path: a.Path}, nil
}

func audit(ctx context.Context, e cli.Env, r cli.AuditRequest) (*cli.AuditResponse, error) {
	j, err := open(ctx, e, r.Job)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	s, err := j.Audit(ctx)
	if err != nil {
		return nil, err
	}
	out := &cli.AuditResponse{RunID: s.RunID, Job: s.Job, Outcome: s.Outcome, Reasons: s.Reasons, Runs: s.Runs, Keys: s.Keys,
		Expired: s.Expired, CameBack: s.CameBack, Manifest: s.Manifest}
	for _, f := range s.Findings {
		out.Findings = append(out.Findings, cli.AuditFinding(f))
	}
	return out, nil
}

// trustIn is what the reader of a log or certificate believes in.
func trustIn(ctx context.Context, j *jobs.Job, file string, keys []string) (*manifests.Trust, error) {
	switch {
	case file != "":
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read trust file: %w", err)
		}
		return manifests.ParseTrust(raw)
	case len(keys) > 0:
		return trustKeys(keys)
	case j != nil:
		return j.Trust(ctx)
	}
	return nil, fmt.Errorf("say whom you trust with --trust FILE or --key PUBLIC_KEY: %w", jobs.ErrUsage)
}

func logVerify(ctx context.Context, e cli.Env, r cli.LogRequest) (*cli.LogResponse, error) {
	j, err := openJobState(ctx, e, r.JobState)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	t, err := trustIn(ctx, j, r.Trust, r.PublicKeys)
	if err != nil {
		return nil, err
	}
	if head, err := j.Checkpoint(ctx); err == nil {
		t.TrustLogOf(head)
	}
	var since []byte
	if r.Since != "" {
		if since, err = os.ReadFile(r.Since); err != nil {
			return nil, fmt.Errorf("read kept checkpoint: %w", err)
		}
	}
	s, err := j.VerifyLog(ctx, t, since)
	if err != nil {
		return nil, err
	}
	return &cli.LogResponse{Origin: s.Origin, Size: s.Checkpoint.Size, Root: s.Checkpoint.Root, Since: s.Since, Objects: s.Tiles, Pending: s.Pending,
		Manifests: s.Manifests, Missing: s.Missing, Changed: s.Changed, Unlogged: s.Unlogged, OK: s.OK()}, nil
}

func logCheckpoint(ctx context.Context, e cli.Env, r cli.LogRequest) (*cli.CheckpointResponse, error) {
	j, err := openJobState(ctx, e, r.JobState)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	raw, err := j.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	out := &cli.CheckpointResponse{Checkpoint: string(raw), Path: r.Output}
	if r.Output != "" {
		if err := os.WriteFile(r.Output, raw, 0o644); err != nil {
			return nil, fmt.Errorf("write checkpoint: %w", err)
		}
	}
	return out, nil
}

func requests(ctx context.Context, _ cli.Env, r cli.RequestsRequest) (*cli.RequestsResponse, error) {
	s, err := openState(ctx, r.State)
	if err != nil {
		return nil, err
	}
	list, unread, err := jobs.Requests(ctx, s, clock.Now(ctx), jobs.RequestsOptions{Job: r.Job, ID: r.ID})
	if err != nil {
		return nil, err
	}
	out := &cli.RequestsResponse{Unread: unread}
	for _, q := range list {
		if q.Met != nil && !*q.Met {
			out.Late++
		}
		if r.Open && q.Closed() {
			continue
		}
		out.Requests = append(out.Requests, cli.RequestInfo{ID: q.ID, Received: when(q.Received), Status: q.Status, Until: when(q.Until),
			Deadline: when(q.Deadline), Met: q.Met, Keys: q.Keys, Held: q.Held, Found: q.Found, History: q.History, Targets: q.Targets, Missed: q.Missed, Runs: q.Runs})
	}
	return out, nil
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func certificateIssue(ctx context.Context, e cli.Env, r cli.CertificateRequest) (*cli.CertificateResponse, error) {
	j, err := openJobState(ctx, e, r.JobState)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	c, err := j.Certify(ctx, jobs.CertificateRequest{Subject: r.Subject, Request: r.Request, Runs: r.Runs})
	if err != nil {
		return nil, err
	}
	out, err := certificateResponse(c.Certificate, nil)
	if err != nil {
		return nil, err
	}
	out.Sealed, out.Path, out.Page = c.Sealed, r.Output, r.Output+".html"
	var page bytes.Buffer
	if err := manifests.CertificateHTML(&page, c.Certificate, c.Envelope, nil); err != nil {
		return nil, err
	}
	// A certificate lets guesses of the key be tried: it is its owner's alone.
	for name, data := range map[string][]byte{out.Path: c.Envelope, out.Page: page.Bytes()} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, fmt.Errorf("write certificate: %w", err)
		}
	}
	return out, nil
}

func certificateResponse(c *manifests.Certificate, checks []manifests.Check) (*cli.CertificateResponse, error) {
	out := &cli.CertificateResponse{Checks: checkInfos(checks)}
	if c == nil {
		return out, nil
	}
	out.ID = c.ID
	for i := range c.Runs {
		r := &c.Runs[i]
		out.Runs = append(out.Runs, cli.CertifiedRun{Manifest: r.ManifestID, Job: r.Job, Kind: string(r.Kind), Outcome: string(r.Outcome.Result),
			Keyset: r.Key.Keyset, End: r.End, Files: len(r.Files)})
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	out.Body = body
	return out, nil
}

func certificateVerify(ctx context.Context, _ cli.Env, r cli.CertificateRequest) (*cli.CertificateResponse, error) {
	t, err := trustIn(ctx, nil, r.Trust, r.PublicKeys)
	if err != nil {
		return nil, err
	}
	envelope, err := os.ReadFile(r.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	given := map[string][]byte{}
	for _, f := range r.Manifests {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		m, err := manifests.Read(raw)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", f, err)
		}
		given[m.ID] = raw
	}
	if c, err := manifests.ReadCertificate(envelope); err == nil {
		for i := range c.Runs {
			t.TrustLogOf([]byte(c.Runs[i].LogProof))
		}
	}
	c, checks, err := jobs.CheckCertificate(ctx, storage.New(nil), envelope, r.Subject, t, given)
	if err != nil {
		return nil, err
	}
	out, err := certificateResponse(c, checks)
	if err != nil {
		return nil, err
	}
	ok, _ := manifests.Verified(checks)
	out.Path, out.Valid = r.Certificate, &ok
	return out, nil
}

func seal(ctx context.Context, e cli.Env, r cli.SealRequest) (*cli.SealResponse, error) {
	j, id, err := openRunJob(ctx, e, r.Job, cli.RunRef{State: r.State, RunID: r.RunID})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	if r.Confirm != nil {
		if err := r.Confirm(ctx, id); err != nil {
			return nil, err
		}
	}
	sum, err := j.Seal(ctx, id)
	if err != nil {
		return nil, err
	}
	return &cli.SealResponse{RunID: sum.RunID, Job: sum.Job, Sealed: sum.Sealed, Already: sum.Already, Manifest: sum.Manifest}, nil
}
