package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/expunge/expunge/internal/storage"
	_ "github.com/expunge/expunge/internal/storage/s3"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/objects"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "erase" {
		return eraseChild(ctx, args[1:])
	}
	f := flag.NewFlagSet("objects", flag.ContinueOnError)
	what := f.String("only", "wire,cpu,small", "which measurements")
	rows := f.Int("rows", 10_000_000, "rows of the Parquet object")
	lines := f.Int("lines", 1_000_000, "lines of the text files")
	count := f.Int("objects", 10_000, "small objects")
	cache := f.String("cache", ".cache", "where interop/setup.sh installed to")
	if err := f.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "expunge-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, cache: *cache}
	for _, m := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"wire", func(ctx context.Context) error { return b.wire(ctx, *rows) }},
		{"cpu", func(ctx context.Context) error { return b.cpu(ctx, *lines) }},
		{"small", func(ctx context.Context) error { return b.small(ctx, *count) }},
	} {
		if slices.Contains(strings.Split(*what, ","), m.name) {
			if err := m.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
	}
	return nil
}

type bench struct{ dir, cache string }

func (b *bench) python() string { return filepath.Join(b.cache, "interop/venv/bin/python") }

// erasure is one run's work on a prefix, without its verification: every
// object is scanned, hits are rewritten and put in place.
func erasure(ctx context.Context, store storage.Store, prefix, format, column string, users *keyset.Set, workers int) (*warehouse.Committed, error) {
	t := objects.Open(store, objects.Config{Name: "bench", Prefix: prefix, Format: format, Malformed: "stop", Emptied: "delete", Versions: "purge", Workers: workers})
	sel := warehouse.Selection{Match: []warehouse.Match{{Keyset: "users", Keys: users, Columns: []string{column}}}, Action: warehouse.Action{Kind: "delete"}}
	bound, err := t.Bind(ctx, sel)
	if err != nil {
		return nil, err
	}
	w := objects.Work{RunID: "bench-20260101T000000Z-000000", Secret: make([]byte, 32), Select: sel, Bound: bound}
	var mu sync.Mutex
	var live []string
	var results []warehouse.Result
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	var failed error
	process := func(task warehouse.Task) error {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			res, err := t.Process(ctx, w, task)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, err)
			} else if res.Status != warehouse.Clean {
				results = append(results, res)
			}
		})
		return nil
	}
	plan, err := t.Plan(ctx, sel, process, func(p string) error { live = append(live, p); return nil })
	wg.Wait()
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return t.Commit(ctx, warehouse.CommitRequest{
		RunID: w.RunID, Plan: *plan, Attempts: 3,
		Planned: func(context.Context) iter.Seq2[string, error] { return all(live) },
		Results: func(context.Context) iter.Seq2[warehouse.Result, error] { return all(results) },
		Rescan: func(ctx context.Context, tasks []warehouse.Task) ([]warehouse.Result, error) {
			return nil, errors.New("nothing should arrive")
		},
	})
}

func all[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// keysOf makes a set of user ids.
func keysOf(ids []int) (*keyset.Set, error) {
	b, err := keyset.NewBuilder("users", keyset.Schema{{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := b.AddText(fmt.Sprint(id)); err != nil {
			return nil, err
		}
	}
	return b.Build()
}
