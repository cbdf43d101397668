package verifier

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// rawPage is a page as it is stored.
type rawPage struct {
	thriftSkim // the header's fields
	head, body []byte
}

// Page types (PageHeader.type).
const (
	pageDataV1     = 0
	pageDictionary = 2
	pageDataV2     = 3
)

// values is the number of level entries of a data page.
func (p *rawPage) values() int64 {
	if p.field(0, 1) == pageDataV2 {
		return p.field(8, 1)
	}
	return p.field(5, 1)
}

// sameHeader compares what decoding depends on; checksum and bounds are left out.
func (p *rawPage) sameHeader(o *rawPage) bool {
	if len(p.ints) != len(o.ints) {
		return false
	}
	for i, a := range p.ints {
		if b := o.ints[i]; a != b && (a.parent != 0 || a.id != 4) {
			return false
		}
	}
	return true
}

// pageStream reads a leaf column of a whole file page by page. A page is either
// skipped as it is stored or decoded, by arrow-go unless it is PLAIN and raw says so.
type pageStream struct {
	f    *parquetFile
	l    *leaf // decoding state and buffers
	rg   int   // the current row group; -1 before the first
	stop int   // row group to end before
	in   *bufio.Reader
	meta *metadata.ColumnChunkMetaData
	seen int64    // level entries of the chunk's pages so far
	raw  bool     // PLAIN values are left where they lie: batch.value is how to get at them
	skim bool     // data pages that refer to the dictionary are read for their headers only
	dict *rawPage // of the chunk; nil = none
	next *rawPage // looked at and not yet taken
	left int64    // level entries of the page in decoding that were not returned yet
	here *rawPage // the page in decoding, where its values are PLAIN and not yet returned

	feed    *feed
	virtual *file.Reader // decodes what the feed holds
	fed     bool         // the decoder has the chunk's dictionary

	spare    []byte  // a buffer that nothing refers to
	plain    []byte  // a page's uncompressed body
	selected []int32 // of a page's values
}

// feed is a source of bytes for the decoder: only the pages that it shall see,
// one after the other. Offsets mean nothing; reads come in order.
type feed struct {
	queue [][]byte
}

func (q *feed) ReadAt(p []byte, _ int64) (n int, err error) {
	for len(q.queue) > 0 && n < len(p) {
		k := copy(p[n:], q.queue[0])
		n += k
		if q.queue[0] = q.queue[0][k:]; len(q.queue[0]) == 0 {
			q.queue = q.queue[1:]
		}
	}
	if n == 0 {
		return 0, io.EOF // for now: a reader that remembered it with some bytes would miss the next page
	}
	return n, nil
}

func (q *feed) Seek(int64, int) (int64, error) { return 0, nil }

func newPageStream(ctx context.Context, f *parquetFile, col int) (s *pageStream, err error) {
	defer guard(&err)
	s = &pageStream{f: f, l: f.leaf(ctx, col), rg: -1, stop: f.NumRowGroups(), feed: &feed{}}
	props := parquet.NewReaderProperties(nil)
	props.BufferedStreamEnabled = true
	props.BufferSize = 64 << 10
	props.MaxCompressedPageSize, props.MaxUncompressedPageSize = maxPage, 2*maxPage
	s.virtual, err = file.NewParquetReader(s.feed, file.WithReadProps(props), file.WithMetadata(f.MetaData()))
	if err != nil {
		return nil, fmt.Errorf("decode pages: %w", err)
	}
	return s, nil
}

// only restricts the stream to one row group, which it reads from its beginning.
func (s *pageStream) only(rg int) {
	s.rg, s.stop = rg-1, rg+1
	s.in, s.next, s.here, s.left, s.skim = nil, nil, nil, 0, false
	s.feed.queue = nil
}

func (s *pageStream) close() { s.l.close() }

// page returns the next data page without taking it; nil at the end.
func (s *pageStream) page() (p *rawPage, err error) {
	defer guard(&err)
	for s.next == nil {
		if err := s.l.ctx.Err(); err != nil {
			return nil, err
		}
		if s.in == nil {
			if s.rg+1 >= s.stop {
				return nil, nil
			}
			if err := s.openChunk(); err != nil {
				return nil, err
			}
		}
		if err := s.readPage(); err != nil {
			return nil, err
		}
	}
	return s.next, nil
}

func (s *pageStream) openChunk() (err error) {
	s.rg++
	if s.meta, err = s.f.RowGroup(s.rg).MetaData().ColumnChunk(s.l.col); err != nil {
		return fmt.Errorf("read column chunk: %w", err)
	}
	s.l.close()
	if s.l.rdr, err = columnReader(s.virtual.RowGroup(s.rg), s.l.col, s.virtual.BufferPool()); err != nil {
		return fmt.Errorf("read column chunk: %w", err)
	}
	s.in, err = chunkReader(s.f, s.rg, s.l.col)
	s.seen, s.dict, s.fed = 0, nil, false
	return err
}

