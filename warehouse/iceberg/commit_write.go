package iceberg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// addedManifests are the manifests of the replacements. Sources that turn up
// later get manifests of their own.
type addedManifests struct {
	listed pathSet // the sources whose outputs they list
	files  []iceberg.ManifestFile
	stats  changes
}

// maxAdded is how many manifests of replacements there may be before they are
// written anew as few.
const maxAdded = 64

// write authors the snapshot on top of head and swaps.
func (c *committer) write(ctx context.Context, tbl *table.Table, head *table.Snapshot, list []iceberg.ManifestFile, live map[pathKey]bool, out *warehouse.Committed, d *draft) (*warehouse.Committed, error) {
	if c.req.Check != nil {
		if err := c.req.Check(c.totals(list, live)); err != nil {
			return nil, err
		}
	}
	c.attempts++
	var snap *table.Snapshot
	// What the commit says of itself is read while its list is written.
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	p.Go(func(ctx context.Context) (err error) {
		snap, err = c.author.writeList(ctx, tbl.Metadata(), head, *d)
		return err
	})
	p.Go(func(ctx context.Context) (err error) {
		out.Before, err = c.t.describe(ctx, tbl)
		return err
	})
	p.Go(func(ctx context.Context) (err error) {
		out.Withdrawn, err = c.withdrawn(ctx, live)
		return err
	})
	err := p.Wait()
	if err != nil {
		return nil, err
	}
	after, err := c.author.commit(ctx, tbl, snap, d.tag, c.req.Fence)
	var swap *swapError
	if err == nil || errors.As(err, &swap) && !swap.conflict() {
		c.unsettled = true
	}
	if err != nil {
		return nil, err
	}
	if out.After, err = c.t.describe(ctx, after); err != nil {
		return nil, err
	}
	out.Before.KeyPartitioned = c.req.Plan.Description.KeyPartitioned
	out.After.KeyPartitioned = out.Before.KeyPartitioned
	return out, nil
}

func (c *committer) totals(list []iceberg.ManifestFile, live map[pathKey]bool) warehouse.Totals {
	t := warehouse.Totals{Files: int64(len(live))}
	for _, m := range list {
		if u := c.data[m.FilePath()]; u != nil {
			t.Rows += u.rows
		}
	}
	for k := range live {
		t.Erased += c.sources[k].erased
		t.Changed += c.sources[k].changed
		t.Bytes += c.sources[k].bytes
	}
	return t
}

// draft writes the manifests of the new snapshot, or takes those written by an
// earlier attempt where what they stand for has not changed.
func (c *committer) draft(ctx context.Context, head *table.Snapshot, list []iceberg.ManifestFile, live map[pathKey]bool) (*warehouse.Committed, *draft, error) {
	out := &warehouse.Committed{RunID: c.req.RunID, Group: c.req.Group, Results: c.standing(live)}
	for k := range live {
		s := c.sources[k]
		out.RowsErased += s.erased
		out.RowsChanged += s.changed
		out.RowsAlreadyDeleted += s.deleted
		if s.status == warehouse.Dropped {
			out.FilesDropped++
		} else {
			out.FilesReplaced++
		}
	}
	d := &draft{op: table.OpOverwrite, exact: &totals{}}
	data, err := c.dataManifests(ctx, list, d)
	if err != nil {
		return nil, nil, err
	}
	deletes, err := c.deleteManifests(ctx, list, c.removable(list, live), d)
	if err != nil {
		return nil, nil, err
	}
	added, err := c.addedManifests(ctx, live)
	if err != nil {
		return nil, nil, err
	}
	d.stats.add(added.stats)
	d.manifests = slices.Concat(added.files, data, deletes)
	out.DeleteFilesRemoved = d.stats.removedPosFiles + d.stats.removedEqFiles + d.stats.removedDVs
	d.settle()
	d.props = maps.Clone(c.req.Properties)
	if d.props == nil {
		d.props = map[string]string{}
	}
	d.props[propRun] = c.req.RunID
	d.props[propGroup] = strconv.Itoa(c.req.Group)
	d.props[propReplaced] = strconv.FormatInt(out.FilesReplaced, 10)
	d.props[propDropped] = strconv.FormatInt(out.FilesDropped, 10)
	d.props[propErased] = strconv.FormatInt(out.RowsErased, 10)
	if out.RowsChanged > 0 {
		d.props[propChanged] = strconv.FormatInt(out.RowsChanged, 10)
	}
	d.props[propDeleted] = strconv.FormatInt(out.RowsAlreadyDeleted, 10)
	d.props[propDeleteFiles] = strconv.FormatInt(out.DeleteFilesRemoved, 10)
	if !c.req.ProtectUntil.IsZero() {
		d.props[propProtectUntil] = c.req.ProtectUntil.UTC().Format(time.RFC3339)
	}
	if c.req.Grace > 0 {
		d.tag = c.protect(ctx, head)
		out.ProtectRef = d.tag.name
	}
	return out, d, nil
}

