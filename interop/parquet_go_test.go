//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// readByGo lets arrow-go and parquet-go compare the results with their sources.
func readByGo(t *testing.T, cases []fileCase) {
	t.Helper()
	for reader, read := range map[string]func(string) ([]string, error){
		"arrow-go":   arrowText,
		"parquet-go": levelText,
	} {
		n, sources := 0, map[string][]string{}
		var unread []string
		for _, c := range cases {
			source, ok := sources[c.In]
			if !ok {
				var err error
				if source, err = read(c.In); err != nil {
					unread = append(unread, fmt.Sprintf("%s: %.80v", c.Name, err))
				}
				sources[c.In] = source
			}
			if source == nil {
				continue
			}
			got, err := read(c.Out)
			if err != nil {
				t.Errorf("%s: %s cannot read it: %v", c.Name, reader, err)
				continue
			}
			n++
			if want := without(t, c, source); !slices.Equal(got, want) {
				t.Errorf("%s: %s reads other rows: %d, want %d", c.Name, reader, len(got), len(want))
			}
		}
		t.Logf("%s reads %d results; sources it cannot read: %s", reader, n, strings.Join(unread, "; "))
		if n < len(cases)/2 {
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
func arrowText(path string) (out []string, err error) {
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
	tbl, err := fr.ReadTable(context.Background())
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

// levelText reads a file with parquet-go's rows: every value with its levels.
func levelText(path string) (out []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	raw, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	info, err := raw.Stat()
	if err != nil {
		return nil, err
	}
	f, err := pgo.OpenFile(raw, info.Size())
	if err != nil {
		return nil, err
	}
	skip, err := misread(f)
	if err != nil {
		return nil, err
	}
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
				rows.Close()
				return nil, err
			}
		}
		rows.Close()
	}
	return out, nil
}

// misread are columns that parquet-go reads wrongly: it takes a run of booleans
// for a byte of bits. On LZ4_RAW blocks of other writers it fails.
func misread(f *pgo.File) (map[int]bool, error) {
	skip := map[int]bool{}
	for _, g := range f.Metadata().RowGroups {
		for i := range g.Columns {
			m := &g.Columns[i].MetaData
			if m.Codec == format.Lz4Raw {
				return nil, errors.New("LZ4_RAW")
			}
			if m.Type == format.Boolean && !slices.Contains(m.Encoding, format.Plain) {
				skip[i] = true
			}
		}
	}
	return skip, nil
}
