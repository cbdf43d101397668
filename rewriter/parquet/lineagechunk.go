package parquet

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"slices"

	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
)

// Row lineage columns are the only chunks that this path writes from nothing:
// optional longs without nulls, in DELTA_BINARY_PACKED pages.

// lineagePage is how many rows a page of a lineage column holds.
const lineagePage = 64 << 10

// fills says whether a leaf is a stored lineage column that may hold nulls.
func (e *engine) fills(c *chunkJob, leaf int) *lineageColumn {
	l := e.job.plan.lineage.valueOf(e.job.file.Schema, leaf)
	if l == nil || c.col.MaxDef == 0 {
		return nil
	}
	if c.stats != nil {
		if n, ok := c.stats.Int(statNulls); ok && n == 0 {
			return nil
		}
	}
	return l
}

// emitLineage writes the lineage columns that the file has not.
func (e *engine) emitLineage(g *groupJob) ([]*thriftpatch.Struct, error) {
	missing := e.job.plan.lineage.missing(e.job.file.Schema)
	if len(missing) == 0 {
		return nil, nil
	}
	kept := invert(g.erased, int(g.src.Rows))
	kind := format.Uncompressed
	if len(g.src.Meta.Columns) > 0 {
		kind = g.src.Meta.Columns[0].MetaData.Codec
	}
	var out []*thriftpatch.Struct
	for i, l := range missing {
		values := make([]int64, 0, total(kept))
		for _, k := range kept {
			for row := k.from; row < k.to; row++ {
				values = append(values, l.at(g.src.FirstRow+int64(row)))
			}
		}
		entry, err := e.writeLongs(values, []string{l.name}, len(g.chunks)+i, newCodec(kind, e.job.opts.ZstdLevel))
		if err != nil {
			return nil, err
		}
		out = append(out, entry)
	}
	return out, nil
}

// fillLineage rewrites a stored lineage column: its values win, nulls are filled.
func (e *engine) fillLineage(g *groupJob, leaf int) (*thriftpatch.Struct, error) {
	col := e.job.file.Schema.Columns[leaf]
	src, err := g.src.Chunk(col)
	if err != nil {
		return nil, err
	}
	all, err := e.readLongs(src, g.lineage[leaf])
	if err != nil {
		return nil, err
	}
	values := all[:0]
	for _, k := range invert(g.erased, len(all)) {
		values = append(values, all[k.from:k.to]...)
	}
	return e.writeLongs(values, col.Path, leaf, newCodec(src.Meta.Codec, e.job.opts.ZstdLevel))
}

func (e *engine) readLongs(src *pq.Chunk, l *lineageColumn) ([]int64, error) {
	r, dec := src.Pages(e.ctx, pq.ReadOptions{}), src.NewDecoder()
	var data pq.PageData
	out := make([]int64, 0, min(src.RowGroup.Rows, 1<<20))
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if p.Header.Type == format.DictionaryPage {
			if err := dec.SetDictionary(p); err != nil {
				return nil, err
			}
			continue
		}
		if err := dec.Decode(p, &data); err != nil {
			return nil, err
		}
		if err := data.Values.Materialise(); err != nil {
			return nil, err
		}
		value := 0
		for i := range data.Entries {
			if data.Def != nil && int(data.Def[i]) < src.Column.MaxDef {
				out = append(out, l.at(src.RowGroup.FirstRow+int64(len(out))))
				continue
			}
			out = append(out, data.Values.Int64[value])
			value++
		}
	}
	if int64(len(out)) != src.RowGroup.Rows {
		return nil, corrupt("%s: %d rows of %d", src.Where(), len(out), src.RowGroup.Rows)
	}
	return out, nil
}

// longsWriter writes one chunk of longs.
type longsWriter struct {
	e            *engine
	codec        codec
	uncompressed int64
	locations    *thriftpatch.List
	nullPages    thriftpatch.List
	mins, maxs   thriftpatch.List
	nullCounts   thriftpatch.List
	bounds       []bounds
	rows         int64
}

func (e *engine) writeLongs(values []int64, path []string, column int, c codec) (*thriftpatch.Struct, error) {
	start := e.sink.pos
	w := &longsWriter{e: e, codec: c, locations: &thriftpatch.List{Elem: thriftpatch.Record}}
	w.nullPages.Elem, w.mins.Elem, w.maxs.Elem, w.nullCounts.Elem = thriftpatch.True, thriftpatch.Binary, thriftpatch.Binary, thriftpatch.I64
	pages := 0
	for page := range slices.Chunk(values, lineagePage) {
		if err := w.page(page); err != nil {
			return nil, err
		}
		pages++
	}
	meta := w.meta(values, path, pages, start)
	entry := &thriftpatch.Struct{}
	entry.SetInt(chunkFileOffset, thriftpatch.I64, 0)
	entry.SetStruct(chunkMeta, meta)
	if e.indexed() {
		e.index = append(e.index, w.index(len(e.out), column))
	}
	return entry, nil
}

// indexed says whether the file keeps page locations: then every column must.
func (e *engine) indexed() bool {
	for _, g := range e.job.file.Meta.RowGroups {
		for i := range g.Columns {
			if g.Columns[i].OffsetIndexOffset > 0 {
				return true
			}
		}
	}
	return false
}

func (w *longsWriter) page(values []int64) error {
	// All values are there: one run of definition level 1 (Encodings.md, RLE).
	def := append(binary.AppendUvarint(nil, uint64(len(values))<<1), 1)
	plain := binary.LittleEndian.AppendUint32(nil, uint32(len(def)))
	plain = append(plain, def...)
	packed, err := new(delta.BinaryPackedEncoding).EncodeInt64(nil, values)
	if err != nil {
		return err
	}
	plain = append(plain, packed...)
	body, err := w.codec.compress(nil, plain)
	if err != nil {
		return err
	}
	data := &thriftpatch.Struct{}
	data.SetInt(1, thriftpatch.I32, int64(len(values)))
	data.SetInt(2, thriftpatch.I32, int64(format.DeltaBinaryPacked))
	data.SetInt(3, thriftpatch.I32, int64(format.RLE))
	data.SetInt(4, thriftpatch.I32, int64(format.RLE))
	h := &thriftpatch.Struct{}
	h.SetInt(1, thriftpatch.I32, int64(format.DataPage))
	h.SetInt(pageUncompressed, thriftpatch.I32, int64(len(plain)))
	h.SetInt(pageCompressed, thriftpatch.I32, int64(len(body)))
	h.SetStruct(pageData, data)
	header := h.Append(nil)
	loc := &thriftpatch.Struct{}
	loc.SetInt(1, thriftpatch.I64, w.e.sink.pos)
	loc.SetInt(2, thriftpatch.I32, int64(len(header)+len(body)))
	loc.SetInt(3, thriftpatch.I64, w.rows)
	w.locations.AddStruct(loc)
	b := longBounds(values)
	w.bounds = append(w.bounds, b)
	w.nullPages.AddBool(false)
	w.mins.AddBytes(b.min)
	w.maxs.AddBytes(b.max)
	w.nullCounts.AddInt(0)
	w.rows += int64(len(values))
	w.uncompressed += int64(len(header) + len(plain))
	if _, err := w.e.sink.Write(header); err != nil {
		return err
	}
	_, err = w.e.sink.Write(body)
	return err
}

func longBounds(values []int64) bounds {
	return bounds{binary.LittleEndian.AppendUint64(nil, uint64(slices.Min(values))),
		binary.LittleEndian.AppendUint64(nil, uint64(slices.Max(values)))}
}

func (w *longsWriter) meta(values []int64, path []string, pages int, start int64) *thriftpatch.Struct {
	encodings := &thriftpatch.List{Elem: thriftpatch.I32}
	encodings.AddInt(int64(format.DeltaBinaryPacked))
	encodings.AddInt(int64(format.RLE))
	names := &thriftpatch.List{Elem: thriftpatch.Binary}
	for _, p := range path {
		names.AddBytes([]byte(p))
	}
	m := &thriftpatch.Struct{}
	m.SetInt(1, thriftpatch.I32, int64(format.Int64))
	m.SetList(2, encodings)
	m.SetList(3, names)
	m.SetInt(4, thriftpatch.I32, int64(w.codec.kind))
	m.SetInt(metaNumValues, thriftpatch.I64, int64(len(values)))
	m.SetInt(metaUncompressed, thriftpatch.I64, w.uncompressed)
	m.SetInt(metaCompressed, thriftpatch.I64, w.e.sink.pos-start)
	m.SetInt(metaDataOffset, thriftpatch.I64, start)
	if len(values) > 0 {
		b := longBounds(values)
		st := &thriftpatch.Struct{}
		st.SetInt(statNulls, thriftpatch.I64, 0)
		st.SetBytes(statMaxValue, b.max)
		st.SetBytes(statMinValue, b.min)
		m.SetStruct(metaStatistics, st)
	}
	es := &thriftpatch.Struct{}
	es.SetInt(1, thriftpatch.I32, int64(format.DataPage))
	es.SetInt(2, thriftpatch.I32, int64(format.DeltaBinaryPacked))
	es.SetInt(3, thriftpatch.I32, int64(pages))
	m.SetList(metaEncodingStats, thriftpatch.Structs(es))
	return m
}

func (w *longsWriter) index(group, column int) pendingIndex {
	offsets := &thriftpatch.Struct{}
	offsets.SetList(1, w.locations)
	x := &thriftpatch.Struct{}
	x.SetList(indexNullPages, &w.nullPages)
	x.SetList(indexMin, &w.mins)
	x.SetList(indexMax, &w.maxs)
	boundary := format.Unordered
	if ordered(orderSigned, format.Ascending, w.bounds) {
		boundary = format.Ascending
	}
	x.SetInt(indexOrder, thriftpatch.I32, int64(boundary))
	x.SetList(indexNullCounts, &w.nullCounts)
	return pendingIndex{group: group, column: column, offset: offsets.Append(nil), columnIndex: x.Append(nil)}
}

// levelBits is the width of levels up to a maximum.
func levelBits(maxLevel int) int { return bits.Len(uint(maxLevel)) }
