package verifier

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

type flat struct {
	ID int64  `parquet:"id,id(1)"`
	N  *int64 `parquet:"n,optional,id(2)"`
}

func flatRows(n int) []flat {
	rows := make([]flat, n)
	for i := range rows {
		rows[i].ID = int64(i)
		if i%3 != 0 {
			v := int64(i % 5)
			rows[i].N = &v
		}
	}
	return rows
}

// vectorBlob is a deletion vector as the Puffin specification lays it out.
func vectorBlob(t testing.TB, positions ...uint64) []byte {
	t.Helper()
	bm, err := roaring64.BitmapOf(positions...).ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	body := append(slices.Clone(dvMagic), bm...)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	out = append(out, body...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
}

type posDelete struct {
	Path string `parquet:"file_path,id(2147483546)"`
	Pos  int64  `parquet:"pos,id(2147483545)"`
}

// TestTombstonesOfAllKindsAreApplied, and rows they hide are neither survivors nor erased.
func TestTombstonesOfAllKindsAreApplied(t *testing.T) {
	ctx := context.Background()
	store := storage.NewMem()
	rows := flatRows(30)
	writeParquet(t, store, "mem://b/old", rows)
	writeParquet(t, store, "mem://b/pos", []posDelete{{"mem://b/old", 3}, {"mem://b/other", 4}, {"mem://b/old", 7}})
	type eq struct {
		N *int64 `parquet:"n,optional,id(2)"`
	}
	four := int64(4)
	writeParquet(t, store, "mem://b/eq", []eq{{&four}})
	blob := vectorBlob(t, 10, 999)
	put(t, store, "mem://b/dv", append([]byte("PFA1...."), blob...))
	deletes := []warehouse.DeleteFile{
		{Kind: "position", Path: "mem://b/pos"},
		{Kind: "equality", Path: "mem://b/eq", EqualityIDs: []int{2}},
		{Kind: "dv", Path: "mem://b/dv", ContentOffset: 8, ContentSize: int64(len(blob))},
	}
	gone := map[int]bool{3: true, 7: true, 10: true}
	for i, r := range rows {
		if r.N != nil && *r.N == 4 {
			gone[i] = true
		}
	}
	var left []flat
	for i, r := range rows {
		if !gone[i] && i != 20 && i != 10 {
			left = append(left, r)
		}
	}
	writeParquet(t, store, "mem://b/new", left)
	rep, err := Survivors(ctx, store, Rewrite{
		Old: warehouse.File{Path: "mem://b/old", Deletes: deletes}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", "20", "10"), 1)})
	if err != nil {
		t.Fatal(err)
	}
	if !rep.Equal || rep.Erased != 1 || rep.AlreadyDeleted != int64(len(gone)) {
		t.Errorf("%+v, want 1 erased, %d deleted", rep, len(gone))
	}
	// A row that a tombstone hid and that came back is seen.
	writeParquet(t, store, "mem://b/new", append(left, rows[3]))
	if rep, err = Survivors(ctx, store, Rewrite{Old: warehouse.File{Path: "mem://b/old", Deletes: deletes}, New: "mem://b/new", Matches: onID(keysOf(t, "int64", "20", "10"), 1)}); err != nil || rep.Equal {
		t.Errorf("resurrected: %+v %v", rep, err)
	}
}

// TestEqualityDeletesTreatNullAsEqual, and a column that the file lacks as null.
func TestEqualityDeletesTreatNullAsEqual(t *testing.T) {
	ctx := context.Background()
	store := storage.NewMem()
	writeParquet(t, store, "mem://b/old", flatRows(9))
	type eq struct {
		N     *int64  `parquet:"n,optional,id(2)"`
		Added *string `parquet:"added,optional,id(99)"`
	}
	s := "x"
	one := int64(1)
	writeParquet(t, store, "mem://b/eq", []eq{{nil, nil}, {&one, &s}})
	f, err := openParquet(ctx, store, "mem://b/old")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := deletedRows(ctx, store, f, "mem://b/old", []warehouse.DeleteFile{{Kind: "equality", Path: "mem://b/eq", EqualityIDs: []int{2, 99}}})
	if err != nil || !slices.Equal(got.ToArray(), []uint64{0, 3, 6}) {
		t.Errorf("%v %v", got, err)
	}
}

func TestDamagedVectorIsAnError(t *testing.T) {
	blob := vectorBlob(t, 1, 5, 1<<33)
	if bm, err := parseVector(blob); err != nil || bm.GetCardinality() != 3 {
		t.Fatal(bm, err)
	}
	for i := range blob {
		b := slices.Clone(blob)
		b[i] ^= 1
		if _, err := parseVector(b); !errors.Is(err, errCorrupt) {
			t.Errorf("flip at %d: %v", i, err)
		}
	}
}

func FuzzParseVector(f *testing.F) {
	f.Add(vectorBlob(f, 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bm, err := parseVector(b); err == nil {
			bm.GetCardinality()
		}
	})
}

// TestRowLineageIsExpected: inherited row ids are materialised by position in
// the old file, stored ones are kept.
func TestRowLineageIsExpected(t *testing.T) {
	type plainRow struct {
		ID int64 `parquet:"id,id(1)"`
	}
	type lined struct {
		ID    int64  `parquet:"id,id(1)"`
		RowID *int64 `parquet:"_row_id,optional,id(2147483540)"`
		Seq   *int64 `parquet:"_last_updated_sequence_number,optional,id(2147483539)"`
	}
	p := func(v int64) *int64 { return &v }
	first := int64(1000)
	store := storage.NewMem()
	writeParquet(t, store, "mem://b/old", []plainRow{{1}, {2}, {3}, {4}})
	old := warehouse.File{Path: "mem://b/old", FirstRowID: &first, DataSequence: 9}
	good := []lined{{1, p(1000), p(9)}, {3, p(1002), p(9)}, {4, p(1003), p(9)}}
	bad := map[string]func([]lined){
		"renumbered": func(r []lined) { r[1].RowID = p(1001) }, "null id": func(r []lined) { r[2].RowID = nil },
		"other sequence": func(r []lined) { r[0].Seq = p(10) },
	}
	check := func(old warehouse.File, rows []lined) *RewriteReport {
		t.Helper()
		writeParquet(t, store, "mem://b/new", rows)
		rep, err := Survivors(context.Background(), store, Rewrite{Old: old, New: "mem://b/new", Lineage: true, Matches: onID(keysOf(t, "int64", "2"), 1)})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	if rep := check(old, good); !rep.Equal {
		t.Errorf("%+v", rep)
	}
	for name, change := range bad {
		rows := slices.Clone(good)
		change(rows)
		if rep := check(old, rows); rep.Equal {
			t.Errorf("%s: not seen", name)
		}
	}
	// Columns that were there already: values stay, nulls inherit.
	writeParquet(t, store, "mem://b/old", []lined{{1, p(50), p(3)}, {2, nil, nil}, {3, nil, nil}, {4, p(60), p(4)}})
	if rep := check(old, []lined{{1, p(50), p(3)}, {3, p(1002), p(9)}, {4, p(60), p(4)}}); !rep.Equal {
		t.Errorf("%+v", rep)
	}
	if rep := check(old, []lined{{1, p(50), p(3)}, {3, nil, nil}, {4, p(60), p(4)}}); rep.Equal {
		t.Error("an inherited id was lost and not seen")
	}
	// Without the columns, ids would be renumbered.
	writeParquet(t, store, "mem://b/old", []plainRow{{1}, {2}, {3}})
	writeParquet(t, store, "mem://b/new", []plainRow{{1}, {3}})
	rep, err := Survivors(context.Background(), store, Rewrite{Old: old, New: "mem://b/new", Lineage: true, Matches: onID(keysOf(t, "int64", "2"), 1)})
	if err != nil || rep.Equal {
		t.Errorf("%+v %v", rep, err)
	}
}
