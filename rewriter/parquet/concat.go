package parquet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// Row groups below mergeBelow bytes, as stored, are merged with their
// neighbours into ones of up to mergeInto bytes uncompressed, which is
// write.parquet.row-group-size-bytes by default.
const (
	mergeBelow = 16 << 20
	mergeInto  = 128 << 20
)

// Source is one file of a concatenation and what happens to its rows: erasing
// them, and lineage, are the edits that can be combined.
type Source struct {
	storage.Object
	Edit rewriter.Edit
}

// Concatenated says what a concatenation did. Rows are the survivors of each
// source, in order; they lie behind each other in the output.
type Concatenated struct {
	rewriter.Result
	Rows []int64
	// RowGroupsMerged is how many row groups of the sources went into merged ones.
	RowGroupsMerged int
}

// Concat writes the survivors of several files, in order, into one. Row groups
// are copied or edited as Rewrite does; small neighbours are merged, by decoding
// and encoding anew, unless that would lose something: a bloom filter, a sort
// order, a codec. The sources must be of one Kind. It neither closes nor aborts dst.
func Concat(ctx context.Context, sources []Source, dst storage.Writer, o rewriter.Options) (*Concatenated, error) {
	ins := make([]Input, len(sources))
	edits := make([]rewriter.Edit, len(sources))
	copies := make([]func(off, n int64) error, len(sources))
	for i, s := range sources {
		ins[i], edits[i] = Input{s.Object, s.Info().Size}, s.Edit
		if c, ok := dst.(storage.RangeCopier); ok {
			copies[i] = func(off, n int64) error { return c.CopyRange(s.Object, off, n) }
		}
	}
	c := &concat{res: &Concatenated{Rows: make([]int64, len(sources))}, copies: copies, merge: mergeBelow}
	res, err := c.run(ctx, ins, edits, Output{Writer: dst}, o)
	return res, translate(err)
}

// Kind identifies files that Concat can put together: all that their footers
// say of the whole file is the same, and rows inherit lineage or do not.
func Kind(ctx context.Context, src storage.Object, lineage bool) (kind [sha256.Size]byte, err error) {
	f, err := pq.Open(ctx, src, src.Info().Size)
	if err != nil {
		return kind, translate(err)
	}
	footer, err := parseFooter(f)
	if err != nil {
		return kind, err
	}
	rest := append(wholeFile(footer), "inherited"...)
	if lineage {
		rest = append(rest, "filled in"...)
	}
	return sha256.Sum256(rest), nil
}

// wholeFile is a footer without what describes rows.
func wholeFile(footer *thriftpatch.Struct) []byte {
	f := footer.Clone()
	f.Delete(fileNumRows, fileRowGroups)
	return f.Append(nil)
}

type concat struct {
	ctx     context.Context
	sink    *sink
	engines []*engine
	started []bool
	copies  []func(off, n int64) error
	merge   int64 // row groups below it are merged
	out     []outGroup
	index   []pendingIndex
	res     *Concatenated
}

// member is a row group of one of the sources.
type member struct {
	engine int
	group  *groupJob
}

func (x *concat) run(ctx context.Context, ins []Input, edits []rewriter.Edit, out Output, o rewriter.Options) (*Concatenated, error) {
	if len(ins) == 0 {
		return nil, fmt.Errorf("nothing to concatenate: %w", rewriter.ErrUnsupported)
	}
	x.ctx = ctx
	x.sink = newSink(ctx, ins[0], out, !o.SkipDigest)
	defer x.sink.close()
	defer x.stopAll()
	for i := range ins {
		if err := x.open(ins[i], edits[i], o); err != nil {
			return nil, fmt.Errorf("file %d: %w", i, err)
		}
	}
	if _, err := x.sink.Write([]byte("PAR1")); err != nil {
		return nil, err
	}
	for _, p := range x.pieces() {
		if err := x.emit(p); err != nil {
			return nil, err
		}
	}
	if err := x.finish(); err != nil {
		return nil, err
	}
	x.res.Engine = rewriter.Surgical
	x.res.BytesCopied, x.res.BytesReencoded = x.sink.copied, x.sink.encoded
	x.res.Size, x.res.SHA256 = x.sink.pos, x.sink.sum()
	return x.res, nil
}

