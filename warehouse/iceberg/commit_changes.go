package iceberg

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// changed lists what has to be scanned before the head can be committed to:
// files that arrived since the plan, and sources whose deletes changed.
func (c *committer) changed(ctx context.Context, head *table.Snapshot, list []iceberg.ManifestFile) ([]warehouse.Task, error) {
	index := c.indexDeletes(list)
	var tasks []warehouse.Task
	if c.req.Planned != nil {
		if err := c.settlePlanned(ctx, list); err != nil {
			return nil, err
		}
		var err error
		if tasks, err = c.arrived(ctx, list, index); err != nil {
			return nil, err
		}
	}
	again, err := c.outdated(ctx, list, index)
	if err == nil {
		again, err = c.unpack(ctx, list, index, again)
	}
	if err != nil {
		return nil, err
	}
	return append(tasks, again...), nil
}

// settlePlanned sorts out which files of new manifests the plan knew: writers
// that merge or rewrite manifests list planned files in new ones.
func (c *committer) settlePlanned(ctx context.Context, list []iceberg.ManifestFile) error {
	open := pathSet{}
	for _, m := range list {
		if u := c.data[m.FilePath()]; u != nil {
			for _, k := range u.fresh {
				if !c.resolved.has(k) {
					open.add(k)
				}
			}
		}
	}
	if len(open) == 0 {
		return nil
	}
	for path, err := range c.req.Planned(ctx) {
		if err != nil {
			return fmt.Errorf("read planned files: %w", err)
		}
		if k := keyOf(path); open.has(k) {
			c.resolved.add(k)
			delete(open, k)
			if len(open) == 0 {
				break
			}
		}
	}
	return nil
}

// arrived makes a task of each live file that nothing has looked at yet.
func (c *committer) arrived(ctx context.Context, list []iceberg.ManifestFile, index *headDeletes) ([]warehouse.Task, error) {
	var tasks []warehouse.Task
	for _, m := range list {
		u := c.data[m.FilePath()]
		if u == nil || len(u.fresh) == 0 {
			continue
		}
		open := pathSet{}
		for _, k := range u.fresh {
			if _, ok := c.sources[k]; !ok && !c.resolved.has(k) {
				open.add(k)
			}
		}
		u.fresh = nil
		if len(open) == 0 {
			continue
		}
		for e, err := range iceberg.EntriesWithProjection(c.t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", hide(err))
			}
			if key := keyOf(e.DataFile().FilePath()); open.has(key) {
				c.origin[key] = m.FilePath()
				tasks = append(tasks, c.newTask(e, key, index))
			}
		}
	}
	return tasks, nil
}

func (c *committer) newTask(e iceberg.ManifestEntry, key pathKey, index *headDeletes) warehouse.Task {
	df := e.DataFile()
	task := warehouse.Task{
		Target: c.req.Plan.Description.Name, Index: c.nextTask, SchemaID: c.meta.CurrentSchema().ID,
		File: warehouse.File{
			Path: df.FilePath(), Format: strings.ToLower(string(df.FileFormat())), Size: df.FileSizeBytes(), Rows: df.Count(),
			SpecID: df.SpecID(), DataSequence: e.SequenceNum(), FirstRowID: df.FirstRowID(),
			Deletes: index.of(key, c.parts.of(df), e.SequenceNum()),
		},
	}
	if spec := c.projecting(df.SpecID()); spec != nil {
		task.File.Projected = spec.projected(df.Partition())
	}
	if task.Target == "" {
		task.Target = c.t.name
	}
	c.nextTask++
	return task
}

// projecting maps the run's keys through a partition spec; nil = it has none.
func (c *committer) projecting(spec int32) *specPruner {
	if len(c.req.Selection.Match) == 0 {
		return nil
	}
	if s, ok := c.specs[spec]; ok {
		return s
	}
	if c.specs == nil {
		c.specs = map[int32]*specPruner{}
	}
	if bound, err := c.t.bind(c.meta, c.req.Selection); err == nil {
		if ps := c.meta.PartitionSpecByID(int(spec)); ps != nil {
			var m []matchPruner
			for _, b := range bound {
				m = append(m, newMatchPruner(b))
			}
			c.specs[spec] = newSpecPruner(*ps, m)
		}
	}
	return c.specs[spec]
}

