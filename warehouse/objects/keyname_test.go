package objects

import (
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/scanner/ndjson"
	"github.com/expunge/expunge/warehouse"
)

func setOf(t *testing.T, schema keyset.Schema, keys ...[]string) *keyset.Set {
	t.Helper()
	b, err := keyset.NewBuilder("k", schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		parts := make([][]byte, len(key))
		for i, text := range key {
			if parts[i], err = schema[i].AppendText(nil, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Add(schema.AppendTuple(nil, parts...)); err != nil {
			t.Fatal(err)
		}
	}
	set, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestNamesThatHoldKeysAreKnown(t *testing.T) {
	id, mail := keyset.Part{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}, keyset.Part{Name: "email", Type: keyset.Type{Kind: keyset.KindString}}
	target := Open(nil, Config{Prefix: "s3://b/users/7", Format: "ndjson"})
	bound := []warehouse.BoundMatch{
		{Keys: setOf(t, keyset.Schema{id}, []string{"7"}, []string{"1042771"}, []string{"2026"})},
		{Keys: setOf(t, keyset.Schema{mail}, []string{"jane.doe@example.org"}, []string{"jd42"})},
		{Keys: setOf(t, keyset.Schema{id, mail}, []string{"99", "dev-1"})},
	}
	for rel, want := range map[string]bool{
		"x.ndjson": false, "7/x.ndjson": true, "7.ndjson": true, "7.ndjson.gz": true, "u=7/x.ndjson": true, "part-00007.ndjson": false,
		"day=2026-01-07/part-7-x.ndjson": false, "export-1042771.ndjson": true, "a/dt=20261125/1042771_x.ndjson": true, "01042771.ndjson": false,
		"jane.doe@example.org.ndjson": true, "mail=jane.doe%40example.org/x.ndjson": true, "of-jane.doe@example.org/x": false, "of_jd42_.json": true,
		"jd421.json": false, "dev-1/x": true, "99.json": true, "x-dev-1-y": false,
	} {
		if got := target.namesKey(target.prefix+rel, bound); got != want {
			t.Errorf("%s: %v, want %v", rel, got, want)
		}
	}
}

// TestKeysOfRecordsThatStayAreNotFound: a malformed record may name a key
// before it breaks off; it is kept, and its key was not found.
func TestKeysOfRecordsThatStayAreNotFound(t *testing.T) {
	set := setOf(t, keyset.Schema{{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}}, []string{"7"}, []string{"8"}, []string{"9"})
	store := storage.New(nil)
	path := "mem://keys/x.ndjson"
	if err := storage.WriteAll(t.Context(), store, path, []byte("{\"id\":7}\n{\"id\":8,\n{\"id\":1}\n"), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	src, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	f, err := ndjson.Scan(t.Context(), src, scanner.Records{Match: []scanner.Match{{Keys: set, Columns: []scanner.ColumnRef{{Path: []string{"id"}}}}}, KeepMalformed: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Keys[0].ToArray(); len(got) != 1 || got[0] != 0 || f.Malformed != 1 {
		t.Errorf("keys %v, %d malformed", got, f.Malformed)
	}
}
