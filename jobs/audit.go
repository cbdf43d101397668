package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// ErrNothingKept: the job keeps no keys of past runs, so there is nothing to look for.
var ErrNothingKept = errors.New("no keys of past runs are kept")

// AuditFinding is an object in which erased data is stored again, or still.
type AuditFinding struct {
	Target  string   `json:"target"`
	File    string   `json:"file"` // path, or its keyed digest where paths may hold keys
	Keyed   bool     `json:"keyed,omitempty"`
	Version string   `json:"version,omitempty"` // the store's version id of a noncurrent version
	Surface string   `json:"surface"`
	State   string   `json:"state"` // "live", "tombstoned", "in history", …
	Count   int64    `json:"count"`
	Runs    []string `json:"runs,omitempty"` // that had erased the keys; none where the object does not say
}

// AuditSummary is how a pass of the audit ended.
type AuditSummary struct {
	RunID, Job string
	Outcome    string
	Reasons    []string
	Runs       []string // whose keys were looked for
	Keys       int64
	Expired    []string // runs whose keys were forgotten now
	Findings   []AuditFinding
	Surfaces   []manifests.Surface
	Manifest   string
	CameBack   bool // erased data is live again
}

// Audit looks in the job's targets as they are today for the keys of past
// runs, as far as the job keeps them: late backfills and restored copies bring
// data back. It changes nothing in a target. Each pass ends with a manifest.
func (j *Job) Audit(ctx context.Context) (*AuditSummary, error) {
	kept, expired, err := j.expireAudits(ctx)
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("%w: set audit.keep in the job file, and run the job", ErrNothingKept)
	}
	sup, err := j.suppression(ctx, kept)
	if err != nil {
		return nil, err
	}
	r, err := j.newRunNamed(ctx, j.cfg.Name+"-audit", RunOptions{})
	if err != nil {
		return nil, err
	}
	a := &audit{run: r, sup: sup, out: &AuditSummary{RunID: r.ID(), Job: j.cfg.Name, Expired: expired}}
	r.auditing = true
	if err := r.setStatus(ctx, StateAuditing, string(StepVerify)); err != nil {
		return nil, err
	}
	err = a.pass(ctx)
	end := StateFinished
	if err != nil {
		end = StateFailed
	}
	if serr := r.setStatus(context.WithoutCancel(ctx), end, ""); err == nil {
		err = serr
	}
	return a.out, err
}

// audit is one pass.
type audit struct {
	run     *Run
	sup     *suppression
	out     *AuditSummary
	targets []*boundTarget
	keyed   map[string]bool // targets whose paths may hold keys
}

func (a *audit) pass(ctx context.Context) (err error) {
	j := a.run.job
	for _, s := range a.sup.runs {
		a.out.Runs = append(a.out.Runs, s.Run)
	}
	for _, set := range a.sup.sets {
		a.out.Keys += int64(set.Len())
	}
	if a.targets, a.run.excluded, err = j.resolveTargets(ctx, a.sup.sets, window{}); err != nil {
		return err
	}
	a.keyed = map[string]bool{}
	o := verifier.Options{Mode: verifier.ModeFull, Workers: j.workers(), Files: true, Metadata: true, Orphans: true, OrphanAge: j.cfg.Orphans.MinAge.Duration()}
	for _, t := range a.targets {
		if a.keyed[t.name], err = keyPaths(ctx, t); err != nil {
			return fmt.Errorf("look at the paths of %s: %w", t.name, err)
		}
		surfaces, found, err := j.reread(ctx, t, o)
		if err != nil {
			return fmt.Errorf("audit %s: %w", t.name, err)
		}
		a.out.Surfaces = append(a.out.Surfaces, surfaces...)
		if err := a.attribute(ctx, t, found); err != nil {
			return fmt.Errorf("audit %s: %w", t.name, err)
		}
	}
	a.out.CameBack = slices.ContainsFunc(a.out.Surfaces, func(s manifests.Surface) bool { return s.Result == manifests.Fail })
	return a.publish(ctx)
}

// keyPaths says whether the paths of a target's files may hold keys.
func keyPaths(ctx context.Context, t *boundTarget) (bool, error) {
	if p, ok := t.target.(warehouse.KeyPather); ok {
		return p.KeyPaths(ctx, t.sel)
	}
	d, err := t.target.Describe(ctx)
	return d.KeyPartitioned, err
}

