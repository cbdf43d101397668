package iceberg

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// history is what a purge decided about the snapshots and refs of a table.
type history struct {
	expire    []table.Snapshot
	dropRefs  []string
	blockers  []warehouse.Blocker
	dirtyHead bool // the head's manifests carry tombstones
	strips    []*strip
}

// settled says that there is nothing to swap.
func (h *history) settled() bool {
	return len(h.expire) == 0 && len(h.dropRefs) == 0 && !h.newHead()
}

// newHead says that the head has to be replaced.
func (h *history) newHead() bool { return h.dirtyHead || len(h.strips) > 0 }

// line is the point in a table's history from which on it holds no erased
// values: the run's commit.
type line struct {
	head *table.Snapshot // of the branch that was committed to
	snap *table.Snapshot // nil: expired already
	prev *table.Snapshot // the one before it, if it is there still
	seq  int64
	ours bool // written by this run: no manifest of it carries older tombstones
	// strict: other branches were committed to as well, so that sequence numbers
	// say nothing of whose history a snapshot is.
	strict bool
	keyed  bool // partition values hold keys, so even stripped tombstones do
}

func (p *purge) line(meta table.Metadata) (*line, error) {
	l := newLine(meta, p.req.Committed, meta.CurrentSnapshot(), p.req.RunID)
	if l.snap == nil {
		// A former call of this purge expired it, or somebody else did.
		if head := meta.CurrentSnapshot(); meta.Version() > 1 && head.SequenceNumber < l.seq {
			return nil, fmt.Errorf("the table's history ends before the run's snapshot: %w", warehouse.ErrConflict)
		}
		return l, nil
	}
	if !onMain(meta, l.snap) {
		return nil, fmt.Errorf("the snapshot of the run was rolled back, nothing may be purged: %w", warehouse.ErrConflict)
	}
	return l, nil
}

func newLine(meta table.Metadata, c warehouse.Committed, head *table.Snapshot, runID string) *line {
	l := &line{head: head, seq: c.After.SequenceNumber, keyed: c.After.KeyPartitioned || c.Before.KeyPartitioned}
	l.snap = meta.SnapshotByID(c.After.SnapshotID)
	l.prev = meta.SnapshotByID(c.Before.SnapshotID)
	if l.snap != nil {
		l.seq = l.snap.SequenceNumber
		l.ours = l.snap.Summary != nil && l.snap.Summary.Properties[propRun] == runID
	}
	return l
}

// lines are the run's commits to the branch at hand, first, and to others. A
// branch whose commit was rolled back has none.
func (p *purge) lines(meta table.Metadata, own *line) []*line {
	out := []*line{own}
	for branch, c := range p.req.Also {
		head := meta.SnapshotByName(branch)
		if head == nil || c.NoChange && c.After.SnapshotID == 0 {
			continue
		}
		if l := newLine(meta, c, head, p.req.RunID); l.snap == nil || leadsTo(meta, l.snap, head) {
			l.strict = true
			out = append(out, l)
		}
	}
	own.strict = len(out) > 1
	return out
}

// history decides about every snapshot and ref.
func (p *purge) history(ctx context.Context, meta table.Metadata) (*history, error) {
	h := &history{}
	head := meta.CurrentSnapshot()
	if head == nil {
		return h, nil
	}
	if p.req.Committed.NoChange && p.req.Committed.After.SnapshotID == 0 {
		return h, nil // the table was empty: whatever it has now came later
	}
	l, err := p.line(meta)
	if err != nil {
		return nil, err
	}
	p.since = sinceOf(meta, l, p.req.RunID)
	if p.since, err = p.foundClean(ctx, p.since); err != nil {
		return nil, err
	}
	stay := false
	if h.strips, stay, err = p.keyDeletes(ctx, meta, l); err != nil {
		return nil, fmt.Errorf("look for keys in equality deletes: %w", err)
	}
	if stay {
		h.blockers = append(h.blockers, warehouse.Blocker{
			Ref: "equality delete files", Type: "delete file", SnapshotID: head.SnapshotID,
			Reason: "they name keys whose rows are still stored in files that the run left as they are",
		})
	}
	holds, err := p.holding(ctx, meta, p.lines(meta, l), h.strips)
	if err != nil {
		return nil, err
	}
	if h.dirtyHead, err = p.t.hasTombstones(ctx, head); err != nil {
		return nil, err
	}
	h.dirtyHead = h.dirtyHead || l.told(head)
	pinned := p.refs(ctx, meta, holds, h)
	if !h.newHead() {
		// Without a new head the present one stays, whatever it is.
		pinned[head.SnapshotID] = true
	}
	for _, s := range meta.Snapshots() {
		if holds[s.SnapshotID] && !pinned[s.SnapshotID] {
			h.expire = append(h.expire, s)
		}
	}
	return h, nil
}

