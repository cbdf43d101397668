package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// ErrNoSubject: no run that can still be asked had a key of the subject file.
var ErrNoSubject = errors.New("no run had this person's keys")

// maxCertifiedFiles bounds the evidence of one manifest in a certificate.
const maxCertifiedFiles = 10_000

// CertificateRequest asks for the certificate of one person.
type CertificateRequest struct {
	// Subject is a file of the form of a keyset's source, with one row: the person's keys.
	Subject string
	Request string   // the reference of the person's request, for the page
	Runs    []string // none = every run of the job
}

// IssuedCertificate is a signed certificate. It is for the person: whoever
// holds it can try guesses of the key on it, so it is not kept by the job.
type IssuedCertificate struct {
	Certificate *manifests.Certificate
	Envelope    []byte
	Sealed      []string // runs that can no longer be asked: their secrets are gone
}

// Certify signs, for one person, that the person's keys were in runs' keysets,
// and what became of the files that held them.
func (j *Job) Certify(ctx context.Context, q CertificateRequest) (*IssuedCertificate, error) {
	signers, err := j.signers(ctx)
	if err != nil {
		return nil, err
	}
	all, err := Runs(ctx, j.state, j.cfg.Name, 0)
	if err != nil {
		return nil, err
	}
	now := clock.Now(ctx)
	out := &IssuedCertificate{Certificate: &manifests.Certificate{Issued: now, Controller: j.cfg.Policy.Controller, Request: q.Request}}
	slices.Reverse(all) // oldest first
	for _, st := range all {
		if st.Labels[labelDryRun] != "" || st.Labels[labelAudit] != "" || len(q.Runs) > 0 && !slices.Contains(q.Runs, st.Run) {
			continue
		}
		if st.Sealed {
			out.Sealed = append(out.Sealed, st.Run)
			continue
		}
		r, err := j.openRun(ctx, st.Run)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", st.Run, err)
		}
		runs, err := r.certify(ctx, q.Subject)
		if err != nil {
			return nil, fmt.Errorf("run %s: %w", st.Run, err)
		}
		out.Certificate.Runs = append(out.Certificate.Runs, runs...)
	}
	if len(out.Certificate.Runs) == 0 {
		if n := len(out.Sealed); n > 0 {
			return nil, fmt.Errorf("%w; %d sealed runs can no longer be asked", ErrNoSubject, n)
		}
		return nil, ErrNoSubject
	}
	if out.Certificate.ID, err = newRunID("certificate", now); err != nil {
		return nil, err
	}
	out.Envelope, err = manifests.SignCertificate(ctx, out.Certificate, signers[0])
	return out, err
}

// certify makes a run's part: one entry a manifest and keyset that had the person's key.
func (r *Run) certify(ctx context.Context, subject string) ([]manifests.CertifiedRun, error) {
	if r.progress.keysets == nil || len(r.progress.manifests) == 0 {
		return nil, nil
	}
	var out []manifests.CertifiedRun
	for _, rec := range r.progress.latestManifests() {
		c := certifier{run: r, rec: rec, subject: subject}
		if err := c.load(ctx); err != nil {
			return nil, err
		}
		for i := range c.manifest.Keysets {
			part, err := c.keyset(ctx, &c.manifest.Keysets[i])
			if err != nil {
				return nil, fmt.Errorf("manifest %s: %w", rec.ID, err)
			}
			if part != nil {
				out = append(out, *part)
			}
		}
	}
	return out, nil
}

// latestManifests are the last manifest of each kind, in the order of the journal.
func (p *progress) latestManifests() []manifestRecord {
	var out []manifestRecord
	for i, m := range p.manifests {
		if !slices.ContainsFunc(p.manifests[i+1:], func(o manifestRecord) bool { return o.Kind == m.Kind }) {
			out = append(out, m)
		}
	}
	return out
}

// certifier makes one manifest's part of a certificate.
type certifier struct {
	run             *Run
	rec             manifestRecord
	subject         string
	envelope, proof []byte
	manifest        *manifests.Manifest
}

func (c *certifier) load(ctx context.Context) (err error) {
	if c.envelope, c.proof, err = c.run.job.signed(ctx, c.rec.ID); err != nil {
		return err
	}
	c.manifest, err = manifests.Read(c.envelope)
	return err
}

func (c *certifier) keyset(ctx context.Context, k *manifests.Keyset) (*manifests.CertifiedRun, error) {
	key, err := SubjectKey(ctx, c.run.job.keys, c.subject, k.Name, k.Parts)
	if err != nil || key == nil {
		return nil, err
	}
	leaves, err := c.run.st.ReadBytes(ctx, leavesFile(k.Name))
	if err != nil {
		return nil, fmt.Errorf("read commitment: %w", err)
	}
	proof, number, err := manifests.Prove(c.run.st.Secret(), k.Name, typesOf(k.Parts), key, bytes.NewReader(leaves), int64(len(leaves)))
	if errors.Is(err, manifests.ErrNotCommitted) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files, err := c.files(ctx, k.Name, number)
	if err != nil {
		return nil, err
	}
	return manifests.Certify(c.envelope, c.proof, k.Name, *proof, files)
}

