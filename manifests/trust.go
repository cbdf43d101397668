package manifests

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of trust, each naming what is wrong with a signer.
var (
	// ErrUnknownKey: no key of the trust file made the signature.
	ErrUnknownKey = errors.New("signed by a key that the trust file does not list")
	// ErrExpiredKey: the key was not valid at the time the manifest states.
	ErrExpiredKey = errors.New("key outside its validity period")
	// ErrRevokedKey: the key was withdrawn.
	ErrRevokedKey = errors.New("key revoked")
	// ErrRole: the key may not sign in this role.
	ErrRole = errors.New("key lacks the role")
)

// Trust is what a verifier believes in: keys with the periods and roles they
// are valid for, and logs.
//
// A key's period is compared with the end time that the manifest states, so
// that manifests stay verifiable after a rotation. The statement is the
// signer's own; a stolen expired key can back-date. Revoked closes that door:
// a revoked key's signature counts only in a log that somebody witnessed.
type Trust struct {
	Version int          `json:"version"`
	Keys    []TrustedKey `json:"keys"`
	Logs    []TrustedLog `json:"logs,omitempty"`
	// RequireVerifier demands a second signature by a verifier's key that is not the executor's.
	RequireVerifier bool `json:"require_verifier,omitempty"`

	anyLog bool // the logs are those of TrustLogOf
}

