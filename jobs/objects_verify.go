package jobs

import (
	"context"
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
	"github.com/expunge/expunge/verifier/records"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/objects"
)

// Surfaces of a prefix.
const (
	surfaceLive     = verifier.LiveRows
	surfaceVersions = "noncurrent versions"
	surfaceCopies   = "the run's own copies"
	surfaceSoft     = "soft-deleted objects"
)

// States of what a prefix's store keeps.
const (
	stateNoncurrent = "noncurrent version"    // only its version id leads to it
	stateLocked     = "locked by the store: " // and why
	stateSoft       = "soft deleted"
)

// rules are what the verification of one object goes by.
func (t *boundTarget) rules(path string) (records.Rules, bool, error) {
	matches, every, err := t.prefix().Fixed(path, t.bound)
	return records.Rules{Format: t.prefix().Format(), Action: t.sel.Action, Matches: matches, Every: every,
		KeepMalformed: t.cfg.Policy.Malformed == "keep"}, len(matches) > 0 || every, err
}

// verifyPrefix compares every object that the run changed with its old
// content, then looks for erased keys in the objects as they are now.
func (r *Run) verifyPrefix(ctx context.Context, t *boundTarget, c commitRecord) (*verifyRecord, error) {
	rec := &verifyRecord{Passed: true}
	sums := &survivorSums{}
	p := pool.New().WithMaxGoroutines(r.job.workers()).WithContext(ctx).WithCancelOnError().WithFirstError()
	skip := map[uint64]bool{} // objects that were left as they were
	var listErr error
	for res, err := range r.final(ctx, t.slot, c) {
		if err != nil {
			listErr = fmt.Errorf("read results: %w", err)
			break
		}
		if res.Status == warehouse.LeftAlone {
			skip[xxh3.HashString(res.Task.File.Path)] = true
		}
		if res.Status == warehouse.Rewritten || res.Status == warehouse.Dropped {
			p.Go(func(ctx context.Context) error { return r.compareObject(ctx, t, res, sums) })
		}
	}
	if err := errors.Join(p.Wait(), listErr); err != nil {
		return nil, err
	}
	if sums.files > 0 {
		s := surfaceRecord{Surface: surfaceSurvivors, Result: manifests.Pass, Objects: sums.files, BytesRead: sums.bytes, CoveragePPM: 1e6, Findings: sums.bad}
		if sums.bad > 0 {
			s.Result, s.Note = manifests.Fail, sums.why
			rec.fail(sums.why)
		}
		rec.Surfaces = append(rec.Surfaces, s)
		rec.Controls = append(rec.Controls, controlRecord{Files: sums.files, Before: sums.before, After: sums.after})
		if !sums.before || sums.after {
			rec.fail("the positive control failed")
		}
	}
	if err := r.livePrefix(ctx, t, c, skip, rec); err != nil {
		return nil, err
	}
	if rec.Passed { // the new contents are in their places: their copies are of no more use
		if err := t.prefix().CleanStaged(ctx, r.ID()); err != nil {
			return nil, err
		}
	}
	if r.job.cfg.Grace > 0 && !c.NoChange {
		if err := r.keptPrefix(ctx, t, rec); err != nil {
			return nil, err
		}
	}
	rec.Time = clock.Now(ctx)
	return rec, nil
}

