package storage

import (
	"context"
	"io"
	"sync"
)

// Action is what an injected fault does.
type Action uint8

// What can go wrong with one operation.
const (
	FailBefore Action = iota + 1 // the operation fails and had no effect
	FailAfter                    // it had its effect, and fails all the same
	Truncate                     // a read, or a write, stops half way
	CallBefore                   // Do is called first: a test kills its process there
	CallAfter                    // Do is called after the effect
)

// Fault is what to inject where.
type Fault struct {
	Action Action
	Err    error  // default: a transient failure
	Do     func() // for CallBefore and CallAfter
}

// Faults decides, operation by operation, what goes wrong. Operations are
// numbered from 1 in the order in which they begin.
type Faults struct {
	// Pick returns the fault of an operation, or nil. It is never called twice at once.
	Pick func(n int64, c Call) *Fault

	mu sync.Mutex
	n  int64
}

// Count is how many operations there were so far.
func (f *Faults) Count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// At injects one fault at the n-th operation.
func At(n int64, fault Fault) *Faults {
	return &Faults{Pick: func(i int64, _ Call) *Fault {
		if i == n {
			return &fault
		}
		return nil
	}}
}

func (f *Faults) pick(c Call) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.Pick == nil {
		return nil
	}
	return f.Pick(f.n, c)
}

// WithFaults injects faults, for tests.
func WithFaults(s Store, f *Faults) Store {
	return decorate(s, func(ctx context.Context, c *Call, next func(context.Context) error) error {
		fault := f.pick(*c)
		if fault == nil {
			return next(ctx)
		}
		return fault.inject(ctx, c, next)
	})
}

func (f *Fault) inject(ctx context.Context, c *Call, next func(context.Context) error) error {
	fail := func() error {
		if f.Err != nil {
			return NewError(c.Op.String(), c.Path, f.Err, "injected", nil)
		}
		return NewError(c.Op.String(), c.Path, ErrTransient, "injected", nil)
	}
	switch f.Action {
	case FailBefore:
		return fail()
	case FailAfter:
		if err := next(ctx); err != nil {
			return err
		}
		return fail()
	case Truncate:
		whole := c.Bytes
		c.Bytes /= 2
		err := next(ctx)
		c.Bytes = whole
		if err != nil {
			return err
		}
		if f.Err == nil {
			return NewError(c.Op.String(), c.Path, ErrTransient, "truncated", io.ErrUnexpectedEOF)
		}
		return fail()
	case CallBefore:
		f.Do()
		return next(ctx)
	case CallAfter:
		err := next(ctx)
		f.Do()
		return err
	}
	return next(ctx)
}
