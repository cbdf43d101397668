// Package clock is the one place that reads the wall clock, so that tests can
// set it. Timing with real waits is tested under testing/synctest instead.
package clock

import (
	"context"
	"time"
)

type key struct{}

// With returns a context whose Now is now's.
func With(ctx context.Context, now func() time.Time) context.Context {
	return context.WithValue(ctx, key{}, now)
}

// Now returns the context's time in UTC, by default the wall clock's.
func Now(ctx context.Context) time.Time {
	if now, ok := ctx.Value(key{}).(func() time.Time); ok {
		return now().UTC()
	}
	return time.Now().UTC()
}