// compareObject compares old and new content. Somebody may have changed the
// object since: then its new content is theirs, and what the run wrote is
// compared as it waits in the run's folder.
func (r *Run) compareObject(ctx context.Context, t *boundTarget, res warehouse.Result, s *survivorSums) error {
	old, err := t.prefix().Old(ctx, r.ID(), res.Task)
	if err != nil {
		return fmt.Errorf("open the old content of task %d: %w", res.Task.Index, err)
	}
	defer old.Close()
	var now storage.Object
	if res.Output != nil {
		if now, err = t.prefix().New(ctx, res); err != nil {
			return fmt.Errorf("open the new content of task %d: %w", res.Task.Index, err)
		}
		defer now.Close()
	}
	rules, _, err := t.rules(res.Task.File.Path)
	if err != nil {
		return err
	}
	rep, err := records.Compare(ctx, old, now, rules)
	if err != nil {
		return fmt.Errorf("compare survivors of task %d: %w", res.Task.Index, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files++
	s.bytes += rep.BytesRead
	s.before = s.before || rep.ControlBefore
	s.after = s.after || rep.ControlAfter
	switch {
	case !rep.Equal:
		s.bad, s.why = s.bad+1, "survivors differ: "+rep.Difference
	case rep.Erased != res.Erased || rep.RowsNew != res.RowsOut || rep.RowsOld != res.RowsIn,
		t.prefix().Format() == "parquet" && rep.Changed != res.Changed:
		s.bad, s.why = s.bad+1, "row counts differ from the run's"
	}
	return nil
}

// look is the search of a prefix for erased keys.
type look struct {
	mu                                sync.Mutex
	objects, total, bytes, left, rows int64
	unread                            int64
	findings                          []verifier.Finding // the first maxFindings
}

// maxFindings bounds what is told object by object, as it is for tables; counts are always complete.
const maxFindings = 1000

func (l *look) found(f verifier.Finding) {
	if f.Certain = true; len(l.findings) < maxFindings {
		l.findings = append(l.findings, f)
	}
}

// livePrefix reads the objects that the mode of the verification picks.
func (r *Run) livePrefix(ctx context.Context, t *boundTarget, c commitRecord, skip map[uint64]bool, rec *verifyRecord) error {
	o := r.verifyOptions(nil)
	written := map[uint64]bool{}
	for res, err := range r.final(ctx, t.slot, c) {
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		if res.Status == warehouse.Rewritten {
			written[xxh3.HashString(res.Task.File.Path)] = true
		}
	}
	l, err := r.job.lookFor(ctx, t, o, func(path string) bool {
		h := xxh3.HashString(path)
		return !skip[h] && (o.Mode != verifier.ModeRewritten || written[h])
	})
	if err != nil {
		return err
	}
	s := l.surface(o.Mode)
	if o.Mode == verifier.ModeRewritten && len(written) == 0 {
		s.Result, s.Note = verifier.NotPresent, "no object was rewritten"
	}
	if s.Result == manifests.Fail {
		rec.fail(s.Surface + ": erased keys are still there")
	}
	rec.Surfaces = append(rec.Surfaces, s)
	return nil
}

// lookFor searches live objects for keys. Objects that came or changed after
// the commit are the next run's; they are looked at all the same, and a key
// found there fails the audit that asked.
func (j *Job) lookFor(ctx context.Context, t *boundTarget, o verifier.Options, pick func(path string) bool) (*look, error) {
	l := &look{}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	p := pool.New().WithMaxGoroutines(j.workers()).WithContext(ctx).WithCancelOnError().WithFirstError()
	err := t.prefix().Live(ctx, func(info storage.Info) error {
		l.total++
		if !pick(info.Path) || o.Mode == verifier.ModeSample && rng.Int64N(1e6) >= o.SamplePPM {
			return nil
		}
		p.Go(func(ctx context.Context) error { return l.object(ctx, t, info) })
		return ctx.Err()
	})
	if werr := p.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return nil, fmt.Errorf("look for erased keys: %w", err)
	}
	return l, nil
}

func (l *look) object(ctx context.Context, t *boundTarget, info storage.Info) error {
	rules, any, err := t.rules(info.Path)
	if err != nil {
		return err
	}
	n := &records.Counted{}
	if any {
		obj, err := storage.OpenKnown(ctx, t.prefix().Store(), info)
		if err == nil {
			n, err = records.Count(ctx, obj, rules)
			obj.Close()
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrPrecondition) {
			return nil // gone, or somebody else's by now
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.unread++
			return nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects++
	l.bytes += n.BytesRead
	l.rows += n.Rows
	if n.Hits > 0 {
		l.left += n.Hits
		l.found(verifier.Finding{Surface: surfaceLive, Object: info.Path, Count: n.Hits, State: "live"})
	}
	return nil
}

func (l *look) surface(mode string) surfaceRecord {
	s := surfaceRecord{Surface: surfaceLive, Result: manifests.Pass, Objects: l.objects, BytesRead: l.bytes, CoveragePPM: 1e6, Findings: l.left}
	if mode != verifier.ModeSample && l.objects+l.unread > 0 {
		s.CoveragePPM = l.objects * 1e6 / (l.objects + l.unread)
	}
	if mode == verifier.ModeSample && l.total > 0 {
		s.CoveragePPM = l.objects * 1e6 / l.total
	}
	switch {
	case l.left > 0:
		s.Result = manifests.Fail
	case l.unread > 0:
		s.Result, s.Note = manifests.NotChecked, fmt.Sprintf("%d objects could not be read", l.unread)
	}
	return s
}

// keptPrefix states what is kept until the grace ends.
func (r *Run) keptPrefix(ctx context.Context, t *boundTarget, rec *verifyRecord) error {
	h, err := r.historyOf(ctx, t)
	if err != nil {
		return err
	}
	versions, copies, err := t.prefix().Kept(ctx, r.ID(), t.bound, func(v warehouse.Held) error { return h.found(ctx, v) })
	if err := errors.Join(err, h.close()); err != nil {
		return fmt.Errorf("look at what is kept: %w", err)
	}
	if rec.Left, err = warehouse.KeyNumbers(h.seen); err != nil {
		return err
	}
	for _, s := range []surfaceRecord{{Surface: surfaceVersions, Findings: versions.Hits, Objects: versions.Seen}, {Surface: surfaceCopies, Findings: copies, Objects: copies}} {
		s.CoveragePPM, s.Result = 1e6, manifests.Pass
		if s.Findings > 0 {
			s.Result = manifests.Found
		}
		if s.Surface == surfaceVersions {
			s = versionSurface(s, versions)
		}
		rec.Surfaces = append(rec.Surfaces, s)
	}
	for _, h := range versions.Held {
		rec.Kept = append(rec.Kept, keptRecord{Surface: surfaceVersions, State: stateLocked + h.Reason, Count: h.Count, GoneBy: h.Until})
	}
	return nil
}

// residuePrefix looks, after a purge, at what the store still keeps.
func (r *Run) residuePrefix(ctx context.Context, t *boundTarget) (verifyRecord, error) {
	rec := verifyRecord{Passed: true}
	if err := r.step(ctx, StepResidue); err != nil {
		return rec, err
	}
	if err := r.keptPrefix(ctx, t, &rec); err != nil {
		return rec, err
	}
	keep, err := t.prefix().Retention(ctx, "")
	if err != nil {
		return rec, fmt.Errorf("ask the bucket what it keeps: %w", err)
	}
	if keep.SoftDelete > 0 {
		rec.Surfaces = append(rec.Surfaces, surfaceRecord{Surface: surfaceSoft, Result: manifests.Found, CoveragePPM: 1e6, Findings: 1,
			Note: "the store keeps removed objects for " + keep.SoftDelete.String()})
		rec.Kept = append(rec.Kept, keptRecord{Surface: surfaceSoft, State: stateSoft, Count: 1, GoneBy: clock.Now(ctx).Add(keep.SoftDelete)})
	}
	if r.job.cfg.Grace > 0 {
		if err := r.livePrefix(ctx, t, r.progress.committed[t.slot], map[uint64]bool{}, &rec); err != nil {
			return rec, err
		}
	}
	rec.Time = clock.Now(ctx)
	return rec, nil
}

// auditPrefix is Verify for a prefix: all objects, and what the store keeps.
func (j *Job) auditPrefix(ctx context.Context, t *boundTarget, o verifier.Options) ([]surfaceRecord, []verifier.Finding, error) {
	l, err := j.lookFor(ctx, t, o, func(path string) bool { return o.Skip == nil || !o.Skip(path) })
	if err != nil {
		return nil, nil, err
	}
	out := []surfaceRecord{l.surface(o.Mode)}
	versions, _, err := t.prefix().Kept(ctx, "", t.bound, func(v warehouse.Held) error {
		l.found(verifier.Finding{Surface: surfaceVersions, Object: v.Path, Version: v.Version, Count: 1, State: stateNoncurrent})
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look at noncurrent versions: %w", err)
	}
	s := surfaceRecord{Surface: surfaceVersions, Result: manifests.Pass, CoveragePPM: 1e6, Findings: versions.Hits, Objects: versions.Seen}
	if versions.Hits > 0 {
		s.Result = manifests.Found
	}
	slices.SortStableFunc(l.findings, func(a, b verifier.Finding) int { return strings.Compare(a.Object, b.Object) })
	return append(out, versionSurface(s, versions)), l.findings, nil
}

// versionSurface says it where there are no versions, and where that cannot be told.
func versionSurface(s surfaceRecord, v objects.Versions) surfaceRecord {
	switch {
	case v.Untold:
		s.Result, s.Note = manifests.NotChecked, "whether the bucket keeps versions cannot be told: it needs s3:GetBucketVersioning or the like"
	case !v.Kept:
		s.Result, s.Note = verifier.NotPresent, "the bucket keeps no versions"
	}
	return s
}
