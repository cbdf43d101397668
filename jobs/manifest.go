package jobs

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/internal/kms"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// claim is what every manifest says of itself, no more.
const claim = "absent from the surfaces listed here, at the versions listed here, checked in the way stated here"

// writeManifest derives the outcome, signs, stores and logs the manifest of a
// step. It can be repeated after a crash: what is stored already is kept.
func (r *Run) writeManifest(ctx context.Context, kind manifests.Kind, end time.Time) (*manifests.Manifest, error) {
	if err := r.step(ctx, StepManifest); err != nil {
		return nil, err
	}
	id := r.ID() + "-" + string(kind)
	if n := r.countManifests(string(kind)); n > 0 {
		id += "-" + strconv.Itoa(n+1)
	}
	if bare.Is(ctx) {
		m, err := r.buildManifest(ctx, id, kind, end)
		if err != nil {
			return nil, err
		}
		m.Outcome = manifests.Decide(m)
		return m, r.note(ctx, evManifest, string(kind), manifestRecord{ID: id, Kind: string(kind), Outcome: string(m.Outcome.Result)})
	}
	m, rec, err := r.job.publish(ctx, id, kind, func(log *manifests.Log, signers []manifests.Signer) ([]byte, error) {
		return r.signManifest(ctx, id, kind, end, log, signers)
	})
	if err != nil {
		return nil, err
	}
	return m, r.note(ctx, evManifest, string(kind), rec)
}

// publish signs, stores and logs a manifest, and writes its report. What is
// there already is kept, so that it can be repeated after a crash.
func (j *Job) publish(ctx context.Context, id string, kind manifests.Kind, sign func(*manifests.Log, []manifests.Signer) ([]byte, error)) (*manifests.Manifest, manifestRecord, error) {
	rec := manifestRecord{ID: id, Kind: string(kind), Path: j.statePath("manifests", manifests.EnvelopeName(id))}
	log, signers, err := j.log(ctx)
	if err != nil {
		return nil, rec, err
	}
	envelope, err := storage.ReadAll(ctx, j.stateStore, rec.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if envelope, err = sign(log, signers); err == nil {
			err = storage.WriteAll(ctx, j.stateStore, rec.Path, envelope, storage.CreateOptions{IfNotExists: true})
		}
	}
	if err != nil {
		return nil, rec, fmt.Errorf("write manifest: %w", err)
	}
	proof, err := log.Append(ctx, envelope)
	if err != nil {
		return nil, rec, fmt.Errorf("append manifest to the log: %w", err)
	}
	if err := storage.WriteAll(ctx, j.stateStore, j.statePath("manifests", manifests.ProofName(id)), proof, storage.CreateOptions{}); err != nil {
		return nil, rec, fmt.Errorf("write log proof: %w", err)
	}
	m, err := manifests.Read(envelope)
	if err != nil {
		return nil, rec, fmt.Errorf("read own manifest: %w", err)
	}
	rec.SHA256, rec.Outcome = manifests.Digest(envelope), string(m.Outcome.Result)
	return m, rec, j.writeReport(ctx, id, envelope, m)
}

func (r *Run) countManifests(kind string) (n int) {
	for _, m := range r.progress.manifests {
		if m.Kind == kind {
			n++
		}
	}
	return n
}

