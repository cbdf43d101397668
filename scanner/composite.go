package scanner

import (
	"context"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// composite scans the chunks of a composite key in two steps. The part with the
// most distinct values, which is the most selective, is scanned alone first;
// the other columns are read only where it left candidates.
func (w *worker) composite(ctx context.Context, b *boundMatch, chunks []*pq.Chunk, ranges []rowRange,
	indexes []*format.OffsetIndex, out *matchResult, res *groupResult,
) error {
	driver := 0
	for i := range chunks {
		if b.set.PartLen(i) > b.set.PartLen(driver) {
			driver = i
		}
	}
	found, err := w.scanPart(ctx, b, driver, chunks[driver], ranges, indexes[driver], res)
	if err != nil || len(found) == 0 {
		return err
	}
	ranges = rangesOf(found)
	s := &compositeScan{match: b, out: out, tuples: tupler{match: b}}
	for i, c := range chunks {
		if indexes[i] == nil {
			if indexes[i], err = c.OffsetIndex(); err != nil {
				return err
			}
		}
		o := pq.ReadOptions{Window: w.o.Window, Gap: w.o.Gap, Index: indexes[i]}
		if x := indexes[i]; x != nil {
			o.Select = selectPages(x.PageLocations, c.RowGroup.Rows, ranges)
		}
		cur := newCursor(ctx, c, o)
		defer cur.close()
		s.parts = append(s.parts, &part{cursor: cur, index: i})
	}
	if b.cols[b.deepest].MaxRep == 0 {
		err = s.flat(ranges)
	} else {
		err = s.nested(ranges)
	}
	for _, p := range s.parts {
		res.keyBytes += p.pages.BytesRead()
		res.pruning.PagesRead += p.read
	}
	return err
}

// scanPart finds the rows in which one part alone has a key's value.
func (w *worker) scanPart(ctx context.Context, b *boundMatch, part int, c *pq.Chunk, ranges []rowRange,
	index *format.OffsetIndex, res *groupResult,
) ([]int64, error) {
	alone := *b
	alone.matcher = b.matcher.Part(part)
	var found matchResult // a part alone is no key: it keeps none
	s := &singleScan{worker: w, ctx: ctx, match: &alone, chunk: c, out: &found, res: res}
	err := s.run(ranges, index)
	return found.rows, err
}

// rangesOf joins ascending rows, of which some are repeated.
func rangesOf(rows []int64) []rowRange {
	var out []rowRange
	for _, row := range rows {
		if n := len(out); n > 0 && row <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, row+1)
			continue
		}
		out = append(out, rowRange{row, row + 1})
	}
	return out
}

type compositeScan struct {
	match  *boundMatch
	parts  []*part
	out    *matchResult
	tuples tupler
}

// part is one column of the key.
type part struct {
	*cursor
	index int
}

// flat matches row by row: all columns have one entry a row.
func (s *compositeScan) flat(ranges []rowRange) error {
	for _, r := range ranges {
		for row := r.from; row < r.to; row++ {
			for _, p := range s.parts {
				if _, err := p.seek(row); err != nil {
					return err
				}
			}
			if s.entry() {
				s.out.rows = append(s.out.rows, row)
			}
		}
	}
	return nil
}

// nested walks the deepest column entry by entry. A shallower column moves on
// when the entry starts something at its own level or above: both have the
// same lists down to there.
func (s *compositeScan) nested(ranges []rowRange) error {
	deep := s.parts[s.match.deepest]
	for _, r := range ranges {
		for _, p := range s.parts {
			if err := p.seekEntry(r.from); err != nil {
				return err
			}
		}
		if err := s.nestedRange(deep, r.to); err != nil {
			return err
		}
	}
	return nil
}

func (s *compositeScan) nestedRange(deep *part, to int64) error {
	var elements elementCounter
	if s.match.element != nil {
		elements = newElementCounter(s.match.element)
	}
	for {
		ok, err := deep.ensure()
		if err != nil {
			return err
		}
		if !ok || deep.entryRow() >= to {
			return nil
		}
		elements.entry(uint8(deep.rep()), deep.data.Def[deep.e])
		if s.entry() {
			s.out.rows = append(s.out.rows, deep.entryRow())
			if s.match.element != nil {
				s.out.elements = append(s.out.elements, elements.index())
			}
		}
		if err := s.advance(deep, to); err != nil {
			return err
		}
	}
}

// entry matches the tuple at the cursors.
func (s *compositeScan) entry() bool {
	s.tuples.start()
	for _, p := range s.parts {
		if !p.isValue() {
			return false
		}
		s.tuples.add(p.index, &p.data.Values, p.v)
	}
	n := s.tuples.number()
	if n >= 0 && s.out.keys != nil {
		s.out.keys.Add(uint64(n))
	}
	return n >= 0
}

// advance moves all cursors to the next entry of the deepest column. Beyond the
// row to, the columns' selected pages differ, and with them their entries.
func (s *compositeScan) advance(deep *part, to int64) error {
	deep.next()
	ok, err := deep.ensure()
	if err != nil {
		return err
	}
	rep, row := 0, to
	if ok {
		rep, row = deep.rep(), deep.entryRow()
	}
	for _, p := range s.parts {
		if p == deep || rep > p.chunk.Column.MaxRep {
			continue
		}
		p.next()
		more, err := p.ensure()
		if err != nil {
			return err
		}
		if row < to && (!more || p.rep() != rep || p.entryRow() != row) {
			return &pq.Error{Kind: pq.ErrCorrupt, Where: p.chunk.Where(), What: "lists differ from those of the key's other columns"}
		}
	}
	return nil
}

// tupler builds key tuples part by part.
type tupler struct {
	match *boundMatch
	buf   []byte
	ok    bool
}

func (t *tupler) start() { t.buf, t.ok = t.buf[:0], true }

func (t *tupler) add(part int, v *pq.Values, i int) {
	if !t.ok {
		return
	}
	i64, raw := value(v, i)
	t.buf, t.ok = t.match.matcher.AppendPart(t.buf, part, i64, raw)
}

// number is the key's number in the set, -1 when it is none.
func (t *tupler) number() int {
	if !t.ok {
		return -1
	}
	return t.match.set.Number(t.buf)
}
