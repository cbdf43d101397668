package review

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/expunge/expunge/internal/clock"
)

// Request is what became of one erasure request over all runs that had it. It
// has the request's own reference and no key.
type Request struct {
	ID                              string // "" = the sources gave a date only
	Status                          string // "erased", "erased from history", "nothing found", "held", "part held", "pending", "not covered", "running"
	Received, Deadline, Until, Done time.Time
	Met                             *bool // nil = no deadline, or open and not due yet
	Keys, Held, Found, History      int   // keys: to be erased; held beside them; found in live rows; only in history
	Targets, Missed, Runs           []string
}

// requestBook keeps the list of requests. They stand in sealed files of runs, so
// the server has them only where it is given a function that opens them.
type requestBook struct {
	s *Server

	mu      sync.Mutex
	running bool
	now     requestState
	from    time.Time // the view that the list was read after
	next    time.Time // not before
}

// requestState is the list as it was read last.
type requestState struct {
	Given   bool // the server can read requests
	Reading bool
	Failed  bool
	At      time.Time // zero = not read yet
	List    []Request // open ones first, by deadline
	Unread  int       // runs whose secret is gone or cannot be unwrapped here
}

// requestPause is the least time between two readings.
const requestPause = 15 * time.Second

// state gives the list, and starts a reading where runs have changed since.
func (b *requestBook) state(ctx context.Context, v *view) requestState {
	if b.s.cfg.Requests == nil {
		return requestState{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.Given = true
	now := clock.Now(ctx)
	if !b.running && v.At.After(b.from) && !now.Before(b.next) {
		b.running, b.now.Reading = true, true
		go b.read(context.WithoutCancel(ctx), v.At)
	}
	return b.now
}

func (b *requestBook) read(ctx context.Context, at time.Time) {
	began := clock.Now(ctx)
	list, unread, err := b.s.cfg.Requests(ctx)
	if err != nil {
		b.s.cfg.Log.WarnContext(ctx, "requests not read", "error", err)
	}
	slices.SortStableFunc(list, func(x, y Request) int {
		return cmp.Or(cmp.Compare(rank(x.open()), rank(y.open())), compareDates(x.Deadline, y.Deadline), compareDates(x.Received, y.Received), cmp.Compare(x.ID, y.ID))
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	end := clock.Now(ctx)
	b.running, b.from, b.next = false, at, end.Add(max(requestPause, idleFactor*end.Sub(began)))
	if err != nil {
		b.now.Reading, b.now.Failed = false, true
		return
	}
	b.now = requestState{Given: true, At: at, List: list, Unread: unread}
}

// compareDates sorts by date, what has none last.
func compareDates(a, b time.Time) int {
	if a.IsZero() || b.IsZero() {
		return cmp.Compare(rank(!a.IsZero()), rank(!b.IsZero()))
	}
	return a.Compare(b)
}

func (q Request) open() bool {
	switch q.Status {
	case "erased", "erased from history", "nothing found", "held", "part held":
		return false
	}
	return true
}

// PartHeld says how many of a request's keys are held, where not all are; "" = none is.
func (q Request) PartHeld() string {
	if q.Held == 0 || q.Keys == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d keys held", q.Held, q.Keys+q.Held)
}

// requestView is a request against its deadline, today.
type requestView struct {
	Request
	Tone, Due, Left string
}

func newRequestView(q Request, now time.Time) requestView {
	r := requestView{Request: q, Tone: "plain", Due: "no deadline"}
	if q.Deadline.IsZero() {
		if !q.open() {
			r.Tone = "good"
		}
		return r
	}
	r.Due = dayOf(q.Deadline)
	missed := q.Met != nil && !*q.Met
	switch left := q.Deadline.Sub(now); {
	case !q.open() && !missed:
		r.Tone = "good"
	case !q.open():
		r.Tone, r.Left = "bad", "done late"
	case left < 0:
		r.Tone, r.Left = "bad", count(int(-left/(24*time.Hour)), "day", "days")+" ago"
	default:
		r.Left = "in " + count(int(left/(24*time.Hour)), "day", "days")
		if left < nearDays*24*time.Hour {
			r.Tone = "wait"
		}
		if missed { // its last copies go after the deadline
			r.Tone = "bad"
		}
	}
	return r
}

// requestTone sorts statuses; the word stands beside it.
func requestTone(status string) string {
	switch status {
	case "erased", "erased from history", "nothing found":
		return "good"
	case "pending", "part held":
		return "wait"
	case "not covered":
		return "bad"
	}
	return "plain"
}

// requestCounts are the figures of notices and metrics.
func requestCounts(list []Request, now time.Time) (missed, near int, next time.Time) {
	for _, q := range list {
		if !q.open() || q.Deadline.IsZero() {
			continue
		}
		if next.IsZero() || q.Deadline.Before(next) {
			next = q.Deadline
		}
		switch newRequestView(q, now).Tone {
		case "bad":
			missed++
		case "wait":
			near++
		}
	}
	return missed, near, next
}

type requestsData struct {
	State requestState
	Rows  []requestView
	Pager pager
	Open  int
}

func (s *Server) requests(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	d := requestsData{State: s.book.state(r.Context(), v)}
	part, p, err := paged(r, d.State.List)
	if err != nil {
		return err
	}
	d.Pager = p
	now := clock.Now(r.Context())
	for _, q := range part {
		d.Rows = append(d.Rows, newRequestView(q, now))
	}
	for _, q := range d.State.List {
		if q.open() {
			d.Open++
		}
	}
	return s.show(w, r, "requests", "Requests", v, d)
}
