package verifier

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sys/unix"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
)

// BenchmarkKeyScan reads a key column and probes 100,000 keys that are not in
// it: what the verifier does to every file that was cleaned.
func BenchmarkKeyScan(b *testing.B) {
	const rows = 1 << 20
	type row struct {
		Plain int64  `parquet:"plain,plain"`
		Dict  int64  `parquet:"dict,dict"`
		Mail  string `parquet:"mail,plain"`
		DMail string `parquet:"dmail,dict"`
	}
	r := rand.New(rand.NewPCG(1, 1))
	all := make([]row, rows)
	for i := range all {
		id := r.Int64N(1 << 40)
		d := r.Int64N(20000)
		all[i] = row{id, d, fmt.Sprintf("user%d@example.com", id), fmt.Sprintf("user%d@example.com", d)}
	}
	raw := writeParquet(b, storage.NewMem(), "mem://b/f", all, parquet.PageBufferSize(1<<20), parquet.MaxRowsPerRowGroup(rows))
	var ids, mails []string
	for range 100000 {
		id := 1<<41 + r.Int64N(1<<40)
		ids, mails = append(ids, fmt.Sprint(id)), append(mails, fmt.Sprintf("user%d@example.com", id))
	}
	intKeys, mailKeys := unique(b, "int64", ids), unique(b, "string", mails)
	for _, c := range []struct {
		col  string
		keys *keyset.Set
	}{{"plain", intKeys}, {"dict", intKeys}, {"mail", mailKeys}, {"dmail", mailKeys}} {
		b.Run(strings.ToLower(c.col), func(b *testing.B) {
			start := cpuTime()
			for b.Loop() {
				f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
				if err != nil {
					b.Fatal(err)
				}
				bound, err := bindFile(f, on(c.keys, c.col))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := scanKeys(context.Background(), f, bound); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*rows/(cpuTime()-start).Seconds()/1e6, "Mrows/cpu-s")
		})
	}
}

// cpuTime is the process's CPU time so far: on a shared machine the only
// measure that means something.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func unique(b *testing.B, typ string, keys []string) *keyset.Set {
	seen := map[string]bool{}
	var out []string
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	return keysOf(b, typ, out...)
}

// wide is a row like those of facts/parquet.md: ids, e-mail, list, map, payload, doubles.
type wide struct {
	ID      int64             `parquet:"id,dict"`
	Email   string            `parquet:"email,dict"`
	Tags    []string          `parquet:"tags,list"`
	Attrs   map[string]string `parquet:"attrs"`
	Payload string            `parquet:"payload"`
	A       float64           `parquet:"a"`
	B       float64           `parquet:"b"`
	C       *int64            `parquet:"c,optional"`
	D       int32             `parquet:"d"`
}

// BenchmarkSurvivors compares a file with its replacement, few rows erased.
func BenchmarkSurvivors(b *testing.B) {
	const rows = 200000
	r := rand.New(rand.NewPCG(1, 1))
	word := func() string { return fmt.Sprint(r.Int64N(1 << 30)) }
	all := make([]wide, rows)
	for i := range all {
		id := r.Int64N(60000)
		w := wide{ID: id, Email: fmt.Sprintf("user%d@example.com", id), A: r.Float64(), B: float64(r.IntN(1000)), D: r.Int32N(100)}
		for range r.IntN(3) {
			w.Tags = append(w.Tags, "tag"+fmt.Sprint(r.IntN(50)))
		}
		if i%4 == 0 {
			w.Attrs = map[string]string{"k" + fmt.Sprint(r.IntN(5)): word()}
		}
		for len(w.Payload) < 200 {
			w.Payload += word() + " lorem ipsum "
		}
		all[i] = w
	}
	var left []wide
	for _, w := range all {
		if w.ID != 77 {
			left = append(left, w)
		}
	}
	store := storage.NewMem()
	opts := []parquet.WriterOption{parquet.PageBufferSize(1 << 20), parquet.MaxRowsPerRowGroup(50000)}
	old := writeParquet(b, store, "mem://b/old", all, opts...)
	writeParquet(b, store, "mem://b/new", left, opts...)
	rw := Rewrite{New: "mem://b/new", Matches: on(keysOf(b, "int64", "77"), "id")}
	rw.Old.Path = "mem://b/old"
	start := cpuTime()
	for b.Loop() {
		rep, err := Survivors(context.Background(), store, rw)
		if err != nil || !rep.Equal {
			b.Fatal(rep, err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(old))/(cpuTime()-start).Seconds()/1e6, "MB-of-file/cpu-s")
	b.ReportMetric((cpuTime()-start).Seconds()/float64(b.N), "cpu-s/op")
}
