package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/expunge/expunge/internal/clock"
)

// simulate runs the scheduler for some days of fake time and returns when runs started.
func simulate(t *testing.T, days int, schedule string, lastRun time.Duration, lasts func(n int) time.Duration, outcome error) (starts []string) {
	return simulateBoth(t, days, "schedule: "+schedule+"\n", map[string]time.Duration{KindRun: lastRun}, lasts, outcome)[KindRun]
}

// simulateBoth is simulate for runs and audits; ago says when the last of each kind began.
func simulateBoth(t *testing.T, days int, extra string, ago map[string]time.Duration, lasts func(n int) time.Duration, outcome error) map[string][]string {
	starts := map[string][]string{}
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(testJob+extra), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(days)*24*time.Hour)
		defer cancel()
		begin := clock.Now(ctx)
		begun := func(ctx context.Context, kind string) error {
			mu.Lock()
			n := len(starts[kind])
			starts[kind] = append(starts[kind], clock.Now(ctx).Format("02 15:04"))
			mu.Unlock()
			select {
			case <-time.After(lasts(n)):
				return outcome
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b := Backend{
			Runs: func(_ context.Context, _ Env, r RunsRequest) (*RunsResponse, error) {
				if ago[r.Kind] == 0 {
					return &RunsResponse{}, nil
				}
				return &RunsResponse{Runs: []RunInfo{{Started: begin.Add(-ago[r.Kind])}}}, nil
			},
			Run: func(ctx context.Context, _ Env, r RunRequest) (*RunResponse, error) {
				return &RunResponse{RunID: "r", Outcome: Erased}, begun(ctx, KindRun)
			},
		}
		b.Audit = func(ctx context.Context, _ Env, r AuditRequest) (*AuditResponse, error) {
			return &AuditResponse{RunID: "a"}, begun(ctx, KindAudit)
		}
		a := &app{io: Stdio{Out: io.Discard, Err: io.Discard}, backend: b, out: &output{w: io.Discard}, quiet: true}
		cmd := a.scheduler()
		cmd.SetContext(ctx)
		j, err := loadJob(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.schedule(ctx, cmd, []loadedJob{{path, j}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the scheduler ended with %v", err)
		}
	})
	return starts
}

func minutes(int) time.Duration { return 10 * time.Minute }

func TestTheSchedulerRunsAtItsTimes(t *testing.T) {
	got := simulate(t, 3, `{cron: "15 4 * * *", timezone: Europe/Berlin}`, 0, minutes, nil)
	if want := []string{"01 03:15", "02 03:15", "03 03:15"}; !slices.Equal(got, want) {
		t.Errorf("started at %v UTC, want %v", got, want)
	}
}

func TestAFailedRunDoesNotEndTheScheduler(t *testing.T) {
	if got := simulate(t, 3, `{cron: "0 4 * * *"}`, 0, minutes, errors.New("catalog is down")); len(got) != 3 {
		t.Errorf("started at %v", got)
	}
}

func TestMissedRunsAreMadeUpAtTheStart(t *testing.T) {
	for policy, want := range map[string][]string{
		"once": {"01 00:00", "01 04:00"},
		"skip": {"01 04:00"},
		"all":  {"01 00:00", "01 00:10", "01 00:20", "01 04:00"},
	} {
		got := simulate(t, 1, `{cron: "0 4 * * *", missed: `+policy+`}`, 70*time.Hour, minutes, nil)
		if !slices.Equal(got, want) {
			t.Errorf("%s: started at %v, want %v", policy, got, want)
		}
	}
}

func TestARunThatOverlapsIsSkippedOrQueued(t *testing.T) {
	long := func(n int) time.Duration {
		if n == 0 {
			return 25 * time.Hour // from 04:00 to 05:00 on the next day
		}
		return time.Minute
	}
	for policy, want := range map[string][]string{
		"skip":                {"01 04:00", "03 04:00"},
		"queue":               {"01 04:00", "02 05:00", "03 04:00"},
		"queue, missed: skip": {"01 04:00", "02 05:00", "03 04:00"},
	} {
		got := simulate(t, 3, `{cron: "0 4 * * *", overlap: `+policy+`}`, 0, long, nil)
		if !slices.Equal(got, want) {
			t.Errorf("%s: started at %v, want %v", policy, got, want)
		}
	}
}

func TestAuditsHaveTimesOfTheirOwn(t *testing.T) {
	long := func(n int) time.Duration {
		if n == 0 {
			return 25 * time.Hour
		}
		return time.Minute
	}
	for name, c := range map[string]struct {
		extra      string
		ago        map[string]time.Duration
		lasts      func(int) time.Duration
		runs, want []string
	}{
		"beside the runs, in their zone": {"schedule: {cron: \"0 4 * * *\"}\naudit: {keep: 9d, schedule: {cron: \"30 1 * * *\", timezone: Europe/Berlin}}\n", nil, minutes,
			[]string{"01 04:00", "02 04:00", "03 04:00"}, []string{"01 00:30", "02 00:30", "03 00:30"}},
		"alone": {"audit: {keep: 9d, schedule: {cron: \"0 6 2 * *\"}}\n", nil, minutes, nil, []string{"02 06:00"}},
		"missed ones, whatever the runs did": {"audit: {keep: 9d, schedule: {cron: \"0 6 * * *\"}}\n", map[string]time.Duration{KindAudit: 50 * time.Hour, KindRun: time.Hour}, minutes,
			nil, []string{"01 00:00", "01 06:00", "02 06:00", "03 06:00"}},
		"missed ones are skipped": {"audit: {keep: 9d, schedule: {cron: \"0 6 * * *\", missed: skip}}\n", map[string]time.Duration{KindAudit: 50 * time.Hour}, minutes,
			nil, []string{"01 06:00", "02 06:00", "03 06:00"}},
		"an overlap is skipped":  {"audit: {keep: 9d, schedule: {cron: \"0 6 * * *\"}}\n", nil, long, nil, []string{"01 06:00", "03 06:00"}},
		"an overlap is queued":   {"audit: {keep: 9d, schedule: {cron: \"0 6 * * *\", overlap: queue}}\n", nil, long, nil, []string{"01 06:00", "02 07:00", "03 06:00"}},
		"a long run delays none": {"schedule: {cron: \"0 4 * * *\"}\naudit: {keep: 9d, schedule: {cron: \"0 5 * * *\"}}\n", nil, func(int) time.Duration { return 90 * time.Minute }, []string{"01 04:00", "02 04:00", "03 04:00"}, []string{"01 05:00", "02 05:00", "03 05:00"}},
	} {
		got := simulateBoth(t, 3, c.extra, c.ago, c.lasts, errors.New("whatever the outcome"))
		if !slices.Equal(got[KindAudit], c.want) || !slices.Equal(got[KindRun], c.runs) {
			t.Errorf("%s: audits at %v, runs at %v; want %v and %v", name, got[KindAudit], got[KindRun], c.want, c.runs)
		}
	}
}
