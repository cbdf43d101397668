package parquet

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/internal/zstdedit"
	"github.com/expunge/expunge/rewriter"
)

// pageJob is the work on one data page that does not go out as it is, or
// whose values must be looked at. Workers run jobs in any order.
type pageJob struct {
	chunk *chunkJob
	page  pq.Page // owns its bytes
	work  rowWork
	edit  bool // otherwise the page is only looked at

	stored     []bounds // bounds kept elsewhere that describe the page
	wantBounds bool     // of what stays, whatever was stored
	wantHashes bool     // of what stays, for the bloom filter
	wantUse    bool     // which dictionary entries are used

	done chan struct{}
	res  pageResult
	err  error
}

// pageResult is what became of a page.
type pageResult struct {
	header, body []byte // nil when no row is left, or nothing was edited

	before, after pageCounts
	encoding      format.Encoding
	pageType      format.PageType
	gone          bounds // of values that went
	stay          bounds // of values after the edit; set when stayKnown
	stayKnown     bool
	literals      bool
	dataDelta     int64 // change of the byte-array data
	hashes        []uint64
}

// bodies are page bodies that were written and may be used again.
var bodies bodyPool

type bodyPool struct{ pool sync.Pool }

// get returns an empty slice with room for n bytes.
func (p *bodyPool) get(n int) []byte {
	if b, _ := p.pool.Get().(*[]byte); b != nil && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, n+n/8)
}

func (p *bodyPool) put(b []byte) {
	if cap(b) >= pooledBody {
		p.pool.Put(&b)
	}
}

// pooledBody is the size from which on memory is worth keeping.
const pooledBody = 64 << 10

// pageCounts are a page's numbers before or after an edit.
type pageCounts struct {
	entries, values, rows int
	uncompressed          int64 // header and body
	compressed            int64
	rep, def              []int64 // level histograms
}

func (c *pageCounts) nulls() int { return c.entries - c.values }

// scratch is a worker's memory.
type scratch struct {
	dec, check   *pq.Decoder
	vals, vals2  pq.Values
	rep, def     []uint8
	rep2, def2   []uint8
	starts, two  []uint32
	plain, first []byte
	used, lost   bitset
	zstd         zstdedit.Editor
	ops          []zstdedit.Op
}

// decoded is a data page taken apart.
type decoded struct {
	body pq.Body
	levels
	values int
	view   view
	vals   *pq.Values // set where the values were decoded, not PLAIN
}

func (j *pageJob) run(s *scratch) error {
	d, err := j.decode(s)
	if err != nil {
		return err
	}
	r := &j.res
	r.encoding, r.pageType = j.page.Header.Encoding, j.page.Header.Type
	r.before = j.counts(d.levels, d.values)
	r.before.uncompressed = int64(len(j.page.RawHeader)) + int64(j.page.Header.UncompressedSize)
	r.before.compressed = j.page.Size()
	if !j.edit {
		r.after = r.before
		return j.look(s, &d, nil)
	}
	e := editPage(d.levels, j.work)
	after := e.list.n
	if err := j.look(s, &d, &e.list); err != nil {
		return err
	}
	r.after = j.counts(e.levels, after)
	r.after.rows = e.rows
	if e.n == 0 {
		r.after = pageCounts{}
		return nil
	}
	return j.encode(s, &d, &e)
}

func (j *pageJob) counts(l levels, values int) pageCounts {
	c := pageCounts{entries: l.n, values: values, rows: l.n}
	if l.rep != nil {
		c.rows = bytes.Count(l.rep, []byte{0})
	}
	if j.chunk.histograms {
		c.rep = histogram(l.rep, j.chunk.col.MaxRep, l.n)
		c.def = histogram(l.def, j.chunk.col.MaxDef, l.n)
	}
	return c
}

func histogram(l []uint8, maxLevel, n int) []int64 {
	h := make([]int64, maxLevel+1)
	if l == nil {
		h[0] = int64(n)
		return h
	}
	for i := range h {
		h[i] = int64(bytes.Count(l, []byte{byte(i)}))
	}
	return h
}

func (j *pageJob) decode(s *scratch) (d decoded, err error) {
	h, col := &j.page.Header, j.chunk.col
	if s.dec == nil {
		s.dec, s.check = j.chunk.src.NewDecoder(), j.chunk.src.NewDecoder()
	}
	s.dec.Reset(j.chunk.src)
	if d.body, err = s.dec.Body(&j.page); err != nil {
		return d, err
	}
	d.n = int(h.NumValues)
	d.values = d.n
	if col.MaxRep > 0 {
		if s.rep, err = pq.DecodeLevels(s.rep, d.body.Rep, d.body.RepEncoding, col.MaxRep, d.n); err != nil {
			return d, err
		}
		d.rep = s.rep
	}
	if col.MaxDef > 0 {
		if s.def, err = pq.DecodeLevels(s.def, d.body.Def, d.body.DefEncoding, col.MaxDef, d.n); err != nil {
			return d, err
		}
		d.def = s.def
		d.values = bytes.Count(d.def, []byte{byte(col.MaxDef)})
	}
	// num_nulls of v2 pages is not trusted: some writers leave it 0 without statistics.
	d.view, d.vals, err = j.values(d.body.Values, d.values, false, &s.vals, &s.starts)
	return d, err
}

