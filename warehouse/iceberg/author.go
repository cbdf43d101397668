package iceberg

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/icebergio"
)

// What a snapshot of ours says about itself in its summary.
const (
	propRun          = "expunge.run-id"
	propGroup        = "expunge.group"
	propVersion      = "expunge.version"
	propRestored     = "expunge.restored-run"
	propPurged       = "expunge.purged-run"
	propReplaced     = "expunge.files-replaced"
	propDropped      = "expunge.files-dropped"
	propErased       = "expunge.rows-erased"
	propChanged      = "expunge.rows-changed"
	propDeleted      = "expunge.rows-already-deleted"
	propDeleteFiles  = "expunge.delete-files-removed"
	propProtectUntil = "expunge.protect-until"
)

// manifestTarget is the size at which a manifest of added entries is closed
// and the next begun, as commit.manifest.target-size-bytes has it by default.
const manifestTarget = 8 << 20

// toolVersion is the module's version as the binary was built.
var toolVersion = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
})

// author writes one snapshot: its manifests, its manifest list and the
// metadata updates that make it the head of main. The library's own producers
// are not used: they can only append or replace, carry tombstones with their
// bounds along, set table properties, and undo concurrent deletes when they
// retry (traps S4, S6 and S10).
//
// Everything an author writes lies under one prefix, which names the run, so
// that what a failed attempt left can be found.
type author struct {
	t      *Table
	meta   table.Metadata
	snapID int64
	base   string
	files  atomic.Int64
}

// newAuthor prepares a snapshot; what names it within its run.
func (t *Table) newAuthor(meta table.Metadata, runID, what string) *author {
	id := newSnapshotID(meta)
	return &author{
		t: t, meta: meta, snapID: id,
		base: fmt.Sprintf("%s/%s%s-%d", metadataDir(meta), runPrefix(runID), what, id),
	}
}

// runPrefix starts the name of every object that a run adds to a table.
func runPrefix(runID string) string { return "expunge-" + runID + "-" }

func metadataDir(meta table.Metadata) string {
	if p := meta.Properties()["write.metadata.path"]; p != "" {
		return strings.TrimRight(p, "/")
	}
	return strings.TrimRight(meta.Location(), "/") + "/metadata"
}

func dataDir(meta table.Metadata) string {
	props := meta.Properties()
	for _, key := range []string{"write.data.path", "write.folder-storage.path"} {
		if p := props[key]; p != "" {
			return strings.TrimRight(p, "/")
		}
	}
	return strings.TrimRight(meta.Location(), "/") + "/data"
}

// newSnapshotID draws a positive id that the table does not use.
func newSnapshotID(meta table.Metadata) int64 {
	for {
		u := uuid.New()
		var id uint64
		for i := range 8 {
			id = id<<8 | uint64(u[i]^u[i+8])
		}
		id &= math.MaxInt64
		if id != 0 && meta.SnapshotByID(int64(id)) == nil {
			return int64(id)
		}
	}
}

// schemaFor is the newest schema that still has every source column of the
// spec, so that partition values of a column dropped since keep their type.
// Written under a schema without the column they would be lost.
func schemaFor(meta table.Metadata, spec *iceberg.PartitionSpec) *iceberg.Schema {
	has := func(s *iceberg.Schema) bool {
		for _, f := range spec.Fields() {
			for _, id := range f.SourceIDs {
				if _, ok := s.FindFieldByID(id); !ok {
					return false
				}
			}
		}
		return true
	}
	current := meta.CurrentSchema()
	if has(current) {
		return current
	}
	var best *iceberg.Schema
	for _, s := range meta.Schemas() {
		if has(s) && (best == nil || s.ID > best.ID) {
			best = s
		}
	}
	if best == nil {
		return current
	}
	return best
}

// manifestWriter writes one manifest to the store.
type manifestWriter struct {
	*iceberg.ManifestWriter
	path string
	sink storage.Writer
	n    int64
}

// Write counts what goes to the store: a manifest list needs the length.
func (m *manifestWriter) Write(p []byte) (int, error) {
	n, err := m.sink.Write(p)
	m.n += int64(n)
	return n, err
}

