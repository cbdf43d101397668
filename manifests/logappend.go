package manifests

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxRounds bounds how often an append starts over because others were faster.
const maxRounds = 1000

// Append logs an envelope and returns its proof: the bytes of <id>.tlog-proof.
// It is idempotent: an envelope that is in the log already, or was claimed by
// an earlier try that died, keeps its index.
//
// Witnesses are asked to cosign the checkpoint that the proof ends with. One
// that does not answer is passed over: noWitness is told.
func (l *Log) Append(ctx context.Context, envelope []byte) (proof []byte, err error) {
	m, err := Read(envelope)
	if err != nil {
		return nil, err
	}
	e := entry{m.ID, Digest(envelope)}
	h, err := l.head(ctx)
	if err != nil {
		return nil, err
	}
	from := int64(0)
	if p := m.Continuity.PreviousCheckpoint; p != nil {
		// An entry cannot be older than the checkpoint that it names.
		if err := l.extends(ctx, h, *p); err != nil {
			return nil, err
		}
		from = p.Size
	}
	index, err := l.find(ctx, h, from, e)
	if err != nil {
		return nil, err
	}
	if index < 0 {
		if index, err = l.claim(ctx, h.tree.N, e); err != nil {
			return nil, err
		}
	}
	for round := 0; h.tree.N <= index; round++ {
		if round == maxRounds {
			return nil, fmt.Errorf("append to log: %w", ErrLogConflict)
		}
		if err := l.integrate(ctx, h); err != nil && !errors.Is(err, ErrLogConflict) {
			return nil, err
		}
		if h, err = l.head(ctx); err != nil {
			return nil, err
		}
	}
	if len(l.witnesses) > 0 {
		h = l.cosign(ctx, h)
	}
	return l.prove(ctx, h, index)
}

// find looks for an entry from an index on; -1 when it is not there.
func (l *Log) find(ctx context.Context, h head, from int64, e entry) (int64, error) {
	for i, raw := range readEntries(ctx, l.store, from, h.tree.N) {
		if raw.err != nil {
			return 0, raw.err
		}
		got, err := parseEntry(raw.data)
		if err != nil {
			return 0, err
		}
		if got == e {
			return i, nil
		}
		if got.ID == e.ID {
			return 0, fmt.Errorf("%s: %w with other content", e.ID, ErrReplayed)
		}
	}
	return -1, nil
}

// claim takes the first free index at or after the log's size.
func (l *Log) claim(ctx context.Context, size int64, e entry) (int64, error) {
	for i := size; ; i++ {
		err := l.store.Write(ctx, claimName(i), e.bytes(), "")
		if err == nil {
			return i, nil
		}
		if !errors.Is(err, ErrLogConflict) {
			return 0, fmt.Errorf("claim log index: %w", err)
		}
		raw, _, err := l.store.Read(ctx, claimName(i))
		if err != nil {
			return 0, fmt.Errorf("read log claim: %w", err)
		}
		got, err := parseEntry(raw)
		if err != nil {
			return 0, err
		}
		if got == e {
			return i, nil
		}
		if got.ID == e.ID {
			return 0, fmt.Errorf("%s: %w with other content", e.ID, ErrReplayed)
		}
	}
}

