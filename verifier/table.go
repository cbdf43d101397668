package verifier

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// verifyTable reads every Iceberg manifest once: the head's delete manifests,
// its data manifests with their files, then what only other snapshots reach.
// Delete files, metadata files, Puffin files and orphans follow.
func verifyTable(ctx context.Context, store storage.Store, t Target, m []warehouse.BoundMatch, o Options) (*Report, error) {
	if o.Mode == "" {
		o.Mode = ModeFull
	}
	o.Workers = max(1, o.Workers)
	if o.MaxFindings == 0 {
		o.MaxFindings = 1000
	}
	inv, err := openTable(ctx, store, t)
	if err != nil {
		return nil, err
	}
	v := &tableCheck{ctx: ctx, store: store, target: t, matches: m, o: o, inv: inv, sum: newSummary(o.MaxFindings), seen: pathSet{}}
	v.keyed = keyedMatches(m, o.Action)
	if v.meta, err = newMetaCheck(inv, v.keyed); err != nil {
		return nil, err
	}
	for _, step := range []func() error{v.headDeletes, v.headFiles, v.history, v.deleteFiles, v.metadataFiles, v.puffins, v.partitionStatistics, v.orphans, v.positiveControl} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return v.report(), nil
}

type tableCheck struct {
	ctx     context.Context
	store   storage.Store
	target  Target
	matches []warehouse.BoundMatch
	keyed   []warehouse.BoundMatch // those whose keys have to be gone
	o       Options
	inv     *inventory
	meta    *metaCheck
	sum     *summary
	seen    pathSet            // manifests whose entries were read
	removal []iceberg.DataFile // delete files of all snapshots, to be read
	tried   []iceberg.DataFile // a few live files that were read, for the control
	control *Control
}

// summary collects surfaces from several workers.
type summary struct {
	mu      sync.Mutex
	tally   tally
	max     int
	bloom   bloomCount
	rows    int64
	unread  map[string]int64 // surface → objects that could not be read
	skipped map[string]int64 // surface → objects that the mode leaves out
}

func newSummary(maxFindings int) *summary {
	return &summary{max: maxFindings, unread: map[string]int64{}, skipped: map[string]int64{}}
}

func (s *summary) looked(surface string, objects, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.look(surface, objects).BytesRead += bytes
}

func (s *summary) leave(surface string, unread bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.look(surface, 0).Total++
	if unread {
		s.unread[surface]++
	} else {
		s.skipped[surface]++
	}
}

func (s *summary) found(f Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.found(f)
	if len(s.tally.findings) > s.max {
		s.tally.findings = s.tally.findings[:s.max]
	}
	if f.Surface == LiveRows && f.State != stateLater {
		s.tally.look(LiveRows, 0).Result = Fail
	}
}

// merge adds a file's surfaces, which findings already name.
func (s *summary) merge(r *FileReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range r.Surfaces {
		if f.Name == BloomFilters || f.Name == DataPages && f.Findings > 0 {
			continue // summed up below; rows are told apart into live and tombstoned
		}
		t := s.tally.look(f.Name, f.Objects)
		t.BytesRead += f.BytesRead
		t.Note = ""
	}
	for _, f := range r.Findings {
		if f.Surface == BloomFilters || f.Surface == DataPages {
			continue
		}
		s.tally.found(f)
	}
	if len(s.tally.findings) > s.max {
		s.tally.findings = s.tally.findings[:s.max]
	}
	s.bloom.add(r.bloom)
}

// manifest reads a manifest's entries once, whoever refers to it. Each is
// checked as metadata; visit gets those that are not DELETED.
func (v *tableCheck) manifest(s table.Snapshot, m iceberg.ManifestFile, visit func(f iceberg.DataFile, seq int64) error) error {
	if !v.seen.add(m.FilePath()) {
		return nil
	}
	if v.o.Metadata {
		v.sum.looked(ManifestBounds, 1, m.Length())
		v.sum.looked(PartitionValues, 1, 0)
	}
	return v.inv.entries(s, m, func(e iceberg.ManifestEntry) error {
		if v.o.Metadata {
			v.entry(s, m, e)
		}
		if e.Status() == iceberg.EntryStatusDELETED {
			return v.ctx.Err()
		}
		f := e.DataFile()
		v.inv.known.know(f.FilePath())
		return visit(f, e.SequenceNum())
	})
}

