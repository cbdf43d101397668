package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// The reference decodes every page of every column, filters and edits values
// row by row, and writes them through parquet-go. The
// footer that parquet-go wrote lends only its row groups; everything else
// (schema, key-value metadata, created_by, column orders, unknown fields)
// stays the source's.

// referenceBatch is how many rows go to the writer at a time.
const referenceBatch = 512

type reference struct {
	ctx    context.Context
	src    *pq.File
	file   *parquet.File // for its schema alone
	footer *thriftpatch.Struct
	schema *pq.Schema
	plan   *plan
	res    *rewriter.Result
}

func runReference(j *job, s *sink) (err error) {
	defer func() {
		// The library panics on some malformed inputs; the caller aborts its destination.
		if v := recover(); v != nil {
			err = corrupt("reference path: parquet library stopped")
		}
	}()
	file, err := parquet.OpenFile(j.in, j.in.Size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return corrupt("open: %w", err)
	}
	r := &reference{ctx: j.ctx, src: j.file, file: file, footer: j.footer, schema: j.file.Schema, plan: j.plan, res: j.res}
	if err := r.supported(); err != nil {
		return err
	}
	return r.run(s)
}

// supported refuses what parquet-go would change silently.
func (r *reference) supported() error {
	columns := r.file.Schema().Columns()
	if len(columns) != len(r.schema.Columns) {
		return corrupt("schema")
	}
	for i, path := range columns {
		if !slices.Equal(path, r.schema.Columns[i].Path) {
			return &rewriter.UnsupportedError{What: "schema order in the reference path"}
		}
	}
	for _, g := range r.src.RowGroups {
		for _, col := range r.schema.Columns {
			if g.Rows == 0 {
				break
			}
			if _, err := g.Chunk(col); err != nil {
				return err
			}
		}
	}
	return nil
}

// writerSchema is the file's schema, with the lineage columns where they are to be added.
func (r *reference) writerSchema() *parquet.Schema {
	root := r.node(r.file.Root())
	for _, c := range r.plan.lineage.missing(r.schema) {
		node := parquet.Compressed(parquet.FieldID(parquet.Optional(parquet.Leaf(parquet.Int64Type)), int(c.id)), &parquet.Zstd)
		root.fields = append(root.fields, &extraField{Node: node, name: c.name})
	}
	return parquet.NewSchema(r.file.Schema().Name(), root)
}

func (r *reference) options() []parquet.WriterOption {
	opts := []parquet.WriterOption{r.writerSchema(), parquet.MaxRowsPerRowGroup(1 << 62), parquet.WriteBufferSize(0)}
	version := 1
	for _, g := range r.file.Metadata().RowGroups {
		for j := range g.Columns {
			m := &g.Columns[j].MetaData
			for _, e := range m.EncodingStats {
				if e.PageType == format.DataPageV2 {
					version = 2
				}
			}
		}
	}
	if n := len(r.file.Metadata().RowGroups); n > 0 {
		var filters []parquet.BloomFilterColumn
		for j, c := range r.file.Metadata().RowGroups[0].Columns {
			if c.MetaData.BloomFilterOffset > 0 {
				filters = append(filters, parquet.SplitBlockFilter(bitsPerValue(&c.MetaData), r.schema.Columns[j].Path...))
			}
		}
		if len(filters) > 0 {
			opts = append(opts, parquet.BloomFilters(filters...))
		}
	}
	return append(opts, parquet.DataPageVersion(version))
}

// bitsPerValue makes a filter about as large as the source's.
func bitsPerValue(m *format.ColumnMetaData) uint {
	const usual, most = 10, 64
	if m.BloomFilterLength <= 0 || m.NumValues <= 0 {
		return usual
	}
	return uint(min(max(int64(m.BloomFilterLength)*8/m.NumValues, usual), most))
}

// tail keeps what is written after the row groups, so that the footer can be replaced.
type tail struct {
	w    io.Writer
	hold bool
	held []byte
}

func (t *tail) Write(b []byte) (int, error) {
	if t.hold {
		t.held = append(t.held, b...)
		return len(b), nil
	}
	// The library uses its buffers again; the digest looks at them later.
	return t.w.Write(bytes.Clone(b))
}