// TrustedKey is a key that may sign manifests.
type TrustedKey struct {
	ID        string     `json:"id"`
	Name      string     `json:"name,omitempty"`
	Roles     []string   `json:"roles"` // RoleExecutor, RoleVerifier, RoleApprover, "log"
	PublicKey string     `json:"public_key"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	Revoked   *time.Time `json:"revoked,omitempty"`

	public ed25519.PublicKey
}

// TrustedLog is a log whose checkpoints are believed when one of the keys signed them.
type TrustedLog struct {
	Origin    string   `json:"origin"`
	KeyIDs    []string `json:"key_ids"`
	Witnesses []string `json:"witnesses,omitempty"` // C2SP cosignature/v1 verifier keys, one of which must have signed
}

// RoleLog lets a key sign checkpoints.
const RoleLog = "log"

// ParseTrust reads a trust file (JSON). Unknown members, ids that do not match
// their key and unknown roles are errors.
func ParseTrust(b []byte) (*Trust, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	t := new(Trust)
	if err := dec.Decode(t); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	if err := t.prepare(); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	return t, nil
}

func (t *Trust) prepare() error {
	if t.Version != 1 {
		return fmt.Errorf("version %d, want 1", t.Version)
	}
	if len(t.Keys) == 0 {
		return errors.New("no keys")
	}
	seen := map[string]bool{}
	for i := range t.Keys {
		k := &t.Keys[i]
		pub, err := ParsePublic(k.PublicKey)
		if err != nil {
			return fmt.Errorf("key %q: %w", k.ID, err)
		}
		if id := KeyID(pub); k.ID != id {
			return fmt.Errorf("key %q: the public key's id is %q", k.ID, id)
		}
		if seen[k.ID] {
			return fmt.Errorf("key %q: listed twice", k.ID)
		}
		seen[k.ID], k.public = true, pub
		for _, r := range k.Roles {
			if !slices.Contains([]string{RoleExecutor, RoleVerifier, RoleApprover, RoleLog}, r) {
				return fmt.Errorf("key %q: unknown role %q", k.ID, r)
			}
		}
	}
	for _, l := range t.Logs {
		for _, id := range l.KeyIDs {
			if !seen[id] {
				return fmt.Errorf("log %q: key %q is not listed", l.Origin, id)
			}
		}
	}
	return nil
}

// NewTrust makes a trust file from keys, for tests and first use.
func NewTrust(keys ...TrustedKey) (*Trust, error) {
	t := &Trust{Version: 1, Keys: keys}
	if err := t.prepare(); err != nil {
		return nil, err
	}
	return t, nil
}

// Trusted describes a public key for a trust file.
func Trusted(pub ed25519.PublicKey, name string, roles ...string) (TrustedKey, error) {
	text, err := PublicPEM(pub)
	if err != nil {
		return TrustedKey{}, err
	}
	return TrustedKey{ID: KeyID(pub), Name: name, Roles: roles, PublicKey: string(text)}, nil
}

// JSON is the trust file's text.
func (t *Trust) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode trust file: %w", err)
	}
	return append(b, '\n'), nil
}

func (t *Trust) key(id string) *TrustedKey {
	for i := range t.Keys {
		if t.Keys[i].ID == id {
			return &t.Keys[i]
		}
	}
	return nil
}

// allows says whether the key may act in the role at that time.
func (k *TrustedKey) allows(role string, at time.Time) error {
	switch {
	case !slices.Contains(k.Roles, role):
		return fmt.Errorf("%s: %w %q", k.ID, ErrRole, role)
	case k.Revoked != nil:
		return fmt.Errorf("%s: %w on %s", k.ID, ErrRevokedKey, k.Revoked.UTC().Format(time.DateOnly))
	case k.NotBefore != nil && at.Before(*k.NotBefore):
		return fmt.Errorf("%s: %w: not valid before %s", k.ID, ErrExpiredKey, k.NotBefore.UTC().Format(time.RFC3339))
	case k.NotAfter != nil && at.After(*k.NotAfter):
		return fmt.Errorf("%s: %w: not valid after %s", k.ID, ErrExpiredKey, k.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// LogKeys are the keys whose checkpoints of a log are believed: those that its
// entry names, or, without an entry, all that have the role log.
func (t *Trust) LogKeys(origin string) (out []ed25519.PublicKey) {
	named, listed := map[string]bool{}, false
	for _, l := range t.Logs {
		if l.Origin == origin {
			listed = true
			for _, id := range l.KeyIDs {
				named[id] = true
			}
		}
	}
	for i := range t.Keys {
		k := &t.Keys[i]
		if k.Revoked == nil && (named[k.ID] || !listed && slices.Contains(k.Roles, RoleLog)) {
			out = append(out, k.public)
		}
	}
	return out
}

// TrustLogOf makes every key of the trust file with the role log count for the
// log that a checkpoint, or a log proof, is of: for trust that lists keys and
// no log at all.
func (t *Trust) TrustLogOf(raw []byte) {
	if len(t.Logs) > 0 && !t.anyLog {
		return
	}
	t.anyLog = true
	if p, err := parseProof(raw); err == nil {
		raw = p.checkpoint
	}
	origin, _, ok := bytes.Cut(raw, []byte("\n"))
	if !ok || slices.ContainsFunc(t.Logs, func(l TrustedLog) bool { return l.Origin == string(origin) }) {
		return
	}
	l := TrustedLog{Origin: string(origin)}
	for _, k := range t.Keys {
		if slices.Contains(k.Roles, RoleLog) {
			l.KeyIDs = append(l.KeyIDs, k.ID)
		}
	}
	t.Logs = append(t.Logs, l)
}

// Add lists another key.
func (t *Trust) Add(k TrustedKey) error {
	t.Keys = append(slices.Clone(t.Keys), k)
	return t.prepare()
}

// Rotate lists a key that follows another one: the old key's validity ends
// where the new one's begins, and what it signed before stays valid. The logs
// that the old key speaks for accept the new one as well.
func (t *Trust) Rotate(old string, k TrustedKey) error {
	o := t.key(old)
	if o == nil {
		return fmt.Errorf("%w: %s", ErrUnknownKey, old)
	}
	if o.NotAfter == nil || k.NotBefore != nil && k.NotBefore.Before(*o.NotAfter) {
		o.NotAfter = k.NotBefore
	}
	for i := range t.Logs {
		if l := &t.Logs[i]; slices.Contains(l.KeyIDs, old) && slices.Contains(k.Roles, RoleLog) {
			l.KeyIDs = append(l.KeyIDs, k.ID)
		}
	}
	return t.Add(k)
}