// outdated lists the sources whose position deletes or deletion vectors are
// not those that they were scanned with. Only these force a file to be done
// again (trap S4: a concurrent merge-on-read delete must not be undone).
func (c *committer) outdated(ctx context.Context, list []iceberg.ManifestFile, index *headDeletes) ([]warehouse.Task, error) {
	touched := map[pathKey][]*deleteEntry{}
	var unverified []*deleteEntry
	for d, u := range c.liveDeletes(list) {
		if u.planned || d.verified || d.file.Kind == deleteEquality {
			continue
		}
		unverified = append(unverified, d)
		for _, k := range d.covers {
			if _, ok := c.sources[k]; ok {
				touched[k] = append(touched[k], d)
			}
		}
	}
	lost := c.lostDeletes(list)
	stale := map[pathKey]warehouse.Task{}
	if len(touched) > 0 || lost != nil {
		for r, err := range c.used(ctx) {
			if err != nil {
				return nil, err
			}
			if key := keyOf(r.Task.File.Path); !current(r.Task, touched[key], lost) {
				stale[key] = r.Task
			}
		}
	}
	tasks, met, err := c.planAgain(ctx, list, index, stale)
	if err != nil {
		return nil, err
	}
	if met == len(stale) {
		// A source that is not live now may come back: its deletes stay unverified.
		for _, d := range unverified {
			d.verified = true
		}
		c.lastDel = deletePaths(list)
	}
	return tasks, nil
}

// planAgain gives the tasks of stale files the deletes of this head. It returns
// those whose position deletes really differ, and how many files it met.
func (c *committer) planAgain(ctx context.Context, list []iceberg.ManifestFile, index *headDeletes, stale map[pathKey]warehouse.Task) (tasks []warehouse.Task, met int, err error) {
	for _, m := range list {
		u := c.data[m.FilePath()]
		if u == nil || len(stale) == 0 || !slices.ContainsFunc(u.sources, func(k pathKey) bool { _, ok := stale[k]; return ok }) {
			continue
		}
		for e, err := range iceberg.EntriesWithProjection(c.t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, met, fmt.Errorf("read manifest: %w", hide(err))
			}
			key := keyOf(e.DataFile().FilePath())
			task, ok := stale[key]
			if !ok {
				continue
			}
			met++
			now := index.of(key, c.parts.of(e.DataFile()), e.SequenceNum())
			if index.same(task.File.Deletes, now) {
				continue
			}
			task.File.DataSequence = e.SequenceNum()
			task.File.FirstRowID = e.DataFile().FirstRowID()
			task.File.Deletes = now
			tasks = append(tasks, task)
		}
	}
	return tasks, met, nil
}

// same says that a task's outcome holds under the deletes of now: every delete
// that applies was known to it, newer equality deletes aside, which go on
// applying to its output; and none that it was given is gone.
func (x *headDeletes) same(had, now []warehouse.DeleteFile) bool {
	was := pathSet{}
	for _, d := range had {
		k := deleteKeyOf(d.Path, d.ContentOffset)
		was.add(k)
		if !x.live.has(k) {
			return false
		}
	}
	for _, d := range now {
		if d.Kind != deleteEquality && !was.has(deleteKeyOf(d.Path, d.ContentOffset)) {
			return false
		}
	}
	return true
}

// current says that a task was given every delete that touches its file now,
// and none that is gone since.
func current(task warehouse.Task, touch []*deleteEntry, lost func(pathKey) bool) bool {
	had := pathSet{}
	for _, d := range task.File.Deletes {
		k := deleteKeyOf(d.Path, d.ContentOffset)
		had.add(k)
		if lost != nil && lost(k) {
			return false
		}
	}
	for _, d := range touch {
		if !had.has(d.key) && d.file.Sequence >= task.File.DataSequence {
			return false
		}
	}
	return true
}

