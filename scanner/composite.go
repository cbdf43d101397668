package scanner

import (
	"context"
	"encoding/binary"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// composite scans the chunks of a composite key side by side.
func (w *worker) composite(ctx context.Context, b *boundMatch, chunks []*pq.Chunk, ranges []rowRange,
	indexes []*format.OffsetIndex, out *matchResult, res *groupResult,
) error {
	s := &compositeScan{worker: w, match: b, out: out, tuples: tupler{match: b}}
	for i, c := range chunks {
		o := pq.ReadOptions{Window: w.o.Window, Gap: w.o.Gap, Index: indexes[i]}
		if x := indexes[i]; x != nil {
			o.Select = selectPages(x.PageLocations, c.RowGroup.Rows, ranges)
			res.pruning.Pages += len(x.PageLocations)
		}
		cur := newCursor(ctx, c, o)
		defer cur.close()
		p := &part{cursor: cur, index: i}
		cur.onDict = func(dict *pq.Values) error { return p.probe(b, dict) }
		s.parts = append(s.parts, p)
	}
	var err error
	if b.cols[b.deepest].MaxRep == 0 {
		err = s.flat(ranges)
	} else {
		err = s.nested(ranges)
	}
	for _, p := range s.parts {
		res.keyBytes += p.pages.BytesRead()
		res.pruning.PagesRead += p.read
		if indexes[p.index] == nil {
			res.pruning.Pages += p.read
		}
	}
	return err
}

type compositeScan struct {
	*worker
	match  *boundMatch
	parts  []*part
	out    *matchResult
	tuples tupler
	sel    []int32 // rows of the batch that can still match
}

// part is one column of the key.
type part struct {
	*cursor
	index  int
	values []int32 // of the batch's rows: the value in the page, -1 = null
	// known, when the chunk has a dictionary, says which entries are some
	// key's part.
	known []bool
	canon []byte
}

// probe looks the entries of a dictionary up, once, so that rows whose part
// occurs in no key are passed over without building a tuple.
func (p *part) probe(b *boundMatch, dict *pq.Values) error {
	p.known = make([]bool, dict.N)
	for i := range p.known {
		i64, raw := value(dict, i)
		p.known[i] = b.occurs(p.index, i64, raw, &p.canon)
	}
	return nil
}

// occurs says that a value is the part of some key, or that this is not known.
func (b *boundMatch) occurs(part int, i64 int64, raw []byte, buf *[]byte) bool {
	t, ok := b.matcher.AppendPart((*buf)[:0], part, i64, raw)
	*buf = t
	if !ok {
		return false
	}
	// In a tuple a part is its type tag, its length and its canonical bytes.
	if len(t) > 1 {
		if n, k := binary.Uvarint(t[1:]); k > 0 && n == uint64(len(t)-1-k) {
			v := t[1+k:]
			return b.set.Overlaps(part, v, v)
		}
	}
	return true
}

// flat matches row by row: all columns have one entry a row.
func (s *compositeScan) flat(ranges []rowRange) error {
	for _, r := range ranges {
		for row := r.from; row < r.to; {
			n := min(r.to-row, batch)
			for _, p := range s.parts {
				left, err := p.seek(row)
				if err != nil {
					return err
				}
				n = min(n, left)
			}
			s.batch(row, int(n))
			row += n
		}
	}
	return nil
}

// batch matches n rows, all within one page of every column.
func (s *compositeScan) batch(row int64, n int) {
	s.sel = s.sel[:0]
	for i := range int32(n) {
		s.sel = append(s.sel, i)
	}
	for _, p := range s.parts {
		p.locate(n)
		s.sel = p.narrow(s.sel)
	}
	for _, i := range s.sel {
		s.tuples.start()
		for _, p := range s.parts {
			s.tuples.add(p.index, &p.data.Values, int(p.values[i]))
		}
		if s.tuples.inSet() {
			s.out.rows = append(s.out.rows, row+int64(i))
			if s.o.Elements {
				s.out.entries = append(s.out.entries, 0)
			}
		}
	}
}

// locate finds the values of the next n rows.
func (p *part) locate(n int) {
	p.values = p.values[:0]
	v := int32(p.v)
	if p.dense() {
		for i := range int32(n) {
			p.values = append(p.values, v+i)
		}
		return
	}
	full := uint8(p.chunk.Column.MaxDef)
	for _, d := range p.data.Def[p.e : p.e+n] {
		if d == full {
			p.values = append(p.values, v)
			v++
		} else {
			p.values = append(p.values, -1)
		}
	}
}

// narrow keeps the rows whose part is there and can be a key's.
func (p *part) narrow(sel []int32) []int32 {
	out := sel[:0]
	index := p.data.Values.Index
	byDict := p.data.Values.Dict != nil && p.known != nil
	for _, i := range sel {
		v := p.values[i]
		if v < 0 || byDict && !p.known[index[v]] {
			continue
		}
		out = append(out, i)
	}
	return out
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
	ordinal := int32(0)
	for {
		ok, err := deep.ensure()
		if err != nil {
			return err
		}
		if !ok || deep.entryRow() >= to {
			return nil
		}
		rep := deep.rep()
		if rep == 0 {
			ordinal = 0
		}
		if s.entry() {
			s.out.rows = append(s.out.rows, deep.entryRow())
			if s.o.Elements {
				s.out.entries = append(s.out.entries, ordinal)
			}
		}
		ordinal++
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
	return s.tuples.inSet()
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

func (t *tupler) inSet() bool { return t.ok && t.match.matcher.Contains(t.buf) }