// headDeletes collects the head's delete files: they say which rows are hidden.
func (v *tableCheck) headDeletes() error {
	if v.o.Metadata {
		for _, s := range []string{ManifestBounds, PartitionValues, ListSummaries, Paths, TableMetadata, EqualityDeletes, PositionDeletes} {
			v.sum.looked(s, 0, 0)
		}
	}
	if v.inv.head == nil {
		return nil
	}
	for _, m := range v.list(*v.inv.head) {
		if m.ManifestContent() != iceberg.ManifestContentDeletes {
			continue
		}
		err := v.manifest(*v.inv.head, m, func(f iceberg.DataFile, seq int64) error {
			v.inv.deletes = append(v.inv.deletes, deleteEntry{f, seq, f.SpecID()})
			v.removal = append(v.removal, f)
			return v.ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// list reads a snapshot's manifest list and looks at its partition ranges.
func (v *tableCheck) list(s table.Snapshot) []iceberg.ManifestFile {
	list := v.inv.manifests(s)
	if v.o.Metadata && v.inv.lists.add(s.ManifestList) {
		v.sum.looked(ListSummaries, 1, 0)
		for _, m := range list {
			v.listSummaries(s, m)
		}
	}
	return list
}

// stateLater is the state of rows that came after what Options.Since says.
const stateLater = "live since the commit"

// fileJob is one data file to look at.
type fileJob struct {
	f    iceberg.DataFile
	seq  int64
	snap int64 // a snapshot of history that reaches it; 0 = the head
}

// headFiles checks every live data file.
func (v *tableCheck) headFiles() error {
	v.sum.looked(LiveRows, 0, 0)
	v.sum.looked(TombstonedRows, 0, 0)
	if v.inv.head == nil {
		return nil
	}
	return v.run(func(emit func(fileJob) error) error {
		for _, m := range v.list(*v.inv.head) {
			err := v.manifest(*v.inv.head, m, func(f iceberg.DataFile, seq int64) error {
				v.inv.live.add(f.FilePath())
				return emit(fileJob{f: f, seq: seq})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// history checks the data files that only other snapshots and refs reach.
func (v *tableCheck) history() error {
	if !v.o.Metadata && !v.o.Orphans {
		return nil
	}
	v.sum.looked(History, 0, 0)
	files := pathSet{}
	return v.run(func(emit func(fileJob) error) error {
		for _, s := range v.inv.snapshots() {
			for _, m := range v.list(s) {
				err := v.manifest(s, m, func(f iceberg.DataFile, seq int64) error {
					switch {
					case f.ContentType() != iceberg.EntryContentData:
						v.removal = append(v.removal, f)
					case !v.inv.live.has(f.FilePath()) && files.add(f.FilePath()):
						return emit(fileJob{f: f, seq: seq, snap: s.SnapshotID})
					}
					return v.ctx.Err()
				})
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// run feeds files to the workers; the first error stops all.
func (v *tableCheck) run(feed func(emit func(fileJob) error) error) error {
	ctx, cancel := context.WithCancelCause(v.ctx)
	defer cancel(nil)
	jobs := make(chan fileJob)
	var wg sync.WaitGroup
	for range v.o.Workers {
		wg.Go(func() {
			for j := range jobs {
				if err := v.file(ctx, j); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	err := feed(func(j fileJob) error {
		if !v.picks(j) {
			v.sum.leave(surfaceOf(j), false)
			return nil
		}
		select {
		case jobs <- j:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(jobs)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func surfaceOf(j fileJob) string {
	if j.snap != 0 {
		return History
	}
	return LiveRows
}

// picks says whether the mode looks at a file. A sample is a function of seed
// and path alone, so that anybody can draw it again.
func (v *tableCheck) picks(j fileJob) bool {
	path := j.f.FilePath()
	if j.snap == 0 && v.o.Skip != nil && v.o.Skip(path) {
		return false
	}
	switch v.o.Mode {
	case ModeRewritten:
		// What history holds was written by others: there is no trusting in it.
		return j.snap != 0 || v.o.Only != nil && v.o.Only(path)
	case ModeSample:
		h := fnv.New64a()
		var seed [8]byte
		binary.BigEndian.PutUint64(seed[:], v.o.Seed)
		h.Write(seed[:])
		h.Write([]byte(location(path)))
		return int64(mix(h.Sum64())%full) < v.o.SamplePPM
	}
	return true
}

// file reads one data file's key columns and, where asked for, all that is
// inside it. A file that cannot be read lowers the coverage; it is no success.
func (v *tableCheck) file(ctx context.Context, j fileJob) error {
	err := v.readFile(ctx, j)
	if err == nil || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v.sum.leave(surfaceOf(j), true)
	return nil
}

func (v *tableCheck) readFile(ctx context.Context, j fileJob) error {
	if j.f.FileFormat() != iceberg.ParquetFile {
		return warehouse.ErrUnsupported
	}
	f, err := openParquet(ctx, v.store, j.f.FilePath())
	if err != nil {
		return err
	}
	defer f.Close()
	bound, err := v.bind(f, j.f)
	if err != nil {
		return err
	}
	hits, err := scanKeys(ctx, f, bound)
	if err != nil {
		return err
	}
	if hits, err = v.pending(ctx, f, hits); err != nil {
		return err
	}
	v.sum.looked(surfaceOf(j), 1, f.read())
	v.offer(j)
	v.sum.mu.Lock()
	v.sum.rows += f.NumRows()
	v.sum.mu.Unlock()
	found := Finding{Surface: surfaceOf(j), Object: j.f.FilePath(), Snapshot: j.snap, Count: int64(hits.GetCardinality()), Certain: true, State: "in history",
		Projected: projected(bound)}
	if !hits.IsEmpty() && j.snap == 0 {
		// Only now does it matter which rows the tombstones hide.
		deleted, err := deletedRows(ctx, v.store, f, j.f.FilePath(), v.inv.deletesFor(j.f, j.seq))
		if err != nil {
			return err
		}
		hidden := int64(hits.AndCardinality(deleted))
		if hidden > 0 {
			v.sum.found(Finding{Surface: TombstonedRows, Object: found.Object, Count: hidden, Certain: true, State: "tombstoned", Projected: found.Projected})
		}
		found.Count, found.State = found.Count-hidden, "live"
		if v.o.Since > 0 && j.seq > v.o.Since {
			found.State = stateLater
		}
	}
	if found.Count > 0 {
		v.sum.found(found)
	}
	if j.snap == 0 {
		v.sum.looked(TombstonedRows, 1, 0)
	}
	// In history rows are what matters; a full look goes inside all the same.
	if !v.o.Files || j.snap != 0 && v.o.Mode != ModeFull {
		return nil
	}
	return v.inside(ctx, f, j, bound, hits)
}

// pending narrows matching rows to those that a redaction is still to be carried out on.
func (v *tableCheck) pending(ctx context.Context, f *parquetFile, hits *roaring64.Bitmap) (*roaring64.Bitmap, error) {
	if v.o.Action == nil || v.o.Action.Kind != warehouse.Redact || hits.IsEmpty() {
		return hits, nil
	}
	leaves, err := redactedLeaves(f, v.o.Action)
	if err != nil {
		return nil, err
	}
	return pendingRows(ctx, f, leaves, hits)
}

// keyed says whether a match's keys have to be gone: always, but for a
// redaction that leaves all columns of the key as they are.
func keyed(m warehouse.BoundMatch, a *warehouse.BoundAction) bool {
	if a == nil || a.Kind != warehouse.Redact {
		return true
	}
	return slices.ContainsFunc(m.Columns, func(c warehouse.ColumnRef) bool { return slices.Contains(a.Redefined, c.FieldID) })
}

func keyedMatches(m []warehouse.BoundMatch, a *warehouse.BoundAction) (out []warehouse.BoundMatch) {
	for _, b := range m {
		if keyed(b, a) {
			out = append(out, b)
		}
	}
	return out
}

// inside looks at dictionaries, bounds, filters and the footer.
func (v *tableCheck) inside(ctx context.Context, f *parquetFile, j fileJob, bound []*boundKeys, hits *roaring64.Bitmap) error {
	bound = slices.Clone(bound)
	for i := range bound {
		if !keyed(v.matches[i], v.o.Action) {
			bound[i] = nil
		}
	}
	deep := j.snap == 0 && (v.o.Only == nil || v.o.Only(j.f.FilePath()))
	r, err := checkBound(ctx, f, j.f.FileSizeBytes(), j.f.FilePath(), bound, hits, FileOptions{AllColumns: deep})
	if err != nil {
		return err
	}
	if j.snap == 0 {
		v.sum.merge(r)
		return nil
	}
	// A file of history goes as a whole: what is left inside one without a row of
	// a key is residue of history.
	at := Finding{Surface: History, Object: j.f.FilePath(), Snapshot: j.snap, Certain: true, State: "inside a file in history"}
	for _, f := range r.Findings {
		if f.Certain && hits.IsEmpty() {
			at.Count += f.Count
		}
	}
	if at.Count > 0 {
		v.sum.found(at)
	}
	return nil
}

// bind resolves the matches against a file. Where the file lacks a column that
// is an identity partition field, every row has the partition's value
// (Iceberg specification, "Column Projection").
func (v *tableCheck) bind(f *parquetFile, df iceberg.DataFile) ([]*boundKeys, error) {
	bound, err := bindFile(f, v.matches)
	if err != nil {
		return nil, err
	}
	for i, b := range bound {
		if b != nil && b.consts == nil {
			continue
		}
		// The partition's value comes before an initial default.
		p, err := v.meta.project(f, v.matches[i], df)
		if err != nil {
			return nil, err
		}
		if p != nil {
			bound[i] = p
		}
	}
	return bound, nil
}

// faults lowers the coverage of what unreadable manifests and lists refer to.
func (v *tableCheck) faults() {
	for _, head := range v.inv.broken {
		if head {
			v.sum.leave(LiveRows, true)
		}
		if v.o.Metadata || v.o.Orphans {
			v.sum.leave(History, true)
		}
		if v.o.Metadata {
			v.sum.leave(ManifestBounds, true)
		}
	}
}

// report finishes the surfaces.
func (v *tableCheck) report() *Report {
	s := v.sum
	v.faults()
	if s.bloom.Filters > 0 || v.o.Files {
		s.bloom.apply(&s.tally, "")
	}
	r := &Report{Target: v.target.Name, MetadataLocation: v.inv.loc, Mode: v.o.Mode, RowsRead: s.rows, Findings: s.tally.findings, Control: v.control}
	if v.inv.head != nil {
		r.SnapshotID = v.inv.head.SnapshotID
	}
	if v.o.Mode == ModeSample {
		r.SamplePPM, r.Seed = v.o.SamplePPM, v.o.Seed
	}
	byName := map[string]Surface{}
	for _, t := range s.tally.surfaces {
		byName[t.Name] = t
	}
	for _, name := range surfaceOrder {
		t, ok := byName[name]
		if !ok {
			t = Surface{Name: name, Result: NotChecked}
		}
		r.Surfaces = append(r.Surfaces, s.finish(t, ok))
	}
	for _, t := range r.Surfaces {
		r.BytesRead += t.BytesRead
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return slices.Index(surfaceOrder, a.Surface) - slices.Index(surfaceOrder, b.Surface)
	})
	return r
}

var surfaceOrder = []string{LiveRows, TombstonedRows, History, DataPages, Dictionaries, Statistics, PageIndexes, BloomFilters,
	FileMetadata, FileGaps, ManifestBounds, PartitionValues, ListSummaries, EqualityDeletes, PositionDeletes, Puffin, Paths, TableMetadata, Orphans}

// finish computes coverage and the result of a surface that nothing was found on.
func (s *summary) finish(t Surface, looked bool) Surface {
	if !looked {
		return t
	}
	unread := s.unread[t.Name]
	if t.CoveragePPM = full; t.Total > 0 {
		t.CoveragePPM = t.Objects * full / t.Total
	}
	switch {
	case t.Result == Fail || t.Result == Residue:
	case t.Total == 0:
		t.Result = NotPresent
	case t.Objects == 0:
		t.Result = NotChecked
	}
	if unread > 0 {
		t.Note = joinNote(t.Note, fmt.Sprintf("%d could not be read", unread))
	}
	if t.Possible > 0 && t.Name != BloomFilters {
		t.Note = joinNote(t.Note, fmt.Sprintf("%d possible", t.Possible))
	}
	return t
}

func joinNote(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