// lostDeletes tells which delete files are live no more, or is nil when no
// delete manifest left since the last check: then none can be.
func (c *committer) lostDeletes(list []iceberg.ManifestFile) func(pathKey) bool {
	now := deletePaths(list)
	gone := false
	for path := range c.lastDel {
		gone = gone || !now[path]
	}
	if c.lastDel == nil {
		// First look: compare with the planned snapshot's delete manifests, all
		// of which are still listed in the common case.
		known := 0
		for path := range now {
			if c.planned[path] {
				known++
			}
		}
		gone = known != c.plannedDeletes || len(c.planned) == 0
	}
	if !gone {
		return nil
	}
	live := pathSet{}
	for d := range c.liveDeletes(list) {
		live.add(d.key)
	}
	return func(k pathKey) bool { return !live.has(k) }
}

func deletePaths(list []iceberg.ManifestFile) map[string]bool {
	out := map[string]bool{}
	for _, m := range list {
		if m.ManifestContent() == iceberg.ManifestContentDeletes {
			out[m.FilePath()] = true
		}
	}
	return out
}

// scan hands tasks to the shard function and takes its results in. Their
// outputs have deletes up to the head folded in.
func (c *committer) scan(ctx context.Context, head *table.Snapshot, tasks []warehouse.Task) error {
	if c.req.Rescan == nil {
		return fmt.Errorf("%d files arrived or changed since the plan: %w", len(tasks), warehouse.ErrConflict)
	}
	results, err := c.req.Rescan(ctx, tasks)
	if err != nil {
		return fmt.Errorf("scan files that arrived: %w", err)
	}
	asked := make(map[pathKey]bool, len(tasks))
	for _, task := range tasks {
		asked[keyOf(task.File.Path)] = true
	}
	for _, r := range results {
		key := keyOf(r.Task.File.Path)
		if !asked[key] {
			return fmt.Errorf("scan files that arrived: a result for a file that was not asked for")
		}
		delete(asked, key)
		if err := c.merge(ctx, head, key, r); err != nil {
			return err
		}
	}
	if len(asked) > 0 {
		return fmt.Errorf("scan files that arrived: %d of %d files have no result", len(asked), len(tasks))
	}
	return nil
}

func (c *committer) merge(ctx context.Context, head *table.Snapshot, key pathKey, r warehouse.Result) error {
	c.extra = append(c.extra, r)
	_, known := c.sources[key]
	if r.Status != warehouse.Rewritten && r.Status != warehouse.Dropped {
		c.resolved.add(key)
		if known {
			c.withdraw(key)
		}
		return nil
	}
	if r.Output != nil {
		if err := c.t.checkOutput(ctx, r.Output.Path, r.Output.Size); err != nil {
			return err
		}
	}
	if err := c.addSource(r, len(c.extra)-1, head.SequenceNumber); err != nil {
		return err
	}
	if known {
		c.added = addedManifests{} // they may list its former output
	} else {
		c.resolved.add(key)
		// Its manifest was read when the file was none of ours.
		delete(c.data, c.origin[key])
	}
	return nil
}

// used yields the results that the commit uses: the request's own, less those
// that a later scan replaced, then those of later scans.
func (c *committer) used(ctx context.Context) func(yield func(warehouse.Result, error) bool) {
	return func(yield func(warehouse.Result, error) bool) {
		for r, err := range c.req.Results(ctx) {
			if err != nil {
				yield(r, fmt.Errorf("read results: %w", err))
				return
			}
			if s := c.sources[keyOf(r.Task.File.Path)]; s == nil || s.extra >= 0 {
				continue
			}
			if r.Status != warehouse.Rewritten && r.Status != warehouse.Dropped {
				continue
			}
			if !yield(r, nil) {
				return
			}
		}
		c.usedExtra(yield)
	}
}

// usedExtra yields those of later scans alone.
func (c *committer) usedExtra(yield func(warehouse.Result, error) bool) {
	for i, r := range c.extra {
		if s := c.sources[keyOf(r.Task.File.Path)]; s != nil && s.extra == i && !yield(r, nil) {
			return
		}
	}
}
