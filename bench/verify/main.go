// Command verify measures how fast the verifier reads a key column again,
// beside the scanner with its pruning switched off: both probe the same keys on
// one goroutine and must find the same rows. The file is made in memory: zstd,
// pages of 1 MiB, dictionaries of at most 1 MiB. The two run in turns, CPU time
// is the process's, and the ratio is the median over the rounds; it ends with 1
// where one is below the goal. The goal is of cleaned files, which hold no key;
// a dictionary that still has one is measured beside them.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sys/unix"

	"github.com/expunge/expunge/bench/process"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// goal is the least share of the scanner's rate.
const goal = 0.4

type row struct {
	PlainInt  int64  `parquet:"plain_int,plain,zstd"`
	DictInt   int64  `parquet:"dict_int,dict,zstd"`
	PlainText string `parquet:"plain_text,plain,zstd"`
	DictText  string `parquet:"dict_text,dict,zstd"`
}

func main() {
	rows := flag.Int("rows", 4_000_000, "rows of the file")
	keys := flag.Int("keys", 1_000_000, "keys that are looked for")
	rounds := flag.Int("rounds", 5, "how often each reads each column")
	flag.Parse()
	if err := run(context.Background(), *rows, *keys, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rows, keys, rounds int) error {
	raw, err := makeFile(rows)
	if err != nil {
		return err
	}
	ints, texts, err := makeKeys(keys, false)
	if err != nil {
		return err
	}
	someInts, someTexts, err := makeKeys(keys, true)
	if err != nil {
		return err
	}
	fmt.Printf("| key column | scanner, M rows/CPU-s | verifier, M rows/CPU-s | ratio | goal | reached |\n|---|---|---|---|---|---|\n")
	var missed bool
	for _, c := range []struct {
		what, column string
		keys         *keyset.Set
	}{{"int64, plain", "plain_int", ints}, {"int64, dictionary with a key", "dict_int", someInts}, {"int64, dictionary without a key", "dict_int", ints},
		{"string, plain", "plain_text", texts}, {"string, dictionary with a key", "dict_text", someTexts}, {"string, dictionary without a key", "dict_text", texts}} {
		var scan, verify, ratio []float64
		for range rounds {
			s, hits, err := rate(rows, func() (uint64, error) { return scanned(ctx, raw, c.column, c.keys) })
			if err != nil {
				return fmt.Errorf("scanner: %w", err)
			}
			v, same, err := rate(rows, func() (uint64, error) { return verified(ctx, raw, c.column, c.keys) })
			if err != nil {
				return fmt.Errorf("verifier: %w", err)
			}
			if hits != same || (hits > 0) != (c.keys == someInts || c.keys == someTexts) {
				return fmt.Errorf("%s: the scanner finds %d rows, the verifier %d", c.what, hits, same)
			}
			scan, verify, ratio = append(scan, s), append(verify, v), append(ratio, v/s)
		}
		r, want, reached := process.Median(ratio), fmt.Sprintf("≥ %.1f", goal), "yes"
		switch {
		case c.keys == someInts || c.keys == someTexts:
			want, reached = "–", "–"
		case r < goal:
			reached, missed = "no", true
		}
		fmt.Printf("| %s | %.1f | %.1f | %.2f | %s | %s |\n", c.what, process.Median(scan), process.Median(verify), r, want, reached)
	}
	if missed {
		return errors.New("a goal was missed")
	}
	return nil
}

// makeFile fills two columns with distinct values and two with 20,000 each.
func makeFile(rows int) ([]byte, error) {
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[row](&buf, parquet.PageBufferSize(1<<20), parquet.MaxRowsPerRowGroup(1_250_000), parquet.DictionaryMaxBytes(1<<20))
	r := rand.New(rand.NewPCG(1, 1))
	batch := make([]row, 0, 4096)
	for i := range rows {
		id, d := r.Int64N(1<<40), r.Int64N(20_000)
		batch = append(batch, row{id, d, fmt.Sprintf("user%d@example.com", id), fmt.Sprintf("user%d@example.com", d)})
		if len(batch) == cap(batch) || i == rows-1 {
			if _, err := w.Write(batch); err != nil {
				return nil, err
			}
			batch = batch[:0]
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// makeKeys makes keys that no row has, and one that some have.
func makeKeys(n int, some bool) (ints, texts *keyset.Set, err error) {
	var sets [2]*keyset.Set
	for i, name := range []string{"int64", "string"} {
		typ, err := keyset.ParseType(name)
		if err != nil {
			return nil, nil, err
		}
		b, err := keyset.NewBuilder("bench", keyset.Schema{{Name: "key", Type: typ}})
		if err != nil {
			return nil, nil, err
		}
		r := rand.New(rand.NewPCG(2, 2))
		for k := range n {
			key := fmt.Sprint(1<<41 + r.Int64N(1<<40))
			if some && k == 0 {
				key = "77"
			}
			if name == "string" {
				key = "user" + key + "@example.com"
			}
			if err := b.AddText(key); err != nil {
				return nil, nil, err
			}
		}
		if sets[i], err = b.Build(); err != nil {
			return nil, nil, err
		}
	}
	return sets[0], sets[1], nil
}

func scanned(ctx context.Context, raw []byte, column string, keys *keyset.Set) (uint64, error) {
	ref, err := scanner.ParseColumn(column)
	if err != nil {
		return 0, err
	}
	res, err := scanner.ParquetAt(ctx, bytes.NewReader(raw), int64(len(raw)), scanner.Request{
		Match: []scanner.Match{{Keys: keys, Columns: []scanner.ColumnRef{ref}}}, Options: scanner.Options{NoPruning: true, Workers: 1}})
	if err != nil {
		return 0, err
	}
	return res.Hits.GetCardinality(), nil
}

func verified(ctx context.Context, raw []byte, column string, keys *keyset.Set) (uint64, error) {
	hits, err := verifier.Rows(ctx, bytes.NewReader(raw), int64(len(raw)), []warehouse.BoundMatch{{Keys: keys, Columns: []warehouse.ColumnRef{{Path: []string{column}}}}})
	if err != nil {
		return 0, err
	}
	return hits.GetCardinality(), nil
}

// rate is in millions of rows a CPU-second, over at least 300 ms of them.
func rate(rows int, read func() (uint64, error)) (mrows float64, hits uint64, err error) {
	start, n := cpuTime(), 0
	for err == nil && cpuTime()-start < 300*time.Millisecond {
		hits, err = read()
		n++
	}
	return float64(n) * float64(rows) / 1e6 / (cpuTime() - start).Seconds(), hits, err
}

func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
