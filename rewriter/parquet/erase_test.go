package parquet

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/rewriter"
)

// erasures are row sets of all shapes: single rows, scattered, runs that
// cover pages and row groups, all but one.
func erasures(r *rand.Rand, n int) map[string]*roaring64.Bitmap {
	scatter := func(k int) *roaring64.Bitmap {
		b := roaring64.New()
		for range k {
			b.Add(r.Uint64N(uint64(n)))
		}
		return b
	}
	run := func(from, to int) *roaring64.Bitmap {
		b := roaring64.New()
		b.AddRange(uint64(from), uint64(min(to, n)))
		return b
	}
	most := run(0, n)
	most.Remove(r.Uint64N(uint64(n)))
	group := run(0, n/3+1)
	group.Or(scatter(3))
	return map[string]*roaring64.Bitmap{
		"none": roaring64.New(), "one": scatter(1), "few": scatter(5), "tenth": scatter(n / 10), "half": scatter(n),
		"first": run(0, 1), "last": run(n-1, n), "pages": run(n/4, n/2), "group": group, "most": most,
	}
}

// Survivors come out as they went in, whoever reads them.
func TestEraseKeepsSurvivors(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, s := range corpus(t) {
		t.Run(s.name, func(t *testing.T) {
			levels, arrows := levelRows(t, s.data), arrowRows(t, s.data)
			for name, erase := range erasures(r, s.rows) {
				out, res := mustRewrite(t, s.data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical, Workers: 2})
				if want := int64(s.rows) - int64(erase.GetCardinality()); res.RowsOut != want || res.RowsIn != int64(s.rows) {
					t.Fatalf("%s: %d rows to %d, want %d", name, res.RowsIn, res.RowsOut, want)
				}
				sameRows(t, name+" by parquet-go", levelRows(t, out), without(levels, erase))
				if r.IntN(2) == 0 || strings.Contains(s.name, "lz4") {
					sameRows(t, name+" by arrow-go", arrowRows(t, out), without(arrows, erase))
				}
			}
		})
	}
}

// The reference does the same.
func TestReferenceKeepsSurvivors(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for i, s := range corpus(t) {
		if i%5 != 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			levels := levelRows(t, s.data)
			for name, erase := range erasures(r, s.rows) {
				out, _ := mustRewrite(t, s.data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Reference})
				sameRows(t, fmt.Sprint(name, " by parquet-go"), levelRows(t, out), without(levels, erase))
			}
		})
	}
}