func (a *author) open(ctx context.Context, specID int, content iceberg.ManifestContent) (*manifestWriter, error) {
	spec := a.meta.PartitionSpecByID(specID)
	if spec == nil {
		return nil, fmt.Errorf("write manifest: partition spec %d is not in the table's metadata", specID)
	}
	m := &manifestWriter{path: fmt.Sprintf("%s-m%d.avro", a.base, a.files.Add(1))}
	sink, err := a.t.store.Create(ctx, m.path, storage.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create manifest: %w", err)
	}
	m.sink = sink
	m.ManifestWriter, err = iceberg.NewManifestWriter(a.meta.Version(), m, *spec, schemaFor(a.meta, spec), a.snapID,
		iceberg.WithManifestWriterContent(content))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write manifest: %w", err), sink.Abort())
	}
	return m, nil
}

func (m *manifestWriter) finish() (iceberg.ManifestFile, error) {
	if err := m.ManifestWriter.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("write manifest: %w", err), m.sink.Abort())
	}
	if err := m.sink.Close(); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	mf, err := m.ToManifestFile(m.path, m.n)
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return mf, nil
}

// roll writes entries of one spec and content into as few manifests as its
// limit allows. None is opened before the first entry.
type roll struct {
	a       *author
	spec    int
	content iceberg.ManifestContent
	limit   int64 // 0: one manifest, however long
	cur     *manifestWriter
	done    []iceberg.ManifestFile
}

func (r *roll) put(ctx context.Context, add func(w *manifestWriter) error) error {
	if r.cur == nil {
		w, err := r.a.open(ctx, r.spec, r.content)
		if err != nil {
			return err
		}
		r.cur = w
	}
	if err := add(r.cur); err != nil {
		return fmt.Errorf("write manifest entry: %w", hide(err))
	}
	if r.limit > 0 && r.cur.n >= r.limit {
		return r.close()
	}
	return nil
}

func (r *roll) existing(ctx context.Context, e iceberg.ManifestEntry) error {
	return r.put(ctx, func(w *manifestWriter) error { return w.Existing(e) })
}

func (r *roll) added(ctx context.Context, seq *int64, df iceberg.DataFile) error {
	e := iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &r.a.snapID, seq, nil, df)
	return r.put(ctx, func(w *manifestWriter) error { return w.Add(e) })
}

// deleted records that this snapshot removes the entry's file. Column
// statistics are left out: their bounds may be the very values that are being
// erased. What remains is what a cleaner of expired snapshots needs.
func (r *roll) deleted(ctx context.Context, e iceberg.ManifestEntry) error {
	df, err := withoutStatistics(r.a.meta, e.DataFile())
	if err != nil {
		return err
	}
	seq := e.SequenceNum()
	gone := iceberg.NewManifestEntry(iceberg.EntryStatusDELETED, &r.a.snapID, &seq, e.FileSequenceNum(), df)
	return r.put(ctx, func(w *manifestWriter) error { return w.Delete(gone) })
}

func (r *roll) close() error {
	if r.cur == nil {
		return nil
	}
	w := r.cur
	r.cur = nil
	mf, err := w.finish()
	if err != nil {
		return err
	}
	r.done = append(r.done, mf)
	return nil
}

// abort drops the open manifest; those already written stay for CleanAttempts.
func (r *roll) abort() {
	if r.cur != nil {
		// Nothing was made visible: an error here changes nothing.
		_ = r.cur.sink.Abort()
		r.cur = nil
	}
}

func withoutStatistics(meta table.Metadata, df iceberg.DataFile) (iceberg.DataFile, error) {
	spec := meta.PartitionSpecByID(int(df.SpecID()))
	if spec == nil {
		return nil, fmt.Errorf("write manifest: partition spec %d is not in the table's metadata", df.SpecID())
	}
	b, err := iceberg.NewDataFileBuilder(*spec, df.ContentType(), df.FilePath(), df.FileFormat(),
		df.Partition(), nil, nil, df.Count(), df.FileSizeBytes())
	if err != nil {
		return nil, fmt.Errorf("write manifest entry: %w", hide(err))
	}
	// Empty rather than absent: some readers of metadata tables take no null.
	b.ColumnSizes(map[int]int64{}).ValueCounts(map[int]int64{}).NullValueCounts(map[int]int64{}).NaNValueCounts(map[int]int64{}).
		LowerBoundValues(map[int][]byte{}).UpperBoundValues(map[int][]byte{})
	if ids := df.EqualityFieldIDs(); len(ids) > 0 {
		b.EqualityFieldIDs(ids)
	}
	if id := df.SortOrderID(); id != nil {
		b.SortOrderID(*id)
	}
	if p := df.ReferencedDataFile(); p != nil {
		b.ReferencedDataFile(*p)
	}
	if n := df.ContentOffset(); n != nil {
		b.ContentOffset(*n)
	}
	if n := df.ContentSizeInBytes(); n != nil {
		b.ContentSizeInBytes(*n)
	}
	return b.Build(), nil
}