// attribute names the runs that had erased what was found. Data files are
// scanned once more for it; of other objects only the surface is known.
func (a *audit) attribute(ctx context.Context, t *boundTarget, found []verifier.Finding) error {
	e, err := a.run.recorder()
	if err != nil {
		return err
	}
	runs := map[string][]string{}
	for _, f := range found {
		out := AuditFinding{Target: t.name, File: e.path(f.Object, a.keyed[t.name]), Keyed: a.keyed[t.name], Version: f.Version, Surface: f.Surface, State: f.State, Count: f.Count}
		switch f.Surface {
		case verifier.LiveRows, verifier.TombstonedRows, verifier.History, surfaceVersions:
			if _, done := runs[f.Object+f.Version]; !done {
				if runs[f.Object+f.Version], err = a.runsOf(ctx, t, f); err != nil {
					return err
				}
			}
		}
		out.Runs = runs[f.Object+f.Version]
		if f.Object == "" { // a surface that is judged over all of a table's files
			out.File, out.Keyed = "all files", false
		}
		a.out.Findings = append(a.out.Findings, out)
	}
	return nil
}

func (a *audit) runsOf(ctx context.Context, t *boundTarget, f verifier.Finding) ([]string, error) {
	keys, err := a.keysIn(ctx, t, f)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, numbers := range keys {
		if numbers == nil || i >= len(t.sel.Match) {
			continue
		}
		m := t.sel.Match[i]
		n := 0
		for key := range m.Keys.All() {
			if numbers.Contains(uint64(n)) {
				out = union(out, a.erasedBy(m.Keyset, key))
			}
			n++
		}
	}
	return out, nil
}

// keysIn are the numbers of the keys that an object holds, by match. An object
// of a prefix that is gone or cannot be read by now tells nothing.
func (a *audit) keysIn(ctx context.Context, t *boundTarget, f verifier.Finding) ([]*roaring64.Bitmap, error) {
	if p := t.prefix(); p != nil {
		keys, err := p.FoundKeys(ctx, f.Object, f.Version, t.bound)
		if err != nil && ctx.Err() == nil && !runLevel(err) {
			return nil, nil
		}
		return keys, err
	}
	store, err := a.run.job.storeOf(ctx, t)
	if err != nil {
		return nil, err
	}
	src, err := store.Open(ctx, f.Object)
	if err != nil {
		return nil, fmt.Errorf("open data file: %w", err)
	}
	defer src.Close()
	file := warehouse.File{Path: f.Object}
	if f.Projected != nil {
		file.Projected = *f.Projected
	}
	scan, err := parquetFormat{}.Scan(ctx, src, file.Bind(t.bound))
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	return scan.Keys, nil
}

func (a *audit) erasedBy(name string, key []byte) (out []string) {
	for _, s := range a.sup.runs {
		if set := a.sup.ofRun[s.Run][name]; set != nil && set.Contains(key) {
			out = append(out, s.Run)
		}
	}
	return out
}

// publish writes the pass's evidence and manifest.
func (a *audit) publish(ctx context.Context) error {
	r, now := a.run, clock.Now(ctx)
	id := r.ID()
	m, rec, err := r.job.publish(ctx, id, manifests.KindAudit, func(log *manifests.Log, signers []manifests.Signer) ([]byte, error) {
		m, err := a.manifest(ctx, id, now)
		if err != nil {
			return nil, err
		}
		if err := follow(ctx, log, m); err != nil {
			return nil, err
		}
		m.Actors = actors(signers, now)
		return manifests.Sign(ctx, m, signers...)
	})
	if err != nil {
		return err
	}
	a.out.Outcome, a.out.Reasons, a.out.Manifest = string(m.Outcome.Result), m.Outcome.Reasons, rec.Path
	return r.note(ctx, evManifest, string(manifests.KindAudit), rec)
}

