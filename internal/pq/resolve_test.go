package pq_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

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

// elem is a schema element of a footer made by hand.
func elem(name string, rep format.FieldRepetitionType, children int32, typ format.Type, conv deprecated.ConvertedType) format.SchemaElement {
	e := format.SchemaElement{Name: name}
	e.RepetitionType.Set(rep)
	if children > 0 {
		e.NumChildren.Set(children)
	} else {
		e.Type.Set(typ)
	}
	if conv >= 0 {
		e.ConvertedType.Set(conv)
	}
	return e
}

// Lists and maps in the shapes of older writers (LogicalTypes.md, "Backward
// compatibility rules") have the same logical paths as today's.
func TestLegacyListsAndMapsHaveLogicalPaths(t *testing.T) {
	const none = deprecated.ConvertedType(-1)
	group := func(name string, rep format.FieldRepetitionType, n int32, conv deprecated.ConvertedType) format.SchemaElement {
		return elem(name, rep, n, 0, conv)
	}
	leaf := func(name string, rep format.FieldRepetitionType) format.SchemaElement {
		return elem(name, rep, 0, format.Int64, none)
	}
	m := format.FileMetaData{Version: 1, Schema: []format.SchemaElement{
		group("root", format.Required, 6, none),
		group("two", format.Optional, 1, deprecated.List), leaf("element", format.Repeated),
		group("arr", format.Optional, 1, deprecated.List), group("array", format.Repeated, 1, none), leaf("b", format.Optional),
		group("tup", format.Optional, 1, deprecated.List), group("tup_tuple", format.Repeated, 1, none), leaf("b", format.Required),
		group("hive", format.Optional, 1, deprecated.List), group("bag", format.Repeated, 1, none), leaf("array_element", format.Optional),
		group("pair", format.Optional, 1, deprecated.List), group("x", format.Repeated, 2, none), leaf("b", format.Required), leaf("c", format.Required),
		group("mkv", format.Optional, 1, deprecated.MapKeyValue), group("map", format.Repeated, 2, deprecated.MapKeyValue), leaf("key", format.Required), leaf("value", format.Optional),
	}}
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), m)
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte("PAR1"), footer...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
	f := open(t, append(b, "PAR1"...))
	for want, spellings := range map[string][]string{
		"two.element":            {"two.element", "$.two[*]"},
		"arr.array.b":            {"arr.element.b", "$.arr[*].b", "arr.array.b"},
		"tup.tup_tuple.b":        {"tup.element.b", "$.tup[*].b"},
		"hive.bag.array_element": {"hive.element", "$.hive[*]", "hive.bag.array_element"},
		"pair.x.c":               {"pair.element.c", "$.pair[*].c"},
		"mkv.map.value":          {"mkv.value", "$.mkv[*].value", "mkv.map.value"},
	} {
		for _, s := range spellings {
			path, err := pq.ParsePath(s)
			if err != nil {
				t.Fatal(err)
			}
			if col, err := f.Schema.Resolve(pq.Ref{Path: path}); err != nil || col.Name() != want {
				t.Errorf("%s: %v, %v, want %s", s, col, err, want)
			}
		}
	}
}
