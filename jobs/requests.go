package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/warehouse"
)

// fileRequests says what a run found for each request that named its keys.
const fileRequests = "requests.jsonl"

// What became of a request.
const (
	RequestErased     = "erased"
	RequestHistory    = "erased from history" // no live row had a key of it; old snapshots or object versions did, and are gone
	RequestNothing    = "nothing found"
	RequestHeld       = "held"        // every key of it is under legal hold
	RequestPartHeld   = "part held"   // some of its keys are; the others were erased, or were nowhere
	RequestPending    = "pending"     // erased; the last copies go at a date
	RequestNotCovered = "not covered" // a target was not reached or failed, or the run was undone
	RequestRunning    = "running"     // no run that had it has ended yet
)

// requestRecord is one request of one keyset of a run, as the run left it.
type requestRecord struct {
	Keyset   string    `json:"keyset"`
	ID       string    `json:"id,omitempty"`
	Received time.Time `json:"received,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"`
	Keys     int       `json:"keys"`
	Held     int       `json:"held"`
	Found    int       `json:"found"`             // keys that were found in a target's live rows
	History  int       `json:"history,omitempty"` // further keys that only old snapshots or object versions held
	Targets  []string  `json:"targets,omitempty"` // in which
	Missed   []string  `json:"missed,omitempty"`  // targets that were not covered
}

