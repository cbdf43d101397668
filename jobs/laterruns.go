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
			if err := c.writtenBy(ctx, st.Run); err != nil {
				return fmt.Errorf("evidence of run %s: %w", st.Run, err)
			}
		}
	}
	c.wrong += int64(len(c.differ))
	return nil
}

// writtenBy takes out of differ what a later run's evidence accounts for.
func (c *dataCheck) writtenBy(ctx context.Context, runID string) error {
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
		if err := c.accountedFor(ctx, id, st.Secret()); err != nil {
			return err
		}
	}
	return nil
}

func (c *dataCheck) accountedFor(ctx context.Context, id string, secret []byte) error {
	b, side, err := c.job.bundle(ctx, id)
	if err != nil {
		return err
	}
	if side == nil {
		return nil
	}
	defer side.Close()
	trust, err := c.job.Trust(ctx)
	if err != nil {
		return err
	}
	m, checks := manifests.Verify(ctx, b, trust)
	if ok, _ := manifests.Verified(checks); !ok || m.Kind != manifests.KindRun {
		return nil // no evidence of anything
	}
	l := later{secret: secret, byPath: map[string]int{}}
	if secret != nil {
		if l.paths, err = manifests.NewPaths(secret); err != nil {
			return err
		}
	}
	for i, d := range c.differ {
		l.byPath[d.target+"\x00"+d.path] = i
		if l.paths != nil {
			l.byPath[d.target+"\x00"+l.paths.Digest(d.path)] = i
		}
	}
	explained, how := map[int]bool{}, ""
	for rec, err := range manifests.ReadSidecar(b.Sidecar, b.Size) {
		if err != nil {
			return err
		}
		i, ok := l.byPath[rec.Target+"\x00"+rec.NewPath]
		if !ok || rec.NewPath == "" || rec.Status != manifests.StatusRewritten {
			continue
		}
		if rec.KeyedDigest && secret == nil {
			explained[i], how = true, " and not judged: that run is sealed"
			continue
		}
		same, err := l.states(&rec, c.differ[i].sum)
		if err != nil {
			return err
		}
		if same {
			explained[i] = true
		}
	}
	if how == "" {
		how = " and are as its evidence states"
	}
	if n := int64(len(explained)); n > 0 {
		c.replaced[m.RunID+how] += n
	}
	i := -1
	c.differ = slices.DeleteFunc(c.differ, func(differing) bool { i++; return explained[i] })
	return nil
}

// later is a later run, as far as its secret is at hand.
type later struct {
	secret []byte
	paths  *manifests.Paths
	byPath map[string]int // target and path as its evidence may say it → index in differ
}

// states says whether a record states that digest for what it wrote.
func (l *later) states(rec *manifests.Record, sum [32]byte) (bool, error) {
	if !rec.KeyedDigest {
		return rec.DigestAfter == hex.EncodeToString(sum[:]), nil
	}
	want, err := manifests.KeyedDigest(l.secret, sum[:])
	return rec.DigestAfter == want, err
}

// bundle reads a manifest of the state bucket with what lies beside it. The
// caller closes the evidence, which is nil where there is none.
func (j *Job) bundle(ctx context.Context, id string) (b manifests.Bundle, side storage.Object, err error) {
	read := func(name string) []byte {
		var raw []byte
		if err == nil {
			if raw, err = storage.ReadAll(ctx, j.stateStore, j.statePath("manifests", name)); err != nil {
				err = fmt.Errorf("read manifest: %w", err)
			}
		}
		return raw
	}
	b.Envelope, b.Proof = read(manifests.EnvelopeName(id)), read(manifests.ProofName(id))
	if err != nil {
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
