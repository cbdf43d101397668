package parquet

import (
	"fmt"
	"reflect"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// Field ids that Iceberg reserves for row lineage (spec, "Reserved Field IDs").
const (
	rowIDField    = 2147483540
	sequenceField = 2147483539
)

// lineageColumn is one of the two columns and how its value follows from a row's position.
type lineageColumn struct {
	id    int32
	name  string
	first int64
	step  int64
}

func (c *lineageColumn) at(position int64) int64 { return c.first + c.step*position }

// lineage materialises row lineage; nil does nothing.
type lineage rewriter.Lineage

func (l *lineage) columns() []lineageColumn {
	return []lineageColumn{
		{rowIDField, "_row_id", l.FirstRowID, 1},
		{sequenceField, "_last_updated_sequence_number", l.Sequence, 0},
	}
}

// missing are the columns to append: those that the schema has not.
func (l *lineage) missing(s *pq.Schema) []lineageColumn {
	if l == nil {
		return nil
	}
	var out []lineageColumn
	for _, c := range l.columns() {
		if findID(s.Root, c.id) == nil {
			out = append(out, c)
		}
	}
	return out
}

// valueOf returns the lineage column that fills the nulls of leaf i, if it is one.
func (l *lineage) valueOf(s *pq.Schema, i int) *lineageColumn {
	if l == nil {
		return nil
	}
	for _, c := range l.columns() {
		if s.Columns[i].Node == findID(s.Root, c.id) {
			return &c
		}
	}
	return nil
}

// check refuses lineage columns of a shape that Iceberg does not write.
func (l *lineage) check(s *pq.Schema) error {
	if l == nil {
		return nil
	}
	for _, c := range l.columns() {
		n := findID(s.Root, c.id)
		if n != nil && (n.Column == nil || n.Column.Type != format.Int64 || n.Parent != s.Root || n.Repetition == format.Repeated) {
			return &rewriter.UnsupportedError{What: "row lineage column that is no long", Where: "schema"}
		}
		for _, k := range s.Root.Children {
			if n == nil && k.Name == c.name {
				return &rewriter.UnsupportedError{What: "column named " + c.name + " that is not the lineage column", Where: "schema"}
			}
		}
	}
	return nil
}

// extend appends the missing columns to the footer's schema and column orders.
func (l *lineage) extend(footer *thriftpatch.Struct, s *pq.Schema) error {
	extra := l.missing(s)
	if len(extra) == 0 {
		return nil
	}
	list, err := footer.List(fileSchema)
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	root, err := list.Struct(0)
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	root.SetInt(5, thriftpatch.I32, int64(len(s.Root.Children)+len(extra)))
	list.Values[0] = root.Append(nil)
	for _, c := range extra {
		e := &thriftpatch.Struct{}
		e.SetInt(1, thriftpatch.I32, int64(format.Int64))
		e.SetInt(3, thriftpatch.I32, int64(format.Optional))
		e.SetBytes(4, []byte(c.name))
		e.SetInt(9, thriftpatch.I32, int64(c.id))
		list.AddStruct(e)
	}
	footer.SetList(fileSchema, list)
	orders, err := footer.List(fileColumnOrders)
	if err != nil || orders == nil {
		return err
	}
	for range extra {
		e := &thriftpatch.Struct{}
		e.SetStruct(1, &thriftpatch.Struct{})
		orders.AddStruct(e)
	}
	footer.SetList(fileColumnOrders, orders)
	return nil
}

// extraField is a lineage column in the reference writer's schema.
type extraField struct {
	parquet.Node
	name string
}

func (f *extraField) Name() string { return f.name }

func (f *extraField) Value(base reflect.Value) reflect.Value {
	return base.MapIndex(reflect.ValueOf(&f.name).Elem())
}
