package iceberg

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

func planMetadata(t *testing.T, schema *icebergo.Schema, props icebergo.Properties) table.Metadata {
	t.Helper()
	if props == nil {
		props = icebergo.Properties{}
	}
	m, err := table.NewMetadata(schema, icebergo.UnpartitionedSpec, table.UnsortedSortOrder, "/wh/ns/t", props)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFieldPathsLeadToLeavesInStructsListsAndMaps(t *testing.T) {
	schema := planSchema()
	for path, id := range map[string]int{
		"id":              1,
		"$.id":            1,
		"customer.id":     7,
		"$.customer.mail": 8,
		"tags.element":    10,
		"$.tags[*]":       10,
		"scores.key":      14,
		"scores.value":    15,
		"$.scores.value":  15,
		"customer":        6,
		"tags":            9,
	} {
		f, err := findField(schema, path)
		if err != nil || f.leaf().ID != id {
			t.Errorf("%s: id %v, err %v; want %d", path, f.chain, err, id)
		}
	}
	for _, path := range []string{"", "$", "ID", "customer.x", "tags.x", "tags[*].x", "id.x", "a..b", "customer.id.element"} {
		if _, err := findField(schema, path); !errors.Is(err, warehouse.ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", path, err)
		}
	}
}

func TestFieldNamesMayHoldDots(t *testing.T) {
	schema := icebergo.NewSchema(0,
		icebergo.NestedField{ID: 1, Name: "a.b", Type: icebergo.PrimitiveTypes.Int64},
		icebergo.NestedField{ID: 2, Name: "a", Type: &icebergo.StructType{FieldList: []icebergo.NestedField{
			{ID: 3, Name: "b.c", Type: icebergo.PrimitiveTypes.Int64},
		}}},
	)
	for path, id := range map[string]int{"a.b": 1, "a.b.c": 3} {
		f, err := findField(schema, path)
		if err != nil || f.leaf().ID != id {
			t.Errorf("%s: %v %v, want %d", path, f.chain, err, id)
		}
	}
}

func TestNameMappingSpellsOutEveryAlternative(t *testing.T) {
	id := func(n int) *int { return &n }
	nm := icebergo.NameMapping{
		{FieldID: id(6), Names: []string{"customer", "client"}, Fields: []icebergo.MappedField{
			{FieldID: id(7), Names: []string{"id", "no"}},
		}},
	}
	f, err := findField(planSchema(), "customer.id")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"customer", "no"}, {"client", "id"}, {"client", "no"}}
	if d := cmp.Diff(want, mappedPaths(nm, f)); d != "" {
		t.Error(d)
	}
	if got := mappedPaths(nil, f); got != nil {
		t.Errorf("no mapping gives %v", got)
	}
}

func TestBindNamesColumnAndTypesItCannotCompare(t *testing.T) {
	meta := planMetadata(t, planSchema(), nil)
	keys := map[string]*keyset.Set{
		"int64":        planKeys(t, keyset.Schema{part(t, "int64")}, "1"),
		"string":       planKeys(t, keyset.Schema{part(t, "string")}, "a"),
		"uuid":         planKeys(t, keyset.Schema{part(t, "uuid")}, "00112233-4455-6677-8899-aabbccddeeff"),
		"date":         planKeys(t, keyset.Schema{part(t, "date")}, "2024-01-02"),
		"decimal(9,2)": planKeys(t, keyset.Schema{part(t, "decimal(9,2)")}, "1.50"),
	}
	ok := map[string][]string{
		"int64":        {"id", "customer.id", "scores.value"},
		"string":       {"sid", "tags.element", "scores.key", "customer.mail"},
		"uuid":         {"uid", "sid"},
		"date":         {"day"},
		"decimal(9,2)": {"num"},
	}
	all := []string{"id", "sid", "num", "day", "ts", "customer", "customer.id", "tags", "tags.element", "uid", "bin", "scores.key", "scores.value", "customer.mail"}
	for kind, set := range keys {
		for _, col := range all {
			_, err := bindMatch(meta, warehouse.Match{Keyset: "users", Keys: set, Columns: []string{col}})
			switch {
			case slices.Contains(ok[kind], col):
				if err != nil {
					t.Errorf("%s against %s: %v", col, kind, err)
				}
			case col == "ts" || col == "customer" || col == "tags" || (kind == "int64" && col == "uid"):
				if !errors.Is(err, warehouse.ErrType) {
					t.Errorf("%s against %s: %v, want ErrType", col, kind, err)
				}
				if err != nil && !(containsAll(err.Error(), fmt.Sprintf("%q", col), kind)) {
					t.Errorf("%s against %s: the message does not name both: %v", col, kind, err)
				}
			}
		}
	}
}