func typesOf(parts []manifests.KeyPart) string {
	types := make([]string, len(parts))
	for i, p := range parts {
		types[i] = p.Type
	}
	return strings.Join(types, ",")
}

// files proves the evidence of the files in which the key was found: what
// became of them, and in a purge's manifest, that they were removed.
func (c *certifier) files(ctx context.Context, keyset string, number uint32) ([]manifests.RecordProof, error) {
	e, err := c.run.recorder()
	if err != nil {
		return nil, err
	}
	concerned := map[string]map[string]bool{} // target and path as the evidence says it → versions; "" = any
	concern := func(target, path, version string) {
		k := target + "\x00" + path
		if concerned[k] == nil {
			concerned[k] = map[string]bool{}
		}
		concerned[k][version] = true
	}
	for i, pt := range c.run.progress.planned.Targets {
		for res, err := range c.run.final(ctx, i, c.run.progress.committed[i]) {
			if err != nil {
				return nil, fmt.Errorf("read results: %w", err)
			}
			if c.run.hasKey(pt.Config, keyset, res.Keys, number) {
				concern(pt.Name, e.path(res.Task.File.Path, pt.Plan.Description.KeyPartitioned), "")
			}
		}
		err := c.run.heldFiles(ctx, pt.Slot, func(h warehouse.Held) {
			if c.run.hasKey(pt.Config, keyset, h.Keys, number) {
				concern(pt.Name, e.path(h.Path, pt.Plan.Description.KeyPartitioned), h.Version)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if len(concerned) == 0 || c.manifest.Evidence.Records == 0 {
		return nil, nil
	}
	side, err := c.run.job.stateStore.Open(ctx, c.run.job.statePath("manifests", manifests.SidecarName(c.rec.ID)))
	if err != nil {
		return nil, fmt.Errorf("open evidence: %w", err)
	}
	defer side.Close()
	return manifests.ProveRecords(side, side.Info().Size, maxCertifiedFiles, func(_ int64, r *manifests.Record) bool {
		versions := concerned[r.Target+"\x00"+r.Path]
		return versions[""] || versions[r.Version]
	})
}

// hasKey says whether a file's result names the key of that number.
func (r *Run) hasKey(config int, keyset string, keys [][]byte, number uint32) bool {
	for i, m := range r.job.cfg.Targets[config].Match {
		if m.Keyset != keyset || i >= len(keys) || len(keys[i]) == 0 {
			continue
		}
		if b, err := numbersOf(keys[i]); err == nil && b.Contains(uint64(number)) {
			return true
		}
	}
	return false
}

// SubjectKey reads a person's key of a keyset from a file of the form of a
// keyset's source, in its canonical bytes. nil: the file has no such columns.
func SubjectKey(ctx context.Context, store storage.Store, file, name string, parts []manifests.KeyPart) ([]byte, error) {
	spec := keyset.Spec{Name: name, Sources: []string{file}}
	for _, p := range parts {
		t, err := keyset.ParseType(p.Type)
		if err != nil {
			return nil, fmt.Errorf("keyset %s: %w", name, err)
		}
		spec.Schema = append(spec.Schema, keyset.Part{Name: p.Name, Type: t, Normalize: p.Normalize})
		spec.Columns = append(spec.Columns, p.Name)
	}
	set, _, err := keyset.Load(ctx, storage.Opener(store), spec)
	switch {
	case errors.Is(err, keyset.ErrColumn):
		return nil, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, keyset.ErrMissing):
		return nil, fmt.Errorf("subject file: %w", err)
	case err != nil:
		return nil, fmt.Errorf("subject file: keyset %s: %w", name, err)
	}
	if set.Len() != 1 {
		return nil, fmt.Errorf("subject file: %d keys of keyset %s, want the one of the person: %w", set.Len(), name, ErrUsage)
	}
	for key := range set.All() {
		return bytes.Clone(key), nil
	}
	return nil, nil
}

// CheckCertificate verifies a certificate with the person's keys, which it reads
// from the subject file. given are envelopes of manifests by id, as far as they are at hand.
func CheckCertificate(ctx context.Context, store storage.Store, envelope []byte, subject string, t *manifests.Trust, given map[string][]byte) (*manifests.Certificate, []manifests.Check, error) {
	c, err := manifests.ReadCertificate(envelope)
	if err != nil {
		return nil, nil, err
	}
	keys := map[string][]byte{}
	for i := range c.Runs {
		r := &c.Runs[i]
		key, err := SubjectKey(ctx, store, subject, r.Key.Keyset, r.Parts)
		if err != nil {
			return nil, nil, err
		}
		if key != nil {
			keys[r.Key.Keyset] = key
		}
	}
	c, checks := manifests.VerifyCertificate(ctx, envelope, keys, t, given)
	return c, checks, nil
}
