package storage

import (
	"context"
	"sync/atomic"
)

// Counters count operations and bytes; one may serve several stores.
type Counters struct {
	ops, failures [opEnd]atomic.Int64
	requests      atomic.Int64
	read          atomic.Int64
	written       atomic.Int64
	copied        atomic.Int64
}

// Counts is a snapshot of Counters.
type Counts struct {
	Ops, Failures map[string]int64 // by operation, those that occurred
	Requests      int64            // about
	BytesRead     int64
	BytesWritten  int64
	BytesCopied   int64 // inside the store
}

// Of returns how often an operation was made.
func (c *Counters) Of(op Op) int64 { return c.ops[op].Load() }

// Mutations returns how many operations tried to change what is stored.
func (c *Counters) Mutations() int64 {
	var n int64
	for op := OpOpen; op < opEnd; op++ {
		if op.Mutates() {
			n += c.ops[op].Load()
		}
	}
	return n
}

// Snapshot reads the counters.
func (c *Counters) Snapshot() Counts {
	out := Counts{
		Ops: map[string]int64{}, Failures: map[string]int64{}, Requests: c.requests.Load(),
		BytesRead: c.read.Load(), BytesWritten: c.written.Load(), BytesCopied: c.copied.Load(),
	}
	for op := OpOpen; op < opEnd; op++ {
		if n := c.ops[op].Load(); n > 0 {
			out.Ops[op.String()] = n
		}
		if n := c.failures[op].Load(); n > 0 {
			out.Failures[op.String()] = n
		}
	}
	return out
}

// WithCounters counts what passes. Put below WithRetry it counts attempts.
func WithCounters(s Store, n *Counters) Store {
	return decorate(s, func(ctx context.Context, c *Call, next func(context.Context) error) error {
		n.ops[c.Op].Add(1)
		n.requests.Add(int64(c.Requests))
		err := next(ctx)
		if err != nil {
			n.failures[c.Op].Add(1)
			return err
		}
		switch c.Op {
		case OpRead:
			n.read.Add(c.Bytes)
		case OpWrite:
			n.written.Add(c.Bytes)
		case OpCopyRange:
			n.copied.Add(c.Bytes)
		}
		return nil
	})
}
