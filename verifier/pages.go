package verifier

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// Encodings by their numbers in Parquet's format (arrow-go keeps the names internal).
const (
	encPlain           = 0
	encPlainDictionary = 2
	encRLE             = 3
	encBitPacked       = 4
	encRLEDictionary   = 8
)

// chunkPages is what walking one column chunk's pages shows.
type chunkPages struct {
	dict   [][]byte          // PLAIN values, decoded by ourselves; nil = no dictionary
	used   *roaring64.Bitmap // indexes that some value refers to
	bounds [][]byte          // byte strings of page headers
}

// pageVisitor gets the values of a chunk page by page; nil members are not called.
type pageVisitor struct {
	header func(bounds [][]byte) // before the page's values
	value  func(v []byte)
	done   func() bool // no more values are wanted
}

// walkChunk reads a chunk once. Pages of other values than the dictionary's are
// decoded only if values are wanted.
func walkChunk(ctx context.Context, f *parquetFile, rg, col int, v pageVisitor) (*chunkPages, error) {
	s, err := newPageStream(ctx, f, col)
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.only(rg)
	c := &chunkPages{used: roaring64.New()}
	var seen []uint64 // indexes of the page, as a bit set
	for {
		p, err := s.page()
		if err != nil || p == nil {
			return c, err
		}
		if s.dict != nil && c.dict == nil {
			if c.dict, err = s.entries(); err != nil {
				return nil, err
			}
			seen = make([]uint64, len(c.dict)/64+1)
		}
		c.bounds = append(c.bounds, p.binary...)
		if v.header != nil {
			v.header(p.binary)
		}
		if isDictionary(int(p.encoding)) {
			err = c.indexed(s, p, seen, v)
			s.skip()
		} else {
			err = plainPage(s, v)
		}
		if err != nil {
			return nil, err
		}
	}
}

// indexed marks the entries that a page refers to, and visits their values.
func (c *chunkPages) indexed(s *pageStream, p *rawPage, seen []uint64, v pageVisitor) error {
	clear(seen)
	bad := false
	err := s.indexes(p, func(i uint64) bool {
		if bad = i >= uint64(len(c.dict)); !bad {
			seen[i/64] |= 1 << (i % 64)
		}
		return !bad
	})
	if err != nil || bad {
		return errCorrupt
	}
	for w, word := range seen {
		for ; word != 0; word &= word - 1 {
			i := w*64 + bits.TrailingZeros64(word)
			c.used.Add(uint64(i))
			if v.value != nil && !v.done() {
				v.value(c.dict[i])
			}
		}
	}
	return nil
}

func plainPage(s *pageStream, v pageVisitor) error {
	if v.value == nil || v.done() {
		s.skip()
		return nil
	}
	for s.decode(); ; {
		b, err := s.batch()
		if err != nil || b == nil {
			return err
		}
		for i := range b.nvals {
			v.value(b.value(i))
		}
	}
}

func isDictionary(enc int) bool { return enc == encRLEDictionary || enc == encPlainDictionary }

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

// countDefined counts the entries at the maximum definition level: those with a value.
func countDefined(levels []byte, n int, maxLevel int16) (values int, err error) {
	err = decodeHybrid(levels, bitsFor(maxLevel), n, func(v uint64, times int) error {
		if v == uint64(maxLevel) {
			values += times
		}
		return nil
	})
	return values, err
}

// maxGroups keeps arithmetic on a run's length within its range.
const maxGroups = 1 << 28

// decodeHybrid decodes n values of the RLE and bit-packing hybrid (Parquet
// "Encodings"). visit gets a value and how often it stands there in a row.
func decodeHybrid(b []byte, width, n int, visit func(v uint64, times int) error) error {
	return eachRun(b, width, n, visit, func(packed []byte, n int) error { return unpack(packed, width, n, visit) })
}

// eachRun hands out the runs of n values: a value and its repetitions, or
// bit-packed values, whose bytes may be more than they need.
func eachRun(b []byte, width, n int, run func(v uint64, times int) error, packed func(b []byte, n int) error) error {
	if width == 0 {
		return run(0, n)
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
			if err := run(v, times); err != nil {
				return err
			}
			b, n = b[size:], n-times
			continue
		}
		if h>>1 == 0 || h>>1 > maxGroups {
			return errCorrupt
		}
		bytes := (h >> 1) * uint64(width)        // groups of eight values; DuckDB pads to 32 groups
		groups := b[:min(bytes, uint64(len(b)))] // the last group may be cut short
		take := min(int(h>>1)*8, n)
		if err := packed(groups, take); err != nil {
			return err
		}
		b, n = b[len(groups):], n-take
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
