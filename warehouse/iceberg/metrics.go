package iceberg

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// Metrics reads a written file's footer and returns its column metrics by
// field id, as a manifest entry states them (specification, "Data File
// Fields" and "Bound Serialization"), for the columns of the current schema
// and as detailed as the table's write.metadata.metrics properties ask. What
// the footer does not say is left out: a wrong count would make readers skip
// rows. NaN counts are in no footer, so there are none.
func (t *Table) Metrics(ctx context.Context, path string) (warehouse.Metrics, error) {
	meta, err := t.anyMetadata(ctx)
	if err != nil {
		return warehouse.Metrics{}, err
	}
	obj, err := t.store.Open(ctx, path)
	if err != nil {
		return warehouse.Metrics{}, fmt.Errorf("open written file: %w", hide(err))
	}
	defer obj.Close()
	r, err := file.NewParquetReader(io.NewSectionReader(obj, 0, obj.Info().Size))
	if err != nil {
		return warehouse.Metrics{}, fmt.Errorf("read footer: %w", hide(err))
	}
	defer r.Close()
	m, err := fileMetrics(meta, r.MetaData())
	if err != nil {
		return warehouse.Metrics{}, fmt.Errorf("read footer: %w", hide(err))
	}
	return m, nil
}

// columnMetrics gathers one leaf column over all row groups.
type columnMetrics struct {
	field    iceberg.NestedField
	mode     metricsMode
	repeated bool

	size, values, nulls int64
	nullsKnown          bool
	bounds              *bounds
}

func fileMetrics(meta table.Metadata, md *metadata.FileMetaData) (warehouse.Metrics, error) {
	out := warehouse.Metrics{}
	cols := metricColumns(meta, md.Schema)
	var prev int64
	for i := range md.NumRowGroups() {
		rg := md.RowGroup(i)
		start := int64(-1)
		for j := range rg.NumColumns() {
			chunk, err := rg.ColumnChunk(j)
			if err != nil {
				return out, err
			}
			if at := chunkStart(chunk); start < 0 || at < start {
				start = at
			}
			if c := cols[j]; c != nil {
				if err := c.add(chunk); err != nil {
					return out, err
				}
			}
		}
		if start >= prev && start >= 0 {
			out.SplitOffsets = append(out.SplitOffsets, start)
			prev = start
		}
	}
	for _, c := range cols {
		if c != nil {
			c.store(&out)
		}
	}
	return out, nil
}

func chunkStart(c *metadata.ColumnChunkMetaData) int64 {
	at := c.DataPageOffset()
	if c.HasDictionaryPage() && c.DictionaryPageOffset() > 0 {
		at = min(at, c.DictionaryPageOffset())
	}
	return at
}

// metricColumns finds the field of each leaf column, nil for those that the
// table does not have (any more) or wants no metrics of.
func metricColumns(meta table.Metadata, sch *schema.Schema) []*columnMetrics {
	current := meta.CurrentSchema()
	ids := leafIDs(meta, sch)
	modes := newMetricsModes(meta.Properties())
	cols := make([]*columnMetrics, sch.NumColumns())
	for i := range cols {
		field, ok := current.FindFieldByID(ids[i])
		if !ok || ids[i] <= 0 {
			continue
		}
		name, _ := current.FindColumnName(ids[i])
		mode := modes.of(name)
		if mode.kind == metricsNone {
			continue
		}
		col := sch.Column(i)
		c := &columnMetrics{field: field, mode: mode, repeated: col.MaxRepetitionLevel() > 0, nullsKnown: true}
		if !c.repeated && mode.kind != metricsCounts {
			c.bounds = newBounds(field.Type, col)
		}
		cols[i] = c
	}
	return cols
}

func (c *columnMetrics) add(chunk *metadata.ColumnChunkMetaData) error {
	c.size += chunk.TotalCompressedSize()
	c.values += chunk.NumValues()
	stats, err := chunk.Statistics()
	if err != nil {
		return err
	}
	if stats == nil || !stats.HasNullCount() {
		c.nullsKnown = false
	} else {
		c.nulls += stats.NullCount()
	}
	if c.bounds == nil || chunk.NumValues() == 0 {
		return nil
	}
	allNull := stats != nil && stats.HasNullCount() && stats.NullCount() == chunk.NumValues()
	switch {
	case allNull:
	case stats == nil || !stats.HasMinMax():
		c.bounds = nil // of unknown range: no bound holds for the file
	case !c.bounds.widen(stats.EncodeMin(), stats.EncodeMax()):
		c.bounds = nil
	}
	return nil
}