// draft is a snapshot ready to be committed.
type draft struct {
	op        table.Operation
	manifests []iceberg.ManifestFile // of the whole snapshot
	stats     changes
	exact     *totals // when all manifests were read; otherwise from the parent's summary
	props     map[string]string
	tag       *protect
}

// protect is the tag that keeps the snapshot before reachable for the grace.
type protect struct {
	name     string
	snapshot int64
	ageMs    int64 // max-ref-age-ms: the tag lapses by itself when the grace is over
}

// commit swaps the head of main, or of the branch, from the table's to snap,
// which writeList wrote on top of it, if it still is there. The fence is asked
// last.
func (a *author) commit(ctx context.Context, tbl *table.Table, snap *table.Snapshot, tag *protect, fence func(context.Context) error) (*table.Table, error) {
	meta := tbl.Metadata()
	parent := meta.CurrentSnapshot()
	reqs := []table.Requirement{
		table.AssertTableUUID(meta.TableUUID()),
		table.AssertRefSnapshotID(a.t.headRef(), &parent.SnapshotID),
	}
	updates := []table.Update{table.NewAddSnapshotUpdate(snap), setHead(meta, a.t.headRef(), a.snapID)}
	if tag != nil {
		updates = append(updates, table.NewSetSnapshotRefUpdate(tag.name, tag.snapshot, table.TagRef, tag.ageMs, 0, 0))
	}
	return a.t.swap(ctx, reqs, updates, fence)
}

// swap is the one place where the table's pointer moves.
func (t *Table) swap(ctx context.Context, reqs []table.Requirement, updates []table.Update, fence func(context.Context) error) (*table.Table, error) {
	if fence != nil {
		if err := fence(ctx); err != nil {
			return nil, err
		}
	}
	meta, location, err := t.cat.CommitTable(icebergio.With(ctx, t.store), t.ident, reqs, updates)
	if err != nil {
		return nil, &swapError{err: err}
	}
	if meta, err = t.view(meta); err != nil {
		return nil, err
	}
	return table.New(t.ident, meta, location, t.fsF, t.cat.Catalog), nil
}

func (a *author) writeList(ctx context.Context, meta table.Metadata, parent *table.Snapshot, d draft) (*table.Snapshot, error) {
	seq := int64(0)
	if meta.Version() > 1 {
		seq = meta.LastSequenceNumber() + 1
	}
	path := fmt.Sprintf("%s-list%d.avro", a.base, a.files.Add(1))
	sink, err := a.t.store.Create(ctx, path, storage.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create manifest list: %w", err)
	}
	var w *iceberg.ManifestListWriter
	switch meta.Version() {
	case 1:
		w, err = iceberg.NewManifestListWriterV1(sink, a.snapID, &parent.SnapshotID)
	case 2:
		w, err = iceberg.NewManifestListWriterV2(sink, a.snapID, seq, &parent.SnapshotID)
	default:
		w, err = iceberg.NewManifestListWriterV3(sink, a.snapID, seq, meta.NextRowID(), &parent.SnapshotID)
	}
	if err == nil {
		err = w.AddManifests(d.manifests)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write manifest list: %w", err), sink.Abort())
	}
	if err := sink.Close(); err != nil {
		return nil, fmt.Errorf("write manifest list: %w", err)
	}
	schema := meta.CurrentSchema().ID
	snap := &table.Snapshot{
		SnapshotID:       a.snapID,
		ParentSnapshotID: &parent.SnapshotID,
		SequenceNumber:   seq,
		TimestampMs:      max(clock.Now(ctx).UnixMilli(), meta.LastUpdatedMillis(), parent.TimestampMs),
		ManifestList:     path,
		SchemaID:         &schema,
		Summary:          &table.Summary{Operation: d.op, Properties: d.summary(parent)},
	}
	if next := w.NextRowID(); next != nil {
		first := meta.NextRowID()
		added := *next - first
		snap.FirstRowID, snap.AddedRows = &first, &added
	}
	return snap, nil
}