func (a *audit) manifest(ctx context.Context, id string, now time.Time) (*manifests.Manifest, error) {
	r := a.run
	m := r.job.head(id, r.ID(), manifests.KindAudit, r.frozen.Digest)
	m.Times = manifests.Times{Start: r.frozen.Started, End: now, Verified: &now}
	m.Verification = manifests.Verification{Mode: verifier.ModeFull, Surfaces: a.out.Surfaces}
	if err := a.keysets(ctx, m); err != nil {
		return nil, err
	}
	for _, x := range r.job.cfg.Excluded {
		m.Scope.Excluded = append(m.Scope.Excluded, manifests.Exclusion{What: x.What, Reason: x.Reason, Owner: x.Owner, GoneBy: x.GoneBy.String(), Declared: true})
	}
	for _, x := range r.excluded {
		m.Scope.Excluded = append(m.Scope.Excluded, exclusion("", x))
	}
	for _, t := range a.targets {
		d, err := t.target.Describe(ctx)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", t.name, err)
		}
		m.Scope.Included = append(m.Scope.Included, included(t, d))
		mt := manifests.Target{Name: t.name, Status: manifests.TargetClean}
		if d.MetadataSHA256 != "" {
			mt.After = version(d)
		}
		if slices.ContainsFunc(a.out.Surfaces, func(s manifests.Surface) bool { return s.Target == t.name && s.Result == manifests.Fail }) {
			mt.Reason = "erased data is stored again"
		}
		m.Targets = append(m.Targets, mt)
	}
	a.residue(m)
	var err error
	m.Evidence, err = a.sidecar(ctx, id)
	return m, err
}

// residue dates what runs that wait for their purge still hold.
func (a *audit) residue(m *manifests.Manifest) {
	for _, s := range a.out.Surfaces {
		if s.Result != manifests.Found {
			continue
		}
		res := manifests.Residue{Target: s.Target, Surface: s.Surface, Count: s.Findings, State: "unexplained"}
		if !a.sup.pending.IsZero() && s.Surface != verifier.Orphans {
			res.State, res.GoneBy, res.Owner = "within grace", optional(a.sup.pending), "expunge"
		}
		m.Residue = append(m.Residue, res)
	}
}

// keysets commits to what was looked for, under the audit's own secret.
func (a *audit) keysets(ctx context.Context, m *manifests.Manifest) error {
	for _, name := range sortedKeys(a.sup.sets) {
		set := a.sup.sets[name]
		c, err := a.run.commitKeys(ctx, name, set)
		if err != nil {
			return fmt.Errorf("commit to keyset %s: %w", name, err)
		}
		m.Keysets = append(m.Keysets, manifests.Keyset{Name: name, Parts: keyParts(set), Commitment: c})
	}
	return nil
}

func keyParts(set *keyset.Set) (out []manifests.KeyPart) {
	for _, p := range set.Schema() {
		out = append(out, manifests.KeyPart{Name: p.Name, Type: p.Type.String(), Normalize: p.Normalize})
	}
	return out
}

func (a *audit) sidecar(ctx context.Context, id string) (ev manifests.Evidence, err error) {
	j, name := a.run.job, manifests.SidecarName(id)
	out, err := j.stateStore.Create(ctx, j.statePath("manifests", name), storage.CreateOptions{})
	if err != nil {
		return ev, fmt.Errorf("write evidence: %w", err)
	}
	w, err := manifests.NewSidecarWriter(out)
	for i := 0; err == nil && i < len(a.out.Findings); i++ {
		err = w.Write(a.out.Findings[i].record())
	}
	if err == nil {
		ev, err = w.Close()
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		_ = out.Abort()
		return ev, fmt.Errorf("write evidence: %w", err)
	}
	ev.Name = name
	return ev, nil
}

// record says what was found where, and which runs had erased it.
func (f AuditFinding) record() manifests.Record {
	reason := f.Surface + ", " + f.State
	for i, run := range f.Runs {
		if i == 0 {
			reason += "; erased by"
		}
		reason += " " + run
	}
	return manifests.Record{Kind: manifests.RecordFile, Target: f.Target, Path: f.File, Keyed: f.Keyed, Version: f.Version,
		Status: manifests.StatusFound, Method: manifests.MethodAudited, Reason: reason, RowsIn: f.Count}
}

// Audits lists the manifests of audit passes, newest first.
func Audits(ctx context.Context, s *state.State, job string) ([]state.Status, error) {
	all, err := Runs(ctx, s, job, 0)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(st state.Status) bool { return st.Labels[labelAudit] == "" }), nil
}
