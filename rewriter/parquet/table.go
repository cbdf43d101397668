package parquet

import (
	"bytes"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// pageTable says where a chunk's pages lie and which rows they hold.
type pageTable struct {
	dictOffset, dictSize int64 // size 0: none
	pages                []pageEntry
	index                *format.OffsetIndex
	column               *format.ColumnIndex
}

// pageEntry is one data page. Rows are counted from the start of the row group.
type pageEntry struct {
	offset, size int64
	first, rows  int // rows that have entries in the page
	continues    bool
	header       *pq.PageHeader // known where headers were walked; bounds cloned
	job          *pageJob
	out          int64 // offset in the new file, -1 = dropped
	credit       int   // what it holds of the chunk's credit
}

// readTable finds the pages by the offset index, or by walking the headers.
func (c *chunkJob) readTable() (*pageTable, error) {
	x, err := c.src.OffsetIndex()
	if err != nil {
		return nil, err
	}
	if x == nil || !seamless(c.src, x) {
		// Pages that do not adjoin: there are gaps, or the index is wrong, as
		// some writers' are. The headers know; where they do not either, the
		// index is believed.
		t := &pageTable{}
		if err := c.walk(t); err == nil || x == nil {
			return t, err
		}
	}
	t := &pageTable{index: x}
	if t.column, err = c.src.ColumnIndex(len(x.PageLocations)); err != nil {
		return nil, err
	}
	locs := x.PageLocations
	for i := range locs {
		end := int(c.src.RowGroup.Rows)
		if i+1 < len(locs) {
			end = int(locs[i+1].FirstRowIndex)
		}
		first := int(locs[i].FirstRowIndex)
		t.pages = append(t.pages, pageEntry{offset: locs[i].Offset, size: int64(locs[i].CompressedPageSize), first: first, rows: end - first})
	}
	if len(locs) > 0 && locs[0].Offset > c.src.Start {
		t.dictOffset, t.dictSize = c.src.Start, locs[0].Offset-c.src.Start
	}
	return t, nil
}

// seamless says whether an offset index covers its chunk without gaps, a
// dictionary page in front aside.
func seamless(src *pq.Chunk, x *format.OffsetIndex) bool {
	locs := x.PageLocations
	if len(locs) == 0 {
		return src.Start == src.End
	}
	if locs[0].Offset > src.Start && !src.HasDictionary() {
		return false
	}
	end := locs[0].Offset
	for i := range locs {
		if locs[i].Offset != end {
			return false
		}
		end += int64(locs[i].CompressedPageSize)
	}
	return end == src.End
}

// walk reads every header of the chunk. Where only repetition levels tell the
// rows (v1 pages of repeated columns), it decodes those too.
func (c *chunkJob) walk(t *pageTable) error {
	r := c.src.Pages(c.eng.ctx, pq.ReadOptions{})
	dec := c.src.NewDecoder()
	var rep []uint8
	rows := 0
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if p.Header.Type == format.DictionaryPage {
			if len(t.pages) > 0 || t.dictSize > 0 {
				return corrupt("%s: dictionary page behind data pages", c.src.Where())
			}
			t.dictOffset, t.dictSize = p.Offset, p.Size()
			continue
		}
		h := p.Header
		s := &h.Statistics
		s.Min, s.Max, s.MinValue, s.MaxValue = bytes.Clone(s.Min), bytes.Clone(s.Max), bytes.Clone(s.MinValue), bytes.Clone(s.MaxValue)
		e := pageEntry{offset: p.Offset, size: p.Size(), header: &h, first: int(p.FirstRow), rows: int(p.Rows)}
		if p.FirstRow < 0 {
			if rep, err = c.repetition(dec, p, rep); err != nil {
				return err
			}
			e.first, e.rows = rows, bytes.Count(rep, []byte{0})
			if rows += e.rows; len(rep) > 0 && rep[0] != 0 {
				if e.first == 0 {
					return corrupt("%s: starts in the middle of a row", c.src.Where())
				}
				e.continues = true
				e.first, e.rows = e.first-1, e.rows+1
			}
		} else {
			rows = int(p.FirstRow + p.Rows)
		}
		t.pages = append(t.pages, e)
	}
	if int64(rows) != c.src.RowGroup.Rows {
		return corrupt("%s: pages hold %d rows of %d", c.src.Where(), rows, c.src.RowGroup.Rows)
	}
	return nil
}

func (c *chunkJob) repetition(dec *pq.Decoder, p *pq.Page, buf []uint8) ([]uint8, error) {
	body, err := dec.Body(p)
	if err != nil {
		return nil, err
	}
	return pq.DecodeLevels(buf, body.Rep, body.RepEncoding, c.col.MaxRep, int(p.Header.NumValues))
}

// loadDictionary reads the dictionary page.
func (c *chunkJob) loadDictionary() (pq.Page, error) {
	raw := make([]byte, c.table.dictSize)
	if err := readFull(c.eng.in, raw, c.table.dictOffset); err != nil {
		return pq.Page{}, err
	}
	return c.parse(raw, c.table.dictOffset)
}

func (c *chunkJob) parse(raw []byte, offset int64) (pq.Page, error) {
	h, n, _, err := pq.ParsePageHeader(raw)
	if err != nil {
		return pq.Page{}, err
	}
	end := int64(n) + int64(h.CompressedSize)
	if end > int64(len(raw)) || end < int64(len(raw)) && h.IsData() {
		return pq.Page{}, corrupt("%s: page at %d does not fill its place", c.src.Where(), offset)
	}
	p := pq.Page{Offset: offset, RawHeader: raw[:n:n], Header: h, Body: raw[n:end]}
	if h.HasCRC && crcOf(p.Body) != h.CRC {
		return pq.Page{}, corrupt("%s: checksum of the page at %d", c.src.Where(), offset)
	}
	return p, nil
}

// peek reads a page's header alone.
func (c *chunkJob) peek(e *pageEntry) (*pq.PageHeader, error) {
	if e.header != nil {
		return e.header, nil
	}
	for n := int64(256); ; n *= 8 {
		raw := make([]byte, min(n, e.size))
		if err := readFull(c.eng.in, raw, e.offset); err != nil {
			return nil, err
		}
		h, _, short, err := pq.ParsePageHeader(raw)
		if err == nil {
			e.header = &h
			return e.header, nil
		}
		if !short || n >= e.size {
			return nil, err
		}
	}
}

// mustStartRows refuses element removal where a page continues a row: the
// element's number would depend on the page before.
func (t *pageTable) mustStartRows(c *chunkJob) error {
	if len(c.leaf.removal) == 0 {
		return nil
	}
	for i := range t.pages {
		if t.pages[i].continues {
			return &rewriter.UnsupportedError{What: "element removal where pages split rows", Where: c.src.Where()}
		}
	}
	return nil
}
