package manifests

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signed is a complete bundle: signed by both, logged, with its sidecar.
func signed(t testing.TB) (Bundle, *Trust, *memLog) {
	t.Helper()
	ctx := context.Background()
	ex, ve := testKey(t, 1), testKey(t, 2)
	m, side := sample(t, "run-2026-11-02")
	env, err := Sign(ctx, m, ex, ve)
	if err != nil {
		t.Fatal(err)
	}
	s := newMemLog()
	proof, err := testLog(t, s, ex).Append(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	return Bundle{Envelope: env, Proof: proof, Sidecar: bytes.NewReader(side), Size: int64(len(side))}, testTrust(t, ex, ve), s
}

func TestCompleteBundleVerifies(t *testing.T) {
	b, tr, _ := signed(t)
	tr.RequireVerifier = true
	m, checks := Verify(context.Background(), b, tr)
	ok, skipped := Verified(checks)
	if !ok || len(skipped) > 0 {
		t.Fatalf("failed %q, skipped %q", failedChecks(checks), skipped)
	}
	if m.Outcome.Result != ErasedPending || !m.Outcome.Pending.Equal(at("2026-11-09T04:20:00Z")) {
		t.Errorf("outcome %+v", m.Outcome)
	}
	if len(checks) != 7 {
		t.Errorf("%d checks, want 7", len(checks))
	}
}

// TestMissingPartsAreSkippedNotPassed: what was not given is never reported as checked.
func TestMissingPartsAreSkippedNotPassed(t *testing.T) {
	b, tr, _ := signed(t)
	_, checks := Verify(context.Background(), Bundle{Envelope: b.Envelope}, tr)
	ok, skipped := Verified(checks)
	if want := []string{CheckLog, CheckChain, CheckSidecar}; !ok || strings.Join(skipped, ",") != strings.Join(want, ",") {
		t.Errorf("ok %v, skipped %q, want %q", ok, skipped, want)
	}
	for _, c := range checks {
		if c.Skipped && c.OK {
			t.Errorf("%s is skipped and OK", c.Name)
		}
	}
}

// TestEveryByteFlipIsCaught flips one bit in each byte of envelope and proof.
func TestEveryByteFlipIsCaught(t *testing.T) {
	b, tr, _ := signed(t)
	for name, get := range map[string]func(*Bundle) *[]byte{
		"envelope": func(b *Bundle) *[]byte { return &b.Envelope },
		"proof":    func(b *Bundle) *[]byte { return &b.Proof },
	} {
		raw := *get(&b)
		for i := range raw {
			c := Bundle{Envelope: b.Envelope, Proof: b.Proof}
			flipped := bytes.Clone(raw)
			flipped[i] ^= 1 << (i % 8)
			*get(&c) = flipped
			_, checks := Verify(context.Background(), c, tr)
			if ok, _ := Verified(checks); ok {
				t.Fatalf("%s: a flip at byte %d of %d went unnoticed", name, i, len(raw))
			}
		}
	}
}

func TestEverySidecarByteFlipIsCaught(t *testing.T) {
	m, side := sample(t, "run-1")
	for i := range side {
		flipped := bytes.Clone(side)
		flipped[i] ^= 0x10
		if VerifySidecar(bytes.NewReader(flipped), int64(len(flipped)), m.Evidence) == nil {
			t.Fatalf("flip at byte %d of %d went unnoticed", i, len(side))
		}
	}
	if err := VerifySidecar(bytes.NewReader(side), int64(len(side)), m.Evidence); err != nil {
		t.Fatal(err)
	}
}

// TestTamperingIsNamed: each kind of forgery fails the check that is about it.
func TestTamperingIsNamed(t *testing.T) {
	ctx := context.Background()
	ex, ve, other := testKey(t, 1), testKey(t, 2), testKey(t, 3)
	sign := func(t *testing.T, change func(*Manifest), keys ...Signer) []byte {
		m, _ := sample(t, "run-1")
		change(m)
		env, err := Sign(ctx, m, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	// resign keeps a payload as it is, so that the outcome is not derived anew.
	resign := func(t *testing.T, change func(*Manifest)) []byte {
		m, _ := sample(t, "run-1")
		m.Outcome = Decide(m)
		m.name(ex.ID(), true)
		change(m)
		p, err := Payload(m)
		if err != nil {
			t.Fatal(err)
		}
		env, err := SignPayload(ctx, p, ex)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	for _, tc := range []struct {
		name  string
		env   []byte
		trust func(*Trust)
		check string
		err   error
	}{
		{"unknown key", sign(t, func(*Manifest) {}, other), nil, CheckSignature, ErrUnknownKey},
		{"verifier's key as executor", sign(t, func(*Manifest) {}, ve), nil, CheckSignature, ErrRole},
		{"no verifier", sign(t, func(*Manifest) {}, ex), func(tr *Trust) { tr.RequireVerifier = true }, CheckSignature, ErrRole},
		{"expired key", sign(t, func(*Manifest) {}, ex), func(tr *Trust) { tr.Keys[0].NotAfter = ptr(at("2026-11-01T00:00:00Z")) }, CheckSignature, ErrExpiredKey},
		{"key not yet valid", sign(t, func(*Manifest) {}, ex), func(tr *Trust) { tr.Keys[0].NotBefore = ptr(at("2026-12-01T00:00:00Z")) }, CheckSignature, ErrExpiredKey},
		{"revoked key", sign(t, func(*Manifest) {}, ex), func(tr *Trust) { tr.Keys[0].Revoked = ptr(at("2026-12-01T00:00:00Z")) }, CheckSignature, ErrRevokedKey},
		{"named verifier has not signed", sign(t, func(m *Manifest) { m.Actors = []Actor{{Role: RoleVerifier, KeyID: ve.ID()}} }, ex), nil, CheckSignature, ErrSignature},
		{"better outcome", resign(t, func(m *Manifest) { m.Outcome.Result, m.Outcome.Pending = Erased, nil }), nil, CheckOutcome, nil},
		{"hidden exclusion", resign(t, func(m *Manifest) { m.Residue = nil }), nil, CheckOutcome, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := testTrust(t, ex, ve)
			if tc.trust != nil {
				tc.trust(tr)
			}
			_, checks := Verify(ctx, Bundle{Envelope: tc.env}, tr)
			found := false
			for _, c := range checks {
				if c.Name == tc.check {
					found = !c.OK && (tc.err == nil || errors.Is(c.Err, tc.err))
				}
			}
			if !found {
				t.Errorf("%s does not fail with %v: %+v", tc.check, tc.err, checks)
			}
		})
	}
}

func TestForgedSignatureIsCaughtBesideAGoodOne(t *testing.T) {
	ctx := context.Background()
	ex, ve := testKey(t, 1), testKey(t, 2)
	m, _ := sample(t, "run-1")
	env, err := Sign(ctx, m, ex, ve)
	if err != nil {
		t.Fatal(err)
	}
	e, payload, err := parseEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	otherEnv, err := SignPayload(ctx, append(payload, ' '), ve)
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := parseEnvelope(otherEnv)
	if err != nil {
		t.Fatal(err)
	}
	e.Signatures[1] = o.Signatures[0]
	forged, err := encodeEnvelope(e)
	if err != nil {
		t.Fatal(err)
	}
	_, checks := Verify(ctx, Bundle{Envelope: forged}, testTrust(t, ex, ve))
	if got := failedChecks(checks); len(got) != 1 || !strings.HasPrefix(got[0], CheckSignature) {
		t.Errorf("failed checks %q", got)
	}
}

func TestSigningIsDeterministicAndTimeZoneFree(t *testing.T) {
	ctx := context.Background()
	m1, _ := sample(t, "run-1")
	m2, _ := sample(t, "run-1")
	m2.Times.Start = m2.Times.Start.In(time.FixedZone("x", 3600))
	m2.Residue[0].GoneBy = ptr(m2.Residue[0].GoneBy.In(time.FixedZone("y", -7200)))
	m2.Scope.Included[0].Match = append([]string{}, m2.Scope.Included[0].Match...)
	a, err1 := Sign(ctx, m1, testKey(t, 1))
	b, err2 := Sign(ctx, m2, testKey(t, 1))
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Error("same facts, other bytes", err1, err2)
	}
}

// goldenDir holds the golden of the version that is written now.
var goldenDir = filepath.Join("testdata", "golden", "v"+SchemaVersion)

// readGolden reads a golden bundle and its trust file.
func readGolden(t testing.TB, dir string) (Bundle, *Trust) {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	tr, err := ParseTrust(read("trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	side := read("run.evidence.parquet")
	return Bundle{Envelope: read("run.intoto.jsonl"), Proof: read("run.tlog-proof"), Sidecar: bytes.NewReader(side), Size: int64(len(side))}, tr
}

func TestUpdateGolden(t *testing.T) {
	if !*update {
		t.Skip("writes the golden of a new version; needs -update")
	}
	b, tr, _ := signed(t)
	side := make([]byte, b.Size)
	if _, err := b.Sidecar.ReadAt(side, 0); err != nil {
		t.Fatal(err)
	}
	trust, err := tr.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(goldenDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"run.intoto.jsonl": b.Envelope, "run.tlog-proof": b.Proof, "run.evidence.parquet": side, "trust.json": trust} {
		if err := os.WriteFile(filepath.Join(goldenDir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGoldenManifestsStillVerify: a manifest of an earlier version is verified
// by today's code. Never rewrite a golden of a published version.
func TestGoldenManifestsStillVerify(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join("testdata", "golden", "v*"))
	if err != nil || len(dirs) < 2 {
		t.Fatalf("goldens %v, %v; want one a version", dirs, err)
	}
	for _, dir := range dirs {
		b, tr := readGolden(t, dir)
		m, checks := Verify(context.Background(), b, tr)
		if ok, skipped := Verified(checks); !ok || len(skipped) > 0 {
			t.Errorf("%s: failed %q, skipped %q", dir, failedChecks(checks), skipped)
		} else if "v"+m.SchemaVersion != filepath.Base(dir) {
			t.Errorf("%s holds version %s", dir, m.SchemaVersion)
		}
	}
}

// TestTheSameFactsGiveTheSameBytes; the sidecar's depend on the Parquet library as well.
func TestTheSameFactsGiveTheSameBytes(t *testing.T) {
	g, _ := readGolden(t, goldenDir)
	golden, err := Read(g.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := sample(t, golden.ID)
	m.Evidence.SHA256, m.Evidence.Bytes = golden.Evidence.SHA256, golden.Evidence.Bytes
	again, err := Sign(context.Background(), m, testKey(t, 1), testKey(t, 2))
	if err != nil || !bytes.Equal(g.Envelope, again) {
		t.Error("the envelope of the same facts has changed: raise the version and add a golden", err)
	}
}
