package manifests

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// cosign adds a cosignature/v1 line to a checkpoint, as C2SP tlog-cosignature
// describes it.
func cosign(checkpoint []byte, name string, key ed25519.PrivateKey, when uint64) []byte {
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	msg := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", when, text)
	sig := binary.BigEndian.AppendUint64(nil, when)
	sig = append(sig, ed25519.Sign(key, msg)...)
	return fmt.Appendf(bytes.Clone(checkpoint), "— %s %s\n", name, base64.StdEncoding.EncodeToString(append(witnessHash(name, key), sig...)))
}

func witnessHash(name string, key ed25519.PrivateKey) []byte {
	pub := key.Public().(ed25519.PublicKey)
	sum := sha256.Sum256([]byte(name + "\n\x04" + string(pub)))
	return sum[:4]
}

func witnessKey(name string, key ed25519.PrivateKey) string {
	pub := key.Public().(ed25519.PublicKey)
	return fmt.Sprintf("%s+%x+%s", name, witnessHash(name, key), base64.StdEncoding.EncodeToString(append([]byte{4}, pub...)))
}

// TestWitnessIsDemandedWhereTrustSaysSo.
func TestWitnessIsDemandedWhereTrustSaysSo(t *testing.T) {
	b, tr, _ := signed(t)
	w := testKey(t, 40).private
	tr.Logs[0].Witnesses = []string{witnessKey("witness.example.org", w)}
	inclusion := func(proof []byte) error {
		c := b
		c.Proof = proof
		_, checks := Verify(context.Background(), c, tr)
		for _, c := range checks {
			if c.Name == CheckLog {
				return c.Err
			}
		}
		return errors.New("no check")
	}
	if err := inclusion(b.Proof); !errors.Is(err, ErrNoWitness) {
		t.Errorf("without a witness: %v", err)
	}
	p, err := parseProof(b.Proof)
	if err != nil {
		t.Fatal(err)
	}
	with := cosign(p.checkpoint, "witness.example.org", w, 1793000000)
	if err := inclusion(formatProof(p.index, p.path, with)); err != nil {
		t.Errorf("with a witness: %v", err)
	}
	stranger := cosign(p.checkpoint, "witness.example.org", testKey(t, 41).private, 1793000000)
	if err := inclusion(formatProof(p.index, p.path, stranger)); err == nil {
		t.Error("a stranger's cosignature counted")
	}
	forged := cosign(p.checkpoint, "witness.example.org", w, 1793000000)
	forged[len(forged)-10] ^= 1
	if err := inclusion(formatProof(p.index, p.path, forged)); err == nil {
		t.Error("a forged cosignature counted")
	}
}
