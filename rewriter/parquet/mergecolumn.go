package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
)

const (
	// mergedPage is the size of values at which a merged page is closed. The
	// pages of most writers are about as large, and come out one for one.
	mergedPage = 1 << 20
	// mergedRows bounds a page's rows, as write.parquet.page-row-limit does by default.
	mergedRows = 20_000
	// mergedDictionary is how large a merged dictionary may grow, beyond the largest of its sources.
	mergedDictionary = 1 << 20
)

// columnMerger puts the surviving values of several chunks into one. As long
// as every page so far refers to a dictionary, and that is not too large, so do
// the merged pages; from the first other page on they are of the sources' other
// encoding. Only entries that a survivor refers to get into the dictionary.
type columnMerger struct {
	x     *concat
	e     *engine // of the first source
	col   *pq.Column
	order order // orderNone: no bounds
	leaf  int
	codec codec
	v2    bool
	crc   bool
	plain format.Encoding // of pages without a dictionary

	dict      map[string]int32
	entries   []byte // PLAIN
	dictLimit int
	fallen    bool         // no more dictionary-encoded pages
	held      []mergedBody // they wait for the dictionary page in front of them
	dictAt    int64        // where it is; 0: none

	page  pendingPage
	pages []mergedPageInfo

	started                            bool
	start, dataAt                      int64
	uncompressed                       int64
	values, nulls, rows                int64
	dictPages, plainPages, dictHeaders int
	vals                               pq.Values
	starts                             []uint32
	rep, def                           []uint8
	buf, out                           []byte
}

// pendingPage is the page that is being filled.
type pendingPage struct {
	rep, def []uint8
	entries  int
	values   int
	rows     int
	index    []int32 // dictionary entries, or
	plain    []byte  // PLAIN values, or
	bools    []uint8
	bounds   bounds
}

// mergedBody is a finished page on its way out.
type mergedBody struct{ header, body []byte }

type mergedPageInfo struct {
	at, size      int64
	firstRow      int64
	nulls, values int64
	bounds        bounds
}

func newColumnMerger(x *concat, e *engine, g *groupJob, leaf int) *columnMerger {
	col := e.job.file.Schema.Columns[leaf]
	m := &columnMerger{x: x, e: e, col: col, leaf: leaf, plain: format.Plain, dict: map[string]int32{}, dictLimit: mergedDictionary,
		codec: newCodec(g.src.Meta.Columns[leaf].MetaData.Codec, e.job.opts.ZstdLevel)}
	if e.job.file.TypeOrdered(col) {
		m.order = orderOf(col)
	}
	return m
}

// chunk adds the survivors of one source chunk.
func (m *columnMerger) chunk(e *engine, g *groupJob) error {
	src, err := g.src.Chunk(e.job.file.Schema.Columns[m.leaf])
	if err != nil {
		return err
	}
	r, dec := src.Pages(m.x.ctx, pq.ReadOptions{}), src.NewDecoder()
	var entries view
	var remap []int32
	row := 0 // rows that have started
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if p.Header.Type == format.DictionaryPage {
			if err := dec.SetDictionary(p); err != nil {
				return err
			}
			entries = viewOf(dec.Dict, nil)
			remap = make([]int32, entries.n)
			for i := range remap {
				remap[i] = -1
			}
			m.dictLimit = max(m.dictLimit, int(p.Header.UncompressedSize))
			continue
		}
		if row, err = m.add(src, dec, p, g.erased, row, &entries, remap); err != nil {
			return err
		}
		e.job.res.PagesTotal++
		e.job.res.PagesTouched++
	}
	if int64(row) != src.RowGroup.Rows {
		return corrupt("%s: pages hold %d rows of %d", src.Where(), row, src.RowGroup.Rows)
	}
	return nil
}

