package scanner_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

func intSet(t testing.TB, keys ...int64) *keyset.Set {
	var texts [][]string
	for _, k := range keys {
		texts = append(texts, []string{strconv.FormatInt(k, 10)})
	}
	return set(t, "int64", texts...)
}

func single(s *keyset.Set, path ...string) scanner.Request {
	return scanner.Request{Match: []scanner.Match{{Keys: s, Columns: []scanner.ColumnRef{ref(path...)}}}}
}

// writeAs writes rows of any struct, a row group for every n of them.
func writeAs[T any](t testing.TB, rows []T, group int, o ...parquet.WriterOption) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[T](&buf, o...)
	for part := range slices.Chunk(rows, group) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// refoot changes a file's decoded footer and writes it back.
func refoot(t testing.TB, b []byte, change func(*format.FileMetaData)) []byte {
	t.Helper()
	f, err := pq.Open(context.Background(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	m := *f.Meta
	change(&m)
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), m)
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(b[:f.FooterOffset]), footer...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(footer)))
	return append(out, "PAR1"...)
}

type intRow struct {
	K int64 `parquet:"k"`
}

func sortedRows(n, each int) []intRow {
	rows := make([]intRow, n)
	for i := range rows {
		rows[i].K = int64(i / each)
	}
	return rows
}

func TestScanOfASortedFileReadsATinyPartOfTheColumn(t *testing.T) {
	rows := sortedRows(1_000_000, 3)
	file := writeAs(t, rows, 125_000, parquet.PageBufferSize(32<<10), parquet.Compression(&parquet.Snappy))
	var keys []int64
	for i := range int64(23) {
		keys = append(keys, 150_000+7*i)
	}
	res := scan(t, file, single(intSet(t, keys...), "k"))
	if res.Hits.GetCardinality() != 69 {
		t.Fatalf("%d hits", res.Hits.GetCardinality())
	}
	var column int64
	f, _ := pq.Open(context.Background(), bytes.NewReader(file), int64(len(file)))
	for _, g := range f.RowGroups {
		column += g.Meta.Columns[0].MetaData.TotalCompressedSize
	}
	if res.KeyBytesRead*50 > column {
		t.Fatalf("read %d of the key column's %d bytes", res.KeyBytesRead, column)
	}
	if res.Pruning.ByStatistics != 7 || res.Pruning.PagesRead > 2 {
		t.Fatalf("%+v", res.Pruning)
	}
}

func TestEachKindOfPruningSkipsWhatItCan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	type dictRow struct {
		K int64 `parquet:"k,dict"`
	}
	var odd []intRow
	var dict []dictRow
	for range 20_000 {
		odd = append(odd, intRow{r.Int64N(1<<30)<<1 | 1})
		dict = append(dict, dictRow{r.Int64N(100)<<1 | 1})
	}
	bloom := parquet.BloomFilters(parquet.SplitBlockFilter(16, "k"))
	for name, c := range map[string]struct {
		file  []byte
		key   int64
		count func(scanner.Pruning) int
	}{
		"statistics": {writeAs(t, odd, 5000), 1 << 40, func(p scanner.Pruning) int { return p.ByStatistics }},
		"bloom":      {writeAs(t, odd, 5000, bloom), 1 << 20, func(p scanner.Pruning) int { return p.ByBloom }},
		"dictionary": {writeAs(t, dict, 5000), 50, func(p scanner.Pruning) int { return p.ByDictionary }},
		"page index": {gap(t), 5, func(p scanner.Pruning) int { return p.ByPageIndex }},
	} {
		res := scan(t, c.file, single(intSet(t, c.key), "k"))
		if n := c.count(res.Pruning); n == 0 || n != res.Pruning.RowGroups || res.Pruning.PagesRead != 0 || res.Method != scanner.MethodPruned {
			t.Errorf("%s: %+v, %s", name, res.Pruning, res.Method)
		}
		if res := scan(t, c.file, scanner.Request{Match: single(intSet(t, c.key), "k").Match, Options: scanner.Options{NoPruning: true}}); res.Method != scanner.MethodClean {
			t.Errorf("%s, not pruned: %s", name, res.Method)
		}
	}
}

