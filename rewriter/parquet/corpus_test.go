package parquet

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
	arrowparquet "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pgo "github.com/parquet-go/parquet-go"
)

// sample is a file of the corpus and what made it.
type sample struct {
	name string
	data []byte
	rows int
}

// arrowSchema covers every physical type and the nesting shapes.
var arrowSchema = arrow.NewSchema([]arrow.Field{
	{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	{Name: "email", Type: arrow.BinaryTypes.String},
	{Name: "opt", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "unsigned", Type: arrow.PrimitiveTypes.Uint32, Nullable: true},
	{Name: "category", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "single", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	{Name: "double", Type: arrow.PrimitiveTypes.Float64},
	{Name: "half", Type: arrow.FixedWidthTypes.Float16},
	{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "amount", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "digest", Type: &arrow.FixedSizeBinaryType{ByteWidth: 16}},
	{Name: "blob", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	{Name: "attrs", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
	{Name: "person", Type: arrow.StructOf(
		arrow.Field{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
		arrow.Field{Name: "phones", Type: arrow.ListOf(arrow.StructOf(
			arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64},
			arrow.Field{Name: "kind", Type: arrow.BinaryTypes.String, Nullable: true},
		)), Nullable: true},
	), Nullable: true},
	{Name: "matrix", Type: arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int32)), Nullable: true},
}, nil)

func arrowRecord(r *rand.Rand, n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrowSchema)
	defer b.Release()
	null := func() bool { return r.IntN(5) == 0 }
	for range n {
		id := r.Int64N(int64(n) * 2)
		b.Field(0).(*array.Int64Builder).Append(id)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("user%d@example%d.org", id, id%7))
		appendOr(null(), b.Field(2), func() { b.Field(2).(*array.Int32Builder).Append(r.Int32N(2000) - 1000) })
		appendOr(null(), b.Field(3), func() { b.Field(3).(*array.Uint32Builder).Append(r.Uint32()) })
		appendOr(null(), b.Field(4), func() { b.Field(4).(*array.StringBuilder).Append([]string{"a", "bb", "ccc"}[r.IntN(3)]) })
		appendOr(null(), b.Field(5), func() {
			b.Field(5).(*array.Float32Builder).Append([]float32{float32(math.NaN()), 0, float32(math.Copysign(0, -1)), r.Float32()}[r.IntN(4)])
		})
		b.Field(6).(*array.Float64Builder).Append(r.NormFloat64())
		b.Field(7).(*array.Float16Builder).Append(float16.New(r.Float32()))
		appendOr(null(), b.Field(8), func() { b.Field(8).(*array.BooleanBuilder).Append(r.IntN(2) == 0) })
		appendOr(null(), b.Field(9), func() { b.Field(9).(*array.Decimal128Builder).Append(decimal128.FromI64(r.Int64N(1e12) - 5e11)) })
		b.Field(10).(*array.Date32Builder).Append(arrow.Date32(r.Int32N(20000)))
		appendOr(null(), b.Field(11), func() { b.Field(11).(*array.TimestampBuilder).Append(arrow.Timestamp(r.Int64N(1e15))) })
		b.Field(12).(*array.FixedSizeBinaryBuilder).Append(randomBytes(r, 16))
		appendOr(null(), b.Field(13), func() { b.Field(13).(*array.BinaryBuilder).Append(randomBytes(r, r.IntN(40))) })
		appendList(r, b.Field(14).(*array.ListBuilder), func(v array.Builder) {
			appendOr(null(), v, func() { v.(*array.StringBuilder).Append([]string{"x", "yy", "zzz"}[r.IntN(3)]) })
		})
		appendMap(r, b.Field(15).(*array.MapBuilder))
		appendPerson(r, b.Field(16).(*array.StructBuilder))
		appendList(r, b.Field(17).(*array.ListBuilder), func(v array.Builder) {
			appendList(r, v.(*array.ListBuilder), func(v array.Builder) { v.(*array.Int32Builder).Append(r.Int32N(9)) })
		})
	}
	return b.NewRecordBatch()
}

func appendOr(null bool, b array.Builder, value func()) {
	if null {
		b.AppendNull()
		return
	}
	value()
}

func appendList(r *rand.Rand, l *array.ListBuilder, element func(array.Builder)) {
	if r.IntN(6) == 0 {
		l.AppendNull()
		return
	}
	l.Append(true)
	for range r.IntN(4) {
		element(l.ValueBuilder())
	}
}

func appendMap(r *rand.Rand, m *array.MapBuilder) {
	if r.IntN(6) == 0 {
		m.AppendNull()
		return
	}
	m.Append(true)
	for k := range r.IntN(3) {
		m.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprint("k", k))
		appendOr(r.IntN(4) == 0, m.ItemBuilder(), func() { m.ItemBuilder().(*array.Int64Builder).Append(r.Int64N(100)) })
	}
}

