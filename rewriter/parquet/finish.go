package parquet

import (
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
)

// Field ids of ColumnChunk (parquet.thrift).
const (
	chunkFileOffset        = 2
	chunkMeta              = 3
	chunkOffsetIndexOffset = 4
	chunkOffsetIndexLength = 5
	chunkColumnIndexOffset = 6
	chunkColumnIndexLength = 7
)

// Field ids of ColumnMetaData.
const (
	metaNumValues      = 5
	metaUncompressed   = 6
	metaCompressed     = 7
	metaDataOffset     = 9
	metaIndexOffset    = 10
	metaDictOffset     = 11
	metaStatistics     = 12
	metaEncodingStats  = 13
	metaBloomOffset    = 14
	metaBloomLength    = 15
	metaSizeStatistics = 16
	metaGeoStatistics  = 17
)

// finished is what the emitter needs beside the pages to write a chunk's
// metadata and indexes.
type finished struct {
	compressed, uncompressed int64 // change of the totals
	values, nulls            int64
	dataDelta                int64
	gone                     bounds
	literals                 bool
	rep, def                 []int64 // change of the histograms
	dropped                  []format.PageEncodingStats
	bloom                    []byte
	columnIndex              *thriftpatch.Struct
}

// finish waits for the chunk's pages and patches everything that describes
// them, offsets aside.
func (c *chunkJob) finish() error {
	if c.fin == nil {
		c.fin = &finished{}
	}
	for i := range c.table.pages {
		if j := c.table.pages[i].job; j != nil {
			if err := c.wait(j); err != nil {
				return err
			}
			if j.edit {
				c.fin.add(c.order, &j.res)
			}
		}
	}
	f := c.fin
	values, _ := c.meta.Int(metaNumValues)
	c.meta.SetInt(metaNumValues, thriftpatch.I64, values+f.values)
	n, _ := c.meta.Int(metaUncompressed)
	c.meta.SetInt(metaUncompressed, thriftpatch.I64, n+f.uncompressed)
	c.meta.Delete(metaIndexOffset, metaGeoStatistics)
	if err := c.finishStatistics(); err != nil {
		return err
	}
	if err := c.patchEncodingStats(); err != nil {
		return err
	}
	if err := c.patchSizes(); err != nil {
		return err
	}
	if c.bloom != nil {
		f.bloom = c.buildBloom()
	}
	return c.buildColumnIndex()
}

func (f *finished) add(o order, r *pageResult) {
	f.compressed += r.after.compressed - r.before.compressed
	f.uncompressed += r.after.uncompressed - r.before.uncompressed
	f.values += int64(r.after.entries - r.before.entries)
	f.nulls += int64(r.after.nulls() - r.before.nulls())
	f.dataDelta += r.dataDelta
	f.gone.merge(o, r.gone)
	f.literals = f.literals || r.literals
	f.rep = addHistogram(f.rep, r.before.rep, r.after.rep)
	f.def = addHistogram(f.def, r.before.def, r.after.def)
	if r.after.entries == 0 {
		f.dropped = append(f.dropped, format.PageEncodingStats{PageType: r.pageType, Encoding: r.encoding, Count: 1})
	}
}

func addHistogram(sum, before, after []int64) []int64 {
	if sum == nil {
		sum = make([]int64, len(before))
	}
	for i, n := range before {
		sum[i] -= n
	}
	for i, n := range after {
		sum[i] += n
	}
	return sum
}

// finishStatistics patches the chunk's statistics. Bounds that may come from
// an erased value are found again from the pages'.
func (c *chunkJob) finishStatistics() error {
	if c.stats == nil {
		return nil
	}
	f := c.fin
	old, hasOld := c.chunkBounds()
	nulls, hasNulls := c.stats.Int(statNulls)
	ch := statChange{gone: f.gone, literals: f.literals, values: 1, leak: leaks.chunkStats}
	if hasNulls {
		ch.nulls = nulls + f.nulls
		if all, _ := c.meta.Int(metaNumValues); ch.nulls >= all {
			ch.values = 0
		}
	}
	if hasOld && ch.values > 0 && (f.literals || c.eng.job.plan.wipe || derivedMin(c.order, old.min, f.gone.min) || derivedMax(c.order, old.max, f.gone.max)) {
		var err error
		if ch.stay, ch.inexact, err = c.boundsOfPages(); err != nil {
			return err
		}
		ch.stayKnown = true
		if ch.stay.min == nil {
			ch.values = 0
		}
	}
	c.patchStatistics(c.stats, ch)
	c.meta.SetStruct(metaStatistics, c.stats)
	return nil
}

// chunkBounds are the bounds that the chunk's statistics store.
func (c *chunkJob) chunkBounds() (b bounds, ok bool) {
	if c.stats == nil || c.order == orderNone {
		return b, false
	}
	if c.typeOrdered {
		lo, hasLo := c.stats.Bytes(statMinValue)
		hi, hasHi := c.stats.Bytes(statMaxValue)
		if hasLo && hasHi {
			return bounds{lo, hi}, true
		}
	}
	if c.order == orderSigned || c.order == orderFloat {
		lo, hasLo := c.stats.Bytes(statMin)
		hi, hasHi := c.stats.Bytes(statMax)
		if hasLo && hasHi {
			return bounds{lo, hi}, true
		}
	}
	return b, false
}

