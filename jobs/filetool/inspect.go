package filetool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
)

// Section is a table: a title, column heads (">" in front of a number's) and rows.
type Section struct {
	Title string
	Head  []string
	Rows  [][]string
}

// Description is what Inspect saw. It holds no values, bounds or metadata values.
type Description struct {
	Size     int64
	Rows     int64
	Sections []Section
}

// Inspect describes a file: row groups, column chunks and, with pages, every
// page. columns, when given, are the only ones shown.
func Inspect(ctx context.Context, store storage.Store, path string, columns []string, pages bool) (*Description, error) {
	obj, err := store.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	defer obj.Close()
	f, err := pq.Open(ctx, obj, obj.Info().Size)
	if err != nil {
		return nil, fmt.Errorf("read footer: %w", err)
	}
	shown, err := selectColumns(f, columns)
	if err != nil {
		return nil, err
	}
	d := &Description{Size: f.Size(), Rows: f.Rows(), Sections: []Section{fileSection(f), groupSection(f)}}
	chunks, pageRows, err := walk(ctx, f, shown, pages)
	if err != nil {
		return nil, err
	}
	d.Sections = append(d.Sections, chunks)
	if pages {
		d.Sections = append(d.Sections, pageRows)
	}
	return d, nil
}

func selectColumns(f *pq.File, names []string) ([]*pq.Column, error) {
	if len(names) == 0 {
		return f.Schema.Columns, nil
	}
	var out []*pq.Column
	for _, name := range names {
		col, _, err := resolve(f, name)
		if err != nil {
			return nil, err
		}
		out = append(out, col)
	}
	return out, nil
}

func fileSection(f *pq.File) Section {
	var names []string
	for _, kv := range f.Meta.KeyValueMetadata {
		names = append(names, kv.Key)
	}
	return Section{Title: "File", Head: []string{"PROPERTY", "VALUE"}, Rows: [][]string{
		{"size", number(f.Size())},
		{"rows", number(f.Rows())},
		{"row groups", number(int64(len(f.RowGroups)))},
		{"columns", number(int64(len(f.Schema.Columns)))},
		{"footer", number(int64(len(f.Footer)))},
		{"written by", f.Meta.CreatedBy},
		{"metadata keys", strings.Join(names, ", ")},
	}}
}

func groupSection(f *pq.File) Section {
	s := Section{Title: "Row groups", Head: []string{">GROUP", ">FIRST ROW", ">ROWS", ">STORED", ">DECODED"}}
	for _, g := range f.RowGroups {
		var stored, decoded int64
		for i := range g.Meta.Columns {
			stored += g.Meta.Columns[i].MetaData.TotalCompressedSize
			decoded += g.Meta.Columns[i].MetaData.TotalUncompressedSize
		}
		s.Rows = append(s.Rows, []string{number(int64(g.Index)), number(g.FirstRow), number(g.Rows), number(stored), number(decoded)})
	}
	return s
}

// walk reads the pages' headers of the shown columns.
func walk(ctx context.Context, f *pq.File, shown []*pq.Column, detailed bool) (chunks, pages Section, err error) {
	chunks = Section{Title: "Column chunks", Head: []string{">GROUP", "COLUMN", "TYPE", "CODEC", "ENCODINGS", ">PAGES", ">DICTIONARY", ">STORED", ">DECODED", "HAS"}}
	pages = Section{Title: "Pages", Head: []string{">GROUP", "COLUMN", ">PAGE", "KIND", "ENCODING", ">VALUES", ">OFFSET", ">STORED", ">DECODED", "CRC"}}
	for _, g := range f.RowGroups {
		for _, col := range shown {
			c, err := g.Chunk(col)
			if err != nil {
				return chunks, pages, err
			}
			n, dict, err := walkChunk(ctx, c, detailed, &pages)
			if err != nil {
				return chunks, pages, err
			}
			chunks.Rows = append(chunks.Rows, []string{number(int64(g.Index)), col.Name(), typeName(col), c.Meta.Codec.String(), encodings(c.Meta.Encoding),
				number(n), number(dict), number(c.Meta.TotalCompressedSize), number(c.Meta.TotalUncompressedSize), extras(c)})
		}
	}
	return chunks, pages, nil
}

// walkChunk counts a chunk's data pages and its dictionary's entries.
func walkChunk(ctx context.Context, c *pq.Chunk, detailed bool, out *Section) (pages, dictionary int64, err error) {
	r := c.Pages(ctx, pq.ReadOptions{})
	defer r.Close()
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return pages, dictionary, nil
		}
		if err != nil {
			return 0, 0, err
		}
		ordinal := "dictionary"
		if p.Header.IsData() {
			ordinal = number(pages)
			pages++
		} else {
			dictionary = int64(p.Header.NumValues)
		}
		if detailed {
			crc := ""
			if p.Header.HasCRC {
				crc = "yes"
			}
			out.Rows = append(out.Rows, []string{number(int64(c.RowGroup.Index)), c.Column.Name(), ordinal, p.Header.Type.String(), p.Header.Encoding.String(),
				number(int64(p.Header.NumValues)), number(p.Offset), number(int64(p.Header.CompressedSize)), number(int64(p.Header.UncompressedSize)), crc})
		}
	}
}

func typeName(c *pq.Column) string {
	name := c.Type.String()
	if l := c.Logical(); l != nil {
		if s, ok := l.(fmt.Stringer); ok {
			name += " " + s.String()
		}
	}
	if c.MaxRep > 0 {
		name += " repeated"
	}
	return name
}

func encodings(list []format.Encoding) string {
	var names []string
	for _, e := range list {
		if n := e.String(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return strings.Join(names, ", ")
}

func extras(c *pq.Chunk) string {
	var has []string
	for name, yes := range map[string]bool{"bloom filter": c.HasBloom(), "page index": c.HasPageIndex(), "statistics": c.Meta.Statistics.MinValue != nil || c.Meta.Statistics.Min != nil} {
		if yes {
			has = append(has, name)
		}
	}
	slices.Sort(has)
	return strings.Join(has, ", ")
}

// number writes 1234567 as 1,234,567.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
