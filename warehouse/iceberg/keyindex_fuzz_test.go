package iceberg

import (
	"testing"
)

// FuzzFilter reads filters from bytes that nobody wrote: no panic, no endless
// loop, and a key that is found stays found beside others.
func FuzzFilter(f *testing.F) {
	good := encodeFilter([]uint64{1, 2, 1 << 40, 1<<64 - 1})
	f.Add(good.n, good.data, uint64(1<<40))
	f.Add(1<<20, []byte{0xff, 0xff, 0xff}, uint64(7))
	f.Add(0, []byte{}, uint64(0))
	f.Fuzz(func(t *testing.T, n int, data []byte, h uint64) {
		if n < 0 || n > maxIndexedKeys {
			return
		}
		filter := keyFilter{n: n, data: data}
		one, err := filter.mayHold([]uint64{h})
		if err != nil || !one {
			return
		}
		if both, err := filter.mayHold([]uint64{0, h}); h > 0 && (err != nil || !both) {
			t.Error("a key is lost beside another")
		}
	})
}

// FuzzFieldPath resolves paths that nobody meant: no panic, and what is found
// is found again by its own names.
func FuzzFieldPath(f *testing.F) {
	for _, p := range []string{"id", "$.customer.id", "tags[*]", "scores.value", "$", "..", "a.b.c", "[*]", "$.tags[*][*]"} {
		f.Add(p)
	}
	schema := planSchema()
	f.Fuzz(func(t *testing.T, path string) {
		got, err := findField(schema, path)
		if err != nil {
			return
		}
		again, err := findField(schema, pathOf(got.path))
		if err != nil || again.leaf().ID != got.leaf().ID {
			t.Errorf("%q leads to %v, its names to %v (%v)", path, got.path, again.path, err)
		}
	})
}

func BenchmarkFilterProbe(b *testing.B) {
	hasher, err := newKeyHasher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	h := hasher.state()
	var in, keys []uint64
	for i := range 100000 {
		in = append(in, h.sum64([]byte{byte(i), byte(i >> 8), byte(i >> 16), 1, 0, 0, 0, 0}))
	}
	for i := range 10000 {
		keys = append(keys, h.sum64([]byte{byte(i), byte(i >> 8), 0, 2, 0, 0, 0, 0}))
	}
	s, k := hashSet{hashes: in}, hashSet{hashes: keys}
	f := encodeFilter(s.sorted())
	probe := k.sorted()
	for b.Loop() {
		if hit, err := f.mayHold(probe); err != nil || hit {
			b.Fatal(hit, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/entry")
}

func BenchmarkKeyHash(b *testing.B) {
	hasher, err := newKeyHasher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	h := hasher.state()
	key := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for b.Loop() {
		h.sum64(key)
	}
}
