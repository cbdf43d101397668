package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/warehouse"
)

// eqReach is how new the newest equality delete is that this commit may
// remove: of any partition, of each, and among global ones. It is fixed by the
// planned snapshot, because a newer one still applies to the replacements.
type eqReach struct {
	any, global int64
	part        map[int32]int64
}

func (c *committer) loadDeletes(ctx context.Context, list []iceberg.ManifestFile) error {
	todo := c.missing(list, iceberg.ManifestContentDeletes, func(path string) bool { return c.dels[path] != nil })
	units := make([]*deleteUnit, len(todo))
	err := inParallel(ctx, len(todo), func(ctx context.Context, i int) (err error) {
		units[i], err = c.scanDeletes(ctx, todo[i])
		return err
	})
	if err != nil {
		return fmt.Errorf("read delete manifest: %w", hide(err))
	}
	for _, u := range units {
		c.dels[u.m.FilePath()] = u
	}
	return nil
}

func (c *committer) scanDeletes(ctx context.Context, m iceberg.ManifestFile) (*deleteUnit, error) {
	u := &deleteUnit{m: m, planned: c.planned[m.FilePath()]}
	spec := c.meta.PartitionSpecByID(int(m.PartitionSpecID()))
	global := spec == nil || spec.IsUnpartitioned()
	stats := iceberg.ManifestEntryProjection{IncludePruningStats: true}
	for e, err := range iceberg.EntriesWithProjection(c.t.fs(ctx), m, false, stats) {
		if err != nil {
			return nil, err
		}
		if e.Status() == iceberg.EntryStatusDELETED {
			u.tombstones++
			continue
		}
		u.entries = append(u.entries, newDeleteEntry(e, c.parts, global))
	}
	return u, nil
}

// loadCoverage finds out which data files the position deletes name, and with
// that which files and partitions the data manifests have to be asked about.
//
// Position deletes that name no data file in their entry look as if they
// covered their partition (trap S7): their contents say which files they
// touch. Only those are read that a planned file lists, or that are newer than
// the plan; the others touch no file of this commit, and are read only to find
// out whether they touch any at all.
func (c *committer) loadCoverage(ctx context.Context, list []iceberg.ManifestFile) error {
	var todo []*deleteEntry
	for d, u := range c.liveDeletes(list) {
		if d.file.Kind == deletePosition && !d.known && (!u.planned || c.related.has(d.key) || c.req.Dangling) {
			todo = append(todo, d)
		}
	}
	err := inParallel(ctx, len(todo), func(ctx context.Context, i int) (err error) {
		todo[i].covers, err = c.t.coveredFiles(ctx, todo[i].file)
		todo[i].known = err == nil
		return err
	})
	if err != nil {
		return fmt.Errorf("read position deletes: %w", hide(err))
	}
	if c.covered != nil {
		return nil
	}
	c.covered = pathSet{}
	c.eqMax.part = map[int32]int64{}
	for d := range c.liveDeletes(list) {
		if d.file.Kind == deleteEquality {
			if d.file.Sequence <= c.req.Plan.Description.SequenceNumber {
				c.eqMax.note(d)
			}
			continue
		}
		for _, k := range d.covers {
			c.covered.add(k)
		}
	}
	return nil
}

func (r *eqReach) note(d *deleteEntry) {
	r.any = max(r.any, d.file.Sequence)
	if d.global {
		r.global = max(r.global, d.file.Sequence)
		return
	}
	r.part[d.part] = max(r.part[d.part], d.file.Sequence)
}

// liveDeletes yields the delete files of a snapshot's list.
func (c *committer) liveDeletes(list []iceberg.ManifestFile) func(yield func(*deleteEntry, *deleteUnit) bool) {
	return func(yield func(*deleteEntry, *deleteUnit) bool) {
		for _, m := range list {
			u := c.dels[m.FilePath()]
			if u == nil || m.ManifestContent() != iceberg.ManifestContentDeletes {
				continue
			}
			for _, d := range u.entries {
				if !yield(d, u) {
					return
				}
			}
		}
	}
}

