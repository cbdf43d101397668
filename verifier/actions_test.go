package verifier

import (
	"context"
	"slices"
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

type contact struct {
	ID    int64   `parquet:"id"`
	Name  *string `parquet:"name,optional"`
	City  string  `parquet:"city"`
	Score int64   `parquet:"score"`
}

// TestRedactionIsCompared: matching rows hold the declared value, all else is as before.
func TestRedactionIsCompared(t *testing.T) {
	name := func(s string) *string { return &s }
	old := []contact{{1, name("anna"), "Ulm", 5}, {2, name("berta"), "Bonn", 6}, {3, nil, "Kiel", 7}}
	constant := "REDACTED"
	action := &warehouse.BoundAction{Kind: warehouse.Redact, Redact: []warehouse.BoundRedaction{
		{Column: warehouse.ColumnRef{Path: []string{"name"}}}, {Column: warehouse.ColumnRef{Path: []string{"city"}}, Constant: &constant},
	}}
	for what, tc := range map[string]struct {
		change func(r []contact)
		equal  bool
	}{
		"as declared":          {func(r []contact) {}, true},
		"not redacted":         {func(r []contact) { r[1].City = "Bonn" }, false},
		"null left out":        {func(r []contact) { r[1].Name = name("berta") }, false},
		"other constant":       {func(r []contact) { r[1].City = "GONE" }, false},
		"another row redacted": {func(r []contact) { r[0].City = "REDACTED" }, false},
		"another column":       {func(r []contact) { r[1].Score = 0 }, false},
	} {
		rows := slices.Clone(old)
		rows[1].Name, rows[1].City = nil, "REDACTED"
		tc.change(rows)
		store := storage.NewMem()
		writeParquet(t, store, "mem://b/old", old)
		writeParquet(t, store, "mem://b/new", rows)
		rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Action: action, Matches: on(keysOf(t, "int64", "2"), "id")})
		if err != nil {
			t.Fatal(err)
		}
		left := what == "not redacted" || what == "null left out" || what == "other constant"
		if rep.Equal != tc.equal || !rep.ControlBefore || rep.ControlAfter != left || rep.Changed != 1 || rep.Erased != 0 {
			t.Errorf("%s: %+v", what, rep)
		}
	}
}

type person2 struct {
	ID   int64    `parquet:"id"`
	Tags []string `parquet:"tags,list"`
}

type chat struct {
	Room    string    `parquet:"room"`
	Members []person2 `parquet:"members,list"`
	Other   []string  `parquet:"other,list"`
}

// TestRemovedElementsAreCompared: the matching elements are gone, their
// neighbours and the rows are as before, and an emptied list is empty.
func TestRemovedElementsAreCompared(t *testing.T) {
	old := []chat{
		{"a", []person2{{1, []string{"x", "y"}}, {2, nil}, {3, []string{"z"}}}, []string{"o"}},
		{"b", nil, nil},
		{"c", []person2{{2, []string{"q"}}}, nil},
		{"d", []person2{{4, nil}, {2, []string{"r"}}, {2, nil}}, []string{"p", "q"}},
	}
	good := func() []chat {
		return []chat{
			{"a", []person2{{1, []string{"x", "y"}}, {3, []string{"z"}}}, []string{"o"}},
			{"b", nil, nil},
			{"c", []person2{}, nil},
			{"d", []person2{{4, nil}}, []string{"p", "q"}},
		}
	}
	action := &warehouse.BoundAction{Kind: warehouse.RemoveElement, Element: warehouse.ColumnRef{Path: []string{"members"}}}
	for what, tc := range map[string]struct {
		change func(r []chat)
		equal  bool
	}{
		"as declared":       {func(r []chat) {}, true},
		"one left":          {func(r []chat) { r[3].Members = append(r[3].Members, person2{2, nil}) }, false},
		"neighbour gone":    {func(r []chat) { r[0].Members = r[0].Members[:1] }, false},
		"neighbour changed": {func(r []chat) { r[0].Members[1].Tags = []string{"zz"} }, false},
		"another list":      {func(r []chat) { r[3].Other = r[3].Other[:1] }, false},
		"another column":    {func(r []chat) { r[1].Room = "B" }, false},
	} {
		rows := good()
		tc.change(rows)
		store := storage.NewMem()
		writeParquet(t, store, "mem://b/old", old)
		writeParquet(t, store, "mem://b/new", rows)
		rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: "mem://b/new", Action: action, Matches: on(keysOf(t, "int64", "2"), "members", "element", "id")})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Equal != tc.equal || rep.ControlAfter != (what == "one left") {
			t.Errorf("%s: %+v", what, rep)
		}
	}
}
