package iceberg

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/expunge/expunge/warehouse"
)

// BindAction resolves the columns that the selection's action changes, and
// refuses what cannot be done: a redaction of a required, partition-source,
// sort or identifier column, a constant that is no value of its column, an
// element of something that is no list. Equality-delete columns are refused by
// Plan and Commit, which read the delete files.
func (t *Table) BindAction(ctx context.Context, sel warehouse.Selection) (*warehouse.BoundAction, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	b, err := bindAction(tbl.Metadata(), sel)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.name, err)
	}
	return b, nil
}

func bindAction(meta table.Metadata, sel warehouse.Selection) (*warehouse.BoundAction, error) {
	a := sel.Action
	b := &warehouse.BoundAction{Kind: a.Kind}
	if a.Kind == "" {
		b.Kind = warehouse.Delete
	}
	switch b.Kind {
	case warehouse.Delete:
		return b, nil
	case warehouse.RemoveElement:
		return b, bindElement(meta, sel, b)
	case warehouse.Redact:
	default:
		return nil, fmt.Errorf("action %q is not known: %w", a.Kind, warehouse.ErrAction)
	}
	for _, path := range a.Null {
		if err := bindRedaction(meta, b, path, nil); err != nil {
			return nil, err
		}
	}
	for _, path := range sortedKeys(a.Redact) {
		constant := a.Redact[path]
		if err := bindRedaction(meta, b, path, &constant); err != nil {
			return nil, err
		}
	}
	if len(b.Redact) == 0 {
		return nil, fmt.Errorf("no column to redact is named: %w", warehouse.ErrAction)
	}
	return b, nil
}

func columnRef(meta table.Metadata, f field) warehouse.ColumnRef {
	return warehouse.ColumnRef{FieldID: f.leaf().ID, Path: f.path, Names: mappedPaths(meta.NameMapping(), f), Repeated: f.repeated()}
}

func bindRedaction(meta table.Metadata, b *warehouse.BoundAction, path string, constant *string) error {
	f, err := locate(meta, path)
	if err != nil {
		return fmt.Errorf("column to redact: %w", err)
	}
	refuse := func(why string) error {
		return fmt.Errorf("column %q cannot be redacted: %s: %w", path, why, warehouse.ErrAction)
	}
	leaf := f.leaf()
	below := idsUnder(leaf)
	for _, r := range b.Redact {
		if id := r.Column.FieldID; slices.Contains(below, id) || f.within(id) {
			return refuse("it overlaps another column that is redacted")
		}
	}
	if leaf.Required {
		return refuse("it is required")
	}
	if constant != nil {
		if len(below) > 1 {
			return refuse(fmt.Sprintf("it is %s, which can only be set to null", kindOf(leaf.Type)))
		}
		if err := constantFits(leaf.Type, *constant); err != nil {
			return refuse(err.Error())
		}
	}
	if why := structural(meta, below); why != "" {
		return refuse(why)
	}
	if leaf.InitialDefault != nil {
		// Files written before the column do not store it: there is nothing to overwrite in them.
		return refuse("files written before it was added read its default")
	}
	b.Redact = append(b.Redact, warehouse.BoundRedaction{Column: columnRef(meta, f), Constant: constant})
	b.Redefined = append(b.Redefined, below...)
	return nil
}

// structural says what role of the table's layout one of the columns plays:
// its files' places, their order, or their rows' identity follow from it.
func structural(meta table.Metadata, ids []int) string {
	has := func(id int) bool { return slices.Contains(ids, id) }
	for _, spec := range meta.PartitionSpecs() {
		for _, id := range ids {
			for _, p := range spec.FieldsBySourceID(id) {
				if _, void := p.Transform.(icebergo.VoidTransform); !void {
					return "the table is or was partitioned by it"
				}
			}
		}
	}
	// An order that is no longer the default may be the one that a live file is in.
	for _, order := range meta.SortOrders() {
		for _, f := range order.Fields() {
			if slices.ContainsFunc(f.SourceIDs, has) {
				return "the table is or was sorted by it"
			}
		}
	}
	if slices.ContainsFunc(meta.CurrentSchema().IdentifierFieldIDs, has) {
		return "it identifies rows (identifier-field-ids)"
	}
	return ""
}

// within says whether the field lies below the one with an id.
func (f field) within(id int) bool {
	return slices.ContainsFunc(f.chain[:len(f.chain)-1], func(n icebergo.NestedField) bool { return n.ID == id })
}

