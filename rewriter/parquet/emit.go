package parquet

import (
	"context"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
)

// emitGroup writes a row group: its chunks, lineage columns, bloom filters,
// and its metadata into the new footer.
func (e *engine) emitGroup(g *groupJob) error {
	if leaks.gaps && g.src.Index == 0 {
		if err := e.sink.copyRange(4, g.src.Meta.Columns[0].MetaData.DataPageOffset-4); err != nil {
			return err
		}
	}
	start := e.sink.pos
	out := outGroup{meta: g.meta}
	var compressed, uncompressed, first int64
	entries := make([]*thriftpatch.Struct, 0, len(g.chunks))
	for leaf, c := range g.chunks {
		var entry *thriftpatch.Struct
		var err error
		switch {
		case c != nil:
			entry, err = e.emitChunk(c)
		case g.lineage[leaf] != nil:
			entry, err = e.fillLineage(g, leaf)
		default:
			entry, err = e.copyChunk(g, leaf)
		}
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	extra, err := e.emitLineage(g)
	if err != nil {
		return err
	}
	entries = append(entries, extra...)
	for i, entry := range entries {
		meta, err := entry.Struct(chunkMeta)
		if err != nil || meta == nil {
			return corrupt("column chunk without metadata")
		}
		if err := e.emitBloom(g, i, meta); err != nil {
			return err
		}
		entry.SetStruct(chunkMeta, meta)
		n, _ := meta.Int(metaCompressed)
		compressed += n
		n, _ = meta.Int(metaUncompressed)
		uncompressed += n
		if i == 0 {
			if first, _ = meta.Int(metaDictOffset); first == 0 {
				first, _ = meta.Int(metaDataOffset)
			}
		}
		out.columns = append(out.columns, entry.Append(nil))
	}
	if first == 0 {
		first = start
	}
	if err := e.patchGroup(g, first, compressed, uncompressed); err != nil {
		return err
	}
	e.out = append(e.out, out)
	return nil
}

// patchGroup makes the row group's own fields true.
func (e *engine) patchGroup(g *groupJob, first, compressed, uncompressed int64) error {
	g.meta.SetInt(groupNumRows, thriftpatch.I64, g.src.Rows-int64(total(g.erased)))
	g.meta.SetInt(groupTotalByteSize, thriftpatch.I64, uncompressed)
	if g.meta.Has(groupTotalCompressed) {
		g.meta.SetInt(groupTotalCompressed, thriftpatch.I64, compressed)
	}
	if off, ok := g.meta.Int(groupFileOffset); ok && off != 0 {
		g.meta.SetInt(groupFileOffset, thriftpatch.I64, first)
	}
	if g.meta.Has(groupOrdinal) {
		g.meta.SetInt(groupOrdinal, thriftpatch.I16, int64(len(e.out)))
	}
	return g.keepSorting()
}

// keepSorting drops the order of a row group in which a sorting column was
// overwritten or lost elements; removing rows keeps it.
func (g *groupJob) keepSorting() error {
	list, err := g.meta.List(groupSortingColumns)
	if err != nil || list == nil || len(g.redact) == 0 {
		return err
	}
	for i := range list.Values {
		s, err := list.Struct(i)
		if err != nil {
			return corrupt("sorting columns: %w", err)
		}
		column, _ := s.Int(1)
		if len(g.redact[int(column)]) > 0 {
			g.meta.Delete(groupSortingColumns)
			return nil
		}
	}
	return nil
}

// emitChunk writes a planned chunk piece by piece and returns its ColumnChunk.
func (e *engine) emitChunk(c *chunkJob) (*thriftpatch.Struct, error) {
	start, dict, data := e.sink.pos, int64(0), int64(0)
	for {
		it, ok := c.next(e.ctx)
		if !ok {
			break
		}
		at := e.sink.pos
		if it.dict {
			dict = at
		} else if data == 0 {
			data = at
		}
		if err := e.emitItem(c, it); err != nil {
			return nil, err
		}
	}
	if err := e.ctx.Err(); err != nil {
		return nil, err // the planner's own error is the cause
	}
	<-e.slots // the planner is done: the next chunk may be planned
	e.job.res.PagesTotal += len(c.table.pages)
	if data == 0 {
		data = e.sink.pos
	}
	c.meta.SetInt(metaCompressed, thriftpatch.I64, e.sink.pos-start)
	moveOffsets(c.entry, c.meta, c.src, start, dict, data)
	err := e.keepIndex(c)
	c.dict, c.table = nil, nil // dictionaries are large, and all chunks of a file stay listed
	return c.entry, err
}

// next is the chunk's next item; false at the end, or when the work was stopped.
func (c *chunkJob) next(ctx context.Context) (it item, ok bool) {
	select {
	case it, ok = <-c.items:
		return it, ok
	case <-ctx.Done():
		return it, false
	}
}

func (e *engine) emitItem(c *chunkJob, it item) error {
	switch {
	case it.job != nil:
		p := &c.table.pages[it.pages.from]
		if err := c.wait(it.job); err != nil {
			return err
		}
		defer c.give(p)
		e.job.res.PagesTouched++
		p.out = -1
		r := &it.job.res
		if r.header == nil {
			return nil
		}
		p.out = e.sink.pos
		if _, err := e.sink.Write(r.header); err != nil {
			return err
		}
		_, err := e.sink.Write(r.body)
		if e.sink.digest == nil { // which looks at the bytes later
			bodies.put(r.body)
		}
		r.header, r.body = nil, nil
		return err
	case it.data != nil:
		_, err := e.sink.Write(it.data)
		return err
	}
	for i := it.pages.from; i < it.pages.to; i++ {
		p := &c.table.pages[i]
		p.out = e.sink.pos + p.offset - it.copyOff
	}
	return e.sink.copyRange(it.copyOff, it.copyLen)
}

// moveOffsets points a chunk's metadata at its new place. file_offset has
// meant several things over time: it follows the chunk's start, or is 0.
func moveOffsets(entry, meta *thriftpatch.Struct, src *pq.Chunk, start, dict, data int64) {
	oldDict, _ := meta.Int(metaDictOffset)
	if oldDict > 0 && dict > 0 {
		meta.SetInt(metaDictOffset, thriftpatch.I64, dict)
	} else if dict > 0 {
		data = dict // the writer left the offset out and let the data begin with the dictionary
	}
	if off, ok := entry.Int(chunkFileOffset); ok && off != 0 {
		switch off {
		case src.Start:
			off = start
		case src.Meta.DataPageOffset:
			off = data
		default:
			off = 0
		}
		entry.SetInt(chunkFileOffset, thriftpatch.I64, off)
	}
	meta.SetInt(metaDataOffset, thriftpatch.I64, data)
	entry.SetStruct(chunkMeta, meta)
}

// keepIndex keeps the page index of a rewritten chunk for the end of the file.
func (e *engine) keepIndex(c *chunkJob) error {
	c.entry.Delete(chunkOffsetIndexOffset, chunkOffsetIndexLength, chunkColumnIndexOffset, chunkColumnIndexLength)
	if c.table.index == nil {
		return nil
	}
	x, err := c.buildOffsetIndex()
	if err != nil {
		return err
	}
	p := pendingIndex{group: len(e.out), column: c.col.Index, offset: x.Append(nil)}
	if ci := c.fin.columnIndex; ci != nil {
		p.columnIndex = ci.Append(nil)
	}
	e.index = append(e.index, p)
	return nil
}

// copyChunk copies an untouched chunk and moves its offsets.
func (e *engine) copyChunk(g *groupJob, leaf int) (*thriftpatch.Struct, error) {
	src, err := g.src.Chunk(e.job.file.Schema.Columns[leaf])
	if err != nil {
		return nil, err
	}
	entry, err := g.columns.Struct(leaf)
	if err != nil {
		return nil, corrupt("%s: %w", src.Where(), err)
	}
	meta, err := entry.Struct(chunkMeta)
	if err != nil || meta == nil {
		return nil, corrupt("%s: no metadata", src.Where())
	}
	start := e.sink.pos
	shift := start - src.Start
	if src.Start == 0 {
		return entry, nil // an empty row group without pages
	}
	if err := e.sink.copyRange(src.Start, src.End-src.Start); err != nil {
		return nil, err
	}
	e.job.res.PagesTotal += countPages(src)
	dict := int64(0)
	if d, ok := meta.Int(metaDictOffset); ok && d > 0 {
		dict = d + shift
	}
	if off, ok := meta.Int(metaIndexOffset); ok && off > 0 {
		meta.SetInt(metaIndexOffset, thriftpatch.I64, off+shift)
	}
	data, _ := meta.Int(metaDataOffset)
	moveOffsets(entry, meta, src, start, dict, data+shift)
	if src.HasOffsetIndex() {
		e.index = append(e.index, pendingIndex{group: len(e.out), column: leaf, src: src, in: e.in, shift: shift})
	}
	entry.Delete(chunkOffsetIndexOffset, chunkOffsetIndexLength, chunkColumnIndexOffset, chunkColumnIndexLength)
	return entry, nil
}

// countPages is the number of data pages as encoding_stats tell it, 0 when they do not.
func countPages(src *pq.Chunk) int {
	n := 0
	for _, s := range src.Meta.EncodingStats {
		if h := (pq.PageHeader{Type: s.PageType}); h.IsData() {
			n += int(s.Count)
		}
	}
	return n
}

// emitBloom writes the bloom filter of column i of the group: rebuilt where
// the chunk was, copied otherwise. One that could not be rebuilt goes.
func (e *engine) emitBloom(g *groupJob, i int, meta *thriftpatch.Struct) error {
	if i >= len(g.chunks) || !meta.Has(metaBloomOffset) {
		return nil
	}
	at := e.sink.pos
	if c := g.chunks[i]; c != nil && !leaks.bloom {
		if c.fin.bloom == nil {
			meta.Delete(metaBloomOffset, metaBloomLength)
			return nil
		}
		if _, err := e.sink.Write(c.fin.bloom); err != nil {
			return err
		}
		c.fin.bloom, c.bloom = nil, nil
	} else {
		src, err := g.src.Chunk(e.job.file.Schema.Columns[i])
		if err != nil {
			return err
		}
		b, err := src.Bloom()
		if err != nil || b == nil {
			meta.Delete(metaBloomOffset, metaBloomLength) // of an unknown kind, or none
			return nil                                    //nolint:nilerr // a filter that cannot be read is dropped, which is safe
		}
		if err := e.sink.copyRange(src.Meta.BloomFilterOffset, int64(len(b.Raw))); err != nil {
			return err
		}
	}
	meta.SetInt(metaBloomOffset, thriftpatch.I64, at)
	if meta.Has(metaBloomLength) {
		meta.SetInt(metaBloomLength, thriftpatch.I32, e.sink.pos-at)
	}
	return nil
}

// emitIndexes writes column indexes, then offset indexes, and notes where.
func (e *engine) emitIndexes() error {
	for _, offsets := range []bool{false, true} {
		for i := range e.index {
			if err := e.emitIndex(&e.index[i], offsets); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *engine) emitIndex(p *pendingIndex, offsets bool) error {
	data, err := e.indexBytes(p, offsets)
	if err != nil || data == nil {
		return err
	}
	at := e.sink.pos
	if _, err := e.sink.Write(data); err != nil {
		return err
	}
	column := &e.out[p.group].columns[p.column]
	c, _, err := thriftpatch.Parse(*column)
	if err != nil {
		return err
	}
	offsetID, lengthID := int16(chunkColumnIndexOffset), int16(chunkColumnIndexLength)
	if offsets {
		offsetID, lengthID = chunkOffsetIndexOffset, chunkOffsetIndexLength
	}
	c.SetInt(offsetID, thriftpatch.I64, at)
	c.SetInt(lengthID, thriftpatch.I32, int64(len(data)))
	*column = c.Append(nil)
	return nil
}

func (e *engine) indexBytes(p *pendingIndex, offsets bool) ([]byte, error) {
	if p.src == nil {
		if offsets {
			return p.offset, nil
		}
		return p.columnIndex, nil
	}
	off, n := p.src.Entry.ColumnIndexOffset, p.src.Entry.ColumnIndexLength
	if offsets {
		off, n = p.src.Entry.OffsetIndexOffset, p.src.Entry.OffsetIndexLength
	}
	if off <= 0 || n <= 0 {
		return nil, nil
	}
	raw := make([]byte, n)
	if err := readFull(p.in, raw, off); err != nil {
		return nil, err
	}
	if offsets {
		return shiftOffsetIndex(raw, p.shift)
	}
	return raw, nil
}
