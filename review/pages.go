package review

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/manifests"
)

// Sizes of lists.
const (
	perPage   = 50
	overDays  = 30
	nearDays  = 14 // a deadline this close is near
	shortList = 8
)

// pager moves through a list of n items.
type pager struct {
	Page, Pages, Total int
	Prev, Next         string // addresses; "" = none
}

// paged cuts the page out of a list that the request asks for.
func paged[T any](r *http.Request, all []T) ([]T, pager, error) {
	p := pager{Page: 1, Total: len(all), Pages: max(1, (len(all)+perPage-1)/perPage)}
	if q := r.URL.Query().Get("page"); q != "" {
		n, err := strconv.Atoi(q)
		if err != nil || n < 1 || n > p.Pages {
			return nil, p, errNotFound
		}
		p.Page = n
	}
	at := func(n int) string {
		q := url.Values{}
		for k, v := range r.URL.Query() {
			if len(v) > 0 && v[0] != "" {
				q.Set(k, v[0])
			}
		}
		q.Set("page", strconv.Itoa(n))
		return r.URL.Path + "?" + q.Encode()
	}
	if p.Page > 1 {
		p.Prev = at(p.Page - 1)
	}
	if p.Page < p.Pages {
		p.Next = at(p.Page + 1)
	}
	first := (p.Page - 1) * perPage
	return all[first:min(len(all), first+perPage)], p, nil
}

// notice is something that somebody should look at.
type notice struct{ Tone, Text, Link string }

type overviewData struct {
	Notices   []notice
	Active    []liveRun
	Picture   picture
	Latest    []runView
	Deadlines []deadlineView
	Residue   []residueView
	Rows      int64
	Erasures  int
	Log       logState
	Requests  requestState
	Near      []requestView
}

func (s *Server) overview(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	now := clock.Now(r.Context())
	d := overviewData{Latest: v.Runs[:min(shortList, len(v.Runs))], Picture: newPicture(v.days(now, overDays)), Log: s.logs.state(r.Context())}
	for _, run := range v.Runs {
		if run.Active() {
			d.Active = append(d.Active, s.live(r.Context(), run))
		}
		if run.Last != nil {
			d.Erasures++
			if run.Manifests[0].Kind == manifests.KindRun {
				d.Rows += run.Manifests[0].RowsErased
			}
		}
	}
	for _, x := range v.Deadlines {
		if len(d.Deadlines) < shortList && x.open() {
			d.Deadlines = append(d.Deadlines, newDeadline(x, now))
		}
	}
	d.Requests = s.book.state(r.Context(), v)
	for _, q := range d.Requests.List {
		if len(d.Near) < shortList && q.open() {
			d.Near = append(d.Near, newRequestView(q, now))
		}
	}
	d.Residue = v.Residue[:min(shortList, len(v.Residue))]
	d.Notices = notices(v, now, d)
	return s.show(w, r, "overview", "Overview", v, d)
}

// notices are what needs attention, the worst first.
func notices(v *view, now time.Time, o overviewData) []notice {
	log, active := o.Log, o.Active
	var bad, wait []notice
	if log.Broken {
		bad = append(bad, notice{"bad", "The log does not verify: " + log.Problem, "/log"})
	}
	due := func(missed, near int, one, many, link string) {
		if missed > 0 {
			bad = append(bad, notice{"bad", count(missed, one, many) + " past the deadline and not complete", link})
		}
		if near > 0 {
			wait = append(wait, notice{"wait", fmt.Sprintf("%s within %d days of the deadline and not complete", count(near, one, many), nearDays), link})
		}
	}
	missed, near, _ := requestCounts(o.Requests.List, now)
	due(missed, near, "request is", "requests are", "/requests")
	if len(o.Requests.List) == 0 || o.Requests.Unread > 0 { // then runs say what requests cannot
		missed, near = 0, 0
		for _, x := range v.Deadlines {
			switch d := newDeadline(x, now); {
			case !d.Open:
			case d.Passed:
				missed++
			case d.Near:
				near++
			}
		}
		due(missed, near, "run is", "runs are", "/deadlines")
	}
	overdue := 0
	for _, x := range v.Residue {
		if x.GoneBy == nil || x.GoneBy.Before(now) {
			overdue++
		}
	}
	if overdue > 0 {
		bad = append(bad, notice{"bad", count(overdue, "item is", "items are") + " still stored without a date, or past it", "/residue"})
	}
	for _, job := range v.Jobs {
		for _, run := range v.Runs {
			if run.Job != job || run.Active() {
				continue
			}
			result := run.Result()
			if result == "" {
				result = run.State
			}
			n := notice{tone(result), "The last run of " + job + " is " + resultWords(result), "/runs/" + url.PathEscape(run.Run)}
			if n.Tone == "bad" {
				bad = append(bad, n)
			} else if result == "interrupted" {
				wait = append(wait, n)
			}
			break
		}
	}
	for _, a := range active {
		if a.Silent {
			wait = append(wait, notice{"wait", "Run " + a.Run.Run + " gives no sign of life", "/runs/" + url.PathEscape(a.Run.Run)})
		}
	}
	if v.Damaged > 0 {
		bad = append(bad, notice{"bad", count(v.Damaged, "object", "objects") + " of the state bucket cannot be read as what the name says", "/log"})
	}
	return append(bad, wait...)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + many
}

