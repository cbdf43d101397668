// Package local runs a job's shards in this process: a bounded pool of workers
// over one lister. It is the default engine and the reference for every other.
package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/jobs"
)

// Engine is a pool of Workers goroutines; 0 means one a CPU.
type Engine struct {
	Workers int
}

// Run runs every shard once. The first error stops the others; a panic of the
// shard function becomes an error.
func (e Engine) Run(ctx context.Context, shards iter.Seq2[jobs.Shard, error], run jobs.ShardFunc, done func(jobs.ShardResult) error) error {
	n := e.Workers
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	p := pool.New().WithMaxGoroutines(n).WithContext(ctx).WithCancelOnError().WithFirstError()
	var mu sync.Mutex
	var listErr error
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for s, err := range shards {
		if err != nil {
			listErr = fmt.Errorf("list shards: %w", err)
			break
		}
		if ctx.Err() != nil {
			break
		}
		p.Go(func(pctx context.Context) error {
			if err := pctx.Err(); err != nil {
				return err
			}
			res, err := guarded(pctx, run, s)
			if err == nil {
				mu.Lock()
				err = done(res)
				mu.Unlock()
			}
			if err != nil {
				cancel(stop) // stops the lister; the pool cancels the workers
			}
			return err
		})
	}
	if err := p.Wait(); err != nil {
		return err
	}
	if listErr != nil {
		return listErr
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, stop) {
		return err
	}
	return nil
}

func guarded(ctx context.Context, run jobs.ShardFunc, s jobs.Shard) (res jobs.ShardResult, err error) {
	defer func() {
		if r := recover(); r != nil {
			// The panic's value may quote data; only the place is reported.
			err = fmt.Errorf("shard %d of %s panicked", s.Index, s.Target)
		}
	}()
	return run(ctx, s)
}
