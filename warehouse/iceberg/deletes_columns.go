package iceberg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

const (
	// columnBatch is how many values are decoded at a time.
	columnBatch = 2048
	// columnBuffer is the size of a range read of a column chunk.
	columnBuffer = 1 << 20
)

// columnsFile is a Parquet file opened for reading single columns of it, as
// delete files and the columns that equality deletes name are.
type columnsFile struct {
	obj storage.Object
	r   *file.Reader
	ids bool // the columns carry field ids
}

func openColumns(ctx context.Context, store storage.Store, path string) (f *columnsFile, err error) {
	obj, err := store.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open: %w", cleanError(err))
	}
	defer func() {
		if p := recover(); p != nil { // the library panics on some corrupt footers
			err = errors.New("the Parquet footer is corrupt")
		}
		if err != nil {
			f, err = nil, errors.Join(err, obj.Close())
		}
	}()
	props := parquet.NewReaderProperties(memory.NewGoAllocator())
	props.BufferedStreamEnabled = true
	props.BufferSize = columnBuffer
	r, err := file.NewParquetReader(io.NewSectionReader(obj, 0, obj.Info().Size), file.WithReadProps(props))
	if err != nil {
		return nil, fmt.Errorf("read footer: %w", cleanError(err))
	}
	f = &columnsFile{obj: obj, r: r}
	for i := range r.MetaData().Schema.NumColumns() {
		f.ids = f.ids || r.MetaData().Schema.Column(i).SchemaNode().FieldID() >= 0
	}
	return f, nil
}

func (f *columnsFile) Close() error { return f.obj.Close() }

// column finds a leaf by field id, or in a file without ids by path. -1 = none.
func (f *columnsFile) column(id int, paths [][]string) int {
	s := f.r.MetaData().Schema
	for i := range s.NumColumns() {
		c := s.Column(i)
		if f.ids {
			if int(c.SchemaNode().FieldID()) == id {
				return i
			}
			continue
		}
		if slices.ContainsFunc(paths, func(p []string) bool { return slices.Equal(p, []string(c.ColumnPath())) }) {
			return i
		}
	}
	return -1
}

// eachTuple calls visit with the row number and the values of the columns of
// every row, encoded so that equal tuples have equal bytes. A column of -1
// contributes the given constant. The tuple is valid until visit returns.
// keep, when not nil, says which row groups to read; numbers count all rows.
func (f *columnsFile) eachTuple(ctx context.Context, cols []tupleColumn, keep func(rowGroup int) bool, visit func(row int64, tuple []byte) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("a column of the Parquet file is corrupt")
		}
	}()
	var base int64
	var buf []byte
	for g := range f.r.NumRowGroups() {
		rows := f.r.MetaData().RowGroup(g).NumRows()
		if keep != nil && !keep(g) {
			base += rows
			continue
		}
		cursors, err := f.cursors(g, cols)
		if err != nil {
			return err
		}
		for i := range rows {
			if i%columnBatch == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			buf = buf[:0]
			for c := range cols {
				if cursors[c] == nil {
					buf = append(buf, cols[c].constant...)
					continue
				}
				if buf, err = cursors[c].appendNext(buf); err != nil {
					return err
				}
			}
			if err := visit(base+i, buf); err != nil {
				return err
			}
		}
		base += rows
	}
	return nil
}

// tupleColumn is one column of a tuple.
type tupleColumn struct {
	index    int    // leaf column of the file, -1 = not in the file
	constant []byte // what every row holds then, encoded
	days     int64  // units a day, where dates are compared with timestamps; 0 = as stored
}

