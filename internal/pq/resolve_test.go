package pq_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/pq"
)

func open(t testing.TB, b []byte) *pq.File {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// schemaFile is an empty file of a schema.
func schemaFile(t testing.TB, root parquet.Group) *pq.File {
	t.Helper()
	var buf bytes.Buffer
	w := parquet.NewWriter(&buf, parquet.NewSchema("root", root))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, buf.Bytes())
}

func nestedSchema(withIDs bool) parquet.Group {
	id := func(n parquet.Node, i int) parquet.Node {
		if withIDs {
			return parquet.FieldID(n, i)
		}
		return n
	}
	long := func() parquet.Node { return parquet.Leaf(parquet.Int64Type) }
	return parquet.Group{
		"a": id(parquet.Optional(parquet.List(parquet.Group{"b": id(long(), 3)})), 1),
		"m": id(parquet.Map(parquet.String(), id(long(), 6)), 4),
		"s": id(parquet.Group{"x.y": id(long(), 8), "z": id(parquet.Repeated(long()), 9)}, 7),
		"l": id(parquet.List(id(parquet.Optional(parquet.String()), 11)), 10),
	}
}

func TestPathsNameTheSameColumnInEverySpelling(t *testing.T) {
	f := schemaFile(t, nestedSchema(false))
	for want, spellings := range map[string][]string{
		"a.list.element.b":  {"a.list.element.b", "a.element.b", "$.a[*].b", "a[*].b"},
		"m.key_value.key":   {"m.key_value.key", "m.key", "$.m[*].key"},
		"m.key_value.value": {"m.key_value.value", "m.value", "$.m[*].value"},
		"s.x.y":             {"$.s['x.y']", "$['s']['x.y']"},
		"s.z":               {"s.z", "$.s.z[*]", "s.z.element"},
		"l.list.element":    {"l.list.element", "l.element", "$.l[*]"},
	} {
		for _, s := range spellings {
			path, err := pq.ParsePath(s)
			if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			col, err := f.Schema.Resolve(pq.Ref{Path: path})
			if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			if col.Name() != want {
				t.Errorf("%s is %s, want %s", s, col.Name(), want)
			}
		}
	}
}

func TestUnknownPathsAndGroupsAreRefused(t *testing.T) {
	f := schemaFile(t, nestedSchema(false))
	for path, want := range map[string]error{
		"nope": pq.ErrNotFound, "a.b": pq.ErrNotFound, "A.element.b": pq.ErrNotFound, "s.x": pq.ErrNotFound,
		"a.list.element.b.c": pq.ErrNotFound,
		"s":                  pq.ErrNotLeaf, "a": pq.ErrNotLeaf, "a.element": pq.ErrNotLeaf, "m": pq.ErrNotLeaf,
	} {
		if _, err := f.Schema.Resolve(pq.Ref{Path: strings.Split(path, ".")}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	for _, s := range []string{"", ".", "a..b", "$", "$.a[", "$.a[0]", "$['a", "$[*", "$x"} {
		if p, err := pq.ParsePath(s); err == nil {
			t.Errorf("%q parsed as %q", s, p)
		}
	}
}

// A field id decides alone where the file has ids: the name may have changed,
// or have been given to another column.
func TestFieldIDsDecideOverNames(t *testing.T) {
	f := schemaFile(t, nestedSchema(true))
	col, err := f.Schema.Resolve(pq.Ref{FieldID: 3, Path: []string{"renamed"}})
	if err != nil || col.Name() != "a.list.element.b" {
		t.Fatalf("%v, %v", col, err)
	}
	if _, err := f.Schema.Resolve(pq.Ref{FieldID: 99, Path: []string{"s", "z"}}); !errors.Is(err, pq.ErrNotFound) {
		t.Fatalf("a dropped column's name was taken for it: %v", err)
	}
	if _, err := f.Schema.Resolve(pq.Ref{FieldID: 1}); !errors.Is(err, pq.ErrNotLeaf) {
		t.Fatal(err)
	}
	// A file without ids, imported by name mapping, is found by name.
	f = schemaFile(t, nestedSchema(false))
	if col, err := f.Schema.Resolve(pq.Ref{FieldID: 99, Path: []string{"s", "z"}}); err != nil || col.Name() != "s.z" {
		t.Fatalf("%v, %v", col, err)
	}
}

func TestRepeatedAncestorsAreTheListsOnTheWay(t *testing.T) {
	f := schemaFile(t, parquet.Group{
		"a": parquet.Optional(parquet.List(parquet.Group{
			"b": parquet.Leaf(parquet.Int64Type),
			"c": parquet.List(parquet.String()),
		})),
	})
	b, c := f.Schema.Columns[0], f.Schema.Columns[1]
	if b.MaxRep != 1 || c.MaxRep != 2 || len(b.RepeatedAncestors()) != 1 || len(c.RepeatedAncestors()) != 2 {
		t.Fatal(b.MaxRep, c.MaxRep)
	}
	if b.RepeatedAncestors()[0] != c.RepeatedAncestors()[0] {
		t.Fatal("columns of one list do not share it")
	}
	for i, n := range c.RepeatedAncestors() {
		if n == nil || n.Rep != i+1 {
			t.Fatalf("ancestor %d: %+v", i, n)
		}
	}
}