// foundKeys unites what the results of a target say about each keyset.
func (r *Run) foundKeys(ctx context.Context, t *boundTarget) (map[string]*roaring64.Bitmap, error) {
	out := map[string]*roaring64.Bitmap{}
	for res, err := range r.final(ctx, t.slot, r.progress.committed[t.slot]) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if err := unite(out, t, res); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func unite(into map[string]*roaring64.Bitmap, t *boundTarget, res warehouse.Result) error {
	for i, raw := range res.Keys {
		if len(raw) == 0 || i >= len(t.sel.Match) {
			continue
		}
		b, err := numbersOf(raw)
		if err != nil {
			return err
		}
		name := t.sel.Match[i].Keyset
		if into[name] == nil {
			into[name] = b
			continue
		}
		into[name].Or(b)
	}
	return nil
}

// noteRequests writes the record of the run's requests, sealed like all that
// could name a person. It is written before the manifest and can be repeated.
func (r *Run) noteRequests(ctx context.Context) error {
	y := tally{run: r, records: map[string][]requestRecord{}, once: map[string]*roaring64.Bitmap{}}
	for name, set := range r.sets {
		for _, q := range set.Requests() {
			rec := requestRecord{Keyset: name, ID: q.ID, Received: q.Received, Keys: q.Keys, Held: q.Held}
			if d := r.job.cfg.Policy.Deadline.Duration(); d > 0 && !q.Received.IsZero() {
				rec.Deadline = q.Received.Add(d)
			}
			y.records[name] = append(y.records[name], rec)
		}
	}
	if len(y.records) == 0 || bare.Is(ctx) {
		return nil
	}
	for _, t := range r.targets {
		if err := y.target(ctx, t); err != nil {
			return err
		}
	}
	for _, t := range r.targets {
		if err := y.history(t); err != nil {
			return err
		}
		if err := y.left(t); err != nil {
			return err
		}
	}
	_, err := state.WriteRecords(ctx, r.st, fileRequests, func(yield func(requestRecord, error) bool) {
		for _, name := range sortedKeys(y.records) {
			for _, rec := range y.records[name] {
				if !yield(rec, nil) {
					return
				}
			}
		}
	})
	if err != nil {
		return fmt.Errorf("note requests: %w", err)
	}
	return nil
}

// tally counts, for each request, the keys that were found.
type tally struct {
	run     *Run
	records map[string][]requestRecord   // by keyset, in the order of its Requests
	once    map[string]*roaring64.Bitmap // keys that were counted already
}

func (y *tally) target(ctx context.Context, t *boundTarget) error {
	if _, done := y.run.progress.committed[t.slot]; !done {
		for _, m := range t.sel.Match {
			for i := range y.records[m.Keyset] {
				rec := &y.records[m.Keyset][i]
				rec.Missed = union(rec.Missed, []string{t.name})
			}
		}
		return nil
	}
	found, err := y.run.foundKeys(ctx, t)
	if err != nil {
		return err
	}
	for name, numbers := range found {
		y.count(t, name, numbers, func(r *requestRecord) { r.Found++ })
	}
	return nil
}

// history counts the keys that no live row had. It comes after all targets.
func (y *tally) history(t *boundTarget) error {
	held, err := y.run.progress.heldIn(t.slot, len(t.sel.Match))
	if err != nil {
		return err
	}
	for i, numbers := range held {
		y.count(t, t.sel.Match[i].Keyset, numbers, func(r *requestRecord) { r.History++ })
	}
	return nil
}

// count adds keys that a target held to the requests that named them: each key
// once, whatever the number of targets.
func (y *tally) count(t *boundTarget, name string, numbers *roaring64.Bitmap, add func(*requestRecord)) {
	if y.once[name] == nil {
		y.once[name] = roaring64.New()
	}
	if len(y.records[name]) == 0 {
		return
	}
	set := y.run.sets[name]
	for it := numbers.Iterator(); it.HasNext(); {
		n := it.Next()
		fresh := y.once[name].CheckedAdd(n)
		for _, q := range set.RequestsAt(int(n)) {
			rec := &y.records[name][q]
			if fresh {
				add(rec)
			}
			if k := len(rec.Targets); k == 0 || rec.Targets[k-1] != t.name {
				rec.Targets = union(rec.Targets, []string{t.name})
			}
		}
	}
}

// left marks a target as not covered for the requests that had keys in it,
// where its verification failed or something still pins the old data, and for
// those whose keys the store keeps after the purge.
func (y *tally) left(t *boundTarget) error {
	p := &y.run.progress
	v, verified := p.verified[t.slot]
	pu, purged := p.purged[t.slot]
	whole := verified && !v.Passed || purged && (!pu.Residue.Passed || len(pu.Purged.Blockers) > 0)
	for i, m := range t.sel.Match {
		for k := range y.records[m.Keyset] {
			if rec := &y.records[m.Keyset][k]; whole && slices.Contains(rec.Targets, t.name) {
				rec.Missed = union(rec.Missed, []string{t.name})
			}
		}
		if !purged || i >= len(pu.Residue.Left) || len(y.records[m.Keyset]) == 0 {
			continue
		}
		kept, err := numbersOf(pu.Residue.Left[i])
		if err != nil {
			return err
		}
		if kept == nil {
			continue
		}
		for it := kept.Iterator(); it.HasNext(); {
			for _, q := range y.run.sets[m.Keyset].RequestsAt(int(it.Next())) {
				rec := &y.records[m.Keyset][q]
				rec.Missed = union(rec.Missed, []string{t.name})
			}
		}
	}
	return nil
}

// RequestStatus is what became of one erasure request, over all runs that had it.
type RequestStatus struct {
	ID       string    `json:"id,omitempty"` // "" = the sources gave a date only
	Received time.Time `json:"received,omitzero"`
	Status   string    `json:"status"`
	Until    time.Time `json:"until,omitzero"` // RequestPending: when the last copies go
	Deadline time.Time `json:"deadline,omitzero"`
	Met      *bool     `json:"deadline_met,omitempty"` // nil = no deadline, or open and not due yet
	Keys     int       `json:"keys"`                   // that were to be erased
	Held     int       `json:"held"`                   // beside them
	Found    int       `json:"found"`                  // in live rows
	History  int       `json:"history,omitempty"`      // only in old snapshots or object versions
	Targets  []string  `json:"targets,omitempty"`
	Missed   []string  `json:"missed,omitempty"`
	Runs     []string  `json:"runs"` // newest first
	Done     time.Time `json:"done,omitzero"`
}

// RequestsOptions narrow Requests.
type RequestsOptions struct {
	Job string // "" = every job
	ID  string // "" = every request
}

// Requests says, over all runs of a state bucket, what became of each request,
// as far as the runs' secrets still exist. unread counts runs that are sealed,
// or whose secret cannot be unwrapped here.
func Requests(ctx context.Context, s *state.State, now time.Time, o RequestsOptions) (list []RequestStatus, unread int, err error) {
	runs, err := Runs(ctx, s, o.Job, 0)
	if err != nil {
		return nil, 0, err
	}
	byKey := map[string]*RequestStatus{}
	for _, st := range runs { // newest first: the first word on a request stands
		if st.Labels[labelDryRun] != "" || st.State == StatePlanned || st.State == StateFailed || st.State == StateStopped {
			continue
		}
		run, err := s.OpenRun(ctx, st.Run)
		if err != nil {
			return nil, 0, fmt.Errorf("open run: %w", err)
		}
		if run.Sealed() {
			unread++
			continue
		}
		for rec, err := range requestRecords(ctx, run) {
			if err != nil {
				return nil, 0, fmt.Errorf("requests of run %s: %w", st.Run, err)
			}
			if o.ID != "" && rec.ID != o.ID {
				continue
			}
			key := rec.ID
			if key == "" {
				key = "\x00" + rec.Received.String()
			}
			if byKey[key] == nil {
				byKey[key] = &RequestStatus{ID: rec.ID}
			}
			byKey[key].add(rec, st)
		}
	}
	for _, q := range byKey {
		q.judge(now)
		list = append(list, *q)
	}
	slices.SortFunc(list, func(a, b RequestStatus) int {
		if c := a.Received.Compare(b.Received); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, unread, nil
}

// requestRecords streams the records of a run; a run without requests has none.
func requestRecords(ctx context.Context, run *state.Run) iter.Seq2[requestRecord, error] {
	return func(yield func(requestRecord, error) bool) {
		for rec, err := range state.ReadRecords[requestRecord](ctx, run, fileRequests) {
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// add takes in what one run says. Records of one run, of several keysets, add
// up; an older run adds what it erased, and no more.
func (q *RequestStatus) add(rec requestRecord, st state.Status) {
	newest := len(q.Runs) == 0 || q.Runs[0] == st.Run
	if len(q.Runs) == 0 || q.Runs[len(q.Runs)-1] != st.Run {
		q.Runs = append(q.Runs, st.Run)
	}
	if !rec.Received.IsZero() && (q.Received.IsZero() || rec.Received.Before(q.Received)) {
		q.Received, q.Deadline = rec.Received, rec.Deadline
	}
	if newest {
		q.Keys, q.Held = q.Keys+rec.Keys, q.Held+rec.Held
		q.Missed = union(q.Missed, rec.Missed)
	}
	if st.Labels[labelReverted] != "" {
		if newest {
			q.Missed = union(q.Missed, rec.Targets)
		}
		return
	}
	q.Found, q.History = q.Found+rec.Found, q.History+rec.History
	q.Targets = union(q.Targets, rec.Targets)
	stored := rec.Found+rec.History > 0
	if stored && st.PurgeDue.After(q.Until) {
		q.Until = st.PurgeDue
	}
	// What a later run left undone, an earlier one has not done for today's data.
	end := st.Ended
	if at, err := time.Parse(time.RFC3339, st.Labels[labelPurged]); err == nil && stored {
		end = at
	}
	if len(q.Missed) == 0 && (q.Done.IsZero() || stored && end.After(q.Done)) {
		q.Done = end
	}
	if st.State == StateRunning || st.State == StateInterrupted {
		q.Status = RequestRunning
	}
}

func union(a, b []string) []string {
	m := map[string]bool{}
	for _, s := range append(slices.Clone(a), b...) {
		m[s] = true
	}
	return slices.Sorted(maps.Keys(m))
}

// Closed says that nothing is left to do for the request: no key of it is held,
// and none is stored where the runs reach.
func (q *RequestStatus) Closed() bool {
	return q.Status == RequestErased || q.Status == RequestHistory || q.Status == RequestNothing
}

// judge derives the status and compares it with the deadline.
func (q *RequestStatus) judge(now time.Time) {
	switch {
	case q.Status == RequestRunning:
	case q.Keys == 0 && q.Held > 0:
		q.Status = RequestHeld
	case len(q.Missed) > 0:
		q.Status = RequestNotCovered
	case !q.Until.IsZero():
		q.Status = RequestPending
	case q.Held > 0:
		q.Status = RequestPartHeld
	case q.Found > 0:
		q.Status = RequestErased
	case q.History > 0:
		q.Status = RequestHistory
	default:
		q.Status = RequestNothing
	}
	if q.Deadline.IsZero() || q.Status == RequestHeld {
		return
	}
	met := false
	switch {
	case q.Closed(), q.Status == RequestPartHeld: // of the keys that are not held
		met = !q.Done.After(q.Deadline)
	case q.Status == RequestPending && !q.Until.After(q.Deadline):
		return // open, and it will be in time
	case q.Status != RequestPending && !now.After(q.Deadline):
		return
	}
	q.Met = &met
}
