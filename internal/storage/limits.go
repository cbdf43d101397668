package storage

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/expunge/expunge/internal/clock"
)

// Limits are budgets of bytes and requests a second, shared by every Store
// that is made with them. When the store answers that it is overloaded, the
// request rate is halved for all of them and recovers slowly: more workers
// must not hurt a live store.
type Limits struct {
	bytes, requests *rate.Limiter

	mu        sync.Mutex
	wanted    rate.Limit // the configured request rate
	changed   time.Time  // when the rate was last lowered or raised
	window    time.Time  // start of the second that seen counts
	seen      float64    // requests in it
	observed  float64    // requests in the second before
	throttled int64
}

// NewLimits makes budgets; zero or less is unlimited.
func NewLimits(bytesPerSecond, requestsPerSecond float64) *Limits {
	l := &Limits{bytes: rate.NewLimiter(rate.Inf, 1), requests: rate.NewLimiter(rate.Inf, 1)}
	l.Set(bytesPerSecond, requestsPerSecond)
	return l
}

// Set changes the budgets, also while they are in use.
func (l *Limits) Set(bytesPerSecond, requestsPerSecond float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	setRate(l.bytes, toLimit(bytesPerSecond))
	l.wanted = toLimit(requestsPerSecond)
	setRate(l.requests, l.wanted)
}

func toLimit(perSecond float64) rate.Limit {
	if perSecond <= 0 || math.IsInf(perSecond, 1) {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

// setRate sets a rate with a burst of a quarter of a second.
func setRate(r *rate.Limiter, limit rate.Limit) {
	burst := 1
	if limit != rate.Inf {
		burst = int(max(1, min(float64(limit)/4, 1<<30)))
	}
	r.SetBurst(burst)
	r.SetLimit(limit)
}

// Rates returns the current rates a second, +Inf for unlimited, and how often
// the store asked to slow down.
func (l *Limits) Rates() (bytes, requests float64, throttled int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return toFloat(l.bytes.Limit()), toFloat(l.requests.Limit()), l.throttled
}

func toFloat(r rate.Limit) float64 {
	if r == rate.Inf {
		return math.Inf(1)
	}
	return float64(r)
}

// WithLimits makes every operation wait for its share of the budgets.
func WithLimits(s Store, l *Limits) Store {
	return decorate(s, func(ctx context.Context, c *Call, next func(context.Context) error) error {
		if err := l.wait(ctx, c); err != nil {
			class := ctx.Err()
			if class == nil { // the limiter saw that the deadline comes first
				class = context.DeadlineExceeded
			}
			return NewError(c.Op.String(), c.Path, class, "", err)
		}
		err := next(ctx)
		if errors.Is(err, ErrThrottled) {
			l.slowDown(ctx)
		}
		return err
	})
}

func (l *Limits) wait(ctx context.Context, c *Call) error {
	l.count(ctx, c.Requests)
	if err := take(ctx, l.requests, int64(c.Requests)); err != nil {
		return err
	}
	if c.Op == OpCopyRange {
		return nil // moves inside the store
	}
	return take(ctx, l.bytes, c.Bytes)
}

// take waits for n tokens, in portions of what the bucket can hold.
func take(ctx context.Context, r *rate.Limiter, n int64) error {
	for n > 0 && r.Limit() != rate.Inf {
		part := min(n, int64(r.Burst()))
		if err := r.WaitN(ctx, int(part)); err != nil {
			return err
		}
		n -= part
	}
	return ctx.Err()
}

// count measures the request rate and lets a lowered one recover: a tenth
// more for each second without complaint.
func (l *Limits) count(ctx context.Context, n int) {
	now := clock.Now(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.window) >= time.Second {
		l.observed, l.seen, l.window = l.seen, 0, now
	}
	l.seen += float64(n)
	current := l.requests.Limit()
	if current >= l.wanted || now.Sub(l.changed) < time.Second {
		return
	}
	l.changed = now
	next := current * 11 / 10
	if l.wanted != rate.Inf {
		next = min(next, l.wanted)
	} else if next > 100_000 {
		next = rate.Inf
	}
	setRate(l.requests, next)
}

// unknownRate is taken for the rate of a job that is turned away before it has
// made so many requests in a second.
const unknownRate = 100

// slowDown halves the request rate, at most once a second: many workers that
// are turned away at the same moment are one event.
func (l *Limits) slowDown(ctx context.Context) {
	now := clock.Now(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.throttled++
	if now.Sub(l.changed) < time.Second && l.requests.Limit() < l.wanted {
		return
	}
	l.changed = now
	current := l.requests.Limit()
	if current == rate.Inf {
		current = rate.Limit(max(l.observed, l.seen, unknownRate))
	}
	setRate(l.requests, max(current/2, 1))
}
