package jobs

import (
	"bytes"
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

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/warehouse"
)

// fileRequests says what a run found for each request that named its keys.
const fileRequests = "requests.jsonl"

// What became of a request.
const (
	RequestErased     = "erased"
	RequestNothing    = "nothing found"
	RequestHeld       = "held"        // every key of it is under legal hold
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
	Found    int       `json:"found"`             // keys that were found in a target
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
		b := roaring64.New()
		if _, err := b.ReadFrom(bytes.NewReader(raw)); err != nil {
			return fmt.Errorf("key numbers of a result: %w", state.ErrCorrupt)
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
	if len(y.records) == 0 {
		return nil
	}
	for _, t := range r.targets {
		if err := y.target(ctx, t); err != nil {
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
		if y.once[name] == nil {
			y.once[name] = roaring64.New()
		}
		set, here := y.run.sets[name], map[int]bool{}
		for it := numbers.Iterator(); it.HasNext(); {
			n := it.Next()
			fresh := y.once[name].CheckedAdd(n)
			for _, q := range set.RequestsAt(int(n)) {
				if fresh { // once, whatever the number of targets
					y.records[name][q].Found++
				}
				if !here[q] {
					y.records[name][q].Targets, here[q] = append(y.records[name][q].Targets, t.name), true
				}
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
	Keys     int       `json:"keys"`
	Held     int       `json:"held"`
	Found    int       `json:"found"`
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
	q.Found += rec.Found
	q.Targets = union(q.Targets, rec.Targets)
	if rec.Found > 0 && st.PurgeDue.After(q.Until) {
		q.Until = st.PurgeDue
	}
	// What a later run left undone, an earlier one has not done for today's data.
	end := st.Ended
	if at, err := time.Parse(time.RFC3339, st.Labels[labelPurged]); err == nil && rec.Found > 0 {
		end = at
	}
	if len(q.Missed) == 0 && (q.Done.IsZero() || rec.Found > 0 && end.After(q.Done)) {
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
	case q.Found > 0:
		q.Status = RequestErased
	default:
		q.Status = RequestNothing
	}
	if q.Deadline.IsZero() || q.Status == RequestHeld {
		return
	}
	met := false
	switch {
	case q.Status == RequestErased, q.Status == RequestNothing:
		met = !q.Done.After(q.Deadline)
	case q.Status == RequestPending && !q.Until.After(q.Deadline):
		return // open, and it will be in time
	case q.Status != RequestPending && !now.After(q.Deadline):
		return
	}
	q.Met = &met
}
