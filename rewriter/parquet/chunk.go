package parquet

import (
	"fmt"
	"hash/crc32"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
)

func crcOf(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// chunkJob is the rewrite of one column chunk of a row group with hits. A
// planner goroutine finds its pages, hands page jobs to the workers and sends
// items in file order; the emitter writes them.
type chunkJob struct {
	eng  *engine
	src  *pq.Chunk
	col  *pq.Column
	leaf *leafPlan

	order       order
	typeOrdered bool // min_value and max_value are defined
	foreign     bool // pages store bounds of values that are not theirs: all are edited
	codec       codec
	check       bool
	recompress  bool // at the level asked for, never in the compressed form
	histograms  bool

	rowBase int64  // file position of the row group's first row
	erased  []span // rows of the row group that go
	touched []span // rows that are redacted or lose elements, without erased ones

	entry *thriftpatch.Struct // ColumnChunk, patched on the way
	meta  *thriftpatch.Struct // its ColumnMetaData
	stats *thriftpatch.Struct // its Statistics, nil when there are none

	table   *pageTable
	ahead   []byte // source bytes read ahead, from aheadAt on
	aheadAt int64

	dict  *dictionary
	bloom *bloomBuilder
	fin   *finished

	items  chan item
	credit chan struct{} // one a MiB of pages in memory
	err    error         // set before items is closed
}

// item is a piece of a chunk, in file order.
type item struct {
	copyOff, copyLen int64      // a range of the source, or
	data             []byte     // produced bytes, or
	job              *pageJob   // a page still being worked on
	pages            pageWindow // the data pages in a copied range
	dict             bool       // the piece is the dictionary page
}

type pageWindow struct{ from, to int }

func (e *engine) newChunk(g *groupJob, leaf int) (*chunkJob, error) {
	col := e.job.file.Schema.Columns[leaf]
	src, err := g.src.Chunk(col)
	if err != nil {
		return nil, err
	}
	c := &chunkJob{
		eng: e, src: src, col: col, leaf: &e.job.plan.leaves[leaf],
		order: orderOf(col), typeOrdered: e.job.file.TypeOrdered(col),
		codec: newCodec(src.Meta.Codec, e.job.opts.ZstdLevel), check: !e.job.opts.SkipCheck, recompress: e.job.opts.ZstdLevel > 1,
		rowBase: g.src.FirstRow, erased: g.erased, touched: g.touchedBy(leaf),
		items: make(chan item, itemsAhead), credit: make(chan struct{}, pagesAhead),
	}
	if err := c.openMeta(g, leaf); err != nil {
		return nil, fmt.Errorf("%s: %w", src.Where(), err)
	}
	return c, nil
}

func (c *chunkJob) openMeta(g *groupJob, leaf int) (err error) {
	if c.entry, err = g.columns.Struct(leaf); err != nil {
		return corrupt("column chunk: %w", err)
	}
	if c.meta, err = c.entry.Struct(chunkMeta); err != nil || c.meta == nil {
		return corrupt("column chunk without metadata")
	}
	if c.stats, err = c.meta.Struct(metaStatistics); err != nil {
		return corrupt("statistics: %w", err)
	}
	c.histograms = c.meta.Has(metaSizeStatistics) || c.src.HasPageIndex()
	return nil
}

// plan finds out what happens to every page and sends the chunk's items.
func (c *chunkJob) plan() error {
	var err error
	if c.table, err = c.readTable(); err != nil {
		return err
	}
	if err := c.table.mustStartRows(c); err != nil {
		return err
	}
	if err := c.openBloom(); err != nil {
		return err
	}
	if c.table.dictSize > 0 {
		if err := c.planDictionary(); err != nil {
			return err
		}
	} else if err := c.findForeign(); err != nil {
		return err
	}
	if err := c.sendPages(); err != nil {
		return err
	}
	c.ahead = nil
	return c.finish()
}

// workOn returns a page's share of the edit; edit is false when it has none.
func (c *chunkJob) workOn(e *pageEntry) (w rowWork, edit bool) {
	w = rowWork{
		erased:  clip(c.erased, e.first, e.first+e.rows),
		touched: clip(c.touched, e.first, e.first+e.rows),
		first:   c.rowBase + int64(e.first), leaf: c.leaf,
	}
	return w, len(w.erased) > 0 || len(w.touched) > 0 || c.foreign
}

// newPageJob loads page i and prepares its job.
func (c *chunkJob) newPageJob(i int, w rowWork, edit bool) (*pageJob, error) {
	p, err := c.load(i)
	if err != nil {
		return nil, err
	}
	j := &pageJob{chunk: c, page: p, work: w, edit: edit, done: make(chan struct{})}
	j.stored = c.storedBounds(i, &p.Header)
	if b, ok := c.chunkBounds(); ok {
		if len(c.table.pages) == 1 {
			j.stored = append(j.stored, b)
		} else if lo, hi := sharedBounds(b, j.stored); len(j.stored) == 0 || lo || hi || c.foreign {
			j.wantBounds = edit
		}
	}
	j.wantBounds = j.wantBounds || edit && c.eng.job.plan.wipe
	if c.bloom != nil {
		j.wantHashes = !p.Header.UsesDictionary()
		j.wantUse = !j.wantHashes
	}
	return j, nil
}

// submit hands a job to the workers.
func (c *chunkJob) submit(j *pageJob) error {
	select {
	case c.eng.jobs <- j:
		return nil
	case <-c.eng.ctx.Done():
		return c.eng.ctx.Err()
	}
}

func (c *chunkJob) send(it item) error {
	select {
	case c.items <- it:
		return nil
	case <-c.eng.ctx.Done():
		return c.eng.ctx.Err()
	}
}

// take waits until the pages that are worked on leave room for another one.
func (c *chunkJob) take(e *pageEntry) error {
	e.credit = int(min(e.size>>20+1, pagesAhead))
	for range e.credit {
		select {
		case c.credit <- struct{}{}:
		case <-c.eng.ctx.Done():
			return c.eng.ctx.Err()
		}
	}
	return nil
}

// give makes room again, once a page is written.
func (c *chunkJob) give(e *pageEntry) {
	for ; e.credit > 0; e.credit-- {
		<-c.credit
	}
}

func (c *chunkJob) wait(j *pageJob) error {
	select {
	case <-j.done:
		return j.err
	case <-c.eng.ctx.Done():
		return c.eng.ctx.Err()
	}
}

// planDictionary works on the dictionary-encoded pages first: only they tell
// which entries survive, and the dictionary page stands in front of them.
func (c *chunkJob) planDictionary() error {
	page, err := c.loadDictionary()
	if err != nil {
		return err
	}
	if c.dict, err = c.openDictionary(page); err != nil {
		return err
	}
	if err := c.findForeign(); err != nil {
		return err
	}
	untouched, err := c.editDictionaryPages()
	if err != nil {
		return err
	}
	if err := c.scanDictionaryPages(untouched); err != nil {
		return err
	}
	header, body, uncompressed, err := c.dict.rebuilt(c)
	if err != nil {
		return err
	}
	if header == nil {
		p := &c.dict.page
		return c.send(item{copyOff: p.Offset, copyLen: p.Size(), dict: true})
	}
	old := &c.dict.page
	c.fin = &finished{
		compressed:   int64(len(header)+len(body)) - old.Size(),
		uncompressed: int64(len(header)+uncompressed) - int64(len(old.RawHeader)) - int64(old.Header.UncompressedSize),
	}
	return c.send(item{data: append(header, body...), dict: true})
}

// editDictionaryPages starts the jobs of all dictionary-encoded pages that
// must be edited or looked at, waits for them, and returns the others that may
// be dictionary-encoded.
func (c *chunkJob) editDictionaryPages() (untouched []int, err error) {
	var jobs []*pageJob
	dictPages := c.dictionaryPages()
	for i := range c.table.pages {
		if dictPages == 0 {
			break // all that encoding_stats count were seen
		}
		e := &c.table.pages[i]
		w, edit := c.workOn(e)
		if !edit && c.bloom == nil && dictPages > 0 {
			// Writers fall back once and for good: the first pages are the
			// dictionary-encoded ones.
			untouched = append(untouched, i)
			dictPages--
			continue
		}
		if dictPages < 0 {
			h, err := c.peek(e)
			if err != nil {
				return nil, err
			}
			if !h.UsesDictionary() {
				continue
			}
			if !edit && c.bloom == nil {
				untouched = append(untouched, i)
				continue
			}
		}
		j, err := c.newPageJob(i, w, edit)
		if err != nil {
			return nil, err
		}
		if !j.page.Header.UsesDictionary() {
			continue // of no use here: it is loaded again in its turn
		}
		dictPages--
		e.job = j
		if err := c.submit(j); err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	for _, j := range jobs {
		if err := c.wait(j); err != nil {
			return nil, err
		}
	}
	return untouched, nil
}

// dictionaryPages is the number of dictionary-encoded data pages, -1 when
// encoding_stats do not tell.
func (c *chunkJob) dictionaryPages() int {
	stats := c.src.Meta.EncodingStats
	if len(stats) == 0 {
		return -1
	}
	n, all := 0, 0
	for _, s := range stats {
		h := pq.PageHeader{Type: s.PageType, Encoding: s.Encoding}
		if h.IsData() {
			all += int(s.Count)
			if h.UsesDictionary() {
				n += int(s.Count)
			}
		}
	}
	if all != len(c.table.pages) {
		return -1
	}
	return n
}

// scanDictionaryPages looks at pages without an edit until every entry that
// lost a use is known to be used still. What is not found is dead.
func (c *chunkJob) scanDictionaryPages(pages []int) error {
	const batch = 4
	c.dict.complete = false
	for len(pages) > 0 && !c.dict.settled() {
		n := min(batch, len(pages))
		var jobs []*pageJob
		for _, i := range pages[:n] {
			e := &c.table.pages[i]
			j, err := c.newPageJob(i, rowWork{first: c.rowBase + int64(e.first), leaf: c.leaf}, false)
			if err != nil {
				return err
			}
			if !j.page.Header.UsesDictionary() {
				return unsupportedAt(c.src.Where(), "dictionary-encoded pages behind others")
			}
			j.wantUse, j.stored = true, nil
			if err := c.submit(j); err != nil {
				return err
			}
			jobs = append(jobs, j)
		}
		for _, j := range jobs {
			if err := c.wait(j); err != nil {
				return err
			}
		}
		pages = pages[n:]
	}
	c.dict.complete = len(pages) == 0
	return nil
}

// sendPages sends the data pages: untouched neighbours as one range.
func (c *chunkJob) sendPages() error {
	var run item
	flush := func() error {
		if run.copyLen == 0 {
			return nil
		}
		it := run
		run = item{}
		return c.send(it)
	}
	for i := range c.table.pages {
		e := &c.table.pages[i]
		w, edit := c.workOn(e)
		if e.job == nil && (edit || c.bloom != nil) {
			var err error
			if edit {
				if err = c.take(e); err != nil {
					return err
				}
			}
			if e.job, err = c.newPageJob(i, w, edit); err != nil {
				return err
			}
			if e.job.page.Header.UsesDictionary() && c.dict != nil {
				return unsupportedAt(c.src.Where(), "dictionary-encoded pages behind others")
			}
			if err := c.submit(e.job); err != nil {
				return err
			}
		}
		if edit {
			if err := flush(); err != nil {
				return err
			}
			if err := c.send(item{job: e.job, pages: pageWindow{i, i + 1}}); err != nil {
				return err
			}
			continue
		}
		if run.copyLen > 0 && run.copyOff+run.copyLen != e.offset {
			if err := flush(); err != nil {
				return err
			}
		}
		if run.copyLen == 0 {
			run = item{copyOff: e.offset, pages: pageWindow{i, i}}
		}
		run.copyLen += e.size
		run.pages.to = i + 1
	}
	return flush()
}
