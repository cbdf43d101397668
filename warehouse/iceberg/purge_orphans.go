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
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// minOrphanAge is the least age at which a file that nothing refers to is
// taken for an orphan: a writer may be about to commit a younger one.
const minOrphanAge = 24 * time.Hour

const kindOrphan = "orphan"

// OrphanRequest asks for the removal of files that lie in the table's folders
// and that none of its snapshots refers to.
type OrphanRequest struct {
	MinAge time.Duration // at least 24 h
	Fence  func(ctx context.Context) error
	Record func(ctx context.Context, d warehouse.PhysicalDelete) error
	DryRun bool
}

// Orphans counts what RemoveOrphans removed, or would remove.
type Orphans struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
	Young int64 `json:"young"` // unreferenced, but younger than the age asked for
}

// RemoveOrphans removes files that a failed writer or an interrupted cleaner
// left. It refuses tables whose location overlaps another's or whose files may
// be shared (gc.enabled = false). Metadata versions are never orphans here:
// some other catalog may point to one. Hidden files, whose name or folder
// starts with "_" or ".", belong to somebody else.
//
// The table's files are listed as a stream; what is kept in memory is 16 bytes
// a referenced file.
func (t *Table) RemoveOrphans(ctx context.Context, req OrphanRequest) (*Orphans, error) {
	out, err := t.removeOrphans(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("remove orphans of %s: %w", t.name, err)
	}
	return out, nil
}

func (t *Table) removeOrphans(ctx context.Context, req OrphanRequest) (*Orphans, error) {
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
	used, err := t.references(ctx, meta)
	if err != nil {
		return nil, err
	}
	out := &Orphans{}
	r := &remover{t: t, fence: req.Fence, record: req.Record}
	roots := distinctFolders(ownFolders(meta), []string{meta.Location(), dataDir(meta), metadataDir(meta)})
	for _, root := range roots {
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
			if err := t.removeOrphan(ctx, req, r, info, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (t *Table) removeOrphan(ctx context.Context, req OrphanRequest, r *remover, info storage.Info, out *Orphans) error {
	if !req.DryRun {
		was, err := r.remove(ctx, info.Path, kindOrphan)
		if err != nil || !was {
			return err
		}
	}
	out.Files++
	out.Bytes += info.Size
	return nil
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
type references struct{ keys pathSet }

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

func (t *Table) references(ctx context.Context, meta table.Metadata) (references, error) {
	out := references{keys: pathSet{}}
	for f := range meta.Statistics() {
		out.add(f.StatisticsPath)
	}
	for f := range meta.PartitionStatistics() {
		out.add(f.StatisticsPath)
	}
	var manifests []iceberg.ManifestFile
	snaps := meta.Snapshots()
	err := t.eachList(ctx, snaps, func(i int, list []iceberg.ManifestFile, err error) error {
		if err != nil {
			return fmt.Errorf("read manifest list: %w", hide(err))
		}
		out.add(snaps[i].ManifestList)
		for _, m := range list {
			if !out.refers(m.FilePath()) {
				out.add(m.FilePath())
				manifests = append(manifests, m)
			}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	// DELETED entries count too: a file that only they name is removed by the
	// expiry that drops them, with its evidence.
	for _, m := range manifests {
		for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, false, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return out, fmt.Errorf("read manifest: %w", hide(err))
			}
			out.add(e.DataFile().FilePath())
		}
	}
	return out, nil
}
