package review

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// Pacing of the index.
const (
	fresh      = 2 * time.Second        // a view this young is not read anew
	patience   = 800 * time.Millisecond // how long a request waits for a newer view; the first one waits longer
	readers    = 16                     // objects read at a time
	publishing = 500 * time.Millisecond // how often a long first reading shows what it has
	idleFactor = 10                     // a refresh that took long is not repeated before that many times its length,
	idleMax    = 30 * time.Second       // or this
)

// index keeps a small summary of every run and manifest. Manifests never
// change once written; statuses are read anew when their tag has changed.
type index struct {
	st    *state.State
	store storage.Store
	root  string

	mu       sync.Mutex
	view     *view
	running  chan struct{} // closed when the refresh under way ends; nil = none
	notUntil time.Time

	// Touched by the one refresh under way alone.
	tags      map[string]string
	runs      map[string]state.Status
	summaries map[string]*summary
	damaged   map[string]bool // manifests or statuses that cannot be read
}

func newIndex(st *state.State, store storage.Store, root string) *index {
	return &index{st: st, store: store, root: root, tags: map[string]string{}, runs: map[string]state.Status{},
		summaries: map[string]*summary{}, damaged: map[string]bool{}}
}

// get returns a view that is fresh, or the last one while a newer is read.
func (x *index) get(ctx context.Context) (*view, error) {
	now := clock.Now(ctx)
	x.mu.Lock()
	v, first := x.view, x.view == nil
	if v != nil && (now.Sub(v.At) < fresh || x.running == nil && now.Before(x.notUntil)) {
		x.mu.Unlock()
		return v, v.Err
	}
	if x.running == nil {
		x.running = make(chan struct{})
		go x.refresh(context.WithoutCancel(ctx), x.running)
	}
	done := x.running
	x.mu.Unlock()
	wait := patience
	if first {
		wait = 20 * patience
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.view == nil {
		return nil, errLoading
	}
	return x.view, x.view.Err
}

// refresh reads what is new, publishes views on the way, and closes done.
func (x *index) refresh(ctx context.Context, done chan struct{}) {
	began := clock.Now(ctx)
	err := x.readStatuses(ctx)
	if err == nil {
		err = x.readManifests(ctx)
	}
	if err != nil {
		x.publish(ctx, 0, fmt.Errorf("read the state bucket: %w", err))
	} else {
		x.publish(ctx, 0, nil)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	now := clock.Now(ctx)
	x.notUntil = now.Add(min(idleMax, idleFactor*now.Sub(began)))
	x.running = nil
	close(done)
}

func (x *index) publish(ctx context.Context, unread int, err error) {
	v := newView(clock.Now(ctx), x.runs, x.summaries, len(x.damaged), unread)
	v.Err = err
	x.mu.Lock()
	x.view = v
	x.mu.Unlock()
}

func (x *index) readStatuses(ctx context.Context) error {
	var changed []state.StatusTag
	seen := make(map[string]bool, len(x.tags))
	for t, err := range x.st.Statuses(ctx) {
		if err != nil {
			return err
		}
		if seen[t.Run] = true; x.tags[t.Run] != t.Tag {
			changed = append(changed, t)
		}
	}
	maps.DeleteFunc(x.runs, func(id string, _ state.Status) bool { return !seen[id] })
	maps.DeleteFunc(x.tags, func(id string, _ string) bool { return !seen[id] })
	return each(ctx, changed, func(t state.StatusTag) error {
		st, err := x.st.StatusOf(ctx, t.Run)
		x.mu.Lock()
		defer x.mu.Unlock()
		switch {
		case errors.Is(err, state.ErrNoRun):
			return nil // removed meanwhile
		case errors.Is(err, state.ErrCorrupt):
			x.damaged["status/"+t.Run] = true
			return nil
		case err != nil:
			return err
		}
		delete(x.damaged, "status/"+t.Run)
		x.runs[t.Run], x.tags[t.Run] = st, t.Tag
		return nil
	})
}

// readManifests reads the summaries of new manifests, newest first.
func (x *index) readManifests(ctx context.Context) error {
	var fresh []storage.Info
	prefix := x.root + "manifests/"
	for info, err := range x.store.List(ctx, prefix) {
		if err != nil {
			return err
		}
		id, ok := strings.CutSuffix(strings.TrimPrefix(info.Path, prefix), envelopeSuffix)
		if ok && usable(id) && x.summaries[id] == nil && !x.damaged[id] {
			fresh = append(fresh, info)
		}
	}
	slices.SortFunc(fresh, func(a, b storage.Info) int { return b.ModTime.Compare(a.ModTime) })
	last, batch := clock.Now(ctx), readers*8
	for len(fresh) > 0 {
		n := min(batch, len(fresh))
		if err := each(ctx, fresh[:n], func(info storage.Info) error {
			return x.readManifest(ctx, strings.TrimSuffix(strings.TrimPrefix(info.Path, prefix), envelopeSuffix))
		}); err != nil {
			return err
		}
		fresh = fresh[n:]
		if now := clock.Now(ctx); now.Sub(last) > publishing && len(fresh) > 0 {
			x.publish(ctx, len(fresh), nil)
			last = now
		}
	}
	return nil
}

func (x *index) readManifest(ctx context.Context, id string) error {
	raw, err := storage.ReadAll(ctx, x.store, x.root+"manifests/"+id+envelopeSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := manifests.Read(raw)
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil || m.ID != id {
		x.damaged[id] = true // listed as unreadable: it never becomes readable
		return nil
	}
	x.summaries[id] = summarise(m)
	return nil
}

// each calls f for every item, a few at a time, and returns the first error.
func each[T any](ctx context.Context, items []T, f func(T) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	next := 0
	for range min(readers, len(items)) {
		wg.Go(func() {
			for {
				mu.Lock()
				if next == len(items) || first != nil || ctx.Err() != nil {
					mu.Unlock()
					return
				}
				item := items[next]
				next++
				mu.Unlock()
				if err := f(item); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}
