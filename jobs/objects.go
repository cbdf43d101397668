package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/objects"
)

// objectStore is the store of all prefixes: it has the job's storage properties.
func (j *Job) objectStore() (storage.Store, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s, ok := j.stores[""]; ok {
		return s, nil
	}
	props, err := j.cfg.Storage.Reveal()
	if err != nil {
		return nil, fmt.Errorf("storage properties: %w", err)
	}
	s := j.decorate("objects", storage.New(props), true)
	if j.readOnly {
		s = storage.ReadOnly(s)
	}
	j.stores[""] = s
	return s, nil
}

// bindPrefix opens an object prefix and binds its selection.
func (j *Job) bindPrefix(ctx context.Context, config int, sets map[string]*keyset.Set, w window) (*boundTarget, error) {
	tc := &j.cfg.Targets[config]
	name := j.prefixName(config)
	if !w.open() {
		return nil, fmt.Errorf("target %s is a prefix, which --since and --until cannot bound: %w", name, ErrUsage)
	}
	store, err := j.objectStore()
	if err != nil {
		return nil, err
	}
	target := objects.Open(store, objects.Config{Name: name, Prefix: tc.Prefix, Globs: tc.Glob, Format: tc.Format,
		Malformed: tc.Policy.Malformed, Emptied: tc.Policy.Emptied, Versions: tc.Policy.Versions, Workers: max(8, j.workers())})
	sel, err := selection(tc, sets, w)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	bound, err := target.Bind(ctx, sel)
	if err != nil {
		return nil, err
	}
	action, err := target.BindAction(ctx, sel)
	if err != nil {
		return nil, err
	}
	return &boundTarget{config: config, name: name, cfg: tc, sel: sel, target: target, bound: bound, action: action}, nil
}

// prefixName is the prefix as the job file writes it, with the format where
// several targets share a prefix.
func (j *Job) prefixName(config int) string {
	tc := &j.cfg.Targets[config]
	for i := range j.cfg.Targets {
		if i != config && j.cfg.Targets[i].Prefix == tc.Prefix {
			return tc.Prefix + " (" + tc.Format + ")"
		}
	}
	return tc.Prefix
}

// objectResidue splits what a surface found into what the store keeps by
// itself, each kind with its date, and the rest.
func (r *Run) objectResidue(m *manifests.Manifest, res manifests.Residue) (out []manifests.Residue) {
	i := slices.IndexFunc(r.targets, func(t *boundTarget) bool { return t.name == res.Target && t.prefix() != nil })
	if i < 0 {
		return []manifests.Residue{res}
	}
	slot := r.targets[i].slot
	last := r.progress.verified[slot]
	pu, purged := r.progress.purged[slot]
	if purged = purged && m.Times.Purged != nil; purged {
		last = pu.Residue
	}
	if purged {
		res.State, res.GoneBy, res.Owner = "unexplained", nil, ""
		if res.Surface == surfaceVersions {
			res.State = stateNoncurrent
		}
	}
	for _, k := range last.Kept {
		if k.Surface != res.Surface || !purged && !k.GoneBy.IsZero() && m.Times.PurgeDue != nil && !k.GoneBy.After(*m.Times.PurgeDue) {
			continue // of another surface, or free by the time of the purge
		}
		res.Count -= k.Count
		out = append(out, manifests.Residue{Target: res.Target, Surface: res.Surface, Count: k.Count, State: k.State, GoneBy: optional(k.GoneBy), Owner: "the store"})
	}
	if res.Count > 0 {
		out = append(out, res)
	}
	return out
}

// prefix is the target as a prefix, or nil where it is a table.
func (t *boundTarget) prefix() *objects.Target {
	p, _ := t.target.(*objects.Target)
	return p
}

// storeOf is the store that holds a target's files.
func (j *Job) storeOf(ctx context.Context, t *boundTarget) (storage.Store, error) {
	if p := t.prefix(); p != nil {
		return p.Store(), nil
	}
	return j.targetStore(ctx, t.name)
}

func (w *Worker) work(t *boundTarget) objects.Work {
	return objects.Work{RunID: w.run.ID(), Secret: w.run.Secret(), KeyID: w.keyID, Dry: w.dry, Select: t.sel, Bound: t.bound}
}

// storeTries is how often an object is tried again while its store answers other requests.
const storeTries = 2