// add decodes one page and appends what survives of it.
func (m *columnMerger) add(src *pq.Chunk, dec *pq.Decoder, p *pq.Page, erased []span, row int, entries *view, remap []int32) (int, error) {
	m.begin(p)
	body, err := dec.Body(p)
	if err != nil {
		return row, err
	}
	l := levels{n: int(p.Header.NumValues)}
	n, starting := l.n, l.n
	first := row
	continues := false
	if m.col.MaxRep > 0 {
		if m.rep, err = pq.DecodeLevels(m.rep, body.Rep, body.RepEncoding, m.col.MaxRep, l.n); err != nil {
			return row, err
		}
		l.rep = m.rep
		starting = bytes.Count(l.rep, []byte{0})
		if continues = len(l.rep) > 0 && l.rep[0] != 0; continues {
			first--
		}
	}
	if first < 0 {
		return row, corrupt("%s: starts in the middle of a row", src.Where())
	}
	if m.col.MaxDef > 0 {
		if m.def, err = pq.DecodeLevels(m.def, body.Def, body.DefEncoding, m.col.MaxDef, l.n); err != nil {
			return row, err
		}
		l.def = m.def
		n = bytes.Count(l.def, []byte{byte(m.col.MaxDef)})
	}
	v, err := m.view(p, body.Values, n, dec.Dict, entries)
	if err != nil {
		return row, err
	}
	row += starting
	e := editPage(l, rowWork{erased: clip(erased, first, row), leaf: &leafPlan{column: m.col}})
	if e.n == 0 {
		return row, nil
	}
	inDict := v.dict != nil && !m.fallen
	if !continues && m.full(e.rows, len(body.Values)) || (m.page.index != nil) != inDict && m.page.entries > 0 && !continues {
		if err := m.closePage(); err != nil {
			return row, err
		}
	}
	if continues && inDict != (m.page.index != nil) && m.page.entries > 0 {
		// A row's values go on in another encoding: the page they are in becomes PLAIN.
		if err := m.spell(); err != nil {
			return row, err
		}
		inDict = false
	}
	if !inDict && !m.fallen {
		if err := m.fall(); err != nil {
			return row, err
		}
	}
	return row, m.take(&e, &v, inDict, remap)
}

// begin takes over how the first page was written.
func (m *columnMerger) begin(p *pq.Page) {
	if m.started {
		if enc := p.Header.Encoding; m.plainPages == 0 && m.page.plain == nil && m.page.bools == nil && !p.Header.UsesDictionary() {
			m.plain = enc
		}
		return
	}
	m.started, m.start = true, m.x.sink.pos
	m.v2, m.crc = p.Header.Type == format.DataPageV2, p.Header.HasCRC
	if !p.Header.UsesDictionary() {
		m.plain = p.Header.Encoding
	}
}

func (m *columnMerger) view(p *pq.Page, src []byte, n int, dict *pq.Values, entries *view) (view, error) {
	h := &p.Header
	if h.Encoding == format.Plain && m.col.Type != format.Boolean {
		v, err := plainView(m.col, src, n, m.starts)
		if v.offsets != nil {
			m.starts = v.offsets
		}
		return v, err
	}
	if n == 0 && !h.UsesDictionary() {
		return viewOf(&pq.Values{Type: m.col.Type, Width: valueWidth(m.col), Offsets: []uint32{0}}, nil), nil
	}
	if h.UsesDictionary() && dict == nil {
		return view{}, corrupt("dictionary-encoded page without a dictionary")
	}
	if err := m.vals.DecodeValues(src, h.Encoding, m.col, dict, n); err != nil {
		return view{}, err
	}
	if m.vals.Dict != nil {
		return viewOf(&m.vals, entries), nil
	}
	return viewOf(&m.vals, nil), nil
}

// full says whether the page being filled has no room for another piece.
func (m *columnMerger) full(rows, size int) bool {
	p := &m.page
	return p.entries > 0 && (p.rows+rows > mergedRows || len(p.plain)+size > mergedPage)
}

// take appends an edited page's levels and values.
func (m *columnMerger) take(e *pageEdit, v *view, inDict bool, remap []int32) error {
	p := &m.page
	p.rep, p.def = append(p.rep, e.rep...), append(p.def, e.def...)
	p.entries, p.values, p.rows = p.entries+e.n, p.values+e.list.n, p.rows+e.rows
	if m.order != orderNone {
		kept := make([]span, 0, len(e.list.ops))
		for _, o := range e.list.ops {
			kept = append(kept, span{o.from, o.to})
		}
		p.bounds.merge(m.order, boundsOf(m.order, v, kept).own())
	}
	switch {
	case inDict:
		if p.index == nil {
			p.index = []int32{}
		}
		for _, o := range e.list.ops {
			for _, i := range v.index[o.from:o.to] {
				if remap[i] < 0 {
					remap[i] = m.entry(v.dict.at(int(i)))
				}
				p.index = append(p.index, remap[i])
			}
		}
		if len(m.entries) > m.dictLimit {
			if err := m.closePage(); err != nil {
				return err
			}
			return m.fall()
		}
	case m.col.Type == format.Boolean:
		for _, o := range e.list.ops {
			for i := o.from; i < o.to; i++ {
				p.bools = append(p.bools, v.at(i)[0])
			}
		}
	case v.dict == nil && v.offsets != nil && v.prefix == 4:
		p.plain = cutPlainBytes(p.plain, v.raw, v.offsets, &e.list)
	case v.dict == nil && v.offsets == nil:
		p.plain = cutPlain(p.plain, v.raw, v.width, &e.list)
	default:
		for _, o := range e.list.ops {
			for i := o.from; i < o.to; i++ {
				p.plain = m.appendPlain(p.plain, v.at(i))
			}
		}
	}
	return nil
}

