package pq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go/format"
)

// Limits of this package. They are far above what writers produce.
const (
	tailSize      = 64 << 10  // first read of a file's end
	maxFooter     = 512 << 20 // bytes of the footer
	maxIndex      = 256 << 20 // bytes of one column or offset index
	maxBloom      = 256 << 20 // bytes of one bloom filter
	maxPageHeader = 64 << 20  // bytes of one page header; statistics can be long
	maxTypeLength = 1 << 20   // bytes of a fixed-length value
	// MaxPageValues is the most level entries that one page may hold. A whole
	// row group of 64 Mi rows in one page, as older pyarrow defaults allow,
	// stays below it.
	MaxPageValues = 1 << 27
)

// File is an open Parquet file. It is safe for concurrent use.
type File struct {
	r    io.ReaderAt
	size int64
	tail []byte // the file's end, read at once: often it holds the indexes too

	// Footer is the serialised FileMetaData as stored, FooterOffset its place.
	Footer       []byte
	FooterOffset int64
	// Meta is the library's view of Footer. It is lossy (unknown fields and
	// absences are gone): read from it, never write it back. Its strings and
	// byte slices alias Footer.
	Meta      *format.FileMetaData
	Schema    *Schema
	RowGroups []*RowGroup
}

// RowGroup is a horizontal slice of the file.
type RowGroup struct {
	File     *File
	Index    int
	Meta     *format.RowGroup
	FirstRow int64 // position in the file of its first row
	Rows     int64
}

// Open reads and checks the footer. The reader must stay usable as long as the
// File is; it is only ever read by ranges.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := &File{r: r, size: size}
	if err := f.readFooter(); err != nil {
		return nil, at("footer", err)
	}
	f.Meta = new(format.FileMetaData)
	if _, err := decodeStruct(f.Footer, footerShape, f.Meta); err != nil {
		return nil, at("footer", err)
	}
	if hasField(f.Footer, 8) {
		return nil, at("footer", unsupported("encrypted file"))
	}
	var err error
	if f.Schema, err = newSchema(f.Meta.Schema); err != nil {
		return nil, at("footer", err)
	}
	if err := f.checkRowGroups(); err != nil {
		return nil, at("footer", err)
	}
	return f, nil
}

// Size is the file's length in bytes.
func (f *File) Size() int64 { return f.size }

// ReaderAt is the file's source, for byte copies.
func (f *File) ReaderAt() io.ReaderAt { return f.r }

// Rows is the number of rows of the file.
func (f *File) Rows() int64 { return f.Meta.NumRows }

// readFooter fetches the serialised metadata (README.md, File format): magic,
// …, metadata, 4-byte length, magic.
func (f *File) readFooter() error {
	if f.size < 12 {
		return corrupt("file of %d bytes is too short", f.size)
	}
	tail := make([]byte, min(f.size, tailSize))
	if err := f.readAt(tail, f.size-int64(len(tail))); err != nil {
		return err
	}
	switch string(tail[len(tail)-4:]) {
	case "PAR1":
	case "PARE":
		return unsupported("encrypted footer")
	default:
		return corrupt("no magic number at the end")
	}
	if int64(len(tail)) == f.size && string(tail[:4]) != "PAR1" {
		return corrupt("no magic number at the start")
	}
	n := int64(binary.LittleEndian.Uint32(tail[len(tail)-8:]))
	if n > f.size-12 {
		return corrupt("length of %d bytes is more than the file holds", n)
	}
	if n > maxFooter {
		return unsupported("length of %d bytes", n)
	}
	f.FooterOffset, f.tail = f.size-8-n, tail
	if have := int64(len(tail)) - 8; n <= have {
		f.Footer = tail[have-n : have : have]
		return nil
	}
	f.Footer = make([]byte, n)
	return f.readAt(f.Footer, f.FooterOffset)
}

// readAt fills b or says why not. A short read means that the object is not as
// long as was said: corrupt rather than unreadable.
func (f *File) readAt(b []byte, off int64) error {
	n, err := f.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("file ends %d bytes early", len(b)-n)
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(b), off, err)
}

// readRange reads [off, off+n), which must lie between the leading magic and
// the footer. The result must not be changed.
func (f *File) readRange(off, n, limit int64) ([]byte, error) {
	if off < 4 || n < 0 || off > f.FooterOffset || n > f.FooterOffset-off {
		return nil, corrupt("range of %d bytes at %d lies outside the file's data", n, off)
	}
	if n > limit {
		return nil, unsupported("range of %d bytes", n)
	}
	if at := off - (f.size - int64(len(f.tail))); at >= 0 {
		return f.tail[at : at+n : at+n], nil
	}
	b := make([]byte, n)
	return b, f.readAt(b, off)
}

// hasField says whether the struct in b, already checked, has a field.
func hasField(b []byte, want int16) bool {
	c := cursor{b: b}
	var last int16
	for {
		id, typ := c.field(last)
		if !c.ok() || typ == tStop {
			return false
		}
		if id == want {
			return true
		}
		last = id
		c.skip(typ, false, 1, nil)
	}
}

func (f *File) checkRowGroups() error {
	m := f.Meta
	if m.NumRows < 0 {
		return corrupt("negative row count")
	}
	if n := len(m.ColumnOrders); n != 0 && n != len(f.Schema.Columns) {
		return corrupt("%d column orders for %d columns", n, len(f.Schema.Columns))
	}
	var rows int64
	for i := range m.RowGroups {
		g := &m.RowGroups[i]
		if len(g.Columns) != len(f.Schema.Columns) {
			return corrupt("row group %d has %d chunks for %d columns", i, len(g.Columns), len(f.Schema.Columns))
		}
		if g.NumRows < 0 || g.NumRows > math.MaxInt64-rows {
			return corrupt("row group %d has an impossible row count", i)
		}
		f.RowGroups = append(f.RowGroups, &RowGroup{File: f, Index: i, Meta: g, FirstRow: rows, Rows: g.NumRows})
		rows += g.NumRows
	}
	if rows != m.NumRows {
		return corrupt("row groups hold %d rows, the file says %d", rows, m.NumRows)
	}
	return nil
}
