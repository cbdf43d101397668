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

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// fenceEvery is how many objects are removed between two looks at the lease.
const fenceEvery = 100

// The kinds of warehouse.PhysicalDelete.
const (
	kindData     = "data"
	kindDelete   = "delete file"
	kindManifest = "manifest"
	kindList     = "manifest list"
	kindMetadata = "metadata"
	kindStats    = "statistics"
	kindAttempt  = "failed attempt"
)

// remover removes objects one by one, fenced and recorded.
type remover struct {
	t      *Table
	fence  func(context.Context) error
	record func(context.Context, warehouse.PhysicalDelete) error
	n      int

	roots   []string // where the table's own files lie; nil: not asked
	foreign int64    // files elsewhere, which were left alone
}

// remove is idempotent: an object that is gone already is evidence as well. It
// says whether the object was there.
func (r *remover) remove(ctx context.Context, path, kind string) (bool, error) {
	if r.roots != nil && !within(r.roots, path) {
		r.foreign++
		return false, nil
	}
	if r.n%fenceEvery == 0 && r.fence != nil {
		if err := r.fence(ctx); err != nil {
			return false, err
		}
	}
	r.n++
	d := warehouse.PhysicalDelete{Path: path, Kind: kind, Response: "deleted"}
	err := r.t.store.Remove(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.Response = "already gone"
	case err != nil:
		return false, fmt.Errorf("remove %s: %w", kind, hide(err))
	}
	d.Time = clock.Now(ctx)
	if r.record != nil {
		if err := r.record(ctx, d); err != nil {
			return false, fmt.Errorf("record removal: %w", err)
		}
	}
	return d.Response == "deleted", nil
}

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
		s.kept.add(keyOf(remain[i].ManifestList))
		for _, m := range list {
			if k := keyOf(m.FilePath()); !s.kept.has(k) {
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
		if p := gone[i].ManifestList; p != "" && !s.kept.has(keyOf(p)) {
			s.lists = append(s.lists, p)
		}
		for _, m := range list {
			if k := keyOf(m.FilePath()); !s.kept.has(k) && !seen.has(k) {
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
			s.files.add(keyOf(e.DataFile().FilePath()))
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
				live = append(live, keyOf(e.DataFile().FilePath()))
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
		k := keyOf(df.FilePath())
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
	if len(in.Snapshots) == 0 {
		return nil
	}
	gone := make([]table.Snapshot, len(in.Snapshots))
	for i, s := range in.Snapshots {
		gone[i] = s.snapshot()
	}
	s, err := p.t.newSweep(ctx, meta.Snapshots(), gone)
	if err != nil {
		return err
	}
	r := &remover{t: p.t, fence: p.req.Fence, record: p.req.Record, roots: ownFolders(meta)}
	for _, m := range s.dying {
		err := s.each(ctx, m, func(df iceberg.DataFile) error { return p.removeFile(ctx, r, df) })
		if err != nil {
			return err
		}
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
			Reason: "they lie outside the table's location and may belong to another table",
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
	was, err := r.remove(ctx, df.FilePath(), kind)
	if err != nil {
		return err
	}
	if was {
		p.out.FilesRemoved++
		p.out.BytesRemoved += df.FileSizeBytes()
	}
	return nil
}

// removeMetadata removes manifests, then lists, then statistics.
func (p *purge) removeMetadata(ctx context.Context, r *remover, meta table.Metadata, s *sweep, in *intent) error {
	count := func(path, kind string) error {
		was, err := r.remove(ctx, path, kind)
		if was {
			p.out.FilesRemoved++
		}
		return err
	}
	for _, m := range s.dying {
		was, err := r.remove(ctx, m.FilePath(), kindManifest)
		if err != nil {
			return err
		}
		if was {
			p.out.ManifestsRemoved++
			p.out.BytesRemoved += m.Length()
		}
	}
	for _, path := range s.lists {
		if err := count(path, kindList); err != nil {
			return err
		}
	}
	kept := pathSet{}
	for f := range meta.Statistics() {
		kept.add(keyOf(f.StatisticsPath))
	}
	for f := range meta.PartitionStatistics() {
		kept.add(keyOf(f.StatisticsPath))
	}
	for _, f := range in.Stats {
		if kept.has(keyOf(f.Path)) {
			continue
		}
		if err := count(f.Path, kindStats); err != nil {
			return err
		}
	}
	return nil
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
