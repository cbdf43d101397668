package verifier

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// arrow-go decodes DELTA_BYTE_ARRAY for byte arrays only, while other writers
// use it for byte arrays of fixed length as well (Parquet "Encodings"). Such a
// chunk is read as one of byte arrays: the encoding is the same, and the PLAIN
// pages and the dictionary that may stand beside get the lengths that byte
// arrays have in PLAIN.

// columnReader opens a column chunk for decoding.
func columnReader(g *file.RowGroupReader, col int, pool *sync.Pool) (file.ColumnChunkReader, error) {
	meta, err := g.MetaData().ColumnChunk(col)
	if err != nil {
		return nil, err
	}
	d := g.MetaData().Schema.Column(col)
	if d.PhysicalType() != parquet.Types.FixedLenByteArray || !slices.Contains(meta.Encodings(), parquet.Encodings.DeltaByteArray) {
		return g.Column(col)
	}
	pages, err := g.GetColumnPageReader(col)
	if err != nil {
		return nil, err
	}
	node, err := schema.NewPrimitiveNode(d.Name(), d.SchemaNode().RepetitionType(), parquet.Types.ByteArray, -1, -1)
	if err != nil {
		return nil, err
	}
	bytes := schema.NewColumn(node, d.MaxDefinitionLevel(), d.MaxRepetitionLevel())
	//nolint:staticcheck // SA1019: no other reader of the library takes pages of our own
	return file.NewColumnReader(bytes, &lengthPages{PageReader: pages, desc: d}, memory.DefaultAllocator, pool), nil
}

// lengthPages puts lengths in front of the values of PLAIN pages.
type lengthPages struct {
	file.PageReader
	desc *schema.Column
	page file.Page
	err  error
}

// Page implements file.PageReader.
func (l *lengthPages) Page() file.Page { return l.page }

// Err implements file.PageReader.
func (l *lengthPages) Err() error {
	if l.err != nil {
		return l.err
	}
	return l.PageReader.Err()
}

// Next implements file.PageReader.
func (l *lengthPages) Next() bool {
	if l.err != nil || !l.PageReader.Next() {
		l.page = nil
		return false
	}
	l.page = l.PageReader.Page()
	data, plain := l.page.Data(), parquet.Encoding(l.page.Encoding()) == parquet.Encodings.Plain
	switch p := l.page.(type) {
	case *file.DictionaryPage: // PLAIN, whatever it is called
		if data = l.lengthened(data, 0); l.err == nil {
			l.page = file.NewDictionaryPage(memory.NewBufferBytes(data), p.NumValues(), parquet.Encodings.Plain)
		}
	case *file.DataPageV1:
		if !plain {
			break
		}
		if data = l.lengthened(data, l.levels(p)); l.err == nil {
			l.page = file.NewDataPageV1(memory.NewBufferBytes(data), p.NumValues(), parquet.Encodings.Plain,
				p.DefinitionLevelEncoding(), p.RepetitionLevelEncoding(), int32(len(data)))
		}
	case *file.DataPageV2:
		if !plain {
			break
		}
		rep, def := p.RepetitionLevelByteLen(), p.DefinitionLevelByteLen()
		if data = l.lengthened(data, int(rep+def)); l.err == nil {
			l.page = file.NewDataPageV2(memory.NewBufferBytes(data), p.NumValues(), p.NumNulls(), p.NumRows(), parquet.Encodings.Plain,
				def, rep, int32(len(data)), p.IsCompressed())
		}
	}
	return l.err == nil
}

// levels is how many bytes of a v1 page are levels.
func (l *lengthPages) levels(p *file.DataPageV1) int {
	rest, n := p.Data(), int(p.NumValues())
	for _, level := range []struct {
		max int16
		enc parquet.Encoding
	}{{l.desc.MaxRepetitionLevel(), p.RepetitionLevelEncoding()}, {l.desc.MaxDefinitionLevel(), p.DefinitionLevelEncoding()}} {
		if level.max > 0 && l.err == nil {
			rest, l.err = skipLevels(rest, n, level.max, level.enc)
		}
	}
	return len(p.Data()) - len(rest)
}

// lengthened gives every value behind the first from bytes its length.
func (l *lengthPages) lengthened(data []byte, from int) []byte {
	width := l.desc.TypeLength()
	if l.err == nil && (width <= 0 || from > len(data) || (len(data)-from)%width != 0) {
		l.err = fmt.Errorf("values of a fixed length end early: %w", errCorrupt)
	}
	if l.err != nil {
		return nil
	}
	out := slices.Clone(data[:from])
	for ; from < len(data); from += width {
		out = binary.LittleEndian.AppendUint32(out, uint32(width))
		out = append(out, data[from:from+width]...)
	}
	return out
}

// fixed gives the values of such a chunk the shape of the column's own type.
func (l *leaf) fixed() error {
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
