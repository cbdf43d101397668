package state

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"sync"

	"github.com/expunge/expunge/internal/storage"
)

// Errors that a caller decides on.
var (
	ErrRunExists = errors.New("run exists already")
	ErrNoRun     = errors.New("no such run")
	// ErrSealed: the run's secret was destroyed, so nothing sealed can be read or written any more.
	ErrSealed = errors.New("run is sealed: its secret was destroyed")
	// ErrCorrupt: a sealed file was changed, cut short, or belongs to another run or name.
	ErrCorrupt = errors.New("sealed file is damaged")
	// ErrConflict: somebody else appends to the same journal.
	ErrConflict = errors.New("journal has another writer")
	// ErrLeaseLost: the lease lapsed or was taken over; nothing may be written under it any more.
	ErrLeaseLost = errors.New("lease was lost")
	// ErrLeaseHeld is what errors.Is finds in a *LeaseHeld.
	ErrLeaseHeld = errors.New("lease is held by another run")
	// ErrNoCAS: the store does not honour conditional writes, so nothing on it can be locked.
	ErrNoCAS = errors.New("store ignores conditional writes: leases and journals would not be safe on it")
	// ErrName: a run id or file name that can't be used.
	ErrName = errors.New("unusable name")
)

// State is the state bucket.
type State struct {
	store   storage.Store
	root    string // ends in "/"
	secrets string // ends in "/"
	wrapper Wrapper

	mu sync.Mutex
	ok bool // conditional writes were tested
}

// Option configures Open.
type Option func(*State)

// WithWrapper wraps run secrets before they are stored.
func WithWrapper(w Wrapper) Option { return func(s *State) { s.wrapper = w } }

// WithSecrets keeps the secrets under another root than the rest, so that they
// can have other access rules.
func WithSecrets(root string) Option {
	return func(s *State) { s.secrets = strings.TrimSuffix(root, "/") + "/" }
}

// Open opens the state under root. Nothing is written before the first run.
func Open(_ context.Context, store storage.Store, root string, opts ...Option) (*State, error) {
	if root == "" {
		return nil, fmt.Errorf("open state: %w: empty root", ErrName)
	}
	s := &State{store: store, root: strings.TrimSuffix(root, "/") + "/"}
	s.secrets = s.root + "secrets/"
	for _, o := range opts {
		o(s)
	}
	return s, nil
}

// Root is where the state is, ending in a slash.
func (s *State) Root() string { return s.root }

// Store is the store that the state is on.
func (s *State) Store() storage.Store { return s.store }

var runID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// checkName rejects what could leave the run's folder.
func checkName(name string) error {
	for seg := range strings.SplitSeq(name, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return fmt.Errorf("%w: empty or relative segment", ErrName)
		}
	}
	return nil
}

// Runs yields every run's status, in order of run id.
func (s *State) Runs(ctx context.Context) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		for tag, err := range s.Statuses(ctx) {
			if err != nil {
				yield(Status{}, err)
				return
			}
			st, err := s.readStatus(ctx, tag.Run)
			if storage.IsNotExist(err) {
				continue // removed meanwhile
			}
			if !yield(st, err) {
				return
			}
		}
	}
}
