package verifier

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// leafBatch is how many level entries are decoded at a time.
const leafBatch = 4096

// batch is a run of level entries of one leaf column, with the values of those
// that are not null. It is valid until the next one is read.
type batch struct {
	n        int     // level entries
	def, rep []int16 // nil when the maximum level is 0
	nvals    int     // values, nulls left out

	// Values are in one of these.
	raw    []byte                      // PLAIN byte arrays, each behind its length:
	starts []uint32                    // value i is raw[starts[i]+4 : starts[i+1]]
	width  int                         // bytes a value of a fixed-width type
	fixed  []byte                      // nvals × width, as stored (little endian)
	bytes  []parquet.ByteArray         // BYTE_ARRAY
	flba   []parquet.FixedLenByteArray // FIXED_LEN_BYTE_ARRAY
}

// value returns the i-th value's bytes: PLAIN encoding without a length.
func (b *batch) value(i int) []byte {
	switch {
	case b.starts != nil:
		return b.raw[b.starts[i]+4 : b.starts[i+1]]
	case b.bytes != nil:
		return b.bytes[i]
	case b.flba != nil:
		return b.flba[i]
	default:
		return b.fixed[i*b.width : (i+1)*b.width]
	}
}

// leaf reads one leaf column of a whole file, row group by row group.
type leaf struct {
	ctx  context.Context
	f    *parquetFile
	col  int
	desc *schema.Column
	rg   int // next row group
	stop int // row group to end before
	rdr  file.ColumnChunkReader
	want int64 // level entries that the row group's metadata promises
	seen int64

	b    batch
	i32  []int32
	i64  []int64
	i96  []parquet.Int96
	f32  []float32
	f64  []float64
	bool []bool
	ba   []parquet.ByteArray
	fl   []parquet.FixedLenByteArray
	defs []int16
	reps []int16
	bits []byte

	pageDefs, pageReps []int16 // levels of a whole page, and
	starts             []uint32
}

func (f *parquetFile) leaf(ctx context.Context, col int) *leaf {
	d := f.MetaData().Schema.Column(col)
	l := &leaf{ctx: ctx, f: f, col: col, desc: d, stop: f.NumRowGroups()}
	if d.MaxDefinitionLevel() > 0 {
		l.defs = make([]int16, leafBatch)
	}
	if d.MaxRepetitionLevel() > 0 {
		l.reps = make([]int16, leafBatch)
	}
	return l
}

// group restarts the reader on one row group.
func (l *leaf) group(rg int) {
	l.close()
	l.rg, l.stop = rg, rg+1
}

func (l *leaf) maxDef() int16 { return l.desc.MaxDefinitionLevel() }

// next returns the next batch, or nil at the end of the file.
func (l *leaf) next() (b *batch, err error) {
	defer guard(&err)
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	for {
		if l.rdr == nil {
			if l.rg >= l.stop {
				return nil, nil
			}
			if err := l.open(); err != nil {
				return nil, err
			}
		}
		if l.rdr.HasNext() {
			return l.decode()
		}
		if err := l.finish(); err != nil {
			return nil, err
		}
	}
}

// open starts the next row group.
func (l *leaf) open() error {
	g := l.f.RowGroup(l.rg)
	l.rg++
	c, err := g.MetaData().ColumnChunk(l.col)
	if err != nil {
		return fmt.Errorf("read column chunk: %w", err)
	}
	l.want, l.seen = c.NumValues(), 0
	if l.rdr, err = columnReader(g, l.col, l.f.BufferPool()); err != nil {
		return fmt.Errorf("read column chunk: %w", err)
	}
	return nil
}

// finish closes a row group; one that ended early is an error, not an end.
func (l *leaf) finish() error {
	err := l.rdr.Err()
	if cerr := l.rdr.Close(); err == nil {
		err = cerr
	}
	l.rdr = nil
	if err != nil {
		return fmt.Errorf("decode pages: %w", err)
	}
	if l.seen != l.want {
		return fmt.Errorf("a column chunk has fewer values than its metadata says: %w", errCorrupt)
	}
	return nil
}

