package iceberg

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
)

// The reasons of warehouse.Skipped.
const (
	reasonBounds    = "pruned by bounds"
	reasonPartition = "pruned by partition"
	reasonIndex     = "pruned by key index"
	reasonTime      = "outside time range"
	reasonCompact   = "nothing to compact"
)

// Plan streams one task a data file of the head of main that may hold a key,
// and calls live for every live data file, skipped and excluded ones included.
// Both are called from one goroutine, in the order of the manifests. It keeps
// the delete files' entries in memory but never the data files'.
func (t *Table) Plan(ctx context.Context, sel warehouse.Selection, emit func(warehouse.Task) error, live func(path string) error) (*warehouse.Plan, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	meta := tbl.Metadata()
	plan := &warehouse.Plan{}
	if plan.Description, err = t.describe(ctx, tbl); err != nil {
		return nil, err
	}
	if err := t.whole(ctx, meta); err != nil {
		return nil, err
	}
	p, err := t.newPlanner(meta, sel)
	if errors.Is(err, warehouse.ErrNotFound) && sel.MissingColumn == "list" {
		plan.Excluded = append(plan.Excluded, warehouse.Excluded{What: t.name, Reason: "a match column is missing: " + err.Error(), Declared: true})
		return plan, nil
	}
	if err != nil {
		return nil, err
	}
	plan.Description.KeyPartitioned = p.keyPartitioned
	plan.Blockers = blockers(meta)
	plan.Warnings = warnings(ctx, meta)
	snap := meta.CurrentSnapshot()
	if snap == nil {
		return plan, nil
	}
	if err := p.run(ctx, snap, plan, emit, live); err != nil {
		return nil, fmt.Errorf("plan %s: %w", t.name, err)
	}
	return plan, nil
}

// KeyPaths says whether a match column is a partition source.
func (t *Table) KeyPaths(ctx context.Context, sel warehouse.Selection) (bool, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return false, err
	}
	p, err := t.newPlanner(tbl.Metadata(), sel)
	if errors.Is(err, warehouse.ErrNotFound) && sel.MissingColumn == "list" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return p.keyPartitioned, nil
}

// whole refuses what cannot be worked on as a whole table.
func (t *Table) whole(ctx context.Context, meta table.Metadata) error {
	if err := supported(meta); err != nil {
		return fmt.Errorf("table %s: %w", t.name, err)
	}
	if s := meta.CurrentSnapshot(); s != nil && s.ManifestList == "" && len(meta.PartitionSpecs()) > 1 {
		// Manifests embedded in version 1 metadata do not say which spec they follow.
		return fmt.Errorf("table %s: snapshot without a manifest list and several partition specs: %w", t.name, warehouse.ErrUnsupported)
	}
	other, err := t.cat.overlapping(icebergio.With(ctx, t.store), t.ident, meta.Location())
	if err != nil {
		return fmt.Errorf("table %s: look for overlapping locations: %w", t.name, err)
	}
	if other != "" {
		return fmt.Errorf("table %s: its location overlaps that of %s: %w", t.name, other, warehouse.ErrUnsupported)
	}
	return nil
}

// run goes through the snapshot's manifests and settles the plan's sums.
func (p *planner) run(ctx context.Context, snap *table.Snapshot, plan *warehouse.Plan, emit func(warehouse.Task) error, live func(string) error) error {
	manifests, err := snap.Manifests(p.t.fs(ctx))
	if err != nil {
		return fmt.Errorf("read manifest list: %w", cleanError(err))
	}
	if p.deletes, err = p.t.indexDeletes(ctx, p.meta, manifests); err != nil {
		return err
	}
	if p.deletes.equalityColumns(p.redefined) {
		return errEqualityColumn
	}
	out := &emitter{p: p, compact: p.compact, plan: plan, sum: newSums(p.t.name), emit: emit}
	err = p.eachFile(ctx, manifests, func(f planned) error {
		if p.index != nil {
			p.index.Seen(f.file.Path)
		}
		if err := live(f.file.Path); err != nil {
			return err
		}
		return out.file(f)
	})
	if err == nil {
		err = out.close()
	}
	if err != nil {
		return err
	}
	out.sum.settle(plan, p.timeRange)
	return nil
}

// planned is a live data file and what planning decided of it.
type planned struct {
	file     warehouse.File
	reason   string // a reason of warehouse.Skipped, "" = not skipped
	excluded string // why it is left as it is, "" = it is not
	fold     bool   // compaction asks whether its deletes are to be folded in
	pack     string // with which files compaction may put it into one, "" = with none
}

// sums adds up the files that are no tasks. Excluded files are summed by
// reason, because a table may have a million of them and a path may hold a key.
type sums struct {
	table    string
	skipped  map[string]*warehouse.Skipped
	excluded map[string]int64
}

func newSums(table string) *sums {
	return &sums{table: table, skipped: map[string]*warehouse.Skipped{}, excluded: map[string]int64{}}
}

func (s *sums) add(plan *warehouse.Plan, f planned) {
	plan.TotalFiles++
	plan.TotalRows += f.file.Rows
	plan.TotalBytes += f.file.Size
	switch {
	case f.reason != "":
		k := s.skipped[f.reason]
		if k == nil {
			k = &warehouse.Skipped{Reason: f.reason}
			s.skipped[f.reason] = k
		}
		k.Files++
		k.Rows += f.file.Rows
		k.Bytes += f.file.Size
	case f.excluded != "":
		s.excluded[f.excluded]++
	}
}

func (s *sums) settle(plan *warehouse.Plan, timed *timeBound) {
	for _, reason := range []string{reasonPartition, reasonBounds, reasonIndex, reasonTime, reasonCompact} {
		if k := s.skipped[reason]; k != nil {
			plan.Skipped = append(plan.Skipped, *k)
		}
	}
	if k := s.skipped[reasonTime]; k != nil && timed != nil {
		plan.Excluded = append(plan.Excluded, warehouse.Excluded{
			What:     count(k.Files, "data file") + " of " + s.table,
			Reason:   "outside the time range asked for",
			Declared: true,
		})
	}
	for _, reason := range sortedKeys(s.excluded) {
		plan.Excluded = append(plan.Excluded, warehouse.Excluded{
			What:   count(s.excluded[reason], "data file") + " of " + s.table,
			Reason: reason,
		})
	}
}

func count(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(n, 10) + " " + noun
}
