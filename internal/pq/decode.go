package pq

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/parquet-go/parquet-go/format"
)

// Body is a decompressed data page, cut in its sections. Levels come without
// the length prefix that v1 pages put before them; they are nil where the
// column has none.
type Body struct {
	Rep, Def, Values         []byte
	RepEncoding, DefEncoding format.Encoding
}

// PageData is a decoded data page.
type PageData struct {
	// Entries is the number of level entries, Defined how many of them are
	// values: Values.N == Defined.
	Entries, Defined int
	Rep, Def         []uint8 // nil where the maximum level is 0
	Values           Values
	// FirstRow is the position in the row group of the first row that starts
	// in the page; Rows is how many start.
	FirstRow, Rows int64
	// Continues says that the page starts in the middle of row FirstRow-1.
	Continues bool
	maxDef    uint8
}

// Decoder decodes the pages of one chunk, which must come in file order (a
// selection of them may, where an offset index gives the rows). It owns the
// memory that results are decoded into. It is not safe for concurrent use.
type Decoder struct {
	chunk   *Chunk
	Dict    *Values // once a dictionary page was seen
	dict    Values
	rows    int64 // rows that started so far
	buf     []byte
	dictBuf []byte
}

// NewDecoder returns a decoder for a chunk.
func (c *Chunk) NewDecoder() *Decoder { return &Decoder{chunk: c} }

// Reset points the decoder at another chunk and keeps its memory.
func (d *Decoder) Reset(c *Chunk) { d.chunk, d.Dict, d.rows = c, nil, 0 }

// fail adds the page's place to an error.
func (d *Decoder) fail(p *Page, err error) error {
	if err == nil {
		return nil
	}
	return at(fmt.Sprintf("%s, page at %d", d.chunk.Where(), p.Offset), err)
}

// Explain adds the page's place to an error from reading its sections.
func (d *Decoder) Explain(p *Page, err error) error { return d.fail(p, err) }

// SetDictionary decodes a dictionary page.
func (d *Decoder) SetDictionary(p *Page) error {
	return d.fail(p, d.setDictionary(p))
}

func (d *Decoder) setDictionary(p *Page) error {
	h := &p.Header
	if d.Dict != nil {
		return corrupt("second dictionary page")
	}
	// PLAIN_DICTIONARY in a dictionary page means PLAIN (Encodings.md).
	if h.Encoding != format.Plain && h.Encoding != format.PlainDictionary {
		return unsupported("dictionary in encoding %s", h.Encoding)
	}
	body, err := Decompress(d.chunk.Meta.Codec, d.dictBuf, p.Body, int(h.UncompressedSize))
	if err != nil {
		return err
	}
	// An uncompressed body lies in the reader's window, which moves on; the
	// dictionary stays.
	if d.chunk.Meta.Codec == format.Uncompressed {
		body = append(d.dictBuf[:0], body...)
	}
	d.dictBuf = body
	if err := d.dict.DecodeValues(body, format.Plain, d.chunk.Column, nil, int(h.NumValues)); err != nil {
		return err
	}
	d.Dict = &d.dict
	return nil
}

// Skip passes over a page whose rows are known without decoding it.
func (d *Decoder) Skip(p *Page) { d.rows = max(d.rows, p.FirstRow+p.Rows) }

// Body decompresses a data page and cuts it. The result is valid until the
// next call, and aliases the page where that is not compressed.
func (d *Decoder) Body(p *Page) (Body, error) {
	var b Body
	var err error
	if p.Header.Type == format.DataPageV2 {
		b, err = d.bodyV2(p)
	} else {
		b, err = d.bodyV1(p)
	}
	return b, d.fail(p, err)
}

// bodyV1: repetition levels, definition levels and values, compressed as one
// (README.md, "Data Pages").
func (d *Decoder) bodyV1(p *Page) (b Body, err error) {
	h, col := &p.Header, d.chunk.Column
	raw, err := d.decompress(p.Body, int(h.UncompressedSize))
	if err != nil {
		return b, err
	}
	n := int(h.NumValues)
	if col.MaxRep > 0 {
		b.RepEncoding = h.RepEncoding
		if b.Rep, raw, err = cutLevels(raw, h.RepEncoding, col.MaxRep, n); err != nil {
			return b, err
		}
	}
	if col.MaxDef > 0 {
		b.DefEncoding = h.DefEncoding
		if b.Def, raw, err = cutLevels(raw, h.DefEncoding, col.MaxDef, n); err != nil {
			return b, err
		}
	}
	b.Values = raw
	return b, nil
}

// bodyV2: levels are not compressed and their lengths stand in the header.
func (d *Decoder) bodyV2(p *Page) (b Body, err error) {
	h, col := &p.Header, d.chunk.Column
	levels := int(h.RepLength) + int(h.DefLength)
	size := int(h.UncompressedSize) - levels
	b.RepEncoding, b.DefEncoding = format.RLE, format.RLE
	if col.MaxRep > 0 {
		b.Rep = p.Body[:h.RepLength]
	}
	if col.MaxDef > 0 {
		b.Def = p.Body[h.RepLength:levels]
	}
	body := p.Body[levels:]
	if h.ValuesUncompressed {
		if len(body) != size {
			return b, corrupt("body of %d bytes announced as %d", len(body), size)
		}
		b.Values = body
		return b, nil
	}
	b.Values, err = d.decompress(body, size)
	return b, err
}