// values opens a value section: PLAIN where it lies, everything else decoded.
// The indexes of an edited one may be those of entries that are appended.
func (j *pageJob) values(src []byte, n int, edited bool, vals *pq.Values, starts *[]uint32) (view, *pq.Values, error) {
	h, col := &j.page.Header, j.chunk.col
	if h.Encoding == format.Plain && col.Type != format.Boolean {
		v, err := plainView(col, src, n, *starts)
		if v.offsets != nil {
			*starts = v.offsets
		}
		return v, nil, err
	}
	if n == 0 && !h.UsesDictionary() {
		// Writers put different things into a section of no values; none is read.
		none := &pq.Values{Type: col.Type, Width: valueWidth(col), Offsets: []uint32{0}}
		return viewOf(none, nil), none, nil
	}
	if h.UsesDictionary() && j.chunk.dict == nil {
		return view{}, nil, corrupt("dictionary-encoded page without a dictionary")
	}
	var entries *pq.Values
	if h.UsesDictionary() {
		entries = j.chunk.dict.entries
		if edited {
			entries = &pq.Values{Type: entries.Type, N: j.chunk.dict.size()}
		}
	}
	if err := vals.DecodeValues(src, h.Encoding, col, entries, n); err != nil {
		return view{}, nil, err
	}
	var dict *view
	if vals.Dict != nil {
		dict = &j.chunk.dict.view
	}
	return viewOf(vals, dict), vals, nil
}

// encode makes the new page in the old one's encodings, codec and header.
func (j *pageJob) encode(s *scratch, d *decoded, e *pageEdit) error {
	if err := j.assemble(s, d, e); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if j.chunk.check {
		if err := j.verify(s, d, e); err != nil {
			return fmt.Errorf("rewritten page does not decode to its edit: %w", err)
		}
	}
	return nil
}

func (j *pageJob) assemble(s *scratch, d *decoded, e *pageEdit) error {
	v2 := j.page.Header.Type == format.DataPageV2
	a := assembly{buf: s.plain[:0], ops: s.ops[:0]}
	repLen, defLen, err := j.levels(&a, d, e)
	if err != nil {
		return err
	}
	levels := repLen + defLen
	if v2 {
		a.start, a.ops = levels, a.ops[:0]
	}
	if err = j.cut(&a, d, &e.list); err != nil {
		return err
	}
	s.plain, s.ops = a.buf, a.ops
	buf := a.buf
	var body []byte
	switch {
	case j.chunk.codec.kind == format.Uncompressed || v2 && (j.page.Header.ValuesUncompressed || len(buf) == levels):
		body = append(bodies.get(len(buf)), buf...)
	case v2:
		if err = j.compress(s, &a); err != nil {
			return err
		}
		body = append(append(bodies.get(levels+len(s.first)), buf[:levels]...), s.first...)
	default:
		if err = j.compress(s, &a); err != nil {
			return err
		}
		body = append(bodies.get(len(s.first)), s.first...)
	}
	j.res.body = body
	j.res.header, err = j.patchHeader(e, len(buf), body, repLen, defLen)
	j.res.after.uncompressed = int64(len(j.res.header)) + int64(len(buf))
	j.res.after.compressed = int64(len(j.res.header)) + int64(len(body))
	return err
}

// levels puts the levels in front and returns how many bytes they are, length
// prefixes included.
func (j *pageJob) levels(a *assembly, d *decoded, e *pageEdit) (rep, def int, err error) {
	col, v2 := j.chunk.col, j.page.Header.Type == format.DataPageV2
	// Where the streams lie in the body: each behind its length, in front of the values.
	atDef := j.valuesAt(d) - len(d.body.Def)
	atRep := atDef - 4 - len(d.body.Rep)
	cut := !v2 && !e.transformed && d.body.DefEncoding == format.RLE && (col.MaxRep == 0 || d.body.RepEncoding == format.RLE)
	if col.MaxRep > 0 {
		if err = a.levels(hybridStream[uint8]{d.body.Rep, atRep, levelBits(col.MaxRep), d.rep}, e.rep, cut, &e.entries, !v2); err != nil {
			return 0, 0, err
		}
		rep = len(a.buf)
	}
	if col.MaxDef > 0 {
		err = a.levels(hybridStream[uint8]{d.body.Def, atDef, levelBits(col.MaxDef), d.def}, e.def, cut, &e.entries, !v2)
	}
	return rep, len(a.buf) - rep, err
}

// valuesAt is where the values lie in what the source's body decompresses to.
func (j *pageJob) valuesAt(d *decoded) int {
	h := &j.page.Header
	if h.Type == format.DataPageV2 {
		return 0
	}
	return int(h.UncompressedSize) - len(d.body.Values)
}