// refs sorts the refs into those to drop and those that block, and returns the
// snapshots that stay because of a ref.
func (p *purge) refs(ctx context.Context, meta table.Metadata, holds map[int64]bool, h *history) map[int64]bool {
	pinned := map[int64]bool{}
	now := clock.Now(ctx)
	for name, ref := range meta.Refs() {
		if name == p.t.headRef() {
			continue
		}
		_, also := p.req.Also[name]
		branch := name == table.MainBranch || p.req.Selection.Branches && ref.SnapshotRefType == table.BranchRef
		switch {
		case also: // its own purge comes to it
			pinned[ref.SnapshotID] = true
			continue
		case protectsRun(name, ref, p.req.RunID), isProtectRef(name, ref) && lapsed(meta, ref, now): // of a run that was undone, say
			h.dropRefs = append(h.dropRefs, name)
			continue
		case !holds[ref.SnapshotID]:
			pinned[ref.SnapshotID] = true
			continue
		case !branch && !isProtectRef(name, ref) && (p.req.Selection.Refs == "drop" || p.req.Selection.Refs != "report" && lapsed(meta, ref, now)):
			h.dropRefs = append(h.dropRefs, name)
			continue
		}
		reason := "pins a snapshot from before the erasure"
		switch {
		case isProtectRef(name, ref):
			reason = "protects another run until its grace is over"
		case branch:
			reason = "is a branch that the run did not erase"
		case ref.MaxRefAgeMs != nil && *ref.MaxRefAgeMs > 0:
			reason += "; by its own max-ref-age-ms it lapses on " + lapses(meta, ref).Format(time.DateOnly)
		}
		h.blockers = append(h.blockers, warehouse.Blocker{
			Ref: name, Type: string(ref.SnapshotRefType), SnapshotID: ref.SnapshotID, Reason: reason,
		})
		pinned[ref.SnapshotID] = true
	}
	slices.Sort(h.dropRefs)
	slices.SortFunc(h.blockers, func(a, b warehouse.Blocker) int { return strings.Compare(a.Ref, b.Ref) })
	return pinned
}

// lapses is when a ref's own retention ends: its snapshot's age counts
// (specification, "Snapshot Retention Policy").
func lapses(meta table.Metadata, ref table.SnapshotRef) time.Time {
	s := meta.SnapshotByID(ref.SnapshotID)
	if s == nil || ref.MaxRefAgeMs == nil || *ref.MaxRefAgeMs <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(s.TimestampMs + *ref.MaxRefAgeMs).UTC()
}

func lapsed(meta table.Metadata, ref table.SnapshotRef, now time.Time) bool {
	at := lapses(meta, ref)
	return !at.IsZero() && now.After(at)
}

// heldCache remembers which snapshots hold erased values. Snapshots are
// immutable, so a later attempt reads only those that are new.
type heldCache struct {
	strips pathKey // the answers hold for these delete files
	answer map[int64]bool
	listed map[string]bool // by delete manifest: does it list one of them
}

// holding says of each snapshot whether it may hold erased values.
func (p *purge) holding(ctx context.Context, meta table.Metadata, lines []*line, strips []*strip) (map[int64]bool, error) {
	keys := make([]pathKey, len(strips))
	for i, s := range strips {
		keys[i] = s.key
	}
	if sum := removalKey(keys); p.held.answer == nil || p.held.strips != sum {
		p.held = heldCache{strips: sum, answer: map[int64]bool{}, listed: map[string]bool{}}
	}
	var open []table.Snapshot
	var from [][]*line
	for _, s := range meta.Snapshots() {
		if _, known := p.held.answer[s.SnapshotID]; known {
			continue
		}
		reached := slices.DeleteFunc(slices.Clone(lines), func(l *line) bool { return !l.reaches(meta, &s) })
		if len(reached) == 0 || slices.ContainsFunc(reached, func(l *line) bool { return l.told(&s) }) {
			p.held.answer[s.SnapshotID] = true
			continue
		}
		open, from = append(open, s), append(from, reached)
	}
	err := p.t.eachList(ctx, open, func(i int, list []iceberg.ManifestFile, err error) error {
		if err != nil {
			return fmt.Errorf("read manifest list: %w", hide(err))
		}
		p.held.answer[open[i].SnapshotID], err = p.holds(ctx, meta, from[i], list, strips)
		return err
	})
	if err != nil {
		p.held = heldCache{}
	}
	return p.held.answer, err
}

