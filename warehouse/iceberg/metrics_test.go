package iceberg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
)

// TestMetricsAgreeWithTheLibrarysWriter: what we read from a footer is what
// iceberg-go stated of the same file when it wrote it.
func TestMetricsAgreeWithTheLibrarysWriter(t *testing.T) {
	for _, mode := range []string{"", "truncate(3)", "full", "counts", "none"} {
		t.Run("mode "+mode, func(t *testing.T) {
			l := newPlanLake(t)
			var props []string
			if mode != "" {
				props = []string{"write.metadata.metrics.default", mode}
			}
			l.create("t", 2, planSchema(), nil, props...)
			l.append("t",
				`{"id":7,"sid":"a rather long string of characters","num":"-1.50","day":"2024-01-02","ts":"2024-01-02 03:04:05","customer":{"id":3,"mail":"x@y.zz"},"tags":["a",null],"uid":"00010203-0405-0607-0809-0a0b0c0d0e0f","bin":"AAEC","scores":[{"key":"k","value":1}]}`,
				`{"id":-9,"sid":"ÿéü and more of the same","num":"12.25","day":"1969-12-31","ts":"1960-01-02 03:04:05","customer":{"id":null,"mail":"a@b.cc"},"tags":null,"uid":"ff010203-0405-0607-0809-0a0b0c0d0e0f","bin":"//7/////////////////////AA==","scores":[]}`,
				`{"id":null,"sid":null,"num":null,"day":null,"ts":null,"customer":null,"tags":[],"uid":null,"bin":null,"scores":null}`,
			)
			df := l.entriesOf("t")[0].DataFile()
			got, err := l.open("t").Metrics(l.ctx, df.FilePath())
			if err != nil {
				t.Fatal(err)
			}
			if mode != "none" && mode != "counts" && len(got.Lower[7]) != 4 {
				t.Errorf("no bounds of a field in a struct: %v", got.Lower)
			}
			for _, id := range []int{7, 8} { // the library leaves these out
				delete(got.Lower, id)
				delete(got.Upper, id)
			}
			if d := cmp.Diff(df.LowerBoundValues(), got.Lower, emptyMaps); d != "" {
				t.Errorf("lower bounds: %s", d)
			}
			if d := cmp.Diff(df.UpperBoundValues(), got.Upper, emptyMaps); d != "" {
				t.Errorf("upper bounds: %s", d)
			}
			for what, pair := range map[string][2]map[int]int64{
				"value counts": {df.ValueCounts(), got.ValueCounts},
				"null counts":  {df.NullValueCounts(), got.NullCounts},
			} {
				// The library counts only what it can bound; what both state must agree.
				for id, n := range pair[0] {
					if m, ok := pair[1][id]; ok && m != n {
						t.Errorf("%s of field %d: %d, the library says %d", what, id, m, n)
					}
				}
			}
			if mode != "none" && (got.ValueCounts[1] != 3 || got.NullCounts[1] != 1 || got.ColumnSizes[1] == 0) {
				t.Errorf("counts of the first column: %v %v", got.ValueCounts, got.NullCounts)
			}
			if d := cmp.Diff(df.SplitOffsets(), got.SplitOffsets); d != "" {
				t.Errorf("split offsets: %s", d)
			}
		})
	}
}

var emptyMaps = cmp.Transformer("empty", func(m map[int][]byte) map[int]string {
	out := map[int]string{}
	for k, v := range m {
		out[k] = fmt.Sprintf("%x", v)
	}
	return out
})

