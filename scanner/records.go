package scanner

import (
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/pq"
)

// ErrMalformed: a record cannot be read as what its format says, so that it
// cannot be told whether it holds a key.
var ErrMalformed = errors.New("malformed record")

// Redact sets one column to null, or to the constant.
type Redact struct {
	Column   ColumnRef
	Constant *string
}

// Records asks for the records of a file of records (NDJSON, CSV, Avro) that
// hold a key, and says what is to become of them.
type Records struct {
	Match []Match
	// KeepMalformed counts malformed records as survivors; without it the first
	// one is ErrMalformed.
	KeepMalformed bool
	// Every makes each record a hit: its object's path says so.
	Every bool
	// Redact and Remove change hits instead of removing them: columns are
	// overwritten, or the elements of a list that hold the key go.
	Redact []Redact
	Remove *ColumnRef
	// Invert removes what would stay and keeps the hits as they are: for giving
	// erased records back.
	Invert bool
}

// Deletes says whether hits go.
func (r *Records) Deletes() bool { return len(r.Redact) == 0 && r.Remove == nil }

// RecordsFound is what a scan of records found. Positions in Edits are those of
// the content after decompression.
type RecordsFound struct {
	Rows      int64
	Hits      *roaring64.Bitmap // positions of records
	PerMatch  []int64           // records hit by each match
	Malformed int64             // records kept although they are malformed
	// Keys are, by match, the numbers (keyset.Set.Number) of the keys that were
	// found; nil = none of that match's.
	Keys []*roaring64.Bitmap
	// Present says that some record has all columns of some match.
	Present bool
	// Values counts the values of key columns that are not null, Foreign those
	// of them whose type is another than the key's.
	Values, Foreign int64
	Kind            packed.Kind
	Frames          []packed.Frame
	Edits           []packed.Edit // what makes the new content of the old
	Content         int64         // bytes after decompression
	BytesRead       int64
	// Blocks are, in Avro files, the blocks that hold hits; every other byte of the
	// file stays. Codec and Sync are the file's own.
	Blocks []Block
	Codec  string
	Sync   [16]byte
	// Header is the part of the content that stays even without any record: CSV's
	// header, a byte order mark.
	Header []byte
}

// Block is one block of an Avro file that holds hits.
type Block struct {
	Off, Len int64         // as stored, from its count to behind its sync marker
	Left     int64         // records that stay
	Edits    []packed.Edit // of the block's data after decompression
}

// NewRecordsFound is an empty result for so many matches.
func NewRecordsFound(matches int) *RecordsFound {
	return &RecordsFound{Hits: roaring64.New(), PerMatch: make([]int64, matches)}
}

// Malform takes in a malformed record, n bytes of the content from off on: an
// error, unless the request keeps such records.
func (f *RecordsFound) Malform(r *Records, off, n int64, why error) error {
	row := f.Rows
	f.Rows++
	if !r.KeepMalformed {
		return fmt.Errorf("record %d: %w: %w", row, ErrMalformed, why)
	}
	f.Malformed++
	if r.Invert {
		f.Remove(off, n)
	}
	return nil
}

// Remove takes n bytes of the content out, from off on.
func (f *RecordsFound) Remove(off, n int64) {
	f.Edits = packed.AddEdit(f.Edits, packed.Edit{Off: off, Len: n})
}

// ErrForeign: no value of the key columns has the key's type.
var ErrForeign = errors.New("key columns hold another type than the key's")

// Check refuses a file whose key columns hold nothing that could ever match:
// numbers for keys that are strings, say. Such a scan proves nothing.
func (f *RecordsFound) Check() error {
	if f.Values > 0 && f.Values == f.Foreign {
		return ErrForeign
	}
	return nil
}

// IsListStep says whether a step of a path goes into the elements of a list.
func IsListStep(step string) bool { return step == "[*]" || step == "element" }

// ParseRef is ParseColumn.
func ParseRef(path string) (ColumnRef, error) {
	p, err := pq.ParsePath(path)
	return ColumnRef{Path: p}, err
}
