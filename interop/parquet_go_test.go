//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// goReader reads rows as text, but for the columns to skip; skips says which
// columns of a source it cannot read or is known to read wrongly, and why.
type goReader struct {
	read  func(path string, skip map[int]string) ([]string, error)
	skips func(path string) (map[int]string, error)
}

// readByGo lets arrow-go and parquet-go compare the results with their sources.
func readByGo(t *testing.T, cases []fileCase) {
	t.Helper()
	for reader, r := range map[string]goReader{"arrow-go": {arrowText, arrowSkips}, "parquet-go": {levelText, misread}} {
		n := 0
		var source []string
		var skip map[int]string
		unread := map[string][]string{}
		for i, c := range cases {
			if i == 0 || c.In != cases[i-1].In {
				var err error
				skip, err = r.skips(c.In)
				if err == nil {
					source, err = r.read(c.In, skip)
				}
				if err != nil {
					source, skip = nil, map[int]string{-1: fmt.Sprintf("%.80v", err)}
				}
				for col, why := range skip {
					unread[why] = append(unread[why], fmt.Sprintf("%s.%d", strings.TrimSuffix(filepath.Base(c.In), ".parquet"), col))
				}
			}
			if source == nil {
				continue
			}
			got, err := r.read(c.Out, skip)
			if err != nil {
				t.Errorf("%s: %s cannot read it: %v", c.Name, reader, err)
				continue
			}
			n++
			if want := without(t, c, source); !slices.Equal(got, want) {
				t.Errorf("%s: %s reads other rows: %d, want %d", c.Name, reader, len(got), len(want))
			}
		}
		t.Logf("%s reads %d results", reader, n)
		for why, columns := range unread {
			t.Logf("%s cannot read of the sources: %s: %s", reader, why, strings.Join(columns, ", "))
		}
		if n < len(cases)*3/4 {
			t.Errorf("%s read only %d of %d results: it judges too little", reader, n, len(cases))
		}
	}
}

// without drops the rows of the keys.
func without(t *testing.T, c fileCase, rows []string) (out []string) {
	t.Helper()
	gone := map[int64]bool{}
	for _, k := range c.Keys {
		gone[k] = true
	}
	for i, id := range idsOf(t, c.In) {
		if !gone[id] {
			out = append(out, rows[i])
		}
	}
	return out
}

// arrowText reads a file with arrow-go, one string a row.
func arrowText(path string, skip map[int]string) (out []string, err error) {
	return arrowColumns(path, func(leaf int) bool { return skip[leaf] == "" })
}

// arrowSkips tries each leaf column where the whole file fails.
func arrowSkips(path string) (map[int]string, error) {
	if _, err := arrowColumns(path, func(int) bool { return true }); err == nil {
		return nil, nil
	}
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	skip := map[int]string{}
	for i := range r.MetaData().Schema.NumColumns() {
		if _, err := arrowColumns(path, func(leaf int) bool { return leaf == i }); err != nil {
			skip[i] = fmt.Sprintf("%.60v", err)
		}
	}
	return skip, nil
}

func arrowColumns(path string, want func(leaf int) bool) (out []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	var leaves, groups []int
	for i := range r.MetaData().Schema.NumColumns() {
		if want(i) {
			leaves = append(leaves, i)
		}
	}
	for i := range r.NumRowGroups() {
		groups = append(groups, i)
	}
	tbl, err := fr.ReadRowGroups(context.Background(), leaves, groups)
	if err != nil {
		return nil, err
	}
	defer tbl.Release()
	out = make([]string, tbl.NumRows())
	for c := range int(tbl.NumCols()) {
		at := 0
		for _, chunk := range tbl.Column(c).Data().Chunks() {
			for i := range chunk.Len() {
				out[at] += chunk.ValueStr(i) + "|"
				at++
			}
		}
	}
	return out, nil
}

// openGo opens a file with parquet-go.
func openGo(path string) (*pgo.File, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return pgo.OpenFile(bytes.NewReader(raw), int64(len(raw)))
}

// levelText reads a file with parquet-go's rows: every value with its levels.
func levelText(path string, skip map[int]string) (out []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	f, err := openGo(path)
	if err != nil {
		return nil, err
	}
	for _, g := range f.RowGroups() {
		if out, err = appendRows(out, g.Rows(), skip); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func appendRows(out []string, rows pgo.Rows, skip map[int]string) ([]string, error) {
	defer rows.Close()
	buf := make([]pgo.Row, 64)
	for {
		n, err := rows.ReadRows(buf)
		for _, row := range buf[:n] {
			var s strings.Builder
			for _, v := range row {
				if skip[v.Column()] == "" {
					fmt.Fprintf(&s, "%d:%d/%d=%q ", v.Column(), v.RepetitionLevel(), v.DefinitionLevel(), v.String())
				}
			}
			out = append(out, s.String())
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// misread are columns of a source that parquet-go reads wrongly, as DuckDB and
// pyarrow show. It reads rows, not columns: what makes it fail ends its judgement
// of the file.
func misread(path string) (map[int]string, error) {
	f, err := openGo(path)
	if err != nil {
		return nil, err
	}
	skip := map[int]string{}
	for _, g := range f.Metadata().RowGroups {
		for i := range g.Columns {
			m := &g.Columns[i].MetaData
			switch {
			case m.Codec == format.Lz4Raw:
				return nil, errors.New("LZ4_RAW blocks of other writers")
			case m.Type == format.Boolean && !slices.Contains(m.Encoding, format.Plain):
				skip[i] = "it takes a run of booleans for a byte of bits"
			case m.Type == format.Int32 && slices.Contains(m.Encoding, format.DeltaBinaryPacked) && strings.HasPrefix(f.Metadata().CreatedBy, "DuckDB"):
				skip[i] = "it wraps differences of 32-bit numbers, which DuckDB stores in 64 bits"
			}
		}
	}
	return skip, nil
}