func (f *columnsFile) cursors(group int, cols []tupleColumn) ([]*columnCursor, error) {
	out := make([]*columnCursor, len(cols))
	for i, c := range cols {
		if c.index < 0 {
			continue
		}
		r, err := f.r.RowGroup(group).Column(c.index)
		if err != nil {
			return nil, fmt.Errorf("open column: %w", cleanError(err))
		}
		if out[i], err = newCursor(r, c.days); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// columnCursor walks one column chunk value by value.
type columnCursor struct {
	maxDef int16
	fill   func(def []int16) (levels int64, values int, err error) // decodes a batch and encodes it
	def    []int16
	at, n  int // next level, levels decoded
	data   []byte
	ends   []int
	value  int // next value
}

func (c *columnCursor) appendNext(dst []byte) ([]byte, error) {
	if c.at == c.n {
		c.data, c.ends = c.data[:0], c.ends[:0]
		levels, _, err := c.fill(c.def)
		if err != nil {
			return dst, fmt.Errorf("read column: %w", cleanError(err))
		}
		if levels == 0 {
			return dst, errors.New("read column: it ends before the row group does")
		}
		c.at, c.n, c.value = 0, int(levels), 0
	}
	null := c.maxDef > 0 && c.def[c.at] < c.maxDef
	c.at++
	if null {
		return appendNullValue(dst), nil
	}
	if c.value >= len(c.ends) {
		return dst, errors.New("read column: fewer values than levels")
	}
	start := 0
	if c.value > 0 {
		start = c.ends[c.value-1]
	}
	v := c.data[start:c.ends[c.value]]
	c.value++
	return appendTupleBytes(dst, v), nil
}

// A value in a tuple: 0 for NULL, or 1, a length and the bytes.
func appendNullValue(dst []byte) []byte { return append(dst, 0) }

func appendTupleBytes(dst, v []byte) []byte {
	return append(binary.AppendUvarint(append(dst, 1), uint64(len(v))), v...)
}

func (c *columnCursor) int(v int64) {
	c.data = binary.BigEndian.AppendUint64(c.data, uint64(v))
	c.ends = append(c.ends, len(c.data))
}

func (c *columnCursor) float(v float64) {
	if v != v {
		v = math.NaN() // every NaN is one value
	}
	c.data = binary.BigEndian.AppendUint64(c.data, math.Float64bits(v))
	c.ends = append(c.ends, len(c.data))
}

func (c *columnCursor) bytes(v []byte) {
	c.data = append(c.data, v...)
	c.ends = append(c.ends, len(c.data))
}

// unscaled encodes a decimal's big-endian value without its redundant sign bytes.
func (c *columnCursor) unscaled(v []byte) { c.bytes(trimSign(v)) }

func trimSign(v []byte) []byte {
	for len(v) > 1 && (v[0] == 0 && v[1]&0x80 == 0 || v[0] == 0xff && v[1]&0x80 != 0) {
		v = v[1:]
	}
	return v
}

// newCursor chooses the encoding by the column's stored type, so that a value
// is the same before and after the promotions that Iceberg allows: int to long,
// float to double, a decimal's wider precision.
func newCursor(r file.ColumnChunkReader, days int64) (*columnCursor, error) {
	if r.Descriptor().MaxRepetitionLevel() > 0 {
		return nil, fmt.Errorf("a column inside a list or map: %w", warehouse.ErrUnsupported)
	}
	return newAnyCursor(r, days)
}

// newValueCursor is newCursor for any column, where rows do not matter.
func newValueCursor(r file.ColumnChunkReader) (*columnCursor, error) { return newAnyCursor(r, 0) }

func newAnyCursor(r file.ColumnChunkReader, days int64) (*columnCursor, error) {
	d := r.Descriptor()
	c := &columnCursor{maxDef: d.MaxDefinitionLevel(), def: make([]int16, columnBatch)}
	isDecimal := isDecimal(d)
	scale := intScale(d, days)
	switch r := r.(type) {
	case *file.BooleanColumnChunkReader:
		c.fill = filler(r, func(v bool) {
			if v {
				c.bytes([]byte{1})
			} else {
				c.bytes([]byte{0})
			}
		})
	case *file.Int32ColumnChunkReader:
		c.fill = filler(r, c.ints32(isDecimal, scale))
	case *file.Int64ColumnChunkReader:
		c.fill = filler(r, c.ints64(isDecimal, scale))
	case *file.Int96ColumnChunkReader:
		c.fill = filler(r, func(v parquet.Int96) { c.int(v.ToTime().UnixMicro()) })
	case *file.Float32ColumnChunkReader:
		c.fill = filler(r, func(v float32) { c.float(float64(v)) })
	case *file.Float64ColumnChunkReader:
		c.fill = filler(r, c.float)
	case *file.ByteArrayColumnChunkReader:
		put := c.bytes
		if isDecimal {
			put = c.unscaled
		}
		c.fill = filler(r, func(v parquet.ByteArray) { put(v) })
	case *file.FixedLenByteArrayColumnChunkReader:
		put := c.bytes
		if isDecimal {
			put = c.unscaled
		}
		c.fill = filler(r, func(v parquet.FixedLenByteArray) { put(v) })
	default:
		return nil, fmt.Errorf("a column of this stored type: %w", warehouse.ErrUnsupported)
	}
	return c, nil
}

func (c *columnCursor) ints32(isDecimal bool, scale int64) func(int32) {
	put := c.ints64(isDecimal, scale)
	return func(v int32) { put(int64(v)) }
}

func (c *columnCursor) ints64(isDecimal bool, scale int64) func(int64) {
	if isDecimal {
		return func(v int64) {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], uint64(v))
			c.unscaled(b[:])
		}
	}
	return func(v int64) { c.int(v * scale) }
}

func isDecimal(d *schema.Column) bool {
	_, ok := d.LogicalType().(schema.DecimalLogicalType)
	return ok || d.ConvertedType() == schema.ConvertedTypes.Decimal
}

// intScale is what an integer is multiplied with: milliseconds become the
// microseconds that Iceberg counts, days become units of a timestamp.
func intScale(d *schema.Column, days int64) int64 {
	switch t := d.LogicalType().(type) {
	case schema.TimestampLogicalType:
		if t.TimeUnit() == schema.TimeUnitMillis {
			return 1000
		}
	case schema.TimeLogicalType:
		if t.TimeUnit() == schema.TimeUnitMillis {
			return 1000
		}
	case schema.DateLogicalType:
		if days > 0 {
			return days
		}
	}
	switch d.ConvertedType() {
	case schema.ConvertedTypes.TimestampMillis, schema.ConvertedTypes.TimeMillis:
		return 1000
	case schema.ConvertedTypes.Date:
		if days > 0 {
			return days
		}
	}
	return 1
}

// pageReader is what arrow-go's typed column readers have in common.
type pageReader[T any] interface {
	HasNext() bool
	ReadBatchInPage(batchSize int64, values []T, defLvls, repLvls []int16) (total int64, valuesRead int, err error)
}

// filler reads within one page at a time: values of byte arrays point into the
// page, which the next page overwrites.
func filler[T any](r pageReader[T], put func(T)) func(def []int16) (int64, int, error) {
	values := make([]T, columnBatch)
	rep := make([]int16, columnBatch)
	return func(def []int16) (int64, int, error) {
		for r.HasNext() {
			levels, n, err := r.ReadBatchInPage(columnBatch, values, def, rep)
			if err != nil {
				return 0, 0, err
			}
			for _, v := range values[:n] {
				put(v)
			}
			if levels > 0 {
				return levels, n, nil
			}
		}
		return 0, 0, nil
	}
}

// pathOf writes a leaf's path for messages.
func pathOf(p []string) string { return strings.Join(p, ".") }
