package pq_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	arrow "github.com/apache/arrow-go/v18/parquet"
	arrowcompress "github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

var arrowEncodings = map[format.Type][]arrow.Encoding{
	format.Boolean:           {arrow.Encodings.Plain, arrow.Encodings.RLE},
	format.Int32:             {arrow.Encodings.Plain, arrow.Encodings.RLEDict, arrow.Encodings.DeltaBinaryPacked, arrow.Encodings.ByteStreamSplit},
	format.Int64:             {arrow.Encodings.Plain, arrow.Encodings.RLEDict, arrow.Encodings.DeltaBinaryPacked, arrow.Encodings.ByteStreamSplit},
	format.Int96:             {arrow.Encodings.Plain, arrow.Encodings.RLEDict},
	format.Float:             {arrow.Encodings.Plain, arrow.Encodings.RLEDict, arrow.Encodings.ByteStreamSplit},
	format.Double:            {arrow.Encodings.Plain, arrow.Encodings.RLEDict, arrow.Encodings.ByteStreamSplit},
	format.ByteArray:         {arrow.Encodings.Plain, arrow.Encodings.RLEDict, arrow.Encodings.DeltaLengthByteArray, arrow.Encodings.DeltaByteArray},
	format.FixedLenByteArray: {arrow.Encodings.Plain, arrow.Encodings.RLEDict, arrow.Encodings.ByteStreamSplit},
}

// arrowColumn is a column and the encoding that arrow-go is to write.
type arrowColumn struct {
	column
	arrowEnc arrow.Encoding
}

func arrowMatrix(r *rand.Rand, rows int) []*arrowColumn {
	var out []*arrowColumn
	for t := format.Boolean; t <= format.FixedLenByteArray; t++ {
		for _, e := range arrowEncodings[t] {
			for _, chain := range []string{"req", "opt", "list", "list2"} {
				c := &arrowColumn{arrowEnc: e}
				c.name, c.typ, c.chain = fmt.Sprintf("c%03d_%s_%s_%s", len(out), t, e, chain), t, chains[chain]
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

func arrowNode(t *testing.T, c *arrowColumn) schema.Node {
	reps := map[format.FieldRepetitionType]arrow.Repetition{
		format.Required: arrow.Repetitions.Required, format.Optional: arrow.Repetitions.Optional, format.Repeated: arrow.Repetitions.Repeated,
	}
	last := len(c.chain) - 1
	name := func(i int) string {
		if i == 0 {
			return c.name
		}
		return fmt.Sprintf("g%d", i)
	}
	var n schema.Node
	n, err := schema.NewPrimitiveNode(name(last), reps[c.chain[last]], arrow.Type(c.typ), -1, int32(c.width))
	if err != nil {
		t.Fatal(err)
	}
	for i := last - 1; i >= 0; i-- {
		if n, err = schema.NewGroupNode(name(i), reps[c.chain[i]], schema.FieldList{n}, -1); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func writeArrow(t *testing.T, cols []*arrowColumn, codec arrowcompress.Compression, version arrow.DataPageVersion) []byte {
	t.Helper()
	var fields schema.FieldList
	props := []arrow.WriterProperty{
		arrow.WithCompression(codec), arrow.WithDataPageVersion(version), arrow.WithDataPageSize(400),
		arrow.WithBatchSize(16), arrow.WithPageIndexEnabled(version == arrow.DataPageV2),
	}
	for _, c := range cols {
		n := arrowNode(t, c)
		fields = append(fields, n)
		path := c.name
		for i := 1; i < len(c.chain); i++ {
			path += fmt.Sprintf(".g%d", i)
		}
		dict := c.arrowEnc == arrow.Encodings.RLEDict
		props = append(props, arrow.WithDictionaryFor(path, dict))
		if !dict {
			props = append(props, arrow.WithEncodingFor(path, c.arrowEnc))
		}
	}
	root, err := schema.NewGroupNode("schema", arrow.Repetitions.Required, fields, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := file.NewParquetWriter(&buf, root, file.WithWriterProps(arrow.NewWriterProperties(props...)))
	half := len(cols[0].data) / 2
	for _, part := range [][2]int{{0, half}, {half, len(cols[0].data)}} {
		g := w.AppendRowGroup() //nolint:staticcheck // a panic fails the test as well
		for _, c := range cols {
			cw, err := g.NextColumn()
			if err != nil {
				t.Fatal(err)
			}
			writeArrowColumn(t, cw, c, c.data[part[0]:part[1]])
			if err := cw.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func writeArrowColumn(t *testing.T, cw file.ColumnChunkWriter, c *arrowColumn, rows [][]triple) {
	t.Helper()
	var def, rep []int16
	var vals []string
	for _, row := range rows {
		for _, e := range row {
			def, rep = append(def, int16(e.def)), append(rep, int16(e.rep))
			if !e.isNull {
				vals = append(vals, e.value)
			}
		}
	}
	if c.maxDef() == 0 {
		def = nil
	}
	if c.maxRep() == 0 {
		rep = nil
	}
	var err error
	switch w := cw.(type) {
	case *file.BooleanColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) bool { return s[0] != 0 }), def, rep)
	case *file.Int32ColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) int32 { return int32(binary.LittleEndian.Uint32([]byte(s))) }), def, rep)
	case *file.Int64ColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) int64 { return int64(binary.LittleEndian.Uint64([]byte(s))) }), def, rep)
	case *file.Int96ColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) (x arrow.Int96) { copy(x[:], s); return x }), def, rep)
	case *file.Float32ColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) float32 { return math.Float32frombits(binary.LittleEndian.Uint32([]byte(s))) }), def, rep)
	case *file.Float64ColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) float64 { return math.Float64frombits(binary.LittleEndian.Uint64([]byte(s))) }), def, rep)
	case *file.ByteArrayColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) arrow.ByteArray { return arrow.ByteArray(s) }), def, rep)
	case *file.FixedLenByteArrayColumnChunkWriter:
		_, err = w.WriteBatch(convert(vals, func(s string) arrow.FixedLenByteArray { return arrow.FixedLenByteArray(s) }), def, rep)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func convert[T any](in []string, f func(string) T) []T {
	out := make([]T, len(in))
	for i, s := range in {
		out[i] = f(s)
	}
	return out
}

