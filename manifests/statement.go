package manifests

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Statement is an in-toto Statement v1 with a Manifest as its predicate.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Manifest  `json:"predicate"`
}

// Subject is an artifact that the statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Errors of an envelope, each naming what is wrong with it.
var (
	// ErrEnvelope: not a DSSE envelope in its canonical form.
	ErrEnvelope = errors.New("not a canonical DSSE envelope")
	// ErrSignature: a signature does not match.
	ErrSignature = errors.New("signature does not match")
	// ErrFormat: a version or type that this package does not know.
	ErrFormat = errors.New("unknown format")
)

// EnvelopeName is the file name of a manifest's envelope.
func EnvelopeName(id string) string { return id + ".intoto.jsonl" }

// SidecarName is the file name of a manifest's evidence.
func SidecarName(id string) string { return id + ".evidence.parquet" }

// ProofName is the file name of a manifest's log proof.
func ProofName(id string) string { return id + ".tlog-proof" }

// subjects are the digests the statement is about: every target's table
// metadata after the run, and the sidecar. in-toto demands one at least; a
// manifest about neither (a seal) is about its run, named by its digest.
func (m *Manifest) subjects() []Subject {
	var out []Subject
	for i := range m.Targets {
		if v := m.Targets[i].After; v != nil && v.MetadataSHA256 != "" {
			out = append(out, Subject{Name: v.MetadataLocation, Digest: map[string]string{"sha256": v.MetadataSHA256}})
		}
	}
	if m.Evidence.SHA256 != "" {
		out = append(out, Subject{Name: m.Evidence.Name, Digest: map[string]string{"sha256": m.Evidence.SHA256}})
	}
	if len(out) == 0 {
		sum := sha256.Sum256([]byte(m.RunID))
		out = append(out, Subject{Name: "run:" + m.RunID, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}})
	}
	return out
}

// Payload is the canonical statement of a manifest: what gets signed.
func Payload(m *Manifest) ([]byte, error) {
	c, err := m.clone()
	if err != nil {
		return nil, err
	}
	c.fill()
	b, err := Canonical(Statement{StatementType, c.subjects(), PredicateType, *c})
	if err != nil {
		return nil, fmt.Errorf("encode statement: %w", err)
	}
	if problems := checkSchema(b); len(problems) > 0 {
		return nil, fmt.Errorf("manifest %s: %s", m.ID, problems[0])
	}
	return b, nil
}

// clone is a deep copy.
func (m *Manifest) clone() (*Manifest, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	c := new(Manifest)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return c, nil
}

// fill gives every fact its one form: times in UTC, empty lists as [] where
// the member is not optional.
func (m *Manifest) fill() { fillValue(reflect.ValueOf(m).Elem()) }

func fillValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillValue(v.Elem())
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fillValue(v.Index(i))
		}
	case reflect.Struct:
		if t, ok := v.Addr().Interface().(*time.Time); ok {
			*t = t.UTC()
			return
		}
		for i := range v.NumField() {
			fillValue(v.Field(i))
		}
	}
}

// Sign derives the outcome, signs the statement and returns the envelope: the
// bytes of <id>.intoto.jsonl. Signing the same manifest with the same keys
// gives the same bytes. A signer that the manifest does not name as an actor
// is added to it: the first as executor, others as verifiers.
func Sign(ctx context.Context, m *Manifest, signers ...Signer) ([]byte, error) {
	for i, s := range signers {
		m.name(KeyID(s.Public()), i == 0)
	}
	m.Outcome = Decide(m)
	payload, err := Payload(m)
	if err != nil {
		return nil, err
	}
	return SignPayload(ctx, payload, signers...)
}

func (m *Manifest) name(keyID string, first bool) {
	for _, a := range m.Actors {
		if a.KeyID == keyID && (a.Role == RoleExecutor || a.Role == RoleVerifier) {
			return
		}
	}
	role := RoleVerifier
	if first {
		role = RoleExecutor
	}
	m.Actors = append(slices.Clone(m.Actors), Actor{Role: role, KeyID: keyID})
}

