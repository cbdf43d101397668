package scanner

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// ErrRepeated: a column inside a list or map has no single value a row.
var ErrRepeated = errors.New("column is inside a list or map")

// Batch is some consecutive rows of several columns. It is valid until visit
// returns.
type Batch struct {
	FirstRow int64 // file row position
	Rows     int
	Columns  []ColumnBatch // as asked for
}

// ColumnBatch is one column of a batch: one value a row, zero (or empty) where
// the row has none. Which slice is filled follows from Type.
type ColumnBatch struct {
	Missing bool // the file has no such column: NULL in every row
	Type    format.Type
	Logical format.LogicalTypeValue // nil = none
	Valid   []bool                  // nil = every row has a value

	Bools   []bool
	Int32   []int32
	Int64   []int64
	Floats  []float32
	Doubles []float64
	// Bytes holds BYTE_ARRAY values, the i-th at Bytes[Offsets[i]:Offsets[i+1]],
	// and INT96 and FIXED_LEN_BYTE_ARRAY values of Width bytes each.
	Bytes   []byte
	Offsets []uint32
	Width   int
}

// IsNull says that row i of the batch has no value.
func (c *ColumnBatch) IsNull(i int) bool { return c.Missing || c.Valid != nil && !c.Valid[i] }

// At returns the i-th value of a byte-like column.
func (c *ColumnBatch) At(i int) []byte {
	if c.Type == format.ByteArray {
		return c.Bytes[c.Offsets[i]:c.Offsets[i+1]]
	}
	return c.Bytes[i*c.Width : (i+1)*c.Width]
}

// ReadColumns reads columns of a Parquet file side by side and calls visit for
// batches of at most 4,096 rows, in file order. Columns may be nested in
// structs but not in lists or maps (ErrRepeated). An error of visit ends it.
func ReadColumns(ctx context.Context, src Source, columns []ColumnRef, visit func(*Batch) error) error {
	return ReadColumnsAt(ctx, src, src.Info().Size, columns, visit)
}

// ReadColumnsAt is ReadColumns for any io.ReaderAt.
func ReadColumnsAt(ctx context.Context, r io.ReaderAt, size int64, columns []ColumnRef, visit func(*Batch) error) error {
	f, err := pq.Open(ctx, r, size)
	if err != nil {
		return fmt.Errorf("read columns: %w", err)
	}
	c := &columnReader{batch: Batch{Columns: make([]ColumnBatch, len(columns))}, visit: visit}
	for i, ref := range columns {
		col, err := f.Schema.Resolve(ref)
		switch {
		case errors.Is(err, pq.ErrNotFound):
			c.batch.Columns[i].Missing = true
		case err != nil:
			return fmt.Errorf("read columns: %w", err)
		case col.MaxRep > 0:
			return fmt.Errorf("read column %s: %w", col.Name(), ErrRepeated)
		}
		c.cols = append(c.cols, col)
	}
	c.own = make([]ColumnBatch, len(columns))
	for _, g := range f.RowGroups {
		if err := c.rowGroup(ctx, g); err != nil {
			return fmt.Errorf("read columns: %w", err)
		}
	}
	return nil
}

type columnReader struct {
	cols  []*pq.Column // nil = missing
	batch Batch
	own   []ColumnBatch // memory for columns that cannot be used as they lie
	visit func(*Batch) error
}

func (r *columnReader) rowGroup(ctx context.Context, g *pq.RowGroup) error {
	cursors := make([]*cursor, len(r.cols))
	for i, col := range r.cols {
		if col == nil {
			continue
		}
		chunk, err := g.Chunk(col)
		if err != nil {
			return err
		}
		cursors[i] = newCursor(ctx, chunk, pq.ReadOptions{})
		defer cursors[i].close()
	}
	for row := int64(0); row < g.Rows; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(g.Rows-row, batch)
		for _, c := range cursors {
			if c == nil {
				continue
			}
			left, err := c.seek(row)
			if err != nil {
				return err
			}
			n = min(n, left)
		}
		for i, c := range cursors {
			if c == nil {
				continue
			}
			if err := r.fill(&r.batch.Columns[i], &r.own[i], c, int(n)); err != nil {
				return err
			}
		}
		r.batch.FirstRow, r.batch.Rows = g.FirstRow+row, int(n)
		if err := r.visit(&r.batch); err != nil {
			return err
		}
		row += n
	}
	return nil
}

