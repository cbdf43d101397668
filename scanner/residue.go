package scanner

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/bloom/xxhash"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// A chunk can still hold a key that no row of it has any more: in a dictionary
// entry that no row refers to, in a bound, as bits of its bloom filter. Tools
// that filter rows and write dictionaries or statistics back leave such
// residue. What a scan comes across on its way it reports; Options.Residue
// makes it look everywhere.

// stale says whether the scanned chunk holds a key that none of its rows has.
func (s *singleScan) stale() (bool, error) {
	if s.out.keys == nil || s.match.set.Len() == 0 {
		return false, nil
	}
	if s.dict.loaded {
		for _, e := range s.dict.hits {
			if !s.entries.Contains(uint64(e)) {
				return true, nil
			}
		}
	}
	lo, hi := statBounds(s.chunk, s.match.physic[0])
	if s.staleBounds(lo, hi) {
		return true, nil
	}
	if !s.o.Residue {
		return false, nil
	}
	if yes, err := s.stalePages(); yes || err != nil {
		return yes, err
	}
	return s.staleBloom()
}

// staleBounds says whether one of a pair of bounds is a key that no row has.
func (s *singleScan) staleBounds(lo, hi []byte) bool {
	w, ok := s.match.canonical(0, lo, hi)
	if !ok {
		return false
	}
	for _, b := range [][]byte{w.lo, w.hi} {
		if b == nil {
			continue
		}
		if n := s.match.set.Number(b); n >= 0 && !s.out.keys.Contains(uint64(n)) {
			return true
		}
	}
	return false
}

// noteHeader keeps the bounds that a page header states.
func (s *singleScan) noteHeader(h *pq.PageStatistics) {
	st := format.Statistics{Min: h.Min, Max: h.Max, MinValue: h.MinValue, MaxValue: h.MaxValue}
	if lo, hi := boundsOf(&st, s.chunk.File.TypeOrdered(s.chunk.Column), s.match.physic[0]); lo != nil || hi != nil {
		s.headers = append(s.headers, [2][]byte{bytes.Clone(lo), bytes.Clone(hi)})
	}
}

// stalePages looks at the bounds of pages: in the column index, and in the page
// headers that the scan has read.
func (s *singleScan) stalePages() (bool, error) {
	for _, b := range s.headers {
		if s.staleBounds(b[0], b[1]) {
			return true, nil
		}
	}
	if !s.chunk.HasPageIndex() || !s.chunk.File.TypeOrdered(s.chunk.Column) {
		return false, nil
	}
	locs, err := s.chunk.OffsetIndex()
	if err != nil {
		return false, err
	}
	x, err := s.chunk.ColumnIndex(len(locs.PageLocations))
	if err != nil {
		return false, err
	}
	for p := range locs.PageLocations {
		if !x.NullPages[p] && s.staleBounds(x.MinValues[p], x.MaxValues[p]) {
			return true, nil
		}
	}
	return false, nil
}

// staleBloom says whether a chunk without a hit has a filter that knows a key
// which a filter of the same size over the chunk's own values would not know.
func (s *singleScan) staleBloom() (bool, error) {
	if !s.chunk.HasBloom() || !s.out.keys.IsEmpty() {
		return false, nil
	}
	hashes, ok := s.match.matcher.ParquetHashes(0, nil, nil)
	if !ok {
		return false, nil
	}
	f, err := s.chunk.Bloom()
	if errors.Is(err, pq.ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var own bloom.SplitBlockFilter
	for h := range hashes {
		if !f.MayContain(h) {
			continue
		}
		if own == nil {
			own = make(bloom.SplitBlockFilter, (len(f.Raw)-f.Header)/bloom.BlockSize)
			if err := s.hashValues(own); err != nil {
				return false, err
			}
		}
		if !own.Check(h) {
			return true, nil
		}
	}
	return false, nil
}

// hashValues puts the chunk's values, those of its dictionary included, into a filter.
func (s *singleScan) hashValues(f bloom.SplitBlockFilter) error {
	r := s.chunk.Pages(s.ctx, pq.ReadOptions{Window: s.o.Window})
	defer r.Close()
	dec := s.decoder(s.chunk)
	var plain []byte
	insert := func(v *pq.Values) {
		for i := range v.N {
			plain = appendPlain(plain[:0], v, i)
			f.Insert(xxhash.Sum64(plain))
		}
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case p.Header.Type == format.DictionaryPage:
			if err := dec.SetDictionary(p); err != nil {
				return err
			}
			insert(dec.Dict)
		case p.Header.UsesDictionary():
			dec.Skip(p)
		default:
			if err := dec.Decode(p, &s.data); err != nil {
				return err
			}
			insert(&s.data.Values)
		}
	}
}

// appendPlain appends a value in PLAIN encoding, byte arrays without their length.
func appendPlain(dst []byte, v *pq.Values, i int) []byte {
	switch v.Type {
	case format.Int32:
		return binary.LittleEndian.AppendUint32(dst, uint32(v.Int32[i]))
	case format.Int64:
		return binary.LittleEndian.AppendUint64(dst, uint64(v.Int64[i]))
	}
	return append(dst, v.At(i)...)
}
