package parquet

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	pgo "github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/rewriter"
)

// benchRow is the shape of an event: ids, a text key, a list, a payload that
// compresses to about a third.
type benchRow struct {
	EventID int64    `parquet:"event_id"`
	UserID  int64    `parquet:"user_id"`
	Email   string   `parquet:"email,dict"`
	Tags    []string `parquet:"tags,list,dict"`
	Payload string   `parquet:"payload"`
	Price   float64  `parquet:"price"`
	Country *string  `parquet:"country,optional,dict"`
}

const benchRows = 240_000

var benchFiles sync.Map

// benchFile has four row groups of 60,000 rows and pages of 256 KiB: about 75 MB before compression.
func benchFile(b *testing.B, codec string) []byte {
	if f, ok := benchFiles.Load(codec); ok {
		return f.([]byte)
	}
	option := pgo.Compression(&pgo.Zstd)
	if codec == "snappy" {
		option = pgo.Compression(&pgo.Snappy)
	}
	var buf bytes.Buffer
	w := pgo.NewGenericWriter[benchRow](&buf, option, pgo.PageBufferSize(256<<10), pgo.MaxRowsPerRowGroup(60_000), pgo.DictionaryMaxBytes(1<<20))
	r := rand.New(rand.NewPCG(51, 52))
	rows := make([]benchRow, 1000)
	for i := 0; i < benchRows; i += len(rows) {
		for k := range rows {
			user := r.Int64N(benchRows / 3)
			country := fmt.Sprint("C", r.IntN(120))
			rows[k] = benchRow{EventID: int64(i + k), UserID: user, Email: fmt.Sprintf("user%d@example%d.com", user, user%97),
				Tags: []string{fmt.Sprint("t", r.IntN(200)), fmt.Sprint("u", r.IntN(50))}, Price: float64(r.IntN(1e6)) / 997, Country: &country,
				Payload: fmt.Sprintf(`{"s":"%016x%016x","path":"/api/v1/items/%d","agent":"Mozilla/5.0 (X11; Linux x86_64) build %d","q":"lorem ipsum dolor %d amet"}`,
					r.Uint64(), r.Uint64(), r.IntN(5000), r.IntN(300), r.IntN(9000))}
		}
		if _, err := w.Write(rows); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	benchFiles.Store(codec, buf.Bytes())
	return buf.Bytes()
}

// BenchmarkErase measures a rewrite by how many rows go; the share of pages
// that those touch is reported with it. MB/s are of the file's size.
func BenchmarkErase(b *testing.B) {
	for _, codec := range []string{"zstd", "snappy"} {
		for _, n := range []int{1, 20, 200, 2000} {
			erase := roaring64.New()
			r := rand.New(rand.NewPCG(53, 54))
			for range n {
				erase.Add(r.Uint64N(benchRows))
			}
			for name, o := range map[string]rewriter.Options{
				"default": {Workers: 2}, "nocheck": {Workers: 2, SkipCheck: true}, "nodigest": {Workers: 2, SkipDigest: true},
			} {
				b.Run(fmt.Sprintf("%s/rows=%d/%s", codec, n, name), func(b *testing.B) { benchErase(b, benchFile(b, codec), erase, o) })
			}
		}
	}
}

// BenchmarkReference is the plain path, for comparison.
func BenchmarkReference(b *testing.B) {
	erase := roaring64.BitmapOf(1, 1000, 100_000)
	b.Run("zstd", func(b *testing.B) {
		benchErase(b, benchFile(b, "zstd"), erase, rewriter.Options{Engine: rewriter.Reference})
	})
}

func benchErase(b *testing.B, data []byte, erase *roaring64.Bitmap, o rewriter.Options) {
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var res *rewriter.Result
	for b.Loop() {
		var err error
		if res, err = RewriteTo(b.Context(), Input{bytes.NewReader(data), int64(len(data))}, Output{Writer: io.Discard}, rewriter.Edit{Erase: erase}, o); err != nil {
			b.Fatal(err)
		}
	}
	if res.PagesTotal > 0 {
		b.ReportMetric(100*float64(res.PagesTouched)/float64(res.PagesTotal), "%pages")
	}
	b.ReportMetric(100*float64(res.Size)/float64(len(data)), "%size")
}
