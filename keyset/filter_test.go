package keyset

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"

	"github.com/parquet-go/parquet-go/bloom"
	"pgregory.net/rapid"
)

func TestFilterLayoutEqualsParquet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 70).Draw(t, "blocks")
		hashes := rapid.SliceOfN(rapid.Uint64(), 0, 400).Draw(t, "hashes")
		ours := filter{blocks: make([][8]uint32, n)}
		theirs := make(bloom.SplitBlockFilter, n)
		for _, h := range hashes {
			ours.insert(h)
			theirs.Insert(h)
		}
		for i := range ours.blocks {
			if ours.blocks[i] != *(*[8]uint32)(unsafe.Pointer(&theirs[i])) {
				t.Fatalf("block %d differs", i)
			}
		}
		probes := append(rapid.SliceOfN(rapid.Uint64(), 0, 200).Draw(t, "probes"), hashes...)
		dst := make([]int32, len(probes))
		var want []int32
		for i, h := range probes {
			if theirs.Check(h) {
				want = append(want, int32(i))
			}
			if ours.contains(h) != theirs.Check(h) {
				t.Fatalf("contains differs at %d", i)
			}
		}
		for name, sel := range map[string]func([]int32, []uint64) int{"go": ours.selectGo, "default": ours.selectHits} {
			got := dst[:sel(dst, probes)]
			if len(got) != len(want) {
				t.Fatalf("%s: %d hits, want %d", name, len(got), len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%s: hit %d is %d, want %d", name, i, got[i], want[i])
				}
			}
		}
	})
}

func TestFalsePositivesAreAsDesigned(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 200_000
	f := filter{blocks: make([][8]uint32, filterBlocks(n))}
	for range n {
		f.insert(r.Uint64())
	}
	design := designFP(n, len(f.blocks))
	if design < 0.0012 || design > 0.0015 {
		t.Fatalf("design rate %f", design)
	}
	const probes = 4_000_000
	hits := 0
	for range probes {
		if f.contains(r.Uint64()) {
			hits++
		}
	}
	if got := float64(hits) / probes; math.Abs(got-design) > design*0.1 {
		t.Fatalf("rate %f, designed %f", got, design)
	}
}

func benchmarkProbe(b *testing.B, n int, sel func(filter, []int32, []uint64) int) {
	blocks, keep := allocate[[8]uint32](filterBlocks(n))
	f := filter{blocks: blocks}
	r := rand.New(rand.NewPCG(3, 4))
	keys := make([]uint64, 0, 1<<12)
	for i := range n {
		h := r.Uint64()
		f.insert(h)
		if i < cap(keys) {
			keys = append(keys, h)
		}
	}
	const m = 1 << 20
	probes := make([]uint64, m)
	for i := range probes {
		probes[i] = r.Uint64()
		if i%1000 == 0 { // 0.1 % hits
			probes[i] = keys[i/1000%len(keys)]
		}
	}
	dst := make([]int32, 4096)
	b.ResetTimer()
	for i := 0; i < b.N; i += 4096 {
		at := i & (m - 1)
		sel(f, dst, probes[at:at+4096])
	}
	runtime.KeepAlive(keep)
}

var benchSizes = []struct {
	name string
	n    int
}{{"1e4", 1e4}, {"1e6", 1e6}, {"1e7", 1e7}, {"1e8", 1e8}}

func BenchmarkProbe(b *testing.B) {
	for _, size := range benchSizes {
		b.Run("asm/"+size.name, func(b *testing.B) { benchmarkProbe(b, size.n, filter.selectHits) })
		b.Run("go/"+size.name, func(b *testing.B) { benchmarkProbe(b, size.n, filter.selectGo) })
	}
}
