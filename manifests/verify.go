package manifests

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Names of the checks that Verify makes, in their order.
const (
	CheckEnvelope  = "envelope"      // one canonical DSSE envelope
	CheckSignature = "signature"     // every signature, by trusted keys in their roles and periods
	CheckSchema    = "schema"        // the published JSON Schema, canonical bytes, subjects
	CheckOutcome   = "outcome rule"  // derived again from the facts
	CheckLog       = "log inclusion" // the envelope is in a trusted log
	CheckChain     = "continuity"    // the previous checkpoint and manifest fit
	CheckSidecar   = "evidence"      // the sidecar's bytes, root, counts and sums
)

// Check is one step of a verification.
type Check struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Skipped bool   `json:"skipped,omitempty"` // what it needs was not given: neither passed nor failed
	Reason  string `json:"reason,omitempty"`
	Err     error  `json:"-"` // for errors.Is
}

// Bundle is what Verify reads. Only the envelope is needed; what is missing is
// reported as skipped, never as passed.
type Bundle struct {
	Envelope []byte
	Proof    []byte      // <id>.tlog-proof
	Sidecar  io.ReaderAt // <id>.evidence.parquet
	Size     int64       // of the sidecar
	Previous []byte      // the envelope before this one
}

// Verify checks a bundle against a trust file, offline. The manifest is nil
// when nobody trusted has signed it or it cannot be read; believe it only when
// Verified says so.
func Verify(ctx context.Context, b Bundle, t *Trust) (*Manifest, []Check) {
	v := verification{t: t}
	e, payload, err := parseEnvelope(b.Envelope)
	if v.note(CheckEnvelope, err); err != nil {
		return nil, v.checks
	}
	if err := t.checkSignatures(ctx, e); err != nil {
		v.note(CheckSignature, err) // what nobody trusted has signed is not even parsed
		return nil, v.checks
	}
	st, err := ParseStatement(payload)
	if err != nil {
		v.note(CheckSchema, err)
		return nil, v.checks
	}
	m := &st.Predicate
	v.note(CheckSignature, t.checkRoles(e, m))
	v.note(CheckSchema, checkForm(payload, st))
	v.note(CheckOutcome, checkOutcome(m))
	v.log(b, m)
	v.sidecar(b, m)
	return m, v.checks
}

// Verified says whether no check failed, and which were skipped.
func Verified(checks []Check) (ok bool, skipped []string) {
	ok = len(checks) > 0
	for _, c := range checks {
		if c.Skipped {
			skipped = append(skipped, c.Name)
		} else if !c.OK {
			ok = false
		}
	}
	return ok, skipped
}

type verification struct {
	t      *Trust
	checks []Check
}

func (v *verification) note(name string, err error) {
	c := Check{Name: name, OK: err == nil, Err: err}
	if err != nil {
		c.Reason = err.Error()
	}
	v.checks = append(v.checks, c)
}

func (v *verification) skip(name, why string) {
	v.checks = append(v.checks, Check{Name: name, Skipped: true, Reason: why})
}

// checkSignatures demands that every signature holds and is by a listed key.
func (t *Trust) checkSignatures(ctx context.Context, e *dsse.Envelope) error {
	if len(e.Signatures) == 0 {
		return fmt.Errorf("%w: there is none", ErrSignature)
	}
	var verifiers []dsse.Verifier
	for i, s := range e.Signatures {
		k := t.key(s.KeyID)
		if k == nil {
			return fmt.Errorf("signature %d: %w", i+1, ErrUnknownKey)
		}
		if slices.ContainsFunc(e.Signatures[:i], func(o dsse.Signature) bool { return o.KeyID == s.KeyID }) {
			return fmt.Errorf("signature %d: %s signed twice", i+1, k.ID)
		}
		verifiers = append(verifiers, dsseKey{public: k.public})
	}
	ev, err := dsse.NewMultiEnvelopeVerifier(len(verifiers), verifiers...)
	if err != nil {
		return err
	}
	if _, err := ev.Verify(ctx, e); err != nil {
		return ErrSignature
	}
	return nil
}

// checkRoles demands that every signer is trusted in the role in which the
// manifest names it, at the time it states, and that an executor has signed.
func (t *Trust) checkRoles(e *dsse.Envelope, m *Manifest) error {
	roles := map[string][]string{} // role → key ids that signed in it
	for _, s := range e.Signatures {
		named := false
		for _, a := range m.Actors {
			if a.KeyID != s.KeyID || a.Role != RoleExecutor && a.Role != RoleVerifier {
				continue
			}
			if err := t.key(s.KeyID).allows(a.Role, m.Times.End); err != nil {
				return err
			}
			named = true
			roles[a.Role] = append(roles[a.Role], s.KeyID)
		}
		if !named {
			return fmt.Errorf("%s: %w: the manifest does not name it as executor or verifier", s.KeyID, ErrRole)
		}
	}
	for _, a := range m.Actors { // whoever is named as executor or verifier by key must have signed
		signs := a.Role == RoleExecutor || a.Role == RoleVerifier
		if signs && a.KeyID != "" && !slices.Contains(roles[a.Role], a.KeyID) {
			return fmt.Errorf("%w: the %s named in the manifest has not signed", ErrSignature, a.Role)
		}
	}
	if len(roles[RoleExecutor]) == 0 {
		return fmt.Errorf("%w: no executor has signed", ErrRole)
	}
	other := func(id string) bool { return !slices.Contains(roles[RoleExecutor], id) }
	if t.RequireVerifier && !slices.ContainsFunc(roles[RoleVerifier], other) {
		return fmt.Errorf("%w: no verifier other than the executor has signed", ErrRole)
	}
	return nil
}

