package pq_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

func smallFile(t testing.TB, o ...parquet.WriterOption) []byte {
	c := &column{name: "c", typ: format.Int64, enc: &parquet.Plain, chain: chains["opt"]}
	c.generate(rand.New(rand.NewPCG(1, 1)), 200, 0)
	return writeParquetGo(t, []*column{c}, &parquet.Snappy, append(o, parquet.PageBufferSize(256))...)
}

// refoot changes a file's decoded footer and writes it back.
func refoot(t testing.TB, b []byte, change func(*format.FileMetaData)) []byte {
	t.Helper()
	f := open(t, b)
	m := *f.Meta
	change(&m)
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), m)
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(b[:f.FooterOffset]), footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, "PAR1"...)
}

func TestUnreadableFilesAreNamedByKindAndPlace(t *testing.T) {
	good := smallFile(t)
	if err := readEverything(good); err != nil {
		t.Fatal(err)
	}
	chunk := func(m *format.FileMetaData) *format.ColumnChunk { return &m.RowGroups[0].Columns[0] }
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0xff
		return b
	}
	meta := open(t, good).RowGroups[0].Meta.Columns[0].MetaData
	body := meta.DataPageOffset + meta.TotalCompressedSize - 3
	for name, c := range map[string]struct {
		file  []byte
		kind  error
		place string
	}{
		"empty":              {nil, pq.ErrCorrupt, "footer"},
		"truncated":          {good[:len(good)-20], pq.ErrCorrupt, "footer"},
		"footer length":      {flip(len(good) - 7), pq.ErrCorrupt, "footer"},
		"magic":              {flip(0), pq.ErrCorrupt, "footer"},
		"page body":          {flip(int(body)), pq.ErrCorrupt, "row group 0, column c, page at"},
		"encrypted footer":   {append(bytes.Clone(good[:len(good)-4]), "PARE"...), pq.ErrUnsupported, "footer"},
		"legacy LZ4":         {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.Codec = format.Lz4 }), pq.ErrUnsupported, "row group 0, column c"},
		"LZO":                {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.Codec = format.LZO }), pq.ErrUnsupported, "row group 0, column c"},
		"unknown codec":      {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.Codec = 77 }), pq.ErrUnsupported, "row group 0, column c"},
		"external chunk":     {refoot(t, good, func(m *format.FileMetaData) { chunk(m).FilePath = "x" }), pq.ErrUnsupported, "row group 0, column c"},
		"encrypted column":   {refoot(t, good, func(m *format.FileMetaData) { chunk(m).CryptoMetadata.Value = &format.EncryptionWithFooterKey{} }), pq.ErrUnsupported, "row group 0, column c"},
		"signed footer":      {refoot(t, good, func(m *format.FileMetaData) { m.EncryptionAlgorithm.Value = &format.AesGcmV1{} }), pq.ErrUnsupported, "footer"},
		"chunk behind":       {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.TotalCompressedSize = 1 << 40 }), pq.ErrCorrupt, "row group 0, column c"},
		"chunk overflow":     {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.TotalCompressedSize = 1<<63 - 1 }), pq.ErrCorrupt, "row group 0, column c"},
		"too many values":    {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.NumValues++ }), pq.ErrCorrupt, "row group 0, column c"},
		"rows":               {refoot(t, good, func(m *format.FileMetaData) { m.NumRows++ }), pq.ErrCorrupt, "footer"},
		"type":               {refoot(t, good, func(m *format.FileMetaData) { chunk(m).MetaData.Type = format.Double }), pq.ErrCorrupt, "row group 0, column c"},
		"missing chunk":      {refoot(t, good, func(m *format.FileMetaData) { m.RowGroups[0].Columns = nil }), pq.ErrCorrupt, "footer"},
		"index behind":       {refoot(t, good, func(m *format.FileMetaData) { chunk(m).OffsetIndexOffset = 1 << 50 }), pq.ErrCorrupt, "row group 0, column c, offset index"},
		"index is elsewhere": {refoot(t, good, func(m *format.FileMetaData) { chunk(m).OffsetIndexOffset++ }), pq.ErrCorrupt, "row group 0, column c, offset index"},
	} {
		err := readEverything(c.file)
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
			continue
		}
		var e *pq.Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Where, c.place) {
			t.Errorf("%s: place %q, want %q", name, e.Where, c.place)
		}
	}
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestReadErrorsAreNotTakenForCorruption(t *testing.T) {
	want := errors.New("network is down")
	_, err := pq.Open(context.Background(), failingReader{want}, 1000)
	if !errors.Is(err, want) || errors.Is(err, pq.ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestCancelledContextEndsAWalk(t *testing.T) {
	f := open(t, smallFile(t))
	c, err := f.RowGroups[0].Chunk(f.Schema.Columns[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := c.Pages(ctx, pq.ReadOptions{})
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.Next(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// The raw bytes that a walk hands out, put together, are the chunk.
func TestPagesAreTheChunkByteForByte(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	cols := matrix(r, 100)
	b := writeParquetGo(t, cols, &parquet.Zstd, parquet.PageBufferSize(300))
	f := open(t, b)
	for _, g := range f.RowGroups {
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			pages := c.Pages(context.Background(), pq.ReadOptions{Window: 100})
			for {
				p, err := pages.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if p.Offset != c.Start+int64(len(got)) || p.Size() != int64(len(p.RawHeader)+len(p.Body)) {
					t.Fatalf("page at %d of %d bytes", p.Offset, p.Size())
				}
				got = append(append(got, p.RawHeader...), p.Body...)
			}
			if !bytes.Equal(got, b[c.Start:c.End]) {
				t.Fatalf("column %s: pages are not the chunk", col.Name())
			}
			pages.Close()
		}
	}
}

// A value that was written is never denied by its filter.
func TestBloomFilterHoldsEveryValue(t *testing.T) {
	type row struct {
		K int64 `parquet:"k"`
	}
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[row](&buf, parquet.BloomFilters(parquet.SplitBlockFilter(10, "k")))
	for i := range int64(1000) {
		if _, err := w.Write([]row{{i * 7}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f := open(t, buf.Bytes())
	c, err := f.RowGroups[0].Chunk(f.Schema.Columns[0])
	if err != nil {
		t.Fatal(err)
	}
	bloom, err := c.Bloom()
	if err != nil || bloom == nil {
		t.Fatal(bloom, err)
	}
	hash := func(v int64) uint64 { return xxhash.Sum64(binary.LittleEndian.AppendUint64(nil, uint64(v))) }
	wrong := 0
	for i := range int64(7000) {
		if has := i%7 == 0; has && !bloom.MayContain(hash(i)) {
			t.Fatalf("value %d is denied", i)
		} else if !has && bloom.MayContain(hash(i)) {
			wrong++
		}
	}
	if wrong > 300 {
		t.Fatalf("%d of 6000 absent values pass: not the hash of the format", wrong)
	}
}

// A body that expands beyond what it announces, or less, is refused, and what
// it announces is not allocated on its word.
func TestAnnouncedSizesAreNotBelieved(t *testing.T) {
	for _, codec := range []format.CompressionCodec{format.Snappy, format.Gzip, format.Zstd, format.Lz4Raw, format.Brotli} {
		for _, size := range []int{0, 1, 99, 101, 1 << 20, 1 << 31} {
			body := compressed(t, codec, bytes.Repeat([]byte("x"), 100))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := pq.Decompress(codec, nil, body, size); !errors.Is(err, pq.ErrCorrupt) {
				t.Errorf("%s, %d bytes announced: %v", codec, size, err)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
				t.Errorf("%s, %d bytes announced: %d allocated", codec, size, n)
			}
		}
		out, err := pq.Decompress(codec, nil, compressed(t, codec, bytes.Repeat([]byte("x"), 100)), 100)
		if err != nil || len(out) != 100 {
			t.Errorf("%s: %v", codec, err)
		}
	}
}

func compressed(t *testing.T, codec format.CompressionCodec, b []byte) []byte {
	t.Helper()
	for _, c := range codecs {
		if c.CompressionCodec() == codec {
			out, err := c.Encode(nil, b)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	t.Fatal("no such codec")
	return nil
}
