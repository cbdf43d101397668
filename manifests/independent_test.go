package manifests

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tileServer gives the log's objects to another implementation, by its own paths.
type tileServer struct{ m *memLog }

func (s tileServer) ReadTiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, t := range tiles {
		b, err := s.ReadEndpoint(ctx, torchwood.TilePath(t))
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return out, nil
}

func (tileServer) SaveTiles([]tlog.Tile, [][]byte) {}

func (s tileServer) ReadEndpoint(ctx context.Context, path string) ([]byte, error) {
	b, _, err := s.m.Read(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// inProcess cosigns with torchwood's own code.
type inProcess struct {
	signer *torchwood.CosignatureSigner
	fail   bool
}

func (w *inProcess) Key() string { return w.signer.Verifier().String() }

func (w *inProcess) Cosign(_ context.Context, checkpoint []byte, _ int64, _ func(int64) ([]tlog.Hash, error)) ([]byte, error) {
	if w.fail {
		return nil, errors.New("gone")
	}
	text, _, _ := cutNote(checkpoint)
	signed, err := note.Sign(&note.Note{Text: text}, w.signer)
	if err != nil {
		return nil, err
	}
	_, sigs, _ := cutNote(signed)
	return []byte(sigs), nil
}

func cutNote(b []byte) (text, sigs string, ok bool) {
	for i := range len(b) - 1 {
		if b[i] == '\n' && b[i+1] == '\n' {
			return string(b[:i+1]), string(b[i+2:]), true
		}
	}
	return "", "", false
}

// TestAnotherImplementationReadsTheLog: torchwood (C2SP) reads checkpoint,
// tiles, entries, proofs and cosignatures, and finds what was logged.
func TestAnotherImplementationReadsTheLog(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	s := newMemLog()
	l := testLog(t, s, k)
	signer, err := torchwood.NewCosignatureSigner("witness.example.org", testKey(t, 50).private)
	if err != nil {
		t.Fatal(err)
	}
	w, told := &inProcess{signer: signer}, 0
	l.Witnessed(func(Witness, error) { told++ }, w)
	const n = 300
	var proofs, envelopes [][]byte
	for i := range n {
		w.fail = i == 7
		env := small(t, fmt.Sprintf("m%d", i), k, nil)
		proof, err := l.Append(ctx, env)
		if err != nil {
			t.Fatal(err)
		}
		envelopes, proofs = append(envelopes, env), append(proofs, proof)
	}
	if told != 1 {
		t.Errorf("%d times told of a witness that did not answer, want once", told)
	}
	vkey, err := LogVerifierKey(testOrigin, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	policy, err := torchwood.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w %s\nquorum w\n", vkey, w.Key()))
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := s.Read(ctx, checkpointName)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := torchwood.VerifyCheckpoint(raw, policy)
	if err != nil || c.N != n || c.Origin != testOrigin {
		t.Fatalf("checkpoint: %+v, %v", c, err)
	}
	client, err := torchwood.NewClient(tileServer{s})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for i, data := range client.AllEntries(ctx, c.Tree, 0) {
		e, err := parseEntry(data)
		if err != nil || e.Digest != Digest(envelopes[i]) {
			t.Fatalf("entry %d: %+v, %v", i, e, err)
		}
		seen++
	}
	if err := client.Err(); err != nil || seen != n {
		t.Fatalf("%d entries, %v", seen, err)
	}
	for i, proof := range proofs {
		h := tlog.RecordHash(entry{fmt.Sprintf("m%d", i), Digest(envelopes[i])}.bytes())
		err := torchwood.VerifyProof(policy, h, proof)
		if (err == nil) != (i != 7) { // the one that nobody cosigned
			t.Fatalf("proof %d: %v", i, err)
		}
	}
	tr := testTrust(t, k, testKey(t, 2))
	tr.Logs[0].Witnesses = []string{w.Key()}
	if _, err := verifyLog(s, tr, nil); err != nil {
		t.Errorf("our own reader: %v", err)
	}
}
