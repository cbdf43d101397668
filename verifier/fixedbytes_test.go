package verifier

import (
	"context"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

type hashed struct {
	ID    int64   `parquet:"id"`
	Plain [3]byte `parquet:"plain"`
	Delta [3]byte `parquet:"delta,delta"`
}

// Fixed-length byte arrays in DELTA_BYTE_ARRAY, which arrow-go does not decode,
// are compared like all others.
func TestDeltaEncodedFixedBytesAreCompared(t *testing.T) {
	for _, version := range []int{1, 2} {
		var rows []hashed
		for i := range 3000 {
			r := hashed{ID: int64(i), Plain: [3]byte{1, byte(i)}, Delta: [3]byte{byte(i), byte(i >> 8), 7}}
			rows = append(rows, r)
		}
		store := storage.NewMem()
		write := func(path string, rows []hashed) {
			out, err := store.Create(t.Context(), path, storage.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w := parquet.NewGenericWriter[hashed](out, parquet.DataPageVersion(version), parquet.PageBufferSize(2000), parquet.Compression(&parquet.Snappy))
			if _, err := w.Write(rows); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
		}
		write("mem://b/old", rows)
		survivors := append(append([]hashed{}, rows[:7]...), rows[8:]...)
		write("mem://b/new", survivors)
		changed := append([]hashed{}, survivors...)
		changed[2000].Delta[1] ^= 1
		write("mem://b/changed", changed)
		for path, equal := range map[string]bool{"mem://b/new": true, "mem://b/changed": false} {
			rep, err := Survivors(context.Background(), store, Rewrite{Old: warehouse.File{Path: "mem://b/old"}, New: path, Matches: on(keysOf(t, "int64", "7"), "id")})
			if err != nil {
				t.Fatalf("v%d: %v", version, err)
			}
			if rep.Equal != equal || rep.Erased != 1 {
				t.Errorf("v%d, %s: %+v", version, path, rep)
			}
		}
	}
}
