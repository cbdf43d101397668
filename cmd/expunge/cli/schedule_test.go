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
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(testJob+"schedule: "+schedule+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(days)*24*time.Hour)
		defer cancel()
		begin := clock.Now(ctx)
		b := Backend{
			Runs: func(context.Context, Env, RunsRequest) (*RunsResponse, error) {
				if lastRun == 0 {
					return &RunsResponse{}, nil
				}
				return &RunsResponse{Runs: []RunInfo{{Started: begin.Add(-lastRun)}}}, nil
			},
			Run: func(ctx context.Context, _ Env, r RunRequest) (*RunResponse, error) {
				mu.Lock()
				n := len(starts)
				starts = append(starts, clock.Now(ctx).Format("02 15:04"))
				mu.Unlock()
				select {
				case <-time.After(lasts(n)):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return &RunResponse{RunID: "r", Outcome: Erased}, outcome
			},
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
