package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// boundTarget is one table of a run with what the job asks of it.
type boundTarget struct {
	slot   int    // index within the run: wildcards make several of one job target
	config int    // index into the job's targets
	name   string // "lake.sales.orders", "lake.sales.orders@dev"
	group  int    // number of its commit among those to branches of one table
	cfg    *configs.Target
	sel    warehouse.Selection
	target warehouse.Target
	bound  []warehouse.BoundMatch
	action *warehouse.BoundAction
}

// window is what a run is asked beside its job: the bounds of --since and
// --until, or compaction alone.
type window struct {
	since, until time.Time
	compact      bool // no keys: tables are compacted and nothing is erased
}

// resolveTargets finds every table that the job names, in the job's order, and
// binds its selection. A table that cannot be worked on is listed as excluded;
// a selection that means nothing is an error (contract rule 8).
func (j *Job) resolveTargets(ctx context.Context, sets map[string]*keyset.Set, w window) ([]*boundTarget, []warehouse.Excluded, error) {
	var out []*boundTarget
	var excluded []warehouse.Excluded
	seen := map[string]bool{}
	for i := range j.cfg.Targets {
		tc := &j.cfg.Targets[i]
		if tc.Prefix != "" && w.compact {
			continue // objects have nothing to compact
		}
		if tc.Prefix != "" {
			t, err := j.bindPrefix(ctx, i, sets, w)
			if err != nil {
				return nil, nil, err
			}
			t.slot = len(out)
			out = append(out, t)
			continue
		}
		names, err := j.tableNames(ctx, tc)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			if seen[name] {
				return nil, nil, fmt.Errorf("table %s is selected twice: %w", name, ErrUsage)
			}
			seen[name] = true
			t, ex, err := j.bindTarget(ctx, i, name, sets, w)
			if err != nil {
				return nil, nil, err
			}
			if ex != nil {
				excluded = append(excluded, *ex)
				continue
			}
			branches, err := j.bindBranches(ctx, i, name, t, sets, w)
			if err != nil {
				return nil, nil, err
			}
			for _, t := range append(branches, t) {
				t.slot = len(out)
				out = append(out, t)
			}
		}
	}
	return out, excluded, nil
}

func (j *Job) tableNames(ctx context.Context, tc *configs.Target) ([]string, error) {
	if j.custom(tc.Table) {
		if tc.Wildcard() {
			return nil, fmt.Errorf("table %s: a custom catalog cannot list its targets, name each: %w", tc.Table, ErrUsage)
		}
		return []string{tc.Table}, nil
	}
	cat, _, err := j.catalog(ctx, tc.Catalog())
	if err != nil {
		return nil, err
	}
	idents, err := cat.Resolve(ctx, tc.Table)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(idents))
	for i, id := range idents {
		names[i] = cat.Name() + "." + strings.Join(id, ".")
	}
	return names, nil
}

// openTarget opens one table by its full name.
func (j *Job) openTarget(ctx context.Context, name string) (warehouse.Target, error) {
	if j.custom(name) {
		if j.env.OpenTarget == nil {
			return nil, fmt.Errorf("table %s: its catalog is custom, and this program opens none (jobs.Env.OpenTarget): %w", name, ErrUsage)
		}
		return j.env.OpenTarget(ctx, j, name)
	}
	catName, rest, _ := strings.Cut(name, ".")
	cat, store, err := j.catalog(ctx, catName)
	if err != nil {
		return nil, err
	}
	ident := strings.Split(rest, ".")
	if cat.Properties()["type"] == "rest" {
		return j.openVended(ctx, cat, name, ident, store)
	}
	return iceberg.Open(ctx, cat, ident, store)
}

