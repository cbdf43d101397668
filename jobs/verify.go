package jobs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/sourcegraph/conc/pool"
	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// surfaceSurvivors is the comparison of every replaced file with its replacement.
const surfaceSurvivors = "survivors of replaced files"

// verified says whether every changed target has passed.
func (r *Run) verified() bool {
	for _, slot := range r.progress.committedSlots() {
		if v, ok := r.progress.verified[slot]; !ok || !v.Passed {
			return false
		}
	}
	return true
}

// verifyAll re-reads with independent code what the run changed: survivors
// equal, erased keys absent, and a control that shows the check can find keys.
func (r *Run) verifyAll(ctx context.Context) error {
	if err := r.step(ctx, StepVerify); err != nil {
		return err
	}
	for _, t := range r.targets {
		c, committed := r.progress.committed[t.slot]
		if _, done := r.progress.verified[t.slot]; done || !committed {
			continue
		}
		rec, err := r.verifySlot(ctx, t, c)
		if err != nil {
			return fmt.Errorf("verify %s: %w", t.name, err)
		}
		if err := r.note(ctx, evVerified, fmt.Sprint(t.slot), rec); err != nil {
			return err
		}
		if err := r.tick(ctx, StepVerify); err != nil {
			return err
		}
		r.job.env.Reporter.Report(Event{Type: "progress", Step: StepVerify, Target: t.name, Done: 1, Total: 1, Unit: "tables"})
	}
	return nil
}

func (r *Run) verifySlot(ctx context.Context, t *boundTarget, c commitRecord) (*verifyRecord, error) {
	if t.prefix() != nil {
		return r.verifyPrefix(ctx, t, c)
	}
	store, err := r.job.targetStore(ctx, t.name)
	if err != nil {
		return nil, err
	}
	rec := &verifyRecord{Passed: true}
	written, err := r.verifySurvivors(ctx, t, c, store, rec)
	if err != nil {
		return nil, err
	}
	// Where no purge follows at once, history and metadata are looked at now:
	// what they hold within the grace belongs in the manifest.
	now := c.NoChange || r.job.cfg.Grace > 0
	if now && rec.Passed && t.group == 0 {
		if err := r.orphansOf(ctx, t); err != nil {
			return nil, err
		}
		if err := r.lookIntoHistory(ctx, t); err != nil {
			return nil, err
		}
	}
	if r.frozen.Compact {
		r.verifyCompaction(ctx, rec)
		return rec, nil
	}
	// The version that the run committed is what it answers for: rows that came
	// after it are the next run's, and the audit's.
	at, err := r.committedMetadata(ctx, t, store, c)
	if err != nil {
		return nil, err
	}
	o := r.verifyOptions(written)
	o.Metadata, o.Orphans = now, now
	if err := r.spare(ctx, t, &o); err != nil {
		return nil, err
	}
	rep, err := verifyTable(ctx, store, t, at, o)
	if err != nil {
		return nil, err
	}
	if o.Mode == verifier.ModeRewritten && len(written) == 0 {
		nothingRewritten(rep)
	}
	rec.addReport(rep)
	rec.Purge = c.NoChange && purgeable(rep)
	rec.Time = clock.Now(ctx)
	return rec, nil
}

// purgeable says whether a table that the run had nothing to erase in holds a
// key where a purge reaches: some other tool erased the rows and left that.
func purgeable(rep *verifier.Report) bool {
	return slices.ContainsFunc(rep.Surfaces, func(s verifier.Surface) bool { return s.Result == verifier.Residue && inPurge(s) })
}

func inPurge(s verifier.Surface) bool { return slices.Contains(verifier.PurgeSurfaces, s.Name) }

// committedMetadata is the metadata file of the run's commit, or the table's
// present one where a writer's housekeeping has removed that already.
func (r *Run) committedMetadata(ctx context.Context, t *boundTarget, store storage.Store, c commitRecord) (string, error) {
	if at := c.After.MetadataLocation; at != "" && !served(at) {
		obj, err := store.Open(ctx, at)
		if err == nil {
			return at, obj.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("open committed metadata: %w", err)
		}
	}
	desc, err := t.target.Describe(ctx)
	if err != nil {
		return "", fmt.Errorf("describe: %w", err)
	}
	return desc.MetadataLocation, nil
}

// nothingRewritten: in the mode that looks at rewritten files only, a target
// without one has nothing to look at, which is not the same as not looking.
func nothingRewritten(rep *verifier.Report) {
	for i := range rep.Surfaces {
		if s := &rep.Surfaces[i]; s.Result == verifier.NotChecked {
			s.Result, s.Note = verifier.NotPresent, "no file was rewritten"
		}
	}
}

