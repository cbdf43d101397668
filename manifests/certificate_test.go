package manifests

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
)

// certified issues a certificate for one of the sample's keys.
func certified(t testing.TB) (cert []byte, keysets map[string][]byte, tr *Trust, envelopes map[string][]byte) {
	t.Helper()
	ctx := context.Background()
	b, tr, _ := signed(t)
	m, err := Read(b.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	keys := slices.Collect(testKeys(250))
	for i := range keys {
		keys[i] = bytes.Clone(keys[i])
	}
	var leaves bytes.Buffer
	c, err := Commit(secret, "users", "int64", slices.Values(keys), &leaves)
	if err != nil || c.Root != m.Keysets[0].Commitment.Root {
		t.Fatal("not the sample's keys", err)
	}
	key := keys[77]
	r := bytes.NewReader(leaves.Bytes())
	kp, number, err := Prove(secret, "users", "int64", key, r, r.Size())
	if err != nil {
		t.Fatal(err)
	}
	if number != 77 {
		t.Fatalf("key 77 has the number %d", number)
	}
	file, err := ProveRecord(b.Sidecar, b.Size, 1)
	if err != nil {
		t.Fatal(err)
	}
	run, err := Certify(b.Envelope, b.Proof, "users", *kp, []RecordProof{*file})
	if err != nil {
		t.Fatal(err)
	}
	cert, err = SignCertificate(ctx, &Certificate{ID: "cert-1", Issued: at("2026-11-20T10:00:00Z"), Controller: "Example GmbH", Runs: []CertifiedRun{*run}}, testKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	return cert, map[string][]byte{"users": key}, tr, map[string][]byte{m.ID: b.Envelope}
}

func TestCertificateHoldsForItsKeyAlone(t *testing.T) {
	ctx := context.Background()
	cert, key, tr, envs := certified(t)
	c, checks := VerifyCertificate(ctx, cert, key, tr, envs)
	if ok, skipped := Verified(checks); !ok || len(skipped) > 0 || c.Runs[0].Outcome.Result != ErasedPending {
		t.Errorf("failed %q, skipped %q", failedChecks(checks), skipped)
	}
	for other := range testKeys(250) {
		if bytes.Equal(other, key["users"]) {
			continue
		}
		if _, checks := VerifyCertificate(ctx, cert, map[string][]byte{"users": other}, tr, envs); len(failedChecks(checks)) != 1 || !strings.HasPrefix(failedChecks(checks)[0], CheckKey) {
			t.Fatalf("another person's key: %q", failedChecks(checks))
		}
	}
	if _, checks := VerifyCertificate(ctx, cert, nil, tr, envs); len(failedChecks(checks)) != 1 {
		t.Errorf("without a key: %q", failedChecks(checks))
	}
	// Offline, with the log proof alone.
	_, checks = VerifyCertificate(ctx, cert, key, tr, nil)
	if ok, skipped := Verified(checks); !ok || !slices.Equal(skipped, []string{CheckManifest}) {
		t.Errorf("failed %q, skipped %q", failedChecks(checks), skipped)
	}
}

func TestEveryCertificateByteFlipIsCaught(t *testing.T) {
	cert, key, tr, _ := certified(t)
	for i := range cert {
		b := bytes.Clone(cert)
		b[i] ^= 1 << (i % 8)
		if _, checks := VerifyCertificate(context.Background(), b, key, tr, nil); func() bool { ok, _ := Verified(checks); return ok }() {
			t.Fatalf("a flip at byte %d went unnoticed", i)
		}
	}
}

// TestCertificateCannotSayMoreThanTheManifest, even when its signer wants it to.
func TestCertificateCannotSayMoreThanTheManifest(t *testing.T) {
	ctx := context.Background()
	cert, key, tr, envs := certified(t)
	_, payload, err := parseEnvelope(cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(r *CertifiedRun){
		"outcome":  func(r *CertifiedRun) { r.Outcome.Result = Erased },
		"excluded": func(r *CertifiedRun) { r.Excluded = nil },
		"residue":  func(r *CertifiedRun) { r.Residue = nil },
		"manifest": func(r *CertifiedRun) { r.ManifestSHA256 = strings.Repeat("0", 64) },
		"file":     func(r *CertifiedRun) { r.Files[0].Record.RowsErased++ },
		"root":     func(r *CertifiedRun) { r.Commitment.Root = strings.Repeat("0", 64) },
	} {
		c, err := parseCertificate(payload)
		if err != nil {
			t.Fatal(err)
		}
		change(&c.Runs[0])
		forged, err := SignCertificate(ctx, c, testKey(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, checks := VerifyCertificate(ctx, forged, key, tr, envs); len(failedChecks(checks)) == 0 {
			t.Errorf("another %s went unnoticed", name)
		}
	}
	stranger, err := SignCertificate(ctx, &Certificate{ID: "x", Issued: at("2026-11-20T10:00:00Z"), Runs: []CertifiedRun{{}}}, testKey(t, 9))
	if err != nil {
		t.Fatal(err)
	}
	if _, checks := VerifyCertificate(ctx, stranger, key, tr, nil); len(failedChecks(checks)) == 0 {
		t.Error("a stranger's certificate was believed")
	}
}

// TestCertificateRevealsNobodyElse: neither its own key nor another, nor the secret.
func TestCertificateRevealsNobodyElse(t *testing.T) {
	cert, key, tr, envs := certified(t)
	c, checks := VerifyCertificate(context.Background(), cert, key, tr, envs)
	var page bytes.Buffer
	if err := CertificateHTML(&page, c, cert, checks); err != nil {
		t.Fatal(err)
	}
	_, payload, err := parseEnvelope(cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string][]byte{"certificate": payload, "page": page.Bytes()} {
		for k := range testKeys(250) {
			if bytes.Contains(out, k) {
				t.Errorf("%s holds a key", name)
			}
		}
		if bytes.Contains(out, secret) || strings.Contains(string(out), "<script") {
			t.Errorf("%s holds what it must not", name)
		}
	}
	for _, want := range []string{"ERASED_PENDING", "RDS backups", "within grace", "cert-1"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
