package verifier

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

// entryTable says of each entry of a dictionary whether it is a key.
type entryTable struct {
	wanted []byte // 1 = a key
	any    bool
}

func newEntryTable(p *probe, dict [][]byte, d *schema.Column) *entryTable {
	bt := batch{n: len(dict), nvals: len(dict)}
	switch d.PhysicalType() {
	case parquet.Types.ByteArray:
		bt.bytes = make([]parquet.ByteArray, len(dict))
		for i, v := range dict {
			bt.bytes[i] = v
		}
	case parquet.Types.FixedLenByteArray:
		bt.flba = make([]parquet.FixedLenByteArray, len(dict))
		for i, v := range dict {
			bt.flba[i] = v
		}
	default:
		for _, v := range dict {
			bt.width = len(v)
			bt.fixed = append(bt.fixed, v...)
		}
	}
	t := &entryTable{wanted: make([]byte, len(dict))}
	for _, i := range p.sel(&bt) {
		t.wanted[i], t.any = 1, true
	}
	return t
}

// scanDictionary scans a chunk that announces a dictionary. Pages that refer to
// it are told by their indexes: where no entry is a key they are passed over by
// their headers, otherwise the indexes are looked up and nothing is decoded.
// Pages of other encodings are decoded. The footer's summary of encodings is not
// relied on.
func scanDictionary(s *pageStream, rg int, p *probe, rows *rowCounter, hits *roaring64.Bitmap) error {
	start := rows.row
	for _, pass := range []bool{true, false} {
		s.only(rg)
		rows.row = start
		uncounted, err := scanPages(s, pass, p, rows, hits)
		if err != nil {
			return err
		}
		if s.in == nil { // the chunk was read to its end
			if uncounted {
				rows.row = start + s.f.RowGroup(rg).NumRows()
			}
			return nil
		}
	}
	return errCorrupt
}

// scanPages scans the pages of a chunk. With pass, those of a list that refer to
// a dictionary without a key are passed over, without knowing how many rows begin in
// them; it stops when it meets another page and would have to know.
func scanPages(s *pageStream, pass bool, p *probe, rows *rowCounter, hits *roaring64.Bitmap) (uncounted bool, err error) {
	flat := s.l.desc.MaxRepetitionLevel() == 0
	var table *entryTable
	for {
		page, err := s.page()
		if err != nil || page == nil {
			return uncounted, err
		}
		if s.dict != nil && table == nil {
			dict, err := s.entries()
			if err != nil {
				return false, err
			}
			table = newEntryTable(p, dict, s.l.desc)
			s.skim = !table.any && (flat || pass)
		}
		byIndex := table != nil && isDictionary(int(page.encoding))
		switch {
		case byIndex && !table.any && flat:
			rows.row += page.values()
			s.skip()
		case byIndex && !table.any && pass:
			uncounted = true
			s.skip()
		case uncounted:
			return true, nil
		case byIndex && !s.bitPacked(page):
			err = s.scanIndexes(page, table, rows, hits)
			s.skip()
		default:
			err = scanDecoded(s, p, rows, hits)
		}
		if err != nil {
			return false, err
		}
	}
}

func scanDecoded(s *pageStream, p *probe, rows *rowCounter, hits *roaring64.Bitmap) error {
	for s.decode(); ; {
		bt, err := s.batch()
		if err != nil || bt == nil {
			return err
		}
		rows.mark(bt, s.l.maxDef(), p.sel(bt), hits)
	}
}

// scanIndexes marks the rows of a page whose values are wanted entries.
func (s *pageStream) scanIndexes(p *rawPage, t *entryTable, rows *rowCounter, hits *roaring64.Bitmap) error {
	d, err := s.parts(p)
	if err != nil {
		return err
	}
	maxDef, maxRep := s.l.maxDef(), s.l.desc.MaxRepetitionLevel()
	bt := batch{n: d.entries}
	if s.selected, err = selectEntries(s.selected[:0], d.values, d.defined, t.wanted); err != nil {
		return err
	}
	if maxRep > 0 {
		if bt.rep, err = expandLevels(nil, d.rep, maxRep, d.entries); err != nil {
			return err
		}
	}
	if maxDef > 0 && len(s.selected) > 0 {
		if bt.def, err = expandLevels(nil, d.def, maxDef, d.entries); err != nil {
			return err
		}
	}
	// Without a selected value the definition levels do not matter.
	rows.mark(&bt, maxDef, s.selected, hits)
	return nil
}

// splitPage is a data page's parts: levels as hybrid runs, nil where the maximum
// is 0, and the values behind them.
type splitPage struct {
	rep, def, values []byte
	entries, defined int
}

