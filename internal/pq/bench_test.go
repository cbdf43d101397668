package pq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

type intRow struct {
	K int64 `parquet:"k"`
}

type stringRow struct {
	K string `parquet:"k"`
}

type dictRow struct {
	K string `parquet:"k,dict"`
}

const benchRows = 1 << 20

func benchFile[T any](b *testing.B, codec compress.Codec, row func(i int) T) []byte {
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[T](&buf, parquet.Compression(codec), parquet.PageBufferSize(1<<20))
	rows := make([]T, benchRows)
	for i := range rows {
		rows[i] = row(i)
	}
	if _, err := w.Write(rows); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}

// BenchmarkDecode reads one column of a file, page by page: this package
// beside parquet-go's pages.
func BenchmarkDecode(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	files := map[string][]byte{
		"int64/zstd":    benchFile(b, &parquet.Zstd, func(int) intRow { return intRow{r.Int64N(1 << 40)} }),
		"int64/snappy":  benchFile(b, &parquet.Snappy, func(int) intRow { return intRow{r.Int64N(1 << 40)} }),
		"string/zstd":   benchFile(b, &parquet.Zstd, func(int) stringRow { return stringRow{fmt.Sprintf("user%d@example.com", r.Int64N(1<<40))} }),
		"string/snappy": benchFile(b, &parquet.Snappy, func(int) stringRow { return stringRow{fmt.Sprintf("user%d@example.com", r.Int64N(1<<40))} }),
		"dict/snappy":   benchFile(b, &parquet.Snappy, func(int) dictRow { return dictRow{fmt.Sprintf("user%d@example.com", r.Int64N(20000))} }),
	}
	for name, file := range files {
		b.Run(name+"/pq", func(b *testing.B) {
			dec, d := new(pq.Decoder), new(pq.PageData)
			for b.Loop() {
				benchPQ(b, file, dec, d)
			}
			b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
		b.Run(name+"/parquet-go", func(b *testing.B) {
			for b.Loop() {
				benchParquetGo(b, file)
			}
			b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

func benchPQ(b *testing.B, file []byte, dec *pq.Decoder, d *pq.PageData) {
	ctx := context.Background()
	f, err := pq.Open(ctx, bytes.NewReader(file), int64(len(file)))
	if err != nil {
		b.Fatal(err)
	}
	c, err := f.RowGroups[0].Chunk(f.Schema.Columns[0])
	if err != nil {
		b.Fatal(err)
	}
	r := c.Pages(ctx, pq.ReadOptions{})
	defer r.Close()
	dec.Reset(c)
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil && p.Header.Type == format.DictionaryPage {
			if err = dec.SetDictionary(p); err == nil {
				continue
			}
		}
		if err == nil {
			err = dec.Decode(p, d)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func benchParquetGo(b *testing.B, file []byte) {
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		b.Fatal(err)
	}
	pages := f.RowGroups()[0].ColumnChunks()[0].Pages()
	defer pages.Close()
	for {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
		_ = p.Data()
		parquet.Release(p)
	}
}
