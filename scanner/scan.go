package scanner

import (
	"context"
	"errors"
	"io"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// worker scans row groups one after the other and keeps its memory.
type worker struct {
	o    Options
	dec  *pq.Decoder
	data pq.PageData
	dict dictionaryProbe
	// Of the chunk at hand: the dictionary entries of keys that a row refers to,
	// and the bounds in page headers.
	entries roaring64.Bitmap
	headers [][2][]byte
	hits    []int32 // values of a page
	ents    []int32 // their level entries
	key     []byte  // canonical form of one
}

func newWorker(o Options) *worker { return &worker{o: o} }

func (w *worker) rowGroup(ctx context.Context, g *pq.RowGroup, matches []*boundMatch) (*groupResult, error) {
	res := &groupResult{firstRow: g.FirstRow}
	for _, b := range matches {
		m, err := w.match(ctx, g, b, res)
		if err != nil {
			return nil, err
		}
		m.keys = b.renumber(m.keys)
		if len(m.rows) > 0 || m.stale {
			res.matches = append(res.matches, m)
		}
	}
	return res, nil
}

// match runs one match over a row group: prune, then scan what is left.
func (w *worker) match(ctx context.Context, g *pq.RowGroup, b *boundMatch, res *groupResult) (matchResult, error) {
	m := matchResult{match: b.index}
	if w.o.Keys {
		m.keys = roaring64.New()
	}
	res.pruning.RowGroups++
	if g.Rows == 0 || b.set.Len() == 0 {
		return m, nil
	}
	if len(b.cols) == 0 { // every row has the key, and the file does not store it
		for row := range g.Rows {
			m.rows = append(m.rows, row)
		}
		if m.keys != nil {
			m.keys.Add(uint64(b.numbers[0]))
		}
		return m, nil
	}
	chunks := make([]*pq.Chunk, len(b.cols))
	for i, col := range b.cols {
		var err error
		if chunks[i], err = g.Chunk(col); err != nil {
			return m, err
		}
	}
	ranges := []rowRange{{0, g.Rows}}
	indexes := make([]*format.OffsetIndex, len(chunks))
	if !w.o.NoPruning && !(w.o.Residue && len(chunks) == 1) {
		maybe, err := b.possible(chunks, &res.pruning)
		if err != nil || !maybe {
			return m, err
		}
		if ranges, indexes, err = b.pageRanges(chunks); err != nil {
			return m, err
		}
		if len(ranges) == 0 {
			res.pruning.ByPageIndex++
			return m, nil
		}
	}
	if len(chunks) == 1 {
		s := &singleScan{worker: w, ctx: ctx, match: b, chunk: chunks[0], out: &m, res: res}
		if b.element != nil {
			c := newElementCounter(b.element)
			s.elements = &c
		}
		err := s.run(ranges, indexes[0])
		if err == nil {
			m.stale, err = s.stale()
		}
		return m, err
	}
	err := w.composite(ctx, b, chunks, ranges, indexes, &m, res)
	return m, err
}

// singleScan scans one chunk for the keys of one part.
type singleScan struct {
	*worker
	ctx      context.Context
	match    *boundMatch
	chunk    *pq.Chunk
	out      *matchResult
	res      *groupResult
	elements *elementCounter // nil unless asked for; runs on across pages
}

func (w *worker) decoder(c *pq.Chunk) *pq.Decoder {
	if w.dec == nil {
		w.dec = c.NewDecoder()
	} else {
		w.dec.Reset(c)
	}
	return w.dec
}

func (s *singleScan) run(ranges []rowRange, index *format.OffsetIndex) error {
	o := pq.ReadOptions{Window: s.o.Window, Gap: s.o.Gap, Index: index, SkipDictionary: true}
	if index != nil {
		o.Select = selectPages(index.PageLocations, s.chunk.RowGroup.Rows, ranges)
		s.res.pruning.Pages += len(index.PageLocations)
	}
	dec := s.decoder(s.chunk)
	s.dict.reset()
	s.entries.Clear()
	s.headers = s.headers[:0]
	// A dictionary that holds no key can spare all of its pages, so it comes
	// first; where few pages are to be read, it waits until one needs it.
	if o.Select == nil {
		if err := s.loadDictionary(dec); err != nil {
			return err
		}
		if s.dict.loaded && !s.dict.any && s.chunk.DictionaryOnly() && !s.o.NoPruning && !s.o.Residue {
			s.res.pruning.ByDictionary++
			return nil
		}
	}
	r := s.chunk.Pages(s.ctx, o)
	defer r.Close()
	err := s.pages(r, dec)
	s.res.keyBytes += r.BytesRead()
	return err
}

func (s *singleScan) loadDictionary(dec *pq.Decoder) error {
	p, err := s.chunk.Dictionary(s.ctx)
	if err != nil || p == nil {
		return err
	}
	s.res.keyBytes += p.Size()
	if err := dec.SetDictionary(p); err != nil {
		return err
	}
	return s.dict.load(s.match.matcher, dec.Dict)
}

func (s *singleScan) pages(r *pq.PageReader, dec *pq.Decoder) error {
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p.Header.Type == format.DictionaryPage {
			// Not announced in the footer, or it would have been passed over.
			if err := dec.SetDictionary(p); err != nil {
				return err
			}
			if err := s.dict.load(s.match.matcher, dec.Dict); err != nil {
				return err
			}
			continue
		}
		if p.Header.UsesDictionary() && !s.dict.loaded {
			if err := s.loadDictionary(dec); err != nil {
				return err
			}
		}
		if err := s.page(p, dec); err != nil {
			return err
		}
	}
}

