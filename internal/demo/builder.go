package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/table"
)

// kind describes a table to make.
type kind struct {
	name    string // "sales.orders"
	percent int64  // of all rows
	version string
	schema  *iceberg.Schema
	spec    *iceberg.PartitionSpec
	codec   compress.Compression
	bloom   string // column with a bloom filter, "" = none
	fill    func(ctx context.Context, b *builder, rows int64) error
}

// builder writes the files of one table.
type builder struct {
	kind
	tbl    *table.Table
	people *people
	mails  []string
	rand   *rand.Rand
	dir    string
	schema *arrow.Schema
	files  []*dataFile
	serial int
}

// dataFile is a written file and who is in its rows.
type dataFile struct {
	path    string // file:// URI, as the metadata has it
	spec    int
	values  map[int]any // partition, by partition field id
	users   [][]int64   // by row
	deleted map[int64]bool
	df      iceberg.DataFile
}

func newBuilder(ctx context.Context, cat catalog.Catalog, dir string, k kind, p *people, o Options) (*builder, error) {
	local := filepath.Join(dir, "warehouse", filepath.FromSlash(strings.ReplaceAll(k.name, ".", "/")))
	if err := os.MkdirAll(filepath.Join(local, "data"), 0o755); err != nil {
		return nil, err
	}
	tbl, err := cat.CreateTable(ctx, catalog.ToIdentifier(strings.Split(k.name, ".")...), k.schema,
		catalog.WithLocation("file://"+local), catalog.WithPartitionSpec(k.spec),
		catalog.WithProperties(iceberg.Properties{"format-version": k.version}))
	if err != nil {
		return nil, err
	}
	b := &builder{kind: k, tbl: tbl, people: p, mails: p.emails(), dir: local, rand: rand.New(rand.NewPCG(o.Seed, uint64(len(k.name))))}
	return b, b.refresh()
}

// refresh takes over the table's schema after a change of it.
func (b *builder) refresh() (err error) {
	b.schema, err = table.SchemaToArrowSchema(b.tbl.Schema(), nil, true, false)
	return err
}

// mail is a user's address.
func (b *builder) mail(id int64) string { return b.mails[id-firstID] }

// writer returns the properties of data files: small pages, several row groups.
func (b *builder) properties() *parquet.WriterProperties {
	opts := []parquet.WriterProperty{
		parquet.WithCompression(b.codec), parquet.WithDictionaryDefault(true), parquet.WithStats(true),
		parquet.WithDataPageSize(32 << 10), parquet.WithMaxRowGroupLength(rowGroup), parquet.WithPageIndexEnabled(true),
		parquet.WithDictionaryPageSizeLimit(4 << 20),
	}
	if b.codec == compress.Codecs.Zstd {
		opts = append(opts, parquet.WithCompressionLevel(1))
	}
	if b.bloom != "" {
		opts = append(opts, parquet.WithBloomFilterEnabledFor(b.bloom, true), parquet.WithBloomFilterFPPFor(b.bloom, 0.01), parquet.WithBloomFilterNDVFor(b.bloom, rowGroup/2))
	}
	return parquet.NewWriterProperties(opts...)
}

// rowGroup is the number of rows in a row group; a file has a few.
const rowGroup = 10_000

// row appends one row to the record and returns the users that it is about.
type row func(rec *array.RecordBuilder) []int64

// write makes a data file of n rows in a partition, still to be committed.
func (b *builder) write(n int64, folder string, values map[int]any, next row) (*dataFile, error) {
	b.serial++
	rec := array.NewRecordBuilder(memory.DefaultAllocator, b.schema)
	defer rec.Release()
	rec.Reserve(int(n))
	spec := b.tbl.Spec()
	f := &dataFile{spec: spec.ID(), values: values, users: make([][]int64, n), deleted: map[int64]bool{}}
	for i := range n {
		f.users[i] = next(rec)
	}
	batch := rec.NewRecordBatch()
	defer batch.Release()
	rel := filepath.Join("data", folder, fmt.Sprintf("%05d.parquet", b.serial))
	args := table.DataFileArgs{
		Schema: b.tbl.Schema(), Spec: spec, Content: iceberg.EntryContentData,
		PartitionValues: values, Properties: b.tbl.Properties(),
	}
	var err error
	f.df, err = b.store(rel, batch, b.properties(), args)
	f.path = "file://" + filepath.Join(b.dir, rel)
	b.files = append(b.files, f)
	return f, err
}

// store writes a record as a Parquet file and describes it.
func (b *builder) store(rel string, rec arrow.RecordBatch, props *parquet.WriterProperties, args table.DataFileArgs) (iceberg.DataFile, error) {
	path := filepath.Join(b.dir, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	counted := &counter{w: out}
	// The writer closes what it is given when that has a Close; the file's is ours.
	w, err := pqarrow.NewFileWriter(rec.Schema(), counted, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	if err := w.Write(rec); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	meta, err := w.FileMetadata()
	if err != nil {
		return nil, err
	}
	args.Format, args.Metadata = iceberg.ParquetFile, meta
	args.FilePath, args.FileSize = "file://"+path, counted.n
	args.FormatVersion = b.tbl.Metadata().Version()
	return table.DataFileFromMetadata(args)
}

// counter counts the bytes written, which is the file's size.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// commit adds data and delete files in one snapshot.
func (b *builder) commit(ctx context.Context, data []*dataFile, deletes []iceberg.DataFile) error {
	tx := b.tbl.NewTransaction()
	delta := tx.NewRowDelta(nil)
	for _, f := range data {
		delta.AddRows(f.df)
	}
	delta.AddDeletes(deletes...)
	if err := delta.Commit(ctx); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return b.apply(ctx, tx)
}

// apply commits a transaction and takes over the new table.
func (b *builder) apply(ctx context.Context, tx *table.Transaction) error {
	tbl, err := tx.Commit(ctx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	b.tbl = tbl
	return b.refresh()
}

// truth counts what is in the table.
func (b *builder) truth(p *people) Table {
	t := Table{Name: "lake." + b.name, Files: len(b.files), Location: b.dir}
	for _, f := range b.files {
		t.Rows += int64(len(f.users))
		t.Deleted += int64(len(f.deleted))
		for i, users := range f.users {
			if f.deleted[int64(i)] {
				continue
			}
			for _, u := range users {
				if p.isErased[u] {
					t.ToErase++
					break
				}
			}
		}
	}
	t.Live = t.Rows - t.Deleted
	return t
}