// compress makes s.first of the new body: by editing the compressed page where
// that is possible, otherwise anew.
func (j *pageJob) compress(s *scratch, a *assembly) (err error) {
	if j.spliceable() {
		if out := j.splice(s, a); out != nil {
			s.first = out
			return nil
		}
	}
	s.first, err = j.chunk.codec.compress(s.first, a.buf[a.start:])
	return err
}

// cut applies the edit list to the value section.
func (j *pageJob) cut(a *assembly, d *decoded, list *editList) (err error) {
	h, col := &j.page.Header, j.chunk.col
	src, base := d.body.Values, j.valuesAt(d)
	at := len(a.buf)
	switch {
	case h.UsesDictionary():
		return j.cutIndexes(a, d, list)
	case h.Encoding == format.Plain && col.Type == format.ByteArray:
		a.byteArrays(src, base, d.view.offsets, list)
		return nil
	case h.Encoding == format.Plain && col.Type != format.Boolean:
		a.plain(src, base, d.view.width, list)
		return nil
	case h.Encoding == format.Plain:
		a.buf = cutPlainBools(a.buf, src, list)
	case h.Encoding == format.ByteStreamSplit:
		a.buf = cutStreams(a.buf, src, valueWidth(col), d.values, list)
	case h.Encoding == format.RLE && col.Type == format.Boolean:
		a.buf, err = cutBools(a.buf, d.view.bools, list)
	default:
		a.buf, err = cutDelta(a.buf, d.vals, h.Encoding, list)
	}
	a.fresh(at)
	return err
}

// cutIndexes applies an edit list to dictionary indexes.
func (j *pageJob) cutIndexes(a *assembly, d *decoded, list *editList) (err error) {
	src := d.body.Values
	width := 0
	if len(src) > 0 {
		width = int(src[0])
	}
	wide := false
	for _, o := range list.ops {
		wide = wide || o.literal != nil && bits.Len32(j.chunk.dict.literal(o.literal)) > width
	}
	if width > 0 && !wide {
		h := hybridStream[uint32]{src[1:], j.valuesAt(d) + 1, width, d.view.index}
		if h.cuttable(list) {
			a.keep(src, h.base-1, 0, 1)
			return cutHybrid(a, h, list, j.chunk.dict.literal)
		}
	}
	index := cutIndexes(d.view.index, list, j.chunk.dict.literal)
	for _, x := range index {
		width = max(width, bits.Len32(uint32(x)))
	}
	at := len(a.buf)
	a.buf, err = appendIndexes(a.buf, index, width)
	a.fresh(at)
	return err
}

// Field ids of PageHeader, DataPageHeader and DataPageHeaderV2 (parquet.thrift).
const (
	pageUncompressed = 2
	pageCompressed   = 3
	pageCRC          = 4
	pageData         = 5
	pageDictionary   = 7
	pageDataV2       = 8
)

func (j *pageJob) patchHeader(e *pageEdit, uncompressed int, body []byte, repLen, defLen int) ([]byte, error) {
	h, _, err := thriftpatch.Parse(j.page.RawHeader)
	if err != nil {
		return nil, err
	}
	part := int16(pageData)
	if j.page.Header.Type == format.DataPageV2 {
		part = pageDataV2
	}
	p, err := h.Struct(part)
	if err != nil || p == nil {
		return nil, corrupt("page header without its kind's part")
	}
	p.SetInt(1, thriftpatch.I32, int64(e.n))
	statistics := int16(5)
	if part == pageDataV2 {
		statistics = 8
		p.SetInt(2, thriftpatch.I32, int64(j.res.after.nulls()))
		p.SetInt(3, thriftpatch.I32, int64(e.rows))
		p.SetInt(5, thriftpatch.I32, int64(defLen))
		p.SetInt(6, thriftpatch.I32, int64(repLen))
		if uncompressed == repLen+defLen && j.chunk.codec.kind != format.Uncompressed {
			p.SetBool(7, false) // nothing to compress: some readers fail on the codec's empty frame
		}
	} else {
		// Levels are always written as RLE; BIT_PACKED is deprecated.
		if e.def != nil {
			p.SetInt(3, thriftpatch.I32, int64(format.RLE))
		}
		if e.rep != nil {
			p.SetInt(4, thriftpatch.I32, int64(format.RLE))
		}
	}
	st, err := p.Struct(statistics)
	if err != nil {
		return nil, corrupt("page statistics: %w", err)
	}
	if st != nil {
		j.chunk.patchStatistics(st, statChange{gone: j.res.gone, stay: j.res.stay, stayKnown: j.res.stayKnown,
			literals: j.res.literals, nulls: int64(j.res.after.nulls()), values: j.res.after.values, leak: leaks.pageStats})
		p.SetStruct(statistics, st)
	}
	h.SetStruct(part, p)
	h.SetInt(pageUncompressed, thriftpatch.I32, int64(uncompressed))
	h.SetInt(pageCompressed, thriftpatch.I32, int64(len(body)))
	if h.Has(pageCRC) {
		h.SetInt(pageCRC, thriftpatch.I32, int64(int32(crc32.ChecksumIEEE(body))))
	}
	return h.Append(nil), nil
}

func unsupportedAt(where, what string) error {
	return &rewriter.UnsupportedError{What: what, Where: where}
}
