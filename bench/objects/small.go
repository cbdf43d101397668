package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/expunge/expunge/internal/storage"
)

const concurrency = 16

// small erases from many objects of 100 KB, one in a hundred of which holds a
// hit, beside a client that GETs them.
func (b *bench) small(ctx context.Context, count int) error {
	addr, stop, err := b.server(b.dir + "/small")
	if err != nil {
		return err
	}
	defer stop()
	store := s3Store(addr)
	rng := rand.New(rand.NewPCG(3, 4))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i := range count {
		var body bytes.Buffer
		for k := range 700 {
			id := 1000 + rng.IntN(90000)
			if i%100 == 0 && k == 350 {
				id = 7
			}
			fmt.Fprintf(&body, `{"user":{"id":%d},"page":"/catalog/%d","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML)","ms":%d,"ok":true}`+"\n", id, rng.IntN(4000), k)
		}
		g.Go(func() error {
			return storage.WriteAll(gctx, store, fmt.Sprintf("s3://lake/raw/%02d/%06d.ndjson", i%100, i), body.Bytes(), storage.CreateOptions{})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	get, err := getAll(ctx, store)
	if err != nil {
		return err
	}
	users, err := keysOf([]int{7})
	if err != nil {
		return err
	}
	start := time.Now()
	done, err := erasure(ctx, store, "s3://lake/raw/", "ndjson", "user.id", users, concurrency)
	if err != nil {
		return err
	}
	took := time.Since(start)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("small: %d objects of 100 KB, %d with a hit, concurrency %d\n  GET only %.1f s, erasure %.1f s = %.2f ×; heap from the system %d MB\n",
		count, done.FilesReplaced, concurrency, get.Seconds(), took.Seconds(), took.Seconds()/get.Seconds(), m.HeapSys>>20)
	return nil
}

func getAll(ctx context.Context, store storage.Store) (time.Duration, error) {
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for info, err := range store.List(ctx, "s3://lake/raw/") {
		if err != nil {
			return 0, err
		}
		g.Go(func() error {
			o, err := storage.OpenKnown(gctx, store, info)
			if err != nil {
				return err
			}
			defer o.Close()
			return storage.ReadFull(o, make([]byte, info.Size), 0)
		})
	}
	err := g.Wait()
	return time.Since(start), err
}
