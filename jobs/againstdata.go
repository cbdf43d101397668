package jobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// Checks that AgainstData makes.
const (
	CheckFiles    = "files in use"    // what the run wrote has the size and digest that it states
	CheckRemovals = "removed objects" // what the run removed is not there
	CheckAbsence  = "absence of keys" // an independent re-read finds no key
)

// AgainstData compares a manifest with the data as it is now: files that the
// run wrote and that are still there have the stated size and digest, removed
// objects are gone, and the run's keys are absent. What needs the run's secret,
// keyed paths and digests, or its keys, is skipped when they are gone.
func (j *Job) AgainstData(ctx context.Context, m *manifests.Manifest, sidecar io.ReaderAt, size int64) ([]manifests.Check, error) {
	st, err := j.state.OpenRun(ctx, m.RunID)
	if err != nil {
		return nil, fmt.Errorf("open run: %w", err)
	}
	c := &dataCheck{job: j, manifest: m, secret: st.Secret(), stores: map[string]storage.Store{}, keyed: map[string]map[string]string{}, absent: map[string]map[uint64]bool{}}
	if c.undone, err = j.undoneTargets(ctx, m.RunID); err != nil {
		return nil, err
	}
	if sidecar != nil {
		for rec, err := range manifests.ReadSidecar(sidecar, size) {
			if err == nil {
				err = c.record(ctx, m, &rec)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if err := c.lost(ctx); err != nil {
		return nil, err
	}
	if err := c.explain(ctx); err != nil {
		return nil, err
	}
	out := []manifests.Check{c.filesCheck(), c.result(CheckRemovals, c.removed, c.there, "are there (again)")}
	absence, err := j.absence(ctx, m)
	return append(out, absence), err
}

type dataCheck struct {
	job      *Job
	manifest *manifests.Manifest
	secret   []byte
	stores   map[string]storage.Store
	keyed    map[string]map[string]string // target → digest → path, where paths are keyed

	// absent are, by target, the hashed paths of files that were written and are not there.
	absent map[string]map[uint64]bool

	undone   map[string]bool  // targets where the run was undone: nothing of it is judged there
	differ   []differing      // files that are not as the evidence says, until explain
	replaced map[string]int64 // of them, those that a later run wrote, by that run and what that says

	files, wrong, removed, there, gone, missing, unknown, back int64
}

// filesCheck judges the files that the run wrote: changed ones, and ones that
// are missing although the table still names them. What was replaced or
// removed since is nothing against the manifest.
func (c *dataCheck) filesCheck() manifests.Check {
	out := c.result(CheckFiles, c.files, c.wrong, "are changed: their digests differ from the evidence")
	if c.missing > 0 {
		out.OK, out.Skipped = false, false
		out.Reason += fmt.Sprintf("; %d are missing although the table still names them", c.missing)
	}
	if n := c.gone - c.missing; n > 0 {
		out.Reason += fmt.Sprintf("; %d were replaced or removed since", n)
	}
	for _, run := range sortedKeys(c.replaced) {
		out.Reason += fmt.Sprintf("; %d were replaced later by run %s", c.replaced[run], run)
	}
	if c.back > 0 {
		out.Reason += fmt.Sprintf("; %d not judged: the run was undone there, its rows were added back", c.back)
	}
	return out
}

// lost counts, of the files that are not there, those that a table still names.
func (c *dataCheck) lost(ctx context.Context) error {
	for _, name := range sortedKeys(c.absent) {
		target, err := c.job.openTarget(ctx, name)
		if err != nil {
			continue // a prefix, which names nothing, or a table that was dropped
		}
		whole := warehouse.Selection{Action: warehouse.Action{Kind: warehouse.Delete}, Refs: "report", Compact: &warehouse.Compaction{}}
		_, err = target.Plan(ctx, whole, func(warehouse.Task) error { return nil }, func(path string) error {
			if c.absent[name][xxh3.HashString(path)] {
				c.missing++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list the files of %s: %w", name, err)
		}
	}
	return nil
}

func (c *dataCheck) result(name string, n, bad int64, what string) manifests.Check {
	out := manifests.Check{Name: name, OK: bad == 0, Reason: fmt.Sprintf("%d looked at", n)}
	switch {
	case bad > 0:
		out.Reason = fmt.Sprintf("%d of %d %s", bad, n, what)
	case n == 0 && c.unknown > 0:
		out.OK, out.Skipped, out.Reason = false, true, "paths and digests are keyed, and the run's secret is not at hand"
	}
	return out
}

func (c *dataCheck) record(ctx context.Context, m *manifests.Manifest, r *manifests.Record) error {
	written := r.Kind == manifests.RecordFile && r.Status == manifests.StatusRewritten && r.NewPath != "" && r.DigestAfter != ""
	if !written && r.Kind != manifests.RecordDelete {
		return nil
	}
	if (r.Keyed || r.KeyedDigest) && c.secret == nil {
		c.unknown++
		return nil
	}
	store, err := c.store(ctx, r.Target)
	if err != nil {
		return err
	}
	if written && c.undone[r.Target] {
		c.back++
		return nil
	}
	if written {
		path, err := c.path(ctx, m, store, r, r.NewPath)
		if err != nil {
			return err
		}
		return c.file(ctx, store, r, path)
	}
	path, err := c.path(ctx, m, store, r, r.Path)
	if err != nil {
		return err
	}
	c.removed++
	if path == "" || r.Version != "" {
		return nil // a keyed path that no object has, or a version of an object that may live on
	}
	_, err = storage.Stat(ctx, store, path)
	switch {
	case err == nil:
		c.there++
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for a removed object: %w", err)
	}
	return nil
}

func (c *dataCheck) file(ctx context.Context, store storage.Store, r *manifests.Record, path string) error {
	if path == "" {
		c.gone++
		return nil
	}
	sum, err := objectSHA256(ctx, store, path)
	if errors.Is(err, fs.ErrNotExist) {
		c.gone++
		if c.absent[r.Target] == nil {
			c.absent[r.Target] = map[uint64]bool{}
		}
		c.absent[r.Target][xxh3.HashString(path)] = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a file of the evidence: %w", err)
	}
	c.files++
	got := hex.EncodeToString(sum[:])
	if r.KeyedDigest {
		if got, err = manifests.KeyedDigest(c.secret, sum[:]); err != nil {
			return err
		}
	}
	if got != r.DigestAfter {
		c.differ = append(c.differ, differing{target: r.Target, path: path, sum: sum})
	}
	return nil
}

func (c *dataCheck) store(ctx context.Context, target string) (storage.Store, error) {
	if s, ok := c.stores[target]; ok {
		return s, nil
	}
	s, err := c.job.targetStore(ctx, target)
	if err != nil { // a prefix is in no catalog
		if s, err = c.job.objectStore(); err != nil {
			return nil, err
		}
	}
	c.stores[target] = s
	return s, nil
}

// path finds the path that a keyed digest stands for, by listing the target's
// location once; "" when nothing there has it.
func (c *dataCheck) path(ctx context.Context, m *manifests.Manifest, store storage.Store, r *manifests.Record, path string) (string, error) {
	if !r.Keyed {
		return path, nil
	}
	if c.keyed[r.Target] == nil {
		paths, err := manifests.NewPaths(c.secret)
		if err != nil {
			return "", err
		}
		known := map[string]string{}
		for _, s := range m.Scope.Included {
			if s.Target != r.Target {
				continue
			}
			for info, err := range store.List(ctx, s.Location) {
				if err != nil {
					return "", fmt.Errorf("list %s: %w", r.Target, err)
				}
				known[paths.Digest(info.Path)] = info.Path
			}
		}
		c.keyed[r.Target] = known
	}
	return c.keyed[r.Target][path], nil
}

// absence re-reads for the run's keys, as far as they are kept, what its
// manifest answers for.
func (j *Job) absence(ctx context.Context, m *manifests.Manifest) (manifests.Check, error) {
	out := manifests.Check{Name: CheckAbsence}
	surfaces, notJudged, err := j.answersFor(ctx, m.RunID)
	switch {
	case errors.Is(err, state.ErrSealed):
		out.Skipped, out.Reason = true, "the run is sealed, its keys are gone; expunge audit JOB looks for those that the job keeps"
		return out, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoKeysets):
		out.Skipped, out.Reason = true, "the run's keys were forgotten; expunge verify JOB takes the job's"
		return out, nil
	case err != nil && m.Kind == manifests.KindAudit, err != nil && m.Kind == manifests.KindSeal:
		out.Skipped, out.Reason = true, "a manifest of this kind has no keys of its own"
		return out, nil
	case err != nil && (ctx.Err() != nil || runLevel(err)):
		return out, err
	case err != nil: // a table that lacks a file, say
		out.Reason = "the targets could not be read: " + errorClass(err)
		return out, nil
	}
	var said []string
	if bad := failures(surfaces); len(bad) > 0 {
		s := bad[len(bad)-1]
		said = append(said, fmt.Sprintf("keys are there again: %s: %s: %d found", s.Target, s.Surface, s.Findings))
	} else if out.OK = true; slices.ContainsFunc(surfaces, stillFound) {
		s := surfaces[slices.IndexFunc(surfaces, stillFound)]
		said = append(said, "live data holds no key; "+s.Surface+" still does (see the manifest's residue)")
	}
	if len(notJudged) > 0 {
		said = append(said, "not judged: "+strings.Join(notJudged, "; "))
	}
	if len(surfaces) == 0 && len(notJudged) > 0 {
		out.OK, out.Skipped = false, true
	}
	out.Reason = strings.Join(said, "; ")
	return out, nil
}

func stillFound(s manifests.Surface) bool { return s.Result == manifests.Found }

// answersFor re-reads what a run's manifest answers for, and says what it does not.
func (j *Job) answersFor(ctx context.Context, runID string) (surfaces []manifests.Surface, notJudged []string, err error) {
	r, err := j.openRun(ctx, runID)
	if err != nil {
		return nil, nil, err
	}
	if r.progress.keysets == nil || r.progress.planned == nil {
		return nil, nil, fmt.Errorf("run %s: %w", runID, errNoKeysets)
	}
	targets, notJudged, err := r.answered(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range targets {
		o, err := j.verifyOptions(VerifyOptions{})
		if err != nil {
			return nil, nil, err
		}
		spared, err := r.sparedOf(ctx, t)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", t.name, err)
		}
		spared.skip(&o)
		if w := spared.words(t.name); w != "" {
			notJudged = append(notJudged, w)
		}
		found, _, err := j.look(ctx, t, o)
		if err != nil {
			return nil, nil, fmt.Errorf("verify %s: %w", t.name, err)
		}
		surfaces = append(surfaces, found...)
	}
	return surfaces, notJudged, nil
}
