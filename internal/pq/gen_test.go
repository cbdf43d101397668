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

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// triple is a level entry: its levels and, where it is a value, the value's
// PLAIN bytes.
type triple struct {
	rep, def int
	value    string
	isNull   bool
}

// column is a leaf below a chain of groups, one of them for each repetition.
type column struct {
	name  string
	typ   format.Type
	width int
	enc   encoding.Encoding
	chain []format.FieldRepetitionType
	data  [][]triple // by row
}

func (c *column) maxDef() (n int) {
	for _, r := range c.chain {
		if r != format.Required {
			n++
		}
	}
	return n
}

func (c *column) maxRep() (n int) {
	for _, r := range c.chain {
		if r == format.Repeated {
			n++
		}
	}
	return n
}

var chains = map[string][]format.FieldRepetitionType{
	"req":    {format.Required},
	"opt":    {format.Optional},
	"optopt": {format.Optional, format.Required, format.Optional},
	"list":   {format.Optional, format.Repeated, format.Optional},
	"list2":  {format.Optional, format.Repeated, format.Optional, format.Repeated, format.Required},
	"rep":    {format.Repeated},
}

// generate fills rows; distinct bounds the number of different values, 0 = any.
func (c *column) generate(r *rand.Rand, rows, distinct int) {
	var pool []string
	for range distinct {
		pool = append(pool, randomValue(r, c.typ, c.width))
	}
	value := func() string {
		if distinct > 0 {
			return pool[r.IntN(distinct)]
		}
		return randomValue(r, c.typ, c.width)
	}
	for range rows {
		var row []triple
		var walk func(i, rep, def, depth int)
		walk = func(i, rep, def, depth int) {
			if i == len(c.chain) {
				row = append(row, triple{rep: rep, def: def, value: value()})
				return
			}
			switch c.chain[i] {
			case format.Required:
				walk(i+1, rep, def, depth)
			case format.Optional:
				if r.IntN(4) == 0 {
					row = append(row, triple{rep: rep, def: def, isNull: true})
					return
				}
				walk(i+1, rep, def+1, depth)
			case format.Repeated:
				n := r.IntN(4)
				if n == 0 {
					row = append(row, triple{rep: rep, def: def, isNull: true})
				}
				for j := range n {
					if j > 0 {
						rep = depth + 1
					}
					walk(i+1, rep, def+1, depth+1)
				}
			}
		}
		walk(0, 0, 0, 0)
		c.data = append(c.data, row)
	}
}

func randomValue(r *rand.Rand, t format.Type, width int) string {
	switch t {
	case format.Boolean:
		return string([]byte{byte(r.IntN(2))})
	case format.Int32:
		return string(binary.LittleEndian.AppendUint32(nil, uint32(r.Int64())>>r.IntN(32)))
	case format.Int64:
		return string(binary.LittleEndian.AppendUint64(nil, r.Uint64()>>r.IntN(64)))
	case format.Float:
		return string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(r.Float32())))
	case format.Double:
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(r.NormFloat64())))
	case format.ByteArray:
		width = r.IntN(30)
	case format.Int96:
		width = 12
	}
	b := make([]byte, width)
	for i := range b {
		b[i] = "abcd"[r.IntN(4)]
	}
	return string(b)
}

// leafType is parquet-go's type of the column.
func (c *column) leafType() parquet.Node {
	switch c.typ {
	case format.Boolean:
		return parquet.Leaf(parquet.BooleanType)
	case format.Int32:
		return parquet.Leaf(parquet.Int32Type)
	case format.Int64:
		return parquet.Leaf(parquet.Int64Type)
	case format.Int96:
		return parquet.Leaf(parquet.Int96Type)
	case format.Float:
		return parquet.Leaf(parquet.FloatType)
	case format.Double:
		return parquet.Leaf(parquet.DoubleType)
	case format.ByteArray:
		return parquet.Leaf(parquet.ByteArrayType)
	}
	return parquet.Leaf(parquet.FixedLenByteArrayType(c.width))
}

func (c *column) parquetGoValue(t triple) parquet.Value {
	b := []byte(t.value)
	if t.isNull {
		return parquet.NullValue()
	}
	switch c.typ {
	case format.Boolean:
		return parquet.BooleanValue(b[0] != 0)
	case format.Int32:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(b)))
	case format.Int64:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(b)))
	case format.Int96:
		return parquet.Int96Value(deprecated.Int96{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])})
	case format.Float:
		return parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case format.Double:
		return parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case format.ByteArray:
		return parquet.ByteArrayValue(b)
	}
	return parquet.FixedLenByteArrayValue(b)
}