// idsUnder are the ids of a field and of all below it, the field's own first.
func idsUnder(f icebergo.NestedField) []int {
	ids := []int{f.ID}
	for _, c := range childFields(f.Type) {
		ids = append(ids, idsUnder(c)...)
	}
	return ids
}

func kindOf(t icebergo.Type) string {
	switch t.(type) {
	case *icebergo.StructType:
		return "a struct"
	case *icebergo.ListType:
		return "a list"
	case *icebergo.MapType:
		return "a map"
	}
	return t.String()
}

// bindElement resolves the list or map that elements leave. Every match has to
// lie in it, or which element matches is not defined.
func bindElement(meta table.Metadata, sel warehouse.Selection, b *warehouse.BoundAction) error {
	path := sel.Action.Element
	f, err := locate(meta, path)
	if err != nil {
		return fmt.Errorf("list to remove elements from: %w", err)
	}
	list := f.leaf()
	switch list.Type.(type) {
	case *icebergo.ListType, *icebergo.MapType:
	default:
		return fmt.Errorf("column %q is %s, not a list or map: %w", path, kindOf(list.Type), warehouse.ErrAction)
	}
	for _, m := range sel.Match {
		inside := false
		for _, col := range m.Columns {
			c, err := locate(meta, col)
			if err != nil {
				return err
			}
			inside = inside || listOf(c) == list.ID
		}
		if !inside {
			return fmt.Errorf("no column of match %s is a value of an element of %q: %w", m.Keyset, path, warehouse.ErrAction)
		}
	}
	if f.repeated() {
		return fmt.Errorf("column %q lies in a list or map itself; its elements cannot be removed: %w", path, warehouse.ErrAction)
	}
	b.Element = columnRef(meta, f)
	return nil
}

// constantFits says whether a text is a value of a column's type. The text
// itself never reaches the error: it stands in the job file.
func constantFits(t icebergo.Type, text string) error {
	var err error
	switch t := t.(type) {
	case icebergo.StringType, icebergo.BinaryType:
	case icebergo.BooleanType:
		_, err = strconv.ParseBool(text)
	case icebergo.Int32Type:
		_, err = strconv.ParseInt(text, 10, 32)
	case icebergo.Int64Type:
		_, err = strconv.ParseInt(text, 10, 64)
	case icebergo.Float32Type:
		_, err = strconv.ParseFloat(text, 32)
	case icebergo.Float64Type:
		_, err = strconv.ParseFloat(text, 64)
	case icebergo.DateType:
		_, err = time.Parse(time.DateOnly, text)
	case icebergo.TimestampType, icebergo.TimestampTzType, icebergo.TimestampNsType, icebergo.TimestampTzNsType:
		err = isTimestamp(text)
	case icebergo.UUIDType:
		_, err = uuid.Parse(text)
	case icebergo.DecimalType:
		err = decimalFits(t, text)
	case icebergo.FixedType:
		if raw, herr := hex.DecodeString(strings.TrimPrefix(text, "0x")); len(text) != t.Len() && (herr != nil || len(raw) != t.Len()) {
			err = strconv.ErrRange
		}
	default:
		return fmt.Errorf("a column of type %s can only be set to null", t)
	}
	if err != nil {
		return fmt.Errorf("the constant is no value of type %s", t)
	}
	return nil
}

func isTimestamp(text string) (err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if _, err = time.Parse(layout, text); err == nil {
			return nil
		}
	}
	return err
}

func decimalFits(t icebergo.DecimalType, text string) error {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return strconv.ErrSyntax
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale())), nil)))
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Precision())), nil)
	if !r.IsInt() || r.Num().CmpAbs(limit) >= 0 {
		return strconv.ErrRange
	}
	return nil
}

// equalityColumns says whether a live equality delete of the index compares
// one of the columns: redefined, it would no longer find its rows.
func (x *deleteIndex) equalityColumns(ids []int) bool {
	on := func(d indexedDelete) bool { return redefines(ids, d.file) }
	if slices.ContainsFunc(x.global, on) {
		return true
	}
	for _, list := range x.equality {
		if slices.ContainsFunc(list, on) {
			return true
		}
	}
	return false
}

func redefines(ids []int, d warehouse.DeleteFile) bool {
	return d.Kind == deleteEquality && slices.ContainsFunc(d.EqualityIDs, func(id int) bool { return slices.Contains(ids, id) })
}

// errEqualityColumn refuses a redaction while such deletes are live.
var errEqualityColumn = fmt.Errorf("a column to redact is compared by live equality deletes; compact the table so that they are applied, then redact: %w", warehouse.ErrAction)
