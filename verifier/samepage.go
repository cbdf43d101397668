package verifier

import (
	"bytes"
	"errors"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// pagePair tells which pages of a new file are those of the old one, byte for
// byte, and so need no decoding to be equal.
type pagePair struct {
	a, b *pageStream
	// Indexes at which the two current chunks' dictionaries differ; nil with
	// agree = true when they are the same.
	ofA, ofB int // row groups that diff is about
	agree    bool
	diff     *roaring64.Bitmap
}

// same says whether the next pages of both are equal as stored: header, body,
// codec, and every dictionary entry that they refer to.
func (p *pagePair) same(x, y *rawPage) (bool, error) {
	if p.a.meta.Compression() != p.b.meta.Compression() || !x.sameHeader(y) || !bytes.Equal(x.body, y.body) {
		return false, nil
	}
	if !isDictionary(int(x.encoding)) {
		return true, nil
	}
	if err := p.dictionaries(); err != nil {
		return false, err
	}
	if p.agree {
		return true, nil
	}
	equal := true
	err := p.a.indexes(x, func(v uint64) bool {
		equal = !p.diff.Contains(v)
		return equal
	})
	if err != nil && !errors.Is(err, errStop) {
		return false, err
	}
	return equal, nil
}

// dictionaries compares the current chunks' dictionaries entry by entry: the
// rewriter wipes entries that only erased rows had.
func (p *pagePair) dictionaries() error {
	if p.diffIsCurrent() {
		return nil
	}
	p.ofA, p.ofB, p.agree, p.diff = p.a.rg, p.b.rg, false, nil
	if p.a.dict == nil || p.b.dict == nil {
		return errCorrupt
	}
	if bytes.Equal(p.a.dict.body, p.b.dict.body) && p.a.dict.sameHeader(p.b.dict) {
		p.agree = true
		return nil
	}
	x, err := p.a.entries()
	if err != nil {
		return err
	}
	y, err := p.b.entries()
	if err != nil {
		return err
	}
	p.diff = roaring64.New()
	for i, v := range x {
		if i >= len(y) {
			p.diff.AddRange(uint64(i), uint64(len(x)))
			break
		}
		if !bytes.Equal(v, y[i]) {
			p.diff.Add(uint64(i))
		}
	}
	return nil
}

func (p *pagePair) diffIsCurrent() bool {
	return p.ofA == p.a.rg && p.ofB == p.b.rg && (p.agree || p.diff != nil)
}

// entries decodes the current chunk's dictionary.
func (s *pageStream) entries() ([][]byte, error) {
	body, err := s.uncompressed(s.dict)
	if err != nil {
		return nil, err
	}
	return decodePlain(body, int(s.dict.field(7, 1)), s.l.desc)
}
