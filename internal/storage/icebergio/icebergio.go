// Package icebergio makes iceberg-go do all its input and output through a
// storage.Store, so that limits, retries, counters, guards and injected faults
// see what the library does as well.
//
// iceberg-go finds its file IO by URI scheme in a global registry. Install
// replaces every scheme's entry; which Store serves a call is then decided by
// the context that reached the library (With), or by the function given to
// Install.
package icebergio

import (
	"context"
	"net/url"
	"sync"

	iceio "github.com/apache/iceberg-go/io"

	"github.com/expunge/expunge/internal/storage"
)

// schemes are those that iceberg-go's own back ends claim, and mem.
var schemes = []string{"", "file", "mem", "s3", "s3a", "s3n", "oss", "gs", "abfs", "abfss", "wasb", "wasbs"}

// Open makes the Store for a table's properties (PyIceberg's names); a catalog
// may have put credentials into them that hold for this table alone.
type Open func(ctx context.Context, props map[string]string) storage.Store

type openKey struct{}

// With returns a context under which iceberg-go uses s, whatever properties a
// catalog passes on.
func With(ctx context.Context, s storage.Store) context.Context {
	return WithOpen(ctx, func(context.Context, map[string]string) storage.Store { return s })
}

// WithOpen returns a context under which iceberg-go uses the stores that open
// makes from the properties of the catalog and table.
func WithOpen(ctx context.Context, open Open) context.Context {
	return context.WithValue(ctx, openKey{}, open)
}

var (
	installMu sync.Mutex
	fallback  Open
)

// Install makes iceberg-go use storage.Store for every scheme. A store carried
// by the context goes first; open serves the calls that come without one (a
// catalog's own background work). It may be called again, to change open; nil
// means plain stores made from the properties.
func Install(open Open) {
	if open == nil {
		open = func(_ context.Context, props map[string]string) storage.Store { return storage.New(props) }
	}
	installMu.Lock()
	defer installMu.Unlock()
	first := fallback == nil
	fallback = open
	if !first {
		return
	}
	for _, scheme := range schemes {
		iceio.Unregister(scheme)
		iceio.Register(scheme, factory)
	}
}

func factory(ctx context.Context, _ *url.URL, props map[string]string) (iceio.IO, error) {
	open, ok := ctx.Value(openKey{}).(Open)
	if !ok {
		installMu.Lock()
		open = fallback
		installMu.Unlock()
	}
	return FromStore(ctx, open(ctx, props)), nil
}
