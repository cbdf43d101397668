package testlake

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/bloom/xxhash"

	"github.com/expunge/expunge/internal/pq"
)

// What tools that filter rows leave in files that they write back: residue of a
// row in a live file that has no such row.

// AppendStaleEntry appends rows whose e-mail dictionary has an entry more, that
// of a row which is not there.
func (l *Lake) AppendStaleEntry(gone int, ids ...int) {
	l.t.Helper()
	plain := l.record(l.arrowSchema(l.Tbl.Schema()), append(ids, gone)...)
	defer plain.Release()
	index := array.NewInt32Builder(memory.DefaultAllocator)
	defer index.Release()
	for i := range ids {
		index.Append(int32(i))
	}
	typ := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	mails := array.NewDictionaryArray(typ, index.NewArray(), plain.Column(1))
	defer mails.Release()
	fields := plain.Schema().Fields()
	fields[1].Type = typ
	rec := array.NewRecordBatch(arrow.NewSchema(fields, nil),
		[]arrow.Array{array.NewSlice(plain.Column(0), 0, int64(len(ids))), mails, array.NewSlice(plain.Column(2), 0, int64(len(ids)))}, int64(len(ids)))
	l.addFile(l.encode(rec))
}

// AppendStaleBound appends rows of ascending ids whose statistics name a lower
// id as the first.
func (l *Lake) AppendStaleBound(gone int, ids ...int) {
	l.t.Helper()
	raw := l.encode(l.record(l.arrowSchema(l.Tbl.Schema()), ids...))
	f := l.open(raw)
	at := int64(4)
	for _, col := range f.Schema.Columns {
		at = max(at, l.chunk(f, col).End)
	}
	old, stale := binary.LittleEndian.AppendUint64(nil, uint64(ids[0])), binary.LittleEndian.AppendUint64(nil, uint64(gone))
	if !bytes.Contains(raw[at:], old) {
		l.t.Fatal("the file has no such bound")
	}
	l.addFile(append(raw[:at:at], bytes.ReplaceAll(raw[at:], old, stale)...))
}

// AppendStaleBloom appends rows whose e-mails' bloom filter knows one more.
func (l *Lake) AppendStaleBloom(gone int, ids ...int) {
	l.t.Helper()
	raw := l.encode(l.record(l.arrowSchema(l.Tbl.Schema()), ids...))
	f := l.open(raw)
	c := l.chunk(f, f.Schema.Columns[1])
	b, err := c.Bloom()
	if err != nil || b == nil {
		l.t.Fatalf("bloom filter: %v", err)
	}
	bits := raw[c.Meta.BloomFilterOffset+int64(b.Header):][:len(b.Raw)-b.Header]
	filter := make(bloom.SplitBlockFilter, len(bits)/bloom.BlockSize)
	copy(filter.Bytes(), bits)
	filter.Insert(xxhash.Sum64([]byte(Mail(gone))))
	copy(bits, filter.Bytes())
	l.addFile(raw)
}

// KnownToBlooms says in how many live files a bloom filter knows an e-mail.
func (l *Lake) KnownToBlooms(id int) (n int) {
	l.t.Helper()
	for _, df := range l.Files() {
		raw, err := os.ReadFile(Local(df.FilePath()))
		if err != nil {
			l.t.Fatal(err)
		}
		f := l.open(raw)
		b, err := l.chunk(f, f.Schema.Columns[1]).Bloom()
		if err != nil {
			l.t.Fatal(err)
		}
		if b != nil && b.MayContain(xxhash.Sum64([]byte(Mail(id)))) {
			n++
		}
	}
	return n
}

func (l *Lake) open(raw []byte) *pq.File {
	l.t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		l.t.Fatal(err)
	}
	return f
}

func (l *Lake) chunk(f *pq.File, col *pq.Column) *pq.Chunk {
	l.t.Helper()
	c, err := f.RowGroups[0].Chunk(col)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// encode writes a record as Arrow does, with a bloom filter of the e-mails.
func (l *Lake) encode(rec arrow.RecordBatch) []byte {
	l.t.Helper()
	var out bytes.Buffer
	props := parquet.NewWriterProperties(parquet.WithDictionaryDefault(true), parquet.WithStats(true), parquet.WithPageIndexEnabled(true),
		parquet.WithBloomFilterEnabledFor("email", true), parquet.WithBloomFilterNDVFor("email", 100))
	w, err := pqarrow.NewFileWriter(rec.Schema(), &out, props, pqarrow.DefaultWriterProps())
	if err == nil {
		err = w.Write(rec)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return out.Bytes()
}

// addFile stores a file and appends it to the table, by its own metrics.
func (l *Lake) addFile(raw []byte) {
	l.t.Helper()
	path := l.path("stale")
	if err := os.MkdirAll(l.Location()+"/data", 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		l.t.Fatal(err)
	}
	r, err := file.NewParquetReader(bytes.NewReader(raw))
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Close()
	df, err := table.DataFileFromMetadata(table.DataFileArgs{
		Schema: l.Tbl.Schema(), Spec: l.Tbl.Spec(), Content: iceberg.EntryContentData, Properties: l.Tbl.Properties(), Format: iceberg.ParquetFile,
		Metadata: r.MetaData(), FilePath: "file://" + path, FileSize: int64(len(raw)), FormatVersion: l.Tbl.Metadata().Version(),
	})
	if err != nil {
		l.t.Fatal(err)
	}
	tx := l.Tbl.NewTransaction()
	if err := tx.AddDataFiles(context.Background(), []iceberg.DataFile{df}, nil); err != nil {
		l.t.Fatal(err)
	}
	l.Commit(tx)
}