// headerBounds are the bounds of a page header's statistics.
func (c *chunkJob) headerBounds(h *pq.PageHeader) (b bounds, ok bool) {
	s := &h.Statistics
	if c.typeOrdered && s.MinValue != nil && s.MaxValue != nil {
		return bounds{s.MinValue, s.MaxValue}, true
	}
	if (c.order == orderSigned || c.order == orderFloat) && s.Min != nil && s.Max != nil {
		return bounds{s.Min, s.Max}, true
	}
	return b, false
}

// indexBounds are the bounds of page i in the column index; known is true for
// a page of nulls too.
func (c *chunkJob) columnIndexBounds(i int) (b bounds, known bool) {
	x := c.table.column
	if x == nil || !c.typeOrdered {
		return b, false
	}
	if x.NullPages[i] {
		return b, true
	}
	return bounds{x.MinValues[i], x.MaxValues[i]}, true
}

// storedBounds are all bounds that describe page i by itself.
func (c *chunkJob) storedBounds(i int, h *pq.PageHeader) (out []bounds) {
	if c.order == orderNone {
		return nil
	}
	if b, ok := c.headerBounds(h); ok {
		out = append(out, b)
	}
	if b, ok := c.columnIndexBounds(i); ok {
		out = append(out, b)
	}
	return out
}

// boundsOfPages finds the bounds of all surviving values of the chunk: from
// what pages store where that is untouched, otherwise from the values.
// inexact says that some are stored bounds, which may be cut.
func (c *chunkJob) boundsOfPages() (b bounds, inexact bool, err error) {
	for i := range c.table.pages {
		e := &c.table.pages[i]
		if j := e.job; j != nil && j.edit {
			if j.res.after.values == 0 {
				continue
			}
			if j.res.stayKnown {
				b.merge(c.order, j.res.stay)
				continue
			}
		}
		if s, known := c.columnIndexBounds(i); known {
			b.merge(c.order, s)
			inexact = inexact || c.order == orderBytes
			continue
		}
		h, err := c.peek(e)
		if err != nil {
			return b, false, err
		}
		if s, ok := c.headerBounds(h); ok {
			b.merge(c.order, s)
			inexact = inexact || c.order == orderBytes
			continue
		}
		s, err := c.decodeBounds(i)
		if err != nil {
			return b, false, err
		}
		b.merge(c.order, s)
	}
	return b, inexact, nil
}

// decodeBounds reads an untouched page for its bounds.
func (c *chunkJob) decodeBounds(i int) (bounds, error) {
	e := &c.table.pages[i]
	j, err := c.newPageJob(i, rowWork{first: c.rowBase + int64(e.first), leaf: c.leaf}, false)
	if err != nil {
		return bounds{}, err
	}
	j.wantBounds, j.wantHashes, j.wantUse = true, false, false
	if err := c.submit(j); err != nil {
		return bounds{}, err
	}
	if err := c.wait(j); err != nil {
		return bounds{}, err
	}
	return j.res.stay, nil
}

// patchEncodingStats takes dropped pages out of the counts.
func (c *chunkJob) patchEncodingStats() error {
	if len(c.fin.dropped) == 0 {
		return nil
	}
	list, err := c.meta.List(metaEncodingStats)
	if err != nil || list == nil {
		return err
	}
	// Some writers count v2 pages as v1 ones: only the encoding tells which entry was meant.
	counts := map[int64]int64{}
	for _, d := range c.fin.dropped {
		counts[int64(d.Encoding)]++
	}
	out := &thriftpatch.List{Elem: list.Elem}
	for i := range list.Values {
		s, err := list.Struct(i)
		if err != nil {
			return corrupt("encoding stats: %w", err)
		}
		t, _ := s.Int(1)
		e, _ := s.Int(2)
		n, _ := s.Int(3)
		if h := (pq.PageHeader{Type: format.PageType(t)}); h.IsData() {
			gone := min(n, counts[e])
			counts[e] -= gone
			if n > 0 && n == gone {
				continue
			}
			s.SetInt(3, thriftpatch.I32, n-gone)
		}
		out.AddStruct(s)
	}
	if len(out.Values) == 0 {
		c.meta.Delete(metaEncodingStats)
		return nil
	}
	c.meta.SetList(metaEncodingStats, out)
	return nil
}

// patchSizes moves the size statistics by what changed.
func (c *chunkJob) patchSizes() error {
	s, err := c.meta.Struct(metaSizeStatistics)
	if err != nil || s == nil || leaks.sizes {
		return err
	}
	if n, ok := s.Int(1); ok {
		s.SetInt(1, thriftpatch.I64, n+c.fin.dataDelta)
	}
	for id, delta := range map[int16][]int64{2: c.fin.rep, 3: c.fin.def} {
		if err := moveHistogram(s, id, delta); err != nil {
			return err
		}
	}
	c.meta.SetStruct(metaSizeStatistics, s)
	return nil
}

func moveHistogram(s *thriftpatch.Struct, id int16, delta []int64) error {
	list, err := s.List(id)
	if err != nil || list == nil || len(delta) == 0 || len(list.Values) == 0 {
		return err
	}
	if len(list.Values) != len(delta) {
		s.Delete(id)
		return nil
	}
	out := &thriftpatch.List{Elem: thriftpatch.I64}
	for i := range list.Values {
		n, err := list.Int(i)
		if err != nil {
			return corrupt("level histogram: %w", err)
		}
		out.AddInt(n + delta[i])
	}
	s.SetList(id, out)
	return nil
}
