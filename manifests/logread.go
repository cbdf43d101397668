package manifests

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type rawEntry struct {
	data []byte
	err  error
}

// readEntries yields entries [from, to) with their indexes.
func readEntries(ctx context.Context, s LogStorage, from, to int64) iter.Seq2[int64, rawEntry] {
	return func(yield func(int64, rawEntry) bool) {
		for n := from / tileWidth; n*tileWidth < to; n++ {
			first := n * tileWidth
			list, err := readBundle(ctx, s, n, int(min(tileWidth, to-first)))
			if err != nil {
				yield(first, rawEntry{err: err})
				return
			}
			for i := max(first, from); i < min(first+tileWidth, to); i++ {
				if !yield(i, rawEntry{data: list[i-first]}) {
					return
				}
			}
		}
	}
}

// readBundle reads the first w entries of a bundle, from a wider file if need be.
func readBundle(ctx context.Context, s LogStorage, n int64, w int) ([][]byte, error) {
	for width := w; width <= tileWidth; width++ {
		b, _, err := s.Read(ctx, entriesName(n, width))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read log entries: %w", err)
		}
		list, err := splitBundle(b, width)
		if err != nil {
			return nil, err
		}
		return list[:w], nil
	}
	return nil, fmt.Errorf("log entries %d to %d are missing: %w", n*tileWidth, n*tileWidth+int64(w)-1, ErrTruncated)
}

// proofHeader is C2SP tlog-proof's first line.
const proofHeader = "c2sp.org/tlog-proof@v1"

// formatProof writes a proof file (C2SP tlog-proof): index, path, checkpoint.
func formatProof(index int64, path tlog.RecordProof, checkpoint []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nindex %d\n", proofHeader, index)
	for _, h := range path {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(checkpoint)
	return b.Bytes()
}

type logProof struct {
	index      int64
	path       tlog.RecordProof
	checkpoint []byte
}

func parseProof(b []byte) (*logProof, error) {
	bad := errors.New("not a log proof in canonical form")
	head, checkpoint, ok := bytes.Cut(b, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !ok || len(lines) < 2 || len(lines) > 2+64 || lines[0] != proofHeader {
		return nil, bad
	}
	num, ok := strings.CutPrefix(lines[1], "index ")
	index, err := strconv.ParseInt(num, 10, 64)
	if !ok || err != nil || index < 0 {
		return nil, bad
	}
	p := &logProof{index: index, checkpoint: checkpoint}
	for _, l := range lines[2:] {
		h, err := base64.StdEncoding.Strict().DecodeString(l)
		if err != nil || len(h) != tlog.HashSize {
			return nil, bad
		}
		p.path = append(p.path, tlog.Hash(h))
	}
	if !bytes.Equal(formatProof(p.index, p.path, p.checkpoint), b) {
		return nil, bad
	}
	return p, nil
}

// trustedCheckpoint opens a checkpoint with the keys the trust file names for
// its log, and says for which origin it speaks.
func (t *Trust) trustedCheckpoint(raw []byte) (tlog.Tree, string, error) {
	origin, _, _ := strings.Cut(string(raw), "\n")
	for _, l := range t.Logs {
		if l.Origin != origin {
			continue
		}
		known, err := t.logKeys(l)
		if err != nil {
			return tlog.Tree{}, "", err
		}
		tree, err := parseCheckpoint(raw, origin, known)
		if err != nil {
			return tlog.Tree{}, "", err
		}
		return tree, origin, checkWitness(raw, l.Witnesses)
	}
	return tlog.Tree{}, "", errors.New("checkpoint of a log that the trust file does not list")
}

func (t *Trust) logKeys(l TrustedLog) (note.Verifiers, error) {
	var keys []ed25519.PublicKey
	for _, id := range l.KeyIDs {
		k := t.key(id)
		if k == nil || k.Revoked != nil {
			continue // its checkpoints do not count
		}
		keys = append(keys, k.public)
	}
	return noteVerifiers(l.Origin, keys)
}

// checkInclusion verifies a proof file for an envelope and returns the
// checkpoint that it leads to.
func (t *Trust) checkInclusion(proof []byte, e entry) (*Checkpoint, int64, error) {
	p, err := parseProof(proof)
	if err != nil {
		return nil, 0, err
	}
	tree, origin, err := t.trustedCheckpoint(p.checkpoint)
	if err != nil {
		return nil, 0, err
	}
	if err := checkPath(p.path, tree.N, tree.Hash, p.index, tlog.RecordHash(e.bytes())); err != nil {
		return nil, 0, err
	}
	return &Checkpoint{origin, tree.N, hex.EncodeToString(tree.Hash[:])}, p.index, nil
}
