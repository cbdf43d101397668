package iceberg

import (
	"bytes"
	"context"
	"fmt"

	"github.com/apache/iceberg-go"
	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/warehouse"
)

// readAhead is how many manifests are read at once.
const readAhead = 4

// dataUnit is what one data manifest of the head means to a commit. Manifests
// are immutable, so a unit outlives the attempt that read it: a later attempt
// reads only the manifests that appeared meanwhile. That keeps the time
// between loading the head and swapping it short however large the table is,
// and so a stream of small commits cannot starve a run.
type dataUnit struct {
	m          iceberg.ManifestFile
	planned    bool      // the planned snapshot lists it too
	sources    []pathKey // live files that the commit replaces or drops
	fresh      []pathKey // live files that the plan may not have seen
	alive      []pathKey // live files that a position delete or DV names
	tombstones int       // DELETED entries, each of which may hold erased values

	files, rows, bytes int64           // live
	minSeq             map[int32]int64 // lowest sequence number of kept files, by partition with equality deletes
	minAny             int64           // and of all partitions, where a global equality delete is live; -1: none

	written    bool
	kept, gone []iceberg.ManifestFile // in place of m
	removed    changes
}

// deleteUnit is the same for a delete manifest.
type deleteUnit struct {
	m          iceberg.ManifestFile
	planned    bool
	entries    []*deleteEntry
	tombstones int

	written    bool
	writtenFor pathKey // which removal kept and gone were written for
	kept, gone []iceberg.ManifestFile
}

// deleteEntry is one live delete file of the head.
type deleteEntry struct {
	key    pathKey
	file   warehouse.DeleteFile
	rows   int64
	part   int32
	global bool // written under an unpartitioned spec: an equality delete of all partitions
	byPath bool // its entry names one data file: it applies whatever the partition

	covers   []pathKey // data files it names (position deletes and DVs), once known
	known    bool
	verified bool // every source it covers was planned with it
}

func newDeleteEntry(e iceberg.ManifestEntry, parts *partitions, global bool) *deleteEntry {
	df := e.DataFile()
	d := &deleteEntry{file: deleteFileOf(e), rows: df.Count(), part: parts.of(df), global: global}
	d.key = deleteKeyOf(d.file.Path, d.file.ContentOffset)
	if d.file.Kind == deleteEquality {
		return d
	}
	if p := df.ReferencedDataFile(); p != nil && *p != "" {
		d.covers, d.known, d.byPath = []pathKey{keyOf(*p)}, true, true
		return d
	}
	// Equal bounds name one path. They may have been cut to a prefix of it (trap
	// S7), which no file name ends like; then the contents say which files.
	lower := df.LowerBoundValues()[filePathField]
	d.byPath = len(lower) > 0 && bytes.Equal(lower, df.UpperBoundValues()[filePathField])
	if d.byPath && bytes.HasSuffix(lower, []byte(".parquet")) {
		d.covers, d.known = []pathKey{keyOf(string(lower))}, true
	}
	return d
}

// loadUnits reads the manifests of the list that were not read before.
func (c *committer) loadUnits(ctx context.Context, list []iceberg.ManifestFile) error {
	if err := c.loadDeletes(ctx, list); err != nil {
		return err
	}
	if err := c.loadCoverage(ctx, list); err != nil {
		return err
	}
	todo := c.missing(list, iceberg.ManifestContentData, func(path string) bool { return c.data[path] != nil })
	units := make([]*dataUnit, len(todo))
	err := inParallel(ctx, len(todo), func(ctx context.Context, i int) (err error) {
		units[i], err = c.scanData(ctx, todo[i])
		return err
	})
	if err != nil {
		return fmt.Errorf("read manifest: %w", hide(err))
	}
	for _, u := range units {
		c.data[u.m.FilePath()] = u
	}
	return nil
}

