package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// stripped writes delete files without the tuples that leave and returns the
// manifests of the new ones. A delete file that has no other tuple just goes.
func (a *author) stripped(ctx context.Context, runID string, strips []*strip, listed map[pathKey]iceberg.DataFile, stats *changes) ([]iceberg.ManifestFile, error) {
	rolls := map[int32]*roll{}
	defer func() {
		for _, r := range rolls {
			r.abort()
		}
	}()
	for i, s := range strips {
		old := listed[s.key]
		if old == nil {
			return nil, fmt.Errorf("an equality delete file is no longer listed")
		}
		stats.removeDelete(deleteEquality, s.rows, s.file.Size)
		path := fmt.Sprintf("%s/deletes-%d-%d.parquet", outputDir(a.meta, runID), a.snapID, i)
		out, err := a.t.stripFile(ctx, s, path)
		if err != nil {
			return nil, fmt.Errorf("rewrite equality delete file: %w", hide(err))
		}
		if out == nil {
			continue
		}
		r := rolls[s.spec]
		if r == nil {
			r = &roll{a: a, spec: int(s.spec), content: iceberg.ManifestContentDeletes, limit: manifestTarget}
			rolls[s.spec] = r
		}
		df, err := a.equalityFile(s, old, out)
		if err != nil {
			return nil, err
		}
		if err := r.added(ctx, a.sequence(s.file.Sequence), df); err != nil {
			return nil, err
		}
		stats.addedEqFiles++
		stats.addedEq += out.Rows
		stats.addedDeleteBytes += out.Size
	}
	var done []iceberg.ManifestFile
	for _, spec := range slices.Sorted(maps.Keys(rolls)) {
		if err := rolls[spec].close(); err != nil {
			return nil, err
		}
		done = append(done, rolls[spec].done...)
	}
	return done, nil
}

func (a *author) equalityFile(s *strip, old iceberg.DataFile, o *warehouse.Output) (iceberg.DataFile, error) {
	spec := a.meta.PartitionSpecByID(int(s.spec))
	if spec == nil {
		return nil, fmt.Errorf("write manifest: partition spec %d is not in the table's metadata", s.spec)
	}
	b, err := iceberg.NewDataFileBuilder(*spec, iceberg.EntryContentEqDeletes, o.Path, iceberg.ParquetFile,
		old.Partition(), nil, nil, o.Rows, o.Size)
	if err != nil {
		return nil, fmt.Errorf("write manifest entry: %w", hide(err))
	}
	m := o.Metrics
	b.EqualityFieldIDs(s.file.EqualityIDs).ColumnSizes(orEmpty(m.ColumnSizes)).ValueCounts(orEmpty(m.ValueCounts)).
		NullValueCounts(orEmpty(m.NullCounts)).NaNValueCounts(orEmpty(m.NaNCounts)).
		LowerBoundValues(orEmpty(m.Lower)).UpperBoundValues(orEmpty(m.Upper))
	if id := old.SortOrderID(); id != nil {
		b.SortOrderID(*id)
	}
	return b.Build(), nil
}

// stripFile copies a delete file without the rows that leave; nil when none is left.
func (t *Table) stripFile(ctx context.Context, s *strip, path string) (*warehouse.Output, error) {
	leave, rows, err := t.leavingRows(ctx, s)
	if err != nil {
		return nil, err
	}
	if uint64(rows) == leave.GetCardinality() {
		return nil, nil
	}
	obj, err := t.store.Open(ctx, s.file.Path)
	if err != nil {
		return nil, err
	}
	defer obj.Close()
	r, err := file.NewParquetReader(io.NewSectionReader(obj, 0, obj.Info().Size))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sink, err := t.store.Create(ctx, path, storage.CreateOptions{})
	if err != nil {
		return nil, err
	}
	counted := &countingWriter{w: sink}
	if err := copyRows(ctx, r, counted, leave); err != nil {
		return nil, errors.Join(err, sink.Abort())
	}
	if err := sink.Close(); err != nil {
		return nil, err
	}
	m, err := t.Metrics(ctx, path)
	if err != nil {
		return nil, err
	}
	return &warehouse.Output{Path: path, Size: counted.n, Rows: rows - int64(leave.GetCardinality()), Metrics: m}, nil
}

func (t *Table) leavingRows(ctx context.Context, s *strip) (*roaring64.Bitmap, int64, error) {
	f, err := openColumns(ctx, t.store, s.file.Path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	cols, err := f.tupleColumns(s.group.fields, false)
	if err != nil {
		return nil, 0, err
	}
	leave, rows := roaring64.New(), int64(0)
	err = f.eachTuple(ctx, cols, nil, func(row int64, tuple []byte) error {
		rows++
		if s.leaves(tuple) {
			leave.Add(uint64(row))
		}
		return nil
	})
	return leave, rows, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// copyRows copies a Parquet file without some rows: schema, field ids, codec
// and key-value metadata as they were, everything else written anew.
func copyRows(ctx context.Context, r *file.Reader, w io.Writer, leave *roaring64.Bitmap) error {
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: columnBatch}, memory.NewGoAllocator())
	if err != nil {
		return err
	}
	in, err := fr.GetRecordReader(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer in.Release()
	codec := compress.Codecs.Uncompressed
	if r.NumRowGroups() > 0 && r.MetaData().Schema.NumColumns() > 0 {
		if chunk, err := r.MetaData().RowGroup(0).ColumnChunk(0); err == nil {
			codec = chunk.Compression()
		}
	}
	out, err := pqarrow.NewFileWriter(in.Schema(), w, parquet.NewWriterProperties(parquet.WithCompression(codec), parquet.WithStats(true)), pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	kv := r.MetaData().KeyValueMetadata()
	for i, key := range kv.Keys() {
		if err := out.AppendKeyValueMetadata(key, kv.Values()[i]); err != nil {
			return err
		}
	}
	base := int64(0)
	for in.Next() {
		rec := in.RecordBatch()
		for at := int64(0); at < rec.NumRows(); {
			end := at
			for end < rec.NumRows() && !leave.Contains(uint64(base+end)) {
				end++
			}
			if end > at {
				if err := out.WriteBuffered(rec.NewSlice(at, end)); err != nil {
					return err
				}
			}
			at = end + 1
		}
		base += rec.NumRows()
	}
	if err := in.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return out.Close()
}
