package parquet

import (
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/thriftpatch"
)

// finish closes the column and returns its ColumnChunk.
func (m *columnMerger) finish() (*thriftpatch.Struct, error) {
	if err := m.closePage(); err != nil {
		return nil, err
	}
	if !m.fallen {
		if err := m.fall(); err != nil {
			return nil, err
		}
	}
	if m.e.indexed() {
		m.e.index = append(m.e.index, m.pageIndex())
	}
	entry := &thriftpatch.Struct{}
	entry.SetInt(chunkFileOffset, thriftpatch.I64, 0)
	entry.SetStruct(chunkMeta, m.meta())
	return entry, nil
}

// meta is the column's ColumnMetaData.
func (m *columnMerger) meta() *thriftpatch.Struct {
	encodings := &thriftpatch.List{Elem: thriftpatch.I32}
	stats := &thriftpatch.List{Elem: thriftpatch.Record}
	pageType := format.DataPage
	if m.v2 {
		pageType = format.DataPageV2
	}
	count := func(t format.PageType, e format.Encoding, n int) {
		if n == 0 {
			return
		}
		s := &thriftpatch.Struct{}
		s.SetInt(1, thriftpatch.I32, int64(t))
		s.SetInt(2, thriftpatch.I32, int64(e))
		s.SetInt(3, thriftpatch.I32, int64(n))
		stats.AddStruct(s)
	}
	has := map[format.Encoding]bool{}
	add := func(e format.Encoding) {
		if !has[e] {
			has[e] = true
			encodings.AddInt(int64(e))
		}
	}
	if m.dictHeaders > 0 {
		add(format.Plain)
		add(format.RLEDictionary)
	}
	add(format.RLE)
	if m.plainPages > 0 {
		add(m.plain)
	}
	count(format.DictionaryPage, format.Plain, m.dictHeaders)
	count(pageType, format.RLEDictionary, m.dictPages)
	count(pageType, m.plain, m.plainPages)
	names := &thriftpatch.List{Elem: thriftpatch.Binary}
	for _, p := range m.col.Path {
		names.AddBytes([]byte(p))
	}
	out := &thriftpatch.Struct{}
	out.SetInt(1, thriftpatch.I32, int64(m.col.Type))
	out.SetList(2, encodings)
	out.SetList(3, names)
	out.SetInt(4, thriftpatch.I32, int64(m.codec.kind))
	out.SetInt(metaNumValues, thriftpatch.I64, m.values)
	out.SetInt(metaUncompressed, thriftpatch.I64, m.uncompressed)
	out.SetInt(metaCompressed, thriftpatch.I64, m.x.sink.pos-m.start)
	out.SetInt(metaDataOffset, thriftpatch.I64, m.dataAt)
	if m.dictAt > 0 {
		out.SetInt(metaDictOffset, thriftpatch.I64, m.dictAt)
	}
	out.SetStruct(metaStatistics, m.statistics())
	out.SetList(metaEncodingStats, stats)
	return out
}

func (m *columnMerger) statistics() *thriftpatch.Struct {
	st := &thriftpatch.Struct{}
	st.SetInt(statNulls, thriftpatch.I64, m.nulls)
	var b bounds
	for i := range m.pages {
		b.merge(m.order, m.pages[i].bounds)
	}
	lo, hi := written(m.order, b.min, false), written(m.order, b.max, true)
	if m.order != orderNone && lo != nil && hi != nil {
		st.SetBytes(statMaxValue, hi)
		st.SetBytes(statMinValue, lo)
	}
	return st
}

// pageIndex makes the offset index and, where every page's bounds can be
// stated, the column index.
func (m *columnMerger) pageIndex() pendingIndex {
	locations := &thriftpatch.List{Elem: thriftpatch.Record}
	nullPages := &thriftpatch.List{Elem: thriftpatch.True}
	mins, maxs := &thriftpatch.List{Elem: thriftpatch.Binary}, &thriftpatch.List{Elem: thriftpatch.Binary}
	nulls := &thriftpatch.List{Elem: thriftpatch.I64}
	stated := m.order != orderNone
	var seen []bounds
	for i := range m.pages {
		p := &m.pages[i]
		loc := &thriftpatch.Struct{}
		loc.SetInt(1, thriftpatch.I64, p.at)
		loc.SetInt(2, thriftpatch.I32, p.size)
		loc.SetInt(3, thriftpatch.I64, p.firstRow)
		locations.AddStruct(loc)
		nulls.AddInt(p.nulls)
		nullPages.AddBool(p.values == 0)
		lo, hi := written(m.order, p.bounds.min, false), written(m.order, p.bounds.max, true)
		if p.values > 0 {
			stated = stated && lo != nil && hi != nil
			seen = append(seen, p.bounds)
		}
		mins.AddBytes(lo)
		maxs.AddBytes(hi)
	}
	offsets := &thriftpatch.Struct{}
	offsets.SetList(1, locations)
	out := pendingIndex{group: len(m.e.out), column: m.leaf, offset: offsets.Append(nil)}
	if !stated {
		return out
	}
	boundary := format.Unordered
	if ordered(m.order, format.Ascending, seen) {
		boundary = format.Ascending
	}
	x := &thriftpatch.Struct{}
	x.SetList(indexNullPages, nullPages)
	x.SetList(indexMin, mins)
	x.SetList(indexMax, maxs)
	x.SetInt(indexOrder, thriftpatch.I32, int64(boundary))
	x.SetList(indexNullCounts, nulls)
	out.columnIndex = x.Append(nil)
	return out
}
