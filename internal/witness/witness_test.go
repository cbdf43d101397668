package witness_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/expunge/expunge/internal/witness"
)

// server is a witness made with another implementation of the specifications:
// it checks the consistency of what it is shown, and remembers.
type server struct {
	signer *torchwood.CosignatureSigner
	seen   torchwood.Checkpoint
}

func newServer(t *testing.T) (*server, *httptest.Server) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := torchwood.NewCosignatureSigner("witness.example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{signer: signer}
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(srv.Close)
	return s, srv
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	head, rest, ok := strings.Cut(string(body), "\n\n")
	if err != nil || !ok || r.URL.Path != "/add-checkpoint" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	lines := strings.Split(head, "\n")
	var old int64
	if _, err := fmt.Sscanf(lines[0], "old %d", &old); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	text, _, _ := strings.Cut(rest, "\n\n")
	c, err := torchwood.ParseCheckpoint(text + "\n")
	if err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	if old != s.seen.N {
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", s.seen.N)
		return
	}
	var path tlog.TreeProof
	for _, l := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(l)
		if err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		path = append(path, tlog.Hash(h))
	}
	if old > 0 && old < c.N && tlog.CheckTree(path, c.N, c.Hash, old, s.seen.Hash) != nil || old == c.N && old > 0 && c.Hash != s.seen.Hash {
		http.Error(w, "not consistent", http.StatusUnprocessableEntity)
		return
	}
	s.seen = c
	signed, err := note.Sign(&note.Note{Text: text + "\n"}, s.signer)
	if err != nil {
		http.Error(w, "sign", http.StatusInternalServerError)
		return
	}
	_, sig, _ := bytes.Cut(signed, []byte("\n\n"))
	_, _ = w.Write(sig)
}

// history is a tree of n leaves.
type history struct{ hashes []tlog.Hash }

func (h *history) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = h.hashes[x]
	}
	return out, nil
}

func (h *history) grow(t *testing.T, from, to int64, salt string) {
	t.Helper()
	for n := from; n < to; n++ {
		hs, err := tlog.StoredHashes(n, fmt.Appendf(nil, "%s%d", salt, n), h)
		if err != nil {
			t.Fatal(err)
		}
		h.hashes = append(h.hashes, hs...)
	}
}

func (h *history) checkpoint(t *testing.T, n int64) []byte {
	t.Helper()
	root, err := tlog.TreeHash(n, h)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(torchwood.Checkpoint{Origin: "log.example.com", Tree: tlog.Tree{N: n, Hash: root}}.String() + "\n— log.example.com AAAAAA==\n")
}

func (h *history) prove(n int64) func(old int64) ([]tlog.Hash, error) {
	return func(old int64) ([]tlog.Hash, error) {
		if old == 0 || old == n {
			return nil, nil
		}
		return tlog.ProveTree(n, old, h)
	}
}

// TestWitnessSeesTheLogGrow: it cosigns each growth, and nothing that contradicts what it saw.
func TestWitnessSeesTheLogGrow(t *testing.T) {
	s, srv := newServer(t)
	w := witness.New(srv.URL+"/", s.signer.Verifier().String())
	h := &history{}
	for _, n := range []int64{1, 2, 5, 5, 300} {
		h.grow(t, s.seen.N, n, "")
		line, err := w.Cosign(context.Background(), h.checkpoint(t, n), n, h.prove(n))
		if err != nil {
			t.Fatalf("at %d: %v", n, err)
		}
		if s.seen.N != n || !bytes.HasPrefix(line, []byte("— witness.example.org ")) {
			t.Fatalf("at %d: the witness saw %d and said %q", n, s.seen.N, line)
		}
	}
	forked := &history{}
	forked.grow(t, 0, 400, "other")
	if _, err := w.Cosign(context.Background(), forked.checkpoint(t, 400), 400, forked.prove(400)); !errors.Is(err, witness.ErrRefused) {
		t.Errorf("a fork: %v", err)
	}
	if _, err := w.Cosign(context.Background(), h.checkpoint(t, 5), 5, h.prove(5)); !errors.Is(err, witness.ErrRefused) {
		t.Errorf("a log that was cut: %v", err)
	}
	srv.Close()
	if _, err := w.Cosign(context.Background(), h.checkpoint(t, 300), 300, h.prove(300)); err == nil {
		t.Error("a witness that is gone has cosigned")
	}
}
