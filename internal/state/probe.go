package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// probe writes a small object and returns how far the store's clock is ahead
// of ours. Once per State it also tests that the store honours conditional
// writes: S3-compatible servers exist that accept if-none-match and if-match
// and ignore them, and on those nothing can be locked.
func (s *State) probe(ctx context.Context) (time.Duration, error) {
	path := s.root + "leases/probe-" + randomHex()
	before := clock.Now(ctx)
	if err := storage.WriteAll(ctx, s.store, path, []byte("1"), storage.CreateOptions{IfNotExists: true, Private: true}); err != nil {
		if errors.Is(err, storage.ErrUnsupported) {
			err = ErrNoCAS
		}
		return 0, fmt.Errorf("probe store: %w", err)
	}
	defer func() { _ = s.store.Remove(context.WithoutCancel(ctx), path) }()
	info, err := storage.Stat(ctx, s.store, path)
	if err != nil {
		return 0, fmt.Errorf("probe store: %w", err)
	}
	skew := info.ModTime.Sub(before)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ok {
		return skew, nil
	}
	s.sweepProbes(ctx, info.ModTime)
	if err := s.testConditions(ctx, path, info.ETag); err != nil {
		return 0, fmt.Errorf("probe store: %w", err)
	}
	s.ok = true
	return skew, nil
}

// sweepProbes removes the probes of processes that died before they could; that
// it fails is of no consequence.
func (s *State) sweepProbes(ctx context.Context, now time.Time) {
	for info, err := range s.store.List(ctx, s.root+"leases/probe-") {
		if err != nil {
			return
		}
		if now.Sub(info.ModTime) > time.Hour {
			_ = s.store.Remove(ctx, info.Path)
		}
	}
}

// testConditions expects two writes to be refused and one to succeed.
func (s *State) testConditions(ctx context.Context, path, etag string) error {
	write := func(o storage.CreateOptions) error {
		w, err := s.store.Create(ctx, path, o)
		if err != nil {
			return err
		}
		if _, err = w.Write([]byte("2")); err == nil {
			err = w.Close()
		}
		_ = w.Abort()
		return err
	}
	if err := write(storage.CreateOptions{IfNotExists: true, Private: true}); !errors.Is(err, storage.ErrExists) {
		return refused(err)
	}
	if err := write(storage.CreateOptions{IfMatch: etag, Private: true}); err != nil {
		return refused(err)
	}
	if err := write(storage.CreateOptions{IfMatch: etag, Private: true}); !errors.Is(err, storage.ErrPrecondition) {
		return refused(err)
	}
	return nil
}

func refused(err error) error {
	if err == nil || errors.Is(err, storage.ErrUnsupported) || errors.Is(err, storage.ErrPrecondition) {
		return ErrNoCAS
	}
	return err
}
