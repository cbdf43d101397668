package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
)

type indexed struct {
	ID    int64    `parquet:"id,dict"`
	Email *string  `parquet:"email,optional,dict"`
	Tags  []string `parquet:"tags,list,dict"`
}

// TestIndexesSayWhatValuesSay: pages that refer to a dictionary are told by
// their indexes, without values. The rows are those that decoding finds, whatever
// the page version, the levels and the fallback to plain pages within a chunk.
func TestIndexesSayWhatValuesSay(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	var found uint64
	for trial := range 60 {
		distinct := []int{3, 40, 700}[trial%3]
		rows := make([]indexed, 2500)
		for i := range rows {
			rows[i].ID = int64(rng.IntN(distinct))
			if rng.IntN(4) > 0 {
				e := fmt.Sprintf("user%d@example.com", rng.IntN(distinct))
				rows[i].Email = &e
			}
			for range rng.IntN(4) {
				rows[i].Tags = append(rows[i].Tags, fmt.Sprintf("user%d@example.com", rng.IntN(distinct)))
			}
		}
		opts := []parquet.WriterOption{parquet.DataPageVersion(1 + trial%2), parquet.PageBufferSize(700 + rng.IntN(3000)), parquet.MaxRowsPerRowGroup(1000)}
		if trial%5 > 2 {
			opts = append(opts, parquet.DictionaryMaxBytes(2000)) // plain pages follow
		}
		raw := writeParquet(t, storage.NewMem(), "mem://b/f", rows, opts...)
		f, err := newParquet(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		some, none := fmt.Sprint(rng.IntN(distinct)), fmt.Sprint(distinct+5)
		for _, key := range []string{some, none} {
			mail := "user" + key + "@example.com"
			for path, set := range map[string][]string{"id": {key}, "email": {mail}, "tags": {mail}} {
				typ, at := "string", []string{path}
				switch path {
				case "id":
					typ = "int64"
				case "tags":
					at = []string{"tags", "element"}
				}
				bound, err := bindFile(f, on(keysOf(t, typ, set...), at...))
				if err != nil || bound[0] == nil {
					t.Fatal(bound, err)
				}
				got, err := scanKeys(context.Background(), f, bound)
				if err != nil {
					t.Fatal(err)
				}
				if want := decodedHits(t, f, bound[0]); !got.Equals(want) || key == none && !want.IsEmpty() {
					t.Errorf("trial %d, %s: %d rows, decoding finds %d", trial, path, got.GetCardinality(), want.GetCardinality())
				}
				found += got.GetCardinality()
			}
		}
	}
	if found == 0 {
		t.Error("no file held a key")
	}
}

// decodedHits decodes every value of the column.
func decodedHits(t *testing.T, f *parquetFile, b *boundKeys) *roaring64.Bitmap {
	t.Helper()
	l := f.leaf(context.Background(), b.cols[0])
	defer l.close()
	p, err := newProbe(b)
	if err != nil {
		t.Fatal(err)
	}
	hits, rows := roaring64.New(), newRowCounter()
	for {
		bt, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if bt == nil {
			return hits
		}
		rows.mark(bt, l.maxDef(), p.sel(bt), hits)
	}
}

// TestPackedIndexesOfAnyWidth: the quick way of reading them agrees with the
// one that reads bit by bit, to the last value, and indexes that are no entry are errors.
func TestPackedIndexesOfAnyWidth(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 3000 {
		width, n := 1+rng.IntN(20), 1+rng.IntN(70)
		b := make([]byte, (n*width+7)/8+rng.IntN(3))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		wanted := make([]byte, 1<<width)
		for i := range wanted {
			wanted[i] = byte(rng.IntN(2))
		}
		var want []int32
		var highest uint64
		at := int32(7)
		if err := unpack(b, width, n, func(v uint64, _ int) error {
			if wanted[v] != 0 {
				want = append(want, at)
			}
			at, highest = at+1, max(highest, v)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		got, err := selectPacked(nil, 7, b, width, n, wanted)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("width %d, %d values: %v, %v, want %v", width, n, got, err, want)
		}
		if _, err := selectPacked(nil, 7, b, width, n, wanted[:highest]); !errors.Is(err, errCorrupt) {
			t.Fatalf("width %d, %d values: an index beyond the dictionary: %v", width, n, err)
		}
		if _, err := selectPacked(nil, 7, b[:(n*width+7)/8-1], width, n, wanted); !errors.Is(err, errCorrupt) {
			t.Fatalf("width %d, %d values: too few bytes: %v", width, n, err)
		}
	}
}
