package keyset

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/bloom"
)

// benchSet builds a set of n random keys of a kind and a column of values of
// which one in a thousand is a key, in random order.
func benchSet(b *testing.B, kind string, n, values int) (*Set, []int64, []byte, []uint32) {
	b.Helper()
	r := rand.New(rand.NewPCG(11, uint64(n)))
	builder, err := NewBuilder("k", schemaOf(b, "k "+kind))
	if err != nil {
		b.Fatal(err)
	}
	text := func(v uint64) string { return fmt.Sprintf("user-%016x@example.com", v) }
	uid := func(v uint64) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(v), v>>16) }
	seen := make([]uint64, 0, 4096)
	add := func(v uint64) (err error) {
		switch kind {
		case "int64":
			return builder.Add(Type{Kind: KindInt64}.AppendInt64(nil, int64(v)))
		case "uuid":
			return builder.AddText(uid(v))
		}
		return builder.AddText(text(v))
	}
	for i := range n {
		v := r.Uint64() >> 1
		if i < cap(seen) {
			seen = append(seen, v)
		}
		if err := add(v); err != nil {
			b.Fatal(err)
		}
	}
	s, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	ints, data, offsets := make([]int64, values), []byte{}, []uint32{0}
	for i := range ints {
		v := r.Uint64() >> 1
		if i%1000 == 0 {
			v = seen[r.IntN(len(seen))]
		}
		ints[i] = int64(v)
		switch kind {
		case "uuid":
			data = append(data, uid(v)...)
		case "string":
			data = append(data, text(v)...)
		}
		offsets = append(offsets, uint32(len(data)))
	}
	return s, ints, data, offsets
}

// cpuTime starts a measurement of the process's CPU time, which says more than the
// wall on a machine that others use too; what it returns reports it.
func cpuTime(b *testing.B, n int) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	return func() {
		b.ReportMetric(float64(used()-start)/float64(b.N)/float64(n), "cpu-ns/value")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkSelect is what a scan pays a value: hash, filter, and the exact set for hits.
func BenchmarkSelect(b *testing.B) {
	const values = 1 << 19
	for _, size := range benchSizes[:3] {
		b.Run("int64/"+size.name, func(b *testing.B) {
			s, ints, _, _ := benchSet(b, "int64", size.n, values)
			m, _ := NewMatcher(s, []Column{{Physical: PhysInt64}})
			dst := make([]int32, 0, values)
			report := cpuTime(b, values)
			for b.Loop() {
				dst = m.SelectInt64(dst[:0], ints)
			}
			if len(dst) < values/1000 {
				b.Fatal("hits lost")
			}
			report()
		})
	}
	for _, kind := range []string{"string", "uuid"} {
		for _, size := range benchSizes[:2] {
			b.Run(kind+"/"+size.name, func(b *testing.B) {
				s, _, data, offsets := benchSet(b, kind, size.n, values)
				m, err := NewMatcher(s, []Column{{Physical: PhysBytes, Logical: Logical{Kind: LogicalString}}})
				if err != nil {
					b.Fatal(err)
				}
				dst := make([]int32, 0, values)
				report := cpuTime(b, values)
				for b.Loop() {
					dst = m.SelectBytes(dst[:0], data, offsets)
				}
				if len(dst) < values/1000 {
					b.Fatal("hits lost")
				}
				report()
			})
		}
	}
	b.Run("normalised/1e6", func(b *testing.B) {
		s, _, data, offsets := benchSet(b, "string trim lowercase", 1e6, 0)
		_, _ = data, offsets
		r := rand.New(rand.NewPCG(1, 1))
		data, offsets = nil, []uint32{0}
		for range values {
			data = fmt.Appendf(data, "User-%016X@example.com", r.Uint64())
			offsets = append(offsets, uint32(len(data)))
		}
		m, _ := NewMatcher(s, []Column{{Physical: PhysBytes}})
		report := cpuTime(b, values)
		for b.Loop() {
			m.SelectBytes(nil, data, offsets)
		}
		report()
	})
	b.Run("dense/1e6", func(b *testing.B) {
		r := rand.New(rand.NewPCG(1, 1))
		builder, _ := NewBuilder("k", schemaOf(b, "k int64"))
		for range 1_000_000 {
			builder.Add(Type{Kind: KindInt64}.AppendInt64(nil, r.Int64N(10_000_000)))
		}
		s, _ := builder.Build()
		m, _ := NewMatcher(s, []Column{{Physical: PhysInt64}})
		ints := make([]int64, values)
		for i := range ints {
			ints[i] = r.Int64N(100_000_000)
		}
		dst := make([]int32, 0, values)
		report := cpuTime(b, values)
		for b.Loop() {
			dst = m.SelectInt64(dst[:0], ints)
		}
		report()
	})
	b.Run("all hits/1e6", func(b *testing.B) {
		s, _, _, _ := benchSet(b, "int64", 1e6, 0)
		var ints []int64
		for k := range s.All() {
			ints = append(ints, Type{Kind: KindInt64}.Int64(k))
		}
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(ints), func(i, j int) { ints[i], ints[j] = ints[j], ints[i] })
		m, _ := NewMatcher(s, []Column{{Physical: PhysInt64}})
		dst := make([]int32, 0, len(ints))
		report := cpuTime(b, len(ints))
		for b.Loop() {
			dst = m.SelectInt64(dst[:0], ints)
		}
		report()
	})
}

