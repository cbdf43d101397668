package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// hitsOf scans a file's bytes.
func hitsOf(t testing.TB, raw []byte, m []warehouse.BoundMatch) *roaring64.Bitmap {
	t.Helper()
	f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bound, err := bindFile(f, m)
	if err != nil {
		t.Fatal(err)
	}
	hits, err := scanKeys(context.Background(), f, bound)
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// many has a column of every stored type that can hold keys.
type many struct {
	I32   int32     `parquet:"i32"`
	U32   uint32    `parquet:"u32"`
	I64   int64     `parquet:"i64"`
	U64   uint64    `parquet:"u64"`
	D32   int32     `parquet:"d32,decimal(2:9)"`
	D64   int64     `parquet:"d64,decimal(2:18)"`
	DFix  [16]byte  `parquet:"dfix,decimal(2:38)"`
	Date  int32     `parquet:"date,date"`
	UUID  uuid.UUID `parquet:"uuid,uuid"`
	UText string    `parquet:"utext"`
	Text  string    `parquet:"text"`
	Bytes []byte    `parquet:"bytes"`
	Null  *int64    `parquet:"null,optional"`
}

var someUUID = uuid.MustParse("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")

func manyRows() []many {
	rows := make([]many, 10)
	for i := range rows {
		rows[i] = many{I32: -5, U32: 7, I64: 8, U64: 9, Text: "x", UText: "not a uuid", Bytes: []byte{9}}
	}
	r := &rows[6]
	r.I32, r.U32, r.I64, r.U64 = -2147483648, 4000000000, -9007199254740993, 1<<63-1
	r.D32, r.D64 = -1234, 100
	for i := range 15 {
		r.DFix[i] = 0xff
	}
	r.DFix[15] = 0x85 // -123
	r.Date, r.UUID, r.UText, r.Text, r.Bytes = 20759, someUUID, "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "  ÄNNE@Example.COM ", []byte{0, 255}
	rows[7].U64 = 1<<63 + 5 // beyond int64: never a key
	return rows
}

// TestEveryStoredTypeIsCompared: the key is found in row 6 and in no other.
func TestEveryStoredTypeIsCompared(t *testing.T) {
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", manyRows())
	part := func(typ string, norm ...string) keyset.Schema {
		ty, err := keyset.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		return keyset.Schema{{Name: "k", Type: ty, Normalize: norm}}
	}
	for _, tc := range []struct {
		col    string
		schema keyset.Schema
		key    string
	}{
		{"i32", part("int64"), "-2147483648"},
		{"u32", part("int64"), "4000000000"},
		{"i64", part("int64"), "-9007199254740993"},
		{"u64", part("int64"), "9223372036854775807"},
		{"d32", part("decimal(9,2)"), "-12.34"},
		{"d32", part("decimal(12,4)"), "-12.3400"},
		{"d64", part("decimal(5,0)"), "1"},
		{"d64", part("int64"), "1"},
		{"dfix", part("decimal(38,2)"), "-1.23"},
		{"i64", part("decimal(38,3)"), "-9007199254740993.000"},
		{"date", part("date"), "2026-11-02"},
		{"uuid", part("uuid"), someUUID.String()},
		{"utext", part("uuid"), someUUID.String()},
		{"text", part("string", "trim", "lowercase"), "Änne@example.com"},
		{"text", part("string", "nfc", "trim", "uppercase"), "änne@EXAMPLE.com"},
		{"text", part("string"), "  ÄNNE@Example.COM "},
		{"bytes", part("binary", "hex"), "00ff"},
	} {
		hits := hitsOf(t, raw, on(compositeKeys(t, tc.schema, []string{tc.key}), tc.col))
		if got := hits.ToArray(); !slices.Equal(got, []uint64{6}) {
			t.Errorf("%s as %s: rows %v, want 6", tc.col, tc.schema[0].Type, got)
		}
	}
	// NULL never matches, and zero is an ordinary value.
	if hits := hitsOf(t, raw, on(keysOf(t, "int64", "0"), "null")); !hits.IsEmpty() {
		t.Error("null matched 0")
	}
	if hits := hitsOf(t, raw, on(keysOf(t, "int64", "0"), "date0")); !hits.IsEmpty() {
		t.Error("an absent column matched")
	}
}

func TestTypesThatCannotBeComparedAreRefused(t *testing.T) {
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", manyRows())
	f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tc := range [][2]string{{"text", "int64"}, {"i64", "string"}, {"i32", "date"}, {"date", "int64"}, {"i64", "uuid"}, {"u64", "decimal(20,0)"}} {
		keys := map[string]string{"int64": "1", "string": "a", "date": "2026-01-01", "uuid": someUUID.String(), "decimal(20,0)": "1"}
		if _, err := bindFile(f, on(keysOf(t, tc[1], keys[tc[1]]), tc[0])); !errors.Is(err, warehouse.ErrType) {
			t.Errorf("%s as %s: %v", tc[0], tc[1], err)
		}
	}
}

// TestNestedKeysMatchTheirRow: struct members, list elements, map keys and
// values, and composite keys within one element.
func TestNestedKeysMatchTheirRow(t *testing.T) {
	type member struct {
		ID   int64  `parquet:"id"`
		Team string `parquet:"team"`
	}
	type room struct {
		Tenant  string             `parquet:"tenant"`
		Owner   struct{ ID int64 } `parquet:"owner"`
		Members []member           `parquet:"members,list"`
		Roles   map[string]int64   `parquet:"roles"`
	}
	rows := []room{
		{Tenant: "a", Members: []member{{1, "red"}, {2, "blue"}}},
		{Tenant: "a"},
		{Tenant: "b", Members: []member{{3, "red"}, {2, "green"}}, Roles: map[string]int64{"admin": 9}},
		{Tenant: "b", Members: []member{{2, "red"}}},
	}
	rows[1].Owner.ID = 77
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", rows)
	single := func(key string, path ...string) []warehouse.BoundMatch { return on(keysOf(t, "int64", key), path...) }
	str := func(s string) keyset.Part { return keyset.Part{Name: s, Type: keyset.Type{Kind: keyset.KindString}} }
	num := keyset.Part{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}
	both := func(set *keyset.Set, a, b []string) []warehouse.BoundMatch {
		return []warehouse.BoundMatch{{Keys: set, Columns: []warehouse.ColumnRef{{Path: a}, {Path: b}}}}
	}
	id, team, tenant := []string{"members", "element", "id"}, []string{"members", "element", "team"}, []string{"tenant"}
	for name, tc := range map[string]struct {
		m    []warehouse.BoundMatch
		want []uint64
	}{
		"struct member":         {single("77", "owner", "ID"), []uint64{1}},
		"list element":          {single("2", "members", "element", "id"), []uint64{0, 2, 3}},
		"map value":             {single("9", "roles", "value"), []uint64{2}},
		"map key":               {on(keysOf(t, "string", "admin"), "roles", "key"), []uint64{2}},
		"parts of one element":  {both(compositeKeys(t, keyset.Schema{num, str("team")}, []string{"2", "red"}), id, team), []uint64{3}},
		"row and element":       {both(compositeKeys(t, keyset.Schema{str("tenant"), num}, []string{"b", "2"}), tenant, id), []uint64{2, 3}},
		"parts of two elements": {both(compositeKeys(t, keyset.Schema{num, str("team")}, []string{"1", "blue"}), id, team), nil},
		"any of two matches":    {append(single("77", "owner", "ID"), single("9", "roles", "value")...), []uint64{1, 2}},
	} {
		if got := hitsOf(t, raw, tc.m).ToArray(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: rows %v, want %v", name, got, tc.want)
		}
	}
}

// TestColumnsAreFoundAcrossRenames: by field id, and by other names where a file has no ids.
func TestColumnsAreFoundAcrossRenames(t *testing.T) {
	type withID struct {
		Old int64 `parquet:"old_name,id(7)"`
		New int64 `parquet:"user_id,id(8)"`
	}
	type noID struct {
		Old int64 `parquet:"old_name"`
	}
	store := storage.NewMem()
	a := writeParquet(t, store, "mem://b/a", []withID{{1, 2}, {5, 6}})
	b := writeParquet(t, store, "mem://b/b", []noID{{1}, {5}})
	ref := warehouse.ColumnRef{FieldID: 7, Path: []string{"user_id"}, Names: [][]string{{"old_name"}}}
	m := []warehouse.BoundMatch{{Keys: keysOf(t, "int64", "5", "6"), Columns: []warehouse.ColumnRef{ref}}}
	if got := hitsOf(t, a, m).ToArray(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("by id: %v", got)
	}
	if got := hitsOf(t, b, m).ToArray(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("by name: %v", got)
	}
}

// TestDictionaryChunksWithAPlainPageAreRead: a chunk that falls back to plain
// pages is not judged by its dictionary.
func TestDictionaryChunksWithAPlainPageAreRead(t *testing.T) {
	type row struct {
		S string `parquet:"s,dict"`
	}
	rows := make([]row, 5000)
	for i := range rows {
		rows[i].S = fmt.Sprintf("value number %d, long enough to fill a dictionary", i)
	}
	raw := writeParquet(t, storage.NewMem(), "mem://b/f", rows, parquet.MaxRowsPerRowGroup(5000), parquet.DictionaryMaxBytes(20000))
	f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := rows[4999].S
	if got := hitsOf(t, raw, on(keysOf(t, "string", last), "s")).ToArray(); !slices.Equal(got, []uint64{4999}) {
		t.Errorf("rows %v", got)
	}
	if got := hitsOf(t, raw, on(keysOf(t, "string", "not there"), "s")); !got.IsEmpty() {
		t.Error("a stranger was found")
	}
}