// Statistics that the format does not define, or that are wrong in a known
// way, must not hide a key.
func TestUntrustworthyStatisticsPruneNothing(t *testing.T) {
	type uintRow struct {
		K uint64 `parquet:"k"`
	}
	type strRow struct {
		K string `parquet:"k"`
	}
	stats := func(m *format.FileMetaData) *format.Statistics { return &m.RowGroups[0].Columns[0].MetaData.Statistics }
	noIndex := func(m *format.FileMetaData) {
		c := &m.RowGroups[0].Columns[0]
		c.ColumnIndexOffset, c.ColumnIndexLength = 0, 0
	}
	le := func(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
	one := writeAs(t, []intRow{{5}, {7}}, 2)
	wide := writeAs(t, []uintRow{{5}, {1 << 63}}, 2)
	text := writeAs(t, []strRow{{"m"}}, 1)
	for name, c := range map[string]struct {
		file []byte
		set  *keyset.Set
	}{
		"min above max": {refoot(t, one, func(m *format.FileMetaData) {
			noIndex(m)
			*stats(m) = format.Statistics{MinValue: le(9), MaxValue: le(1)}
		}), intSet(t, 7)},
		"no column orders": {refoot(t, text, func(m *format.FileMetaData) {
			m.ColumnOrders = nil
			*stats(m) = format.Statistics{MinValue: []byte("a"), MaxValue: []byte("b")}
		}), set(t, "string", []string{"m"})},
		"no column orders, page index": {refoot(t, refootIndex(t, text), func(m *format.FileMetaData) { m.ColumnOrders = nil }), set(t, "string", []string{"m"})},
		"unknown column order": {otherOrder(t, refoot(t, text, func(m *format.FileMetaData) {
			*stats(m) = format.Statistics{MinValue: []byte("a"), MaxValue: []byte("b")}
		})), set(t, "string", []string{"m"})},
		"deprecated bounds of an unsigned column": {refoot(t, wide, func(m *format.FileMetaData) {
			m.ColumnOrders = nil
			*stats(m) = format.Statistics{Min: le(-1 << 63), Max: le(5 - 1)}
		}), intSet(t, 5)},
		"deprecated bounds of a string column": {refoot(t, text, func(m *format.FileMetaData) {
			m.ColumnOrders = nil
			*stats(m) = format.Statistics{Min: []byte("a"), Max: []byte("b")}
		}), set(t, "string", []string{"m"})},
		"one bound missing": {refoot(t, one, func(m *format.FileMetaData) {
			noIndex(m)
			*stats(m) = format.Statistics{MinValue: le(5)}
		}), intSet(t, 7)},
		"bounds of the wrong length": {refoot(t, one, func(m *format.FileMetaData) {
			noIndex(m)
			*stats(m) = format.Statistics{MinValue: []byte{1}, MaxValue: []byte{2, 3}}
		}), intSet(t, 7)},
		"no statistics": {refoot(t, one, func(m *format.FileMetaData) {
			noIndex(m)
			*stats(m) = format.Statistics{}
		}), intSet(t, 7)},
	} {
		if res := scan(t, c.file, single(c.set, "k")); res.Hits.GetCardinality() != 1 {
			t.Errorf("%s: %d hits, %+v", name, res.Hits.GetCardinality(), res.Pruning)
		}
	}
	// The same bounds prune where they are trustworthy: the test would notice.
	trusted := refoot(t, one, func(m *format.FileMetaData) {
		m.ColumnOrders = nil
		*stats(m) = format.Statistics{Min: le(5), Max: le(7)}
	})
	if res := scan(t, trusted, single(intSet(t, 8), "k")); res.Pruning.ByStatistics != 1 {
		t.Errorf("signed deprecated bounds were not used: %+v", res.Pruning)
	}
}

// refootIndex leaves the chunk statistics out, so that only the page index is left.
func refootIndex(t *testing.T, b []byte) []byte {
	return refoot(t, b, func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.Statistics = format.Statistics{} })
}

// otherOrder turns the file's one column order (a union whose field 1 is
// TYPE_ORDER) into one that is not known yet.
func otherOrder(t *testing.T, b []byte) []byte {
	i := bytes.LastIndex(b, []byte{0x1c, 0x1c, 0x00, 0x00})
	if i < 0 {
		t.Fatal("no column order found")
	}
	b[i+1] = 0x7c
	f, err := pq.Open(context.Background(), bytes.NewReader(b), int64(len(b)))
	if err != nil || len(f.Meta.ColumnOrders) != 1 || f.TypeOrdered(f.Schema.Columns[0]) {
		t.Fatal("column order was not changed", err)
	}
	return b
}

