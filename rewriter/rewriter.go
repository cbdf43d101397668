// Package rewriter says what rewriting a file means, whatever its format: an
// Edit names what goes, Options how the work is done, Result what was done.
//
// A rewriter never changes a survivor: values, order, types, field ids,
// encodings, codec and metadata come out as they went in, and what cannot be
// preserved is refused with an UnsupportedError, never converted. It writes
// to its destination only and neither closes nor aborts it: the caller makes
// the output durable once it is content with the Result.
//
// Implementations live below this package; rewriter/parquet is the surgical
// one.
package rewriter

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Edit is what happens to one file. Row positions count from 0 over the whole
// file, row groups in file order. An empty Edit copies the file.
type Edit struct {
	// Erase are the rows that go: those erased and those already deleted.
	Erase *roaring64.Bitmap
	// Redact overwrites columns of rows that stay. A row that is also erased is erased.
	Redact []Redaction
	// Remove takes elements out of lists and maps of rows that stay.
	Remove []Removal
	// Wipe treats every column as if rows had gone: dictionary entries that no row
	// refers to, bounds that no value has and bloom filters are made anew.
	Wipe bool
	// Lineage, when set, materialises Iceberg's row lineage columns.
	Lineage *Lineage
}

// Column names a schema node: by field id, or by its path in the file when
// FieldID is 0. Path is physical ("tags", "list", "element") or logical ("tags", "element").
type Column struct {
	FieldID int32
	Path    []string
	// Names are other paths to try where the file carries no field ids.
	Names [][]string
	// AllowMissing makes an edit of a column that the file lacks do nothing:
	// after schema evolution older files read it as null.
	AllowMissing bool
}

// Redaction sets one column to null or to a constant in some rows. A column
// that is a group can only be set to null. Inside lists and maps every element
// of the row is overwritten.
type Redaction struct {
	Rows   *roaring64.Bitmap
	Column Column
	// Constant, when set, is the text of the value, parsed by the column's type; nil sets null.
	Constant *string
}

// Removal takes elements out of one list or map; a list whose elements all go
// becomes empty, never null. Elements holds ElementKeys.
type Removal struct {
	Column   Column // the list or map column itself, or its repeated group
	Elements *roaring64.Bitmap
}

// elementBits are the low bits of an element key, which number the element in its row.
const elementBits = 24

// ElementKey names one element of a list column: the index counts that
// column's elements within the row from 0, in storage order, across all
// instances where the list itself lies in a list. It is below 1<<24.
func ElementKey(row uint64, index uint32) uint64 { return row<<elementBits | uint64(index) }

// SplitElement is the inverse of ElementKey.
func SplitElement(key uint64) (row uint64, index uint32) {
	return key >> elementBits, uint32(key & (1<<elementBits - 1))
}

// Lineage says what the rows of a file inherit under Iceberg v3: row id is
// FirstRowID + position, the sequence number is the file's. Values that the
// file already stores win; nulls among them are filled.
type Lineage struct {
	FirstRowID int64
	Sequence   int64
}

// Options say how the work is done. The zero value is the default.
type Options struct {
	// Workers bound the goroutines that encode; 0 is 1.
	Workers int
	// Engine is "" (surgical, and the reference where that refuses), "surgical" or "reference".
	Engine string
	// SkipCheck leaves out the decode of every rewritten page against its edit.
	SkipCheck bool
	// SkipDigest leaves Result.SHA256 zero: copied ranges then need not pass through the process.
	SkipDigest bool
	// ZstdLevel is 1 (fastest, the default) to 4, for pages that are compressed
	// anew: a file does not say which level wrote it. Up to 1 pages are edited in
	// their compressed form where that is possible.
	ZstdLevel int
}

// Engine names in Options and Result.
const (
	Surgical  = "surgical"
	Reference = "reference"
)

// Result says what was done. When every row of a file that had rows went,
// RowsOut is 0, nothing was written and the caller aborts the destination.
type Result struct {
	RowsIn, RowsOut int64
	// Engine did the work; Fallback says why it was the reference, when that was not asked for.
	Engine, Fallback string
	// BytesCopied came from the source as they were; BytesReencoded were produced.
	BytesCopied, BytesReencoded int64
	// PagesTouched are the data pages decoded and written anew or dropped, of PagesTotal.
	PagesTouched, PagesTotal int
	RowGroupsDropped         int
	Size                     int64
	SHA256                   [32]byte
}

// ErrUnsupported is the root of every refusal: the input is left as it is.
var ErrUnsupported = errors.New("unsupported")

// ErrColumn is returned when an edit names a column that the file has not.
var ErrColumn = errors.New("no such column")

// ErrCorrupt is the root of errors about a file that contradicts itself or its checksums.
var ErrCorrupt = errors.New("corrupt file")

// UnsupportedError says what is not supported, and where in the file.
type UnsupportedError struct {
	What  string
	Where string // "row group 3, column a.b, page 7"; never a value
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	if e.Where == "" {
		return "unsupported: " + e.What
	}
	return fmt.Sprintf("unsupported: %s (%s)", e.What, e.Where)
}

// Is makes errors.Is(err, ErrUnsupported) true.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }
