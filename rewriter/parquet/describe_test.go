package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// describe checks everything that a file says about its pages against the
// pages: sizes, counts, histograms, bounds, page index. It returns what is
// wrong, by column: the libraries' own files have faults too.
func describe(data []byte) (wrong map[string]bool, err error) {
	wrong = map[string]bool{}
	f, err := pq.Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	for _, g := range f.RowGroups {
		var compressed, uncompressed int64
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				return nil, err
			}
			d := &describer{file: f, chunk: c, order: orderOf(col), wrong: wrong}
			if err := d.run(); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Where(), err)
			}
			compressed += c.Meta.TotalCompressedSize
			uncompressed += c.Meta.TotalUncompressedSize
		}
		if g.Meta.TotalByteSize != uncompressed {
			wrong["total byte size of a row group"] = true
		}
		if g.Meta.TotalCompressedSize != 0 && g.Meta.TotalCompressedSize != compressed {
			wrong["total compressed size of a row group"] = true
		}
	}
	return wrong, nil
}

type describer struct {
	wrong map[string]bool
	file  *pq.File
	chunk *pq.Chunk
	order order

	index                    *format.OffsetIndex
	column                   *format.ColumnIndex
	compressed, uncompressed int64
	entries, nulls, dataSize int64
	rep, def                 []int64
	bounds                   bounds
	encodings                map[format.PageEncodingStats]int32
	pages                    int
}

func (d *describer) run() error {
	var err error
	if d.index, err = d.chunk.OffsetIndex(); err != nil {
		return err
	}
	if d.index != nil {
		if d.column, err = d.chunk.ColumnIndex(len(d.index.PageLocations)); err != nil {
			return err
		}
	}
	d.encodings = map[format.PageEncodingStats]int32{}
	d.rep, d.def = make([]int64, d.chunk.Column.MaxRep+1), make([]int64, d.chunk.Column.MaxDef+1)
	r, dec := d.chunk.Pages(context.Background(), pq.ReadOptions{Index: d.index}), d.chunk.NewDecoder()
	var data pq.PageData
	var dict *view
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		d.compressed += p.Size()
		d.uncompressed += int64(len(p.RawHeader)) + int64(p.Header.UncompressedSize)
		d.encodings[format.PageEncodingStats{PageType: p.Header.Type, Encoding: p.Header.Encoding}]++
		if p.Header.Type == format.DictionaryPage {
			if err := dec.SetDictionary(p); err != nil {
				return err
			}
			v := viewOf(dec.Dict, nil)
			dict = &v
			continue
		}
		if err := dec.Decode(p, &data); err != nil {
			return err
		}
		v := viewOf(&data.Values, dict)
		d.page(p, &data, &v)
		d.pages++
	}
	d.totals()
	return nil
}

// say notes what is wrong with the column.
func (d *describer) say(what string) { d.wrong[d.chunk.Column.Name()+": "+what] = true }

func (d *describer) page(p *pq.Page, data *pq.PageData, v *view) {
	nulls := int64(data.Entries - data.Defined)
	b := boundsOf(d.order, v, []span{{0, v.n}})
	d.entries += int64(data.Entries)
	d.nulls += nulls
	size := int64(0)
	if d.chunk.Column.Type == format.ByteArray {
		for i := range v.n {
			size += int64(v.size(i))
		}
	}
	d.dataSize += size
	rep, def := histogram(data.Rep, d.chunk.Column.MaxRep, data.Entries), histogram(data.Def, d.chunk.Column.MaxDef, data.Entries)
	for i, n := range rep {
		d.rep[i] += n
	}
	for i, n := range def {
		d.def[i] += n
	}
	d.bounds.merge(d.order, b.own())
	s := &p.Header.Statistics
	if s.HasNullCount && s.NullCount != nulls {
		d.say("null count of page statistics")
	}
	if d.file.TypeOrdered(d.chunk.Column) {
		d.within("page statistics", s.MinValue, s.MaxValue, b)
	}
	if d.index != nil {
		if got := d.index.PageLocations[p.Ordinal].FirstRowIndex; got != data.FirstRow {
			d.say("first row index")
		}
		if u := d.index.UnencodedByteArrayDataBytes; len(u) > 0 && u[p.Ordinal] != size {
			d.say("data bytes of the offset index")
		}
	}
	d.columnIndex(p.Ordinal, data, b, nulls, rep, def)
}

