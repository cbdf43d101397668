package manifests

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ErrNoWitness: the trust file demands a witness and none has signed.
var ErrNoWitness = errors.New("no trusted witness signed the checkpoint")

// witness verifies C2SP tlog-cosignature's cosignature/v1: a third party that
// saw the log grow, and when.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

const algCosignature = 4

func parseWitness(vkey string) (*witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	bad := errors.New("not a cosignature/v1 verifier key")
	if len(parts) != 3 || parts[0] == "" {
		return nil, bad
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != algCosignature {
		return nil, bad
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(raw)))
	w := &witness{parts[0], binary.BigEndian.Uint32(sum[:]), raw[1:]}
	if fmt.Sprintf("%08x", w.hash) != parts[1] {
		return nil, bad
	}
	return w, nil
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }

func (w *witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(w.key, signed, sig[8:])
}

func checkWitness(checkpoint []byte, vkeys []string) error {
	if len(vkeys) == 0 {
		return nil
	}
	var list []note.Verifier
	for _, k := range vkeys {
		w, err := parseWitness(k)
		if err != nil {
			return err
		}
		list = append(list, w)
	}
	if _, err := note.Open(checkpoint, note.VerifierList(list...)); err != nil {
		return ErrNoWitness
	}
	return nil
}
