package verifier

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	iceberg "github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
)

// pathKey stands for a path in sets of many: half of its SHA-256.
type pathKey [16]byte

func keyOf(path string) pathKey {
	sum := sha256.Sum256([]byte(location(path)))
	return pathKey(sum[:16])
}

// pathSet is a set of paths at 16 bytes each.
type pathSet map[pathKey]struct{}

// add says whether the path is new.
func (s pathSet) add(path string) bool {
	k := keyOf(path)
	if _, ok := s[k]; ok {
		return false
	}
	s[k] = struct{}{}
	return true
}

// know adds a path under every name that a listing may give it: some writers
// mean file URIs literally, some percent-encoded.
func (s pathSet) know(path string) {
	s.add(path)
	if l := storage.ParseLocation(path); l.Scheme == "file" && strings.Contains(l.Key, "%") {
		if plain, err := url.PathUnescape(l.Key); err == nil {
			s.add(plain)
		}
	}
}

func (s pathSet) has(path string) bool {
	_, ok := s[keyOf(path)]
	return ok
}

// inventory is what a table's metadata reaches.
type inventory struct {
	meta table.Metadata
	loc  string
	raw  []byte // the metadata file
	fio  iceio.IO

	head    *table.Snapshot
	known   pathSet // everything referenced from anywhere: what is not in it is an orphan
	live    pathSet // data files of the head
	lists   pathSet // manifest lists that were looked at
	deletes []deleteEntry
	broken  map[string]bool // manifests and lists that could not be read → reached by the head
}

// deleteEntry is a delete file of the head's.
type deleteEntry struct {
	f    iceberg.DataFile
	seq  int64
	spec int32
}

// openTable reads a table's metadata file.
func openTable(ctx context.Context, store storage.Store, t Target) (*inventory, error) {
	raw, err := storage.ReadAll(ctx, store, t.MetadataLocation)
	if err != nil {
		return nil, fmt.Errorf("read table metadata: %w", err)
	}
	meta, err := table.ParseMetadataBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("parse table metadata: %w", errors.Join(errCorrupt, warehouse.ErrUnsupported))
	}
	head := meta.CurrentSnapshot()
	if t.Ref != "" {
		if head = meta.SnapshotByName(t.Ref); head == nil {
			return nil, fmt.Errorf("read table metadata: branch %s: %w", t.Ref, warehouse.ErrNotFound)
		}
	}
	inv := &inventory{meta: meta, loc: t.MetadataLocation, raw: raw, fio: icebergio.FromStore(ctx, store),
		head: head, known: pathSet{}, live: pathSet{}, lists: pathSet{}, broken: map[string]bool{}}
	inv.known.know(t.MetadataLocation)
	for e := range meta.PreviousFiles() {
		inv.known.know(e.MetadataFile)
	}
	for s := range meta.Statistics() {
		inv.known.know(s.StatisticsPath)
	}
	for s := range meta.PartitionStatistics() {
		inv.known.know(s.StatisticsPath)
	}
	return inv, nil
}

// snapshots returns all of them, the head first.
func (inv *inventory) snapshots() []table.Snapshot {
	all := slices.Clone(inv.meta.Snapshots())
	if inv.head == nil {
		return all
	}
	slices.SortStableFunc(all, func(a, b table.Snapshot) int {
		switch {
		case a.SnapshotID == inv.head.SnapshotID:
			return -1
		case b.SnapshotID == inv.head.SnapshotID:
			return 1
		}
		return 0
	})
	return all
}

// manifests reads a snapshot's manifest list. One that is gone or unreadable
// is noted, and the snapshot counts as not checked.
func (inv *inventory) manifests(s table.Snapshot) []iceberg.ManifestFile {
	if s.ManifestList != "" {
		inv.known.know(s.ManifestList)
	}
	list, err := s.Manifests(inv.fio)
	if err != nil {
		inv.fault(s, s.ManifestList)
		return nil
	}
	for _, m := range list {
		inv.known.know(m.FilePath())
	}
	return list
}

// fault notes a manifest or list that cannot be read: what it refers to was
// not looked at, and coverage has to say so.
func (inv *inventory) fault(s table.Snapshot, path string) {
	inv.broken[path] = inv.broken[path] || inv.head != nil && s.SnapshotID == inv.head.SnapshotID
}

// entries visits a manifest's entries, DELETED ones included.
func (inv *inventory) entries(s table.Snapshot, m iceberg.ManifestFile, visit func(iceberg.ManifestEntry) error) error {
	for e, err := range m.Entries(inv.fio, false) {
		if err != nil {
			inv.fault(s, m.FilePath())
			return nil
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

// deletesFor returns the delete files that may apply to a data file, by the
// rules of "Scan Planning" in the Iceberg specification. Position deletes are
// filtered by path when they are read.
func (inv *inventory) deletesFor(f iceberg.DataFile, seq int64) []warehouse.DeleteFile {
	var out []warehouse.DeleteFile
	for _, d := range inv.deletes {
		w := warehouse.DeleteFile{Path: d.f.FilePath(), Size: d.f.FileSizeBytes(), Sequence: d.seq, EqualityIDs: d.f.EqualityFieldIDs()}
		ref := d.f.ReferencedDataFile()
		switch {
		case d.f.ContentType() == iceberg.EntryContentEqDeletes:
			if d.seq <= seq || !inv.samePartition(d, f) {
				continue
			}
			w.Kind = "equality"
		case d.f.FileFormat() == iceberg.PuffinFile:
			if ref == nil || location(*ref) != location(f.FilePath()) || d.f.ContentOffset() == nil || d.f.ContentSizeInBytes() == nil {
				continue
			}
			w.Kind, w.ContentOffset, w.ContentSize = "dv", *d.f.ContentOffset(), *d.f.ContentSizeInBytes()
		default:
			if d.seq < seq || ref != nil && location(*ref) != location(f.FilePath()) {
				continue
			}
			w.Kind = "position"
		}
		out = append(out, w)
	}
	return out
}

// samePartition: an equality delete applies to files of its own partition, or
// to all when its spec is unpartitioned.
func (inv *inventory) samePartition(d deleteEntry, f iceberg.DataFile) bool {
	spec := inv.meta.PartitionSpecByID(int(d.spec))
	if spec == nil || spec.IsUnpartitioned() {
		return true
	}
	if d.spec != f.SpecID() {
		return false
	}
	a, b := d.f.Partition(), f.Partition()
	for id, v := range a {
		if fmt.Sprint(v) != fmt.Sprint(b[id]) {
			return false
		}
	}
	return true
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