func TestMetricsOfFilesWithoutIdsUseTheNameMapping(t *testing.T) {
	l := newPlanLake(t)
	mapping := `[{"field-id":1,"names":["id","old_id"]},{"field-id":6,"names":["customer"],"fields":[{"field-id":7,"names":["id"]},{"field-id":8,"names":["mail"]}]},{"field-id":9,"names":["tags"],"fields":[{"field-id":10,"names":["element"]}]},{"field-id":13,"names":["scores"],"fields":[{"field-id":14,"names":["key"]},{"field-id":15,"names":["value"]}]}]`
	l.create("t", 2, planSchema(), nil, "schema.name-mapping.default", mapping)
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "old_id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "customer", Type: arrow.StructOf(arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int32, Nullable: true}, arrow.Field{Name: "other", Type: arrow.PrimitiveTypes.Int32, Nullable: true}), Nullable: true},
		{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		{Name: "scores", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64), Nullable: true},
	}, nil)
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema,
		strings.NewReader(`[{"old_id":4,"customer":{"id":5,"other":6},"tags":["x","y"],"scores":[{"key":"k","value":1}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	path := l.dir + "/wh/plain.parquet"
	if _, err := writeParquet(l.ctx, l.store, path, rec); err != nil {
		t.Fatal(err)
	}
	got, err := l.open("t").Metrics(l.ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[int]int64{1: 1, 7: 1, 10: 2, 14: 1, 15: 1}, got.ValueCounts); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[int][]byte{1: {4, 0, 0, 0, 0, 0, 0, 0}, 7: {5, 0, 0, 0}}, got.Lower); d != "" {
		t.Errorf("bounds, none of a list or map: %s", d)
	}
}

func TestMetricsOfAPromotedColumnFollowTheTable(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	l.append("t", rows(0, 3, 10)...)
	tx := l.raw("t").NewTransaction()
	up := tx.UpdateSchema(true, true).UpdateColumn([]string{"id"}, table.ColumnUpdate{FieldType: icebergo.Optional[icebergo.Type]{Val: icebergo.PrimitiveTypes.Int64, Valid: true}})
	if err := up.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(l.ctx); err != nil {
		t.Fatal(err)
	}
	got, err := l.open("t").Metrics(l.ctx, l.entriesOf("t")[0].DataFile().FilePath())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Upper[2]) != 8 || binary.LittleEndian.Uint64(got.Upper[2]) != 2 {
		t.Errorf("upper bound of a promoted column: %x", got.Upper[2])
	}
}

func TestZeroBoundsHoldForBothZerosAndNaNHasNone(t *testing.T) {
	b := &bounds{kind: boundFloat, wide: true}
	zero := binary.LittleEndian.AppendUint64(nil, 0)
	if !b.widen(zero, zero) {
		t.Fatal("zero refused")
	}
	lo, hi := b.serialized(metricsMode{kind: metricsFull})
	if !math.Signbit(math.Float64frombits(binary.LittleEndian.Uint64(lo))) || math.Signbit(math.Float64frombits(binary.LittleEndian.Uint64(hi))) {
		t.Errorf("bounds %x %x", lo, hi)
	}
	nan := binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.NaN()))
	if b.widen(nan, nan) {
		t.Error("NaN taken as a bound")
	}
}

func TestTruncatedBoundsStillBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := []byte(rapid.String().Draw(t, "s"))
		n := rapid.IntRange(1, 20).Draw(t, "n")
		if lo := truncateString(s, n); bytes.Compare(lo, s) > 0 || utf8.RuneCount(lo) > n {
			t.Fatalf("lower %q of %q", lo, s)
		}
		if hi := truncateStringUp(s, n); hi != nil && (bytes.Compare(hi, s) < 0 || utf8.RuneCount(hi) > n || !utf8.Valid(hi)) {
			t.Fatalf("upper %q of %q", hi, s)
		}
		p := rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, "p")
		if hi := truncateBytesUp(p, n); hi != nil && (bytes.Compare(hi, p) < 0 || len(hi) > n) {
			t.Fatalf("upper %x of %x", hi, p)
		}
		v := big.NewInt(rapid.Int64().Draw(t, "v"))
		if got := signedBig(minimalBytes(v)); got.Cmp(v) != 0 {
			t.Fatalf("%v becomes %v", v, got)
		}
	})
}

func TestMetricsOfDamagedFilesAreErrorsWithoutContent(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, deleteSchema(), nil)
	path := l.dir + "/wh/secret-key-4711.parquet"
	if err := storage.WriteAll(l.ctx, l.store, path, []byte("PAR1secret-key-4711PAR1"), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, l.dir + "/wh/secret-key-none.parquet"} {
		if _, err := l.open("t").Metrics(l.ctx, p); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v", err)
		}
	}
}