// object processes one object of a prefix. An object that cannot be worked on
// is left as it is and listed, and the others go on: they do not depend on it
// as a table's files depend on each other.
func (w *Worker) object(ctx context.Context, t *boundTarget, task warehouse.Task) (warehouse.Result, error) {
	var res warehouse.Result
	var err error
	for try := 0; ; try++ {
		res, err = t.prefix().Process(ctx, w.work(t), task)
		switch {
		case err == nil:
			return res, nil
		case ctx.Err() != nil:
			return res, context.Cause(ctx)
		case runLevel(err):
			return res, err
		case !storage.IsTransient(err):
		// A store that is gone must not make a run pass over all that is left of
		// the prefix; one object that cannot be had must not stop the others.
		case t.prefix().Reachable(ctx) != nil:
			return res, err
		case try < storeTries:
			continue
		}
		break
	}
	class := objects.Refusal(err)
	if class == "" {
		class = errorClass(err)
	}
	w.job.env.Log.WarnContext(ctx, "object left as it was", "target", t.name, "task", task.Index, "class", class, "error", err)
	if errors.Is(err, storage.ErrPrecondition) {
		class = "object keeps changing"
	}
	// What was scanned before the failure stays in the evidence; nothing of it counts as changed.
	return warehouse.Result{Task: res.Task, Status: warehouse.LeftAlone, Method: "left as it was", Reason: class, RowsIn: res.RowsIn, BytesRead: res.BytesRead}, nil
}

// columnsSeen refuses a selection whose columns no object of the prefix has: a
// prefix has no schema that could have told before the scan.
func (r *Run) columnsSeen(ctx context.Context, t *boundTarget) error {
	if t.prefix() == nil {
		return nil
	}
	absent := false
	for res, err := range r.results(ctx, t.slot) {
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		if res.Status != warehouse.Clean || res.Method != objects.MethodAbsent {
			return nil
		}
		absent = true
	}
	if !absent {
		return nil
	}
	return fmt.Errorf("target %s: no object has all columns of any match: %w", t.name, warehouse.ErrNotFound)
}

// leftAlone counts the files of a target that were left as they were: those of
// the scan, and those that only the commit found it had to leave.
func (r *Run) leftAlone(slot int) int64 {
	n := r.progress.totals(slot).LeftAlone
	for _, res := range r.progress.committed[slot].Results {
		if res.Status == warehouse.LeftAlone {
			n++
		}
	}
	return n
}

// maxReasons bounds how many reasons a manifest states one by one.
const maxReasons = 20

// leftReasons are the exclusions of a target whose files were left as they
// were, one for each reason.
func (r *Run) leftReasons(ctx context.Context, t *boundTarget) ([]manifests.Exclusion, error) {
	if r.leftAlone(t.slot) == 0 {
		return nil, nil
	}
	counts := map[string]int64{}
	for res, err := range r.final(ctx, t.slot, r.progress.committed[t.slot]) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if res.Status != warehouse.LeftAlone {
			continue
		}
		reason := res.Reason
		if _, known := counts[reason]; !known && len(counts) >= maxReasons {
			reason = "for other reasons; see the evidence"
		}
		counts[reason]++
	}
	var out []manifests.Exclusion
	for _, reason := range sortedKeys(counts) {
		out = append(out, manifests.Exclusion{What: "data files that were left as they were", Target: t.name, Reason: reason, Count: counts[reason]})
	}
	return out, nil
}

// restorePrefix puts back what a run erased from the objects of a prefix.
func (r *Run) restorePrefix(ctx context.Context, t *boundTarget, dry bool) (*RestoredTable, error) {
	out := &RestoredTable{Target: t.name}
	c := r.progress.committed[t.slot]
	for res, err := range r.final(ctx, t.slot, c) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
			continue
		}
		out.Files, out.Rows = out.Files+1, out.Rows+res.Erased+res.Changed
		if dry {
			continue
		}
		if err := r.fence(ctx); err != nil {
			return nil, err
		}
		if err := t.prefix().RestoreObject(ctx, r.worker.work(t), res); err != nil {
			return nil, err
		}
	}
	if dry {
		return out, nil
	}
	d, err := t.target.Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	back := warehouse.Committed{RunID: r.ID(), Before: c.After, After: d, RowsErased: out.Rows}
	return out, r.note(ctx, evReverted, fmt.Sprint(t.slot), back)
}