// checkForm validates the statement against the published schema, and the
// subjects against the predicate.
func checkForm(payload []byte, st *Statement) error {
	if problems := checkSchema(payload); len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	if major, _, _ := strings.Cut(st.Predicate.SchemaVersion, "."); major != "1" {
		return fmt.Errorf("schema version: %w", ErrFormat)
	}
	want := st.Predicate.subjects()
	if len(want) != len(st.Subject) || len(want) > 0 && !reflect.DeepEqual(want, st.Subject) {
		return errors.New("the subjects are not the digests that the predicate states")
	}
	return nil
}

func checkOutcome(m *Manifest) error {
	if m.Outcome.Rule != RuleVersion {
		return fmt.Errorf("rule version: %w", ErrFormat)
	}
	o := Decide(m)
	same := o.Result == m.Outcome.Result && slices.Equal(o.Reasons, m.Outcome.Reasons) &&
		(o.Pending == nil) == (m.Outcome.Pending == nil) && (o.Pending == nil || o.Pending.Equal(*m.Outcome.Pending))
	if !same {
		return fmt.Errorf("the manifest says %s, its facts give %s (%s)", m.Outcome.Result, o.Result, strings.Join(o.Reasons, "; "))
	}
	return nil
}

func (v *verification) log(b Bundle, m *Manifest) {
	if len(v.t.Logs) == 0 {
		v.skip(CheckLog, "the trust file lists no log")
	} else if b.Proof == nil {
		v.skip(CheckLog, "no log proof was given")
	} else {
		c, index, err := v.t.checkInclusion(b.Proof, entry{m.ID, Digest(b.Envelope)})
		if v.note(CheckLog, err); err == nil {
			v.note(CheckChain, chain(b, m, c, index))
			return
		}
	}
	if b.Previous != nil {
		v.note(CheckChain, chain(b, m, nil, 0))
		return
	}
	v.skip(CheckChain, "needs the log proof or the previous manifest")
}

// chain checks that what the payload names as previous came before it.
func chain(b Bundle, m *Manifest, c *Checkpoint, index int64) error {
	if p := m.Continuity.PreviousCheckpoint; p != nil && c != nil {
		if p.Origin != c.Origin {
			return fmt.Errorf("the previous checkpoint is of another log: %w", ErrForked)
		}
		if p.Size > index {
			return fmt.Errorf("the manifest stands at %d, before the checkpoint of %d that it names: %w", index, p.Size, ErrForked)
		}
	}
	if b.Previous == nil {
		return nil
	}
	prev, err := Read(b.Previous)
	if err != nil {
		return fmt.Errorf("previous manifest: %w", err)
	}
	if m.Continuity.PreviousID != prev.ID || m.Continuity.PreviousSHA256 != Digest(b.Previous) {
		return errors.New("the previous manifest is another one than this one names")
	}
	return nil
}

func (v *verification) sidecar(b Bundle, m *Manifest) {
	if b.Sidecar == nil {
		if m.Evidence.Records == 0 && m.Evidence.SHA256 == "" {
			v.skip(CheckSidecar, "the manifest has no evidence file")
			return
		}
		v.skip(CheckSidecar, "no evidence file was given")
		return
	}
	err := VerifySidecar(b.Sidecar, b.Size, m.Evidence)
	if err == nil {
		err = m.checkTotals()
	}
	v.note(CheckSidecar, err)
}

// checkTotals compares what the manifest says a target with what the evidence sums up to.
func (m *Manifest) checkTotals() error {
	var erased, changed, in, out int64
	for i := range m.Targets {
		erased += m.Targets[i].RowsErased
		changed += m.Targets[i].RowsChanged
		in += m.Targets[i].RowsIn
		out += m.Targets[i].RowsOut
	}
	t := m.Evidence.Totals
	if erased != t.RowsErased || changed != t.Changed || in != t.RowsIn || out != t.RowsOut {
		return errors.New("the targets' row counts are not the evidence's sums")
	}
	if m.Deletes.Objects+m.Deletes.AlreadyGone != t.Deletes {
		return errors.New("the count of physical deletes is not the evidence's")
	}
	return nil
}

// CheckpointOf reads the checkpoint that a proof leads to, without believing it:
// for keeping it, which is what makes a later removal provable.
func CheckpointOf(proof []byte, t *Trust) (*Checkpoint, error) {
	p, err := parseProof(proof)
	if err != nil {
		return nil, err
	}
	tree, origin, err := t.trustedCheckpoint(p.checkpoint)
	if err != nil {
		return nil, err
	}
	return &Checkpoint{origin, tree.N, hex.EncodeToString(tree.Hash[:])}, nil
}

// ErrTime is for callers that compare a manifest's times with a clock of theirs.
var ErrTime = errors.New("the manifest's times lie in the future")

// ReadCheckpoint reads a checkpoint that somebody kept: the signed note itself,
// or a log proof, which ends with one. It must be of a trusted log.
func ReadCheckpoint(raw []byte, t *Trust) (*Checkpoint, error) {
	if bytes.HasPrefix(raw, []byte(proofHeader+"\n")) {
		return CheckpointOf(raw, t)
	}
	tree, origin, err := t.trustedCheckpoint(raw)
	if err != nil {
		return nil, err
	}
	return &Checkpoint{origin, tree.N, hex.EncodeToString(tree.Hash[:])}, nil
}

// clockSlack is how far two clocks may be apart.
const clockSlack = 5 * time.Minute

// CheckTime fails when a manifest claims to have ended after now.
func CheckTime(m *Manifest, now time.Time) error {
	if m.Times.End.After(now.Add(clockSlack)) {
		return ErrTime
	}
	return nil
}
