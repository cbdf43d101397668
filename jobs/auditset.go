package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
)

// The suppression set: the keys of past runs, encrypted under a secret of their
// own, which is no run's. Sealing a run leaves it alone; its expiry, or the
// run's restore, destroys the secret and then the files. Beside it lies, in
// clear, when it expires: audits/<job>/<run>.json.

// suppressed is one run's part of the suppression set.
type suppressed struct {
	Run      string    `json:"run"`
	Job      string    `json:"job"`
	Keysets  []string  `json:"keysets"`
	Ended    time.Time `json:"ended"`
	Expires  time.Time `json:"expires"`
	PurgeDue time.Time `json:"purge_due,omitzero"`
}

func vaultName(run string) string { return "audit-" + run }

func (j *Job) suppressedPath(run string) string {
	return j.statePath("audits", j.cfg.Name, run+".json")
}

// keepForAudit keeps the run's keys as the job's policy says. It can be repeated.
func (r *Run) keepForAudit(ctx context.Context) error {
	a := r.job.cfg.Audit
	if a == nil || r.opts.DryRun {
		return nil
	}
	v, err := r.job.state.OpenVault(ctx, vaultName(r.ID()), true)
	if err != nil {
		return fmt.Errorf("keep keys for audits: %w", err)
	}
	s := suppressed{Run: r.ID(), Job: r.job.cfg.Name, Ended: r.progress.ended.Time, Expires: r.progress.ended.Time.Add(a.Keep.Duration()), PurgeDue: r.progress.ended.PurgeDue}
	for _, name := range sortedKeys(r.sets) {
		set := r.sets[name]
		if set.Len() == 0 {
			continue
		}
		out, err := v.Replace(ctx, dirKeysets+name)
		if err != nil {
			return fmt.Errorf("keep keys for audits: %w", err)
		}
		if _, err := set.WriteTo(out); err != nil {
			_ = out.Abort()
			return fmt.Errorf("keep keys for audits: %w", err)
		}
		if err := out.Close(); err != nil {
			return fmt.Errorf("keep keys for audits: %w", err)
		}
		s.Keysets = append(s.Keysets, name)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("keep keys for audits: %w", err)
	}
	return storage.WriteAll(ctx, r.job.stateStore, r.job.suppressedPath(r.ID()), raw, storage.CreateOptions{Private: true})
}

// dropFromAudit forgets a run's keys: they expired, or its rows are meant to be there again.
func (j *Job) dropFromAudit(ctx context.Context, run string) error {
	if err := j.state.RemoveVault(ctx, vaultName(run)); err != nil {
		return fmt.Errorf("forget keys of audits: %w", err)
	}
	if err := j.stateStore.Remove(ctx, j.suppressedPath(run)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget keys of audits: %w", err)
	}
	return nil
}

// expireAudits forgets what has been kept long enough and returns the rest, by run id.
func (j *Job) expireAudits(ctx context.Context) (kept []suppressed, expired []string, err error) {
	for info, err := range j.stateStore.List(ctx, j.statePath("audits", j.cfg.Name)+"/") {
		if err != nil {
			return nil, nil, fmt.Errorf("list kept keys: %w", err)
		}
		raw, err := storage.ReadAll(ctx, j.stateStore, info.Path)
		if err != nil {
			return nil, nil, fmt.Errorf("read kept keys: %w", err)
		}
		var s suppressed
		if json.Unmarshal(raw, &s) != nil || s.Job != j.cfg.Name {
			return nil, nil, fmt.Errorf("read kept keys: %w", state.ErrCorrupt)
		}
		if clock.Now(ctx).Before(s.Expires) {
			kept = append(kept, s)
			continue
		}
		if err := j.dropFromAudit(ctx, s.Run); err != nil {
			return nil, nil, err
		}
		expired = append(expired, s.Run)
	}
	slices.SortFunc(kept, func(a, b suppressed) int { return strings.Compare(a.Run, b.Run) })
	return kept, expired, nil
}

// suppression is the union of the keys of past runs.
type suppression struct {
	runs    []suppressed
	sets    map[string]*keyset.Set            // by keyset
	ofRun   map[string]map[string]*keyset.Set // by run and keyset
	pending time.Time                         // until when a purge of one of them is open
}

// suppression reads the kept keys, less those that are held today.
func (j *Job) suppression(ctx context.Context, kept []suppressed) (*suppression, error) {
	out := &suppression{runs: kept, sets: map[string]*keyset.Set{}, ofRun: map[string]map[string]*keyset.Set{}}
	for _, s := range kept {
		v, err := j.state.OpenVault(ctx, vaultName(s.Run), false)
		if err != nil {
			return nil, fmt.Errorf("keys of run %s: %w", s.Run, err)
		}
		out.ofRun[s.Run] = map[string]*keyset.Set{}
		for _, name := range s.Keysets {
			set, err := readKeyset(ctx, v, dirKeysets+name)
			if err != nil {
				return nil, fmt.Errorf("keys of run %s: %w", s.Run, err)
			}
			out.ofRun[s.Run][name] = set
			if out.sets[name] == nil {
				out.sets[name] = set
				continue
			}
			if out.sets[name], err = keyset.Union(out.sets[name], set); err != nil {
				return nil, fmt.Errorf("keyset %s of run %s: %w", name, s.Run, err)
			}
		}
		if st, err := j.runStatus(ctx, s.Run); err == nil && st.PurgeDue.After(out.pending) {
			out.pending = st.PurgeDue
		}
	}
	return out, j.lessHolds(ctx, out.sets)
}

func (j *Job) runStatus(ctx context.Context, run string) (state.Status, error) {
	r, err := j.state.OpenRun(ctx, run)
	if err != nil {
		return state.Status{}, err
	}
	return r.Status(ctx)
}

// lessHolds takes out what is under legal hold today, and gives keysets of the
// job that no past run had an empty set.
func (j *Job) lessHolds(ctx context.Context, sets map[string]*keyset.Set) error {
	for _, name := range sortedKeys(j.cfg.Keysets) {
		spec, err := keysetSpec(name, j.cfg.Keysets[name])
		if err != nil {
			return err
		}
		if sets[name] == nil {
			b, err := keyset.NewBuilder(name, spec.Schema)
			if err != nil {
				return fmt.Errorf("keyset %s: %w", name, err)
			}
			if sets[name], err = b.Build(); err != nil {
				return fmt.Errorf("keyset %s: %w", name, err)
			}
			continue
		}
		if len(spec.Holds) == 0 {
			continue
		}
		holds, err := j.loadHolds(ctx, spec)
		if err != nil {
			return err
		}
		if sets[name], err = keyset.Subtract(sets[name], holds); err != nil {
			return fmt.Errorf("keyset %s: %w", name, err)
		}
	}
	return nil
}
