package jobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
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
	c := &dataCheck{job: j, secret: st.Secret(), stores: map[string]storage.Store{}, keyed: map[string]map[string]string{}}
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
	out := []manifests.Check{
		c.result(CheckFiles, c.files, c.wrong, "differ from the evidence"),
		c.result(CheckRemovals, c.removed, c.there, "are there (again)"),
	}
	absence, err := j.absence(ctx, m)
	return append(out, absence), err
}

type dataCheck struct {
	job    *Job
	secret []byte
	stores map[string]storage.Store
	keyed  map[string]map[string]string // target → digest → path, where paths are keyed

	files, wrong, removed, there, gone, unknown int64
}

func (c *dataCheck) result(name string, n, bad int64, what string) manifests.Check {
	out := manifests.Check{Name: name, OK: bad == 0, Reason: fmt.Sprintf("%d looked at", n)}
	switch {
	case bad > 0:
		out.Reason = fmt.Sprintf("%d of %d %s", bad, n, what)
	case n == 0 && c.unknown > 0:
		out.OK, out.Skipped, out.Reason = false, true, "paths and digests are keyed, and the run's secret is not at hand"
	}
	if name == CheckFiles && c.gone > 0 {
		out.Reason += fmt.Sprintf("; %d were replaced or removed since", c.gone)
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
		c.wrong++
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

// absence re-reads the targets for the run's keys, as far as they are kept.
func (j *Job) absence(ctx context.Context, m *manifests.Manifest) (manifests.Check, error) {
	out := manifests.Check{Name: CheckAbsence}
	v, err := j.Verify(ctx, m.RunID, VerifyOptions{})
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoKeysets):
		out.Skipped, out.Reason = true, "the run's keys were forgotten; expunge verify JOB takes the job's"
		return out, nil
	case err != nil && m.Kind == manifests.KindAudit, err != nil && m.Kind == manifests.KindSeal:
		out.Skipped, out.Reason = true, "a manifest of this kind has no keys of its own"
		return out, nil
	case err != nil:
		return out, err
	}
	out.OK = true
	for _, s := range v.Surfaces {
		if s.Result == manifests.Fail {
			out.OK, out.Reason = false, fmt.Sprintf("%s: %s: %d found", s.Target, s.Surface, s.Findings)
		}
		if s.Result == manifests.Found && out.OK {
			out.Reason = "live data holds no key; " + s.Surface + " still does (see the manifest's residue)"
		}
	}
	return out, nil
}
