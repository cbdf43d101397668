package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// MaxTTL is the longest a lease can outlive its holder. DefaultTTL leaves room
// for a store whose times have whole seconds only.
const (
	MaxTTL     = 60 * time.Second
	DefaultTTL = 40 * time.Second
)

// LeaseHeld says who holds a lease, and when it lapses if it is not renewed.
type LeaseHeld struct {
	Name   string
	Holder string
	Until  time.Time
}

func (e *LeaseHeld) Error() string {
	return fmt.Sprintf("lease on %s is held by %s until %s unless renewed", e.Name, e.Holder, e.Until.Format(time.RFC3339))
}

// Is makes errors.Is(err, ErrLeaseHeld) true.
func (e *LeaseHeld) Is(target error) bool { return target == ErrLeaseHeld }

// Lease is exclusive use of a name, renewed in the background until Release.
//
// Its object is never removed, so that the epoch only grows: whoever takes the
// lease has a higher epoch than all before. It is changed by compare and swap
// alone. A lease lapses when its object is older than its time to live, by the
// store's own clock on both sides (the object's modification time against that
// of a probe written now), so skewed clocks of two machines don't matter.
// Holders stop trusting a lease after three quarters of that time.
type Lease struct {
	s    *State
	path string
	doc  leaseDoc

	renewing sync.Mutex // one renewal or release at a time
	mu       sync.Mutex
	etag     string
	deadline time.Time // until when the holder may rely on it
	err      error
	lost     chan struct{}
	stop     context.CancelFunc
	done     chan struct{}
}

// leaseDoc is the content of a lease's object.
type leaseDoc struct {
	Name     string        `json:"name"`
	Holder   string        `json:"holder"`
	Token    string        `json:"token"` // which Acquire
	Epoch    int64         `json:"epoch"`
	Renewals int64         `json:"renewals"`
	TTL      time.Duration `json:"ttl"`
	Released bool          `json:"released,omitempty"`
}

func (s *State) leasePath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return s.root + "leases/" + hex.EncodeToString(sum[:16]) + ".json"
}

// Acquire takes the lease of that name for at most ttl beyond its last
// renewal, or fails with *LeaseHeld. Holder is for people: host, process, run.
func (s *State) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (*Lease, error) {
	if ttl <= 0 || ttl > MaxTTL {
		return nil, fmt.Errorf("acquire lease: time to live %s is not within 0 and %s", ttl, MaxTTL)
	}
	skew, err := s.probe(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquire lease: %w", err)
	}
	l := &Lease{s: s, path: s.leasePath(name), lost: make(chan struct{}), done: make(chan struct{})}
	l.doc = leaseDoc{Name: name, Holder: holder, Token: randomHex(), Epoch: 1, TTL: ttl}
	opts := storage.CreateOptions{IfNotExists: true, Private: true}
	old, info, err := s.readLease(ctx, l.path)
	switch {
	case err == nil:
		until := info.ModTime.Add(old.TTL)
		if now := clock.Now(ctx).Add(skew); !old.Released && now.Before(until) {
			return nil, &LeaseHeld{Name: name, Holder: old.Holder, Until: until.Add(-skew)}
		}
		l.doc.Epoch = old.Epoch + 1
		opts = storage.CreateOptions{IfMatch: info.ETag, Private: true}
	case !storage.IsNotExist(err):
		return nil, fmt.Errorf("acquire lease: %w", err)
	}
	began := clock.Now(ctx)
	if err := l.write(ctx, opts); err != nil {
		return nil, l.lostRace(ctx, err)
	}
	l.deadline = began.Add(ttl * 3 / 4)
	// The lease must outlive the context of the step that took it, until Release.
	bg, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.keep(bg)
	return l, nil
}

// lostRace explains why the lease could not be written.
func (l *Lease) lostRace(ctx context.Context, err error) error {
	if errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrPrecondition) {
		if doc, info, readErr := l.s.readLease(ctx, l.path); readErr == nil {
			return &LeaseHeld{Name: l.doc.Name, Holder: doc.Holder, Until: info.ModTime.Add(doc.TTL)}
		}
	}
	return fmt.Errorf("acquire lease: %w", err)
}

func (s *State) readLease(ctx context.Context, path string) (leaseDoc, storage.Info, error) {
	var doc leaseDoc
	o, err := s.store.Open(ctx, path)
	if err != nil {
		return doc, storage.Info{}, err
	}
	defer o.Close()
	data := make([]byte, o.Info().Size)
	if err := storage.ReadFull(o, data, 0); err != nil {
		return doc, storage.Info{}, err
	}
	if json.Unmarshal(data, &doc) != nil || doc.Epoch < 1 || doc.TTL <= 0 || doc.TTL > MaxTTL {
		return doc, storage.Info{}, fmt.Errorf("read lease: %w", ErrCorrupt)
	}
	return doc, o.Info(), nil
}

