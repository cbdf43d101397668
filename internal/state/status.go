package state

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// Status is a run's summary for listings. It is stored in clear, so it has no
// place for keys, bounds or error texts.
type Status struct {
	Run      string            `json:"run"`
	Job      string            `json:"job,omitempty"`
	State    string            `json:"state"` // the caller's words: "running", "waiting for grace", ...
	Step     string            `json:"step,omitempty"`
	Outcome  string            `json:"outcome,omitempty"`
	Started  time.Time         `json:"started"`
	Updated  time.Time         `json:"updated"`
	Ended    time.Time         `json:"ended,omitzero"`
	PurgeDue time.Time         `json:"purge_due,omitzero"`
	Sealed   bool              `json:"sealed,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Counters map[string]int64  `json:"counters,omitempty"`
}

// StatusTag names a run's summary and its version without reading it.
type StatusTag struct{ Run, Tag string }

// Statuses lists the summaries of all runs, in order of run id, without reading
// them: a reader that keeps them reads only those whose tag has changed.
func (s *State) Statuses(ctx context.Context) iter.Seq2[StatusTag, error] {
	return func(yield func(StatusTag, error) bool) {
		prefix := s.root + "status/"
		for info, err := range s.store.List(ctx, prefix) {
			if err != nil {
				yield(StatusTag{}, fmt.Errorf("list runs: %w", err))
				return
			}
			id, ok := strings.CutSuffix(strings.TrimPrefix(info.Path, prefix), ".json")
			tag := info.ETag
			if tag == "" {
				tag = info.ModTime.String()
			}
			if ok && runID.MatchString(id) && !yield(StatusTag{id, tag}, nil) {
				return
			}
		}
	}
}

// StatusOf reads one run's summary; ErrNoRun if there is none.
func (s *State) StatusOf(ctx context.Context, id string) (Status, error) {
	if !runID.MatchString(id) {
		return Status{}, fmt.Errorf("read status: %w", ErrName)
	}
	st, err := s.readStatus(ctx, id)
	if storage.IsNotExist(err) {
		err = ErrNoRun
	}
	return st, err
}

func (s *State) statusPath(id string) string { return s.root + "status/" + id + ".json" }

// SetStatus replaces the run's summary; Run and Updated are filled in.
func (r *Run) SetStatus(ctx context.Context, st Status) error {
	st.Run, st.Updated = r.id, clock.Now(ctx)
	data, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	if err := storage.WriteAll(ctx, r.s.store, r.s.statusPath(r.id), data, storage.CreateOptions{Private: true}); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// Status reads the run's summary.
func (r *Run) Status(ctx context.Context) (Status, error) { return r.s.readStatus(ctx, r.id) }

func (s *State) readStatus(ctx context.Context, id string) (Status, error) {
	var st Status
	data, err := storage.ReadAll(ctx, s.store, s.statusPath(id))
	if err != nil {
		return st, fmt.Errorf("read status: %w", err)
	}
	if json.Unmarshal(data, &st) != nil || st.Run != id {
		return Status{Run: id}, fmt.Errorf("read status of run %s: %w", id, ErrCorrupt)
	}
	return st, nil
}

// stopRequest is the content of a run's stop.json.
type stopRequest struct {
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// RequestStop asks the process that works on the run to stop where it can
// resume. Only the first request counts.
func (r *Run) RequestStop(ctx context.Context, reason string) error {
	data, err := json.Marshal(stopRequest{reason, clock.Now(ctx)})
	if err != nil {
		return fmt.Errorf("encode stop request: %w", err)
	}
	if err := storage.WriteAll(ctx, r.s.store, r.Path("stop.json"), data, storage.CreateOptions{Private: true}); err != nil {
		return fmt.Errorf("request stop: %w", err)
	}
	return nil
}

// StopRequested says whether someone asked the run to stop, and why.
func (r *Run) StopRequested(ctx context.Context) (reason string, stop bool, err error) {
	data, err := storage.ReadAll(ctx, r.s.store, r.Path("stop.json"))
	if storage.IsNotExist(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read stop request: %w", err)
	}
	var req stopRequest
	if json.Unmarshal(data, &req) != nil {
		req.Reason = "unreadable stop request"
	}
	return req.Reason, true, nil
}

// ClearStop withdraws a request, as a resume does first.
func (r *Run) ClearStop(ctx context.Context) error { return r.Remove(ctx, "stop.json") }