// gap is a file of two pages, with a gap between their bounds.
func gap(t *testing.T) []byte {
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[intRow](&buf, parquet.PageBufferSize(8))
	for _, k := range []int64{1, 2, 8, 9} {
		if _, err := w.Write([]intRow{{k}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Bounds may be cut: strings longer than the limit keep their place.
func TestTruncatedBoundsStillHoldTheirKeys(t *testing.T) {
	type strRow struct {
		K string `parquet:"k"`
	}
	long := func(c string) string { return c + string(bytes.Repeat([]byte("\xc3\xbf"), 100)) }
	rows := []strRow{{long("a")}, {long("b")}, {long("\xff\xff")}}
	file := writeAs(t, rows, 3, parquet.ColumnIndexSizeLimit(func([]string) int { return 4 }), parquet.PageBufferSize(10))
	for _, x := range rows {
		if res := scan(t, file, single(set(t, "string", []string{x.K}), "k")); res.Hits.GetCardinality() != 1 {
			t.Errorf("%d hits", res.Hits.GetCardinality())
		}
	}
}

func TestColumnsThatCannotHoldKeysAreRefused(t *testing.T) {
	type oddRow struct {
		F float64   `parquet:"f"`
		B bool      `parquet:"b"`
		L []int64   `parquet:"l,list"`
		M []int64   `parquet:"m,list"`
		K int64     `parquet:"k"`
		T int64     `parquet:"t,timestamp"`
		X [12]byte  `parquet:"x"`
		S []oddItem `parquet:"s,list"`
	}
	file := writeAs(t, []oddRow{{}}, 1)
	ctx := context.Background()
	try := func(s *keyset.Set, paths ...[]string) error {
		m := scanner.Match{Keys: s}
		for _, p := range paths {
			m.Columns = append(m.Columns, ref(p...))
		}
		_, err := scanner.ParquetAt(ctx, bytes.NewReader(file), int64(len(file)), scanner.Request{Match: []scanner.Match{m}})
		return err
	}
	one := intSet(t, 1)
	two := set(t, "int64+int64", []string{"1", "2"})
	for name, c := range map[string]struct {
		got, want error
	}{
		"float":                {try(one, []string{"f"}), keyset.ErrType},
		"bool":                 {try(one, []string{"b"}), keyset.ErrType},
		"timestamp":            {try(one, []string{"t"}), keyset.ErrType},
		"group":                {try(one, []string{"s"}), pq.ErrNotLeaf},
		"too few columns":      {try(two, []string{"k"}), keyset.ErrType},
		"two lists":            {try(two, []string{"l", "element"}, []string{"m", "element"}), scanner.ErrStructure},
		"lists of two structs": {try(two, []string{"s", "element", "a"}, []string{"l", "element"}), scanner.ErrStructure},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if err := try(two, []string{"s", "element", "a"}, []string{"s", "element", "b"}); err != nil {
		t.Errorf("two columns of one list: %v", err)
	}
	if _, err := scanner.ParquetAt(ctx, bytes.NewReader(file), int64(len(file)), scanner.Request{}); err == nil {
		t.Error("a scan for nothing succeeded")
	}
}

type oddItem struct {
	A int64 `parquet:"a"`
	B int64 `parquet:"b"`
}

// A column that a file does not have, as after schema evolution, is NULL in
// every row, and NULL matches nothing, not even as a part of a composite key.
func TestAbsentColumnsMatchNothing(t *testing.T) {
	file := writeAs(t, []intRow{{1}}, 1)
	res := scan(t, file, single(intSet(t, 1), "gone"))
	if !res.KeyColumnsAbsent || !res.Hits.IsEmpty() || res.Rows != 1 || res.Method != scanner.MethodAbsent {
		t.Fatalf("%+v", res)
	}
	two := scanner.Match{Keys: set(t, "int64+int64", []string{"1", "1"}), Columns: []scanner.ColumnRef{ref("k"), ref("gone")}}
	res = scan(t, file, scanner.Request{Match: []scanner.Match{two, single(intSet(t, 1), "k").Match[0]}})
	if res.KeyColumnsAbsent || res.PerMatch[0] != 0 || res.PerMatch[1] != 1 {
		t.Fatalf("%+v", res)
	}
}

func TestFilesWithoutRowsAreScannedClean(t *testing.T) {
	for _, file := range [][]byte{writeAs(t, []intRow{}, 1), writeAs(t, []intRow{{1}}, 1)} {
		res := scan(t, file, single(intSet(t, 2), "k"))
		if !res.Hits.IsEmpty() {
			t.Fatal("hits without keys")
		}
	}
}
