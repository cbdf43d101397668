package verifier

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/parquet"
)

// PLAIN values are compared where they lie in the unpacked page: a run of
// values is a run of bytes, lengths included (Parquet "Encodings", Plain), so
// nothing has to be made of them. All other encodings are arrow-go's.

// plainWidth is the size of a column's PLAIN values: 0 where each has its length
// in front, -1 where they are not read here.
func (l *leaf) plainWidth() int {
	switch l.desc.PhysicalType() {
	case parquet.Types.Int32, parquet.Types.Float:
		return 4
	case parquet.Types.Int64, parquet.Types.Double:
		return 8
	case parquet.Types.Int96:
		return 12
	case parquet.Types.ByteArray:
		return 0
	case parquet.Types.FixedLenByteArray:
		if w := l.desc.TypeLength(); w > 0 {
			return w
		}
	}
	return -1
}

// isPlain says whether a page's values and levels are read here.
func (s *pageStream) isPlain(p *rawPage) bool {
	return s.raw && p.encoding == encPlain && s.l.plainWidth() >= 0 && !s.bitPacked(p)
}

// plainBatch makes one batch of a PLAIN page.
func (s *pageStream) plainBatch(p *rawPage) (*batch, error) {
	d, err := s.parts(p)
	if err != nil {
		return nil, err
	}
	l := s.l
	b := &l.b
	*b = batch{n: d.entries, nvals: d.defined}
	if most := l.desc.MaxRepetitionLevel(); most > 0 {
		if l.pageReps, err = expandLevels(l.pageReps, d.rep, most, d.entries); err != nil {
			return nil, err
		}
		b.rep = l.pageReps
	}
	if l.maxDef() > 0 {
		if l.pageDefs, err = expandLevels(l.pageDefs, d.def, l.maxDef(), d.entries); err != nil {
			return nil, err
		}
		b.def = l.pageDefs
	}
	if err := b.openPlain(d.values, l.plainWidth(), &l.starts); err != nil {
		return nil, err
	}
	s.recycle(p, d.values)
	return b, nil
}

// recycle gives a page's memory to the next one that is read, unless its values lie in it.
func (s *pageStream) recycle(p *rawPage, values []byte) {
	if len(values) == 0 || len(s.plain) > 0 && &values[len(values)-1] == &s.plain[len(s.plain)-1] {
		s.spare, p.body = p.body, nil
	}
}

// openPlain points the batch at its values. starts is memory for where they begin.
func (b *batch) openPlain(body []byte, width int, starts *[]uint32) error {
	if width > 0 {
		if b.nvals > len(body)/width {
			return errCorrupt
		}
		b.fixed, b.width = body[:b.nvals*width], width
		return nil
	}
	if b.nvals > len(body)/4 || int64(len(body)) > 1<<32-1 {
		return errCorrupt
	}
	if cap(*starts) <= b.nvals {
		*starts = make([]uint32, b.nvals+1)
	}
	out := (*starts)[:b.nvals+1]
	at := 0
	for i := range b.nvals {
		if len(body)-at < 4 {
			return errCorrupt
		}
		size := int(binary.LittleEndian.Uint32(body[at:]))
		if size > len(body)-at-4 {
			return errCorrupt
		}
		out[i] = uint32(at)
		at += 4 + size
	}
	out[b.nvals] = uint32(at)
	b.raw, b.starts = body, out
	return nil
}
