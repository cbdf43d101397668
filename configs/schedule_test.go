package configs

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func berlin(t testing.TB) *time.Location {
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestANightlyJobRunsOnceOnEveryDay(t *testing.T) {
	// Every minute of the day, so that both clock changes are met: 2026-03-29 has no 02:30, 2026-10-25 has it twice.
	rapid.Check(t, func(rt *rapid.T) {
		hour, minute := rapid.IntRange(0, 23).Draw(rt, "hour"), rapid.IntRange(0, 59).Draw(rt, "minute")
		zone := rapid.SampledFrom([]string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca"}).Draw(rt, "zone")
		loc, err := time.LoadLocation(zone)
		if err != nil {
			rt.Fatal(err)
		}
		s := &Schedule{Cron: time.Date(0, 1, 1, hour, minute, 0, 0, time.UTC).Format("4 15 * * *"), Timezone: zone}
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, loc)
		days := map[string]int{}
		for due, err := range s.MissedRuns(from.Add(-time.Second), from.AddDate(1, 0, 0).Add(-time.Second)) {
			if err != nil {
				rt.Fatal(err)
			}
			days[due.In(loc).Format(time.DateOnly)]++
		}
		if len(days) != 365 {
			rt.Fatalf("%s in %s came due on %d days", s.Cron, zone, len(days))
		}
		for day, n := range days {
			if n != 1 {
				rt.Fatalf("%s in %s came due %d times on %s", s.Cron, zone, n, day)
			}
		}
	})
}

func TestClockChanges(t *testing.T) {
	loc := berlin(t)
	s := &Schedule{Cron: "30 2 * * *", Timezone: "Europe/Berlin"}
	for _, c := range []struct{ name, after, want string }{
		{"skipped hour: at its end", "2026-03-28T03:00:00+01:00", "2026-03-29T03:00:00+02:00"},
		{"the day after", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"},
		{"repeated hour: the first", "2026-10-24T03:00:00+02:00", "2026-10-25T02:30:00+02:00"},
		{"not the second", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"},
	} {
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.NextRun(after)
		if err != nil {
			t.Fatal(err)
		}
		if got.In(loc).Format(time.RFC3339) != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.In(loc).Format(time.RFC3339), c.want)
		}
	}
}

func TestTheNextRunIsAlwaysLater(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		after := time.Unix(rapid.Int64Range(1.6e9, 2e9).Draw(rt, "unix"), 0)
		s := &Schedule{Cron: rapid.SampledFrom([]string{"* * * * *", "0 * * * *", "15 4 * * 1", "@daily", "0 0 29 2 *"}).Draw(rt, "cron"), Timezone: "Europe/Berlin"}
		next, err := s.NextRun(after)
		if err != nil || !next.After(after) {
			rt.Fatalf("%s after %s: %s, %v", s.Cron, after, next, err)
		}
	})
}

func TestMissedRunsFollowThePolicy(t *testing.T) {
	last := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	now := last.AddDate(0, 0, 5)
	for policy, want := range map[string][]int{"skip": nil, "once": {6}, "all": {2, 3, 4, 5, 6}} {
		s := &Schedule{Cron: "0 4 * * *", Timezone: "UTC", Missed: policy}
		due, err := s.Due(last, now, 10)
		if err != nil || len(due) != len(want) {
			t.Fatalf("%s: %v, %v", policy, due, err)
		}
		for i, d := range due {
			if d.Day() != want[i] || d.Hour() != 4 {
				t.Errorf("%s: %v", policy, due)
			}
		}
	}
	s := &Schedule{Cron: "0 4 * * *", Timezone: "UTC", Missed: "all"}
	due, err := s.Due(last, now, 2)
	if err != nil || len(due) != 2 || due[1].Day() != 6 {
		t.Errorf("the latest two: %v, %v", due, err)
	}
}

func TestAScheduleThatNeverComesDueEnds(t *testing.T) {
	s := &Schedule{Cron: "0 0 30 2 *", Timezone: "UTC", Missed: "all"}
	if _, err := s.NextRun(time.Unix(0, 0)); err == nil {
		t.Error("30 February came due")
	}
	if due, err := s.Due(time.Unix(0, 0), time.Unix(2e9, 0), 5); err != nil || due != nil {
		t.Errorf("missed: %v, %v", due, err)
	}
}
