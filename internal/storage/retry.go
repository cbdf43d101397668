package storage

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how often and how long to try again.
type RetryPolicy struct {
	Attempts int           // in all, the first included
	Base     time.Duration // the first wait, on average
	Max      time.Duration // no wait is longer
	// Throttled multiplies the waits after ErrThrottled and adds as many attempts again.
	Throttled int
}

// DefaultRetry is three attempts within seconds, and more patience with a
// store that asks for it.
var DefaultRetry = RetryPolicy{Attempts: 3, Base: 100 * time.Millisecond, Max: 10 * time.Second, Throttled: 4}

// WithRetry repeats what failed with a transient error and is safe to repeat.
// Reads, listings and removals are; writes are where the Writer is Resumable.
// It never repeats once the context is done.
func WithRetry(s Store, p RetryPolicy) Store {
	return decorate(s, func(ctx context.Context, c *Call, next func(context.Context) error) error {
		return p.do(ctx, c.Repeatable, next)
	})
}

// Do runs f until it succeeds, fails for good, or the attempts are used up.
func (p RetryPolicy) Do(ctx context.Context, f func(context.Context) error) error {
	return p.do(ctx, true, f)
}

func (p RetryPolicy) do(ctx context.Context, repeatable bool, f func(context.Context) error) error {
	wait := p.Base
	attempts := max(p.Attempts, 1)
	for n := 1; ; n++ {
		err := f(ctx)
		var final notRepeatable
		if err == nil || !repeatable || !IsTransient(err) || errors.As(err, &final) || ctx.Err() != nil {
			return err
		}
		this := wait
		if errors.Is(err, ErrThrottled) {
			if p.Throttled > 1 {
				this *= time.Duration(p.Throttled)
				attempts = max(p.Attempts, 1) * p.Throttled
			}
		}
		if n >= attempts {
			return err
		}
		if p.Max > 0 {
			this = min(this, p.Max)
		}
		// Full jitter, but at least half: many workers must not come back together.
		if sleep(ctx, this/2+rand.N(this/2+1)) != nil {
			return err
		}
		wait *= 2
		if p.Max > 0 {
			wait = min(wait, p.Max)
		}
	}
}