// holds says so of one snapshot at or after the line, by its manifests.
func (p *purge) holds(ctx context.Context, meta table.Metadata, lines []*line, list []iceberg.ManifestFile, strips []*strip) (bool, error) {
	for _, m := range list {
		if len(strips) > 0 && m.ManifestContent() == iceberg.ManifestContentDeletes {
			yes, err := p.listsStripped(ctx, m, strips, p.held.listed)
			if yes || err != nil {
				return yes, err
			}
		}
		if m.DeletedDataFiles() == 0 || slices.ContainsFunc(lines, func(l *line) bool { return l.clears(meta, m) }) {
			continue
		}
		return true, nil
	}
	return false, nil
}

// clears says that the tombstones of a manifest tell nothing of erased rows.
// Those of the run itself carry no statistics, only partition values; all
// others that reach back to before the line carry bounds.
func (l *line) clears(meta table.Metadata, m iceberg.ManifestFile) bool {
	return l.after(meta, m) || l.ours && m.SnapshotID() == l.snap.SnapshotID && !l.keyed
}

// listsStripped says whether a delete manifest lists a delete file that names
// keys. listed remembers the answer of each manifest.
func (p *purge) listsStripped(ctx context.Context, m iceberg.ManifestFile, strips []*strip, listed map[string]bool) (bool, error) {
	yes, ok := listed[m.FilePath()]
	if ok {
		return yes, nil
	}
	yes, err := p.t.lists(ctx, m, stripKeys(strips))
	if err == nil {
		listed[m.FilePath()] = yes
	}
	return yes, err
}

func stripKeys(strips []*strip) pathSet {
	keys := pathSet{}
	for _, s := range strips {
		keys.add(s.key)
	}
	return keys
}

// reaches says that a snapshot is the line's or descends from it.
func (l *line) reaches(meta table.Metadata, s *table.Snapshot) bool {
	if l.snap == nil {
		if l.prev != nil && !older(l.prev, s) {
			return false
		}
		return l.leads(meta, s) && (meta.Version() == 1 || s.SequenceNumber > l.seq)
	}
	chain, complete := ancestors(meta, s)
	if slices.ContainsFunc(chain, func(a *table.Snapshot) bool { return a.SnapshotID == l.snap.SnapshotID }) {
		return true
	}
	return !complete && older(l.snap, s) && l.leads(meta, s)
}

// told says that the line's own snapshot is another writer's and names
// partitions in its summary, where partition values are keys. It may be the one
// that deleted the rows.
func (l *line) told(s *table.Snapshot) bool {
	if l.snap == nil || s.SnapshotID != l.snap.SnapshotID || l.ours || !l.keyed || s.Summary == nil {
		return false
	}
	for k := range s.Summary.Properties {
		if strings.HasPrefix(k, "partitions.") {
			return true
		}
	}
	return false
}

// sinceOf is the time of the line, or, once a former call has expired it, that
// of the purge's own snapshot; 0 = not known.
func sinceOf(meta table.Metadata, l *line, runID string) int64 {
	if l.snap != nil {
		return l.snap.TimestampMs
	}
	for _, s := range meta.Snapshots() {
		if s.Summary != nil && s.Summary.Properties[propPurged] == runID {
			return s.TimestampMs
		}
	}
	return 0
}

// leads says that a snapshot belongs to the history of the line's branch.
func (l *line) leads(meta table.Metadata, s *table.Snapshot) bool {
	if !l.strict {
		return leadsTo(meta, s, l.head)
	}
	chain, _ := ancestors(meta, l.head)
	return slices.ContainsFunc(chain, func(a *table.Snapshot) bool { return a.SnapshotID == s.SnapshotID })
}

// after says that a manifest was written after the line: what it calls DELETED
// was live at the line, and so without erased rows.
func (l *line) after(meta table.Metadata, m iceberg.ManifestFile) bool {
	if meta.Version() > 1 {
		return m.SequenceNum() > l.seq
	}
	s := meta.SnapshotByID(m.SnapshotID())
	switch {
	case s == nil:
		return false
	case l.snap == nil: // and s is there: it is not the line's
		return l.prev == nil || older(l.prev, s)
	}
	return s.SnapshotID != l.snap.SnapshotID && older(l.snap, s)
}

// hasTombstones says whether a snapshot's manifests carry DELETED entries.
func (t *Table) hasTombstones(ctx context.Context, s *table.Snapshot) (bool, error) {
	list, err := s.Manifests(t.fs(ctx))
	if err != nil {
		return false, fmt.Errorf("read manifest list: %w", hide(err))
	}
	for _, m := range list {
		if m.DeletedDataFiles() > 0 {
			return true, nil
		}
		if m.DeletedDataFiles() < 0 {
			n, err := t.tombstones(ctx, m)
			if n > 0 || err != nil {
				return n > 0, err
			}
		}
	}
	return false, nil
}

