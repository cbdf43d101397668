package pq_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// Files of other writers (pyarrow, DuckDB, parquet-java, …) decode to what
// parquet-go reads. EXPUNGE_PARQUET_CORPUS names a folder of them; the interop
// run makes one. Two faults of parquet-go v0.32.0 are left out, where this
// package agrees with the writer: DuckDB's 33-bit deltas of INT32 (pyarrow and
// arrow-go refuse them), and LZ4_RAW pages, of which it makes garbage.
func TestForeignFilesDecodeAsParquetGoReadsThem(t *testing.T) {
	dir := os.Getenv("EXPUNGE_PARQUET_CORPUS")
	if dir == "" {
		t.Skip("EXPUNGE_PARQUET_CORPUS is not set")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readAll(b, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := readEverything(b); err != nil {
				t.Fatal(err)
			}
			f := open(t, b)
			for i, want := range readParquetGo(t, b) {
				if want == nil || f.Schema.Columns[i].Type == format.Int32 && strings.HasPrefix(f.Meta.CreatedBy, "DuckDB") {
					continue
				}
				if d := differ(want, got[i]); d != "" {
					t.Errorf("column %d: %.300s", i, d)
				}
			}
		})
	}
}

// readParquetGo gives the level entries of every column as parquet-go reads
// them, nil for a column in LZ4_RAW.
func readParquetGo(t *testing.T, b []byte) [][][]triple {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out [][][]triple
	for _, g := range f.RowGroups() {
		for c, chunk := range g.ColumnChunks() {
			if c == len(out) {
				out = append(out, nil)
			}
			if f.Metadata().RowGroups[0].Columns[c].MetaData.Codec == format.Lz4Raw {
				continue
			}
			pages := chunk.Pages()
			for {
				p, err := pages.ReadPage()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				values := make([]parquet.Value, p.NumValues())
				if n, err := p.Values().ReadValues(values); n != len(values) {
					t.Fatal(n, err)
				}
				for _, v := range values {
					tr := triple{rep: v.RepetitionLevel(), def: v.DefinitionLevel(), isNull: v.IsNull()}
					if !tr.isNull {
						tr.value = plainValue(v)
					}
					if tr.rep == 0 {
						out[c] = append(out[c], nil)
					}
					out[c][len(out[c])-1] = append(out[c][len(out[c])-1], tr)
				}
				parquet.Release(p)
			}
			pages.Close()
		}
	}
	return out
}

func plainValue(v parquet.Value) string {
	switch format.Type(v.Kind()) {
	case format.Boolean:
		if v.Boolean() {
			return "\x01"
		}
		return "\x00"
	case format.Int32:
		return string(binary.LittleEndian.AppendUint32(nil, uint32(v.Int32())))
	case format.Int64:
		return string(binary.LittleEndian.AppendUint64(nil, uint64(v.Int64())))
	case format.Int96:
		var b []byte
		for _, w := range v.Int96() {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return string(b)
	case format.Float:
		return string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v.Float())))
	case format.Double:
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v.Double())))
	}
	return string(v.ByteArray())
}