// settle turns the totals of the snapshot before into those after.
func (d *draft) settle() {
	t, s := d.exact, d.stats
	t.dataFiles += s.addedFiles - s.removedFiles
	t.rows += s.addedRows - s.removedRows
	t.deleteFiles += s.addedPosFiles + s.addedEqFiles - s.removedPosFiles - s.removedEqFiles - s.removedDVs
	t.bytes += s.addedBytes + s.addedDeleteBytes - s.removedBytes - s.removedDeleteBytes
	t.posDeletes += s.addedPosRows - s.removedPosRows
	t.eqDeletes += s.addedEq - s.removedEq
}

// dataManifests carries data manifests that have nothing to lose by reference
// and rewrites those with a source or with somebody's tombstones.
func (c *committer) dataManifests(ctx context.Context, list []iceberg.ManifestFile, d *draft) ([]iceberg.ManifestFile, error) {
	var units, todo []*dataUnit
	for _, m := range list {
		u := c.data[m.FilePath()]
		if u == nil || m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		units = append(units, u)
		if !u.written && (len(u.sources) > 0 || u.tombstones > 0) {
			todo = append(todo, u)
		}
	}
	err := inParallel(ctx, len(todo), func(ctx context.Context, i int) error { return c.rewriteData(ctx, todo[i]) })
	if err != nil {
		return nil, err
	}
	var kept, gone []iceberg.ManifestFile
	for _, u := range units {
		d.exact.dataFiles += u.files
		d.exact.rows += u.rows
		d.exact.bytes += u.bytes
		switch {
		case u.written:
			kept = append(kept, u.kept...)
			gone = append(gone, u.gone...)
			d.stats.add(u.removed)
		case u.files > 0:
			kept = append(kept, u.m)
		}
	}
	return append(kept, gone...), nil
}

func (c *committer) rewriteData(ctx context.Context, u *dataUnit) (err error) {
	u.removed = changes{}
	u.kept, u.gone, err = c.author.rewrite(ctx, u.m, func(e iceberg.ManifestEntry) (bool, error) {
		df := e.DataFile()
		s := c.sources[keyOf(df.FilePath())]
		if s == nil {
			return false, nil
		}
		if df.Count() != s.rows {
			return false, fmt.Errorf("a data file is listed with %d rows, its result read %d", df.Count(), s.rows)
		}
		s.part, s.sortOrder, s.firstRow, s.entrySeq, s.listed = c.parts.of(df), df.SortOrderID(), df.FirstRowID(), e.SequenceNum(), true
		u.removed.removeData(df.Count(), df.FileSizeBytes())
		return true, nil
	})
	u.written = err == nil
	return err
}

// deleteManifests does the same for delete manifests.
func (c *committer) deleteManifests(ctx context.Context, list []iceberg.ManifestFile, remove map[*deleteEntry]bool, d *draft) ([]iceberg.ManifestFile, error) {
	var kept, gone []iceberg.ManifestFile
	for _, m := range list {
		u := c.dels[m.FilePath()]
		if u == nil || m.ManifestContent() != iceberg.ManifestContentDeletes {
			continue
		}
		var leaving []pathKey
		removed := changes{}
		for _, e := range u.entries {
			d.exact.deleteFiles++
			d.exact.bytes += e.file.Size
			if e.file.Kind == deleteEquality {
				d.exact.eqDeletes += e.rows
			} else {
				d.exact.posDeletes += e.rows
			}
			if remove[e] {
				leaving = append(leaving, e.key)
				removed.removeDelete(e.file.Kind, e.rows, e.file.Size)
			}
		}
		if len(leaving) == 0 && u.tombstones == 0 {
			if len(u.entries) > 0 {
				kept = append(kept, u.m)
			}
			continue
		}
		if err := c.rewriteDeletes(ctx, u, leaving); err != nil {
			return nil, err
		}
		kept = append(kept, u.kept...)
		gone = append(gone, u.gone...)
		d.stats.add(removed)
	}
	return append(kept, gone...), nil
}

func (c *committer) rewriteDeletes(ctx context.Context, u *deleteUnit, leaving []pathKey) error {
	want := removalKey(leaving)
	if u.written && u.writtenFor == want {
		return nil
	}
	set := pathSet{}
	for _, k := range leaving {
		set.add(k)
	}
	kept, gone, err := c.author.rewrite(ctx, u.m, func(e iceberg.ManifestEntry) (bool, error) {
		offset := int64(0)
		if n := e.DataFile().ContentOffset(); n != nil {
			offset = *n
		}
		return set.has(deleteKeyOf(e.DataFile().FilePath(), offset)), nil
	})
	if err != nil {
		return err
	}
	u.kept, u.gone, u.written, u.writtenFor = kept, gone, true, want
	return nil
}

