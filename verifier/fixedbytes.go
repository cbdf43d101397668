package verifier

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// arrow-go decodes DELTA_BYTE_ARRAY for byte arrays only, while other writers
// use it for byte arrays of fixed length as well (Parquet "Encodings"). Such a
// chunk is read as one of byte arrays: the encoding is the same, and the PLAIN
// pages and the dictionary that may stand beside get the lengths that byte
// arrays have in PLAIN. It also takes the differences of 32-bit numbers for
// 32-bit ones, while DuckDB stores them in 64 bits: such a chunk is read as one
// of 64-bit numbers, whose lower halves are right for either kind of writer.

// columnReader opens a column chunk for decoding.
func columnReader(g *file.RowGroupReader, col int, pool *sync.Pool) (file.ColumnChunkReader, error) {
	meta, err := g.MetaData().ColumnChunk(col)
	if err != nil {
		return nil, err
	}
	d := g.MetaData().Schema.Column(col)
	var as parquet.Type
	l := &widePages{desc: d}
	switch {
	case d.PhysicalType() == parquet.Types.FixedLenByteArray && slices.Contains(meta.Encodings(), parquet.Encodings.DeltaByteArray):
		as, l.width = parquet.Types.ByteArray, d.TypeLength()
		l.put = func(out, v []byte) []byte {
			return append(binary.LittleEndian.AppendUint32(out, uint32(len(v))), v...)
		}
	case d.PhysicalType() == parquet.Types.Int32 && slices.Contains(meta.Encodings(), parquet.Encodings.DeltaBinaryPacked):
		as, l.width = parquet.Types.Int64, 4
		l.put = func(out, v []byte) []byte { return append(append(out, v...), 0, 0, 0, 0) }
	default:
		return g.Column(col)
	}
	if l.PageReader, err = g.GetColumnPageReader(col); err != nil {
		return nil, err
	}
	node, err := schema.NewPrimitiveNode(d.Name(), d.SchemaNode().RepetitionType(), as, -1, -1)
	if err != nil {
		return nil, err
	}
	wide := schema.NewColumn(node, d.MaxDefinitionLevel(), d.MaxRepetitionLevel())
	//nolint:staticcheck // SA1019: no other reader of the library takes pages of our own
	return file.NewColumnReader(wide, l, memory.DefaultAllocator, pool), nil
}

// widePages gives the values of PLAIN pages the shape of the wider type.
type widePages struct {
	file.PageReader
	desc  *schema.Column
	width int                            // of a value as it is stored
	put   func(out, value []byte) []byte // appends it in the wider type
	page  file.Page
	err   error
}

// Page implements file.PageReader.
func (l *widePages) Page() file.Page { return l.page }

// Err implements file.PageReader.
func (l *widePages) Err() error {
	if l.err != nil {
		return l.err
	}
	return l.PageReader.Err()
}

// Next implements file.PageReader.
func (l *widePages) Next() bool {
	if l.err != nil || !l.PageReader.Next() {
		l.page = nil
		return false
	}
	l.page = l.PageReader.Page()
	data, plain := l.page.Data(), parquet.Encoding(l.page.Encoding()) == parquet.Encodings.Plain
	switch p := l.page.(type) {
	case *file.DictionaryPage: // PLAIN, whatever it is called
		if data = l.widened(data, 0); l.err == nil {
			l.page = file.NewDictionaryPage(memory.NewBufferBytes(data), p.NumValues(), parquet.Encodings.Plain)
		}
	case *file.DataPageV1:
		if !plain {
			break
		}
		if data = l.widened(data, l.levels(p)); l.err == nil {
			l.page = file.NewDataPageV1(memory.NewBufferBytes(data), p.NumValues(), parquet.Encodings.Plain,
				p.DefinitionLevelEncoding(), p.RepetitionLevelEncoding(), int32(len(data)))
		}
	case *file.DataPageV2:
		if !plain {
			break
		}
		rep, def := p.RepetitionLevelByteLen(), p.DefinitionLevelByteLen()
		if data = l.widened(data, int(rep+def)); l.err == nil {
			l.page = file.NewDataPageV2(memory.NewBufferBytes(data), p.NumValues(), p.NumNulls(), p.NumRows(), parquet.Encodings.Plain,
				def, rep, int32(len(data)), p.IsCompressed())
		}
	}
	return l.err == nil
}

// levels is how many bytes of a v1 page are levels.
func (l *widePages) levels(p *file.DataPageV1) int {
	rest, n := p.Data(), int(p.NumValues())
	for _, level := range []struct {
		max int16
		enc parquet.Encoding
	}{{l.desc.MaxRepetitionLevel(), p.RepetitionLevelEncoding()}, {l.desc.MaxDefinitionLevel(), p.DefinitionLevelEncoding()}} {
		if level.max > 0 && l.err == nil {
			_, rest, l.err = levelBody(rest, n, level.max, level.enc)
		}
	}
	return len(p.Data()) - len(rest)
}

// widened rewrites the values behind the first from bytes.
func (l *widePages) widened(data []byte, from int) []byte {
	width := l.width
	if l.err == nil && (width <= 0 || from > len(data) || (len(data)-from)%width != 0) {
		l.err = fmt.Errorf("values of a fixed length end early: %w", errCorrupt)
	}
	if l.err != nil {
		return nil
	}
	out := slices.Clone(data[:from])
	for ; from < len(data); from += width {
		out = l.put(out, data[from:from+width])
	}
	return out
}

// narrow gives the values of such a chunk the shape of the column's own type.
func (l *leaf) narrow(n int) error {
	if _, wide := l.rdr.(*file.Int64ColumnChunkReader); wide && l.desc.PhysicalType() == parquet.Types.Int32 {
		grow(&l.i32)
		for i, v := range l.i64[:n] {
			l.i32[i] = int32(v)
		}
		l.b.fixed, l.b.width = arrow.Int32Traits.CastToBytes(l.i32[:n]), 4
		return nil
	}
	if l.b.bytes == nil || l.desc.PhysicalType() != parquet.Types.FixedLenByteArray {
		return nil
	}
	grow(&l.fl)
	for i, v := range l.b.bytes {
		if len(v) != l.desc.TypeLength() {
			return fmt.Errorf("decode pages: a value of another length than its column's: %w", errCorrupt)
		}
		l.fl[i] = parquet.FixedLenByteArray(v)
	}
	l.b.flba, l.b.bytes = l.fl[:len(l.b.bytes)], nil
	return nil
}
