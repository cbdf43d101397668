package configs

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	_ "time/tzdata" // schedules name zones; containers often carry no zone files

	"github.com/robfig/cron/v3"
)

// Schedule says when a job runs. Its times are wall-clock times of the zone: a
// nightly run happens once a day on every day, also where the clock changes. A
// time that the change skips is run at the change's end, one that it repeats is
// run the first time only.
type Schedule struct {
	Cron     string `yaml:"cron" json:"cron"` // five fields, or @daily and the like
	Timezone string `yaml:"timezone" json:"timezone"`
	Missed   string `yaml:"missed" json:"missed"`   // once, all, skip: runs that were due while nothing ran
	Overlap  string `yaml:"overlap" json:"overlap"` // skip, queue: a run that is due while one runs
}

// errNever: the expression names a day that no year has.
var errNever = errors.New("schedule never comes due")

func (s *Schedule) parse() (cron.Schedule, *time.Location, error) {
	spec := strings.TrimSpace(s.Cron)
	if strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=") || strings.HasPrefix(spec, "@every") {
		return nil, nil, errors.New("not a schedule of five fields such as 15 4 * * *; the zone is a field of its own")
	}
	sched, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("not a schedule of five fields such as 15 4 * * *: %w", err)
	}
	if s.Timezone == "Local" {
		return nil, nil, errors.New("name a zone such as Europe/Berlin")
	}
	loc, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return nil, nil, errors.New("unknown time zone; name one such as Europe/Berlin")
	}
	return sched, loc, nil
}

// NextRun returns the first time after t at which the job is due.
func (s *Schedule) NextRun(t time.Time) (time.Time, error) {
	sched, loc, err := s.parse()
	if err != nil {
		return time.Time{}, err
	}
	// The expression is evaluated on wall-clock readings, held as UTC times so
	// that no offset change can hide one, and the result is placed in the zone.
	local := t.In(loc)
	reading := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), 0, time.UTC)
	for {
		reading = sched.Next(reading)
		if reading.IsZero() {
			return time.Time{}, errNever
		}
		if due := place(reading, loc); due.After(t) {
			return due, nil
		}
	}
}

// place returns the moment at which the zone's clock first shows the reading,
// or the moment after the gap when it never does.
func place(reading time.Time, loc *time.Location) time.Time {
	t := time.Date(reading.Year(), reading.Month(), reading.Day(), reading.Hour(), reading.Minute(), reading.Second(), 0, loc)
	if t.Hour() == reading.Hour() && t.Minute() == reading.Minute() {
		// A repeated reading has two moments: take the earlier.
		for _, shift := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour} {
			if e := t.Add(-shift); e.Hour() == t.Hour() && e.Minute() == t.Minute() {
				return e
			}
		}
		return t
	}
	// In a gap, Date is off by the gap to one side: the zone's transition is near.
	start, end := t.ZoneBounds()
	if !start.IsZero() && t.Sub(start) <= 3*time.Hour {
		return start.In(loc)
	}
	return end.In(loc)
}

// MissedRuns yields the times after last and up to now at which the job was due.
func (s *Schedule) MissedRuns(last, now time.Time) iter.Seq2[time.Time, error] {
	return func(yield func(time.Time, error) bool) {
		for {
			next, err := s.NextRun(last)
			if errors.Is(err, errNever) || err == nil && next.After(now) {
				return
			}
			if !yield(next, err) || err != nil {
				return
			}
			last = next
		}
	}
}

// Due returns the times to run at for what was missed after last and up to now,
// as the policy says: none (skip), the latest (once) or each (all, the latest most of them).
func (s *Schedule) Due(last, now time.Time, most int) ([]time.Time, error) {
	if s.Missed == "skip" {
		return nil, nil
	}
	if s.Missed != "all" {
		most = 1
	}
	var due []time.Time
	for t, err := range s.MissedRuns(last, now) {
		if err != nil {
			return nil, err
		}
		if due = append(due, t); len(due) > most {
			due = due[1:]
		}
	}
	return due, nil
}
