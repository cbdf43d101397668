package pq

import (
	"github.com/parquet-go/parquet-go/format"
)

// PageHeader is a decoded page header (parquet.thrift, PageHeader). Unlike the
// library's struct it tells a field that is absent from one that is zero.
type PageHeader struct {
	Type             format.PageType
	UncompressedSize int32 // of the body, levels included
	CompressedSize   int32 // of the body as stored, levels included
	CRC              uint32
	HasCRC           bool

	NumValues int32           // level entries (data) or entries (dictionary)
	Encoding  format.Encoding // of the values

	// Data page v1 only.
	DefEncoding, RepEncoding format.Encoding
	// Data page v2 only.
	NumNulls, NumRows  int32
	DefLength          int32 // bytes of the definition levels
	RepLength          int32
	ValuesUncompressed bool // is_compressed = false

	Sorted        bool // dictionary page only
	Statistics    PageStatistics
	HasStatistics bool
}

// PageStatistics are a data page's statistics. A bound that is absent is nil,
// one that is present and empty is not.
type PageStatistics struct {
	Max, Min           []byte // deprecated, signed order
	MaxValue, MinValue []byte
	NullCount          int64
	HasNullCount       bool
}

// IsData says that the page holds rows.
func (h *PageHeader) IsData() bool {
	return h.Type == format.DataPage || h.Type == format.DataPageV2
}

// UsesDictionary says that the values are indexes into the dictionary.
func (h *PageHeader) UsesDictionary() bool {
	return h.Encoding == format.RLEDictionary || h.Encoding == format.PlainDictionary
}

// ParsePageHeader decodes the header at the start of b and returns its length.
// short says that b ends before the header does and a longer b could help.
// Byte slices of the result alias b.
func ParsePageHeader(b []byte) (h PageHeader, n int, short bool, err error) {
	p := headerParser{c: cursor{b: b}, h: &h}
	p.page()
	if p.c.short {
		return PageHeader{}, 0, true, corrupt("page header is cut short")
	}
	if p.c.bad || p.seen&0b1110 != 0b1110 {
		return PageHeader{}, 0, false, corrupt("malformed page header")
	}
	return h, p.c.i, false, h.check(p.seen)
}

// check refuses what no page can have.
func (h *PageHeader) check(seen uint32) error {
	if h.UncompressedSize < 0 || h.CompressedSize < 0 || h.NumValues < 0 {
		return corrupt("negative size in a page header")
	}
	if h.NumValues > MaxPageValues {
		return unsupported("page of %d values", h.NumValues)
	}
	var want uint32
	switch h.Type {
	case format.DataPage:
		want = 1 << 5
	case format.IndexPage:
		return nil
	case format.DictionaryPage:
		want = 1 << 7
	case format.DataPageV2:
		want = 1 << 8
		if h.NumNulls < 0 || h.NumRows < 0 || h.DefLength < 0 || h.RepLength < 0 ||
			h.NumNulls > h.NumValues || h.NumRows > h.NumValues ||
			int64(h.DefLength)+int64(h.RepLength) > int64(h.CompressedSize) ||
			int64(h.DefLength)+int64(h.RepLength) > int64(h.UncompressedSize) {
			return corrupt("impossible counts in a page header")
		}
	default:
		return unsupported("page type %d", h.Type)
	}
	if seen&(1<<8|1<<7|1<<5)&want == 0 {
		return corrupt("page header without its kind's part")
	}
	return nil
}

type headerParser struct {
	c    cursor
	h    *PageHeader
	seen uint32 // bit i: field i of PageHeader was there
}

// each calls f for every field of the struct at the cursor. f returns false
// for a field that it did not read, which is then skipped.
func (p *headerParser) each(depth int, f func(id int16, typ byte) bool) {
	var last int16
	for {
		id, typ := p.c.field(last)
		if !p.c.ok() || typ == tStop {
			return
		}
		last = id
		if !f(id, typ) {
			p.c.skip(typ, false, depth, nil)
		}
		if !p.c.ok() {
			return
		}
	}
}

func (p *headerParser) page() {
	h := p.h
	p.each(0, func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == tI32:
			h.Type = format.PageType(p.c.i32())
		case id == 2 && typ == tI32:
			h.UncompressedSize = p.c.i32()
		case id == 3 && typ == tI32:
			h.CompressedSize = p.c.i32()
		case id == 4 && typ == tI32:
			h.CRC, h.HasCRC = uint32(p.c.i32()), true
		case id == 5 && typ == tStruct && p.seen&(1<<7|1<<8) == 0:
			p.data()
		case id == 7 && typ == tStruct && p.seen&(1<<5|1<<8) == 0:
			p.dictionary()
		case id == 8 && typ == tStruct && p.seen&(1<<5|1<<7) == 0:
			p.dataV2()
		default:
			return false
		}
		p.seen |= 1 << id
		return true
	})
}

func (p *headerParser) data() {
	h := p.h
	p.each(1, func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == tI32:
			h.NumValues = p.c.i32()
		case id == 2 && typ == tI32:
			h.Encoding = format.Encoding(p.c.i32())
		case id == 3 && typ == tI32:
			h.DefEncoding = format.Encoding(p.c.i32())
		case id == 4 && typ == tI32:
			h.RepEncoding = format.Encoding(p.c.i32())
		case id == 5 && typ == tStruct:
			p.statistics()
		default:
			return false
		}
		return true
	})
}

func (p *headerParser) dictionary() {
	h := p.h
	p.each(1, func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == tI32:
			h.NumValues = p.c.i32()
		case id == 2 && typ == tI32:
			h.Encoding = format.Encoding(p.c.i32())
		case id == 3 && (typ == tTrue || typ == tFalse):
			h.Sorted = typ == tTrue
		default:
			return false
		}
		return true
	})
}

func (p *headerParser) dataV2() {
	h := p.h
	p.each(1, func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == tI32:
			h.NumValues = p.c.i32()
		case id == 2 && typ == tI32:
			h.NumNulls = p.c.i32()
		case id == 3 && typ == tI32:
			h.NumRows = p.c.i32()
		case id == 4 && typ == tI32:
			h.Encoding = format.Encoding(p.c.i32())
		case id == 5 && typ == tI32:
			h.DefLength = p.c.i32()
		case id == 6 && typ == tI32:
			h.RepLength = p.c.i32()
		case id == 7 && (typ == tTrue || typ == tFalse):
			h.ValuesUncompressed = typ == tFalse
		case id == 8 && typ == tStruct:
			p.statistics()
		default:
			return false
		}
		return true
	})
}

func (p *headerParser) statistics() {
	s := &p.h.Statistics
	p.h.HasStatistics = true
	p.each(2, func(id int16, typ byte) bool {
		switch {
		case id == 1 && typ == tBinary:
			s.Max = p.c.binary()
		case id == 2 && typ == tBinary:
			s.Min = p.c.binary()
		case id == 3 && typ == tI64:
			s.NullCount, s.HasNullCount = p.c.varint(), true
		case id == 5 && typ == tBinary:
			s.MaxValue = p.c.binary()
		case id == 6 && typ == tBinary:
			s.MinValue = p.c.binary()
		default:
			return false
		}
		return true
	})
}
