package review

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/manifests"
)

// view is the bucket as it was at one moment. It is never changed.
type view struct {
	At      time.Time
	Err     error // of the last reading
	Unread  int   // manifests that were listed but not read yet
	Damaged int   // objects that cannot be read

	Runs      []runView           // newest first
	byRun     map[string]int      // index into Runs
	Manifests map[string]*summary // by id
	Jobs      []string
	Deadlines []*summary // of the latest manifest of runs, open ones first, then by deadline
	Residue   []residueView
	Targets   []coverage // by name
}

// runView is a run with its manifests, oldest first.
type runView struct {
	state.Status
	Manifests []*summary
	Last      *summary // the one that says how the erasure stands; nil = none yet
}

// Result is the outcome, or "" while there is none.
func (r runView) Result() string {
	if r.Last != nil {
		return string(r.Last.Result)
	}
	return r.Outcome
}

// Active says whether a process claims to work on the run.
func (r runView) Active() bool { return r.State == "running" }

// residueView is something still stored, with where that is said.
type residueView struct {
	manifests.Residue
	Manifest *summary
}

// coverage is how a target stands by the latest manifest that names it.
type coverage struct {
	targetSummary
	Manifest *summary
	Runs     int   // manifests of runs that name it
	Erased   int64 // rows, over all of them
}

func newView(at time.Time, runs map[string]state.Status, all map[string]*summary, damaged, unread int) *view {
	v := &view{At: at, Unread: unread, Damaged: damaged, byRun: make(map[string]int, len(runs)), Manifests: maps.Clone(all)}
	by := make(map[string][]*summary, len(runs))
	for _, s := range v.Manifests {
		by[s.Run] = append(by[s.Run], s)
	}
	for _, st := range runs {
		v.Runs = append(v.Runs, newRunView(st, by[st.Run]))
		delete(by, st.Run)
	}
	for id, list := range by { // manifests whose status was removed, or brought here from elsewhere
		slices.SortFunc(list, byEnd)
		v.Runs = append(v.Runs, newRunView(state.Status{Run: id, Job: list[0].Job, State: "finished", Started: list[0].Start, Ended: list[len(list)-1].End}, list))
	}
	slices.SortFunc(v.Runs, func(a, b runView) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.Run, b.Run)) })
	jobs := map[string]bool{}
	for i := range v.Runs {
		v.byRun[v.Runs[i].Run] = i
		jobs[v.Runs[i].Job] = true
	}
	v.Jobs = slices.Sorted(maps.Keys(jobs))
	v.sumUp()
	return v
}

func byEnd(a, b *summary) int { return cmp.Or(a.End.Compare(b.End), cmp.Compare(a.ID, b.ID)) }

func newRunView(st state.Status, list []*summary) runView {
	r := runView{Status: st, Manifests: slices.SortedFunc(slices.Values(list), byEnd)}
	for _, s := range r.Manifests {
		if s.closes() {
			r.Last = s
		}
	}
	return r
}

// sumUp derives the lists that stand beside the runs.
func (v *view) sumUp() {
	targets, looked := map[string]*coverage{}, map[string]bool{}
	for _, r := range v.Runs {
		for _, s := range r.Manifests {
			v.cover(targets, s)
		}
		if len(r.Manifests) == 0 {
			continue
		}
		if r.Last == nil { // an audit, say: of a job's looks at the data the newest counts
			if looked[r.Job] {
				continue
			}
			looked[r.Job] = true
		} else if r.Last.Deadline != nil {
			v.Deadlines = append(v.Deadlines, r.Last)
		}
		for _, res := range latest(r.Manifests).Residue {
			v.Residue = append(v.Residue, residueView{res, latest(r.Manifests)})
		}
	}
	slices.SortStableFunc(v.Deadlines, func(a, b *summary) int {
		return cmp.Or(cmp.Compare(rank(a.open()), rank(b.open())), a.Deadline.Compare(*b.Deadline), cmp.Compare(a.ID, b.ID))
	})
	slices.SortStableFunc(v.Residue, func(a, b residueView) int { // without a date first, then by date
		if a.GoneBy == nil || b.GoneBy == nil {
			return cmp.Compare(rank(a.GoneBy == nil), rank(b.GoneBy == nil))
		}
		return a.GoneBy.Compare(*b.GoneBy)
	})
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		v.Targets = append(v.Targets, *targets[name])
	}
}

// latest is the last manifest that looked at the data.
func latest(list []*summary) *summary {
	for _, s := range slices.Backward(list) {
		if s.Kind != manifests.KindSeal {
			return s
		}
	}
	return list[len(list)-1]
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

func (v *view) cover(targets map[string]*coverage, s *summary) {
	if s.Kind == manifests.KindSeal {
		return
	}
	for _, t := range s.Targets {
		c := targets[t.Name]
		if c == nil {
			c = &coverage{}
			targets[t.Name] = c
		}
		if s.Kind == manifests.KindRun {
			c.Runs++
			c.Erased += t.Erased
		}
		if c.Manifest == nil || byEnd(c.Manifest, s) < 0 {
			c.targetSummary, c.Manifest = t, s
		}
	}
}

// run finds a run.
func (v *view) run(id string) (runView, bool) {
	i, ok := v.byRun[id]
	if !ok {
		return runView{}, false
	}
	return v.Runs[i], true
}

// filter gives the runs that a list asks for.
func (v *view) filter(job, result, id string) []runView {
	if job == "" && result == "" && id == "" {
		return v.Runs
	}
	var out []runView
	for _, r := range v.Runs {
		state := r.Result()
		if state == "" {
			state = r.State
		}
		if (job == "" || r.Job == job) && (result == "" || state == result) && (id == "" || strings.Contains(r.Run, id)) {
			out = append(out, r)
		}
	}
	return out
}

// day is one column of the picture of outcomes.
type day struct {
	Date   time.Time
	Counts [4]int // good, wait, bad, without outcome
}

// days counts the runs of the last n days by outcome, oldest first.
func (v *view) days(now time.Time, n int) []day {
	today := now.UTC().Truncate(24 * time.Hour)
	out := make([]day, n)
	for i := range out {
		out[i].Date = today.AddDate(0, 0, i-n+1)
	}
	for _, r := range v.Runs {
		i := n - 1 - int(today.Sub(r.Started.UTC().Truncate(24*time.Hour))/(24*time.Hour))
		if i < 0 {
			break // runs are newest first
		}
		if i < n {
			out[i].Counts[bucket(r.Result())]++
		}
	}
	return out
}

func bucket(result string) int {
	switch tone(result) {
	case "good":
		return 0
	case "wait":
		return 1
	case "plain":
		return 3
	}
	return 2
}

// tone sorts results and states into good, wait, bad and plain; words and
// signs stand beside it everywhere.
func tone(result string) string {
	switch result {
	case string(manifests.Erased), string(manifests.NothingToErase), manifests.TargetDone, manifests.TargetClean, manifests.TargetPurged:
		return "good"
	case string(manifests.ErasedPending), string(manifests.Reverted), "interrupted", manifests.TargetRestored:
		return "wait"
	case "", "running", "planned", "new", "finished":
		return "plain"
	}
	return "bad"
}
