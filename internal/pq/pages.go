package pq

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/parquet-go/parquet-go/format"
)

// Page is a page as stored. Its slices are valid until the next call of the
// reader that made it.
type Page struct {
	Offset    int64  // file offset of the header
	RawHeader []byte // header as stored
	Header    PageHeader
	Body      []byte // as stored: compressed, but for the levels of a v2 page
	Ordinal   int    // among the data pages of the chunk; -1 for the dictionary
	// FirstRow is the position in the row group of the first row that starts
	// in the page, Rows how many do. Both are -1 where only the repetition
	// levels tell: v1 pages of a repeated column without an offset index. Such
	// a page may start in the middle of a row.
	FirstRow, Rows int64
}

// Size is the number of bytes that the page takes in the file.
func (p *Page) Size() int64 { return int64(len(p.RawHeader)) + int64(len(p.Body)) }

// ReadOptions tune a page walk.
type ReadOptions struct {
	// Window is how many bytes one read asks for at most, unless a single page
	// is larger; 0 = 1 MiB.
	Window int
	// Index, if set, gives the page locations: pages know their rows.
	Index *format.OffsetIndex
	// Select, if set, is the ascending list of data pages to read; it needs
	// Index.
	Select []int
	// SkipDictionary leaves the dictionary page out, see Chunk.Dictionary.
	SkipDictionary bool
	// Gap is how many unneeded bytes between two selected pages are read
	// rather than starting another request; 0 = none.
	Gap int64
	// NoCRC skips the check of the pages' checksums.
	NoCRC bool
}

// PageReader walks the pages of a chunk in file order.
type PageReader struct {
	ctx   context.Context
	chunk *Chunk
	o     ReadOptions

	win    []byte // file bytes [winAt, winAt+len(win))
	winAt  int64
	pos    int64 // of the next page
	limit  int64 // reads do not pass it
	ranges []span
	sel    []int // ordinals still to come, when selecting

	bytesRead int64 // bytes read
	ordinal   int
	values    int64 // level entries of the data pages passed so far
	row       int64 // rows that started so far; -1 once unknown
	page      Page
}

type span struct{ from, to int64 }

// Pages starts a walk.
func (c *Chunk) Pages(ctx context.Context, o ReadOptions) *PageReader {
	if o.Window <= 0 {
		o.Window = 1 << 20
	}
	r := &PageReader{ctx: ctx, chunk: c, o: o, pos: c.Start, limit: c.End}
	switch {
	case o.Select != nil:
		r.plan()
	case o.SkipDictionary:
		r.pos = max(r.pos, c.Meta.DataPageOffset)
	}
	if w, _ := windows.Get().(*[]byte); w != nil {
		r.win = (*w)[:0]
	}
	return r
}

// windows are the readers' buffers, used again after Close.
var windows sync.Pool

// Close gives the reader's memory back: no page of it may be used any more. It
// is not needed for anything else.
func (r *PageReader) Close() {
	if cap(r.win) > 0 && cap(r.win) <= 8<<20 {
		w := r.win[:0]
		windows.Put(&w)
	}
	r.win, r.pos, r.page = nil, r.limit, Page{}
}

// BytesRead is how many bytes of the file were read so far.
func (r *PageReader) BytesRead() int64 { return r.bytesRead }

// Dictionary reads the chunk's dictionary page on its own, nil when none is
// announced. Unlike a page of a reader it stays valid.
func (c *Chunk) Dictionary(ctx context.Context) (*Page, error) {
	if !c.HasDictionary() || c.Meta.DictionaryPageOffset >= c.Meta.DataPageOffset {
		return nil, nil
	}
	r := &PageReader{ctx: ctx, chunk: c, o: ReadOptions{Window: 1 << 30}, pos: c.Start, limit: c.Meta.DataPageOffset}
	p, err := r.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err == nil && p.Header.Type != format.DictionaryPage {
		err = at(c.Where(), corrupt("no dictionary page where one is announced"))
	}
	return p, err
}

