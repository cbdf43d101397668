package ndjson

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/scanner/scannertest"
)

// BenchmarkScan reads lines of web events of which none holds one of the keys.
func BenchmarkScan(b *testing.B) {
	rng := rand.New(rand.NewPCG(3, 4))
	var body bytes.Buffer
	for k := 0; body.Len() < 16<<20; k++ {
		fmt.Fprintf(&body, `{"user":{"id":%d,"name":"J\u00f6rg %d"},"page":"/catalog/%d","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML)","ms":%d,"tags":["a","bc",null,1.5],"ok":true}`+"\n",
			2*rng.IntN(1e8), k, rng.IntN(4000), k)
	}
	store := storage.NewMem()
	if err := storage.WriteAll(b.Context(), store, "mem://x/y.ndjson", body.Bytes(), storage.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	for _, keys := range []int{1, 1e6} {
		ids := make([]string, keys)
		for i := range ids {
			ids[i] = strconv.Itoa(2*i*100 + 1)
		}
		req := scannertest.Users(b, "user.id", ids...)
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			b.SetBytes(int64(body.Len()))
			for b.Loop() {
				obj, err := store.Open(b.Context(), "mem://x/y.ndjson")
				if err != nil {
					b.Fatal(err)
				}
				found, err := Scan(b.Context(), obj, req)
				if err != nil || !found.Hits.IsEmpty() {
					b.Fatal(found, err)
				}
			}
		})
	}
}
