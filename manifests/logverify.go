package manifests

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// LogReport is what reading a whole log established.
type LogReport struct {
	Checkpoint Checkpoint `json:"checkpoint"`
	Tiles      int64      `json:"tiles"` // tile and entry files compared
	Pending    int64      `json:"pending"`
	Since      int64      `json:"since,omitempty"` // size of the checkpoint that the reader kept
}

// VerifyLog reads every entry of a log and compares the checkpoint, all tiles
// and bundles with what follows from the entries. visit, when not nil, gets
// every manifest id and envelope digest in order. With since, a checkpoint that
// the reader kept, it proves that nothing before it was removed or changed;
// without, nothing can be said about a log that was cut and signed anew.
func VerifyLog(ctx context.Context, s LogStorage, t *Trust, origin string, since *Checkpoint, visit func(index int64, id, digest string) error) (*LogReport, error) {
	tree, err := readTrusted(ctx, s, t, origin)
	if errors.Is(err, fs.ErrNotExist) && since != nil && since.Size > 0 {
		return nil, fmt.Errorf("no checkpoint: %w", ErrTruncated)
	}
	if err != nil {
		return nil, err
	}
	if since != nil && since.Size > tree.N {
		return nil, fmt.Errorf("%d entries, the kept checkpoint has %d: %w", tree.N, since.Size, ErrTruncated)
	}
	v := logVerify{ctx: ctx, store: s, visit: visit, seen: map[string]bool{}, tree: newTree()}
	if err := v.partials(); err != nil {
		return nil, err
	}
	for i, raw := range readEntries(ctx, s, 0, tree.N) {
		if raw.err != nil {
			return nil, raw.err
		}
		if since != nil && i == since.Size {
			if err := v.matches(*since); err != nil {
				return nil, err
			}
		}
		if err := v.add(i, raw.data); err != nil {
			return nil, err
		}
	}
	if err := v.finish(); err != nil {
		return nil, err
	}
	head := Checkpoint{origin, tree.N, hex.EncodeToString(tree.Hash[:])}
	if err := v.matches(head); err != nil {
		return nil, fmt.Errorf("the checkpoint: %w", err)
	}
	r := &LogReport{Checkpoint: head, Tiles: v.tiles}
	if since != nil {
		r.Since = since.Size
		if since.Size == tree.N && (since.Root != head.Root || since.Origin != origin) {
			return nil, fmt.Errorf("at %d entries: %w", since.Size, ErrForked)
		}
	}
	r.Pending, err = countPending(ctx, s, tree.N)
	return r, err
}

func readTrusted(ctx context.Context, s LogStorage, t *Trust, origin string) (tlog.Tree, error) {
	raw, _, err := s.Read(ctx, checkpointName)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("read checkpoint: %w", err)
	}
	tree, got, err := t.trustedCheckpoint(raw)
	if err != nil {
		return tree, err
	}
	if got != origin {
		return tree, fmt.Errorf("checkpoint of the log %q, want %q", got, origin)
	}
	// The stored file has to be the one canonical spelling, signatures aside.
	if text, _, ok := bytes.Cut(raw, []byte("\n\n")); !ok || string(text)+"\n" != checkpointText(origin, tree) {
		return tree, errors.New("checkpoint has extension lines")
	}
	return tree, nil
}

func countPending(ctx context.Context, s LogStorage, from int64) (int64, error) {
	for n := from; ; n++ {
		_, _, err := s.Read(ctx, claimName(n))
		if errors.Is(err, fs.ErrNotExist) {
			return n - from, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read log claim: %w", err)
		}
	}
}

// logVerify rebuilds a log from its entries.
type logVerify struct {
	ctx   context.Context
	store LogStorage
	visit func(int64, string, string) error
	seen  map[string]bool
	tree  *tree
	tiles int64

	widths map[string][]int // partial files by their full name
	bundle []byte           // current entry bundle
	levels [][]byte         // current tile of each tile level
	counts []int64          // hashes so far of each tile level
}

// partials lists the partial tiles and bundles: each has to be the beginning
// of its full one. Files that a reader of an older checkpoint uses count too.
func (v *logVerify) partials() error {
	v.widths = map[string][]int{}
	for name, err := range v.store.List(v.ctx, tilePrefix) {
		if err != nil {
			return fmt.Errorf("list log: %w", err)
		}
		full, w := name, tileWidth
		if i := bytes.LastIndex([]byte(name), []byte(".p/")); i >= 0 {
			full = name[:i]
			if _, err := fmt.Sscanf(name[i:], ".p/%d", &w); err != nil || w < 1 || w >= tileWidth || name != full+partial(w) {
				return fmt.Errorf("log object of an unknown name: %w", ErrForked)
			}
		}
		v.widths[full] = append(v.widths[full], w)
	}
	return nil
}