// plan turns the selection into byte ranges, joined across small gaps.
func (r *PageReader) plan() {
	r.sel = r.o.Select
	locs := r.o.Index.PageLocations
	if len(locs) == 0 {
		r.sel = nil
		return
	}
	add := func(from, to int64) {
		if n := len(r.ranges); n > 0 && from-r.ranges[n-1].to <= r.o.Gap {
			r.ranges[n-1].to = to
			return
		}
		r.ranges = append(r.ranges, span{from, to})
	}
	if first := locs[0].Offset; !r.o.SkipDictionary && first > r.chunk.Start {
		add(r.chunk.Start, first)
	}
	for _, i := range r.sel {
		add(locs[i].Offset, locs[i].Offset+int64(locs[i].CompressedPageSize))
	}
}

// Next returns the next page, io.EOF after the last. Index pages are passed
// over. The page is valid until the next call.
func (r *PageReader) Next() (*Page, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		done, err := r.seek()
		if err != nil {
			return nil, at(r.chunk.Where(), err)
		}
		if done {
			return nil, io.EOF
		}
		at0 := r.pos
		p, err := r.read()
		if err != nil {
			return nil, at(fmt.Sprintf("%s, page at %d", r.chunk.Where(), at0), err)
		}
		if p.Header.Type != format.IndexPage {
			return p, nil
		}
	}
}

// seek moves to the next page to read and says whether there is none.
func (r *PageReader) seek() (done bool, err error) {
	if r.o.Select != nil {
		return r.seekSelected(), nil
	}
	if r.values < r.chunk.Meta.NumValues {
		if r.pos >= r.chunk.End {
			return true, corrupt("chunk holds %d of %d values", r.values, r.chunk.Meta.NumValues)
		}
		return false, nil
	}
	// Everything is there; only an empty chunk is walked to its end.
	return r.chunk.Meta.NumValues > 0 || r.pos >= r.chunk.End, nil
}

func (r *PageReader) seekSelected() (done bool) {
	if len(r.ranges) == 0 {
		return true
	}
	locs := r.o.Index.PageLocations
	first := locs[0].Offset
	if r.pos < first && !r.o.SkipDictionary {
		r.limit = r.ranges[0].to
		return false
	}
	if len(r.sel) == 0 {
		return true
	}
	r.ordinal, r.sel = r.sel[0], r.sel[1:]
	r.pos = locs[r.ordinal].Offset
	for r.ranges[0].to <= r.pos {
		r.ranges = r.ranges[1:]
	}
	r.limit = r.ranges[0].to
	return false
}

// read reads the page at pos and moves behind it.
func (r *PageReader) read() (*Page, error) {
	h, n, err := r.header()
	if err != nil {
		return nil, err
	}
	size := int64(n) + int64(h.CompressedSize)
	if size > r.limit-r.pos {
		return nil, corrupt("body of %d bytes passes the end of the chunk", h.CompressedSize)
	}
	b, err := r.bytes(r.pos, int(size))
	if err != nil {
		return nil, err
	}
	// The window may have moved: parse again where the header now lies.
	if h, _, _, err = ParsePageHeader(b[:n]); err != nil {
		return nil, err
	}
	p := &r.page
	*p = Page{Offset: r.pos, RawHeader: b[:n:n], Header: h, Body: b[n:], Ordinal: -1, FirstRow: -1, Rows: -1}
	if h.HasCRC && !r.o.NoCRC && crc32.ChecksumIEEE(p.Body) != h.CRC {
		return nil, corrupt("checksum differs")
	}
	r.pos += size
	if h.IsData() {
		return p, r.place(p)
	}
	return p, nil
}

