package jobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// differing is a file that is not as a manifest's evidence says.
type differing struct {
	target, path string
	sum          [32]byte
	explained    bool // a later run wrote it
}

// undoneTargets are those whose rows a restore has added back.
func (j *Job) undoneTargets(ctx context.Context, runID string) (map[string]bool, error) {
	r, err := j.openRun(ctx, runID)
	if errors.Is(err, state.ErrSealed) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody can tell any more: a difference is called one
	}
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for slot := range r.progress.reverted {
		out[r.progress.planned.Targets[slot].Name] = true
	}
	return out, nil
}

// explain tells files that a later run of ours wrote from files that somebody
// changed. A later run counts when its manifest verifies, evidence included,
// and states for that path what is there now.
func (c *dataCheck) explain(ctx context.Context) error {
	c.replaced = map[string]int64{}
	if len(c.differ) > 0 {
		trust, err := c.job.Trust(ctx)
		if err != nil {
			return err
		}
		runs, err := Runs(ctx, c.job.state, "", 0)
		if err != nil {
			return err
		}
		for _, st := range runs { // newest first: its word on a file is the last one
			if len(c.differ) == 0 || !st.Started.After(c.manifest.Times.Start) {
				break
			}
			if st.Run == c.manifest.RunID || st.Labels[labelDryRun] != "" || st.Labels[labelAudit] != "" {
				continue
			}
			if err := c.writtenBy(ctx, st.Run, trust); err != nil {
				return fmt.Errorf("evidence of run %s: %w", st.Run, err)
			}
		}
	}
	c.wrong += int64(len(c.differ))
	return nil
}

// writtenBy takes out of differ what a later run's evidence accounts for.
func (c *dataCheck) writtenBy(ctx context.Context, runID string, trust *manifests.Trust) error {
	st, err := c.job.state.OpenRun(ctx, runID)
	if err != nil {
		return err
	}
	for info, err := range c.job.stateStore.List(ctx, c.job.statePath("manifests", runID+"-")) {
		if err != nil {
			return err
		}
		id, ok := strings.CutSuffix(path.Base(info.Path), manifests.EnvelopeName(""))
		if !ok {
			continue
		}
		if err := c.accountedFor(ctx, id, st.Secret(), trust); err != nil {
			return err
		}
	}
	return nil
}

func (c *dataCheck) accountedFor(ctx context.Context, id string, secret []byte, trust *manifests.Trust) error {
	b, side, err := c.job.bundle(ctx, id)
	if err != nil {
		return err
	}
	if side == nil {
		return nil
	}
	defer side.Close()
	m, checks := manifests.Verify(ctx, b, trust)
	if ok, _ := manifests.Verified(checks); !ok || m.Kind != manifests.KindRun {
		return nil // no evidence of anything
	}
	byPath, err := c.byPath(secret)
	if err != nil {
		return err
	}
	how := " and are as its evidence states"
	for rec, err := range manifests.ReadSidecar(b.Sidecar, b.Size) {
		if err != nil {
			return err
		}
		d := byPath[rec.Target+"\x00"+rec.NewPath]
		if d == nil || rec.NewPath == "" || rec.Status != manifests.StatusRewritten {
			continue
		}
		if rec.KeyedDigest && secret == nil {
			d.explained, how = true, " and not judged: that run is sealed"
			continue
		}
		same, err := states(&rec, secret, d.sum)
		if err != nil {
			return err
		}
		d.explained = d.explained || same
	}
	before := len(c.differ)
	c.differ = slices.DeleteFunc(c.differ, func(d differing) bool { return d.explained })
	if n := before - len(c.differ); n > 0 {
		c.replaced[m.RunID+how] += int64(n)
	}
	return nil
}

// byPath finds what differs by target and path, as the evidence of a run with
// this secret may say it; nil = that run is sealed.
func (c *dataCheck) byPath(secret []byte) (map[string]*differing, error) {
	out := map[string]*differing{}
	var paths *manifests.Paths
	if secret != nil {
		var err error
		if paths, err = manifests.NewPaths(secret); err != nil {
			return nil, err
		}
	}
	for i := range c.differ {
		d := &c.differ[i]
		out[d.target+"\x00"+d.path] = d
		if paths != nil {
			out[d.target+"\x00"+paths.Digest(d.path)] = d
		}
	}
	return out, nil
}

// states says whether a record of a run with this secret states that digest for
// what it wrote.
func states(rec *manifests.Record, secret []byte, sum [32]byte) (bool, error) {
	if !rec.KeyedDigest {
		return rec.DigestAfter == hex.EncodeToString(sum[:]), nil
	}
	want, err := manifests.KeyedDigest(secret, sum[:])
	return rec.DigestAfter == want, err
}

// bundle reads a manifest of the state bucket with what lies beside it. The
// caller closes the evidence, which is nil where there is none.
func (j *Job) bundle(ctx context.Context, id string) (b manifests.Bundle, side storage.Object, err error) {
	if b.Envelope, b.Proof, err = j.signed(ctx, id); err != nil {
		return b, nil, err
	}
	side, err = j.stateStore.Open(ctx, j.statePath("manifests", manifests.SidecarName(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil, nil
	}
	if err != nil {
		return b, nil, fmt.Errorf("open evidence: %w", err)
	}
	b.Sidecar, b.Size = side, side.Info().Size
	return b, side, nil
}

// signed reads a manifest's envelope and its proof of the log.
func (j *Job) signed(ctx context.Context, id string) (envelope, proof []byte, err error) {
	if envelope, err = readAll(ctx, j, j.statePath("manifests", manifests.EnvelopeName(id))); err != nil {
		return nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	if proof, err = readAll(ctx, j, j.statePath("manifests", manifests.ProofName(id))); err != nil {
		return nil, nil, fmt.Errorf("read log proof: %w", err)
	}
	return envelope, proof, nil
}