func TestBindRefusesWrongShapes(t *testing.T) {
	meta := planMetadata(t, planSchema(), nil)
	pair := planKeys(t, keyset.Schema{{Name: "a", Type: keyset.Type{Kind: keyset.KindString}}, {Name: "b", Type: keyset.Type{Kind: keyset.KindInt64}}}, "x|1")
	for _, c := range []struct {
		cols []string
		want error
	}{
		{[]string{"sid"}, warehouse.ErrType},
		{[]string{"sid", "id", "id"}, warehouse.ErrType},
		{[]string{"sid", "nope"}, warehouse.ErrNotFound},
		{[]string{"tags.element", "id"}, warehouse.ErrType},
		{[]string{"tags.element", "scores.value"}, warehouse.ErrType},
	} {
		if _, err := bindMatch(meta, warehouse.Match{Keyset: "k", Keys: pair, Columns: c.cols}); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.cols, err, c.want)
		}
	}
	for _, cols := range [][]string{{"sid", "id"}, {"scores.key", "scores.value"}, {"customer.mail", "customer.id"}} {
		if _, err := bindMatch(meta, warehouse.Match{Keyset: "k", Keys: pair, Columns: cols}); err != nil {
			t.Errorf("%v: %v", cols, err)
		}
	}
}

func TestBindFollowsRenamesAndTellsOfDroppedColumns(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	tx := l.raw("t").NewTransaction()
	us := tx.UpdateSchema(true, true).
		RenameColumn([]string{"id"}, "user_id").
		RenameColumn([]string{"customer", "mail"}, "email").
		DeleteColumn([]string{"bin"})
	if err := us.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		t.Fatal(err)
	}
	tbl := l.open("t")
	s := planKeys(t, keyset.Schema{part(t, "string")}, "a")
	b, err := tbl.Bind(l.ctx, selection(s, "customer.email"))
	if err != nil || b[0].Columns[0].FieldID != 8 {
		t.Fatalf("renamed column: %v %v", b, err)
	}
	for col, hint := range map[string]string{"id": "user_id", "customer.mail": "customer.email", "bin": "dropped"} {
		_, err := tbl.Bind(l.ctx, selection(s, col))
		if !errors.Is(err, warehouse.ErrNotFound) || !containsAll(err.Error(), hint) {
			t.Errorf("%s: %v, want ErrNotFound with %q", col, err, hint)
		}
	}
}

func TestInitialDefaultThatIsAKeyIsBoundAsAConstant(t *testing.T) {
	schema := icebergo.NewSchema(0,
		icebergo.NestedField{ID: 1, Name: "id", Type: icebergo.PrimitiveTypes.Int64, InitialDefault: float64(7)},
		icebergo.NestedField{ID: 2, Name: "sid", Type: icebergo.PrimitiveTypes.String, InitialDefault: "none"},
		icebergo.NestedField{ID: 3, Name: "odd", Type: icebergo.PrimitiveTypes.Int64, InitialDefault: 1e300},
	)
	meta := planMetadata(t, schema, icebergo.Properties{"format-version": "3"})
	for _, c := range []struct {
		col, typ, key string
		rules         []string
		is, refused   bool
	}{
		{col: "id", typ: "int64", key: "7", is: true}, {col: "id", typ: "int64", key: "8"},
		{col: "sid", typ: "string", key: "none", is: true}, {col: "sid", typ: "string", key: "x"},
		{col: "sid", typ: "string", key: "x", rules: []string{"lowercase"}, refused: true}, {col: "odd", typ: "int64", key: "7", refused: true},
	} {
		b, err := bindMatch(meta, warehouse.Match{Keys: planKeys(t, keyset.Schema{part(t, c.typ, c.rules...)}, c.key), Columns: []string{c.col}})
		if errors.Is(err, warehouse.ErrUnsupported) != c.refused || (err != nil && !c.refused) {
			t.Errorf("%v: %v", c, err)
		}
		if err == nil && (b.Columns[0].Const != nil) != c.is {
			t.Errorf("%v: constant %x", c, b.Columns[0].Const)
		}
	}
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}
