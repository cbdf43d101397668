package verifier

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// person is a row with everything that makes comparing rows hard: nulls, a
// struct, a list of structs, a map, floats, INT96 and a repeated string.
type person struct {
	ID     int64             `parquet:"id,dict,id(1)"`
	Email  *string           `parquet:"email,optional,dict,id(2)"`
	Score  float64           `parquet:"score,id(3)"`
	Addr   *address          `parquet:"addr,optional,id(4)"`
	Tags   []string          `parquet:"tags,list,id(6)"`
	Attrs  map[string]string `parquet:"attrs,id(9)"`
	Flag   bool              `parquet:"flag,id(12)"`
	Amount int32             `parquet:"amount,decimal(2:9),id(13)"`
	Fixed  [16]byte          `parquet:"fixed,uuid,id(14)"`
}

type address struct {
	City string `parquet:"city,dict,id(5)"`
	Zip  *int32 `parquet:"zip,optional,id(15)"`
}

func makePerson(i int) person {
	p := person{ID: int64(i / 3), Score: float64(i) / 7, Flag: i%5 == 0, Amount: int32(i * 11)}
	if i%4 != 0 {
		e := fmt.Sprintf("user%d@example.com", i/3)
		p.Email = &e
	}
	if i%3 != 0 {
		p.Addr = &address{City: fmt.Sprintf("city %d", i%10)}
		if i%2 == 0 {
			z := int32(10000 + i)
			p.Addr.Zip = &z
		}
	}
	for j := range i % 4 {
		p.Tags = append(p.Tags, fmt.Sprintf("tag%d", (i+j)%7))
	}
	if i%6 == 1 {
		p.Attrs = map[string]string{"k": fmt.Sprint(i)}
	}
	p.Fixed[0], p.Fixed[15] = byte(i), byte(i>>8)
	return p
}

func people(n int) []person {
	out := make([]person, n)
	for i := range out {
		out[i] = makePerson(i)
	}
	return out
}

// writeParquet writes rows in row groups of 1000 with small pages.
func writeParquet[T any](t testing.TB, store storage.Store, path string, rows []T, opts ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	all := append([]parquet.WriterOption{
		parquet.PageBufferSize(2000), parquet.MaxRowsPerRowGroup(1000), parquet.Compression(&parquet.Zstd),
		parquet.KeyValueMetadata("owner", "tests"),
	}, opts...)
	w := parquet.NewGenericWriter[T](&b, all...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, store, path, b.Bytes())
	return b.Bytes()
}

func put(t testing.TB, store storage.Store, path string, data []byte) {
	t.Helper()
	if err := storage.WriteAll(context.Background(), store, path, data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// keysOf builds a keyset of one part.
func keysOf(t testing.TB, typ string, keys ...string) *keyset.Set {
	t.Helper()
	ty, err := keyset.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	return compositeKeys(t, keyset.Schema{{Name: "k", Type: ty}}, split(keys)...)
}

func split(keys []string) (out [][]string) {
	for _, k := range keys {
		out = append(out, []string{k})
	}
	return out
}

func compositeKeys(t testing.TB, s keyset.Schema, keys ...[]string) *keyset.Set {
	t.Helper()
	b, err := keyset.NewBuilder("test", s)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := b.AddText(k...); err != nil {
			t.Fatal(err)
		}
	}
	set, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// on binds a single-part keyset to a column path.
func on(set *keyset.Set, path ...string) []warehouse.BoundMatch {
	return []warehouse.BoundMatch{{Keys: set, Columns: []warehouse.ColumnRef{{Path: path}}}}
}

func onID(set *keyset.Set, id int, path ...string) []warehouse.BoundMatch {
	return []warehouse.BoundMatch{{Keys: set, Columns: []warehouse.ColumnRef{{FieldID: id, Path: path}}}}
}

func without(rows []person, drop func(person) bool) (out []person) {
	for _, r := range rows {
		if !drop(r) {
			out = append(out, r)
		}
	}
	return out
}