func appendPerson(r *rand.Rand, s *array.StructBuilder) {
	if r.IntN(6) == 0 {
		s.AppendNull()
		return
	}
	s.Append(true)
	appendOr(r.IntN(4) == 0, s.FieldBuilder(0), func() { s.FieldBuilder(0).(*array.StringBuilder).Append(fmt.Sprint("name", r.IntN(200))) })
	appendList(r, s.FieldBuilder(1).(*array.ListBuilder), func(v array.Builder) {
		p := v.(*array.StructBuilder)
		p.Append(true)
		p.FieldBuilder(0).(*array.Int64Builder).Append(r.Int64N(1000))
		appendOr(r.IntN(3) == 0, p.FieldBuilder(1), func() { p.FieldBuilder(1).(*array.StringBuilder).Append([]string{"home", "work"}[r.IntN(2)]) })
	})
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// arrowSample writes a file with arrow-go.
func arrowSample(t testing.TB, r *rand.Rand, name string, n int, props ...arrowparquet.WriterProperty) sample {
	t.Helper()
	rec := arrowRecord(r, n)
	defer rec.Release()
	props = append([]arrowparquet.WriterProperty{
		arrowparquet.WithMaxRowGroupLength(int64(n/3 + 1)), arrowparquet.WithDataPageSize(400), arrowparquet.WithBatchSize(20),
		arrowparquet.WithDictionaryPageSizeLimit(1500),
	}, props...)
	var buf bytes.Buffer
	w, err := pqarrow.NewFileWriter(arrowSchema, &buf, arrowparquet.NewWriterProperties(props...), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sample{name, buf.Bytes(), n}
}

// arrowCorpus is the matrix of codecs, page versions, encodings and extras.
func arrowCorpus(t testing.TB) []sample {
	r := rand.New(rand.NewPCG(1, 2))
	var out []sample
	codecs := []compress.Compression{compress.Codecs.Uncompressed, compress.Codecs.Snappy, compress.Codecs.Gzip,
		compress.Codecs.Zstd, compress.Codecs.Brotli, compress.Codecs.Lz4Raw}
	versions := []arrowparquet.DataPageVersion{arrowparquet.DataPageV1, arrowparquet.DataPageV2}
	for _, c := range codecs {
		for v, version := range versions {
			for _, index := range []bool{false, true} {
				name := fmt.Sprintf("arrow/%s/v%d/index=%t", strings.ToLower(c.String()), v+1, index)
				out = append(out, arrowSample(t, r, name, 240, arrowparquet.WithCompression(c),
					arrowparquet.WithDataPageVersion(version), arrowparquet.WithPageIndexEnabled(index)))
			}
		}
	}
	for v, version := range versions {
		out = append(out,
			arrowSample(t, r, fmt.Sprintf("arrow/plain/v%d", v+1), 240, arrowparquet.WithDictionaryDefault(false),
				arrowparquet.WithDataPageVersion(version), arrowparquet.WithPageIndexEnabled(true)),
			arrowSample(t, r, fmt.Sprintf("arrow/delta/v%d", v+1), 240, append(deltaProps(), arrowparquet.WithDataPageSize(1000), arrowparquet.WithBatchSize(27), // pages of one null come out broken
				arrowparquet.WithDataPageVersion(version), arrowparquet.WithPageIndexEnabled(v == 0), arrowparquet.WithCompression(compress.Codecs.Zstd))...),
			arrowSample(t, r, fmt.Sprintf("arrow/bloom/v%d", v+1), 240, arrowparquet.WithBloomFilterEnabled(true),
				arrowparquet.WithDataPageVersion(version), arrowparquet.WithPageIndexEnabled(v == 0)),
			arrowSample(t, r, fmt.Sprintf("arrow/nostats/v%d", v+1), 240, arrowparquet.WithStats(false),
				arrowparquet.WithDataPageVersion(version)),
			arrowSample(t, r, fmt.Sprintf("arrow/onepage/v%d", v+1), 240, arrowparquet.WithDataPageSize(1<<20),
				arrowparquet.WithBatchSize(1024), arrowparquet.WithDictionaryPageSizeLimit(1<<20), arrowparquet.WithDataPageVersion(version)))
	}
	return out
}

func deltaProps() []arrowparquet.WriterProperty {
	props := []arrowparquet.WriterProperty{arrowparquet.WithDictionaryDefault(false)}
	for path, e := range map[string]arrowparquet.Encoding{
		"id": arrowparquet.Encodings.DeltaBinaryPacked, "opt": arrowparquet.Encodings.DeltaBinaryPacked,
		"unsigned": arrowparquet.Encodings.DeltaBinaryPacked, "day": arrowparquet.Encodings.DeltaBinaryPacked,
		"at": arrowparquet.Encodings.DeltaBinaryPacked, "email": arrowparquet.Encodings.DeltaByteArray,
		"category": arrowparquet.Encodings.DeltaLengthByteArray, "blob": arrowparquet.Encodings.DeltaByteArray,
		"single": arrowparquet.Encodings.ByteStreamSplit, "double": arrowparquet.Encodings.ByteStreamSplit,
		"digest": arrowparquet.Encodings.ByteStreamSplit, "tags.list.element": arrowparquet.Encodings.DeltaByteArray,
		"flag": arrowparquet.Encodings.RLE, "matrix.list.element.list.element": arrowparquet.Encodings.DeltaBinaryPacked,
	} {
		props = append(props, arrowparquet.WithEncodingFor(path, e))
	}
	return props
}

// goRow is what parquet-go writes: other encodings and layouts than arrow-go.
type goRow struct {
	ID      int64    `parquet:"id,delta,zstd"`
	Email   string   `parquet:"email,dict,snappy"`
	Text    string   `parquet:"text,delta,zstd"`
	Opt     *int32   `parquet:"opt,optional,dict"`
	Float   float32  `parquet:"float,split"`
	Double  *float64 `parquet:"double,optional,split"`
	Flag    *bool    `parquet:"flag,optional"`
	UUID    [16]byte `parquet:"uuid,uuid"`
	Tags    []string `parquet:"tags,list,dict"`
	Members []struct {
		ID   int64   `parquet:"id"`
		Name *string `parquet:"name,optional,dict"`
	} `parquet:"members,list"`
	Attrs map[string]int64 `parquet:"attrs"`
	Deep  *struct {
		A *struct {
			B []int32 `parquet:"b"`
		} `parquet:"a,optional"`
	} `parquet:"deep,optional"`
}

func goRows(r *rand.Rand, n int) []goRow {
	rows := make([]goRow, n)
	for i := range rows {
		g := &rows[i]
		g.ID = r.Int64N(1 << 40)
		g.Email = fmt.Sprintf("u%d@example.org", r.IntN(n))
		g.Text = fmt.Sprintf("%x", randomBytes(r, r.IntN(20)))
		if r.IntN(4) > 0 {
			v := r.Int32N(100)
			g.Opt = &v
			d := r.NormFloat64()
			g.Double = &d
			f := r.IntN(2) == 0
			g.Flag = &f
		}
		g.Float = r.Float32()
		copy(g.UUID[:], randomBytes(r, 16))
		for range r.IntN(4) {
			g.Tags = append(g.Tags, fmt.Sprint("t", r.IntN(10)))
		}
		g.Members = make([]struct {
			ID   int64   `parquet:"id"`
			Name *string `parquet:"name,optional,dict"`
		}, r.IntN(3))
		for k := range g.Members {
			g.Members[k].ID = r.Int64N(50)
			if r.IntN(2) == 0 {
				s := fmt.Sprint("n", r.IntN(30))
				g.Members[k].Name = &s
			}
		}
		if r.IntN(2) == 0 {
			g.Attrs = map[string]int64{"a": r.Int64N(5)}
		}
		if r.IntN(3) > 0 {
			g.Deep = &struct {
				A *struct {
					B []int32 `parquet:"b"`
				} `parquet:"a,optional"`
			}{}
			if r.IntN(3) > 0 {
				g.Deep.A = &struct {
					B []int32 `parquet:"b"`
				}{}
				for range r.IntN(4) {
					g.Deep.A.B = append(g.Deep.A.B, r.Int32N(7))
				}
			}
		}
	}
	return rows
}

func goSample(t testing.TB, r *rand.Rand, name string, n int, options ...pgo.WriterOption) sample {
	t.Helper()
	var buf bytes.Buffer
	options = append([]pgo.WriterOption{pgo.PageBufferSize(400), pgo.MaxRowsPerRowGroup(int64(n/3 + 1)),
		pgo.KeyValueMetadata("zeta", "1"), pgo.KeyValueMetadata("alpha", "2")}, options...)
	w := pgo.NewGenericWriter[goRow](&buf, options...)
	rows := goRows(r, n)
	for i := 0; i < n; i += 20 {
		if _, err := w.Write(rows[i:min(n, i+20)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sample{name, buf.Bytes(), n}
}

func goCorpus(t testing.TB) []sample {
	r := rand.New(rand.NewPCG(3, 4))
	var out []sample
	for _, v := range []int{1, 2} {
		out = append(out,
			goSample(t, r, fmt.Sprintf("go/plainstats/v%d", v), 300, pgo.DataPageVersion(v), pgo.DataPageStatistics(true)),
			goSample(t, r, fmt.Sprintf("go/deprecatedstats/v%d", v), 300, pgo.DataPageVersion(v), pgo.DataPageStatistics(true), pgo.DeprecatedDataPageStatistics(true)),
			goSample(t, r, fmt.Sprintf("go/bloom/v%d", v), 300, pgo.DataPageVersion(v),
				pgo.BloomFilters(pgo.SplitBlockFilter(10, "id"), pgo.SplitBlockFilter(10, "email"), pgo.SplitBlockFilter(10, "uuid"))),
			goSample(t, r, fmt.Sprintf("go/smalldict/v%d", v), 300, pgo.DataPageVersion(v), pgo.DictionaryMaxBytes(300)))
	}
	return out
}

func corpus(t testing.TB) []sample { return append(arrowCorpus(t), goCorpus(t)...) }