func (d *describer) columnIndex(i int, data *pq.PageData, b bounds, nulls int64, rep, def []int64) {
	x := d.column
	if x == nil {
		return
	}
	if x.NullPages[i] != (data.Defined == 0) {
		d.say("null page")
	}
	if len(x.NullCounts) > 0 && x.NullCounts[i] != nulls {
		d.say("null count of the column index")
	}
	if n := len(rep); len(x.RepetitionLevelHistogram) > 0 && fmt.Sprint(x.RepetitionLevelHistogram[i*n:(i+1)*n]) != fmt.Sprint(rep) {
		d.say("repetition histogram differs")
	}
	if n := len(def); len(x.DefinitionLevelHistogram) > 0 && fmt.Sprint(x.DefinitionLevelHistogram[i*n:(i+1)*n]) != fmt.Sprint(def) {
		d.say("definition histogram differs")
	}
	if x.NullPages[i] {
		return
	}
	d.within("column index", x.MinValues[i], x.MaxValues[i], b)
}

// within: stored bounds enclose the values.
func (d *describer) within(what string, lo, hi []byte, b bounds) {
	if b.min == nil || d.order == orderNone {
		return
	}
	if lo != nil && d.order.compare(lo, b.min) > 0 || hi != nil && d.order.compare(hi, b.max) < 0 {
		d.say(what + ": bounds exclude a value")
	}
}

func (d *describer) totals() {
	m := d.chunk.Meta
	for what, pair := range map[string][2]int64{
		"compressed size": {m.TotalCompressedSize, d.compressed}, "uncompressed size": {m.TotalUncompressedSize, d.uncompressed},
		"values": {m.NumValues, d.entries},
	} {
		if pair[0] != pair[1] {
			d.say(what + " is not what the pages have")
		}
	}
	if m.Statistics.MinValue != nil && m.Statistics.NullCount != d.nulls {
		d.say("null count of the chunk statistics")
	}
	if d.file.TypeOrdered(d.chunk.Column) {
		d.within("chunk statistics", m.Statistics.MinValue, m.Statistics.MaxValue, d.bounds)
	}
	z := &m.SizeStatistics
	if z.UnencodedByteArrayDataBytes != 0 && z.UnencodedByteArrayDataBytes != d.dataSize {
		d.say("data bytes of the size statistics")
	}
	if len(z.RepetitionLevelHistogram) > 0 && fmt.Sprint(z.RepetitionLevelHistogram) != fmt.Sprint(d.rep) {
		d.say("size statistics: repetition histogram")
	}
	if len(z.DefinitionLevelHistogram) > 0 && fmt.Sprint(z.DefinitionLevelHistogram) != fmt.Sprint(d.def) {
		d.say("size statistics: definition histogram")
	}
	for _, e := range m.EncodingStats {
		if h := (pq.PageHeader{Type: e.PageType}); !h.IsData() {
			continue
		}
		got := d.encodings[format.PageEncodingStats{PageType: format.DataPage, Encoding: e.Encoding}] +
			d.encodings[format.PageEncodingStats{PageType: format.DataPageV2, Encoding: e.Encoding}]
		if got != e.Count {
			d.say("page count of the encoding stats")
		}
	}
	if d.column != nil && !ordered(d.order, d.column.BoundaryOrder, columnBounds(d.column)) {
		d.say("boundary order is broken")
	}
}

func columnBounds(x *format.ColumnIndex) (out []bounds) {
	for i, null := range x.NullPages {
		if !null {
			out = append(out, bounds{x.MinValues[i], x.MaxValues[i]})
		}
	}
	return out
}