func (m *columnMerger) appendPlain(dst, v []byte) []byte {
	if m.col.Type == format.ByteArray {
		dst = append(dst, le32(uint32(len(v)))...)
	}
	return append(dst, v...)
}

// entry is the merged dictionary's entry of a value.
func (m *columnMerger) entry(v []byte) int32 {
	if i, ok := m.dict[string(v)]; ok {
		return i
	}
	i := int32(len(m.dict))
	m.dict[string(v)] = i
	m.entries = m.appendPlain(m.entries, v)
	return i
}

// spell turns the dictionary indexes of the page being filled into values.
func (m *columnMerger) spell() error {
	p := &m.page
	if p.index == nil {
		return nil
	}
	at, err := plainView(m.col, m.entries, len(m.dict), nil)
	if err != nil {
		return err
	}
	for _, i := range p.index {
		p.plain = m.appendPlain(p.plain, at.at(int(i)))
	}
	p.index = nil
	return nil
}

// fall ends the use of the dictionary: it is written, with the pages behind it.
func (m *columnMerger) fall() error {
	m.fallen = true
	if len(m.held) > 0 {
		if err := m.writeDictionary(); err != nil {
			return err
		}
	}
	for i, b := range m.held {
		if err := m.write(&m.pages[i], b); err != nil {
			return err
		}
	}
	m.held = nil
	m.dict, m.entries = nil, nil
	return nil
}

func (m *columnMerger) writeDictionary() error {
	if len(m.dict) == 0 {
		// Nulls alone refer to no entry, but some readers fail on an empty dictionary.
		m.entry(make([]byte, valueWidth(m.col)))
	}
	body, err := m.codec.compress(nil, m.entries)
	if err != nil {
		return err
	}
	body = bytes.Clone(body)
	d := &thriftpatch.Struct{}
	d.SetInt(1, thriftpatch.I32, int64(len(m.dict)))
	d.SetInt(2, thriftpatch.I32, int64(format.Plain))
	h := m.header(format.DictionaryPage, len(m.entries), body)
	h.SetStruct(pageDictionary, d)
	m.dictAt = m.x.sink.pos
	m.dictHeaders++
	raw := h.Append(nil)
	m.uncompressed += int64(len(raw) + len(m.entries))
	if _, err := m.x.sink.Write(raw); err != nil {
		return err
	}
	_, err = m.x.sink.Write(body)
	return err
}

func (m *columnMerger) header(kind format.PageType, uncompressed int, body []byte) *thriftpatch.Struct {
	h := &thriftpatch.Struct{}
	h.SetInt(1, thriftpatch.I32, int64(kind))
	h.SetInt(pageUncompressed, thriftpatch.I32, int64(uncompressed))
	h.SetInt(pageCompressed, thriftpatch.I32, int64(len(body)))
	if m.crc {
		h.SetInt(pageCRC, thriftpatch.I32, int64(int32(crcOf(body))))
	}
	return h
}

// write puts a finished page into the file.
func (m *columnMerger) write(info *mergedPageInfo, b mergedBody) error {
	info.at = m.x.sink.pos
	if m.dataAt == 0 {
		m.dataAt = info.at
	}
	if _, err := m.x.sink.Write(b.header); err != nil {
		return err
	}
	_, err := m.x.sink.Write(b.body)
	return err
}