// SignPayload signs a statement that is there already, for a second signer.
func SignPayload(ctx context.Context, payload []byte, signers ...Signer) ([]byte, error) {
	var ds []dsse.Signer
	for _, s := range signers {
		ds = append(ds, dsseKey{s.Public(), s})
	}
	es, err := dsse.NewEnvelopeSigner(ds...)
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	e, err := es.SignPayload(ctx, PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	return encodeEnvelope(e)
}

// AddSignature adds a signer to an envelope, e.g. the verifier after the executor.
func AddSignature(ctx context.Context, envelope []byte, s Signer) ([]byte, error) {
	e, payload, err := parseEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	more, err := SignPayload(ctx, payload, s)
	if err != nil {
		return nil, err
	}
	add, _, err := parseEnvelope(more)
	if err != nil {
		return nil, err
	}
	e.Signatures = append(e.Signatures, add.Signatures...)
	return encodeEnvelope(e)
}

func encodeEnvelope(e *dsse.Envelope) ([]byte, error) {
	b, err := Canonical(e)
	if err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	return append(b, '\n'), nil
}

// parseEnvelope accepts exactly what encodeEnvelope writes: one canonical JSON
// line with canonical base64. There is no second spelling of an envelope, so
// its digest in the log stands for its content.
func parseEnvelope(b []byte) (*dsse.Envelope, []byte, error) {
	line, ok := bytes.CutSuffix(b, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("%w: no line end", ErrEnvelope)
	}
	if err := checkCanonical(line); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	e := new(dsse.Envelope)
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(e); err != nil {
		return nil, nil, ErrEnvelope
	}
	if again, err := encodeEnvelope(e); err != nil || !bytes.Equal(again, b) {
		return nil, nil, ErrEnvelope // members in another case, or missing ones
	}
	if e.PayloadType != PayloadType {
		return nil, nil, fmt.Errorf("%w: payload type", ErrFormat)
	}
	payload, err := base64.StdEncoding.Strict().DecodeString(e.Payload)
	if err != nil || base64.StdEncoding.EncodeToString(payload) != e.Payload {
		return nil, nil, fmt.Errorf("%w: payload is not canonical base64", ErrEnvelope)
	}
	for _, s := range e.Signatures {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Sig)
		if err != nil || base64.StdEncoding.EncodeToString(sig) != s.Sig || len(sig) != ed25519.SignatureSize {
			return nil, nil, fmt.Errorf("%w: signature is not canonical base64", ErrEnvelope)
		}
	}
	return e, payload, nil
}

// ParseStatement reads a statement in canonical form. It checks no signature.
func ParseStatement(payload []byte) (*Statement, error) {
	if err := checkCanonical(payload); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	var head struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(payload, &head); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	if head.Type != StatementType || head.PredicateType != PredicateType {
		return nil, fmt.Errorf("statement: %w", ErrFormat)
	}
	st := new(Statement)
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(st); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	return st, nil
}

// Read parses an envelope and returns its manifest without checking a
// signature: for showing, never for believing.
func Read(envelope []byte) (*Manifest, error) {
	_, payload, err := parseEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	st, err := ParseStatement(payload)
	if err != nil {
		return nil, err
	}
	return &st.Predicate, nil
}

// Digest is the hex SHA-256 of an envelope, as the log and the next manifest name it.
func Digest(envelope []byte) string {
	sum := sha256.Sum256(envelope)
	return hex.EncodeToString(sum[:])
}

// dsseKey makes a key known to the DSSE library.
type dsseKey struct {
	public ed25519.PublicKey
	signer Signer
}

func (k dsseKey) KeyID() (string, error)   { return KeyID(k.public), nil }
func (k dsseKey) Public() crypto.PublicKey { return k.public }

func (k dsseKey) Sign(_ context.Context, data []byte) ([]byte, error) { return k.signer.Sign(data) }

func (k dsseKey) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.public, data, sig) {
		return ErrSignature
	}
	return nil
}
