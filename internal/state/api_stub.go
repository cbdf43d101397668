// Package state keeps what a run knows in the state bucket.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/expunge/expunge/internal/storage"
)

var (
	ErrRunExists = errors.New("run exists already")
	ErrNoRun     = errors.New("no such run")
	ErrSealed    = errors.New("run is sealed: its secret was destroyed")
	ErrCorrupt   = errors.New("sealed file is damaged")
	ErrConflict  = errors.New("journal has another writer")
	ErrLeaseLost = errors.New("lease was lost")
	errTodo      = errors.New("not there yet")
)

// State is the state bucket.
type State struct {
	store storage.Store
	root  string
}

// Option configures Open.
type Option func(*State)

// Wrapper protects run secrets at rest.
type Wrapper interface {
	Name() string
	Wrap(ctx context.Context, secret []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// WithWrapper wraps run secrets before they are stored.
func WithWrapper(w Wrapper) Option { return func(*State) {} }

// Open opens the state under root.
func Open(ctx context.Context, store storage.Store, root string, opts ...Option) (*State, error) {
	return &State{store: store, root: root}, nil
}

// Status is a run's key-free summary.
type Status struct {
	Run      string            `json:"run"`
	Job      string            `json:"job,omitempty"`
	State    string            `json:"state"`
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

func (s *State) NewRun(ctx context.Context, id string) (*Run, error)  { return nil, errTodo }
func (s *State) OpenRun(ctx context.Context, id string) (*Run, error) { return nil, errTodo }

// Runs yields every run's status, in order of run id.
func (s *State) Runs(ctx context.Context) iter.Seq2[Status, error] {
	return func(func(Status, error) bool) {}
}

// Acquire takes the lease of that name, or fails with *LeaseHeld.
func (s *State) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (*Lease, error) {
	return nil, errTodo
}

// Run is one run's folder.
type Run struct{}

func (r *Run) ID() string                                                       { return "" }
func (r *Run) Path(name string) string                                          { return "" }
func (r *Run) Secret() []byte                                                   { return nil }
func (r *Run) Create(ctx context.Context, name string) (io.WriteCloser, error)  { return nil, errTodo }
func (r *Run) Replace(ctx context.Context, name string) (io.WriteCloser, error) { return nil, errTodo }
func (r *Run) Open(ctx context.Context, name string) (io.ReadCloser, error)     { return nil, errTodo }
func (r *Run) Remove(ctx context.Context, name string) error                    { return errTodo }
func (r *Run) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}
func (r *Run) CreatePlain(ctx context.Context, name string) (io.WriteCloser, error) {
	return nil, errTodo
}
func (r *Run) OpenPlain(ctx context.Context, name string) (io.ReadCloser, error) { return nil, errTodo }
func (r *Run) DestroySecret(ctx context.Context) error                           { return errTodo }
func (r *Run) SetStatus(ctx context.Context, st Status) error                    { return errTodo }
func (r *Run) Status(ctx context.Context) (Status, error)                        { return Status{}, errTodo }
func (r *Run) RequestStop(ctx context.Context, reason string) error              { return errTodo }
func (r *Run) StopRequested(ctx context.Context) (string, bool, error)           { return "", false, errTodo }
func (r *Run) ClearStop(ctx context.Context) error                               { return errTodo }
func (r *Run) Journal(ctx context.Context, name string) (*Journal, error)        { return nil, errTodo }

// WriteRecords writes records as JSON lines into a sealed file and returns how many.
func WriteRecords[T any](ctx context.Context, r *Run, name string, records iter.Seq2[T, error]) (int64, error) {
	return 0, errTodo
}

// ReadRecords streams the records of a sealed file.
func ReadRecords[T any](ctx context.Context, r *Run, name string) iter.Seq2[T, error] {
	return func(func(T, error) bool) {}
}

// Event is one journal entry.
type Event struct {
	Seq  int64           `json:"seq"`
	Time time.Time       `json:"time"`
	Step string          `json:"step"`
	Key  string          `json:"key,omitempty"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Journal is a run's append-only record.
type Journal struct{}

// Append makes the event durable and returns it with its number and time.
func (j *Journal) Append(ctx context.Context, e Event) (Event, error) { return e, errTodo }

// Replay yields every event in order.
func (j *Journal) Replay(ctx context.Context) iter.Seq2[Event, error] {
	return func(func(Event, error) bool) {}
}

// LeaseHeld says who holds a lease and until when.
type LeaseHeld struct {
	Holder string
	Until  time.Time
}

func (e *LeaseHeld) Error() string { return "lease is held by " + e.Holder }

// ErrLeaseHeld is what errors.Is finds in a *LeaseHeld.
var ErrLeaseHeld = errors.New("lease is held by another run")

// Is makes errors.Is(err, ErrLeaseHeld) true.
func (e *LeaseHeld) Is(target error) bool { return target == ErrLeaseHeld }

// Lease is exclusive use of a name, renewed in the background until Release.
type Lease struct{}

func (l *Lease) Epoch() int64                      { return 0 }
func (l *Lease) Check(ctx context.Context) error   { return errTodo }
func (l *Lease) Lost() <-chan struct{}             { return nil }
func (l *Lease) Release(ctx context.Context) error { return errTodo }
