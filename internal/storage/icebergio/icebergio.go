// Package icebergio makes iceberg-go do all its input and output through a
// storage.Store, so that limits, retries, counters and injected faults see
// what the library does as well.
package icebergio

import (
	"context"

	iceio "github.com/apache/iceberg-go/io"

	"github.com/expunge/expunge/internal/storage"
)

// FromStore returns the store as iceberg-go's IO, bound to ctx.
func FromStore(ctx context.Context, s storage.Store) iceio.IO { return nil }

// Install makes iceberg-go use stores made by open for every scheme.
// A store carried by the context (see With) goes first.
func Install(open func(props map[string]string) storage.Store) {}

// With returns a context under which iceberg-go uses s.
func With(ctx context.Context, s storage.Store) context.Context { return ctx }
