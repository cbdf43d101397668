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