// liveRun is a run that somebody works on.
type liveRun struct {
	Run          runView
	Done, Total  int64
	Unit         string
	Share        int64 // in thousandths
	Holder       string
	Seen         time.Time // last sign of life
	Silent       bool      // none for longer than a lease outlives its holder
	Steps        []stepView
	HolderKnown  bool
	StateChanged time.Time
}

type stepView struct{ Name, State string }

// stepNames are the steps of a run in their order, with words for people.
var stepNames = [][2]string{{"keysets", "Load keys"}, {"plan", "Plan"}, {"check", "Prove permissions"}, {"scan", "Find and rewrite"}, {"commit", "Commit"},
	{"verify", "Verify"}, {"purge", "Remove old copies"}, {"manifest", "Sign the manifest"}}

func (s *Server) live(ctx context.Context, run runView) liveRun {
	l := liveRun{Run: run, Seen: run.Updated, StateChanged: run.Updated}
	step := run.Step
	if step == "residue" {
		step = "purge"
	}
	at := -1
	for i, n := range stepNames {
		if n[0] == step {
			at = i
		}
	}
	for i, n := range stepNames {
		st := "to come"
		if i < at {
			st = "done"
		} else if i == at {
			st = "now"
		}
		l.Steps = append(l.Steps, stepView{n[1], st})
	}
	c := run.Counters
	switch step {
	case "scan":
		l.Done, l.Total, l.Unit = c["files_done"], c["files_total"], "files"
	case "commit":
		l.Done, l.Total, l.Unit = c["tables_committed"], c["tables_total"], "targets"
	case "verify":
		l.Done, l.Total, l.Unit = c["tables_verified"], c["tables_total"], "targets"
	}
	if l.Total > 0 {
		l.Share = min(1000, l.Done*1000/l.Total)
	}
	h, err := s.index.st.HolderOf(ctx, "job/"+run.Job)
	limit := 2 * state.MaxTTL
	if err == nil && !h.Released {
		l.Holder, l.HolderKnown = h.Holder, true
		if h.Renewed.After(l.Seen) {
			l.Seen = h.Renewed
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Log.DebugContext(ctx, "lease not read", "error", err)
	}
	l.Silent = clock.Now(ctx).Sub(l.Seen) > limit
	return l
}

type runsData struct {
	Rows            []runView
	Pager           pager
	Job, Result, ID string
	Results         []string
}

func (s *Server) runs(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	q := r.URL.Query()
	d := runsData{Job: q.Get("job"), Result: q.Get("result"), ID: q.Get("run"),
		Results: []string{"ERASED", "ERASED_PENDING", "NOTHING_TO_ERASE", "PARTIAL", "FAILED", "REVERTED", "running", "interrupted", "stopped", "planned", "failed"}}
	if d.Rows, d.Pager, err = paged(r, v.filter(d.Job, d.Result, d.ID)); err != nil {
		return err
	}
	return s.show(w, r, "runs", "Runs", v, d)
}

type runData struct {
	Run  runView
	Live *liveRun
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	run, ok := v.run(r.PathValue("run"))
	if !ok {
		return errNotFound
	}
	d := runData{Run: run}
	if run.Active() {
		l := s.live(r.Context(), run)
		d.Live = &l
	}
	return s.show(w, r, "run", "Run "+run.Run, v, d)
}

// deadlineView is a run against its deadline.
type deadlineView struct {
	*summary
	Open, Passed, Near bool
	Left               string
}

func newDeadline(x *summary, now time.Time) deadlineView {
	d := deadlineView{summary: x, Open: x.open(), Passed: now.After(*x.Deadline)}
	left := x.Deadline.Sub(now)
	d.Near = !d.Passed && left < nearDays*24*time.Hour
	days := int(left.Abs() / (24 * time.Hour))
	switch {
	case !d.Open:
		d.Left = ""
	case d.Passed:
		d.Left = count(days, "day", "days") + " ago"
	default:
		d.Left = "in " + count(days, "day", "days")
	}
	return d
}

type listData[T any] struct {
	Rows  []T
	Pager pager
}

func (s *Server) deadlines(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	part, p, err := paged(r, v.Deadlines)
	if err != nil {
		return err
	}
	now := clock.Now(r.Context())
	d := listData[deadlineView]{Pager: p}
	for _, x := range part {
		d.Rows = append(d.Rows, newDeadline(x, now))
	}
	return s.show(w, r, "deadlines", "Deadlines", v, d)
}

func (s *Server) residue(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	part, p, err := paged(r, v.Residue)
	if err != nil {
		return err
	}
	return s.show(w, r, "residue", "Still stored", v, listData[residueView]{part, p})
}

func (s *Server) targets(w http.ResponseWriter, r *http.Request) error {
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	part, p, err := paged(r, v.Targets)
	if err != nil {
		return err
	}
	return s.show(w, r, "targets", "Targets", v, listData[coverage]{part, p})
}