// verifyOptions follow the job; a sample's seed follows from the run, so that
// a resumed verification looks at the same files and the manifest can state it.
func (r *Run) verifyOptions(written map[uint64]bool) verifier.Options {
	v := r.job.cfg.Verify
	o := verifier.Options{Mode: v.Mode, Workers: r.job.workers(), Files: true, Seed: r.seed(), OrphanAge: r.job.cfg.Orphans.MinAge.Duration()}
	if v.Mode == verifier.ModeSample {
		o.SamplePPM = int64(v.Sample)
	}
	o.Only = func(path string) bool { return written[xxh3.HashString(path)] }
	return o
}

func (r *Run) seed() uint64 {
	if s := r.job.cfg.Verify.Seed; s != 0 {
		return s
	}
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(r.st.Secret()), xxh3.HashString(r.ID()))).Uint64()
}

// addReport adds the surfaces of an independent re-read.
func (v *verifyRecord) addReport(rep *verifier.Report) {
	for _, s := range rep.Surfaces {
		v.Surfaces = append(v.Surfaces, surfaceRecord{Surface: s.Name, Result: s.Result, Objects: s.Objects,
			BytesRead: s.BytesRead, CoveragePPM: s.CoveragePPM, Findings: s.Findings, Note: surfaceNote(s)})
		if s.Result == verifier.Fail {
			v.fail(s.Name + ": erased keys are still there")
		}
	}
	if c := rep.Control; c != nil && !c.Found {
		v.Controls = append(v.Controls, controlRecord{Files: c.Files})
		v.fail("the positive control failed: a key of a live row was not found")
	}
}

// surfaceNote says in which state the copies are that were found, and when
// those in flight count as orphans.
func surfaceNote(s verifier.Surface) string {
	var parts []string
	if s.Note != "" {
		parts = append(parts, s.Note)
	}
	for _, state := range sortedKeys(s.States) {
		if s.Name != verifier.BloomFilters {
			parts = append(parts, fmt.Sprintf("%d %s", s.States[state], state))
		}
	}
	if !s.GoneBy.IsZero() {
		parts = append(parts, "orphans by "+s.GoneBy.UTC().Format("2006-01-02"))
	}
	return strings.Join(parts, "; ")
}

func (v *verifyRecord) fail(class string) {
	v.Passed = false
	if v.Class == "" {
		v.Class = class
	}
}

// survivorSums add up the comparisons of one target.
type survivorSums struct {
	mu           sync.Mutex
	files, bytes int64
	bad          int64
	before       bool
	after        bool
	hits         bool // a replaced file held a key, as the run saw it
	why          string
}

// verifySurvivors compares each replaced file with its replacement and returns
// the paths that the run wrote, hashed.
func (r *Run) verifySurvivors(ctx context.Context, t *boundTarget, c commitRecord, store storage.Store, rec *verifyRecord) (map[uint64]bool, error) {
	written := map[uint64]bool{}
	sums := &survivorSums{}
	p := pool.New().WithMaxGoroutines(r.job.workers()).WithContext(ctx).WithCancelOnError().WithFirstError()
	var listErr error
	var pack []warehouse.Result
	for res, err := range r.final(ctx, t.slot, c) {
		if err != nil {
			listErr = fmt.Errorf("read results: %w", err)
			break
		}
		if res.Status != warehouse.Rewritten && res.Status != warehouse.Dropped {
			continue
		}
		if res.Output != nil {
			written[xxh3.HashString(res.Output.Path)] = true
		}
		if res.Packed != nil {
			if pack = append(pack, res); len(pack) == res.Packed.Files {
				whole := pack
				pack = nil
				p.Go(func(ctx context.Context) error { return sums.comparePack(ctx, store, t, whole) })
			}
			continue
		}
		p.Go(func(ctx context.Context) error { return sums.compare(ctx, store, t, res) })
	}
	if listErr == nil && len(pack) > 0 {
		listErr = errNoPack
	}
	if err := errors.Join(p.Wait(), listErr); err != nil {
		return nil, err
	}
	if sums.files == 0 {
		return written, nil
	}
	s := surfaceRecord{Surface: surfaceSurvivors, Result: manifests.Pass, Objects: sums.files, BytesRead: sums.bytes, CoveragePPM: 1e6, Findings: sums.bad}
	if sums.bad > 0 {
		s.Result, s.Note = manifests.Fail, sums.why
		rec.fail(sums.why)
	}
	rec.Surfaces = append(rec.Surfaces, s)
	if !sums.hits && !sums.before && !sums.after {
		return written, nil // compaction rewrote files that hold no key: there is none to be found
	}
	rec.Controls = append(rec.Controls, controlRecord{Files: sums.files, Before: sums.before, After: sums.after})
	if !sums.before || sums.after {
		rec.fail("the positive control failed")
	}
	return written, nil
}

func (s *survivorSums) compare(ctx context.Context, store storage.Store, t *boundTarget, res warehouse.Result) error {
	rw := verifier.Rewrite{Old: res.Task.File, Action: t.action, Matches: res.Task.File.Bind(t.bound), Lineage: res.Task.File.FirstRowID != nil}
	if res.Output != nil {
		rw.New, rw.NewSize = res.Output.Path, res.Output.Size
	}
	rep, err := compareFile(ctx, store, t, rw)
	if err != nil {
		return fmt.Errorf("compare survivors of task %d: %w", res.Task.Index, err)
	}
	s.add(&res, rep, rep.BytesRead)
	return nil
}

