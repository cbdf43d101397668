package keyset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

var (
	errNotValue = errors.New("not a value of the key's type")
	errParquet  = errors.New("not a Parquet file that can be read")
)

// readParquet reads the wanted columns, row groups side by side. The LineError's
// line is the row.
func (p *pass) readParquet(ctx context.Context, in io.Reader) error {
	data, err := newSpool(in)
	if err != nil {
		return err
	}
	defer data.close()
	f, err := pq.Open(ctx, data, data.size)
	if err != nil {
		return p.parquetError(err)
	}
	cols := make([]*keyColumn, len(p.columns))
	for i, name := range p.columns {
		if cols[i], err = p.bindParquet(f, i, name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(f.RowGroups))
	var failed atomic.Bool
	parallel(p.opts.workers, len(f.RowGroups), func(_, i int) {
		if failed.Load() {
			return
		}
		s := p.newSink()
		defer s.close()
		if errs[i] = p.rowGroup(ctx, f.RowGroups[i], cols, s); errs[i] != nil {
			failed.Store(true)
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// parquetError keeps where a file is damaged; pq's errors never hold a value.
func (p *pass) parquetError(err error) error {
	if errors.Is(err, pq.ErrCorrupt) || errors.Is(err, pq.ErrUnsupported) {
		return p.errAt(0, -1, fmt.Errorf("%w: %w", errParquet, err))
	}
	return fmt.Errorf("%w: %w", errSpool, err)
}

// keyColumn is a wanted column of a Parquet file.
type keyColumn struct {
	col  *pq.Column
	bind binding // of a key part; form 0 = its text is parsed as in a CSV
	unit time.Duration
}

// bindParquet finds a column and how its values become wanted ones.
func (p *pass) bindParquet(f *pq.File, i int, name string) (*keyColumn, error) {
	k := &keyColumn{col: parquetColumn(f.Schema, name)}
	if k.col == nil {
		return nil, &columnError{source: p.src.label, column: name}
	}
	column := columnOf(k.col)
	mismatch := func() error {
		return fmt.Errorf("%s: %w: column %s is %s", p.src.label, ErrType, name, column)
	}
	switch {
	case k.col.MaxRep > 0:
		return nil, fmt.Errorf("%s: %w: column %s is repeated", p.src.label, ErrType, name)
	case i >= len(p.spec.Schema) && i == p.dateColumn:
		if k.unit = unitOf(k.col); k.unit == 0 && !column.textual() {
			return nil, mismatch()
		}
		return k, nil
	case i >= len(p.spec.Schema):
		if form := column.integerForm(); !column.textual() && form != formInt32 && form != formInt64 {
			return nil, mismatch()
		}
		return k, nil
	}
	part := p.spec.Schema[i]
	var err error
	if k.bind, err = bind(part, column); err != nil {
		// Numbers and dates may come as text here, unlike in a table's column: the
		// text only names the key.
		if part.Type.Kind == KindBinary || !column.textual() {
			return nil, fmt.Errorf("%s: %w", p.src.label, err)
		}
		k.bind = binding{}
	}
	return k, nil
}

// parquetColumn finds a leaf by path or by position, nil if there is none.
func parquetColumn(s *pq.Schema, name string) *pq.Column {
	col, err := s.Resolve(pq.Ref{Path: splitPath(name)})
	if err == nil {
		return col
	}
	if n, ok := ordinal(name); ok && n < len(s.Columns) {
		return s.Columns[n]
	}
	return nil
}

// unitOf is what a column's integers count from 1970 on, 0 if they do not.
func unitOf(c *pq.Column) time.Duration {
	switch t := c.Logical().(type) {
	case *format.TimestampType:
		if t.Unit.Value != nil && c.Type == format.Int64 {
			return t.Unit.Value.Duration()
		}
		return 0
	}
	if columnOf(c).Logical.Kind == LogicalDate && c.Type == format.Int32 {
		return 24 * time.Hour
	}
	if t, ok := c.Converted(); ok && c.Type == format.Int64 {
		switch t {
		case deprecated.TimestampMillis:
			return time.Millisecond
		case deprecated.TimestampMicros:
			return time.Microsecond
		}
	}
	return 0
}

// columnOf says how a file's column is stored (LogicalTypes.md; the converted
// type counts where there is no logical one).
func columnOf(c *pq.Column) Column {
	k := Column{Width: c.TypeLength}
	switch c.Type {
	case format.Int32:
		k.Physical = PhysInt32
	case format.Int64:
		k.Physical = PhysInt64
	case format.ByteArray:
		k.Physical = PhysBytes
	case format.FixedLenByteArray:
		k.Physical = PhysFixed
	}
	switch t := c.Logical().(type) {
	case nil:
		k.Logical = convertedOf(c)
	case *format.StringType, *format.EnumType:
		k.Logical.Kind = LogicalString
	case *format.UUIDType:
		k.Logical.Kind = LogicalUUID
	case *format.DateType:
		k.Logical.Kind = LogicalDate
	case *format.DecimalType:
		k.Logical = Logical{Kind: LogicalDecimal, Precision: int(t.Precision), Scale: int(t.Scale)}
	case *format.IntType:
		k.Logical = Logical{Kind: LogicalInt, Bits: int(t.BitWidth), Unsigned: !t.IsSigned}
	default:
		k.Logical.Kind = LogicalOther
	}
	return k
}

func convertedOf(c *pq.Column) Logical {
	t, ok := c.Converted()
	if !ok {
		return Logical{}
	}
	switch t {
	case deprecated.UTF8, deprecated.Enum:
		return Logical{Kind: LogicalString}
	case deprecated.Date:
		return Logical{Kind: LogicalDate}
	case deprecated.Decimal:
		return Logical{Kind: LogicalDecimal, Precision: int(c.Node.Meta.Precision.V), Scale: int(c.Node.Meta.Scale.V)}
	case deprecated.Int8, deprecated.Int16, deprecated.Int32, deprecated.Int64:
		return Logical{Kind: LogicalInt}
	case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
		return Logical{Kind: LogicalInt, Unsigned: true}
	}
	return Logical{Kind: LogicalOther}
}

// rowGroup reads the rows of one row group.
func (p *pass) rowGroup(ctx context.Context, g *pq.RowGroup, cols []*keyColumn, s *sink) error {
	cursors := make([]*cursor, len(cols))
	for i, k := range cols {
		chunk, err := g.Chunk(k.col)
		if err != nil {
			return p.parquetError(err)
		}
		c := &cursor{keyColumn: k, pages: chunk.Pages(ctx, pq.ReadOptions{}), dec: chunk.NewDecoder()}
		defer c.pages.Close()
		cursors[i] = c
	}
	if len(cols) == 1 && cols[0].bind.isWord() {
		return p.words(g, cursors[0], s)
	}
	vals := make([]value, len(cols))
	for row := range g.Rows {
		for i, c := range cursors {
			ok, err := c.next(&vals[i])
			if err != nil {
				return p.parquetError(err)
			}
			if !ok {
				return p.errAt(g.FirstRow+row+1, i, errNotValue)
			}
		}
		if bad := s.row(vals); bad != nil {
			return p.errAt(g.FirstRow+row+1, bad.column, bad.reason)
		}
	}
	return nil
}

// words reads a single column of integers page by page.
func (p *pass) words(g *pq.RowGroup, c *cursor, s *sink) error {
	for row := int64(0); row < g.Rows; {
		if err := c.page(); err != nil {
			return p.parquetError(err)
		}
		d := &c.data
		if nulls := d.Entries - d.Defined; nulls > 0 && !p.spec.AllowNull {
			at := row
			for _, def := range d.Def {
				if int(def) != c.col.MaxDef {
					break
				}
				at++
			}
			return p.errAt(g.FirstRow+at+1, 0, errNullKey)
		}
		s.nulls += int64(d.Entries - d.Defined)
		if err := d.Values.Materialise(); err != nil {
			return p.parquetError(err)
		}
		for i := range d.Values.N {
			v := int64(0)
			if c.col.Type == format.Int32 {
				v = int64(d.Values.Int32[i])
			} else {
				v = d.Values.Int64[i]
			}
			w, ok := c.bind.word(v)
			if !ok {
				at := d.EntriesOf(nil, []int32{int32(i)})[0]
				return p.errAt(g.FirstRow+row+int64(at)+1, 0, errNotValue)
			}
			s.buf.words = append(s.buf.words, w)
		}
		s.buf.n += d.Values.N
		s.rows += int64(d.Entries)
		row += int64(d.Entries)
		s.flushFull()
	}
	return nil
}

// cursor walks one column of a row group.
type cursor struct {
	*keyColumn
	pages        *pq.PageReader
	dec          *pq.Decoder
	data         pq.PageData
	entry, value int
	buf          []byte
}

// page decodes the next data page that holds values or NULLs.
func (c *cursor) page() error {
	for {
		page, err := c.pages.Next()
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: column %s ends early", pq.ErrCorrupt, c.col.Name())
		case err != nil:
			return err
		case page.Ordinal < 0:
			err = c.dec.SetDictionary(page)
		default:
			c.entry, c.value = 0, 0
			if err = c.dec.Decode(page, &c.data); err == nil && c.data.Entries > 0 {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// next reads the column's value in the next row. False: it is none of the part's type.
func (c *cursor) next(out *value) (bool, error) {
	if c.entry == c.data.Entries {
		if err := c.page(); err != nil {
			return false, err
		}
	}
	c.entry++
	if d := &c.data; d.Def != nil && int(d.Def[c.entry-1]) != c.col.MaxDef {
		*out = value{null: true}
		return true, nil
	}
	i, vals := c.value, &c.data.Values
	c.value++
	if vals.Dict != nil {
		i, vals = int(vals.Index[i]), vals.Dict
	}
	var v int64
	var raw []byte
	switch c.col.Type {
	case format.Int32:
		v = int64(vals.Int32[i])
	case format.Int64:
		v = vals.Int64[i]
	default:
		raw = vals.At(i)
	}
	switch {
	case c.bind.form != 0:
		var ok bool
		c.buf, ok = c.bind.append(c.buf[:0], v, raw)
		*out = value{b: c.buf, canon: true}
		return ok, nil
	case c.unit != 0:
		*out = value{at: unixTime(v, c.unit)}
	case raw == nil && c.col.Type <= format.Int64:
		c.buf = strconv.AppendInt(c.buf[:0], v, 10)
		*out = value{b: c.buf}
	default:
		*out = value{b: raw}
	}
	return true, nil
}

// unixTime is v units after 1970.
func unixTime(v int64, unit time.Duration) time.Time {
	if unit >= time.Second {
		return time.Unix(v*int64(unit/time.Second), 0).UTC()
	}
	per := int64(time.Second / unit)
	sec, rest := v/per, v%per
	if rest < 0 {
		sec, rest = sec-1, rest+per
	}
	return time.Unix(min(sec, math.MaxInt32*1000), rest*int64(unit)).UTC()
}
