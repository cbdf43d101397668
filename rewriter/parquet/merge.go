package parquet

import (
	"fmt"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/thriftpatch"
)

// emitMerged writes the survivors of several row groups as one: leaf by leaf,
// each with pages, dictionary, statistics and page index of its own.
func (x *concat) emitMerged(members []member) error {
	first := x.engines[members[0].engine]
	first.out, first.index = x.out, x.index
	start := x.sink.pos
	var rows, compressed, uncompressed int64
	for _, m := range members {
		rows += m.group.src.Rows - int64(total(m.group.erased))
	}
	out := outGroup{meta: &thriftpatch.Struct{}}
	add := func(entry *thriftpatch.Struct, err error) error {
		if err != nil {
			return err
		}
		meta, err := entry.Struct(chunkMeta)
		if err != nil {
			return err
		}
		n, _ := meta.Int(metaCompressed)
		compressed += n
		n, _ = meta.Int(metaUncompressed)
		uncompressed += n
		out.columns = append(out.columns, entry.Append(nil))
		return nil
	}
	for leaf := range first.job.file.Schema.Columns {
		if err := add(x.mergeLeaf(first, members, leaf)); err != nil {
			return fmt.Errorf("merged row group, column %s: %w", first.job.file.Schema.Columns[leaf].Name(), err)
		}
	}
	for k := range first.job.plan.lineage.missing(first.job.file.Schema) {
		if err := add(x.mergeLineage(first, members, k)); err != nil {
			return fmt.Errorf("merged row group, lineage: %w", err)
		}
	}
	g := out.meta
	g.SetList(groupColumns, &thriftpatch.List{Elem: thriftpatch.Record, Values: out.columns})
	g.SetInt(groupTotalByteSize, thriftpatch.I64, uncompressed)
	g.SetInt(groupNumRows, thriftpatch.I64, rows)
	g.SetInt(groupFileOffset, thriftpatch.I64, start)
	g.SetInt(groupTotalCompressed, thriftpatch.I64, compressed)
	if ord := int64(len(first.out)); ord < 1<<15 {
		g.SetInt(groupOrdinal, thriftpatch.I16, ord)
	}
	x.out, x.index = append(first.out, out), first.index
	return nil
}

// mergeLeaf writes one column of a merged row group.
func (x *concat) mergeLeaf(first *engine, members []member, leaf int) (*thriftpatch.Struct, error) {
	if first.fillsIn(members[0].group, leaf) != nil {
		var values []int64
		for _, m := range members {
			kept, err := x.engines[m.engine].storedLineage(m.group, leaf)
			if err != nil {
				return nil, err
			}
			values = append(values, kept...)
		}
		col := first.job.file.Schema.Columns[leaf]
		return first.writeLongs(values, col.Path, leaf, newCodec(members[0].group.src.Meta.Columns[leaf].MetaData.Codec, first.job.opts.ZstdLevel))
	}
	w := newColumnMerger(x, first, members[0].group, leaf)
	for _, m := range members {
		if err := w.chunk(x.engines[m.engine], m.group); err != nil {
			return nil, err
		}
	}
	return w.finish()
}

// fillsIn says which lineage column a stored leaf is, nil when it is none or has no nulls to fill.
func (e *engine) fillsIn(g *groupJob, leaf int) *lineageColumn {
	if e.job.file.Schema.Columns[leaf].MaxDef == 0 {
		return nil
	}
	return e.job.plan.lineage.valueOf(e.job.file.Schema, leaf)
}

// storedLineage reads the surviving values of a stored lineage column, nulls filled.
func (e *engine) storedLineage(g *groupJob, leaf int) ([]int64, error) {
	src, err := g.src.Chunk(e.job.file.Schema.Columns[leaf])
	if err != nil {
		return nil, err
	}
	all, err := e.readLongs(src, e.fillsIn(g, leaf))
	if err != nil {
		return nil, err
	}
	values := all[:0]
	for _, k := range invert(g.erased, len(all)) {
		values = append(values, all[k.from:k.to]...)
	}
	return values, nil
}

// mergeLineage writes the k-th lineage column that the files have not.
func (x *concat) mergeLineage(first *engine, members []member, k int) (*thriftpatch.Struct, error) {
	var values []int64
	var name string
	for _, m := range members {
		e := x.engines[m.engine]
		l := e.job.plan.lineage.missing(e.job.file.Schema)[k]
		name = l.name
		for _, s := range invert(m.group.erased, int(m.group.src.Rows)) {
			for row := s.from; row < s.to; row++ {
				values = append(values, l.at(m.group.src.FirstRow+int64(row)))
			}
		}
	}
	kind := format.Uncompressed
	if c := members[0].group.src.Meta.Columns; len(c) > 0 {
		kind = c[0].MetaData.Codec
	}
	return first.writeLongs(values, []string{name}, len(first.job.file.Schema.Columns)+k, newCodec(kind, first.job.opts.ZstdLevel))
}