func (c *committer) missing(list []iceberg.ManifestFile, content iceberg.ManifestContent, have func(string) bool) []iceberg.ManifestFile {
	var todo []iceberg.ManifestFile
	for _, m := range list {
		if m.ManifestContent() == content && !have(m.FilePath()) {
			todo = append(todo, m)
		}
	}
	return todo
}

func inParallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	p := pool.New().WithMaxGoroutines(readAhead).WithContext(ctx).WithCancelOnError().WithFirstError()
	for i := range n {
		p.Go(func(ctx context.Context) error { return do(ctx, i) })
	}
	return p.Wait()
}

func (c *committer) scanData(ctx context.Context, m iceberg.ManifestFile) (*dataUnit, error) {
	u := &dataUnit{m: m, planned: c.planned[m.FilePath()], minAny: -1}
	eq := c.eqMax.any > 0 && m.MinSequenceNum() < c.eqMax.any
	for e, err := range iceberg.EntriesWithProjection(c.t.fs(ctx), m, false, iceberg.ManifestEntryProjection{}) {
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if e.Status() == iceberg.EntryStatusDELETED {
			u.tombstones++
			continue
		}
		df := e.DataFile()
		u.files++
		u.rows += df.Count()
		u.bytes += df.FileSizeBytes()
		key := keyOf(df.FilePath())
		if c.covered.has(key) {
			u.alive = append(u.alive, key)
		}
		if _, ok := c.sources[key]; ok {
			u.sources = append(u.sources, key)
			continue
		}
		if !u.planned && !c.resolved.has(key) {
			u.fresh = append(u.fresh, key)
		}
		if eq {
			u.noteSequence(c, df, e.SequenceNum())
		}
	}
	return u, nil
}

// noteSequence remembers how old the oldest kept file of a partition is: an
// equality delete is needed as long as an older file of its partition lives.
func (u *dataUnit) noteSequence(c *committer, df iceberg.DataFile, seq int64) {
	if c.eqMax.global > seq && (u.minAny < 0 || seq < u.minAny) {
		u.minAny = seq
	}
	part := c.parts.of(df)
	if c.eqMax.part[part] <= seq {
		return
	}
	if u.minSeq == nil {
		u.minSeq = map[int32]int64{}
	}
	if old, ok := u.minSeq[part]; !ok || seq < old {
		u.minSeq[part] = seq
	}
}

// removalKey identifies a set of delete files that leave a manifest.
func removalKey(keys []pathKey) pathKey {
	var sum pathKey
	for _, k := range keys {
		sum.Hi += k.Hi
		sum.Lo ^= k.Lo*0x9e3779b97f4a7c15 + k.Hi
	}
	sum.Lo += uint64(len(keys))
	return sum
}

// rewrite writes a manifest's live entries that stay as EXISTING, with every
// field as it was, and those that leave as DELETED into a manifest of their
// own. DELETED entries of earlier snapshots are dropped: they keep bounds and
// partition values of files that are gone, and a manifest's own snapshot is
// the only one they mean anything to.
func (a *author) rewrite(ctx context.Context, m iceberg.ManifestFile, leaves func(iceberg.ManifestEntry) (bool, error)) (kept, gone []iceberg.ManifestFile, err error) {
	spec := int(m.PartitionSpecID())
	stay := &roll{a: a, spec: spec, content: m.ManifestContent()}
	out := &roll{a: a, spec: spec, content: m.ManifestContent()}
	defer stay.abort()
	defer out.abort()
	for e, err := range m.Entries(a.t.fs(ctx), true) {
		if err != nil {
			return nil, nil, fmt.Errorf("read manifest: %w", hide(err))
		}
		leave, err := leaves(e)
		if err != nil {
			return nil, nil, err
		}
		if leave {
			err = out.deleted(ctx, e)
		} else {
			err = stay.existing(ctx, e)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if err := stay.close(); err != nil {
		return nil, nil, err
	}
	if err := out.close(); err != nil {
		return nil, nil, err
	}
	return stay.done, out.done, nil
}
