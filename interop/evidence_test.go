//go:build interop

package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/expunge/expunge/manifests"
)

// TestOtherCodeReadsTheAttestation: securesystemslib verifies the DSSE envelope
// of the golden manifest, in-toto-attestation reads its statement, and neither
// takes one in which a byte of the payload was changed.
func TestOtherCodeReadsTheAttestation(t *testing.T) {
	golden := filepath.Join(root, "manifests", "testdata", "golden", "v"+manifests.SchemaVersion)
	raw, err := os.ReadFile(filepath.Join(golden, "trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	var trust struct {
		Keys []struct {
			Name      string `json:"name"`
			PublicKey string `json:"public_key"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(raw, &trust); err != nil || len(trust.Keys) < 2 {
		t.Fatalf("%d keys, %v", len(trust.Keys), err)
	}
	dir := t.TempDir()
	var keys []string
	for i, k := range trust.Keys {
		keys = append(keys, filepath.Join(dir, fmt.Sprintf("%d.pub", i)))
		if err := os.WriteFile(keys[i], []byte(k.PublicKey), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	envelope := filepath.Join(golden, "run.intoto.jsonl")
	read := func(name string, keys ...string) ([]byte, error) {
		c := exec.Command(filepath.Join(cache, "interop", "venv", "bin", "python"), append([]string{filepath.Join(root, "interop", "py", "evidence.py"), name}, keys...)...)
		out, err := c.Output()
		if e := (*exec.ExitError)(nil); err != nil && errors.As(err, &e) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(e.Stderr))
		}
		return out, err
	}
	out, err := read(envelope, keys...)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		PredicateType string                       `json:"predicate_type"`
		Subjects      map[string]map[string]string `json:"subjects"`
		Outcome       string                       `json:"outcome"`
	}
	if err := json.Unmarshal(out, &got); err != nil || got.PredicateType == "" || len(got.Subjects) == 0 || got.Outcome == "" {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := read(envelope, keys[1], keys[0]); err == nil {
		t.Error("an envelope holds under somebody else's key")
	}
	var e map[string]any
	if raw, err = os.ReadFile(envelope); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	payload[bytes.Index(payload, []byte(`"job":"`))+8] ^= 1
	e["payload"] = base64.StdEncoding.EncodeToString(payload)
	changed, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	forged := filepath.Join(dir, "forged.intoto.jsonl")
	if err := os.WriteFile(forged, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := read(forged, keys...); err == nil {
		t.Errorf("a changed payload verifies: %s", out)
	}
}

// TestTheProgramNamesItself: what only a real build knows is in its manifests.
func TestTheProgramNamesItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	s, out, code := expunge(t, "demo", "--dir", dir, "--rows", "20000")
	if code != 0 {
		t.Fatal(tail(out, 4000))
	}
	raw, err := os.ReadFile(filepath.Join(dir, "state", "manifests", s.RunID+"-run.intoto.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifests.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	if m.Tool.Version == "" || m.Tool.BinarySHA256 == "" || m.Tool.ConfigSHA256 == "" || m.Tool.Verifier == "" || m.Tool.VerifierVersion == "" {
		t.Errorf("%+v", m.Tool)
	}
}
