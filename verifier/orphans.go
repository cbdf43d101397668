package verifier

import (
	"fmt"
	"io"
	"slices"
	"strings"

	iceberg "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// maxOrphanText bounds how much of an orphan of unknown form is searched.
const maxOrphanText = 64 << 20

// orphans lists what is stored under the table's folders and looks into what
// nothing refers to. A file of a writer at work looks the same: it is told
// apart by its age alone.
func (v *tableCheck) orphans() error {
	if !v.o.Orphans {
		return nil
	}
	v.sum.looked(Orphans, 0, 0)
	for _, root := range v.inv.folders() {
		for info, err := range v.store.List(v.ctx, root) {
			if err != nil {
				return fmt.Errorf("list table location: %w", err)
			}
			if v.inv.known.has(info.Path) || isHint(info.Path) {
				continue
			}
			if err := v.orphan(info); err != nil {
				if v.ctx.Err() != nil {
					return v.ctx.Err()
				}
				v.sum.leave(Orphans, true)
			}
		}
	}
	return nil
}

// folders are where the table keeps its files, none within another: its
// location, and what its properties name instead.
func (inv *inventory) folders() []string {
	all := []string{inv.meta.Location()}
	for _, key := range []string{"write.data.path", "write.folder-storage.path", "write.object-storage.path", "write.metadata.path"} {
		if p := inv.meta.Properties()[key]; p != "" {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return len(location(a)) - len(location(b)) })
	var out []string
	for _, p := range all {
		p = strings.TrimRight(p, "/") + "/"
		if !slices.ContainsFunc(out, func(o string) bool { return strings.HasPrefix(location(p), location(o)) }) {
			out = append(out, p)
		}
	}
	return out
}

// inFlight says whether a writer may still be about to commit the file.
func (v *tableCheck) inFlight(info storage.Info) bool {
	if v.o.Replaced != nil && v.o.Replaced(info.Path) {
		return false
	}
	return v.o.OrphanAge > 0 && !info.ModTime.IsZero() && clock.Now(v.ctx).Sub(info.ModTime) < v.o.OrphanAge
}

// foundOrphan adds a finding of an unreferenced file.
func (v *tableCheck) foundOrphan(info storage.Info, at Finding) {
	if !v.inFlight(info) {
		v.sum.found(at)
		return
	}
	at.Certain, at.State = false, "in flight: unreferenced and younger than an orphan"
	v.sum.found(at)
	v.sum.mu.Lock()
	defer v.sum.mu.Unlock()
	if due := info.ModTime.Add(v.o.OrphanAge).UTC(); due.After(v.sum.tally.look(Orphans, 0).GoneBy) {
		v.sum.tally.look(Orphans, 0).GoneBy = due
	}
}

// isHint: the hadoop catalog's pointer holds a number only.
func isHint(p string) bool { return strings.HasSuffix(p, "/metadata/version-hint.text") }

func (v *tableCheck) orphan(info storage.Info) error {
	at := Finding{Surface: Orphans, Object: info.Path, Certain: true, State: "orphan"}
	n, certain := v.meta.inPath(info.Path)
	if n > 0 {
		at.Count, at.Certain = n, certain
		v.foundOrphan(info, at)
	}
	at.Certain = true
	switch {
	case strings.HasSuffix(info.Path, ".parquet"):
		return v.orphanParquet(info, at)
	case strings.HasSuffix(info.Path, ".avro"):
		return v.orphanAvro(info, at)
	case isMetadataFile(info.Path):
		if !v.o.Metadata { // otherwise searched as table metadata already
			return v.orphanText(info, at)
		}
		v.sum.looked(Orphans, 1, 0)
		return nil
	case strings.HasSuffix(info.Path, ".puffin"):
		obj, err := v.store.Open(v.ctx, info.Path)
		if err != nil {
			return err
		}
		defer obj.Close()
		v.sum.looked(Orphans, 1, 0)
		return v.puffinObject(info.Path, obj, info.Size)
	}
	return v.orphanText(info, at)
}

// orphanParquet looks at rows, and at what is inside the file beside rows.
func (v *tableCheck) orphanParquet(info storage.Info, at Finding) error {
	f, err := openParquet(v.ctx, v.store, info.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	bound, err := bindFile(f, v.matches)
	if err != nil {
		return err
	}
	rows, err := scanKeys(v.ctx, f, bound)
	if err != nil {
		return err
	}
	if rows, err = v.pending(v.ctx, f, rows); err != nil {
		return err
	}
	if at.Count = int64(rows.GetCardinality()); at.Count == 0 {
		r, err := checkFile(v.ctx, f, info.Size, info.Path, v.keyed, FileOptions{})
		if err != nil {
			return err
		}
		for _, x := range r.Findings {
			if x.Certain {
				at.Count += x.Count
			}
		}
	}
	v.sum.looked(Orphans, 1, f.read())
	if at.Count > 0 {
		v.foundOrphan(info, at)
	}
	return nil
}

// orphanAvro reads an Iceberg manifest that nothing refers to; a list has
// ranges only and is read as one.
func (v *tableCheck) orphanAvro(info storage.Info, at Finding) error {
	obj, err := v.store.Open(v.ctx, info.Path)
	if err != nil {
		return err
	}
	defer obj.Close()
	v.sum.looked(Orphans, 1, info.Size)
	hits, err := v.manifestHits(obj, info)
	if err != nil {
		hits, err = v.listHits(obj, info)
	}
	if err != nil {
		return errCorrupt
	}
	if at.Count = hits; hits > 0 {
		v.foundOrphan(info, at)
	}
	return nil
}

func (v *tableCheck) manifestHits(r io.ReaderAt, info storage.Info) (hits int64, err error) {
	defer guard(&err)
	m := iceberg.NewManifestFile(v.inv.meta.Version(), info.Path, info.Size, 0, 0).Build()
	entries, err := iceberg.ReadManifest(m, io.NewSectionReader(r, 0, info.Size), false)
	if err != nil {
		return 0, errCorrupt
	}
	for _, e := range entries {
		f := e.DataFile()
		certain, _ := v.meta.inBounds(f)
		n, _ := v.meta.inPath(f.FilePath())
		hits += certain + n + v.meta.inPartition(f)
	}
	return hits, nil
}

func (v *tableCheck) listHits(r io.ReaderAt, info storage.Info) (hits int64, err error) {
	defer guard(&err)
	list, err := iceberg.ReadManifestList(io.NewSectionReader(r, 0, info.Size))
	if err != nil {
		return 0, errCorrupt
	}
	for _, m := range list {
		n, _ := v.meta.inRanges(m)
		hits += n
	}
	return hits, nil
}

// orphanText searches a file of unknown form as raw bytes.
func (v *tableCheck) orphanText(info storage.Info, at Finding) error {
	obj, err := v.store.Open(v.ctx, info.Path)
	if err != nil {
		return err
	}
	defer obj.Close()
	s := v.meta.search
	s.certain = true
	overlap := int64(s.longest())
	for from := int64(0); from < min(info.Size, maxOrphanText); from += gapWindow {
		b := make([]byte, min(gapWindow+overlap, info.Size-from))
		if err := readAt(obj, b, from); err != nil {
			return err
		}
		at.Count += s.raw(b)
	}
	v.sum.looked(Orphans, 1, min(info.Size, maxOrphanText))
	if at.Count > 0 {
		at.Certain = s.certain
		v.foundOrphan(info, at)
	}
	return nil
}
