package pq_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// encodingsOf lists the encodings that parquet-go writes for a type.
var encodingsOf = map[format.Type][]encoding.Encoding{
	format.Boolean:           {&parquet.Plain, &parquet.RLE},
	format.Int32:             {&parquet.Plain, &parquet.RLEDictionary, &parquet.DeltaBinaryPacked, &parquet.ByteStreamSplit},
	format.Int64:             {&parquet.Plain, &parquet.RLEDictionary, &parquet.DeltaBinaryPacked, &parquet.ByteStreamSplit},
	format.Int96:             {&parquet.Plain, &parquet.RLEDictionary},
	format.Float:             {&parquet.Plain, &parquet.RLEDictionary, &parquet.ByteStreamSplit},
	format.Double:            {&parquet.Plain, &parquet.RLEDictionary, &parquet.ByteStreamSplit},
	format.ByteArray:         {&parquet.Plain, &parquet.RLEDictionary, &parquet.DeltaLengthByteArray, &parquet.DeltaByteArray},
	format.FixedLenByteArray: {&parquet.Plain, &parquet.RLEDictionary, &parquet.DeltaByteArray, &parquet.ByteStreamSplit},
}

// matrix is every type in every encoding in every nesting.
func matrix(r *rand.Rand, rows int) []*column {
	var out []*column
	for t := format.Boolean; t <= format.FixedLenByteArray; t++ {
		for _, e := range encodingsOf[t] {
			for _, chain := range []string{"req", "opt", "optopt", "list", "list2", "rep"} {
				c := &column{
					name: fmt.Sprintf("c%03d_%s_%s_%s", len(out), t, e, chain),
					typ:  t, enc: e, chain: chains[chain],
				}
				if t == format.FixedLenByteArray {
					c.width = 1 + r.IntN(20)
				}
				c.generate(r, rows, []int{0, 1, 7, 300}[r.IntN(4)])
				out = append(out, c)
			}
		}
	}
	return out
}

var codecs = map[string]compress.Codec{
	"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip,
	"zstd": &parquet.Zstd, "lz4_raw": &parquet.Lz4Raw, "brotli": &parquet.Brotli,
}

// differ names the first row in which two columns differ, "" when none does.
func differ(want, got [][]triple) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if !slices.Equal(want[i], got[i]) {
			return fmt.Sprintf("row %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	return ""
}

func TestDecodedPagesEqualWhatParquetGoWrote(t *testing.T) {
	for name, codec := range codecs {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprintf("%s/v%d", name, version), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(uint64(version), uint64(len(name))))
				cols := matrix(r, 200)
				b := writeParquetGo(t, cols, codec, parquet.DataPageVersion(version), parquet.PageBufferSize(512))
				got, err := readAll(b, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, c := range cols {
					if d := differ(c.data, got[i]); d != "" {
						t.Fatalf("column %s: %s", c.name, d)
					}
				}
			})
		}
	}
}

// The walk by the offset index gives what the walk by headers gives, whatever
// the window, and a selection of pages gives those pages.
func TestWalkByOffsetIndexEqualsWalkByHeaders(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	cols := matrix(r, 300)
	b := writeParquetGo(t, cols, &parquet.Snappy, parquet.DataPageVersion(1), parquet.PageBufferSize(256))
	for _, window := range []int{1, 100, 1000, 1 << 20} {
		pages := 0
		got, err := readAll(b, func(c *pq.Chunk) pq.ReadOptions {
			x, err := c.OffsetIndex()
			if err != nil {
				t.Fatal(err)
			}
			all := make([]int, len(x.PageLocations))
			for i := range all {
				all[i] = i
			}
			pages += len(all)
			if window == 100 {
				return pq.ReadOptions{Window: window, Index: x}
			}
			return pq.ReadOptions{Window: window, Index: x, Select: all, Gap: int64(window)}
		})
		if err != nil {
			t.Fatal(err)
		}
		if pages < 4*len(cols) {
			t.Fatalf("only %d pages: the test means to have several a chunk", pages)
		}
		for i, c := range cols {
			if d := differ(c.data, got[i]); d != "" {
				t.Fatalf("window %d, column %s: %s", window, c.name, d)
			}
		}
	}
}

// What our generator means is what parquet-go reads back: the differential
// tests compare with a reader and not only with a generator.
func TestGeneratedFilesReadTheSameInParquetGo(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	cols := matrix(r, 60)
	b := writeParquetGo(t, cols, &parquet.Zstd)
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, g := range f.RowGroups() {
		rr := g.Rows()
		buf := make([]parquet.Row, 10)
		for {
			n, err := rr.ReadRows(buf)
			for _, row := range buf[:n] {
				row.Range(func(col int, values []parquet.Value) bool {
					for i, v := range values {
						tr := got[col][rows][i]
						if v.IsNull() != tr.isNull || v.DefinitionLevel() != tr.def || v.RepetitionLevel() != tr.rep {
							t.Fatalf("column %d row %d: levels differ", col, rows)
						}
						if !v.IsNull() && !parquet.Equal(v, cols[col].parquetGoValue(tr)) {
							t.Fatalf("column %d row %d: values differ", col, rows)
						}
					}
					if len(values) != len(got[col][rows]) {
						t.Fatalf("column %d row %d: %d entries for %d", col, rows, len(got[col][rows]), len(values))
					}
					return true
				})
				rows++
			}
			if err != nil {
				break
			}
		}
		rr.Close()
	}
	if rows != 60 {
		t.Fatalf("%d rows", rows)
	}
}