func TestDecodedPagesEqualWhatArrowGoWrote(t *testing.T) {
	for name, codec := range map[string]arrowcompress.Compression{
		"none": arrowcompress.Codecs.Uncompressed, "snappy": arrowcompress.Codecs.Snappy,
		"zstd": arrowcompress.Codecs.Zstd, "gzip": arrowcompress.Codecs.Gzip,
		"brotli": arrowcompress.Codecs.Brotli, "lz4_raw": arrowcompress.Codecs.Lz4Raw,
	} {
		for i, version := range []arrow.DataPageVersion{arrow.DataPageV1, arrow.DataPageV2} {
			t.Run(fmt.Sprintf("%s/v%d", name, i+1), func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(uint64(i), uint64(len(name))))
				cols := arrowMatrix(r, 150)
				got, err := readAll(writeArrow(t, cols, codec, version), nil)
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

// Pages of a repeated column that start in the middle of a row, as v1 allows
// where there is no offset index, are put together again.
func TestRowsThatCrossPagesAreCountedOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	c := &arrowColumn{arrowEnc: arrow.Encodings.Plain}
	c.name, c.typ, c.chain = "c", format.Int64, chains["list2"]
	c.generate(r, 400, 0)
	b := writeArrow(t, []*arrowColumn{c}, arrowcompress.Codecs.Snappy, arrow.DataPageV1)
	got, err := readAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := differ(c.data, got[0]); d != "" {
		t.Fatal(d)
	}
	if n := continuing(t, b); n == 0 {
		t.Fatal("no page starts in the middle of a row: the test shows nothing")
	}
}

// continuing counts the pages that start in the middle of a row.
func continuing(t *testing.T, b []byte) (n int) {
	f := open(t, b)
	for _, g := range f.RowGroups {
		c, err := g.Chunk(f.Schema.Columns[0])
		if err != nil {
			t.Fatal(err)
		}
		pages, dec := c.Pages(context.Background(), pq.ReadOptions{}), c.NewDecoder()
		var d pq.PageData
		for {
			p, err := pages.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = dec.Decode(p, &d)
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.Continues {
				n++
			}
		}
	}
	return n
}
