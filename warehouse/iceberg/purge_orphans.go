package iceberg

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// minOrphanAge is the least age at which a file that nothing refers to is
// taken for an orphan: a writer may be about to commit a younger one.
const minOrphanAge = 24 * time.Hour

const kindOrphan = "orphan"

// RemoveOrphans removes files that a failed writer or an interrupted cleaner
// left. Never taken for an orphan is
//
//   - a file younger than the age asked for, or whose age the store does not tell:
//     its writer may be about to commit it;
//   - what any snapshot, ref or statistics entry refers to, in any spelling;
//   - what another table of the catalog refers to (a clone, add_files);
//   - a metadata version: some other catalog may point to it;
//   - a hidden file, whose name or folder starts with "_" or ".": it is somebody else's;
//   - anything at all where the table's location overlaps another's, or its files
//     may be shared (gc.enabled = false): those tables are refused.
//
// The table's files are listed as a stream; what is kept in memory is 16 bytes
// a referenced file. It can be repeated after a crash.
func (t *Table) RemoveOrphans(ctx context.Context, req warehouse.OrphanRequest) (*warehouse.Orphans, error) {
	out, err := t.removeOrphans(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("remove orphans of %s: %w", t.name, err)
	}
	return out, nil
}

func (t *Table) removeOrphans(ctx context.Context, req warehouse.OrphanRequest) (*warehouse.Orphans, error) {
	if req.MinAge < minOrphanAge {
		return nil, fmt.Errorf("a minimum age of %v is below %v: %w", req.MinAge, minOrphanAge, warehouse.ErrUnsupported)
	}
	before := clock.Now(ctx).Add(-req.MinAge)
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	meta := tbl.Metadata()
	if err := t.whole(ctx, meta); err != nil {
		return nil, err
	}
	if b := forbidden(meta); b != nil {
		return nil, fmt.Errorf("%s: %w", b.Reason, warehouse.ErrUnsupported)
	}
	used := references{keys: pathSet{}, read: pathSet{}}
	if err := t.refer(ctx, meta, used); err != nil {
		return nil, err
	}
	out := &warehouse.Orphans{}
	r := &remover{t: t, fence: req.Fence, record: req.Record, dry: req.DryRun}
	r.keep = func(ctx context.Context, batch []removal) ([]removal, error) {
		return t.stillOrphans(ctx, r, used, batch)
	}
	for _, root := range storedFolders(meta) {
		for info, err := range t.store.List(ctx, root+"/") {
			if err != nil {
				return nil, fmt.Errorf("list: %w", hide(err))
			}
			if hidden(strings.TrimPrefix(canonical(info.Path), canonical(root)+"/")) || isMetadataFile(info.Path) || used.refers(info.Path) {
				continue
			}
			if info.ModTime.IsZero() || !info.ModTime.Before(before) {
				out.Young++
				continue
			}
			err := r.remove(ctx, info.Path, kindOrphan, func() {
				out.Files++
				out.Bytes += info.Size
			})
			if err != nil {
				return nil, err
			}
		}
	}
	err = r.flush(ctx)
	out.Shared = r.foreign
	return out, err
}

// stillOrphans looks once more, before a batch goes: somebody may have committed
// an old file meanwhile, and another table may refer to one.
func (t *Table) stillOrphans(ctx context.Context, r *remover, used references, batch []removal) ([]removal, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := t.refer(ctx, tbl.Metadata(), used); err != nil {
		return nil, err
	}
	others, err := t.foreignAll(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]removal, 0, len(batch))
	for _, x := range batch {
		switch {
		case used.refers(x.path):
		case others.refers(x.path):
			r.foreign++
		default:
			out = append(out, x)
		}
	}
	return out, nil
}

// storedFolders are the folders under which a table's files are stored, none
// within another.
func storedFolders(meta table.Metadata) []string {
	roots := []string{meta.Location(), dataDir(meta), metadataDir(meta)}
	if p := meta.Properties()["write.object-storage.path"]; p != "" {
		roots = append(roots, p)
	}
	return distinctFolders(ownFolders(meta), roots)
}

// distinctFolders drops folders that lie within another of the list.
func distinctFolders(canon, roots []string) []string {
	var out []string
	for i, r := range roots {
		inside := false
		for j, other := range canon[:len(roots)] {
			if j != i && strings.HasPrefix(canon[i], other) && (canon[i] != other || j < i) {
				inside = true
			}
		}
		if !inside {
			out = append(out, strings.TrimRight(r, "/"))
		}
	}
	return out
}

// hidden says whether a path below the table's folder is none of the table's.
// Folders of partition values may start with "_", and have a "=".
func hidden(rel string) bool {
	for _, part := range strings.Split(rel, "/") {
		if part != "" && (part[0] == '_' || part[0] == '.') && !strings.Contains(part, "=") {
			return true
		}
	}
	return strings.HasSuffix(rel, "version-hint.text")
}

// references are the files that a table's metadata leads to. A path counts in
// every spelling that a writer may have meant by it, so that an escaped
// partition value never makes a live file look like an orphan.
type references struct {
	keys pathSet
	read pathSet // manifests and lists whose contents are among keys
}

func spellings(path string) []string {
	out := []string{canonical(path)}
	if raw, err := url.PathUnescape(out[0]); err == nil && raw != out[0] {
		out = append(out, raw)
	}
	return out
}

func (r references) add(path string) {
	for _, s := range spellings(path) {
		r.keys.add(keyOf(s))
	}
}

func (r references) refers(path string) bool {
	for _, s := range spellings(path) {
		if r.keys.has(keyOf(s)) {
			return true
		}
	}
	return false
}

// refer adds what the snapshots of a table refer to. Lists and manifests that
// were read before are not read again. DELETED entries do not count: no reader
// opens a file for them.
func (t *Table) refer(ctx context.Context, meta table.Metadata, out references) error {
	for f := range meta.Statistics() {
		out.add(f.StatisticsPath)
	}
	for f := range meta.PartitionStatistics() {
		out.add(f.StatisticsPath)
	}
	var manifests []iceberg.ManifestFile
	var snaps []table.Snapshot
	for _, s := range meta.Snapshots() {
		if k := placeOf(s.ManifestList); s.ManifestList == "" || !out.read.has(k) {
			out.read.add(k)
			snaps = append(snaps, s)
		}
	}
	err := t.eachList(ctx, snaps, func(i int, list []iceberg.ManifestFile, err error) error {
		if err != nil {
			return fmt.Errorf("read manifest list: %w", hide(err))
		}
		out.add(snaps[i].ManifestList)
		for _, m := range list {
			if k := placeOf(m.FilePath()); !out.read.has(k) {
				out.read.add(k)
				out.add(m.FilePath())
				manifests = append(manifests, m)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range manifests {
		for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return fmt.Errorf("read manifest: %w", hide(err))
			}
			out.add(e.DataFile().FilePath())
		}
	}
	return nil
}
