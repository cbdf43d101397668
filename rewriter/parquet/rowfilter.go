package parquet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// rowFilter passes one column chunk's surviving rows, edited, to a writer.
type rowFilter struct {
	leaf     *leafPlan
	rowStart int64
	erased   []span
	column   *parquet.ColumnWriter
	index    int
	lineage  *lineageColumn // nulls are filled from it

	row     int // rows completed
	next    int // erased span to come
	current []parquet.Value
	open    bool
	batch   []parquet.Value
	rows    int
}

func (f *rowFilter) run(ctx context.Context, chunk *pq.Chunk) error {
	pages := chunk.Pages(ctx, pq.ReadOptions{})
	dec := chunk.NewDecoder()
	var data pq.PageData
	for {
		page, err := pages.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if page.Header.Type == format.DictionaryPage {
			err = dec.SetDictionary(page)
		} else if err = dec.Decode(page, &data); err == nil {
			err = f.page(&data)
		}
		if err != nil {
			return err
		}
	}
	if err := f.endRow(); err != nil {
		return err
	}
	return f.flush()
}

func (f *rowFilter) page(d *pq.PageData) error {
	value := 0
	maxDef := f.leaf.column.MaxDef
	for i := range d.Entries {
		rep, def := 0, maxDef
		if d.Rep != nil {
			rep = int(d.Rep[i])
		}
		if d.Def != nil {
			def = int(d.Def[i])
		}
		if rep == 0 {
			if err := f.endRow(); err != nil {
				return err
			}
			f.open = true
		}
		v := parquet.NullValue()
		if def == maxDef {
			v = valueAt(&d.Values, value)
			value++
		}
		f.current = append(f.current, v.Level(rep, def, f.index))
	}
	return nil
}

// valueAt copies value i: rows may go on in the next page.
func valueAt(v *pq.Values, i int) parquet.Value {
	if v.Dict != nil {
		return valueAt(v.Dict, int(v.Index[i]))
	}
	switch v.Type {
	case format.Boolean:
		return parquet.BooleanValue(v.Bools[i])
	case format.Int32:
		return parquet.Int32Value(v.Int32[i])
	case format.Int64:
		return parquet.Int64Value(v.Int64[i])
	case format.Float:
		return parquet.FloatValue(v.Floats[i])
	case format.Double:
		return parquet.DoubleValue(v.Doubles[i])
	case format.Int96:
		b := v.At(i)
		return parquet.Int96Value(deprecated.Int96{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])})
	case format.FixedLenByteArray:
		return parquet.FixedLenByteArrayValue(bytes.Clone(v.At(i)))
	}
	return parquet.ByteArrayValue(bytes.Clone(v.At(i)))
}

// endRow decides on the row that was collected.
func (f *rowFilter) endRow() error {
	if !f.open {
		return nil
	}
	f.open = false
	row := f.row
	f.row++
	defer func() { f.current = f.current[:0] }()
	for f.next < len(f.erased) && f.erased[f.next].to <= row {
		f.next++
	}
	if f.next < len(f.erased) && f.erased[f.next].from <= row {
		return nil
	}
	values := editRow(f.current, f.leaf, uint64(f.rowStart)+uint64(row), f.index)
	if f.lineage != nil && len(values) == 1 && values[0].IsNull() {
		values[0] = parquet.Int64Value(f.lineage.at(f.rowStart+int64(row))).Level(0, f.leaf.column.MaxDef, f.index)
	}
	f.batch = append(f.batch, values...)
	if f.rows++; f.rows == referenceBatch {
		return f.flush()
	}
	return nil
}

func (f *rowFilter) flush() error {
	if len(f.batch) == 0 {
		return nil
	}
	_, err := f.column.WriteRowValues(f.batch)
	f.batch, f.rows = f.batch[:0], 0
	return err
}

// editRow applies removals, then redactions, to one row's values of a leaf.
func editRow(values []parquet.Value, leaf *leafPlan, row uint64, column int) []parquet.Value {
	for _, r := range leaf.removal {
		values = removeElements(values, r, row, column)
	}
	for _, r := range leaf.redact {
		if r.rows.Contains(row) {
			values = redactRow(values, r, leaf.column, column)
		}
	}
	return values
}

// removeElements drops elements of one row. A list that loses all of them
// keeps one entry that says it is empty.
func removeElements(values []parquet.Value, r removal, row uint64, column int) []parquet.Value {
	out := make([]parquet.Value, 0, len(values))
	element := uint32(0)
	var gone, listOpen bool
	var firstRep, kept int // of the open list: its first entry's level, elements that stay
	closeList := func() {
		if listOpen && kept == 0 {
			out = append(out, parquet.NullValue().Level(firstRep, r.list.Def-1, column))
		}
		listOpen = false
	}
	for _, v := range values {
		rep, def := v.RepetitionLevel(), v.DefinitionLevel()
		if rep < r.list.Rep {
			closeList()
			if def < r.list.Def { // null or empty: no element
				out = append(out, v)
				continue
			}
			listOpen, firstRep, kept = true, rep, 0
		}
		if rep <= r.list.Rep {
			gone = r.elements.Contains(rewriter.ElementKey(row, element))
			element++
			if !gone {
				if kept == 0 {
					v = v.Level(firstRep, def, column)
				}
				kept++
			}
		}
		if !gone {
			out = append(out, v)
		}
	}
	closeList()
	return out
}

func redactRow(values []parquet.Value, r redaction, leaf *pq.Column, column int) []parquet.Value {
	out := values[:0:0]
	for _, v := range values {
		def := v.DefinitionLevel()
		if r.literal != nil {
			if def == leaf.MaxDef {
				v = literalValue(leaf, r.literal).Level(v.RepetitionLevel(), def, column)
			}
			out = append(out, v)
			continue
		}
		if v.RepetitionLevel() > r.group.Rep {
			continue // inside the group that became null
		}
		if def >= r.group.Def {
			v = parquet.NullValue().Level(v.RepetitionLevel(), r.group.Def-1, column)
		}
		out = append(out, v)
	}
	return out
}

// literalValue makes a value of a column from PLAIN bytes.
func literalValue(n *pq.Column, b []byte) parquet.Value {
	switch n.Type {
	case format.Boolean:
		return parquet.BooleanValue(b[0] != 0)
	case format.Int32:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(b)))
	case format.Int64:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(b)))
	case format.Float:
		return parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case format.Double:
		return parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case format.FixedLenByteArray:
		return parquet.FixedLenByteArrayValue(b)
	}
	return parquet.ByteArrayValue(b)
}