func (v *logVerify) add(i int64, data []byte) error {
	e, err := parseEntry(data)
	if err != nil {
		return err
	}
	if v.seen[e.ID] {
		return fmt.Errorf("%s: %w", e.ID, ErrReplayed)
	}
	v.seen[e.ID] = true
	v.bundle = appendBundle(v.bundle, data)
	h := tlog.RecordHash(data)
	v.tree.add(h)
	if err := v.level(0, h); err != nil {
		return err
	}
	if (i+1)%tileWidth == 0 {
		if err := v.compare(entriesName(i/tileWidth, tileWidth), v.bundle, bundleOffsets(v.bundle)); err != nil {
			return err
		}
		v.bundle = v.bundle[:0]
	}
	if v.visit != nil {
		return v.visit(i, e.ID, e.Digest)
	}
	return nil
}

// level adds a hash to the tile row of a level and closes full tiles.
func (v *logVerify) level(l int, h tlog.Hash) error {
	if l == len(v.levels) {
		v.levels, v.counts = append(v.levels, nil), append(v.counts, 0)
	}
	v.levels[l] = append(v.levels[l], h[:]...)
	v.counts[l]++
	if v.counts[l]%tileWidth != 0 {
		return nil
	}
	t := tlog.Tile{H: tileHeight, L: l, N: v.counts[l]/tileWidth - 1, W: tileWidth}
	if err := v.compare(tileName(t), v.levels[l], tileOffsets); err != nil {
		return err
	}
	up := newTree()
	for b := v.levels[l]; len(b) > 0; b = b[tlog.HashSize:] {
		up.add(tlog.Hash(b[:tlog.HashSize]))
	}
	root, _ := up.finish()
	v.levels[l] = v.levels[l][:0]
	return v.level(l+1, root)
}

// finish compares the last, partial tiles and bundle, and refuses files beyond the log's end.
func (v *logVerify) finish() error {
	if n := v.tree.size; n%tileWidth != 0 {
		if err := v.compare(entriesName(n/tileWidth, tileWidth), v.bundle, bundleOffsets(v.bundle)); err != nil {
			return err
		}
	}
	for l, b := range v.levels {
		if len(b) == 0 {
			continue
		}
		t := tlog.Tile{H: tileHeight, L: l, N: v.counts[l] / tileWidth, W: tileWidth}
		if err := v.compare(tileName(t), b, tileOffsets); err != nil {
			return err
		}
	}
	return nil
}

// compare checks every stored width of a tile or bundle against its content.
// A width beyond the content belongs to an append that has not swapped its
// checkpoint yet: its beginning is compared.
func (v *logVerify) compare(full string, content []byte, offset func(w int) int) error {
	widths := v.widths[full]
	covered := false
	for _, w := range widths {
		name := full + partial(w)
		b, _, err := v.store.Read(v.ctx, name)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		want := content
		if end := offset(w); end >= 0 && end <= len(content) {
			want = content[:end]
			if len(b) != end {
				return fmt.Errorf("%s: %w", name, ErrForked)
			}
		}
		if len(b) < len(want) || !bytes.Equal(b[:len(want)], want) {
			return fmt.Errorf("%s: %w", name, ErrForked)
		}
		covered = covered || len(b) >= len(content)
		v.tiles++
	}
	if !covered {
		return fmt.Errorf("%s is missing: %w", full, ErrTruncated)
	}
	return nil
}

// tileOffsets is where the first w hashes of a tile end.
func tileOffsets(w int) int { return w * tlog.HashSize }

// bundleOffsets is where the first w entries of a bundle end; -1 beyond its content.
func bundleOffsets(b []byte) func(int) int {
	ends := []int{0}
	for at := 0; at+2 <= len(b); {
		at += 2 + int(b[at])<<8 + int(b[at+1])
		ends = append(ends, at)
	}
	return func(w int) int {
		if w >= len(ends) {
			return -1
		}
		return ends[w]
	}
}

// matches compares the tree so far with a checkpoint of the same size.
func (v *logVerify) matches(c Checkpoint) error {
	if c.Size != v.tree.size {
		return fmt.Errorf("%d entries, %d stated: %w", v.tree.size, c.Size, ErrTruncated)
	}
	clone := *v.tree
	clone.stack = slices.Clone(v.tree.stack)
	root, _ := clone.finish()
	if hex.EncodeToString(root[:]) != c.Root {
		return fmt.Errorf("at %d entries: %w", c.Size, ErrForked)
	}
	return nil
}
