package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// sweep finds what expired snapshots reach and no remaining one does. Sets
// hold 16 bytes a file, and only files that expired manifests name.
type sweep struct {
	t         *Table
	remaining []iceberg.ManifestFile // unique, of every remaining snapshot
	kept      pathSet                // paths of remaining manifests, lists and statistics
	dying     []iceberg.ManifestFile // unique manifests that only expired snapshots list
	lists     []string
	files     pathSet // named by a dying manifest and live in no remaining one
}

func (t *Table) newSweep(ctx context.Context, remain, gone []table.Snapshot) (*sweep, error) {
	s := &sweep{t: t, kept: pathSet{}, files: pathSet{}}
	err := t.eachList(ctx, remain, func(i int, list []iceberg.ManifestFile, err error) error {
		if err != nil {
			return fmt.Errorf("read manifest list of a remaining snapshot: %w", hide(err))
		}
		s.kept.add(placeOf(remain[i].ManifestList))
		for _, m := range list {
			if k := placeOf(m.FilePath()); !s.kept.has(k) {
				s.kept.add(k)
				s.remaining = append(s.remaining, m)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	seen := pathSet{}
	err = t.eachList(ctx, gone, func(i int, list []iceberg.ManifestFile, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a former call removed it, last of its snapshot's files
		}
		if err != nil {
			return fmt.Errorf("read manifest list of an expired snapshot: %w", hide(err))
		}
		if p := gone[i].ManifestList; p != "" && !s.kept.has(placeOf(p)) {
			s.lists = append(s.lists, p)
		}
		for _, m := range list {
			if k := placeOf(m.FilePath()); !s.kept.has(k) && !seen.has(k) {
				seen.add(k)
				s.dying = append(s.dying, m)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, s.difference(ctx)
}

// eachList reads the manifest lists of snapshots, several at once, and hands
// them to visit one at a time.
func (t *Table) eachList(ctx context.Context, snaps []table.Snapshot, visit func(i int, list []iceberg.ManifestFile, err error) error) error {
	var mu sync.Mutex
	return inParallel(ctx, len(snaps), func(ctx context.Context, i int) error {
		list, err := snaps[i].Manifests(t.fs(ctx))
		mu.Lock()
		defer mu.Unlock()
		return visit(i, list, err)
	})
}

// difference fills files: all that dying manifests name, DELETED entries
// included, less all that remaining manifests list as live.
func (s *sweep) difference(ctx context.Context) error {
	for _, m := range s.dying {
		for e, err := range s.entries(ctx, m) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return fmt.Errorf("read expired manifest: %w", hide(err))
			}
			s.files.add(placeOf(e.DataFile().FilePath()))
		}
	}
	if len(s.files) == 0 {
		return nil
	}
	var mu sync.Mutex
	err := inParallel(ctx, len(s.remaining), func(ctx context.Context, i int) error {
		var live []pathKey // of one manifest
		for e, err := range s.entries(ctx, s.remaining[i]) {
			if err != nil {
				return err
			}
			if e.Status() != iceberg.EntryStatusDELETED {
				live = append(live, placeOf(e.DataFile().FilePath()))
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, k := range live {
			delete(s.files, k)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read remaining manifest: %w", hide(err))
	}
	return nil
}

func (s *sweep) entries(ctx context.Context, m iceberg.ManifestFile) func(func(iceberg.ManifestEntry, error) bool) {
	return iceberg.EntriesWithProjection(s.t.fs(ctx), m, false, iceberg.ManifestEntryProjection{})
}

// each visits every file to be removed once, manifest by manifest.
func (s *sweep) each(ctx context.Context, m iceberg.ManifestFile, visit func(df iceberg.DataFile) error) error {
	for e, err := range s.entries(ctx, m) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read expired manifest: %w", hide(err))
		}
		df := e.DataFile()
		k := placeOf(df.FilePath())
		if !s.files.has(k) {
			continue
		}
		if err := visit(df); err != nil {
			return err
		}
		delete(s.files, k)
	}
	return nil
}

// removeFiles removes what only expired snapshots reached, children before
// the files that name them, so that whatever is left can still be found.
func (p *purge) removeFiles(ctx context.Context, tbl *table.Table, in *intent) error {
	meta := tbl.Metadata()
	in = in.expired(meta)
	gone := make([]table.Snapshot, len(in.Snapshots))
	for i, s := range in.Snapshots {
		gone[i] = s.snapshot()
	}
	s, err := p.t.newSweep(ctx, meta.Snapshots(), gone)
	if err != nil {
		return err
	}
	r := &remover{t: p.t, fence: p.req.Fence, record: p.req.Record, roots: ownFolders(meta), single: p.resumed}
	r.keep = func(ctx context.Context, batch []removal) ([]removal, error) { return p.t.notForeign(ctx, r, batch) }
	for _, m := range s.dying {
		err := s.each(ctx, m, func(df iceberg.DataFile) error { return p.removeFile(ctx, r, df) })
		if err != nil {
			return err
		}
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := p.removeMetadata(ctx, r, meta, s, in); err != nil {
		return err
	}
	if err := p.removeOldVersions(ctx, r, tbl, in); err != nil {
		return err
	}
	if r.foreign > 0 {
		p.out.Blockers = append(p.out.Blockers, warehouse.Blocker{
			Ref: fmt.Sprintf("%d files", r.foreign), Type: "files",
			Reason: "they lie outside the table's location or are referred to by another table",
		})
	}
	if err := p.t.store.Remove(ctx, intentPath(meta, p.req.RunID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove purge intent: %w", err)
	}
	return nil
}

func (p *purge) removeFile(ctx context.Context, r *remover, df iceberg.DataFile) error {
	kind := kindData
	if df.ContentType() != iceberg.EntryContentData {
		kind = kindDelete
	}
	size := df.FileSizeBytes()
	return r.remove(ctx, df.FilePath(), kind, func() {
		p.out.FilesRemoved++
		p.out.BytesRemoved += size
	})
}

// removeMetadata removes manifests, then lists, then statistics.
func (p *purge) removeMetadata(ctx context.Context, r *remover, meta table.Metadata, s *sweep, in *intent) error {
	for _, m := range s.dying {
		err := r.remove(ctx, m.FilePath(), kindManifest, func() {
			p.out.ManifestsRemoved++
			p.out.BytesRemoved += m.Length()
		})
		if err != nil {
			return err
		}
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	count := func() { p.out.FilesRemoved++ }
	for _, path := range s.lists {
		if err := r.remove(ctx, path, kindList, count); err != nil {
			return err
		}
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	kept := pathSet{}
	for f := range meta.Statistics() {
		kept.add(placeOf(f.StatisticsPath))
	}
	for f := range meta.PartitionStatistics() {
		kept.add(placeOf(f.StatisticsPath))
	}
	for _, f := range in.Stats {
		if kept.has(placeOf(f.Path)) {
			continue
		}
		if err := r.remove(ctx, f.Path, kindStats, count); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

// ownFolders are the folders in which a table keeps its own files.
func ownFolders(meta table.Metadata) []string {
	roots := []string{meta.Location(), dataDir(meta), metadataDir(meta)}
	if p := meta.Properties()["write.object-storage.path"]; p != "" {
		roots = append(roots, p)
	}
	for i, r := range roots {
		roots[i] = strings.TrimRight(canonical(r), "/") + "/"
	}
	return roots
}

func within(roots []string, path string) bool {
	path = canonical(path)
	for _, r := range roots {
		if strings.HasPrefix(path, r) {
			return true
		}
	}
	return false
}

// placeOf stands for a file whatever way its path is spelled.
func placeOf(path string) pathKey { return keyOf(canonical(path)) }

// canonical gives the spellings of one place one form: engines write the same
// bucket as s3, s3a and s3n, and a local path with and without a scheme.
func canonical(path string) string {
	for _, p := range []string{"s3a://", "s3n://"} {
		if rest, ok := strings.CutPrefix(path, p); ok {
			return "s3://" + rest
		}
	}
	if rest, ok := strings.CutPrefix(path, "file:"); ok {
		return "/" + strings.TrimLeft(rest, "/")
	}
	return path
}
