package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// Where the job says branches: erase, each branch of a table is a target of its
// own, "lake.sales.orders@dev": planned, committed, verified and restored by
// itself, because its rows and its head are its own. Main comes last and stands
// for the whole table: history, metadata and orphans are looked at and removed
// with it, once every branch holds no key any more.

// eraseBranches is the word of the job file.
const eraseBranches = "erase"

// mainBranch is the branch that every table has.
const mainBranch = "main"

// branchOf splits a target's name into the table's and the branch, "" = main.
func branchOf(name string) (table, branch string) {
	i := strings.LastIndex(name, "@")
	if i < 0 {
		return name, ""
	}
	return name[:i], name[i+1:]
}

// bindBranches binds the branches of a table, other than main.
func (j *Job) bindBranches(ctx context.Context, config int, name string, main *boundTarget, sets map[string]*keyset.Set, w window) ([]*boundTarget, error) {
	if main.cfg.Branches != eraseBranches || w.compact { // a compaction is main's
		return nil, nil
	}
	d, err := main.target.Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", name, err)
	}
	var out []*boundTarget
	for _, ref := range d.Refs { // sorted by name
		if ref.Type != "branch" || ref.Name == mainBranch {
			continue
		}
		t, ex, err := j.bindTarget(ctx, config, name+"@"+ref.Name, sets, w)
		if err != nil {
			return nil, err
		}
		if ex != nil {
			return nil, fmt.Errorf("branch %s of %s: %s: %w", ref.Name, name, ex.Reason, warehouse.ErrUnsupported)
		}
		t.group = len(out) + 1
		out = append(out, t)
	}
	return out, nil
}

// onBranch opens the branch that a target's name asks for.
func onBranch(target warehouse.Target, branch string) (warehouse.Target, error) {
	if branch == "" {
		return target, nil
	}
	t, ok := target.(*iceberg.Table)
	if !ok {
		return nil, fmt.Errorf("the target has no branches: %w", warehouse.ErrUnsupported)
	}
	return t.Branch(branch), nil
}

// tablePassed says that the verification of a slot passed, and that of every
// other branch of its table: a branch's purge removes history that they share.
func (r *Run) tablePassed(slot int) bool {
	if !r.progress.verified[slot].Passed {
		return false
	}
	if r.targets[slot].cfg.Branches != eraseBranches {
		return true
	}
	table, _ := branchOf(r.targets[slot].name)
	for other := range r.progress.committed {
		base, _ := branchOf(r.targets[other].name)
		if base == table && !r.progress.verified[other].Passed {
			return false
		}
	}
	return true
}

// also are the commits of the run to the other branches of a slot's table.
func (r *Run) also(slot int) map[string]warehouse.Committed {
	table, own := branchOf(r.targets[slot].name)
	if r.targets[slot].cfg.Branches != eraseBranches {
		return nil
	}
	out := map[string]warehouse.Committed{}
	for _, t := range r.targets {
		base, branch := branchOf(t.name)
		c, ok := r.progress.committed[t.slot]
		if base != table || branch == own || !ok {
			continue
		}
		if branch == "" {
			branch = mainBranch
		}
		out[branch] = c.Committed
	}
	return out
}

// withoutErased leaves out the branches that are targets themselves.
func withoutErased(t *boundTarget, blockers []warehouse.Blocker) []warehouse.Blocker {
	if t.cfg.Branches != eraseBranches {
		return blockers
	}
	return slices.DeleteFunc(blockers, func(b warehouse.Blocker) bool { return b.Type == "branch" })
}

// branchSurfaces are those of a branch's report: what is the whole table's is
// looked at with main.
func branchSurfaces(rep *verifier.Report) {
	rep.Surfaces = slices.DeleteFunc(rep.Surfaces, func(s verifier.Surface) bool {
		return s.Result == verifier.NotChecked && (inPurge(s) || s.Name == verifier.Orphans)
	})
}