func (c *columnMetrics) store(m *warehouse.Metrics) {
	id := c.field.ID
	put(&m.ColumnSizes, id, c.size)
	put(&m.ValueCounts, id, c.values)
	if c.nullsKnown {
		put(&m.NullCounts, id, c.nulls)
	}
	if c.bounds == nil {
		return
	}
	lower, upper := c.bounds.serialized(c.mode)
	if lower != nil {
		put(&m.Lower, id, lower)
	}
	if upper != nil {
		put(&m.Upper, id, upper)
	}
}

func put[V any](m *map[int]V, id int, v V) {
	if *m == nil {
		*m = map[int]V{}
	}
	(*m)[id] = v
}

// leafIDs returns each leaf column's field id, 0 where it has none. A file
// without any ids, as add_files takes in, is read through the name mapping.
func leafIDs(meta table.Metadata, sch *schema.Schema) []int {
	ids := make([]int, sch.NumColumns())
	any := false
	for i := range ids {
		if id := sch.Column(i).SchemaNode().FieldID(); id > 0 {
			ids[i], any = int(id), true
		}
	}
	mapping := meta.NameMapping()
	if any || len(mapping) == 0 {
		return ids
	}
	byNode := map[schema.Node]int{}
	mapGroup(sch.Root(), mapping, byNode)
	for i := range ids {
		ids[i] = byNode[sch.Column(i).SchemaNode()]
	}
	return ids
}

func mapGroup(g *schema.GroupNode, fields []iceberg.MappedField, ids map[schema.Node]int) {
	for i := range g.NumFields() {
		child := g.Field(i)
		if f := mappedField(fields, child.Name()); f != nil {
			mapNode(child, f, ids)
		}
	}
}

// mapNode goes down through the repeated groups that Parquet puts between a
// list or map and what it holds (LogicalTypes.md, "Nested Types"); the mapping
// names only element, key and value.
func mapNode(n schema.Node, f *iceberg.MappedField, ids map[schema.Node]int) {
	g, ok := n.(*schema.GroupNode)
	if !ok {
		if f.FieldID != nil {
			ids[n] = *f.FieldID
		}
		return
	}
	inner := func(node schema.Node, name string) {
		if m := mappedField(f.Fields, name); m != nil {
			mapNode(node, m, ids)
		}
	}
	repeated := g.NumFields() == 1 && g.Field(0).RepetitionType() == parquet.Repetitions.Repeated
	switch rep, _ := firstField(g).(*schema.GroupNode); {
	case !repeated:
		mapGroup(g, f.Fields, ids)
	case rep == nil:
		inner(g.Field(0), "element")
	case rep.NumFields() == 2 && mappedField(f.Fields, "key") != nil:
		inner(rep.Field(0), "key")
		inner(rep.Field(1), "value")
	case rep.NumFields() == 1:
		inner(rep.Field(0), "element")
	default:
		inner(rep, "element")
	}
}

func firstField(g *schema.GroupNode) schema.Node {
	if g.NumFields() == 0 {
		return nil
	}
	return g.Field(0)
}

func mappedField(fields []iceberg.MappedField, name string) *iceberg.MappedField {
	for i := range fields {
		if slices.Contains(fields[i].Names, name) {
			return &fields[i]
		}
	}
	return nil
}

// The modes of write.metadata.metrics.* properties.
const (
	metricsNone = iota
	metricsCounts
	metricsTruncate
	metricsFull
)

type metricsMode struct{ kind, length int }

type metricsModes struct {
	def   metricsMode
	props iceberg.Properties
}

var truncateMode = regexp.MustCompile(`^truncate\((\d+)\)$`)

func newMetricsModes(props iceberg.Properties) metricsModes {
	m := metricsModes{def: metricsMode{kind: metricsTruncate, length: 16}, props: props}
	if mode, ok := parseMode(props["write.metadata.metrics.default"]); ok {
		m.def = mode
	}
	return m
}

func (m metricsModes) of(column string) metricsMode {
	if mode, ok := parseMode(m.props["write.metadata.metrics.column."+column]); ok {
		return mode
	}
	return m.def
}

func parseMode(s string) (metricsMode, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	switch s {
	case "none":
		return metricsMode{kind: metricsNone}, true
	case "counts":
		return metricsMode{kind: metricsCounts}, true
	case "full":
		return metricsMode{kind: metricsFull}, true
	}
	if m := truncateMode.FindStringSubmatch(s); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			return metricsMode{kind: metricsTruncate, length: n}, true
		}
	}
	return metricsMode{}, false
}
