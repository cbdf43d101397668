package verifier

import (
	"encoding/binary"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// Encodings by their numbers in Parquet's format (arrow-go keeps the names internal).
const (
	encPlain           = 0
	encPlainDictionary = 2
	encBitPacked       = 4
	encRLEDictionary   = 8
)

// chunkPages is what walking one column chunk's pages shows: its dictionary,
// and which of its entries a page refers to.
type chunkPages struct {
	dict [][]byte          // PLAIN values, decoded by ourselves
	used *roaring64.Bitmap // indexes that some value refers to

	plain bool // some page holds values of its own
}

// walkPages decodes every page of a chunk on the level of pages. A chunk
// without a dictionary is left alone: it has no entries to refer to.
func walkPages(f *parquetFile, rg, col int) (c *chunkPages, err error) {
	defer guard(&err)
	if with, err := hasDictionary(f, rg, col); err != nil || !with {
		return &chunkPages{plain: true}, err
	}
	pr, err := f.RowGroup(rg).GetColumnPageReader(col)
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	defer pr.Close()
	c = &chunkPages{used: roaring64.New()}
	d := f.MetaData().Schema.Column(col)
	for pr.Next() {
		switch p := pr.Page().(type) {
		case *file.DictionaryPage:
			if c.dict, err = decodePlain(p.Data(), int(p.NumValues()), d); err != nil {
				return nil, err
			}
		case *file.DataPageV1:
			err = c.dataV1(p, d)
		case *file.DataPageV2:
			err = c.dataV2(p)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := pr.Err(); err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	return c, nil
}

// hasDictionary looks for a dictionary page in the pages themselves; the
// footer's offset for it is optional.
func hasDictionary(f *parquetFile, rg, col int) (with bool, err error) {
	err = eachHeader(f, rg, col, func(h *thriftSkim) bool {
		with = h.field(0, 1) == pageDictionary
		return false // it can only be the first page
	})
	return with, err
}

func isDictionary(enc int) bool { return enc == encRLEDictionary || enc == encPlainDictionary }

// dataV1: repetition levels, definition levels, values, all in one (Parquet
// "Data Pages").
func (c *chunkPages) dataV1(p *file.DataPageV1, d *schema.Column) error {
	if !isDictionary(int(p.Encoding())) {
		c.plain = true
		return nil
	}
	b, n := p.Data(), int(p.NumValues())
	var err error
	if d.MaxRepetitionLevel() > 0 {
		if b, err = skipLevels(b, n, d.MaxRepetitionLevel(), p.RepetitionLevelEncoding()); err != nil {
			return err
		}
	}
	values := n
	if d.MaxDefinitionLevel() > 0 {
		if b, values, err = countDefined(b, n, d.MaxDefinitionLevel(), p.DefinitionLevelEncoding()); err != nil {
			return err
		}
	}
	return c.indexes(b, values)
}

// dataV2: levels of stated length, then values.
func (c *chunkPages) dataV2(p *file.DataPageV2) error {
	if !isDictionary(int(p.Encoding())) {
		c.plain = true
		return nil
	}
	b, skip := p.Data(), int(p.RepetitionLevelByteLen())+int(p.DefinitionLevelByteLen())
	if skip < 0 || skip > len(b) {
		return errCorrupt
	}
	return c.indexes(b[skip:], int(p.NumValues()-p.NumNulls()))
}

// indexes marks which dictionary entries n values refer to.
func (c *chunkPages) indexes(b []byte, n int) error {
	if n == 0 {
		return nil
	}
	if len(b) == 0 || b[0] > 32 {
		return errCorrupt
	}
	size := uint64(len(c.dict))
	return decodeHybrid(b[1:], int(b[0]), n, func(v uint64, _ int) error {
		if v >= size {
			return errCorrupt
		}
		c.used.Add(v)
		return nil
	})
}

// levelBody cuts the bytes of levels off a v1 page.
func levelBody(b []byte, n int, maxLevel int16, enc parquet.Encoding) (body, rest []byte, err error) {
	if int(enc) == encBitPacked { // deprecated: no length in front
		size := (n*bitsFor(maxLevel) + 7) / 8
		if size > len(b) {
			return nil, nil, errCorrupt
		}
		return b[:size], b[size:], nil
	}
	if len(b) < 4 {
		return nil, nil, errCorrupt
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size > int64(len(b)-4) {
		return nil, nil, errCorrupt
	}
	return b[4 : 4+size], b[4+size:], nil
}

func bitsFor(level int16) (n int) {
	for ; level > 0; level >>= 1 {
		n++
	}
	return n
}

func skipLevels(b []byte, n int, maxLevel int16, enc parquet.Encoding) ([]byte, error) {
	_, rest, err := levelBody(b, n, maxLevel, enc)
	return rest, err
}

// countDefined counts the entries at the maximum definition level: those with a value.
func countDefined(b []byte, n int, maxLevel int16, enc parquet.Encoding) (rest []byte, values int, err error) {
	body, rest, err := levelBody(b, n, maxLevel, enc)
	if err != nil {
		return nil, 0, err
	}
	if int(enc) == encBitPacked {
		return nil, 0, fmt.Errorf("bit-packed levels: %w", errCorrupt)
	}
	err = decodeHybrid(body, bitsFor(maxLevel), n, func(v uint64, times int) error {
		if v == uint64(maxLevel) {
			values += times
		}
		return nil
	})
	return rest, values, err
}

// decodeHybrid decodes n values of the RLE and bit-packing hybrid (Parquet
// "Encodings"). visit gets a value and how often it stands there in a row.
func decodeHybrid(b []byte, width, n int, visit func(v uint64, times int) error) error {
	if width == 0 {
		return visit(0, n)
	}
	size := (width + 7) / 8
	for n > 0 {
		h, k := binary.Uvarint(b)
		if k <= 0 {
			return errCorrupt
		}
		b = b[k:]
		if h&1 == 0 { // a run
			if len(b) < size || h == 0 {
				return errCorrupt
			}
			var v uint64
			for i := range size {
				v |= uint64(b[i]) << (8 * i)
			}
			times := int(min(h>>1, uint64(n)))
			if err := visit(v, times); err != nil {
				return err
			}
			b, n = b[size:], n-times
			continue
		}
		bytes := (h >> 1) * uint64(width) // groups of eight values
		if h>>1 == 0 || h>>1 > uint64(n)/8+1 {
			return errCorrupt
		}
		packed := b[:min(bytes, uint64(len(b)))] // the last group may be cut short
		take := min(int(h>>1)*8, n)
		if err := unpack(packed, width, take, visit); err != nil {
			return err
		}
		b, n = b[len(packed):], n-take
	}
	return nil
}

// unpack reads values packed from the least significant bit on.
func unpack(b []byte, width, n int, visit func(uint64, int) error) error {
	if (n*width+7)/8 > len(b) {
		return errCorrupt
	}
	var acc uint64
	bits, at := 0, 0
	for range n {
		for bits < width {
			acc |= uint64(b[at]) << bits
			at++
			bits += 8
		}
		if err := visit(acc&(1<<width-1), 1); err != nil {
			return err
		}
		acc >>= width
		bits -= width
	}
	return nil
}

// decodePlain decodes a dictionary's values (Parquet "Plain").
func decodePlain(b []byte, n int, d *schema.Column) ([][]byte, error) {
	width := 0
	switch d.PhysicalType() {
	case parquet.Types.Int32, parquet.Types.Float:
		width = 4
	case parquet.Types.Int64, parquet.Types.Double:
		width = 8
	case parquet.Types.Int96:
		width = 12
	case parquet.Types.FixedLenByteArray:
		width = d.TypeLength()
	case parquet.Types.ByteArray:
	default:
		return nil, fmt.Errorf("dictionary of an unknown type: %w", errCorrupt)
	}
	if n > len(b) && n > 0 { // every entry takes a byte at least
		return nil, errCorrupt
	}
	b = append([]byte(nil), b...) // the page's buffer is reused
	out := make([][]byte, 0, n)
	for range n {
		size := width
		if width == 0 {
			if len(b) < 4 {
				return nil, errCorrupt
			}
			size = int(min(int64(binary.LittleEndian.Uint32(b)), 1<<31))
			b = b[4:]
		}
		if size > len(b) {
			return nil, errCorrupt
		}
		out = append(out, b[:size:size])
		b = b[size:]
	}
	return out, nil
}