func (r *reference) run(s *sink) error {
	t := &tail{w: s}
	w := parquet.NewGenericWriter[any](t, r.options()...)
	var sources []int
	for i, g := range r.src.RowGroups {
		erased := spansIn(r.plan.erase, g.FirstRow, g.FirstRow+g.Rows)
		if int64(total(erased)) == g.Rows {
			r.res.RowGroupsDropped++
			continue
		}
		if err := r.rowGroup(w, g, erased); err != nil {
			return fmt.Errorf("row group %d: %w", i, err)
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("row group %d: flush: %w", i, err)
		}
		sources = append(sources, i)
	}
	t.hold = true
	if err := w.Close(); err != nil {
		return fmt.Errorf("close writer: %w", err)
	}
	return r.finish(s, t.held, sources)
}

func (r *reference) rowGroup(w *parquet.GenericWriter[any], g *pq.RowGroup, erased []span) error {
	columns := w.ColumnWriters()
	for j, col := range r.schema.Columns {
		chunk, err := g.Chunk(col)
		if err != nil {
			return err
		}
		rf := &rowFilter{leaf: &r.plan.leaves[j], rowStart: g.FirstRow, erased: erased, column: columns[j], index: j,
			lineage: r.plan.lineage.valueOf(r.schema, j)}
		if err := rf.run(r.ctx, chunk); err != nil {
			return fmt.Errorf("column %s: %w", col.Name(), err)
		}
		if int64(rf.row) != g.Rows {
			return corrupt("column %s has %d rows of %d", col.Name(), rf.row, g.Rows)
		}
	}
	for k, c := range r.plan.lineage.missing(r.schema) {
		j := len(r.schema.Columns) + k
		if err := writeLineage(columns[j], j, c, g.FirstRow, g.Rows, erased); err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	return nil
}

func writeLineage(w *parquet.ColumnWriter, column int, c lineageColumn, rowStart, rows int64, erased []span) error {
	var batch []parquet.Value
	for _, keep := range invert(erased, int(rows)) {
		for row := keep.from; row < keep.to; row++ {
			batch = append(batch, parquet.Int64Value(c.at(rowStart+int64(row))).Level(0, 1, column))
			if len(batch) == referenceBatch {
				if _, err := w.WriteRowValues(batch); err != nil {
					return err
				}
				batch = batch[:0]
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	_, err := w.WriteRowValues(batch)
	return err
}

// finish writes what parquet-go held back, under a footer made from the source's.
func (r *reference) finish(s *sink, held []byte, sources []int) error {
	if len(held) < 8 {
		return errors.New("writer closed without a footer")
	}
	n := int(uint32(held[len(held)-8]) | uint32(held[len(held)-7])<<8 | uint32(held[len(held)-6])<<16 | uint32(held[len(held)-5])<<24)
	body := held[:len(held)-8-n]
	made, _, err := thriftpatch.Parse(held[len(body):])
	if err != nil {
		return fmt.Errorf("read back the footer: %w", err)
	}
	groups, err := made.List(fileRowGroups)
	if err != nil || groups == nil || len(groups.Values) != len(sources) {
		return errors.New("read back the footer: row groups")
	}
	old, err := r.footer.List(fileRowGroups)
	if err != nil || old == nil {
		return corrupt("row groups")
	}
	for i, src := range sources {
		if err := keepSorting(groups, i, old, src); err != nil {
			return err
		}
	}
	if _, err := s.Write(body); err != nil {
		return err
	}
	out := r.footer.Clone()
	rows, _ := made.Int(fileNumRows)
	out.SetInt(fileNumRows, thriftpatch.I64, rows)
	out.SetList(fileRowGroups, groups)
	if err := r.plan.lineage.extend(out, r.schema); err != nil {
		return err
	}
	r.res.RowsOut = rows
	_, err = s.Write(appendFooter(nil, out))
	return err
}

// keepSorting carries the sorting columns of a source row group over: removing rows keeps an order.
func keepSorting(groups *thriftpatch.List, i int, old *thriftpatch.List, src int) error {
	from, err := old.Struct(src)
	if err != nil {
		return corrupt("row group %d: %w", src, err)
	}
	to, err := groups.Struct(i)
	if err != nil {
		return err
	}
	to.Delete(groupSortingColumns)
	for _, f := range from.Fields() {
		if f.ID == groupSortingColumns {
			to.SetRaw(f.ID, f.Type, f.Raw)
		}
	}
	groups.Values[i] = to.Append(nil)
	return nil
}
