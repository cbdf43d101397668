package storage

import (
	"context"
	"io"
)

// Attributes are what an object carries besides its content.
type Attributes struct {
	ContentType string
	Metadata    map[string]string
}

// New returns a Store over every registered back end, configured by PyIceberg's property names.
func New(props map[string]string) Store { return nil }

// RetryPolicy says how often and how long to try again.
type RetryPolicy struct{}

// Limits are shared budgets of bytes and requests a second.
type Limits struct{}

// Counters count operations and bytes.
type Counters struct{}

// Faults injects failures into operations.
type Faults struct{}

func WithRetry(s Store, p RetryPolicy) Store  { return s }
func WithLimits(s Store, l *Limits) Store     { return s }
func WithCounters(s Store, c *Counters) Store { return s }
func WithFaults(s Store, f *Faults) Store     { return s }
func ReadOnly(s Store) Store                  { return s }

// ReadAll reads a whole object.
func ReadAll(ctx context.Context, s Store, path string) ([]byte, error) { return nil, ErrUnsupported }

// WriteAll writes a whole object.
func WriteAll(ctx context.Context, s Store, path string, data []byte, o CreateOptions) error {
	return ErrUnsupported
}

// Glob lists the paths that match a pattern.
func Glob(ctx context.Context, s Store, pattern string) ([]string, error) {
	return nil, ErrUnsupported
}

// Sources opens whole objects as streams, as keyset.Opener asks for.
type Sources struct{ store Store }

// Opener adapts a Store to keyset.Opener.
func Opener(s Store) *Sources { return &Sources{store: s} }

// Open streams an object.
func (o *Sources) Open(ctx context.Context, uri string) (io.ReadCloser, error) {
	return nil, ErrUnsupported
}

// Glob lists the paths that match a pattern.
func (o *Sources) Glob(ctx context.Context, pattern string) ([]string, error) {
	return Glob(ctx, o.store, pattern)
}