// open prepares one source: everything that can be refused is, before the first byte.
func (x *concat) open(in Input, e rewriter.Edit, o rewriter.Options) error {
	if len(e.Redact)+len(e.Remove) > 0 {
		return &rewriter.UnsupportedError{What: "edit of rows that stay, in a concatenation"}
	}
	j, err := newJob(x.ctx, in, e, o)
	if err != nil {
		return err
	}
	if len(x.engines) > 0 {
		first := x.engines[0].job
		if !bytes.Equal(wholeFile(first.footer), wholeFile(j.footer)) || (first.plan.lineage == nil) != (j.plan.lineage == nil) {
			return &rewriter.UnsupportedError{What: "files of different schemas, metadata or writers in a concatenation"}
		}
	}
	if err := j.in.cacheIndexes(j.file); err != nil {
		return err
	}
	eng, _ := newEngine(j, x.sink)
	if err := eng.prepare(); err != nil {
		return err
	}
	x.engines = append(x.engines, eng)
	x.started = append(x.started, false)
	k := len(x.engines) - 1
	for _, g := range eng.groups {
		if !g.drop {
			x.res.Rows[k] += g.src.Rows - int64(total(g.erased))
		}
	}
	x.res.RowsIn += j.res.RowsIn
	x.res.RowsOut += x.res.Rows[k]
	return nil
}

// pieces cuts the sources' row groups into the new file's: single ones, and
// runs of small neighbours to be merged.
func (x *concat) pieces() [][]member {
	var out [][]member
	var run []member
	var size int64
	flush := func() {
		if len(run) > 0 {
			out = append(out, run)
		}
		run, size = nil, 0
	}
	for k, e := range x.engines {
		for _, g := range e.groups {
			if g.drop {
				x.res.RowGroupsDropped++
				continue
			}
			m, n := member{k, g}, g.src.Meta.TotalByteSize
			if !x.mergeable(g) || len(run) > 0 && (size+n > mergeInto || !sameCodecs(run[0].group, g)) {
				flush()
			}
			run, size = append(run, m), size+n
			if !x.mergeable(g) {
				flush()
			}
		}
	}
	flush()
	for _, p := range out {
		if len(p) > 1 {
			x.res.RowGroupsMerged += len(p)
			for _, m := range p {
				clear(m.group.chunks) // not edited page by page
			}
		}
	}
	return out
}

// mergeable says whether a row group is small and has nothing that merging loses.
func (x *concat) mergeable(g *groupJob) bool {
	var stored int64
	for i := range g.src.Meta.Columns {
		stored += g.src.Meta.Columns[i].MetaData.TotalCompressedSize
		if loses(g.columns, i) {
			return false
		}
	}
	return stored < x.merge && len(g.src.Meta.SortingColumns) == 0
}

// loses says whether the metadata of a chunk tells more than those of a merged
// one do: of a bloom filter, geospatial statistics, key-value pairs, or
// something that is not known here.
func loses(columns *thriftpatch.List, i int) bool {
	entry, err := columns.Struct(i)
	if err != nil {
		return true
	}
	meta, err := entry.Struct(chunkMeta)
	if err != nil || meta == nil {
		return true
	}
	return slices.ContainsFunc(meta.Fields(), func(f thriftpatch.Field) bool {
		// ColumnMetaData in parquet.thrift: type to total_compressed_size,
		// data_page_offset to encoding_stats, size_statistics.
		return f.ID < 1 || f.ID > 7 && f.ID < 9 || f.ID > 13 && f.ID != 16
	})
}

func sameCodecs(a, b *groupJob) bool {
	for i := range a.src.Meta.Columns {
		if a.src.Meta.Columns[i].MetaData.Codec != b.src.Meta.Columns[i].MetaData.Codec {
			return false
		}
	}
	return true
}

func (x *concat) emit(p []member) error {
	if len(p) > 1 {
		return x.emitMerged(p)
	}
	e := x.engines[p[0].engine]
	if !x.started[p[0].engine] {
		x.started[p[0].engine] = true
		e.start()
	}
	x.sink.in, x.sink.out.Copy = e.in, x.copies[p[0].engine]
	e.out, e.index = x.out, x.index
	if err := e.emitGroup(p[0].group); err != nil {
		return e.failure(fmt.Errorf("file %d, row group %d: %w", p[0].engine, p[0].group.src.Index, err))
	}
	x.out, x.index = e.out, e.index
	return nil
}

func (x *concat) stopAll() {
	for _, e := range x.engines {
		e.cancel(context.Canceled)
		e.wg.Wait()
	}
}

// finish writes the page indexes and the footer, which is the first file's but
// for its rows.
func (x *concat) finish() error {
	for _, e := range x.engines {
		x.res.PagesTotal += e.job.res.PagesTotal
		x.res.PagesTouched += e.job.res.PagesTouched
	}
	e := x.engines[0]
	e.out, e.index = x.out, x.index
	e.job.res.RowsOut = x.res.RowsOut
	if err := e.emitIndexes(); err != nil {
		return err
	}
	return e.emitFooter()
}