// coveredFiles reads which data files a position delete file names.
func (t *Table) coveredFiles(ctx context.Context, d warehouse.DeleteFile) ([]pathKey, error) {
	obj, err := t.store.Open(ctx, d.Path)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	f, err := parquet.OpenFile(obj, obj.Info().Size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fmt.Errorf("position delete file: %w", hide(err))
	}
	leaf := -1
	for i, field := range f.Root().Columns() {
		if (field.ID() == filePathField || field.Name() == "file_path") && field.Leaf() {
			leaf = f.Root().Columns()[i].Index()
		}
	}
	if leaf < 0 {
		return nil, fmt.Errorf("position delete file has no file_path column: %w", warehouse.ErrUnsupported)
	}
	seen := pathSet{}
	var keys []pathKey
	var last string
	buf := make([]parquet.Value, 512)
	for _, rg := range f.RowGroups() {
		err := eachValue(rg.ColumnChunks()[leaf], buf, func(v parquet.Value) {
			if p := v.ByteArray(); string(p) != last || len(keys) == 0 {
				last = string(p)
				if k := keyOf(last); !seen.has(k) {
					seen.add(k)
					keys = append(keys, k)
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("position delete file: %w", hide(err))
		}
	}
	return keys, nil
}

func eachValue(chunk parquet.ColumnChunk, buf []parquet.Value, visit func(parquet.Value)) error {
	pages := chunk.Pages()
	defer pages.Close()
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		values := page.Values()
		for {
			n, err := values.ReadValues(buf)
			for _, v := range buf[:n] {
				visit(v)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				parquet.Release(page)
				return err
			}
		}
		parquet.Release(page)
	}
}

// headDeletes finds the delete files that apply to a data file.
type headDeletes struct {
	byFile map[pathKey][]*deleteEntry
	byPart map[int32][]*deleteEntry // position deletes of unknown contents and equality deletes
	global []*deleteEntry
	live   pathSet // all of them
}

func (c *committer) indexDeletes(list []iceberg.ManifestFile) *headDeletes {
	x := &headDeletes{byFile: map[pathKey][]*deleteEntry{}, byPart: map[int32][]*deleteEntry{}, live: pathSet{}}
	for d := range c.liveDeletes(list) {
		x.live.add(d.key)
		switch {
		case d.file.Kind == deleteEquality && d.global:
			x.global = append(x.global, d)
		case d.file.Kind == deleteEquality || !d.known:
			x.byPart[d.part] = append(x.byPart[d.part], d)
		default:
			for _, k := range d.covers {
				x.byFile[k] = append(x.byFile[k], d)
			}
		}
	}
	return x
}

// of lists what applies to a data file (specification, "Scan Planning"):
// equality deletes that are newer than it; its deletion vector, or else the
// position deletes at least as new that name it. A position delete file of
// another partition applies only where its entry names the one data file.
func (x *headDeletes) of(key pathKey, part int32, seq int64) []warehouse.DeleteFile {
	var out, positions []warehouse.DeleteFile
	for _, d := range x.byFile[key] {
		switch {
		case d.file.Sequence < seq || !d.byPath && d.part != part:
		case d.file.Kind == deleteVector:
			out = append(out, d.file)
		default:
			positions = append(positions, d.file)
		}
	}
	for _, d := range x.byPart[part] {
		switch {
		case d.file.Kind == deletePosition && d.file.Sequence >= seq:
			positions = append(positions, d.file)
		case d.file.Kind == deleteEquality && d.file.Sequence > seq:
			out = append(out, d.file)
		}
	}
	for _, d := range x.global {
		if d.file.Sequence > seq {
			out = append(out, d.file)
		}
	}
	if slices.ContainsFunc(out, func(d warehouse.DeleteFile) bool { return d.Kind == deleteVector }) {
		return out
	}
	return append(positions, out...)
}

// removable lists the delete files that nothing live needs once the commit's
// sources are gone. A delete file that still covers one kept file stays whole:
// removing it would bring deleted rows back (trap S2).
func (c *committer) removable(list []iceberg.ManifestFile, live map[pathKey]bool) map[*deleteEntry]bool {
	alive := pathSet{}
	oldest := map[int32]int64{}
	oldestAny := int64(-1)
	for _, m := range list {
		u := c.data[m.FilePath()]
		if u == nil || m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		for _, k := range u.alive {
			alive.add(k)
		}
		for part, seq := range u.minSeq {
			if old, ok := oldest[part]; !ok || seq < old {
				oldest[part] = seq
			}
		}
		if u.minAny >= 0 && (oldestAny < 0 || u.minAny < oldestAny) {
			oldestAny = u.minAny
		}
	}
	out := map[*deleteEntry]bool{}
	for d := range c.liveDeletes(list) {
		if d.file.Kind == deleteEquality {
			if d.file.Sequence > c.req.Plan.Description.SequenceNumber {
				continue
			}
			seq, ok := oldest[d.part]
			if d.global {
				seq, ok = oldestAny, oldestAny >= 0
			}
			if !ok || seq >= d.file.Sequence {
				out[d] = true
			}
			continue
		}
		if d.known && c.coversNothing(d, alive, live) {
			out[d] = true
		}
	}
	return out
}

func (c *committer) coversNothing(d *deleteEntry, alive pathSet, live map[pathKey]bool) bool {
	for _, k := range d.covers {
		if live[k] {
			continue // replaced or dropped by this commit
		}
		// A file that was not asked about when the manifests were read may live.
		if !c.covered.has(k) || alive.has(k) {
			return false
		}
	}
	return true
}
