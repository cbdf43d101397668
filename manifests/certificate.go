package manifests

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

// CertificateType names a certificate's predicate in its in-toto Statement.
const CertificateType = "https://github.com/expunge/expunge/manifests/certificate/v1"

// Certificate says to one person what was done about one key: that it was
// among the keys of certain runs, and what these runs ended with. It can be
// checked by whoever knows the key, and tells nothing about another person.
//
// It is only as good as the manifests that it refers to: their claim is its
// claim, their exclusions are listed with it.
type Certificate struct {
	SchemaVersion string         `json:"schema_version"`
	ID            string         `json:"id"`
	Issued        time.Time      `json:"issued"`
	Controller    string         `json:"controller,omitempty"`
	Request       string         `json:"request,omitempty"` // the reference of the person's request
	KeyID         string         `json:"key_id"`            // who signs it
	Runs          []CertifiedRun `json:"runs"`
}

// CertifiedRun is one manifest whose keysets had the key.
type CertifiedRun struct {
	ManifestID     string        `json:"manifest_id"`
	ManifestSHA256 string        `json:"manifest_sha256"` // of the envelope
	Job            string        `json:"job"`
	Kind           Kind          `json:"kind"`
	Outcome        Outcome       `json:"outcome"`
	End            time.Time     `json:"end"`
	Targets        []string      `json:"targets"`
	Excluded       []Exclusion   `json:"excluded"`
	Residue        []Residue     `json:"residue"`
	Claim          string        `json:"claim"`
	Parts          []KeyPart     `json:"parts"` // how the key is written, so that it can be brought to its canonical form
	Commitment     Commitment    `json:"commitment"`
	Key            KeyProof      `json:"key"`
	Files          []RecordProof `json:"files"` // evidence of the files concerned
	Evidence       Evidence      `json:"evidence"`
	LogProof       string        `json:"log_proof,omitempty"` // text of <id>.tlog-proof
}

// Certify makes the part of a certificate that one manifest contributes. key
// is the proof of the person's key in the keyset of that name.
func Certify(envelope, logProof []byte, keyset string, key KeyProof, files []RecordProof) (*CertifiedRun, error) {
	m, err := Read(envelope)
	if err != nil {
		return nil, err
	}
	for i := range m.Keysets {
		k := &m.Keysets[i]
		if k.Name != keyset {
			continue
		}
		r := &CertifiedRun{ManifestID: m.ID, ManifestSHA256: Digest(envelope), Job: m.Job, Kind: m.Kind, Outcome: m.Outcome,
			End: m.Times.End, Excluded: m.Scope.Excluded, Residue: m.Residue, Claim: m.Scope.Claim, Parts: k.Parts, Commitment: k.Commitment,
			Key: key, Files: files, Evidence: m.Evidence, LogProof: string(logProof)}
		for _, t := range m.Targets {
			r.Targets = append(r.Targets, t.Name)
		}
		return r, nil
	}
	return nil, fmt.Errorf("manifest %s has no keyset %q: %w", m.ID, keyset, ErrNotCommitted)
}

type certificateStatement struct {
	Type          string      `json:"_type"`
	Subject       []Subject   `json:"subject"`
	PredicateType string      `json:"predicateType"`
	Predicate     Certificate `json:"predicate"`
}

// SignCertificate signs a certificate as a DSSE envelope.
func SignCertificate(ctx context.Context, c *Certificate, s Signer) ([]byte, error) {
	if len(c.Runs) == 0 {
		return nil, errors.New("a certificate about no run")
	}
	c.SchemaVersion, c.KeyID = SchemaVersion, KeyID(s.Public())
	st := certificateStatement{Type: StatementType, PredicateType: CertificateType, Predicate: *c}
	st.Predicate.Issued = c.Issued.UTC()
	for _, r := range c.Runs {
		st.Subject = append(st.Subject, Subject{Name: EnvelopeName(r.ManifestID), Digest: map[string]string{"sha256": r.ManifestSHA256}})
	}
	payload, err := Canonical(st)
	if err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	return SignPayload(ctx, payload, s)
}

// Names of the checks that VerifyCertificate makes.
const (
	CheckKey      = "key"      // the key is in the commitment of every run
	CheckManifest = "manifest" // the runs' manifests are those that were logged or given
)

