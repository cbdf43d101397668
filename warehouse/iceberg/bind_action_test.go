package iceberg

import (
	"errors"
	"strings"
	"testing"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// A column on which the table's layout or its rows' identity rests is not redacted.
func TestStructuralColumnsAreNotRedacted(t *testing.T) {
	nest := func(id int, name string, required bool) icebergo.NestedField {
		return icebergo.NestedField{ID: id, Name: name, Required: required, Type: icebergo.PrimitiveTypes.String}
	}
	outer := icebergo.NestedField{ID: 7, Name: "outer", Type: &icebergo.StructType{FieldList: []icebergo.NestedField{nest(8, "source", false), nest(9, "other", false)}}}
	schema := icebergo.NewSchemaWithIdentifiers(0, []int{3}, nest(1, "free", false), nest(2, "required", true), nest(3, "ident", true),
		nest(4, "sorted", false), nest(5, "part", false), nest(6, "void", false), outer)
	spec := icebergo.NewPartitionSpec(
		icebergo.PartitionField{SourceIDs: []int{5}, FieldID: 1000, Name: "part_bucket", Transform: icebergo.BucketTransform{NumBuckets: 4}},
		icebergo.PartitionField{SourceIDs: []int{6}, FieldID: 1001, Name: "void", Transform: icebergo.VoidTransform{}},
		icebergo.PartitionField{SourceIDs: []int{8}, FieldID: 1002, Name: "outer_source", Transform: icebergo.IdentityTransform{}})
	order, err := table.NewSortOrder(1, []table.SortField{{SourceIDs: []int{4}, Transform: icebergo.IdentityTransform{}, Direction: table.SortASC, NullOrder: table.NullsFirst}})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := table.NewMetadata(schema, &spec, order, "/wh/ns/t", icebergo.Properties{})
	if err != nil {
		t.Fatal(err)
	}
	for column, says := range map[string]string{
		"free": "", "void": "", "outer.other": "", "required": "required", "ident": "required", "sorted": "sorted by it",
		"part": "partitioned by it", "outer.source": "partitioned by it", "outer": "partitioned by it",
	} {
		_, err := bindAction(meta, warehouse.Selection{Action: warehouse.Action{Kind: warehouse.Redact, Null: []string{column}}})
		if says == "" && err != nil || says != "" && (!errors.Is(err, warehouse.ErrAction) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v; want %q", column, err, says)
		}
	}
	if why := structural(meta, []int{3}); !strings.Contains(why, "identifier") {
		t.Errorf("identifier field: %q", why)
	}
}

// Elements are removed from the innermost list or map that holds the key.
func TestElementsOfTheKeysOwnListAreRemoved(t *testing.T) {
	meta := planMetadata(t, planSchema(), nil)
	for _, c := range []struct {
		element, column, kind string
		want                  error
	}{
		{"tags", "tags.element", "string", nil},
		{"$.tags", "$.tags[*]", "string", nil},
		{"scores", "scores.value", "int64", nil},
		{"scores", "scores.key", "string", nil},
		{"scores", "tags.element", "string", warehouse.ErrAction},
		{"customer", "customer.id", "int64", warehouse.ErrAction},
	} {
		sel := selection(planKeys(t, keyset.Schema{part(t, c.kind)}, "1"), c.column)
		sel.Action = warehouse.Action{Kind: warehouse.RemoveElement, Element: c.element}
		b, err := bindAction(meta, sel)
		if !errors.Is(err, c.want) || err == nil && b.Element.FieldID == 0 {
			t.Errorf("%s by %s: %+v, %v; want %v", c.element, c.column, b, err, c.want)
		}
	}
}

// A redaction of a column that live equality deletes compare would bring their
// rows back: it is refused when they are there at planning, and when they land
// before the commit. Other columns' deletes do not matter.
func TestEqualityDeleteColumnsAreNotRedacted(t *testing.T) {
	setup := func() (*planLake, *eraser) {
		l := newPlanLake(t)
		l.create("t", 2, deleteSchema(), nil)
		l.append("t", rows(0, 20, 10)...)
		return l, l.eraser("t", "r1", 4)
	}
	redact := func(sel warehouse.Selection, column string) warehouse.Selection {
		sel.Action = warehouse.Action{Kind: warehouse.Redact, Null: []string{column}}
		return sel
	}
	plan := func(e *eraser, column string) error {
		_, err := e.tbl.Plan(e.l.ctx, redact(e.selection(), column), func(warehouse.Task) error { return nil }, func(string) error { return nil })
		return err
	}
	l, e := setup()
	l.deleteEqual("t", []int{2}, `{"id":5}`)
	if err := plan(e, "id"); !errors.Is(err, warehouse.ErrAction) {
		t.Errorf("plan with live equality deletes of the column: %v, want ErrAction", err)
	}
	if err := plan(e, "s"); err != nil {
		t.Errorf("plan with equality deletes of another column: %v", err)
	}
	l, e = setup()
	e.prepare()
	l.deleteEqual("t", []int{2}, `{"id":5}`)
	req := e.request()
	req.Redefined = []int{2}
	if _, err := e.tbl.Commit(l.ctx, req); !errors.Is(err, warehouse.ErrAction) {
		t.Errorf("commit after an equality delete of a redefined column: %v, want ErrAction", err)
	}
	req.Redefined = []int{3}
	if _, err := e.tbl.Commit(l.ctx, req); err != nil {
		t.Errorf("commit after an equality delete of another column: %v", err)
	}
}

// Constants are checked against the column's type before anything is read.
func TestConstantsAreValuesOfTheirColumn(t *testing.T) {
	p := icebergo.PrimitiveTypes
	for _, c := range []struct {
		t    icebergo.Type
		text string
		ok   bool
	}{
		{p.String, "", true}, {p.Bool, "true", true}, {p.Bool, "maybe", false}, {p.Int32, "-7", true}, {p.Int32, "3000000000", false},
		{p.Int64, "3000000000", true}, {p.Float32, "0.5", true}, {p.Float64, "x", false}, {p.Date, "1970-01-01", true}, {p.Date, "1970-13-01", false},
		{p.Timestamp, "1970-01-01T00:00:00", true}, {p.TimestampTz, "1970-01-01T00:00:00Z", true}, {p.TimestampTz, "yesterday", false},
		{p.UUID, "00000000-0000-0000-0000-000000000000", true}, {p.UUID, "0", false}, {icebergo.DecimalTypeOf(5, 2), "999.99", true},
		{icebergo.DecimalTypeOf(5, 2), "1000", false}, {icebergo.DecimalTypeOf(5, 2), "0.001", false}, {icebergo.FixedTypeOf(2), "0xffff", true},
		{icebergo.FixedTypeOf(2), "abc", false}, {p.Time, "00:00:00", false}, {p.Binary, "any", true},
	} {
		if err := constantFits(c.t, c.text); (err == nil) != c.ok {
			t.Errorf("%s %q: %v", c.t, c.text, err)
		}
	}
}
