package verifier

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// pair writes an old file of n people and a new one changed by edit.
func pair(t testing.TB, n int, erase func(person) bool, edit func([]person) []person, opts ...parquet.WriterOption) (storage.Store, Rewrite) {
	store := storage.NewMem()
	old := people(n)
	writeParquet(t, store, "mem://b/old.parquet", old)
	rows := without(old, erase)
	if edit != nil {
		rows = edit(rows)
	}
	writeParquet(t, store, "mem://b/new.parquet", rows, opts...)
	return store, Rewrite{
		Old: warehouse.File{Path: "mem://b/old.parquet", Rows: int64(n)}, New: "mem://b/new.parquet",
		Matches: onID(keysOf(t, "int64", "5", "200", "999999"), 1, "id"),
	}
}

func erased(p person) bool { return p.ID == 5 || p.ID == 200 }

func TestEqualSurvivorsAreEqual(t *testing.T) {
	store, r := pair(t, 3500, erased, nil)
	rep, err := Survivors(context.Background(), store, r)
	if err != nil {
		t.Fatal(err)
	}
	if !rep.Equal || rep.Erased != 6 || rep.RowsOld != 3500 || rep.RowsNew != 3494 || !rep.ControlBefore || rep.ControlAfter || rep.Columns != 11 {
		t.Errorf("%+v", rep)
	}
}

// TestEveryChangeOfASurvivorIsSeen plants one change at a time.
func TestEveryChangeOfASurvivorIsSeen(t *testing.T) {
	at := func(change func(p *person)) func([]person) []person {
		return func(rows []person) []person { change(&rows[2222]); return rows }
	}
	s := "x"
	z := int32(1)
	for name, edit := range map[string]func([]person) []person{
		"int":            at(func(p *person) { p.ID = 12345 }),
		"string":         at(func(p *person) { p.Email = &s }),
		"string to null": func(rows []person) []person { rows[2223].Email = nil; return rows },
		"last bit":       at(func(p *person) { p.Score += 1e-13 }),
		"bool":           at(func(p *person) { p.Flag = !p.Flag }),
		"decimal":        at(func(p *person) { p.Amount++ }),
		"fixed":          at(func(p *person) { p.Fixed[7] = 1 }),
		"struct null":    at(func(p *person) { p.Addr = nil }),
		"struct member":  at(func(p *person) { p.Addr.City = "y" }),
		"nested null":    at(func(p *person) { p.Addr.Zip = &z }),
		"list element":   at(func(p *person) { p.Tags = append([]string{"new"}, p.Tags...) }),
		"list order": func(rows []person) []person {
			rows[7].Tags[0], rows[7].Tags[1] = rows[7].Tags[1], rows[7].Tags[0]
			return rows
		},
		"map value":             at(func(p *person) { p.Attrs = map[string]string{"q": ""} }),
		"order":                 func(rows []person) []person { rows[10], rows[11] = rows[11], rows[10]; return rows },
		"one row less":          func(rows []person) []person { return append(rows[:100], rows[101:]...) },
		"one row more":          func(rows []person) []person { return append(rows, rows[0]) },
		"row twice for another": func(rows []person) []person { rows[50] = rows[49]; return rows },
		"last row":              func(rows []person) []person { rows[len(rows)-1].Score = 0; return rows },
	} {
		t.Run(name, func(t *testing.T) {
			store, r := pair(t, 3500, erased, edit)
			rep, err := Survivors(context.Background(), store, r)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Equal || rep.Difference == "" {
				t.Errorf("%+v", rep)
			}
			if strings.Contains(rep.Difference, "example.com") {
				t.Errorf("a value in the report: %s", rep.Difference)
			}
		})
	}
}

func TestFooterChangesAreSeen(t *testing.T) {
	for name, opts := range map[string][]parquet.WriterOption{
		"codec":           {parquet.Compression(&parquet.Snappy)},
		"key-value value": {parquet.KeyValueMetadata("owner", "else")},
		"key-value added": {parquet.KeyValueMetadata("more", "x")},
	} {
		store, r := pair(t, 300, erased, nil, opts...)
		rep, err := Survivors(context.Background(), store, r)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Equal {
			t.Errorf("%s: not seen", name)
		}
	}
	// A field id that changed.
	type renumbered struct {
		ID int64 `parquet:"id,id(1)"`
		A  int64 `parquet:"a,id(2)"`
	}
	type renumbered2 struct {
		ID int64 `parquet:"id,id(1)"`
		A  int64 `parquet:"a,id(3)"`
	}
	store := storage.NewMem()
	writeParquet(t, store, "mem://b/old.parquet", []renumbered{{1, 2}, {5, 6}})
	writeParquet(t, store, "mem://b/new.parquet", []renumbered2{{1, 2}})
	rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old.parquet"}, New: "mem://b/new.parquet", Matches: onID(keysOf(t, "int64", "5"), 1)})
	if err != nil || rep.Equal || !strings.Contains(rep.Difference, "schema") {
		t.Errorf("%+v %v", rep, err)
	}
}

func TestSurvivingKeyFailsTheControl(t *testing.T) {
	store, r := pair(t, 600, func(p person) bool { return p.ID == 5 }, nil) // 200 is out of range: left nothing
	r.Matches = onID(keysOf(t, "int64", "5", "77"), 1)
	rep, err := Survivors(context.Background(), store, r)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Equal || !rep.ControlAfter || !rep.ControlBefore {
		t.Errorf("%+v", rep)
	}
}

func TestDroppedFileMayNotHaveSurvivors(t *testing.T) {
	store := storage.NewMem()
	rows := people(6) // ids 0, 0, 0, 1, 1, 1
	writeParquet(t, store, "mem://b/old.parquet", rows)
	for _, tc := range []struct {
		keys []string
		ok   bool
	}{{[]string{"0", "1"}, true}, {[]string{"0"}, false}} {
		rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old.parquet"}, Matches: onID(keysOf(t, "int64", tc.keys...), 1)})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Equal != tc.ok {
			t.Errorf("keys %v: %+v", tc.keys, rep)
		}
	}
}

// TestSurvivorsProperty: for random erasures, the filtered file is equal, and a
// file with one more row erased is not.
func TestSurvivorsProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 400).Draw(rt, "rows")
		ids := rapid.SliceOfNDistinct(rapid.IntRange(0, n/3), 1, 8, rapid.ID).Draw(rt, "ids")
		gone := map[int64]bool{}
		var keys []string
		for _, id := range ids {
			gone[int64(id)] = true
			keys = append(keys, fmt.Sprint(id))
		}
		store, r := pair(t, n, func(p person) bool { return gone[p.ID] }, nil, parquet.PageBufferSize(rapid.IntRange(64, 5000).Draw(rt, "page")))
		r.Matches = onID(keysOf(t, "int64", keys...), 1)
		rep, err := Survivors(context.Background(), store, r)
		if err != nil {
			rt.Fatal(err)
		}
		if !rep.Equal || rep.ControlAfter {
			rt.Fatalf("%+v", rep)
		}
	})
}
