package scanner

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// cursor walks a chunk beside others, so that the values of a row, or of an
// element, come together although every column has pages of its own.
type cursor struct {
	chunk   *pq.Chunk
	pages   *pq.PageReader
	dec     *pq.Decoder
	page    *pq.Page // current, nil before the first and after the last
	decoded bool
	data    pq.PageData

	e, v int   // next entry of the page, and the value it would have
	row  int64 // of the entry before e
	read int   // pages decoded
}

func newCursor(ctx context.Context, c *pq.Chunk, o pq.ReadOptions) *cursor {
	return &cursor{chunk: c, pages: c.Pages(ctx, o), dec: c.NewDecoder()}
}

func (c *cursor) close() { c.pages.Close() }

// nextPage moves to the next data page; false at the end.
func (c *cursor) nextPage() (bool, error) {
	for {
		p, err := c.pages.Next()
		if errors.Is(err, io.EOF) {
			c.page = nil
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if p.Header.Type != format.DictionaryPage {
			c.page, c.decoded, c.e, c.v = p, false, 0, 0
			return true, nil
		}
		if err := c.dec.SetDictionary(p); err != nil {
			return false, err
		}
	}
}

func (c *cursor) decode() error {
	if c.decoded {
		return nil
	}
	if err := c.dec.Decode(c.page, &c.data); err != nil {
		return err
	}
	c.decoded, c.row = true, c.data.FirstRow-1
	c.read++
	return nil
}

// errShort: the chunk's pages end before its rows do.
func (c *cursor) errShort() error {
	return &pq.Error{Kind: pq.ErrCorrupt, Where: c.chunk.Where(), What: "pages end before the rows do"}
}

// seek moves a flat column to a row at or behind the current one; pages before
// it are not decoded. It returns how many rows the page has from there.
func (c *cursor) seek(row int64) (left int64, err error) {
	for c.page == nil || row >= c.page.FirstRow+c.page.Rows {
		ok, err := c.nextPage()
		if err != nil {
			return 0, err
		}
		if !ok || row < c.page.FirstRow {
			return 0, c.errShort()
		}
	}
	if err := c.decode(); err != nil {
		return 0, err
	}
	to := int(row - c.page.FirstRow)
	c.v += c.defined(c.e, to)
	c.e = to
	return c.page.Rows - int64(to), nil
}

// defined counts the values among the entries [from, to).
func (c *cursor) defined(from, to int) int {
	if c.dense() {
		return to - from
	}
	return bytes.Count(c.data.Def[from:to], []byte{byte(c.chunk.Column.MaxDef)})
}

func (c *cursor) dense() bool { return c.data.Defined == c.data.Entries }

// The methods below walk entry by entry, for repeated columns.

// ensure makes an entry current; false at the end of the chunk.
func (c *cursor) ensure() (bool, error) {
	for c.page == nil || c.e >= c.data.Entries {
		ok, err := c.nextPage()
		if err != nil || !ok {
			return false, err
		}
		if err := c.decode(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *cursor) rep() int {
	if c.data.Rep == nil {
		return 0
	}
	return int(c.data.Rep[c.e])
}

// isValue says that the current entry is not a null or an empty list.
func (c *cursor) isValue() bool {
	return c.data.Def == nil || int(c.data.Def[c.e]) == c.chunk.Column.MaxDef
}

// entryRow is the row of the current entry.
func (c *cursor) entryRow() int64 {
	if c.rep() == 0 {
		return c.row + 1
	}
	return c.row
}

func (c *cursor) next() {
	c.row = c.entryRow()
	if c.isValue() {
		c.v++
	}
	c.e++
}

// seekEntry moves to the first entry of a row.
func (c *cursor) seekEntry(row int64) error {
	for {
		ok, err := c.ensure()
		if err != nil {
			return err
		}
		if !ok || c.entryRow() > row {
			return c.errShort()
		}
		if c.rep() == 0 && c.entryRow() == row {
			return nil
		}
		c.next()
	}
}

// value returns the i-th value of the page: integers in i64, others in raw.
func value(v *pq.Values, i int) (i64 int64, raw []byte) {
	if v.Dict != nil {
		return value(v.Dict, int(v.Index[i]))
	}
	switch v.Type {
	case format.Int32:
		return int64(v.Int32[i]), nil
	case format.Int64:
		return v.Int64[i], nil
	}
	return 0, v.At(i)
}
