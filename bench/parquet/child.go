package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/bench/process"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/rewriter/parquet"
	"github.com/expunge/expunge/scanner"
)

// The things this program does as a process of its own.
const (
	childRows    = "rows"    // SRC KEYS OUT N: the rows of the keys, as a bitmap; the first N of them, 0 = all
	childRewrite = "rewrite" // SRC ROWS OUT [nocheck|digest]
	childScan    = "scan"    // SRC KEYS COLUMN ROUNDS
)

// workers is the number.
const workers = 2

func child(ctx context.Context, args []string) error {
	stop, err := process.Profile()
	if err != nil {
		return err
	}
	defer stop()
	var answer any
	switch {
	case len(args) == 5 && args[0] == childRows:
		answer, err = findRows(ctx, args[1], args[2], args[3], args[4])
	case len(args) >= 4 && args[0] == childRewrite:
		answer, err = rewrite(ctx, args[1], args[2], args[3], args[4:])
	case len(args) == 5 && args[0] == childScan:
		answer, err = scan(ctx, args[1], args[2], args[3], args[4])
	default:
		err = fmt.Errorf("child %q", args)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

func load(ctx context.Context, store storage.Store, keys, column string) (*keyset.Set, error) {
	kind := keyset.KindInt64
	if column == "email" {
		kind = keyset.KindString
	}
	set, _, err := keyset.Load(ctx, storage.Opener(store), keyset.Spec{
		Name: "keys", Sources: []string{keys}, Schema: keyset.Schema{{Name: column, Type: keyset.Type{Kind: kind}}},
	})
	return set, err
}

func request(set *keyset.Set, column string) (scanner.Request, error) {
	ref, err := scanner.ParseColumn(column)
	return scanner.Request{
		Match:   []scanner.Match{{Keys: set, Columns: []scanner.ColumnRef{ref}}},
		Options: scanner.Options{Workers: workers},
	}, err
}

func findRows(ctx context.Context, src, keys, out, first string) (any, error) {
	limit, err := strconv.Atoi(first)
	if err != nil {
		return nil, err
	}
	store := storage.New(nil)
	obj, err := store.Open(ctx, src)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	set, err := load(ctx, store, keys, "user_id")
	if err != nil {
		return nil, err
	}
	req, err := request(set, "user_id")
	if err != nil {
		return nil, err
	}
	found, err := scanner.Parquet(ctx, obj, req)
	if err != nil {
		return nil, err
	}
	hits := found.Hits
	if limit > 0 {
		hits = roaring64.BitmapOf(hits.ToArray()[:limit]...)
	}
	b, err := hits.ToBytes()
	if err != nil {
		return nil, err
	}
	return struct{ Rows uint64 }{hits.GetCardinality()}, os.WriteFile(out, b, 0o644)
}

// rewritten is what a rewrite tells.
type rewritten struct {
	RowsOut, Size, Copied, Encoded int64
	Touched, Pages                 int
}

func rewrite(ctx context.Context, src, rows, out string, flags []string) (any, error) {
	b, err := os.ReadFile(rows)
	if err != nil {
		return nil, err
	}
	erase := roaring64.New()
	if err := erase.UnmarshalBinary(b); err != nil {
		return nil, err
	}
	o := rewriter.Options{Workers: workers, Engine: rewriter.Surgical, SkipDigest: true}
	for _, f := range flags {
		switch f {
		case "nocheck":
			o.SkipCheck = true
		case "digest":
			o.SkipDigest = false
		}
	}
	store := storage.New(nil)
	obj, err := store.Open(ctx, src)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	dst, err := store.Create(ctx, out, storage.CreateOptions{})
	if err != nil {
		return nil, err
	}
	r, err := parquet.Rewrite(ctx, obj, dst, rewriter.Edit{Erase: erase}, o)
	if err != nil {
		_ = dst.Abort()
		return nil, err
	}
	return rewritten{r.RowsOut, r.Size, r.BytesCopied, r.BytesReencoded, r.PagesTouched, r.PagesTotal}, dst.Close()
}

// scanned is what a scan tells, ours or DuckDB's.
type scanned struct {
	CPU               []float64 `json:"cpu"` // of each round
	Found             int64     `json:"found"`
	Read, Key, Column int64     // bytes read, of them of column chunks; size of the key column
}

func scan(ctx context.Context, src, keys, column, rounds string) (any, error) {
	n, err := strconv.Atoi(rounds)
	if err != nil {
		return nil, err
	}
	store := storage.New(nil)
	set, err := load(ctx, store, keys, column)
	if err != nil {
		return nil, err
	}
	req, err := request(set, column)
	if err != nil {
		return nil, err
	}
	obj, err := store.Open(ctx, src)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	out := scanned{}
	for range n {
		start := cpuTime()
		r, err := scanner.Parquet(ctx, obj, req)
		if err != nil {
			return nil, err
		}
		out.CPU = append(out.CPU, cpuTime()-start)
		out.Found, out.Read, out.Key = r.PerMatch[0], r.BytesRead, r.KeyBytesRead
	}
	out.Column, err = columnBytes(ctx, obj, column)
	return out, err
}

// cpuTime is the process's CPU time so far, in seconds.
func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
