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
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ErrNoWitness: the trust file demands a witness and none has signed.
var ErrNoWitness = errors.New("no trusted witness signed the checkpoint")

// Witness cosigns checkpoints: a third party that has seen the log grow. See
// C2SP tlog-witness.
type Witness interface {
	// Key is its cosignature/v1 verifier key.
	Key() string
	// Cosign returns the witness's signature line for a checkpoint of that size.
	// prove gives the consistency proof from an older size, which the witness
	// has cosigned last.
	Cosign(ctx context.Context, checkpoint []byte, size int64, prove func(old int64) ([]tlog.Hash, error)) ([]byte, error)
}

// Witnessed makes every Append ask the witnesses. refused is told of one that
// did not cosign, and may be nil.
func (l *Log) Witnessed(refused func(Witness, error), ws ...Witness) {
	l.witnesses, l.noWitness = ws, refused
}

// cosign gets a head cosigned and puts it in the stored one's place, unless
// that has moved on meanwhile.
func (l *Log) cosign(ctx context.Context, h head) head {
	prove := func(old int64) ([]tlog.Hash, error) {
		if old < 0 || old > h.tree.N {
			return nil, fmt.Errorf("%d entries, a witness says %d: %w", h.tree.N, old, ErrTruncated)
		}
		if old == 0 || old == h.tree.N {
			return nil, nil
		}
		path, err := tlog.ProveTree(h.tree.N, old, tlog.TileHashReader(h.tree, tiles{ctx, l.store}))
		if err != nil {
			return nil, fmt.Errorf("prove consistency: %w", err)
		}
		return path, nil
	}
	signed := h
	for _, w := range l.witnesses {
		if checkWitness(signed.raw, []string{w.Key()}) == nil {
			continue // an earlier writer has asked it
		}
		line, err := w.Cosign(ctx, h.raw, h.tree.N, prove)
		if err == nil {
			with := append(bytes.Clone(signed.raw), line...)
			if err = checkWitness(with, []string{w.Key()}); err == nil {
				signed.raw = with
				continue
			}
		}
		if l.noWitness != nil {
			l.noWitness(w, err)
		}
	}
	if !bytes.Equal(signed.raw, h.raw) {
		// That it moved on is no harm: the proof carries the cosigned checkpoint.
		_ = l.store.Write(ctx, checkpointName, signed.raw, h.version)
	}
	return signed
}

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
