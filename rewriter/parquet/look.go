package parquet

import (
	"github.com/parquet-go/parquet-go/format"
)

// look gathers what the chunk needs to know of the values that stay and of
// those that go. A nil list keeps everything.
func (j *pageJob) look(s *scratch, d *decoded, list *editList) error {
	r, v := &j.res, &d.view
	if list == nil {
		list = &editList{}
		list.keep(0, v.n)
	}
	var kept []span
	var literals [][]byte
	for _, o := range list.ops {
		if o.literal == nil {
			kept = append(kept, span{o.from, o.to})
			continue
		}
		literals = append(literals, o.literal)
		r.dataDelta += int64(o.to-o.from) * int64(len(o.literal))
	}
	gone := invert(kept, v.n)
	r.literals = len(literals) > 0
	if j.chunk.order != orderNone {
		r.gone = boundsOf(j.chunk.order, v, gone).own()
		if j.boundsAffected() {
			b := boundsOf(j.chunk.order, v, kept)
			for _, l := range literals {
				b.add(j.chunk.order, l)
			}
			r.stay, r.stayKnown = b.own(), true
		}
	}
	if j.chunk.col.Type == format.ByteArray {
		for _, g := range gone {
			for i := g.from; i < g.to; i++ {
				r.dataDelta -= int64(v.size(i))
			}
		}
	}
	if v.dict != nil && (j.edit || j.wantUse) {
		j.markUse(s, v, kept, gone, literals)
	}
	if j.wantHashes {
		j.hash(v, kept, literals)
	}
	return nil
}

// boundsAffected says whether the bounds of what stays must be found: they
// are asked for, or a stored bound may come from a value that goes.
func (j *pageJob) boundsAffected() bool {
	if j.wantBounds || j.res.literals {
		return true
	}
	o := j.chunk.order
	for _, b := range j.stored {
		if b.min != nil && derivedMin(o, b.min, j.res.gone.min) || b.max != nil && derivedMax(o, b.max, j.res.gone.max) {
			return true
		}
	}
	return false
}

// markUse tells the dictionary which entries stay in use and which lost a use.
func (j *pageJob) markUse(s *scratch, v *view, kept, gone []span, literals [][]byte) {
	n := j.chunk.dict.size()
	s.used, s.lost = s.used.cleared(n), s.lost.cleared(n)
	for _, k := range kept {
		for _, x := range v.index[k.from:k.to] {
			s.used.set(int(x))
		}
	}
	for _, l := range literals {
		s.used.set(int(j.chunk.dict.literal(l)))
	}
	for _, g := range gone {
		for _, x := range v.index[g.from:g.to] {
			s.lost.set(int(x))
		}
	}
	j.chunk.dict.merge(s.used, s.lost)
}