func (t *Table) tombstones(ctx context.Context, m iceberg.ManifestFile) (n int64, err error) {
	for e, err := range iceberg.EntriesWithProjection(t.fs(ctx), m, false, iceberg.ManifestEntryProjection{}) {
		if err != nil {
			return 0, fmt.Errorf("read manifest: %w", hide(err))
		}
		if e.Status() == iceberg.EntryStatusDELETED {
			n++
		}
	}
	return n, nil
}

// cleanCache keeps what attempts of one purge wrote. Manifests are immutable,
// so what was written in place of one holds for every later head that lists it.
type cleanCache struct {
	strips   pathKey // the answers hold for these delete files
	kept     map[string]cleanManifest
	left     map[pathKey]iceberg.DataFile // entries of the stripped delete files
	stripped bool                         // they were written without the keys:
	added    []iceberg.ManifestFile       // the manifests of what is left of them
	stats    changes
}

// cleanManifest is what stands in place of a manifest.
type cleanManifest struct {
	files   []iceberg.ManifestFile
	dropped int64 // tombstones
}

func newCleanCache(strips []*strip) cleanCache {
	return cleanCache{strips: stripSum(strips), kept: map[string]cleanManifest{}, left: map[pathKey]iceberg.DataFile{}}
}

// holds says that what was written is for these delete files.
func (c *cleanCache) holds(strips []*strip) bool {
	return c.kept != nil && c.strips == stripSum(strips)
}

// stripSum identifies delete files and the tuples that leave them, which
// depends on the data files that are live.
func stripSum(strips []*strip) pathKey {
	var keys []pathKey
	for _, s := range strips {
		keys = append(keys, s.key)
		for tuple := range s.hits {
			if s.leaves([]byte(tuple)) {
				keys = append(keys, keyOf(tuple))
			}
		}
	}
	return removalKey(keys)
}

// clean lists a snapshot's manifests without tombstones: those of DELETED
// entries alone are left out, mixed ones are rewritten, data and delete
// manifests alike. Entries of stripped delete files leave without a trace.
func (a *author) clean(ctx context.Context, s *table.Snapshot, strips []*strip, cache *cleanCache) (list []iceberg.ManifestFile, dropped int64, err error) {
	manifests, err := s.Manifests(a.t.fs(ctx))
	if err != nil {
		return nil, 0, fmt.Errorf("read manifest list: %w", hide(err))
	}
	keys := stripKeys(strips)
	for _, m := range manifests {
		c, ok := cache.kept[m.FilePath()]
		if !ok {
			if c, err = a.cleanOne(ctx, m, keys, cache.left); err != nil {
				return nil, 0, err
			}
			cache.kept[m.FilePath()] = c
		}
		list = append(list, c.files...)
		dropped += c.dropped
	}
	return list, dropped, nil
}

func (a *author) cleanOne(ctx context.Context, m iceberg.ManifestFile, keys pathSet, left map[pathKey]iceberg.DataFile) (c cleanManifest, err error) {
	c.dropped = int64(m.DeletedDataFiles())
	if c.dropped < 0 {
		if c.dropped, err = a.t.tombstones(ctx, m); err != nil {
			return c, err
		}
	}
	stripped := false
	if len(keys) > 0 && m.ManifestContent() == iceberg.ManifestContentDeletes {
		if stripped, err = a.t.lists(ctx, m, keys); err != nil {
			return c, err
		}
	}
	if c.dropped == 0 && !stripped {
		c.files = []iceberg.ManifestFile{m}
		return c, nil
	}
	c.files, err = a.keepEntries(ctx, m, func(df iceberg.DataFile) bool {
		key := keyOf(df.FilePath())
		if !stripped || !keys.has(key) {
			return true
		}
		left[key] = df
		return false
	})
	return c, err
}

// keepEntries rewrites a manifest with some of its live entries and no others.
func (a *author) keepEntries(ctx context.Context, m iceberg.ManifestFile, keep func(iceberg.DataFile) bool) ([]iceberg.ManifestFile, error) {
	out := &roll{a: a, spec: int(m.PartitionSpecID()), content: m.ManifestContent()}
	defer out.abort()
	for e, err := range m.Entries(a.t.fs(ctx), true) {
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", hide(err))
		}
		if !keep(e.DataFile()) {
			continue
		}
		if err := out.existing(ctx, e); err != nil {
			return nil, err
		}
	}
	err := out.close()
	return out.done, err
}