// bitPacked says that a page has levels in the deprecated encoding, which only
// the library reads.
func (s *pageStream) bitPacked(p *rawPage) bool {
	return p.field(0, 1) != pageDataV2 && (s.l.desc.MaxRepetitionLevel() > 0 && p.field(5, 4) == encBitPacked || s.l.maxDef() > 0 && p.field(5, 3) == encBitPacked)
}

// parts takes a page apart; bit-packed definition levels are errors. How many
// values there are is what the levels say: arrow-go states no nulls in the header
// of a v2 page where it keeps no statistics.
func (s *pageStream) parts(p *rawPage) (d splitPage, err error) {
	if d.values, err = s.uncompressed(p); err != nil {
		return d, err
	}
	maxDef, maxRep := s.l.maxDef(), s.l.desc.MaxRepetitionLevel()
	d.entries = int(p.values())
	d.defined = d.entries
	if p.field(0, 1) == pageDataV2 { // uncompressed has checked that both lie within the page
		rep, def := p.field(8, 6), p.field(8, 5)
		if rep < 0 || def < 0 {
			return d, errCorrupt
		}
		d.rep, d.def = p.body[:rep], p.body[rep:rep+def]
	} else {
		if maxRep > 0 {
			if d.rep, d.values, err = levelBody(d.values, d.entries, maxRep, parquet.Encoding(p.field(5, 4))); err != nil {
				return d, err
			}
		}
		if maxDef > 0 {
			if d.def, d.values, err = levelBody(d.values, d.entries, maxDef, parquet.Encoding(p.field(5, 3))); err != nil {
				return d, err
			}
			if int(p.field(5, 3)) == encBitPacked {
				return d, fmt.Errorf("bit-packed levels: %w", errCorrupt)
			}
		}
	}
	if maxDef > 0 {
		if d.defined, err = countDefined(d.def, d.entries, maxDef); err != nil {
			return d, err
		}
	}
	return d, nil
}

// expandLevels decodes n levels into dst's memory.
func expandLevels(dst []int16, b []byte, maxLevel int16, n int) ([]int16, error) {
	out := slices.Grow(dst[:0], n)
	err := decodeHybrid(b, bitsFor(maxLevel), n, func(v uint64, times int) error {
		if v > uint64(maxLevel) {
			return errCorrupt
		}
		at := len(out)
		out = out[:at+times]
		for i := range out[at:] {
			out[at+i] = int16(v)
		}
		return nil
	})
	return out, err
}

// selectEntries appends the positions of those of a page's n indexes that refer
// to a wanted entry. The first byte is their width ("Dictionary Encoding").
func selectEntries(dst []int32, b []byte, n int, wanted []byte) ([]int32, error) {
	if n == 0 {
		return dst, nil
	}
	if n < 0 || len(b) == 0 || b[0] > 32 {
		return dst, errCorrupt
	}
	width, at := int(b[0]), 0
	err := eachRun(b[1:], width, n, func(v uint64, times int) error {
		if v >= uint64(len(wanted)) {
			return errCorrupt
		}
		if wanted[v] != 0 {
			for i := range times {
				dst = append(dst, int32(at+i))
			}
		}
		at += times
		return nil
	}, func(packed []byte, n int) (err error) {
		dst, err = selectPacked(dst, at, packed, width, n, wanted)
		at += n
		return err
	})
	return dst, err
}

// selectPacked is selectEntries for n bit-packed indexes, the first of which has
// the position at. Eight bytes at a time hold any index of up to 32 bits.
func selectPacked(dst []int32, at int, b []byte, width, n int, wanted []byte) ([]int32, error) {
	if (n*width+7)/8 > len(b) {
		return dst, errCorrupt
	}
	mask := uint64(1)<<width - 1
	i, bit := 0, 0
	whole := min(n, max(0, (len(b)-8)*8/width)) // these can be read so
	for ; i < whole; i++ {
		v := binary.LittleEndian.Uint64(b[bit>>3:]) >> (bit & 7) & mask
		if v >= uint64(len(wanted)) {
			return dst, errCorrupt
		}
		if wanted[v] != 0 {
			dst = append(dst, int32(at+i))
		}
		bit += width
	}
	var tail [24]byte
	copy(tail[:], b[bit>>3:])
	for from := bit >> 3; i < n; i++ {
		v := binary.LittleEndian.Uint64(tail[bit>>3-from:]) >> (bit & 7) & mask
		if v >= uint64(len(wanted)) {
			return dst, errCorrupt
		}
		if wanted[v] != 0 {
			dst = append(dst, int32(at+i))
		}
		bit += width
	}
	return dst, nil
}