// closePage encodes the page being filled and writes or holds it.
func (m *columnMerger) closePage() error {
	p := &m.page
	if p.entries == 0 {
		return nil
	}
	buf := m.buf[:0]
	var err error
	repLen, defLen := 0, 0
	if m.col.MaxRep > 0 {
		if buf, err = appendLevels(buf, p.rep, levelBits(m.col.MaxRep), !m.v2); err != nil {
			return err
		}
		repLen = len(buf)
	}
	if m.col.MaxDef > 0 {
		if buf, err = appendLevels(buf, p.def, levelBits(m.col.MaxDef), !m.v2); err != nil {
			return err
		}
		defLen = len(buf) - repLen
	}
	enc := m.plain
	if p.index != nil {
		enc = format.RLEDictionary
	}
	if buf, err = m.encode(buf, enc); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	m.buf = buf
	b, err := m.pageOf(enc, repLen, defLen)
	if err != nil {
		return err
	}
	m.pages = append(m.pages, mergedPageInfo{size: int64(len(b.header) + len(b.body)), firstRow: m.rows,
		nulls: int64(p.entries - p.values), values: int64(p.values), bounds: p.bounds})
	m.values += int64(p.entries)
	m.nulls += int64(p.entries - p.values)
	m.rows += int64(p.rows)
	m.uncompressed += int64(len(b.header) + len(buf))
	if p.index != nil {
		m.dictPages++
	} else {
		m.plainPages++
	}
	*p = pendingPage{rep: p.rep[:0], def: p.def[:0], plain: p.plain[:0], bools: p.bools[:0]}
	if !m.fallen {
		m.held = append(m.held, b)
		p.plain, p.bools = nil, nil
		return nil
	}
	return m.write(&m.pages[len(m.pages)-1], b)
}

// encode appends the values of the page being filled.
func (m *columnMerger) encode(dst []byte, enc format.Encoding) ([]byte, error) {
	p := &m.page
	list := &editList{}
	list.keep(0, p.values)
	switch {
	case p.index != nil:
		return appendIndexes(dst, p.index, max(1, bits.Len(uint(max(1, len(m.dict))-1))))
	case m.col.Type == format.Boolean && enc == format.RLE:
		return appendLevels(dst, p.bools, 1, true)
	case m.col.Type == format.Boolean:
		for i, b := range p.bools {
			if i&7 == 0 {
				dst = append(dst, 0)
			}
			dst[len(dst)-1] |= b << (i & 7)
		}
		return dst, nil
	case enc == format.Plain:
		return append(dst, p.plain...), nil
	case enc == format.ByteStreamSplit:
		w := valueWidth(m.col)
		for k := range w {
			for i := k; i < len(p.plain); i += w {
				dst = append(dst, p.plain[i])
			}
		}
		return dst, nil
	}
	var vals pq.Values
	if err := vals.DecodeValues(p.plain, format.Plain, m.col, nil, p.values); err != nil {
		return nil, err
	}
	return cutDelta(dst, &vals, enc, list)
}

// pageOf compresses m.buf and makes the header in front of it.
func (m *columnMerger) pageOf(enc format.Encoding, repLen, defLen int) (b mergedBody, err error) {
	p, levels := &m.page, repLen+defLen
	data := &thriftpatch.Struct{}
	data.SetInt(1, thriftpatch.I32, int64(p.entries))
	if !m.v2 {
		if m.out, err = m.codec.compress(m.out, m.buf); err != nil {
			return b, err
		}
		b.body = bytes.Clone(m.out)
		data.SetInt(2, thriftpatch.I32, int64(enc))
		data.SetInt(3, thriftpatch.I32, int64(format.RLE))
		data.SetInt(4, thriftpatch.I32, int64(format.RLE))
		h := m.header(format.DataPage, len(m.buf), b.body)
		h.SetStruct(pageData, data)
		b.header = h.Append(nil)
		return b, nil
	}
	compressed := m.codec.kind != format.Uncompressed && len(m.buf) > levels
	b.body = bytes.Clone(m.buf)
	if compressed {
		if m.out, err = m.codec.compress(m.out, m.buf[levels:]); err != nil {
			return b, err
		}
		b.body = append(bytes.Clone(m.buf[:levels]), m.out...)
	}
	data.SetInt(2, thriftpatch.I32, int64(p.entries-p.values))
	data.SetInt(3, thriftpatch.I32, int64(p.rows))
	data.SetInt(4, thriftpatch.I32, int64(enc))
	data.SetInt(5, thriftpatch.I32, int64(defLen))
	data.SetInt(6, thriftpatch.I32, int64(repLen))
	data.SetBool(7, compressed)
	h := m.header(format.DataPageV2, len(m.buf), b.body)
	h.SetStruct(pageDataV2, data)
	b.header = h.Append(nil)
	return b, nil
}
