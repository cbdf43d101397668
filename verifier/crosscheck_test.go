package verifier

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	surgical "github.com/expunge/expunge/rewriter/parquet"
)

// TestRewriterAndVerifierAgree: what the rewriter writes for random erasures
// has equal survivors, and nothing of an erased row on any surface of the
// file. The two share no code, so one's mistake is the other's finding.
func TestRewriterAndVerifierAgree(t *testing.T) {
	var same int64
	ctx := context.Background()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(10, 900).Draw(rt, "rows")
		store := storage.NewMem()
		writeParquet(t, store, "mem://b/old", people(n),
			parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "page version")),
			parquet.PageBufferSize(rapid.IntRange(60, 4000).Draw(rt, "page size")),
			parquet.DataPageStatistics(rapid.Bool().Draw(rt, "page statistics")),
			parquet.BloomFilters(parquet.SplitBlockFilter(10, "id"), parquet.SplitBlockFilter(10, "email")))
		var keys []string
		for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, (n-1)/3), 1, 4, rapid.ID).Draw(rt, "erased") {
			keys = append(keys, fmt.Sprint(id))
		}
		rw := Rewrite{New: "mem://b/new", Matches: onID(keysOf(t, "int64", keys...), 1, "id")}
		rw.Old.Path = "mem://b/old"
		if !rewriteFile(ctx, rt, store, rw) {
			return // every row goes
		}
		rep, err := Survivors(ctx, store, rw)
		if err != nil {
			rt.Fatal(err)
		}
		if !rep.Equal || rep.ControlAfter || !rep.ControlBefore {
			rt.Fatalf("%+v", rep)
		}
		same += rep.PagesSame
		raw, err := storage.ReadAll(ctx, store, rw.New)
		if err != nil {
			rt.Fatal(err)
		}
		c, err := CheckFile(ctx, bytes.NewReader(raw), int64(len(raw)), "new", rw.Matches, FileOptions{AllColumns: true})
		if err != nil {
			rt.Fatal(err)
		}
		if certain, possible := foundOn(c); certain != "" || possible != "" {
			rt.Fatalf("found on %q, possibly on %q: %+v", certain, possible, c.Findings)
		}
	})
	if same == 0 {
		t.Error("no page was copied as it was")
	}
}

// rewriteFile erases with the surgical engine; false when no row would be left.
func rewriteFile(ctx context.Context, rt *rapid.T, store storage.Store, rw Rewrite) bool {
	f, err := openParquet(ctx, store, rw.Old.Path)
	if err != nil {
		rt.Fatal(err)
	}
	defer f.Close()
	bound, err := bindFile(f, rw.Matches)
	if err != nil {
		rt.Fatal(err)
	}
	hits, err := scanKeys(ctx, f, bound)
	if err != nil {
		rt.Fatal(err)
	}
	if hits.GetCardinality() == uint64(f.NumRows()) {
		return false
	}
	src, err := store.Open(ctx, rw.Old.Path)
	if err != nil {
		rt.Fatal(err)
	}
	defer src.Close()
	dst, err := store.Create(ctx, rw.New, storage.CreateOptions{})
	if err != nil {
		rt.Fatal(err)
	}
	if _, err = surgical.Rewrite(ctx, src, dst, rewriter.Edit{Erase: hits}, rewriter.Options{Engine: "surgical"}); err == nil {
		err = dst.Close()
	}
	if err != nil {
		rt.Fatal(err)
	}
	return true
}
