package keyset

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRadixSortEqualsComparisonSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{0, 1, 2, 49, 300, 20_000, 70_000}).Draw(t, "n")
		shift := rapid.IntRange(0, 63).Draw(t, "shift")
		low := rapid.IntRange(0, 63).Draw(t, "low")
		workers := rapid.IntRange(1, 3).Draw(t, "workers")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		a := make([][2]uint64, n)
		for i := range a {
			a[i] = [2]uint64{r.Uint64() >> shift << low, uint64(i)}
		}
		want := slices.Clone(a)
		slices.SortFunc(want, func(x, y [2]uint64) int {
			if x[0] != y[0] {
				if x[0] < y[0] {
					return -1
				}
				return 1
			}
			return int(x[1]) - int(y[1])
		})
		sortRecs(a, workers)
		// Ties are in any order: compare keys, and that no record was lost.
		slices.SortFunc(a, func(x, y [2]uint64) int {
			if x[0] != y[0] {
				return 0 // keep the order found between different keys
			}
			return int(x[1]) - int(y[1])
		})
		for i := range a {
			if a[i][0] != want[i][0] {
				t.Fatalf("key %d out of order", i)
			}
		}
		seen := make([]bool, n)
		for _, e := range a {
			seen[e[1]] = true
		}
		if slices.Contains(seen, false) {
			t.Fatal("record lost")
		}
	})
}

func TestStringSortEqualsBytesCompare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		n := rapid.SampledFrom([]int{0, 3, 200, 3000, 70_000}).Draw(t, "n")
		alphabet := rapid.SampledFrom([]string{"\x00a", "ab", "\x00\x01\xff", "0123456789abcdef"}).Draw(t, "alphabet")
		prefix := rapid.SampledFrom([]string{"", "user-", "tenant-0001-device-"}).Draw(t, "prefix")
		longest := rapid.SampledFrom([]int{1, 9, 30}).Draw(t, "longest")
		keys := make([][]byte, n)
		for i := range keys {
			k := []byte(prefix)
			for range r.IntN(longest + 1) {
				k = append(k, alphabet[r.IntN(len(alphabet))])
			}
			keys[i] = k
		}
		a := make([][2]uint64, n)
		for i := range a {
			a[i][1] = uint64(i)
		}
		sortStrings(a, func(i uint64) []byte { return keys[i] }, 2)
		want := slices.Clone(keys)
		slices.SortFunc(want, bytes.Compare)
		for i := range a {
			if !bytes.Equal(keys[a[i][1]], want[i]) {
				t.Fatalf("string %d out of order", i)
			}
		}
	})
}

func TestWideSortOrdersByBothWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		a := make([][3]uint64, rapid.SampledFrom([]int{0, 5, 90, 5000}).Draw(t, "n"))
		highs := rapid.Uint64Range(1, 1000).Draw(t, "highs")
		for i := range a {
			a[i] = [3]uint64{r.Uint64N(highs), r.Uint64N(2000), uint64(i)}
		}
		sortWide(a, 2)
		for i := 1; i < len(a); i++ {
			if a[i-1][0] > a[i][0] || a[i-1][0] == a[i][0] && a[i-1][1] > a[i][1] {
				t.Fatalf("record %d out of order", i)
			}
		}
	})
}

func BenchmarkSortWords(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	src := make([][1]uint64, 1e7)
	for i := range src {
		src[i][0] = r.Uint64N(1e10)
	}
	a := make([][1]uint64, len(src))
	for b.Loop() {
		copy(a, src)
		sortRecs(a, 2)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(src)), "ns/key")
}