func (d *Decoder) decompress(src []byte, size int) ([]byte, error) {
	out, err := Decompress(d.chunk.Meta.Codec, d.buf, src, size)
	if err == nil && d.chunk.Meta.Codec != format.Uncompressed {
		d.buf = out
	}
	return out, err
}

func cutLevels(raw []byte, enc format.Encoding, maxLevel, n int) (levels, rest []byte, err error) {
	size := uint64((n*levelWidth(maxLevel) + 7) / 8)
	if enc != format.BitPacked {
		if len(raw) < 4 {
			return nil, nil, corrupt("levels end early")
		}
		size = uint64(binary.LittleEndian.Uint32(raw))
		raw = raw[4:]
	}
	if size > uint64(len(raw)) {
		return nil, nil, corrupt("levels end early")
	}
	return raw[:size], raw[size:], nil
}

// Decode decodes a data page into out, whose memory is used again. The result
// is valid until the next call, and aliases the page where that is not
// compressed.
func (d *Decoder) Decode(p *Page, out *PageData) error {
	body, err := d.Body(p)
	if err != nil {
		return err
	}
	if err := d.levels(p, body, out); err != nil {
		return d.fail(p, err)
	}
	err = out.Values.DecodeValues(body.Values, p.Header.Encoding, d.chunk.Column, d.Dict, out.Defined)
	return d.fail(p, err)
}

// DecodeLevels decodes the levels of a page that was cut by Body, and leaves
// the values alone: out.Values is stale.
func (d *Decoder) DecodeLevels(p *Page, body Body, out *PageData) error {
	return d.fail(p, d.levels(p, body, out))
}

func (d *Decoder) levels(p *Page, body Body, out *PageData) error {
	col := d.chunk.Column
	n := int(p.Header.NumValues)
	out.Entries, out.Defined, out.maxDef = n, n, uint8(col.MaxDef)
	var err error
	if col.MaxDef > 0 {
		if out.Def, err = DecodeLevels(out.Def, body.Def, body.DefEncoding, col.MaxDef, n); err != nil {
			return err
		}
		out.Defined = bytes.Count(out.Def, []byte{out.maxDef})
	} else {
		out.Def = nil
	}
	// num_nulls of a v2 header is not compared: arrow-go writes 0 where it
	// keeps no statistics. The levels decide.
	if col.MaxRep == 0 {
		out.Rep = nil
		return d.place(p, out, int64(n), false)
	}
	if out.Rep, err = DecodeLevels(out.Rep, body.Rep, body.RepEncoding, col.MaxRep, n); err != nil {
		return err
	}
	started := int64(bytes.Count(out.Rep, []byte{0}))
	return d.place(p, out, started, n > 0 && out.Rep[0] != 0)
}

// place sets the rows of the page from its levels and what is known of it.
func (d *Decoder) place(p *Page, out *PageData, started int64, continues bool) error {
	out.Rows, out.Continues, out.FirstRow = started, continues, d.rows
	if p.FirstRow >= 0 {
		if p.Rows != started || continues {
			return corrupt("page holds %d rows for %d", started, p.Rows)
		}
		out.FirstRow = p.FirstRow
	} else if continues && d.rows == 0 {
		return corrupt("chunk starts in the middle of a row")
	}
	d.rows = out.FirstRow + started
	if d.rows > d.chunk.RowGroup.Rows {
		return corrupt("pages hold more than the row group's %d rows", d.chunk.RowGroup.Rows)
	}
	return nil
}

// EntriesOf appends, for ascending indexes of values, the level entries that
// hold them.
func (d *PageData) EntriesOf(dst, values []int32) []int32 {
	if d.Defined == d.Entries {
		return append(dst, values...)
	}
	// Values are counted in blocks; only a block that holds one is searched.
	const block = 256
	want := []byte{d.maxDef}
	entry, seen := 0, 0
	for _, v := range values {
		for {
			end := min(entry+block, len(d.Def))
			if end == entry {
				return dst // no such value
			}
			n := bytes.Count(d.Def[entry:end], want)
			if seen+n > int(v) {
				break
			}
			seen += n
			entry = end
		}
		for ; ; entry++ {
			if d.Def[entry] == d.maxDef {
				if seen == int(v) {
					break
				}
				seen++
			}
		}
		dst = append(dst, int32(entry))
	}
	return dst
}

// RowsOf appends, for ascending level entries, their rows in the row group.
func (d *PageData) RowsOf(dst []int64, entries []int32) []int64 {
	if d.Rep == nil {
		for _, e := range entries {
			dst = append(dst, d.FirstRow+int64(e))
		}
		return dst
	}
	row, next := d.FirstRow-1, 0
	for _, e := range entries {
		row += int64(bytes.Count(d.Rep[next:e+1], []byte{0}))
		next = int(e) + 1
		dst = append(dst, row)
	}
	return dst
}