// comparePack compares the files of a pack with the one that replaces them.
func (s *survivorSums) comparePack(ctx context.Context, store storage.Store, t *boundTarget, pack []warehouse.Result) error {
	first := &pack[0]
	p := verifier.Pack{New: first.Output.Path, Action: t.action, Matches: t.bound, Lineage: first.Task.File.FirstRowID != nil}
	for i := range pack {
		p.Olds = append(p.Olds, pack[i].Task.File)
	}
	rep, err := verifier.Packed(ctx, store, p)
	if err != nil {
		return fmt.Errorf("compare survivors of the pack of task %d: %w", first.Task.Index, err)
	}
	bytes := rep.BytesRead
	for i := range pack {
		rep.Files[i].Difference = rep.Difference
		s.add(&pack[i], &rep.Files[i], bytes)
		bytes = 0
	}
	return nil
}

func (s *survivorSums) add(res *warehouse.Result, rep *verifier.RewriteReport, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files++
	s.bytes += bytes
	s.hits = s.hits || slices.ContainsFunc(res.PerMatch, func(n int64) bool { return n > 0 })
	s.before = s.before || rep.ControlBefore
	s.after = s.after || rep.ControlAfter
	switch {
	case !rep.Equal:
		s.bad, s.why = s.bad+1, "survivors differ: "+rep.Difference
	case rep.Erased != res.Erased || rep.Changed != res.Changed || rep.AlreadyDeleted != res.AlreadyDeleted || rep.RowsNew != res.RowsOut:
		s.bad, s.why = s.bad+1, "row counts differ from the run's"
	}
}

// replacements are the paths of the files that the run put in the place of others, hashed.
func (r *Run) replacements(ctx context.Context, slot int) (map[uint64]bool, error) {
	return r.paths(ctx, slot, func(res *warehouse.Result) (string, bool) {
		if res.Output == nil {
			return "", false
		}
		return res.Output.Path, true
	})
}

// replaced are the paths of the files that the run took out of the table, in
// their canonical spelling, hashed.
func (r *Run) replaced(ctx context.Context, slot int) (map[uint64]bool, error) {
	return r.paths(ctx, slot, func(res *warehouse.Result) (string, bool) {
		return storage.Canonical(res.Task.File.Path), res.Status == warehouse.Rewritten || res.Status == warehouse.Dropped
	})
}

// paths hashes those that pick takes from the results that a slot's commit stands on.
func (r *Run) paths(ctx context.Context, slot int, pick func(*warehouse.Result) (string, bool)) (map[uint64]bool, error) {
	paths := map[uint64]bool{}
	for res, err := range r.final(ctx, slot, r.progress.committed[slot]) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if path, ok := pick(&res); ok {
			paths[xxh3.HashString(path)] = true
		}
	}
	return paths, nil
}

// verifyResidue looks, after a purge, at what is still stored: history,
// Iceberg metadata, paths, and the files themselves.
func (r *Run) verifyResidue(ctx context.Context, t *boundTarget) (verifyRecord, error) {
	if t.prefix() != nil {
		return r.residuePrefix(ctx, t)
	}
	rec := verifyRecord{Passed: true}
	store, err := r.job.targetStore(ctx, t.name)
	if err != nil {
		return rec, err
	}
	if err := r.step(ctx, StepResidue); err != nil {
		return rec, err
	}
	if r.frozen.Compact {
		return r.replacedResidue(ctx, t, store)
	}
	desc, err := t.target.Describe(ctx)
	if err != nil {
		return rec, fmt.Errorf("describe: %w", err)
	}
	paths, err := r.replacements(ctx, t.slot)
	if err != nil {
		return rec, err
	}
	// A purge that comes after a grace has a manifest of its own, so it looks at
	// the files again; one that follows the run's verification need not.
	late := r.job.cfg.Grace > 0
	if !late {
		paths = nil
	}
	o := r.verifyOptions(paths)
	o.Metadata, o.Orphans, o.Files = true, true, late
	if err := r.spare(ctx, t, &o); err != nil {
		return rec, err
	}
	replaced, err := r.replaced(ctx, t.slot)
	if err != nil {
		return rec, err
	}
	o.Replaced = func(path string) bool { return replaced[xxh3.HashString(storage.Canonical(path))] }
	o.Since = r.progress.committed[t.slot].After.SequenceNumber
	rep, err := verifyTable(ctx, store, t, desc.MetadataLocation, o)
	if err != nil {
		return rec, fmt.Errorf("verify residue: %w", err)
	}
	if o.Mode == verifier.ModeRewritten && late {
		nothingRewritten(rep)
	}
	rec.addReport(rep)
	rec.Time = clock.Now(ctx)
	return rec, nil
}
