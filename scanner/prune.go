package scanner

import (
	"bytes"
	"errors"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/keyset"
)

// bloomKeys is up to how many keys a bloom filter is asked about. At the usual
// one false positive in a hundred, more keys nearly always leave one standing.
const bloomKeys = 256

// signedOrder says that the deprecated min and max fields, which are always in
// signed order (parquet.thrift, Statistics), are right for the column.
func signedOrder(k keyset.Column) bool {
	if k.Physical != keyset.PhysInt32 && k.Physical != keyset.PhysInt64 {
		return false
	}
	return !k.Logical.Unsigned
}

// window is a part's canonical bounds; nil is open.
type window struct{ lo, hi []byte }

// statBounds gives usable bounds of a chunk from its statistics.
func statBounds(c *pq.Chunk, k keyset.Column) (lo, hi []byte) {
	return boundsOf(&c.Meta.Statistics, c.File.TypeOrdered(c.Column), k)
}

func boundsOf(s *format.Statistics, typeOrdered bool, k keyset.Column) (lo, hi []byte) {
	if typeOrdered && (s.MinValue != nil || s.MaxValue != nil) {
		return s.MinValue, s.MaxValue
	}
	if signedOrder(k) {
		return s.Min, s.Max
	}
	return nil, nil
}

// canonical converts stored bounds; ok is false when they say nothing.
func (b *boundMatch) canonical(part int, minimum, maximum []byte) (w window, ok bool) {
	if minimum == nil && maximum == nil {
		return w, false
	}
	lo, hi, ok := b.matcher.Bounds(part, minimum, maximum)
	if !ok || lo != nil && hi != nil && bytes.Compare(lo, hi) > 0 {
		return w, false
	}
	return window{lo, hi}, true
}

// allNull says that a chunk holds no value.
func allNull(c *pq.Chunk) bool {
	return c.Meta.NumValues > 0 && c.Meta.Statistics.NullCount == c.Meta.NumValues
}

// possible prunes a row group by the footer alone and by bloom filters. The
// windows it returns narrow the keys that can occur, part by part.
func (b *boundMatch) possible(chunks []*pq.Chunk, pruning *Pruning) (bool, error) {
	windows := make([]window, len(chunks))
	for i, c := range chunks {
		if allNull(c) {
			pruning.ByStatistics++
			return false, nil
		}
		lo, hi := statBounds(c, b.physic[i])
		if w, ok := b.canonical(i, lo, hi); ok {
			if !b.set.Overlaps(i, w.lo, w.hi) {
				pruning.ByStatistics++
				return false, nil
			}
			windows[i] = w
		}
	}
	for i, c := range chunks {
		maybe, err := b.bloom(c, i, windows[i])
		if err != nil {
			return false, err
		}
		if !maybe {
			pruning.ByBloom++
			return false, nil
		}
	}
	return true, nil
}

// bloom asks a chunk's filter about the keys in the window.
func (b *boundMatch) bloom(c *pq.Chunk, part int, w window) (maybe bool, err error) {
	if !c.HasBloom() || int64(c.Meta.BloomFilterLength) > (c.End-c.Start)/2 || b.tooMany(part, w) {
		return true, nil
	}
	hashes, ok := b.matcher.ParquetHashes(part, w.lo, w.hi)
	if !ok {
		return true, nil
	}
	f, err := c.Bloom()
	if errors.Is(err, pq.ErrUnsupported) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for h := range hashes {
		if f.MayContain(h) {
			return true, nil
		}
	}
	return false, nil
}

func (b *boundMatch) tooMany(part int, w window) bool {
	return b.set.CountIn(part, w.lo, w.hi) > bloomKeys
}

// rowRange is [from, to) in a row group.
type rowRange struct{ from, to int64 }

// pageRanges uses the page index: the rows whose pages can match in every
// part. indexed is false when no part has a usable index, and the offset
// indexes that were read are returned part by part.
func (b *boundMatch) pageRanges(chunks []*pq.Chunk) (ranges []rowRange, indexes []*format.OffsetIndex, err error) {
	indexes = make([]*format.OffsetIndex, len(chunks))
	ranges = []rowRange{{0, chunks[0].RowGroup.Rows}}
	for i, c := range chunks {
		if !c.HasPageIndex() {
			continue
		}
		if indexes[i], err = c.OffsetIndex(); err != nil {
			return nil, nil, err
		}
		if !c.File.TypeOrdered(c.Column) {
			continue
		}
		locs := indexes[i].PageLocations
		x, err := c.ColumnIndex(len(locs))
		if err != nil {
			return nil, nil, err
		}
		ranges = intersect(ranges, b.candidates(i, x, locs, c.RowGroup.Rows))
	}
	return ranges, indexes, nil
}

// candidates lists the rows of the pages whose bounds a key falls into.
func (b *boundMatch) candidates(part int, x *format.ColumnIndex, locs []format.PageLocation, rows int64) []rowRange {
	var out []rowRange
	for p := range locs {
		if x.NullPages[p] {
			continue
		}
		if w, ok := b.canonical(part, x.MinValues[p], x.MaxValues[p]); ok && !b.set.Overlaps(part, w.lo, w.hi) {
			continue
		}
		r := rowRange{locs[p].FirstRowIndex, rows}
		if p+1 < len(locs) {
			r.to = locs[p+1].FirstRowIndex
		}
		if n := len(out); n > 0 && out[n-1].to == r.from {
			out[n-1].to = r.to
			continue
		}
		out = append(out, r)
	}
	return out
}

// intersect joins two ascending lists.
func intersect(a, b []rowRange) []rowRange {
	var out []rowRange
	for len(a) > 0 && len(b) > 0 {
		if r := (rowRange{max(a[0].from, b[0].from), min(a[0].to, b[0].to)}); r.from < r.to {
			out = append(out, r)
		}
		if a[0].to < b[0].to {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// selectPages lists the pages that overlap the ranges, nil when that is all.
func selectPages(locs []format.PageLocation, rows int64, ranges []rowRange) []int {
	out := make([]int, 0, len(locs))
	for p := range locs {
		from, to := locs[p].FirstRowIndex, rows
		if p+1 < len(locs) {
			to = locs[p+1].FirstRowIndex
		}
		for len(ranges) > 0 && ranges[0].to <= from {
			ranges = ranges[1:]
		}
		if len(ranges) > 0 && ranges[0].from < to {
			out = append(out, p)
		}
	}
	if len(out) == len(locs) {
		return nil
	}
	return out
}