// readPage reads one page, or ends the chunk.
func (s *pageStream) readPage() error {
	if _, err := s.in.Peek(1); errors.Is(err, io.EOF) {
		if s.seen != s.meta.NumValues() {
			return fmt.Errorf("a column chunk has fewer values than its metadata says: %w", errCorrupt)
		}
		s.in = nil
		return nil
	} else if err != nil {
		return err
	}
	p := &rawPage{thriftSkim: thriftSkim{in: s.in, keep: true}}
	p.structure(0, 0)
	if p.err != nil || p.pageSize < 0 || p.pageSize > maxPage {
		return errCorrupt
	}
	p.head = p.raw
	if s.skim && p.field(0, 1) != pageDictionary && isDictionary(int(p.encoding)) {
		if _, err := s.in.Discard(int(p.pageSize)); err != nil {
			return errCorrupt
		}
	} else {
		p.body = slices.Grow(s.spare[:0], int(p.pageSize))[:p.pageSize]
		s.spare = nil
		if _, err := io.ReadFull(s.in, p.body); err != nil {
			return errCorrupt
		}
	}
	switch p.field(0, 1) {
	case pageDictionary:
		s.dict = p
	case pageDataV1, pageDataV2:
		if p.values() <= 0 {
			return errCorrupt
		}
		s.seen += p.values()
		s.next = p
	}
	return nil // pages of other types hold no values
}

// skip takes the page without decoding it. Its bytes are valid until the next
// page is looked at.
func (s *pageStream) skip() { s.spare, s.next = s.next.body, nil }

// decode takes the page to be decoded; batches follow.
func (s *pageStream) decode() {
	s.left = s.next.values()
	if s.isPlain(s.next) {
		s.here, s.next = s.next, nil
		return
	}
	if s.dict != nil && !s.fed {
		s.feed.queue = append(s.feed.queue, s.dict.head, s.dict.body)
		s.fed = true
	}
	s.feed.queue = append(s.feed.queue, s.next.head, s.next.body)
	s.next = nil
}

// batch returns the next entries of the page in decoding; nil when it is done.
func (s *pageStream) batch() (b *batch, err error) {
	defer guard(&err)
	if s.left == 0 {
		return nil, nil
	}
	if p := s.here; p != nil {
		s.here, s.left = nil, 0
		return s.plainBatch(p)
	}
	if !s.l.rdr.HasNext() {
		if err := s.l.rdr.Err(); err != nil {
			return nil, fmt.Errorf("decode pages: %w", err)
		}
		return nil, errCorrupt
	}
	if b, err = s.l.decode(); err != nil {
		return nil, err
	}
	if s.left -= int64(b.n); s.left < 0 {
		return nil, errCorrupt
	}
	return b, nil
}

// rows returns how many rows begin in a page, and whether its first entry
// continues a row. Repetition levels are decoded for it where the header does
// not say; the offset index, which the rewriter relies on, is not believed.
func (s *pageStream) rows(p *rawPage) (n int64, continues bool, err error) {
	maxRep := s.l.desc.MaxRepetitionLevel()
	switch {
	case maxRep == 0:
		return p.values(), false, nil
	case p.field(0, 1) == pageDataV2:
		return p.field(8, 3), false, nil // rows never span v2 pages
	}
	body, err := s.uncompressed(p)
	if err != nil {
		return 0, false, err
	}
	levels, _, err := levelBody(body, int(p.values()), maxRep, parquet.Encoding(p.field(5, 4)))
	if err != nil || p.field(5, 4) == encBitPacked {
		return 0, false, errors.Join(err, errCorrupt)
	}
	first := true
	err = decodeHybrid(levels, bitsFor(maxRep), int(p.values()), func(v uint64, times int) error {
		if first {
			continues, first = v != 0, false
		}
		if v == 0 {
			n += int64(times)
		}
		return nil
	})
	return n, continues, err
}

// unpackSlack is room behind an unpacked body: the zstd decoder is a quarter
// faster where a whole block fits behind what it writes.
const unpackSlack = 128<<10 + 1<<10

// uncompressed is a page's body; of a v2 page, without the levels in front. It is
// valid until the next call.
func (s *pageStream) uncompressed(p *rawPage) (out []byte, err error) {
	defer guard(&err)
	size := p.field(0, 2)
	body := p.body
	if p.field(0, 1) == pageDataV2 {
		levels := p.field(8, 5) + p.field(8, 6)
		if levels < 0 || levels > int64(len(body)) {
			return nil, errCorrupt
		}
		body, size = body[levels:], size-levels
		if p.has(8, 7) && p.field(8, 7) == 0 {
			return body, nil
		}
	}
	if s.meta.Compression() == compress.Codecs.Uncompressed {
		return body, nil
	}
	codec, err := compress.GetCodec(s.meta.Compression())
	if err != nil || size < 0 || size > 2*maxPage {
		return nil, errors.Join(err, errCorrupt)
	}
	if size == 0 { // arrow-go fails on some empty frames; more than a frame's bytes would be bytes that no reader sees
		if len(body) > emptyFrame {
			return nil, errCorrupt
		}
		return nil, nil
	}
	s.plain = slices.Grow(s.plain[:0], int(size)+unpackSlack)
	if s.plain = codec.Decode(s.plain[:size], body); int64(len(s.plain)) != size {
		return nil, errCorrupt
	}
	return s.plain, nil
}

// emptyFrame is the most bytes that a codec makes of nothing (gzip: 20).
const emptyFrame = 64

// indexes calls visit with the dictionary indexes that a page refers to.
func (s *pageStream) indexes(p *rawPage, visit func(v uint64) bool) error {
	d, err := s.parts(p)
	if err != nil || d.defined == 0 {
		return err
	}
	if len(d.values) == 0 || d.values[0] > 32 {
		return errCorrupt
	}
	return decodeHybrid(d.values[1:], int(d.values[0]), d.defined, func(v uint64, _ int) error {
		if !visit(v) {
			return errStop
		}
		return nil
	})
}

var errStop = errors.New("stop")