// writeParquetGo writes the columns, whose names must ascend.
func writeParquetGo(t testing.TB, cols []*column, codec compress.Codec, options ...parquet.WriterOption) []byte {
	t.Helper()
	root := parquet.Group{}
	for _, c := range cols {
		n := parquet.Encoded(c.leafType(), c.enc)
		if codec != nil {
			n = parquet.Compressed(n, codec)
		}
		for i := len(c.chain) - 1; i >= 0; i-- {
			switch c.chain[i] {
			case format.Optional:
				n = parquet.Optional(n)
			case format.Repeated:
				n = parquet.Repeated(n)
			}
			if i > 0 {
				n = parquet.Group{fmt.Sprintf("g%d", i): n}
			}
		}
		root[c.name] = n
	}
	var buf bytes.Buffer
	w := parquet.NewWriter(&buf, append(options, parquet.NewSchema("root", root))...)
	for i := range cols[0].data {
		var row parquet.Row
		for j, c := range cols {
			for _, tr := range c.data[i] {
				row = append(row, c.parquetGoValue(tr).Level(tr.rep, tr.def, j))
			}
		}
		if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
			t.Fatal(err)
		}
		if i == len(cols[0].data)/2 {
			if err := w.Flush(); err != nil { // a second row group
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// readAll decodes every page of every column and returns the entries by row.
func readAll(b []byte, o func(*pq.Chunk) pq.ReadOptions) ([][][]triple, error) {
	ctx := context.Background()
	f, err := pq.Open(ctx, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	out := make([][][]triple, len(f.Schema.Columns))
	for _, g := range f.RowGroups {
		for i, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				return nil, err
			}
			var ro pq.ReadOptions
			if o != nil {
				ro = o(c)
			}
			if out[i], err = readChunk(ctx, c, ro, out[i], g.FirstRow); err != nil {
				return nil, err
			}
			if int64(len(out[i])) != g.FirstRow+g.Rows {
				return nil, fmt.Errorf("column %s: %d rows, want %d", col.Name(), len(out[i]), g.FirstRow+g.Rows)
			}
		}
	}
	return out, nil
}

func readChunk(ctx context.Context, c *pq.Chunk, o pq.ReadOptions, rows [][]triple, first int64) ([][]triple, error) {
	r := c.Pages(ctx, o)
	defer r.Close()
	dec := c.NewDecoder()
	var d pq.PageData
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		if p.Header.Type == format.DictionaryPage {
			if err := dec.SetDictionary(p); err != nil {
				return nil, err
			}
			continue
		}
		if err := dec.Decode(p, &d); err != nil {
			return nil, err
		}
		if want := int64(len(rows)) - first; d.FirstRow != want && !(d.Rows == 0 && d.FirstRow >= want) {
			return nil, fmt.Errorf("page %d starts at row %d, want %d", p.Ordinal, d.FirstRow, want)
		}
		v := 0
		for e := range d.Entries {
			var t triple
			if d.Rep != nil {
				t.rep = int(d.Rep[e])
			}
			t.def = c.Column.MaxDef
			if d.Def != nil {
				t.def = int(d.Def[e])
			}
			if t.isNull = t.def < c.Column.MaxDef; !t.isNull {
				t.value = plainOf(&d.Values, v)
				v++
			}
			if t.rep == 0 {
				rows = append(rows, nil)
			}
			rows[len(rows)-1] = append(rows[len(rows)-1], t)
		}
		if v != d.Values.N {
			return nil, fmt.Errorf("%d values for %d", d.Values.N, v)
		}
	}
}

// plainOf is the PLAIN form of a value, without a length prefix.
func plainOf(v *pq.Values, i int) string {
	if v.Dict != nil {
		return plainOf(v.Dict, int(v.Index[i]))
	}
	switch v.Type {
	case format.Boolean:
		if v.Bools[i] {
			return "\x01"
		}
		return "\x00"
	case format.Int32:
		return string(binary.LittleEndian.AppendUint32(nil, uint32(v.Int32[i])))
	case format.Int64:
		return string(binary.LittleEndian.AppendUint64(nil, uint64(v.Int64[i])))
	case format.Float:
		return string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v.Floats[i])))
	case format.Double:
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v.Doubles[i])))
	}
	return string(v.At(i))
}