// place sets the rows of a data page and counts it.
func (r *PageReader) place(p *Page) error {
	p.Ordinal = r.ordinal
	r.ordinal++
	n := int64(p.Header.NumValues)
	r.values += n
	if r.values > r.chunk.Meta.NumValues {
		return corrupt("pages hold more than the chunk's %d values", r.chunk.Meta.NumValues)
	}
	if x := r.o.Index; x != nil {
		return r.placeByIndex(p, x.PageLocations, n)
	}
	if r.row < 0 {
		return nil
	}
	switch {
	case r.chunk.Column.MaxRep == 0:
		p.FirstRow, p.Rows = r.row, n
	case p.Header.Type == format.DataPageV2:
		p.FirstRow, p.Rows = r.row, int64(p.Header.NumRows)
	default:
		r.row = -1
		return nil
	}
	r.row += p.Rows
	if r.row > r.chunk.RowGroup.Rows {
		return corrupt("pages hold more than the row group's %d rows", r.chunk.RowGroup.Rows)
	}
	return nil
}

func (r *PageReader) placeByIndex(p *Page, locs []format.PageLocation, n int64) error {
	i := p.Ordinal
	if i >= len(locs) || locs[i].Offset != p.Offset || int64(locs[i].CompressedPageSize) != p.Size() {
		return corrupt("page does not lie where the offset index says")
	}
	end := r.chunk.RowGroup.Rows
	if i+1 < len(locs) {
		end = locs[i+1].FirstRowIndex
	}
	p.FirstRow = locs[i].FirstRowIndex
	p.Rows = end - p.FirstRow
	if r.chunk.Column.MaxRep == 0 && p.Rows != n || p.Rows > n {
		return corrupt("page of %d values for the offset index's %d rows", n, p.Rows)
	}
	return nil
}

// header parses the header at pos, asking for more bytes as long as that helps.
func (r *PageReader) header() (PageHeader, int, error) {
	for want := 64; ; want *= 4 {
		n := min(int64(want), r.limit-r.pos)
		if _, err := r.bytes(r.pos, int(n)); err != nil {
			return PageHeader{}, 0, err
		}
		// Parse all that is in the window, which is mostly the whole header.
		b := r.win[r.pos-r.winAt:]
		if int64(len(b)) > r.limit-r.pos {
			b = b[:r.limit-r.pos]
		}
		h, used, short, err := ParsePageHeader(b)
		if err == nil {
			return h, used, nil
		}
		if !short || n == r.limit-r.pos {
			return h, 0, err
		}
		if want > maxPageHeader {
			return h, 0, unsupported("page header of more than %d bytes", maxPageHeader)
		}
		want = max(want, len(b))
	}
}

// bytes returns [off, off+n) of the file, through the window.
func (r *PageReader) bytes(off int64, n int) ([]byte, error) {
	if off < r.winAt || off+int64(n) > r.winAt+int64(len(r.win)) {
		if err := r.fill(off, n); err != nil {
			return nil, err
		}
	}
	i := int(off - r.winAt)
	return r.win[i : i+n : i+n], nil
}

// fill moves the window to off, with at least n bytes: what it already holds
// from there on is kept.
func (r *PageReader) fill(off int64, n int) error {
	size := int(min(int64(max(n, r.o.Window)), r.limit-off))
	kept := 0
	var have []byte
	if off >= r.winAt && off < r.winAt+int64(len(r.win)) {
		have = r.win[off-r.winAt:]
		kept = len(have)
	}
	if kept >= size {
		size = max(n, kept)
	}
	var next []byte
	if cap(r.win) >= size+windowPadding {
		next = r.win[:size]
	} else {
		next = make([]byte, size, size+windowPadding)
	}
	copy(next, have)
	if err := r.chunk.File.readAt(next[kept:], off+int64(kept)); err != nil {
		r.win = r.win[:0]
		return err
	}
	r.bytesRead += int64(len(next) - kept)
	r.win, r.winAt = next, off
	return nil
}

// windowPadding leaves room for vector loads behind the last page.
const windowPadding = 64
