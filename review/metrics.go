package review

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/manifests"
)

// metrics are gauges over the index, computed when they are asked for. Labels
// are job names, outcomes and states: never a key, a table or a path.
type metrics struct {
	s        *Server
	registry *prometheus.Registry
	refused  *prometheus.CounterVec

	up, runs, lastStart, lastEnd, lastOutcome, rows, removed, overdue, residue, residueOverdue, nextDeadline, active, progress, unread, damaged, logSize, logOK, requests, requestsMissed, requestNext *prometheus.Desc
}

func newMetrics(s *Server) *metrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("expunge_"+name, help, labels, nil)
	}
	m := &metrics{s: s, registry: prometheus.NewRegistry(),
		refused:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "expunge_http_refused_total", Help: "Requests refused, by reason."}, []string{"reason"}),
		up:             d("state_up", "1 when the state bucket could be read."),
		runs:           d("runs", "Runs by job and outcome, or state where there is no outcome.", "job", "outcome"),
		lastStart:      d("last_run_start_timestamp_seconds", "Start of the job's latest run.", "job"),
		lastEnd:        d("last_erasure_end_timestamp_seconds", "End of the job's latest run that left nothing open.", "job"),
		lastOutcome:    d("last_run_outcome", "1 for the outcome or state of the job's latest run.", "job", "outcome"),
		rows:           d("rows_erased", "Rows erased by the runs that the bucket knows.", "job"),
		removed:        d("objects_removed", "Objects physically removed by the runs that the bucket knows.", "job"),
		overdue:        d("deadlines_missed", "Runs past their deadline and not complete.", "job"),
		nextDeadline:   d("next_deadline_timestamp_seconds", "Earliest deadline of a run that is not complete.", "job"),
		residue:        d("residue_items", "Entries of what is still stored, by the latest manifests.", "job"),
		residueOverdue: d("residue_overdue_items", "Those of them without a date, or past it.", "job"),
		active:         d("runs_active", "Runs that a process claims to work on.", "job"),
		progress:       d("run_files_done_ratio", "Share of the files read by the job's active run.", "job"),
		unread:         d("index_unread_manifests", "Manifests that were listed and not read yet."),
		damaged:        d("index_damaged_objects", "Manifests and statuses that cannot be read."),
		logSize:        d("log_entries", "Entries of the log, by its checkpoint."),
		logOK:          d("log_verified", "1 when the log verified at the last reading, 0 when it did not; absent when nothing was checked."),
	}
	m.requests = d("requests", "Erasure requests by status; absent when the server cannot read requests.", "status")
	m.requestsMissed = d("requests_deadline_missed", "Open requests past their deadline, or whose last copies go after it.")
	m.requestNext = d("next_request_deadline_timestamp_seconds", "Earliest deadline of an open request.")
	m.registry.MustRegister(m.refused, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler serves them. The gauges are of the request: its time, and its end.
func (m *metrics) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := prometheus.NewRegistry()
		own.MustRegister(scrape{m, r.Context()})
		promhttp.HandlerFor(prometheus.Gatherers{m.registry, own}, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// scrape is one reading of the gauges.
type scrape struct {
	*metrics
	ctx context.Context
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.runs, m.lastStart, m.lastEnd, m.lastOutcome, m.rows, m.removed, m.overdue, m.nextDeadline, m.residue,
		m.residueOverdue, m.active, m.progress, m.unread, m.damaged, m.logSize, m.logOK, m.requests, m.requestsMissed, m.requestNext} {
		ch <- d
	}
}

// jobSums are one job's figures.
type jobSums struct {
	outcomes                                 map[string]int
	last                                     *runView
	rows, removed                            int64
	overdue, residue, residueOverdue, active int
	lastEnd, nextDeadline                    time.Time
	done, total                              int64
}

// Collect implements prometheus.Collector.
func (m scrape) Collect(ch chan<- prometheus.Metric) {
	ctx := m.ctx
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	v, err := m.s.index.get(ctx)
	if err != nil {
		gauge(m.up, 0)
		return
	}
	gauge(m.up, 1)
	gauge(m.unread, float64(v.Unread))
	gauge(m.damaged, float64(v.Damaged))
	for job, s := range sums(v, clock.Now(ctx)) {
		for outcome, n := range s.outcomes {
			gauge(m.runs, float64(n), job, outcome)
		}
		gauge(m.lastStart, seconds(s.last.Started), job)
		gauge(m.lastOutcome, 1, job, outcomeOf(*s.last))
		gauge(m.rows, float64(s.rows), job)
		gauge(m.removed, float64(s.removed), job)
		gauge(m.overdue, float64(s.overdue), job)
		gauge(m.residue, float64(s.residue), job)
		gauge(m.residueOverdue, float64(s.residueOverdue), job)
		gauge(m.active, float64(s.active), job)
		if !s.lastEnd.IsZero() {
			gauge(m.lastEnd, seconds(s.lastEnd), job)
		}
		if !s.nextDeadline.IsZero() {
			gauge(m.nextDeadline, seconds(s.nextDeadline), job)
		}
		if s.total > 0 {
			gauge(m.progress, float64(s.done)/float64(s.total), job)
		}
	}
	if book := m.s.book.state(ctx, v); !book.At.IsZero() {
		by := map[string]int{}
		for _, q := range book.List {
			by[q.Status]++
		}
		for status, n := range by {
			gauge(m.requests, float64(n), status)
		}
		missed, _, next := requestCounts(book.List, clock.Now(ctx))
		gauge(m.requestsMissed, float64(missed))
		if !next.IsZero() {
			gauge(m.requestNext, seconds(next))
		}
	}
	log := m.s.logs.state(ctx)
	gauge(m.logSize, float64(log.Size))
	switch {
	case log.Broken:
		gauge(m.logOK, 0)
	case !log.Checked.IsZero():
		gauge(m.logOK, 1)
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func outcomeOf(r runView) string {
	if o := r.Result(); o != "" {
		return o
	}
	return r.State
}

func sums(v *view, now time.Time) map[string]*jobSums {
	out := map[string]*jobSums{}
	job := func(name string) *jobSums {
		s := out[name]
		if s == nil {
			s = &jobSums{outcomes: map[string]int{}}
			out[name] = s
		}
		return s
	}
	for i := range v.Runs {
		r := &v.Runs[i]
		s := job(r.Job)
		if s.last == nil {
			s.last = r
		}
		s.outcomes[outcomeOf(*r)]++
		if r.Active() {
			s.active++
			s.done, s.total = s.done+r.Counters["files_done"], s.total+r.Counters["files_total"]
		}
		for _, m := range r.Manifests {
			if m.Kind == manifests.KindRun {
				s.rows += m.RowsErased
			}
			s.removed += m.Removed
		}
		if r.Last != nil && !r.Last.open() && r.Last.End.After(s.lastEnd) {
			s.lastEnd = r.Last.End
		}
	}
	for _, d := range v.Deadlines {
		s := job(d.Job)
		if !d.open() {
			continue
		}
		if now.After(*d.Deadline) {
			s.overdue++
		}
		if s.nextDeadline.IsZero() || d.Deadline.Before(s.nextDeadline) {
			s.nextDeadline = *d.Deadline
		}
	}
	for _, r := range v.Residue {
		s := job(r.Manifest.Job)
		s.residue++
		if r.GoneBy == nil || r.GoneBy.Before(now) {
			s.residueOverdue++
		}
	}
	for name, s := range out {
		if s.last == nil { // a manifest of a job that no run names
			delete(out, name)
		}
	}
	return out
}
