package pq

import (
	"fmt"
	"math"

	"github.com/parquet-go/parquet-go/format"
)

// Chunk is one column of one row group.
type Chunk struct {
	File     *File
	RowGroup *RowGroup
	Column   *Column
	Meta     *format.ColumnMetaData
	Entry    *format.ColumnChunk // where its indexes lie
	Start    int64               // file offset of its first page (dictionary or data)
	End      int64               // file offset behind its last page
}

// Where names the chunk in errors.
func (c *Chunk) Where() string {
	return fmt.Sprintf("row group %d, column %s", c.RowGroup.Index, c.Column.Name())
}

// Chunk checks and returns the chunk of a column.
func (g *RowGroup) Chunk(col *Column) (*Chunk, error) {
	e := &g.Meta.Columns[col.Index]
	c := &Chunk{File: g.File, RowGroup: g, Column: col, Meta: &e.MetaData, Entry: e}
	if err := c.check(); err != nil {
		return nil, at(c.Where(), err)
	}
	return c, nil
}

func (c *Chunk) check() error {
	m := c.Meta
	if c.Entry.FilePath != "" {
		return unsupported("chunk in another file")
	}
	if c.Entry.CryptoMetadata.Value != nil || len(c.Entry.EncryptedColumnMetadata) != 0 {
		return unsupported("encrypted column")
	}
	if m.Type != c.Column.Type {
		return corrupt("chunk of type %s in a column of type %s", m.Type, c.Column.Type)
	}
	if m.NumValues < 0 || c.Column.MaxRep == 0 && m.NumValues != c.RowGroup.Rows {
		return corrupt("chunk of %d values in a row group of %d rows", m.NumValues, c.RowGroup.Rows)
	}
	if c.Column.MaxRep > 0 && m.NumValues < c.RowGroup.Rows {
		return corrupt("chunk of %d values in a row group of %d rows", m.NumValues, c.RowGroup.Rows)
	}
	if err := checkCodec(m.Codec); err != nil {
		return err
	}
	c.Start = m.DataPageOffset
	// An empty row group may have a dictionary page and no data page.
	if d := m.DictionaryPageOffset; d > 0 && (d < c.Start || c.Start == 0 && m.NumValues == 0) {
		c.Start = d
	}
	if m.TotalCompressedSize < 0 || m.TotalCompressedSize > math.MaxInt64-max(c.Start, 0) {
		return corrupt("impossible chunk size")
	}
	c.End = c.Start + m.TotalCompressedSize
	if c.Start == 0 && c.End == 0 && m.NumValues == 0 {
		return nil // an empty row group may leave its offsets unset
	}
	if c.Start < 4 || c.End > c.File.FooterOffset || m.DataPageOffset > c.End {
		return corrupt("chunk at %d of %d bytes lies outside the file's data", c.Start, m.TotalCompressedSize)
	}
	return nil
}

// HasDictionary says that a dictionary page is announced. Some writers leave
// the offset out and put the page first all the same: only the walk tells.
func (c *Chunk) HasDictionary() bool { return c.Meta.DictionaryPageOffset > 0 }

// DictionaryOnly says that every data page is known to be dictionary-encoded:
// an entry that is not in the dictionary is then not in the chunk. It needs
// encoding_stats; without them, false.
func (c *Chunk) DictionaryOnly() bool {
	if len(c.Meta.EncodingStats) == 0 {
		return false
	}
	data := false
	for _, s := range c.Meta.EncodingStats {
		switch s.PageType {
		case format.DataPage, format.DataPageV2:
			if s.Count == 0 {
				continue
			}
			if s.Encoding != format.RLEDictionary && s.Encoding != format.PlainDictionary {
				return false
			}
			data = true
		}
	}
	return data
}

// HasPageIndex says that both the column and the offset index are there.
func (c *Chunk) HasPageIndex() bool {
	return c.HasOffsetIndex() && c.Entry.ColumnIndexOffset > 0 && c.Entry.ColumnIndexLength > 0
}

// HasOffsetIndex says that page locations are stored.
func (c *Chunk) HasOffsetIndex() bool {
	return c.Entry.OffsetIndexOffset > 0 && c.Entry.OffsetIndexLength > 0
}

// OffsetIndex reads and checks the page locations (PageIndex.md). It returns
// nil when the chunk has none.
func (c *Chunk) OffsetIndex() (*format.OffsetIndex, error) {
	if !c.HasOffsetIndex() {
		return nil, nil
	}
	where := c.Where() + ", offset index"
	b, err := c.File.readRange(c.Entry.OffsetIndexOffset, int64(c.Entry.OffsetIndexLength), maxIndex)
	if err != nil {
		return nil, at(where, err)
	}
	x := new(format.OffsetIndex)
	if _, err := decodeStruct(b, anyShape, x); err != nil {
		return nil, at(where, err)
	}
	if err := c.checkLocations(x.PageLocations); err != nil {
		return nil, at(where, err)
	}
	return x, nil
}

// checkLocations: pages lie in the chunk, in order, without overlap, and their
// first rows rise strictly from 0.
func (c *Chunk) checkLocations(locs []format.PageLocation) error {
	if len(locs) == 0 && c.RowGroup.Rows > 0 {
		return corrupt("no pages for %d rows", c.RowGroup.Rows)
	}
	end := c.Start
	for i := range locs {
		l := &locs[i]
		if l.Offset < end || l.CompressedPageSize <= 0 || int64(l.CompressedPageSize) > c.End-l.Offset {
			return corrupt("page %d lies outside the chunk", i)
		}
		end = l.Offset + int64(l.CompressedPageSize)
		switch {
		case i == 0 && l.FirstRowIndex != 0:
			return corrupt("first page does not start at row 0")
		case i > 0 && l.FirstRowIndex <= locs[i-1].FirstRowIndex:
			return corrupt("page %d does not start behind its predecessor", i)
		case l.FirstRowIndex >= c.RowGroup.Rows && c.RowGroup.Rows > 0:
			return corrupt("page %d starts behind the row group", i)
		}
	}
	return nil
}

// ColumnIndex reads the bounds of the pages (PageIndex.md) and checks that
// there is one of each for every one of the given number of pages. It returns
// nil when the chunk has none.
func (c *Chunk) ColumnIndex(pages int) (*format.ColumnIndex, error) {
	if c.Entry.ColumnIndexOffset <= 0 || c.Entry.ColumnIndexLength <= 0 {
		return nil, nil
	}
	where := c.Where() + ", column index"
	b, err := c.File.readRange(c.Entry.ColumnIndexOffset, int64(c.Entry.ColumnIndexLength), maxIndex)
	if err != nil {
		return nil, at(where, err)
	}
	x := new(format.ColumnIndex)
	if _, err := decodeStruct(b, anyShape, x); err != nil {
		return nil, at(where, err)
	}
	if len(x.NullPages) != pages || len(x.MinValues) != pages || len(x.MaxValues) != pages ||
		len(x.NullCounts) != 0 && len(x.NullCounts) != pages {
		return nil, at(where, corrupt("bounds of %d pages for %d", len(x.NullPages), pages))
	}
	return x, nil
}

// TypeOrdered says that min_value and max_value of the column are defined by
// the column's type (parquet.thrift, ColumnOrder). Without column orders, or
// with one that is not known here, their meaning is undefined.
func (f *File) TypeOrdered(col *Column) bool {
	if col.Index >= len(f.Meta.ColumnOrders) {
		return false
	}
	_, ok := f.Meta.ColumnOrders[col.Index].Value.(*format.TypeDefinedOrder)
	return ok
}
