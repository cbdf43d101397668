//go:build unix

package scanner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sys/unix"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

// benchSize is the rows of a benchmark file; EXPUNGE_BENCH_ROWS changes it.
func benchSize() int {
	if n, err := strconv.Atoi(os.Getenv("EXPUNGE_BENCH_ROWS")); err == nil && n > 0 {
		return n
	}
	return 2_000_000
}

type benchRow struct {
	ID      int64  `parquet:"id"`
	Sorted  int64  `parquet:"sorted"`
	Mail    string `parquet:"mail"`
	Dict    int64  `parquet:"dict,dict"`
	DictStr string `parquet:"dict_str,dict"`
	Tenant  string `parquet:"tenant,dict"`
}

// benchData is a file of random ids and a set of a million keys of which one
// row in a thousand has one.
type benchData struct {
	rows          int
	file          []byte
	ints, strings *keyset.Set
	few, pairs    *keyset.Set
	twenty        *keyset.Set // of the 20,000 values of the dictionary columns
}

var benchCache *benchData

func benchInput(b *testing.B) *benchData {
	if benchCache != nil {
		return benchCache
	}
	const keys = 1_000_000
	d := &benchData{rows: benchSize()}
	r := rand.New(rand.NewPCG(1, 1))
	// Ids are even unless the row is to be hit: keys are odd.
	key := func() int64 { return r.Int64N(keys)<<10 | 1 }
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[benchRow](&buf, parquet.Compression(&parquet.Zstd), parquet.PageBufferSize(1<<20), parquet.MaxRowsPerRowGroup(1_250_000))
	batch := make([]benchRow, 0, 1000)
	for i := range d.rows {
		id := r.Int64N(1<<40) << 1
		if r.IntN(1000) == 0 {
			id = key()
		}
		small := r.Int64N(20000) << 1
		batch = append(batch, benchRow{ID: id, Sorted: int64(i/3) << 1, Mail: mail(id), Dict: small, DictStr: mail(small), Tenant: "t" + strconv.Itoa(r.IntN(50))})
		if len(batch) == cap(batch) || i == d.rows-1 {
			if _, err := w.Write(batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	d.file = buf.Bytes()
	var ik, sk, pk [][]string
	for i := range int64(keys) {
		k := i<<10 | 1
		ik = append(ik, []string{strconv.FormatInt(k, 10)})
		sk = append(sk, []string{mail(k)})
		if i%10 == 0 {
			pk = append(pk, []string{"t" + strconv.Itoa(r.IntN(50)), strconv.FormatInt(k, 10)})
		}
	}
	d.ints, d.strings, d.pairs = set(b, "int64", ik...), set(b, "string", sk...), set(b, "string+int64", pk...)
	var fk, tk [][]string
	for i := range 20 {
		tk = append(tk, []string{strconv.Itoa(i * 1000 << 1)})
	}
	d.twenty = set(b, "int64", tk...)
	for i := range 23 {
		fk = append(fk, []string{strconv.Itoa((d.rows/3/40 + i) << 1)})
	}
	d.few = set(b, "int64", fk...)
	benchCache = d
	return d
}

// BenchmarkScan scans a column for a million keys on one core, beside
// parquet-go's pages probed by the same matcher.
func BenchmarkScan(b *testing.B) {
	d := benchInput(b)
	cases := []struct {
		name string
		keys *keyset.Set
		cols []string
	}{
		{"int64", d.ints, []string{"id"}},
		{"string", d.strings, []string{"mail"}},
		{"dictionary", d.twenty, []string{"dict"}},
		{"dictionary_without_key", d.strings, []string{"dict_str"}},
		{"composite", d.pairs, []string{"tenant", "id"}},
		{"sorted_23_keys", d.few, []string{"sorted"}},
	}
	for _, c := range cases {
		m := scanner.Match{Keys: c.keys}
		for _, name := range c.cols {
			m.Columns = append(m.Columns, ref(name))
		}
		b.Run(c.name, func(b *testing.B) {
			var res *scanner.Result
			cpu := cpuTime()
			for b.Loop() {
				res = scan(b, d.file, scanner.Request{Match: []scanner.Match{m}, Options: scanner.Options{Workers: 1}})
			}
			report(b, d.rows, cpu)
			b.ReportMetric(float64(res.Hits.GetCardinality()), "hits")
			b.ReportMetric(float64(res.KeyBytesRead)/1e6, "MBread")
		})
	}
	b.Run("int64/parquet-go", func(b *testing.B) {
		m, err := keyset.NewMatcher(d.ints, []keyset.Column{{Physical: keyset.PhysInt64}})
		if err != nil {
			b.Fatal(err)
		}
		hits, cpu := 0, cpuTime()
		for b.Loop() {
			hits = scanParquetGo(b, d.file, 0, func(p parquet.Page) int {
				v := p.Data()
				return len(m.SelectInt64(nil, v.Int64()))
			})
		}
		report(b, d.rows, cpu)
		b.ReportMetric(float64(hits), "hits")
	})
	b.Run("string/parquet-go", func(b *testing.B) {
		m, err := keyset.NewMatcher(d.strings, []keyset.Column{{Physical: keyset.PhysBytes, Logical: keyset.Logical{Kind: keyset.LogicalString}}})
		if err != nil {
			b.Fatal(err)
		}
		hits, cpu := 0, cpuTime()
		for b.Loop() {
			hits = scanParquetGo(b, d.file, 2, func(p parquet.Page) int {
				v := p.Data()
				data, offsets := v.ByteArray()
				return len(m.SelectBytes(nil, data, offsets))
			})
		}
		report(b, d.rows, cpu)
		b.ReportMetric(float64(hits), "hits")
	})
}

// report counts CPU time of the process, garbage collection included: on a
// machine that others use, wall time means little.
func report(b *testing.B, rows int, since time.Duration) {
	ns := float64(cpuTime() - since)
	total := float64(rows) * float64(b.N)
	b.ReportMetric(total*1e3/ns, "Mrows/cpu-s")
	b.ReportMetric(ns/total, "cpu-ns/row")
	b.ReportMetric(0, "ns/op")
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// scanParquetGo probes the pages of a column (ordered by name) of every row group.
func scanParquetGo(b *testing.B, file []byte, column int, probe func(parquet.Page) int) int {
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		b.Fatal(err)
	}
	hits := 0
	for _, g := range f.RowGroups() {
		for _, c := range g.ColumnChunks() {
			if c.Column() != column {
				continue
			}
			pages := c.Pages()
			for {
				p, err := pages.ReadPage()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				hits += probe(p)
				parquet.Release(p)
			}
			pages.Close()
		}
	}
	return hits
}

// BenchmarkReadColumns reads three columns side by side.
func BenchmarkReadColumns(b *testing.B) {
	d := benchInput(b)
	rows, cpu := 0, cpuTime()
	for b.Loop() {
		rows = 0
		err := scanner.ReadColumnsAt(context.Background(), bytes.NewReader(d.file), int64(len(d.file)),
			[]scanner.ColumnRef{ref("id"), ref("mail"), ref("dict_str")}, func(x *scanner.Batch) error {
				rows += x.Rows
				return nil
			})
		if err != nil {
			b.Fatal(err)
		}
	}
	if rows != d.rows {
		b.Fatal(fmt.Sprint(rows, " rows"))
	}
	report(b, d.rows, cpu)
}
