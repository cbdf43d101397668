package parquet

import (
	"bytes"
	"errors"
	"slices"

	"github.com/expunge/expunge/internal/pq"
)

// ErrCheck: a page that was just encoded did not decode to what it should hold.
var ErrCheck = errors.New("decode check failed")

// verify decodes the new page from its bytes and compares it with the edit of
// the source page, before anything of it is emitted.
func (j *pageJob) verify(s *scratch, d *decoded, e *pageEdit) error {
	h, n, _, err := pq.ParsePageHeader(j.res.header)
	if err != nil {
		return err
	}
	if n != len(j.res.header) || h.Encoding != j.page.Header.Encoding || int(h.NumValues) != e.n {
		return ErrCheck
	}
	page := pq.Page{RawHeader: j.res.header, Header: h, Body: j.res.body}
	s.check.Reset(j.chunk.src)
	body, err := s.check.Body(&page)
	if err != nil {
		return err
	}
	col := j.chunk.col
	if col.MaxRep > 0 {
		if s.rep2, err = pq.DecodeLevels(s.rep2, body.Rep, body.RepEncoding, col.MaxRep, e.n); err != nil {
			return err
		}
		if !bytes.Equal(s.rep2, e.rep) {
			return ErrCheck
		}
	}
	if col.MaxDef > 0 {
		if s.def2, err = pq.DecodeLevels(s.def2, body.Def, body.DefEncoding, col.MaxDef, e.n); err != nil {
			return err
		}
		if !bytes.Equal(s.def2, e.def) {
			return ErrCheck
		}
	}
	out, _, err := j.values(body.Values, e.list.n, true, &s.vals2, &s.two)
	if err != nil {
		return err
	}
	return sameValues(&d.view, &out, &e.list, j.chunk)
}

// sameValues compares out with src under the edit list.
func sameValues(src, out *view, list *editList, c *chunkJob) error {
	at := 0
	for _, o := range list.ops {
		n := o.to - o.from
		if o.literal == nil {
			if !sameRange(src, o.from, out, at, n) {
				return ErrCheck
			}
		} else {
			for i := at; i < at+n; i++ {
				if out.dict != nil && out.index[i] != c.dict.literal(o.literal) || out.dict == nil && !bytes.Equal(out.at(i), o.literal) {
					return ErrCheck
				}
			}
		}
		at += n
	}
	if at != out.n {
		return ErrCheck
	}
	return nil
}

// sameRange compares n values of two views of the same encoding.
func sameRange(a *view, i int, b *view, j, n int) bool {
	switch {
	case a.dict != nil:
		return slices.Equal(a.index[i:i+n], b.index[j:j+n])
	case a.bools != nil:
		return slices.Equal(a.bools[i:i+n], b.bools[j:j+n])
	case a.offsets == nil:
		w := a.width
		return bytes.Equal(a.raw[i*w:(i+n)*w], b.raw[j*w:(j+n)*w])
	case a.prefix > 0:
		// Lengths stand in the bytes: one comparison does.
		return bytes.Equal(a.raw[a.offsets[i]:a.offsets[i+n]], b.raw[b.offsets[j]:b.offsets[j+n]])
	}
	for k := range n {
		if !bytes.Equal(a.at(i+k), b.at(j+k)) {
			return false
		}
	}
	return true
}
