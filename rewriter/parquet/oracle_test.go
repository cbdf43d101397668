package parquet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/rewriter"
)

// rewrite runs an edit on bytes.
func rewrite(data []byte, e rewriter.Edit, o rewriter.Options) ([]byte, *rewriter.Result, error) {
	var out bytes.Buffer
	res, err := RewriteTo(context.Background(), Input{bytes.NewReader(data), int64(len(data))}, Output{Writer: &out}, e, o)
	return out.Bytes(), res, err
}

func mustRewrite(t testing.TB, data []byte, e rewriter.Edit, o rewriter.Options) ([]byte, *rewriter.Result) {
	t.Helper()
	out, res, err := rewrite(data, e, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > 0 && (res.SHA256 != sha256.Sum256(out) || res.Size != int64(len(out))) {
		t.Fatalf("%s: digest or size is not the output's", res.Engine)
	}
	return out, res
}

// unreadable are columns that parquet-go cannot read: it takes a run of
// booleans as a byte of bits. all says that it fails on the file: it does on
// LZ4_RAW blocks of other writers. arrow-go judges those alone.
func unreadable(t testing.TB, data []byte) (skip map[int]bool, all bool) {
	f, err := pgo.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatalf("parquet-go: %v", err)
	}
	skip = map[int]bool{}
	for _, g := range f.Metadata().RowGroups {
		for i := range g.Columns {
			m := &g.Columns[i].MetaData
			all = all || m.Codec == format.Lz4Raw
			if m.Type == format.Boolean && !slices.Contains(m.Encoding, format.Plain) {
				skip[i] = true
			}
		}
	}
	return skip, all
}

// levelRows reads a file with parquet-go's rows: every value with its levels.
func levelRows(t testing.TB, data []byte) []string {
	t.Helper()
	skip, all := unreadable(t, data)
	if all {
		return nil
	}
	f, err := pgo.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatalf("parquet-go: %v", err)
	}
	var out []string
	buf := make([]pgo.Row, 64)
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		for {
			n, err := rows.ReadRows(buf)
			for _, row := range buf[:n] {
				var s strings.Builder
				for _, v := range row {
					if skip[v.Column()] {
						continue
					}
					fmt.Fprintf(&s, "%d:%d/%d=%q ", v.Column(), v.RepetitionLevel(), v.DefinitionLevel(), v.String())
				}
				out = append(out, s.String())
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("parquet-go: %v", err)
			}
		}
		rows.Close()
	}
	return out
}

// arrowRows reads a file with arrow-go, one string a row.
func arrowRows(t testing.TB, data []byte) []string {
	t.Helper()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("arrow-go: %v", err)
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatalf("arrow-go: %v", err)
	}
	tbl, err := fr.ReadTable(context.Background())
	if err != nil {
		t.Fatalf("arrow-go: %v", err)
	}
	defer tbl.Release()
	out := make([]string, tbl.NumRows())
	for c := range int(tbl.NumCols()) {
		at := 0
		for _, chunk := range tbl.Column(c).Data().Chunks() {
			for i := range chunk.Len() {
				out[at] += chunk.ValueStr(i) + "|"
				at++
			}
		}
	}
	return out
}

// without drops rows; nil stays nil.
func without(rows []string, erase *roaring64.Bitmap) []string {
	if rows == nil {
		return nil
	}
	out := []string{}
	for i, r := range rows {
		if !erase.Contains(uint64(i)) {
			out = append(out, r)
		}
	}
	return out
}

func sameRows(t testing.TB, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: row %d is\n%s\nwant\n%s", what, i, got[i], want[i])
		}
	}
}