// write stores the document under the given condition and remembers its ETag.
// When the answer is lost, or the condition fails because an earlier try of
// ours had its effect, what is stored decides.
func (l *Lease) write(ctx context.Context, o storage.CreateOptions) error {
	data, err := json.Marshal(l.doc)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		writeErr := storage.WriteAll(ctx, l.s.store, l.path, data, o)
		doc, info, err := l.s.readLease(ctx, l.path)
		switch {
		case err != nil && writeErr == nil:
			return err
		case err != nil:
			return writeErr
		case doc.Token != l.doc.Token && writeErr == nil:
			return storage.ErrPrecondition // taken over in between
		case doc.Token != l.doc.Token:
			return writeErr
		}
		l.mu.Lock()
		l.etag = info.ETag
		l.mu.Unlock()
		if doc == l.doc {
			return nil
		}
		// An earlier renewal of ours whose answer was lost: go on from there.
		if try == 3 {
			return storage.NewError("renew", l.path, storage.ErrTransient, "", writeErr)
		}
		o = storage.CreateOptions{IfMatch: info.ETag, Private: true}
	}
}

// keep renews the lease every quarter of its time.
func (l *Lease) keep(ctx context.Context) {
	defer close(l.done)
	t := time.NewTicker(l.doc.TTL / 4)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := l.renew(ctx); err != nil && ctx.Err() == nil && l.failed(ctx, err) {
			return
		}
	}
}

// failed decides after a renewal that did not work; it says whether the lease is gone.
func (l *Lease) failed(ctx context.Context, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, storage.ErrPrecondition) || storage.IsNotExist(err) || !clock.Now(ctx).Before(l.deadline) {
		l.lose()
	}
	return l.err != nil
}

// lose marks the lease as gone; the caller holds mu.
func (l *Lease) lose() {
	if l.err == nil {
		l.err = ErrLeaseLost
		close(l.lost)
	}
}

func (l *Lease) renew(ctx context.Context) error {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	// An answer that takes longer than the lease lasts is of no use.
	ctx, cancel := context.WithTimeout(ctx, l.doc.TTL/2)
	defer cancel()
	began := clock.Now(ctx)
	l.mu.Lock()
	etag, err := l.etag, l.err
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.doc.Renewals++
	if err := l.write(ctx, storage.CreateOptions{IfMatch: etag, Private: true}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = began.Add(l.doc.TTL * 3 / 4)
	return nil
}

// Epoch is the fencing number: higher than that of every earlier holder.
func (l *Lease) Epoch() int64 { return l.doc.Epoch }

// Lost is closed when the lease is found to be gone.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Check asks the store whether the lease is still ours; it is called before
// every commit and every removal. Any error means: write nothing.
func (l *Lease) Check(ctx context.Context) error {
	if err := l.fresh(ctx); err != nil {
		return err
	}
	doc, _, err := l.s.readLease(ctx, l.path)
	if err != nil && !storage.IsNotExist(err) && !errors.Is(err, ErrCorrupt) && !errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("check lease: %w", err)
	}
	if errors.Is(err, storage.ErrPrecondition) { // renewed between open and read
		doc, _, err = l.s.readLease(ctx, l.path)
	}
	l.mu.Lock()
	if err != nil || doc.Token != l.doc.Token || doc.Epoch != l.doc.Epoch || doc.Released {
		l.lose()
	}
	l.mu.Unlock()
	return l.fresh(ctx)
}

// fresh says whether the holder may still rely on the last renewal.
func (l *Lease) fresh(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && !clock.Now(ctx).Before(l.deadline) {
		l.lose()
	}
	if l.err != nil {
		return fmt.Errorf("check lease on %s: %w", l.doc.Name, l.err)
	}
	return nil
}

// Release gives the lease up at once. It is safe to call twice, and after the
// lease was lost, when it changes nothing.
func (l *Lease) Release(ctx context.Context) error {
	l.stop()
	<-l.done
	l.renewing.Lock()
	defer l.renewing.Unlock()
	l.mu.Lock()
	err, etag := l.err, l.etag
	l.lose()
	l.mu.Unlock()
	if err != nil {
		return nil
	}
	l.doc.Released = true
	l.doc.Renewals++
	if err := l.write(ctx, storage.CreateOptions{IfMatch: etag, Private: true}); err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("release lease: %w", err)
	}
	return nil
}

// Holding is what a lease's object says to somebody who only looks.
type Holding struct {
	Holder   string
	Renewed  time.Time // by the store's clock
	TTL      time.Duration
	Released bool
}

// HolderOf reads who holds, or last held, the lease of that name; an error that
// is fs.ErrNotExist where nobody ever did.
func (s *State) HolderOf(ctx context.Context, name string) (Holding, error) {
	doc, info, err := s.readLease(ctx, s.leasePath(name))
	if err != nil {
		return Holding{}, fmt.Errorf("read lease: %w", err)
	}
	return Holding{Holder: doc.Holder, Renewed: info.ModTime, TTL: doc.TTL, Released: doc.Released}, nil
}
