package jobs

import (
	"context"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// spared is what of a target a run does not answer for, as its manifest says:
// files that it left as they were, and files outside --since and --until.
type spared struct {
	left   map[uint64]bool // hashed paths
	inside map[uint64]bool // hashed paths of what a narrowed run looks at; nil = everything
}

// sparedOf reads it from the run's results. Which files lie outside the run's
// time range is asked of the target as it is now.
func (r *Run) sparedOf(ctx context.Context, t *boundTarget) (*spared, error) {
	s := &spared{left: map[uint64]bool{}}
	for res, err := range r.final(ctx, t.slot, r.progress.committed[t.slot]) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if res.Status == warehouse.LeftAlone || res.Status == warehouse.Failed {
			s.left[xxh3.HashString(res.Task.File.Path)] = true
		}
	}
	if r.window().open() {
		return s, nil
	}
	s.inside = map[uint64]bool{}
	_, err := t.target.Plan(ctx, t.sel, func(task warehouse.Task) error {
		s.inside[xxh3.HashString(task.File.Path)] = true
		return nil
	}, func(string) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("list the files within the time range: %w", err)
	}
	return s, nil
}

// spare keeps the run's own verification to what it answers for.
func (r *Run) spare(ctx context.Context, t *boundTarget, o *verifier.Options) error {
	if o.Mode == verifier.ModeRewritten {
		return nil // which looks at nothing else anyway
	}
	s, err := r.sparedOf(ctx, t)
	if err != nil {
		return err
	}
	s.skip(o)
	return nil
}

func (s *spared) has(path string) bool {
	h := xxh3.HashString(path)
	return s.left[h] || s.inside != nil && !s.inside[h]
}

// skip makes a verification leave out what the run does not answer for.
func (s *spared) skip(o *verifier.Options) {
	if len(s.left) > 0 || s.inside != nil {
		o.Skip = s.has
	}
}

// words say, for a reader of checks, what was not judged; "" = nothing.
func (s *spared) words(target string) string {
	switch {
	case s.inside != nil:
		return target + ": files outside the run's time range, which the manifest excludes"
	case len(s.left) > 0:
		return fmt.Sprintf("%s: %d that the manifest excludes", target, len(s.left))
	}
	return ""
}

// notAnswered says why a manifest does not answer for a target at all; "" = it does.
func (r *Run) notAnswered(target string) string {
	slots := 0
	for _, pt := range r.progress.planned.Targets {
		if pt.Name != target {
			continue
		}
		slots++
		switch _, done := r.progress.committed[pt.Slot]; {
		case r.undone(pt.Slot):
			return target + ": the run was undone there, its rows were added back"
		case r.progress.failed[pt.Slot].Class != "":
			return target + ": left as it was after a failure, as the manifest says"
		case !done:
			return target + ": not reached, as the manifest says"
		}
	}
	if slots == 0 {
		return target + ": not in the run's scope"
	}
	return ""
}

func (r *Run) undone(slot int) bool {
	_, back := r.progress.reverted[slot]
	return back
}

// answered are the run's targets as they are now, bound with its own keys, and
// what is not to be judged of the job's by its manifest.
func (r *Run) answered(ctx context.Context) (targets []*boundTarget, notJudged []string, err error) {
	if r.sets, err = r.thawKeysets(ctx, r.progress.keysets); err != nil {
		return nil, nil, err
	}
	all, _, err := r.job.resolveTargets(ctx, r.sets, r.window())
	if err != nil {
		return nil, nil, err
	}
	for _, t := range all {
		if why := r.notAnswered(t.name); why != "" {
			notJudged = append(notJudged, why)
			continue
		}
		for _, pt := range r.progress.planned.Targets {
			if pt.Name == t.name && pt.Group == t.group {
				t.slot = pt.Slot
			}
		}
		targets = append(targets, t)
	}
	return targets, notJudged, nil
}

// failures names the surfaces on which keys are live.
func failures(surfaces []manifests.Surface) (out []manifests.Surface) {
	for _, s := range surfaces {
		if s.Result == manifests.Fail {
			out = append(out, s)
		}
	}
	return out
}