// claimed reads the entries that are claimed beyond the head, at most one tile's worth.
func (l *Log) claimed(ctx context.Context, from int64) ([][]byte, error) {
	var out [][]byte
	for i := from; len(out) < tileWidth; i++ {
		raw, _, err := l.store.Read(ctx, claimName(i))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read log claim: %w", err)
		}
		if _, err := parseEntry(raw); err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

// integrate adds what is claimed beyond the head: entry bundles, tiles, and
// last the checkpoint.
func (l *Log) integrate(ctx context.Context, h head) error {
	entries, err := l.claimed(ctx, h.tree.N)
	if err != nil || len(entries) == 0 {
		return err
	}
	g := grown{old: h.tree, hashes: map[int64]tlog.Hash{}, tiles: tiles{ctx, l.store}}
	for i, e := range entries {
		n := h.tree.N + int64(i)
		hashes, err := tlog.StoredHashesForRecordHash(n, tlog.RecordHash(e), g)
		if err != nil {
			return fmt.Errorf("grow log: %w", err)
		}
		for j, sh := range hashes {
			g.hashes[tlog.StoredHashIndex(0, n)+int64(j)] = sh
		}
	}
	size := h.tree.N + int64(len(entries))
	if err := l.writeEntries(ctx, h.tree.N, entries); err != nil {
		return err
	}
	for _, t := range tlog.NewTiles(tileHeight, h.tree.N, size) {
		data, err := tlog.ReadTileData(t, g)
		if err != nil {
			return fmt.Errorf("grow log: %w", err)
		}
		if err := l.writeFixed(ctx, tileName(t), data); err != nil {
			return err
		}
	}
	root, err := tlog.TreeHash(size, g)
	if err != nil {
		return fmt.Errorf("grow log: %w", err)
	}
	raw, err := note.Sign(&note.Note{Text: checkpointText(l.origin, tlog.Tree{N: size, Hash: root})}, l.signer)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	if err := l.store.Write(ctx, checkpointName, raw, h.version); err != nil {
		return fmt.Errorf("swap checkpoint: %w", err)
	}
	return nil
}

// writeEntries writes the bundles that the new entries reach.
func (l *Log) writeEntries(ctx context.Context, from int64, entries [][]byte) error {
	size := from + int64(len(entries))
	for n := from / tileWidth; n*tileWidth < size; n++ {
		first, last := n*tileWidth, min((n+1)*tileWidth, size)
		var bundle []byte
		for _, raw := range readEntries(ctx, l.store, first, min(from, last)) {
			if raw.err != nil {
				return raw.err
			}
			bundle = appendBundle(bundle, raw.data)
		}
		for i := max(first, from); i < last; i++ {
			bundle = appendBundle(bundle, entries[i-from])
		}
		if err := l.writeFixed(ctx, entriesName(n, int(last-first)), bundle); err != nil {
			return err
		}
	}
	return nil
}

// writeFixed writes an object whose content is determined; finding it there
// with the same content is success.
func (l *Log) writeFixed(ctx context.Context, name string, data []byte) error {
	err := l.store.Write(ctx, name, data, "")
	if !errors.Is(err, ErrLogConflict) {
		if err != nil {
			return fmt.Errorf("write log: %w", err)
		}
		return nil
	}
	old, _, err := l.store.Read(ctx, name)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if !bytes.Equal(old, data) {
		return fmt.Errorf("%s: %w", name, ErrForked)
	}
	return nil
}

// extends checks that the log still begins with what a checkpoint covers.
func (l *Log) extends(ctx context.Context, h head, p Checkpoint) error {
	return extends(ctx, l.store, l.origin, h.tree, p)
}

func extends(ctx context.Context, s LogStorage, origin string, t tlog.Tree, p Checkpoint) error {
	root, err := parseHash(p.Root)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	switch {
	case p.Origin != origin:
		return fmt.Errorf("checkpoint of the log %q, not of %q: %w", p.Origin, origin, ErrForked)
	case p.Size > t.N:
		return fmt.Errorf("%d entries, a checkpoint says %d: %w", t.N, p.Size, ErrTruncated)
	case p.Size == 0:
		return nil
	case p.Size == t.N:
		if root != t.Hash {
			return fmt.Errorf("at %d entries: %w", p.Size, ErrForked)
		}
		return nil
	}
	r := tlog.TileHashReader(t, tiles{ctx, s})
	path, err := tlog.ProveTree(t.N, p.Size, r)
	if err != nil {
		return fmt.Errorf("prove consistency: %w", err)
	}
	if err := tlog.CheckTree(path, t.N, t.Hash, p.Size, root); err != nil {
		return fmt.Errorf("at %d entries: %w", p.Size, ErrForked)
	}
	return nil
}

// prove makes the proof file for an index under a head.
func (l *Log) prove(ctx context.Context, h head, index int64) ([]byte, error) {
	path, err := tlog.ProveRecord(h.tree.N, index, tlog.TileHashReader(h.tree, tiles{ctx, l.store}))
	if err != nil {
		return nil, fmt.Errorf("prove inclusion: %w", err)
	}
	return formatProof(index, path, h.raw), nil
}

// Prove makes a fresh proof for an envelope that is in the log, under the
// present head.
func (l *Log) Prove(ctx context.Context, envelope []byte) ([]byte, error) {
	m, err := Read(envelope)
	if err != nil {
		return nil, err
	}
	h, err := l.head(ctx)
	if err != nil {
		return nil, err
	}
	index, err := l.find(ctx, h, 0, entry{m.ID, Digest(envelope)})
	if err != nil {
		return nil, err
	}
	if index < 0 {
		return nil, fmt.Errorf("%s: %w", m.ID, ErrNotLogged)
	}
	return l.prove(ctx, h, index)
}

// ErrNotLogged: the log does not have the envelope.
var ErrNotLogged = errors.New("not in the log")

// Consistency is the proof that the log of one checkpoint begins with the log
// of an older one, for whoever kept that: RFC 6962 section 2.1.2.
func (l *Log) Consistency(ctx context.Context, old int64) (tlog.TreeProof, *Checkpoint, error) {
	h, err := l.head(ctx)
	if err != nil {
		return nil, nil, err
	}
	if old < 1 || old > h.tree.N {
		return nil, nil, fmt.Errorf("%d entries, asked from %d: %w", h.tree.N, old, ErrTruncated)
	}
	path, err := tlog.ProveTree(h.tree.N, old, tlog.TileHashReader(h.tree, tiles{ctx, l.store}))
	if err != nil {
		return nil, nil, fmt.Errorf("prove consistency: %w", err)
	}
	return path, &Checkpoint{l.origin, h.tree.N, hex.EncodeToString(h.tree.Hash[:])}, nil
}

// CheckConsistency verifies such a proof.
func CheckConsistency(path tlog.TreeProof, old, now Checkpoint) error {
	a, err := parseHash(old.Root)
	if err != nil {
		return err
	}
	b, err := parseHash(now.Root)
	if err != nil {
		return err
	}
	if old.Origin != now.Origin || tlog.CheckTree(path, now.Size, b, old.Size, a) != nil {
		return ErrForked
	}
	return nil
}

// grown reads hashes of a tree that is being extended: new ones from memory,
// old ones from tiles that are checked against the old root.
type grown struct {
	old    tlog.Tree
	hashes map[int64]tlog.Hash
	tiles  tiles
}

func (g grown) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	var missing, at []int64
	for i, x := range indexes {
		if h, ok := g.hashes[x]; ok {
			out[i] = h
			continue
		}
		missing, at = append(missing, x), append(at, int64(i))
	}
	if len(missing) == 0 {
		return out, nil
	}
	got, err := tlog.TileHashReader(g.old, g.tiles).ReadHashes(missing)
	if err != nil {
		return nil, err
	}
	for i, h := range got {
		out[at[i]] = h
	}
	return out, nil
}

// tiles reads tiles from storage for one operation.
type tiles struct {
	ctx   context.Context
	store LogStorage
}

func (t tiles) Height() int { return tileHeight }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, w := range want {
		b, _, err := t.store.Read(t.ctx, tileName(w))
		if errors.Is(err, fs.ErrNotExist) && w.W < tileWidth {
			// The partial tile may be gone; a wider one holds the same hashes.
			b, err = t.wider(w)
		}
		if err != nil {
			return nil, fmt.Errorf("read tile: %w", err)
		}
		out[i] = b
	}
	return out, nil
}

func (t tiles) wider(w tlog.Tile) ([]byte, error) {
	for width := w.W + 1; width <= tileWidth; width++ {
		b, _, err := t.store.Read(t.ctx, tileName(tlog.Tile{H: w.H, L: w.L, N: w.N, W: width}))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n := w.W * tlog.HashSize; len(b) >= n {
			return b[:n], nil
		}
	}
	return nil, fs.ErrNotExist
}