// close releases what is open when the reader is left early.
func (l *leaf) close() {
	if l.rdr != nil {
		l.rdr.Close()
		l.rdr = nil
	}
}

// decode reads within one page: values of byte arrays alias it.
func (l *leaf) decode() (*batch, error) {
	var total int64
	var n int
	var err error
	l.b.bytes, l.b.flba, l.b.raw, l.b.starts = nil, nil, nil, nil
	switch r := l.rdr.(type) {
	case *file.Int32ColumnChunkReader:
		grow(&l.i32)
		total, n, err = r.ReadBatchInPage(leafBatch, l.i32, l.defs, l.reps)
		l.b.fixed, l.b.width = arrow.Int32Traits.CastToBytes(l.i32[:n]), 4
	case *file.Int64ColumnChunkReader:
		grow(&l.i64)
		total, n, err = r.ReadBatchInPage(leafBatch, l.i64, l.defs, l.reps)
		l.b.fixed, l.b.width = arrow.Int64Traits.CastToBytes(l.i64[:n]), 8
	case *file.Int96ColumnChunkReader:
		grow(&l.i96)
		total, n, err = r.ReadBatchInPage(leafBatch, l.i96, l.defs, l.reps)
		l.b.fixed, l.b.width = parquet.Int96Traits.CastToBytes(l.i96[:n]), 12
	case *file.Float32ColumnChunkReader:
		grow(&l.f32)
		total, n, err = r.ReadBatchInPage(leafBatch, l.f32, l.defs, l.reps)
		l.b.fixed, l.b.width = arrow.Float32Traits.CastToBytes(l.f32[:n]), 4
	case *file.Float64ColumnChunkReader:
		grow(&l.f64)
		total, n, err = r.ReadBatchInPage(leafBatch, l.f64, l.defs, l.reps)
		l.b.fixed, l.b.width = arrow.Float64Traits.CastToBytes(l.f64[:n]), 8
	case *file.BooleanColumnChunkReader:
		grow(&l.bool)
		total, n, err = r.ReadBatchInPage(leafBatch, l.bool, l.defs, l.reps)
		l.b.fixed, l.b.width = l.boolBytes(n), 1
	case *file.ByteArrayColumnChunkReader:
		grow(&l.ba)
		total, n, err = r.ReadBatchInPage(leafBatch, l.ba, l.defs, l.reps)
		l.b.bytes, l.b.width = l.ba[:n], 0
	case *file.FixedLenByteArrayColumnChunkReader:
		grow(&l.fl)
		total, n, err = r.ReadBatchInPage(leafBatch, l.fl, l.defs, l.reps)
		l.b.flba, l.b.width = l.fl[:n], 0
	default:
		return nil, fmt.Errorf("decode pages: unknown physical type: %w", errCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("decode pages: %w", err)
	}
	if err := l.narrow(n); err != nil {
		return nil, err
	}
	if total == 0 {
		return nil, fmt.Errorf("decode pages: %w", errCorrupt)
	}
	l.seen += total
	l.b.n, l.b.nvals = int(total), n
	l.b.def, l.b.rep = nil, nil
	if l.defs != nil {
		l.b.def = l.defs[:total]
	}
	if l.reps != nil {
		l.b.rep = l.reps[:total]
	}
	return &l.b, l.consistent()
}

// consistent checks that there is one value for every entry at the maximum level.
func (l *leaf) consistent() error {
	want := l.b.n
	if l.b.def != nil {
		want = countLevel(l.b.def, l.maxDef())
	}
	if want != l.b.nvals {
		return fmt.Errorf("decode pages: levels and values disagree: %w", errCorrupt)
	}
	return nil
}

func countLevel(levels []int16, v int16) (n int) {
	for _, l := range levels {
		if l == v {
			n++
		}
	}
	return n
}

func (l *leaf) boolBytes(n int) []byte {
	l.bits = l.bits[:0]
	for _, v := range l.bool[:n] {
		if v {
			l.bits = append(l.bits, 1)
		} else {
			l.bits = append(l.bits, 0)
		}
	}
	return l.bits
}

func grow[T any](s *[]T) {
	if *s == nil {
		*s = make([]T, leafBatch)
	}
}