// BenchmarkBuild sorts, drops duplicates, builds filter and index and checks every key.
func BenchmarkBuild(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, n := range []int{1e6, 1e7} {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			words := make([]uint64, n)
			for i := range words {
				words[i] = r.Uint64()
			}
			b.Run(fmt.Sprintf("int64/%.0e/workers=%d", float64(n), workers), func(b *testing.B) {
				report := cpuTime(b, n)
				for b.Loop() {
					c := newCollector("k", schemaOf(b, "k int64"), workers)
					c.add(keyBuf{n: n, words: words})
					s, err := c.build(1)
					if err != nil || s.Len() != n {
						b.Fatal(err)
					}
				}
				report()
			})
			if n > 1e6 {
				continue
			}
			var text keyBuf
			for _, w := range words {
				text.add(fmt.Appendf(nil, "user-%016x@example.com", w), 0, 0)
			}
			b.Run(fmt.Sprintf("string/%.0e/workers=%d", float64(n), workers), func(b *testing.B) {
				report := cpuTime(b, n)
				for b.Loop() {
					c := newCollector("k", schemaOf(b, "k string"), workers)
					c.add(text)
					if _, err := c.build(1); err != nil {
						b.Fatal(err)
					}
				}
				report()
			})
		}
	}
}

// BenchmarkParse reads sources without building the set.
func BenchmarkParse(b *testing.B) {
	const n = 1_000_000
	r := rand.New(rand.NewPCG(1, 1))
	type row struct {
		ID int64  `parquet:"id"`
		U  string `parquet:"u"`
	}
	rows := make([]row, n)
	var csv, csv3, nd, uu bytes.Buffer
	csv.WriteString("id\n")
	csv3.WriteString("when,id,ticket\n")
	for i := range rows {
		v := r.Int64N(1e12)
		rows[i] = row{v, fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(v), v)}
		fmt.Fprintf(&csv, "%d\n", v)
		fmt.Fprintf(&csv3, "2026-05-01,%d,T-%d\n", v, i/10)
		fmt.Fprintf(&nd, "{\"when\":\"2026-05-01\",\"id\":%d}\n", v)
		fmt.Fprintf(&uu, "%s\n", rows[i].U)
	}
	pq := parquetOf(b, rows, parquet.MaxRowsPerRowGroup(n/4))
	for _, c := range []struct {
		name, file, body string
		spec             Spec
	}{
		{"csv int64", "a.csv", csv.String(), Spec{Schema: schemaOf(b, "id int64")}},
		{"csv int64 of 3", "a.csv", csv3.String(), Spec{Schema: schemaOf(b, "id int64")}},
		{"csv with requests", "a.csv", csv3.String(), Spec{Schema: schemaOf(b, "id int64"), RequestID: "ticket", ReceivedAt: "when"}},
		{"csv zstd", "a.csv.zst", zst(csv.String()), Spec{Schema: schemaOf(b, "id int64")}},
		{"uuid lines", "a.txt", uu.String(), Spec{Schema: schemaOf(b, "u uuid")}},
		{"string lines", "a.txt", uu.String(), Spec{Schema: schemaOf(b, "u string trim lowercase")}},
		{"ndjson int64", "a.ndjson", nd.String(), Spec{Schema: schemaOf(b, "id int64")}},
		{"parquet int64", "a.parquet", pq, Spec{Schema: schemaOf(b, "id int64")}},
		{"parquet uuid text", "a.parquet", pq, Spec{Schema: schemaOf(b, "u uuid")}},
	} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", c.name, workers), func(b *testing.B) {
				c.spec.Sources = []string{c.file}
				report := cpuTime(b, n)
				for b.Loop() {
					l, err := newLoader(files{c.file: c.body}, c.spec, []Option{WithWorkers(workers)})
					if err != nil {
						b.Fatal(err)
					}
					src, _ := l.resolve(b.Context(), c.spec.Sources, false)
					col := newCollector("k", c.spec.Schema, workers)
					if _, err := l.read(b.Context(), src[0], col); err != nil || col.rows != n {
						b.Fatal(err, col.rows)
					}
				}
				report()
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, kind := range []string{"int64", "string"} {
		s, _, _, _ := benchSet(b, kind, 1e6, 0)
		frozen := freeze(b, s)
		b.Run(kind, func(b *testing.B) {
			report := cpuTime(b, s.Len())
			for b.Loop() {
				if _, err := Read(bytes.NewReader(frozen)); err != nil {
					b.Fatal(err)
				}
			}
			report()
		})
	}
}

// BenchmarkPeers puts the selection beside what one would use without it, in one
// run: a Go map, and parquet-go's filter with the hashes given.
func BenchmarkPeers(b *testing.B) {
	const values = 1 << 19
	s, ints, _, _ := benchSet(b, "int64", 1e6, values)
	m, _ := NewMatcher(s, []Column{{Physical: PhysInt64}})
	set := make(map[int64]struct{}, s.Len())
	f := make(bloom.SplitBlockFilter, filterBlocks(s.Len()))
	for k := range s.All() {
		v := Type{Kind: KindInt64}.Int64(k)
		set[v] = struct{}{}
		f.Insert(hashWord(uint64(v)^signFlip, 0))
	}
	hashes := make([]uint64, values)
	for i, v := range ints {
		hashes[i] = hashWord(uint64(v)^signFlip, 0)
	}
	dst := make([]int32, 0, values)
	for name, sel := range map[string]func(){
		"this":    func() { dst = m.SelectInt64(dst[:0], ints) },
		"this Go": func() { s.ix.selectGo(dst[:values], hashes) },
		"map": func() {
			dst = dst[:0]
			for i, v := range ints {
				if _, ok := set[v]; ok {
					dst = append(dst, int32(i))
				}
			}
		},
		"parquet-go": func() {
			dst = dst[:0]
			for i, h := range hashes {
				if f.Check(h) {
					dst = append(dst, int32(i))
				}
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			report := cpuTime(b, values)
			for b.Loop() {
				sel()
			}
			report()
		})
	}
}
