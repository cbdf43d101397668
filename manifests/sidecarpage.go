package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// SidecarReader reads parts of a sidecar: a page of records, or the columns
// that a selection needs. It never reads the whole file, and holds the footer only.
type SidecarReader struct {
	file *parquet.File
}

// OpenSidecar reads a sidecar's footer. It does not check the file against a
// manifest: VerifySidecar does, and reads all of it.
func OpenSidecar(r io.ReaderAt, size int64) (s *SidecarReader, err error) {
	defer rescue(&err)
	f, err := parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return nil, fmt.Errorf("open evidence: %w", err)
	}
	if v, _ := f.Lookup("format"); v != sidecarFormat {
		return nil, errors.New("not an evidence sidecar of a known version")
	}
	if !knownColumns(f.Schema()) {
		return nil, errors.New("evidence has unexpected columns")
	}
	return &SidecarReader{file: f}, nil
}

// rescue turns a panic of the library on corrupt input into an error.
func rescue(err *error) {
	if recover() != nil {
		*err = errors.New("corrupt parquet file")
	}
}

// Records is how many records the sidecar has.
func (s *SidecarReader) Records() int64 { return s.file.NumRows() }

// Page reads up to n records from index first on.
func (s *SidecarReader) Page(first int64, n int) (out []Record, err error) {
	defer rescue(&err)
	if first < 0 || n <= 0 || first >= s.Records() {
		return nil, nil
	}
	for _, g := range s.file.RowGroups() {
		if first >= g.NumRows() {
			first -= g.NumRows()
			continue
		}
		got, err := pageOf(g, first, n-len(out))
		if err != nil {
			return nil, fmt.Errorf("read evidence: %w", err)
		}
		if out, first = append(out, got...), 0; len(out) == n {
			break
		}
	}
	return out, nil
}

func pageOf(g parquet.RowGroup, first int64, n int) ([]Record, error) {
	for _, c := range g.ColumnChunks() {
		// The library seeks by an index that was read, and otherwise reads from the beginning.
		if _, err := c.OffsetIndex(); err != nil {
			return nil, err
		}
	}
	r := parquet.NewGenericRowGroupReader[Record](g)
	defer r.Close()
	if err := r.SeekToRow(first); err != nil {
		return nil, err
	}
	buf := make([]Record, min(int64(n), g.NumRows()-first))
	for done := 0; done < len(buf); {
		k, err := r.Read(buf[done:])
		if done += k; done < len(buf) && (err != nil || k == 0) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	for i := range buf {
		buf[i].normalize()
	}
	return buf, nil
}

// Select narrows records. Empty members select everything.
type Select struct {
	Kind   string // RecordFile, RecordDelete
	Target string
	Status string // of file records
	Erased bool   // files that rows were erased from
	Path   string // a part of the old or the new path, as it is stored
}

func (q Select) all() bool { return q == Select{} }

// Find returns the indexes of up to n selected records from index first on, in
// order, and where to go on: 0 = there are no more. It reads the columns that
// the selection names, and of them only row groups whose bounds allow a hit.
func (s *SidecarReader) Find(q Select, first int64, n int) (found []int64, next int64, err error) {
	defer rescue(&err)
	base := int64(0)
	for _, g := range s.file.RowGroups() {
		rows := g.NumRows()
		if base+rows <= first {
			base += rows
			continue
		}
		hit := make([]bool, rows)
		possible, err := s.mark(g, q, hit)
		if err != nil {
			return nil, 0, fmt.Errorf("search evidence: %w", err)
		}
		for i := max(0, first-base); possible && i < rows; i++ {
			if !hit[i] {
				continue
			}
			if len(found) == n {
				return found, base + i, nil
			}
			found = append(found, base+i)
		}
		base += rows
	}
	return found, 0, nil
}

// mark sets hit for the rows of a group that q selects; false = none can be.
func (s *SidecarReader) mark(g parquet.RowGroup, q Select, hit []bool) (bool, error) {
	for i := range hit {
		hit[i] = true
	}
	if q.all() {
		return true, nil
	}
	for _, c := range []struct{ column, want string }{{"kind", q.Kind}, {"target", q.Target}, {"status", q.Status}} {
		if c.want == "" {
			continue
		}
		want := []byte(c.want)
		chunk := s.chunk(g, c.column)
		if lo, hi, ok := bounds(chunk); ok && (string(lo.ByteArray()) > c.want || string(hi.ByteArray()) < c.want) {
			return false, nil
		}
		if err := and(chunk, hit, func(v parquet.Value) bool { return bytes.Equal(v.ByteArray(), want) }); err != nil {
			return false, err
		}
	}
	if q.Erased {
		chunk := s.chunk(g, "rows_erased")
		if _, hi, ok := bounds(chunk); ok && hi.Int64() == 0 {
			return false, nil
		}
		if err := and(chunk, hit, func(v parquet.Value) bool { return v.Int64() > 0 }); err != nil {
			return false, err
		}
	}
	if q.Path != "" {
		return true, s.markPath(g, q.Path, hit)
	}
	return true, nil
}

func (s *SidecarReader) markPath(g parquet.RowGroup, part string, hit []bool) error {
	want := []byte(part)
	contains := func(v parquet.Value) bool { return bytes.Contains(v.ByteArray(), want) }
	old, replaced := make([]bool, len(hit)), make([]bool, len(hit))
	copy(old, hit)
	copy(replaced, hit)
	if err := and(s.chunk(g, "path"), old, contains); err != nil {
		return err
	}
	if err := and(s.chunk(g, "new_path"), replaced, contains); err != nil {
		return err
	}
	for i := range hit {
		hit[i] = old[i] || replaced[i]
	}
	return nil
}

func (s *SidecarReader) chunk(g parquet.RowGroup, name string) parquet.ColumnChunk {
	leaf, _ := s.file.Schema().Lookup(name)
	return g.ColumnChunks()[leaf.ColumnIndex]
}

func bounds(c parquet.ColumnChunk) (lo, hi parquet.Value, ok bool) {
	f, is := c.(*parquet.FileColumnChunk)
	if !is {
		return lo, hi, false
	}
	return f.Bounds()
}

// and keeps the hits whose value in a column satisfies keep.
func and(c parquet.ColumnChunk, hit []bool, keep func(parquet.Value) bool) error {
	return eachValue(c, func(row int, v parquet.Value) { hit[row] = hit[row] && keep(v) })
}

// eachValue visits every value of a flat column chunk in order.
func eachValue(c parquet.ColumnChunk, visit func(row int, v parquet.Value)) error {
	pages := c.Pages()
	defer pages.Close()
	row, buf := 0, make([]parquet.Value, 1024)
	for {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for values := p.Values(); ; {
			n, err := values.ReadValues(buf)
			for _, v := range buf[:n] {
				visit(row, v)
				row++
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				parquet.Release(p)
				return err
			}
		}
		parquet.Release(p)
	}
}