// VerifyCertificate checks a certificate for one person's keys: their canonical
// bytes by keyset. A keyset of the certificate without a key fails. manifests holds envelopes by manifest id, as far as they are at hand; without
// them the log proofs alone tie the certificate to what was logged.
func VerifyCertificate(ctx context.Context, envelope []byte, keys map[string][]byte, t *Trust, manifests map[string][]byte) (*Certificate, []Check) {
	v := verification{t: t}
	e, payload, err := parseEnvelope(envelope)
	if v.note(CheckEnvelope, err); err != nil {
		return nil, v.checks
	}
	if err := t.checkSignatures(ctx, e); err != nil {
		v.note(CheckSignature, err)
		return nil, v.checks
	}
	c, err := parseCertificate(payload)
	if err != nil {
		v.note(CheckSchema, err)
		return nil, v.checks
	}
	signer := t.key(e.Signatures[0].KeyID)
	err = signer.allows(RoleExecutor, c.Issued)
	if err == nil && (len(e.Signatures) != 1 || c.KeyID != signer.ID) {
		err = fmt.Errorf("%w: signed by another key than it names", ErrRole)
	}
	v.note(CheckSignature, err)
	v.note(CheckKey, eachRun(c, func(r *CertifiedRun) error {
		key, ok := keys[r.Key.Keyset]
		if !ok {
			return fmt.Errorf("no key of keyset %q was given", r.Key.Keyset)
		}
		return r.Key.Check(r.Commitment, key)
	}))
	v.note(CheckSidecar, eachRun(c, (*CertifiedRun).checkFiles))
	v.certifiedManifests(c, manifests)
	return c, v.checks
}

// ReadCertificate reads a certificate without believing it: to learn how its
// keys are written.
func ReadCertificate(envelope []byte) (*Certificate, error) {
	_, payload, err := parseEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	return parseCertificate(payload)
}

func parseCertificate(payload []byte) (*Certificate, error) {
	if err := checkCanonical(payload); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	st := new(certificateStatement)
	if err := dec.Decode(st); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if st.Type != StatementType || st.PredicateType != CertificateType || len(st.Predicate.Runs) == 0 {
		return nil, fmt.Errorf("certificate: %w", ErrFormat)
	}
	return &st.Predicate, nil
}

func eachRun(c *Certificate, check func(r *CertifiedRun) error) error {
	for i := range c.Runs {
		if err := check(&c.Runs[i]); err != nil {
			return fmt.Errorf("%s: %w", c.Runs[i].ManifestID, err)
		}
	}
	return nil
}

func (r *CertifiedRun) checkFiles() error {
	for i := range r.Files {
		if err := r.Files[i].Check(r.Evidence); err != nil {
			return err
		}
	}
	return nil
}

// certifiedManifests ties the runs to their manifests: by the log, and by the
// manifests themselves where they are given.
func (v *verification) certifiedManifests(c *Certificate, given map[string][]byte) {
	if len(v.t.Logs) == 0 {
		v.skip(CheckLog, "the trust file lists no log")
	} else {
		v.note(CheckLog, eachRun(c, func(r *CertifiedRun) error {
			_, _, err := v.t.checkInclusion([]byte(r.LogProof), entry{r.ManifestID, r.ManifestSHA256})
			return err
		}))
	}
	if len(given) == 0 {
		v.skip(CheckManifest, "no manifest was given")
		return
	}
	v.note(CheckManifest, eachRun(c, func(r *CertifiedRun) error {
		env, ok := given[r.ManifestID]
		if !ok {
			return errors.New("the manifest was not given")
		}
		want, err := Certify(env, []byte(r.LogProof), r.Key.Keyset, r.Key, r.Files)
		if err != nil {
			return err
		}
		a, err1 := Canonical(want)
		b, err2 := Canonical(r)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			return errors.New("the certificate says something else than the manifest")
		}
		return nil
	}))
}

//go:embed certificate.html
var certificateHTML string

var certificateTemplate = template.Must(template.New("certificate").Funcs(template.FuncMap{
	"stamp": stamp, "day": day, "join": strings.Join,
	"headline": func(o Outcome) string { return Headline(&Manifest{Outcome: o}) },
}).Parse(certificateHTML))

// CertificateHTML writes the printable page: self-contained, without scripts.
// The signed envelope is part of it, as text, so that the page alone can be
// checked.
func CertificateHTML(w io.Writer, c *Certificate, envelope []byte, checks []Check) error {
	ok, _ := Verified(checks)
	err := certificateTemplate.Execute(w, map[string]any{"C": c, "Checks": checks, "OK": ok && len(checks) > 0,
		"Envelope": base64.StdEncoding.EncodeToString(envelope)})
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