func (j *Job) writeReport(ctx context.Context, id string, envelope []byte, m *manifests.Manifest) error {
	report := manifests.Report{Manifest: m, Digest: manifests.Digest(envelope)}
	if m.Evidence.SHA256 != "" {
		side, err := j.stateStore.Open(ctx, j.statePath("manifests", manifests.SidecarName(id)))
		if err != nil {
			return fmt.Errorf("open evidence: %w", err)
		}
		defer side.Close()
		reader, err := manifests.OpenSidecar(side, side.Info().Size)
		if err != nil {
			return err
		}
		if report.Breakdown, err = reader.Breakdown(); err != nil {
			return err
		}
	}
	var html strings.Builder
	if err := report.HTML(&html); err != nil {
		return err
	}
	where := j.statePath("manifests", id+".html")
	if err := storage.WriteAll(ctx, j.stateStore, where, []byte(html.String()), storage.CreateOptions{ContentType: "text/html; charset=utf-8"}); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (r *Run) signManifest(ctx context.Context, id string, kind manifests.Kind, end time.Time, log *manifests.Log, signers []manifests.Signer) ([]byte, error) {
	ev, err := r.writeSidecar(ctx, id, kind)
	if err != nil {
		return nil, err
	}
	m, err := r.buildManifest(ctx, id, kind, end)
	if err != nil {
		return nil, err
	}
	m.Evidence = ev
	if err := follow(ctx, log, m); err != nil {
		return nil, err
	}
	m.Actors = append(r.actorsBefore(), actors(signers, end)...)
	m.Outcome = manifests.Decide(m)
	return manifests.Sign(ctx, m, signers...)
}

// follow chains a manifest to the log as it is: its head, and its last manifest
// where this one continues none of its own run.
func follow(ctx context.Context, log *manifests.Log, m *manifests.Manifest) error {
	head, err := log.Head(ctx)
	if err != nil {
		return fmt.Errorf("read log head: %w", err)
	}
	c := &m.Continuity
	if c.PreviousCheckpoint = head; c.PreviousID != "" {
		return nil
	}
	if c.PreviousID, c.PreviousSHA256, err = log.Last(ctx); err != nil {
		return fmt.Errorf("read the log's last entry: %w", err)
	}
	return nil
}

// actorsBefore are who asked for the run and who approved its plan.
func (r *Run) actorsBefore() (out []manifests.Actor) {
	if by := r.job.cfg.Policy.RequestedBy; by != "" {
		out = append(out, manifests.Actor{Role: manifests.RoleRequester, Name: by})
	}
	if r.progress.approved != nil {
		for _, a := range r.progress.approved.Approvals {
			at := a.Time.UTC()
			out = append(out, manifests.Actor{Role: manifests.RoleApprover, Name: a.Name, KeyID: a.KeyID, Time: &at, StatementSHA256: a.SHA256})
		}
	}
	return out
}

// actors are the signers: executor first, then the verifier where it has a key of its own.
func actors(signers []manifests.Signer, at time.Time) []manifests.Actor {
	var out []manifests.Actor
	for i, s := range signers {
		role := manifests.RoleExecutor
		if i == 1 {
			role = manifests.RoleVerifier
		}
		out = append(out, manifests.Actor{Role: role, KeyID: manifests.KeyID(s.Public()), Time: &at})
	}
	return out
}

// head is what every manifest of the job begins with.
func (j *Job) head(id, run string, kind manifests.Kind, digest string) *manifests.Manifest {
	p := j.cfg.Policy
	return &manifests.Manifest{
		SchemaVersion: manifests.SchemaVersion, ID: id, RunID: run, Kind: kind, Job: j.cfg.Name,
		Policy: manifests.Policy{Controller: p.Controller, Environment: p.Environment, LegalBasis: p.Basis, PolicyID: p.ID, Grace: j.cfg.Grace.String()},
		Tool: manifests.Tool{Name: "expunge", Version: j.env.Version, BinarySHA256: j.env.BinarySHA256, ConfigSHA256: digest,
			Verifier: verifier.Library, VerifierVersion: verifier.Version(), Engine: j.cfg.Engine.Type, Platform: runtime.GOOS + "/" + runtime.GOARCH},
		Scope:        manifests.Scope{Claim: claim},
		Verification: manifests.Verification{Mode: "none"},
	}
}

// buildManifest states the facts of the journal, and the files that were left
// as they were. It reads no clock.
func (r *Run) buildManifest(ctx context.Context, id string, kind manifests.Kind, end time.Time) (*manifests.Manifest, error) {
	var left []manifests.Exclusion
	for _, t := range r.targets {
		reasons, err := r.leftReasons(ctx, t)
		if err != nil {
			return nil, err
		}
		left = append(left, reasons...)
	}
	p := &r.progress
	m := r.job.head(id, r.ID(), kind, r.frozen.Digest)
	m.Scope.Since, m.Scope.Until = optional(r.frozen.Since), optional(r.frozen.Until)
	m.Incidents.Resumes = p.resumes
	lim, raisedBy := r.limits()
	m.Limits = manifests.Limits{Rows: lim.rows, SharePPM: int64(lim.share), Files: lim.files, OverriddenBy: raisedBy}
	m.Times = manifests.Times{Start: r.frozen.Started, End: end, Commit: optional(p.commitAt)}
	if p.planned != nil {
		m.Continuity.PlanSHA256 = p.planned.Digest
	}
	if prev, ok := r.previousManifest(kind); ok {
		m.Continuity.PreviousID, m.Continuity.PreviousSHA256 = prev.ID, prev.SHA256
		if kind == manifests.KindRun {
			m.Continuity.Supersedes = prev.ID
		} else {
			m.Continuity.Continues = prev.ID
		}
	}
	if p.stopped != nil {
		m.Limits.StoppedBy = p.stopped.Limit
	}
	if err := r.keysetFacts(m); err != nil {
		return nil, err
	}
	r.clockFacts(m, end)
	r.scopeFacts(m)
	m.Scope.Excluded = append(m.Scope.Excluded, left...)
	for _, t := range r.targets {
		r.targetFacts(m, t, kind)
	}
	r.residueFacts(m)
	return m, nil
}

func (r *Run) previousManifest(kind manifests.Kind) (manifestRecord, bool) {
	if kind == manifests.KindRun {
		return r.progress.manifest(string(kind))
	}
	return r.progress.manifest(string(manifests.KindRun))
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (r *Run) keysetFacts(m *manifests.Manifest) error {
	if r.progress.keysets == nil {
		return errNoKeysets
	}
	e, err := r.recorder()
	if err != nil {
		return err
	}
	for _, k := range r.progress.keysets.Keysets {
		set := r.sets[k.Name]
		ks := manifests.Keyset{Name: k.Name}
		if err := json.Unmarshal(k.Commitment, &ks.Commitment); err != nil {
			return fmt.Errorf("commitment of %s: %w", k.Name, err)
		}
		for _, part := range set.Schema() {
			ks.Parts = append(ks.Parts, manifests.KeyPart{Name: part.Name, Type: part.Type.String(), Normalize: part.Normalize})
		}
		if rep := k.Report; rep != nil {
			ks.Duplicates, ks.Held = rep.Duplicates, rep.Held
			m.Policy.Requests += rep.Requests
			for _, s := range rep.Sources {
				d, err := e.digest(s.SHA256, true)
				if err != nil {
					return err
				}
				ks.Sources = append(ks.Sources, manifests.KeySource{Name: e.source(s.URI), KeyedDigest: d, Bytes: s.Size, Hold: s.Hold})
			}
		}
		ks.Filter = k.Filter
		m.Keysets = append(m.Keysets, ks)
	}
	return nil
}

// clockFacts are GDPR Art. 12's: when the first request came, when it was due, whether that was met.
func (r *Run) clockFacts(m *manifests.Manifest, end time.Time) {
	reports := map[string]*keyset.Report{}
	for _, k := range r.progress.keysets.Keysets {
		reports[k.Name] = k.Report
	}
	earliest := earliestRequest(reports)
	m.Policy.EarliestRequest = optional(earliest)
	if d := r.job.cfg.Policy.Deadline.Duration(); d > 0 && !earliest.IsZero() {
		due := earliest.Add(d)
		met := !end.Add(r.job.cfg.Grace.Duration()).After(due)
		if m.Kind == manifests.KindPurge {
			met = !end.After(due)
		}
		m.Policy.Deadline, m.Policy.DeadlineMet = optional(due), &met
	}
}

func (r *Run) scopeFacts(m *manifests.Manifest) {
	for _, x := range r.job.cfg.Excluded {
		m.Scope.Excluded = append(m.Scope.Excluded, manifests.Exclusion{What: x.What, Reason: x.Reason, Owner: x.Owner, GoneBy: x.GoneBy.String(), Declared: true})
	}
	for _, x := range r.excluded {
		m.Scope.Excluded = append(m.Scope.Excluded, exclusion("", x))
	}
	for _, t := range r.targets {
		pt := r.progress.planned.Targets[t.slot]
		inc := included(t, pt.Plan.Description)
		if r.frozen.Compact {
			inc.Action = "compact"
		}
		m.Scope.Included = append(m.Scope.Included, inc)
		for _, x := range pt.Plan.Excluded {
			m.Scope.Excluded = append(m.Scope.Excluded, exclusion(t.name, x))
		}
		for _, s := range pt.Plan.Skipped {
			if s.Reason == "outside time range" {
				m.Scope.Excluded = append(m.Scope.Excluded, manifests.Exclusion{What: "files outside --since and --until", Target: t.name, Reason: s.Reason, Declared: true, Count: s.Files})
			}
		}
	}
}

// included says what a target in scope is and what was asked of it.
func included(t *boundTarget, d warehouse.Description) manifests.Included {
	inc := manifests.Included{Target: t.name, UUID: d.UUID, Location: d.Location, FormatVersion: d.FormatVersion, Action: t.sel.Action.Kind}
	for _, ref := range d.Refs {
		inc.Refs = append(inc.Refs, ref.Type+" "+ref.Name)
	}
	for _, mt := range t.sel.Match {
		inc.Match = append(inc.Match, mt.Keyset+": "+strings.Join(mt.Columns, ", "))
	}
	return inc
}

func exclusion(target string, x warehouse.Excluded) manifests.Exclusion {
	return manifests.Exclusion{What: x.What, Target: target, Reason: x.Reason, Owner: x.Owner, GoneBy: x.GoneBy, Declared: x.Declared}
}

// statePath is a path in the state bucket.
func (j *Job) statePath(parts ...string) string {
	return strings.TrimSuffix(j.cfg.State, "/") + "/" + strings.Join(parts, "/")
}

// signers are the executor's key and, where the job names another, the verifier's.
func (j *Job) signers(ctx context.Context) ([]manifests.Signer, error) {
	ref := j.cfg.Signing.Executor
	var executor manifests.Signer
	var err error
	if ref == "" {
		executor, err = j.ownKey(ctx)
	} else {
		executor, err = kms.OpenKey(ctx, ref)
	}
	if err != nil {
		return nil, fmt.Errorf("executor's signing key: %w", err)
	}
	out := []manifests.Signer{executor}
	if v := j.cfg.Signing.Verifier; v != "" && v != ref {
		key, err := kms.OpenKey(ctx, v)
		if err != nil {
			return nil, fmt.Errorf("verifier's signing key: %w", err)
		}
		out = append(out, key)
	}
	return out, nil
}

// trySigning shows before anything is erased that the manifest can be signed
// and logged (contract rule 12): each key signs a few bytes that are thrown
// away, and the log's head is one that this key may continue.
func (j *Job) trySigning(ctx context.Context) error {
	if bare.Is(ctx) {
		return nil
	}
	log, signers, err := j.log(ctx)
	if err != nil {
		return err
	}
	for _, s := range signers {
		msg := []byte("expunge: may this key sign?")
		sig, err := s.Sign(msg)
		if err != nil {
			return fmt.Errorf("key %s: %w", manifests.KeyID(s.Public()), err)
		}
		if !ed25519.Verify(s.Public(), msg, sig) {
			return fmt.Errorf("key %s: %w", manifests.KeyID(s.Public()), manifests.ErrSignature)
		}
	}
	if _, err := log.Head(ctx); err != nil {
		return fmt.Errorf("continue the log (list the key of its last checkpoint in signing.trust): %w", err)
	}
	return nil
}

// ownKey is the key that the state bucket holds for jobs that name none. It
// makes manifests tamper-evident to others, not against the bucket's owner.
func (j *Job) ownKey(ctx context.Context) (manifests.Signer, error) {
	where := j.statePath("keys", "executor.pem")
	pem, err := storage.ReadAll(ctx, j.stateStore, where)
	if err == nil {
		return manifests.ParseKey(pem)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := manifests.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	if pem, err = key.PEM(); err != nil {
		return nil, err
	}
	err = storage.WriteAll(ctx, j.stateStore, where, pem, storage.CreateOptions{IfNotExists: true, Private: true})
	if errors.Is(err, fs.ErrExist) { // another run was faster
		if pem, err = storage.ReadAll(ctx, j.stateStore, where); err != nil {
			return nil, err
		}
		return manifests.ParseKey(pem)
	}
	return key, err
}

// Trust is the job's trust file, or one that trusts the job's own keys.
func (j *Job) Trust(ctx context.Context) (*manifests.Trust, error) {
	if f := j.cfg.Signing.Trust; f != "" {
		raw, err := storage.ReadAll(ctx, j.keys, f)
		if err != nil {
			return nil, fmt.Errorf("read trust file: %w", err)
		}
		t, err := manifests.ParseTrust(raw)
		if err != nil || len(t.Logs) > 0 {
			return t, err
		}
		// A trust file that lists no log means the one of this bucket.
		origin, err := j.logOrigin(ctx, false)
		if err == nil {
			t.TrustLogOf([]byte(origin + "\n"))
		}
		return t, err
	}
	signers, err := j.signers(ctx)
	if err != nil {
		return nil, err
	}
	var keys []manifests.TrustedKey
	for i, s := range signers {
		roles := []string{manifests.RoleExecutor, manifests.RoleVerifier, manifests.RoleLog}
		if i == 1 {
			roles = []string{manifests.RoleVerifier}
		}
		k, err := manifests.Trusted(s.Public(), "", roles...)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	origin, err := j.logOrigin(ctx, false)
	if err != nil {
		return nil, err
	}
	t := &manifests.Trust{Version: 1, Keys: keys, Logs: []manifests.TrustedLog{{Origin: origin, KeyIDs: []string{keys[0].ID}}}}
	raw, err := t.JSON()
	if err != nil {
		return nil, err
	}
	return manifests.ParseTrust(raw)
}