// bindTarget opens a table and resolves its match columns. It returns an
// exclusion instead when the table is of a kind that is left alone.
func (j *Job) bindTarget(ctx context.Context, config int, name string, sets map[string]*keyset.Set, w window) (*boundTarget, *warehouse.Excluded, error) {
	tc := &j.cfg.Targets[config]
	if tc.Prefix != "" {
		t, err := j.bindPrefix(ctx, config, sets, w)
		return t, nil, err
	}
	branch := ""
	table := name
	if tc.Branches == eraseBranches {
		table, branch = branchOf(name)
	}
	target, err := j.openTarget(ctx, table)
	if err == nil {
		target, err = onBranch(target, branch)
	}
	if errors.Is(err, warehouse.ErrUnsupported) {
		return nil, &warehouse.Excluded{What: name, Reason: reasonOf(err)}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	sel, err := selection(tc, sets, w)
	if err != nil {
		return nil, nil, fmt.Errorf("table %s: %w", name, err)
	}
	sel.Compact, sel.Residue = j.compaction(w), j.everywhere() && !w.compact
	t := &boundTarget{config: config, name: name, cfg: tc, sel: sel, target: target}
	t.bound, err = target.Bind(ctx, sel)
	if err == nil {
		t.action, err = target.BindAction(ctx, sel)
	}
	switch {
	case errors.Is(err, warehouse.ErrNotFound) && tc.MissingColumn == "list":
		return nil, &warehouse.Excluded{What: name, Reason: "has no such column", Declared: true}, nil
	case errors.Is(err, warehouse.ErrUnsupported):
		return nil, &warehouse.Excluded{What: name, Reason: reasonOf(err)}, nil
	case errors.Is(err, warehouse.ErrAction):
		return nil, nil, fmt.Errorf("%w: %w", err, ErrUsage)
	case err != nil:
		return nil, nil, err // names the table
	}
	return t, nil, explicitAction(t)
}

// selection is a job target as the warehouse sees it.
func selection(tc *configs.Target, sets map[string]*keyset.Set, w window) (warehouse.Selection, error) {
	if w.compact {
		return warehouse.Selection{Action: warehouse.Action{Kind: configs.Delete}, Refs: "report"}, nil
	}
	sel := warehouse.Selection{
		Action:        warehouse.Action{Kind: tc.Action.Kind, Element: tc.Action.Element},
		Refs:          tc.Refs,
		MissingColumn: tc.MissingColumn,
		Branches:      tc.Branches == eraseBranches,
	}
	for _, r := range tc.Action.Redact {
		if r.Null {
			sel.Action.Null = append(sel.Action.Null, r.Column)
			continue
		}
		if sel.Action.Redact == nil {
			sel.Action.Redact = map[string]string{}
		}
		sel.Action.Redact[r.Column] = r.Value
	}
	for _, m := range tc.Match {
		set, ok := sets[m.Keyset]
		if !ok {
			return sel, fmt.Errorf("keyset %q is not in the job: %w", m.Keyset, warehouse.ErrNotFound)
		}
		sel.Match = append(sel.Match, warehouse.Match{Keyset: m.Keyset, Keys: set, Columns: m.Columns})
	}
	if !w.open() {
		if tc.Time == "" {
			return sel, fmt.Errorf("--since and --until need the target's time column (time: in the job file): %w", ErrUsage)
		}
		sel.Time = &warehouse.TimeRange{Column: tc.Time, Since: w.since, Until: w.until}
	}
	return sel, nil
}

// reasonOf shortens an error to what a manifest may say: its first clause.
// Errors of this module carry no keys; those of libraries are not quoted.
func reasonOf(err error) string {
	for _, known := range []string{"encrypted", "format version", "view", "location", "orc", "avro"} {
		if strings.Contains(strings.ToLower(err.Error()), known) {
			switch known {
			case "encrypted":
				return "table is encrypted"
			case "format version":
				return "unknown table format version"
			case "view":
				return "is a view"
			case "location":
				return "shares its location with another table"
			default:
				return "holds " + strings.ToUpper(known) + " data files"
			}
		}
	}
	return "unsupported"
}