// fill sets the column's next n rows.
func (r *columnReader) fill(out, own *ColumnBatch, c *cursor, n int) error {
	col, v := c.chunk.Column, &c.data.Values
	*out = ColumnBatch{Type: col.Type, Logical: col.Logical(), Width: v.Width}
	nulls := c.defined(c.e, c.e+n) < n
	if nulls {
		own.Valid = resize(own.Valid, n)
		full := uint8(col.MaxDef)
		for i, d := range c.data.Def[c.e : c.e+n] {
			own.Valid[i] = d == full
		}
		out.Valid = own.Valid
	}
	direct := !nulls && v.Dict == nil
	from := v
	if v.Dict != nil {
		from = v.Dict
	}
	s := spread{valid: out.Valid, n: n, v: c.v, direct: direct}
	if v.Dict != nil {
		s.index = v.Index
	}
	switch col.Type {
	case format.Boolean:
		out.Bools = place(s, from.Bools, &own.Bools)
	case format.Int32:
		out.Int32 = place(s, from.Int32, &own.Int32)
	case format.Int64:
		out.Int64 = place(s, from.Int64, &own.Int64)
	case format.Float:
		out.Floats = place(s, from.Floats, &own.Floats)
	case format.Double:
		out.Doubles = place(s, from.Doubles, &own.Doubles)
	case format.ByteArray:
		if !s.bytes(out, own, from) {
			return &pq.Error{Kind: pq.ErrUnsupported, Where: c.chunk.Where(), What: "batch of more than 1 GiB"}
		}
	default:
		s.fixed(out, own, from)
	}
	return nil
}

// spread maps the rows of a batch to the values of a page.
type spread struct {
	valid  []bool // nil = all
	index  []uint32
	n, v   int // rows, first value
	direct bool
}

// at gives the value of row i, given how many values came before, -1 = null.
func (s *spread) at(i int, v *int) int {
	if s.valid != nil && !s.valid[i] {
		return -1
	}
	x := *v
	*v++
	if s.index != nil {
		return int(s.index[x])
	}
	return x
}

func place[T any](s spread, from []T, own *[]T) []T {
	if s.direct {
		return from[s.v : s.v+s.n]
	}
	out := resize(*own, s.n)
	*own = out
	v := s.v
	var zero T
	for i := range out {
		if x := s.at(i, &v); x >= 0 {
			out[i] = from[x]
		} else {
			out[i] = zero
		}
	}
	return out
}

// bytes is false when the batch would be too large to be true: long values that
// a dictionary repeats.
func (s *spread) bytes(out, own *ColumnBatch, from *pq.Values) bool {
	if s.direct {
		out.Bytes, out.Offsets = from.Bytes, from.Offsets[s.v:s.v+s.n+1]
		return true
	}
	own.Bytes, own.Offsets = own.Bytes[:0], append(own.Offsets[:0], 0)
	v := s.v
	for i := range s.n {
		if x := s.at(i, &v); x >= 0 {
			own.Bytes = append(own.Bytes, from.At(x)...)
		}
		if len(own.Bytes) > 1<<30 {
			return false
		}
		own.Offsets = append(own.Offsets, uint32(len(own.Bytes)))
	}
	out.Bytes, out.Offsets = own.Bytes, own.Offsets
	return true
}

func (s *spread) fixed(out, own *ColumnBatch, from *pq.Values) {
	w := from.Width
	if s.direct {
		out.Bytes = from.Bytes[s.v*w : (s.v+s.n)*w]
		return
	}
	own.Bytes = resize(own.Bytes, s.n*w)
	v := s.v
	for i := range s.n {
		cell := own.Bytes[i*w : (i+1)*w]
		if x := s.at(i, &v); x >= 0 {
			copy(cell, from.At(x))
		} else {
			clear(cell)
		}
	}
	out.Bytes = own.Bytes
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