// addedManifests lists the replacements, each with the partition, the sort
// order and the row ids of the file it stands in for, and with the sequence
// number up to which deletes are folded into it.
func (c *committer) addedManifests(ctx context.Context, live map[pathKey]bool) (addedManifests, error) {
	for k := range c.added.listed {
		if !live[k] {
			c.added = addedManifests{} // it vanished
			break
		}
	}
	if len(c.added.files) > maxAdded {
		c.added = addedManifests{}
	}
	later := len(c.added.listed) > 0
	if !later {
		c.added.listed = pathSet{}
	}
	rolls := map[int32]*roll{}
	packed := pathSet{}
	defer func() {
		for _, r := range rolls {
			r.abort()
		}
	}()
	out := addedManifests{listed: pathSet{}}
	for r, err := range c.toList(ctx, later) {
		if err != nil {
			return out, err
		}
		key := keyOf(r.Task.File.Path)
		if !live[key] || r.Status != warehouse.Rewritten || c.added.listed.has(key) {
			continue
		}
		s := c.sources[key]
		if !s.listed {
			return out, fmt.Errorf("result of task %d: its file's entry was not met", r.Task.Index)
		}
		if r.Packed != nil {
			if packed.has(s.pack) {
				continue // the pack's entry is there
			}
			packed.add(s.pack)
		}
		seq, err := c.packEntry(s)
		if err != nil {
			return out, err
		}
		part := c.parts.get(s.part)
		w := rolls[part.spec]
		if w == nil {
			w = &roll{a: c.author, spec: int(part.spec), content: iceberg.ManifestContentData, limit: manifestTarget}
			rolls[part.spec] = w
		}
		df, err := c.author.dataFile(part, r.Output, s.sortOrder, s.firstRow)
		if err != nil {
			return out, err
		}
		if err := w.added(ctx, c.author.sequence(seq), df); err != nil {
			return out, err
		}
		out.listed.add(key)
		out.stats.addData(r.Output.Rows, r.Output.Size)
	}
	for _, spec := range slices.Sorted(maps.Keys(rolls)) {
		if err := rolls[spec].close(); err != nil {
			return out, err
		}
		out.files = append(out.files, rolls[spec].done...)
	}
	// Only now, when all of them are durable.
	maps.Copy(c.added.listed, out.listed)
	c.added.files = append(c.added.files, out.files...)
	c.added.stats.add(out.stats)
	return c.added, nil
}

// toList yields the results whose outputs are to be listed: all that are used,
// or those of rescans alone when the others are listed already.
func (c *committer) toList(ctx context.Context, later bool) func(yield func(warehouse.Result, error) bool) {
	if !later {
		return c.used(ctx)
	}
	return c.usedExtra
}

// sequence is a data sequence number as an entry states it; format 1 has none.
func (a *author) sequence(n int64) *int64 {
	if a.meta.Version() == 1 {
		return nil
	}
	return &n
}

// dataFile describes a written file for its manifest entry.
func (a *author) dataFile(part partition, o *warehouse.Output, sortOrder *int, firstRow *int64) (iceberg.DataFile, error) {
	spec := a.meta.PartitionSpecByID(int(part.spec))
	if spec == nil {
		return nil, fmt.Errorf("write manifest: partition spec %d is not in the table's metadata", part.spec)
	}
	b, err := iceberg.NewDataFileBuilder(*spec, iceberg.EntryContentData, o.Path, iceberg.ParquetFile,
		part.values, nil, nil, o.Rows, o.Size)
	if err != nil {
		return nil, fmt.Errorf("write manifest entry: %w", hide(err))
	}
	m := o.Metrics
	b.ColumnSizes(orEmpty(m.ColumnSizes)).ValueCounts(orEmpty(m.ValueCounts)).NullValueCounts(orEmpty(m.NullCounts)).
		NaNValueCounts(orEmpty(m.NaNCounts)).LowerBoundValues(orEmpty(m.Lower)).UpperBoundValues(orEmpty(m.Upper))
	if len(m.SplitOffsets) > 0 {
		b.SplitOffsets(m.SplitOffsets)
	}
	if sortOrder != nil {
		b.SortOrderID(*sortOrder)
	}
	if firstRow != nil && a.meta.Version() >= 3 {
		b.FirstRowID(*firstRow)
	}
	return b.Build(), nil
}

func orEmpty[V any](m map[int]V) map[int]V {
	if m == nil {
		return map[int]V{}
	}
	return m
}

// protect is the tag that keeps the snapshot before, and with it every
// replaced file, until the grace is over. Its max-ref-age-ms makes it lapse
// then by itself, should expunge never come back.
func (c *committer) protect(ctx context.Context, head *table.Snapshot) *protect {
	until := c.req.ProtectUntil
	if until.IsZero() {
		until = clock.Now(ctx).Add(c.req.Grace)
	}
	name := protectRef(c.req.RunID, c.req.Group)
	for ref := range c.meta.Refs() {
		if ref == name {
			// Left by a commit of the same run that somebody rolled back.
			name += ".s" + strconv.FormatInt(c.author.snapID, 10)
			break
		}
	}
	return &protect{name: name, snapshot: head.SnapshotID, ageMs: max(1, until.UnixMilli()-head.TimestampMs)}
}