// page probes one data page.
func (s *singleScan) page(p *pq.Page, dec *pq.Decoder) error {
	if s.chunkHasNoIndex() {
		s.res.pruning.Pages++
	}
	if s.o.Residue {
		s.noteHeader(&p.Header.Statistics)
	}
	byDict := p.Header.UsesDictionary() && s.dict.loaded
	if byDict && !s.dict.any && p.FirstRow >= 0 && !s.o.NoPruning {
		dec.Skip(p)
		return nil
	}
	s.res.pruning.PagesRead++
	d := &s.data
	var err error
	if byDict {
		err = s.probeIndexes(p, dec)
	} else if err = dec.Decode(p, d); err == nil {
		if s.hits, err = probeValues(s.hits[:0], s.match.matcher, &d.Values); err == nil {
			s.noteKeys(&d.Values, s.hits)
		}
	}
	if err != nil {
		return err
	}
	s.report(d)
	return nil
}

func (s *singleScan) chunkHasNoIndex() bool {
	return s.o.NoPruning || s.o.Residue || !s.chunk.HasPageIndex()
}

// probeIndexes decodes the levels and maps the indexes through the probed
// dictionary, without materialising either.
func (s *singleScan) probeIndexes(p *pq.Page, dec *pq.Decoder) error {
	body, err := dec.Body(p)
	if err != nil {
		return err
	}
	if err := dec.DecodeLevels(p, body, &s.data); err != nil {
		return err
	}
	s.hits, err = s.dict.selectIndexes(s.hits[:0], body.Values, s.data.Defined)
	if err == nil && s.out.keys != nil && len(s.hits) > 0 {
		err = s.dict.entriesOf(body.Values, s.data.Defined, s.hits, func(entry int) {
			s.entries.Add(uint64(entry))
			s.noteKey(dec.Dict, entry)
		})
	}
	return dec.Explain(p, err)
}

// noteKeys remembers which keys the hit values are.
func (s *singleScan) noteKeys(v *pq.Values, hits []int32) {
	if s.out.keys == nil {
		return
	}
	for _, i := range hits {
		s.noteKey(v, int(i))
	}
}

func (s *singleScan) noteKey(v *pq.Values, i int) {
	i64, raw := value(v, i)
	var ok bool
	if s.key, ok = s.match.matcher.AppendPart(s.key[:0], 0, i64, raw); !ok {
		return
	}
	if n := s.match.set.Number(s.key); n >= 0 {
		s.out.keys.Add(uint64(n))
	}
}

// report turns the hit values of a page into rows.
func (s *singleScan) report(d *pq.PageData) {
	if s.elements != nil {
		s.reportElements(d)
		return
	}
	if len(s.hits) == 0 {
		return
	}
	s.ents = d.EntriesOf(s.ents[:0], s.hits)
	s.out.rows = d.RowsOf(s.out.rows, s.ents)
}

// reportElements also gives the elements that hold the hits. A row can go on
// from the page before, so every page is counted.
func (s *singleScan) reportElements(d *pq.PageData) {
	s.ents = d.EntriesOf(s.ents[:0], s.hits)
	s.out.rows = d.RowsOf(s.out.rows, s.ents)
	next := 0
	for e, rep := range d.Rep {
		s.elements.entry(rep, d.Def[e]) // a column in a list has both levels
		if next < len(s.ents) && int(s.ents[next]) == e {
			s.out.elements = append(s.out.elements, s.elements.index())
			next++
		}
	}
}
