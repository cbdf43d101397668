package keyset

import (
	"errors"
	"fmt"
)

// Errors that a caller decides on.
var (
	// ErrEmpty: no key is left, and the Spec does not allow that.
	ErrEmpty = errors.New("empty keyset")
	// ErrMalformed: a source or a frozen set cannot be read as what it should be.
	ErrMalformed = errors.New("malformed")
	// ErrType: a column or source cannot be compared with the key's type.
	ErrType = errors.New("type cannot be compared with the key")
	// ErrMissing: a source or a hold does not exist.
	ErrMissing = errors.New("missing")
	// ErrColumn: a source has no column of that name.
	ErrColumn = errors.New("no such column")
)

// LineError says where a source is malformed. It wraps ErrMalformed and never
// carries the value.
type LineError struct {
	Source string // "source 2 (s3://keys/[digest].csv)": its place in the list, never its path
	Line   int64  // from 1; for Parquet the row; 0 = the file as a whole
	Column string // "" = the whole line
	Reason string
}

// Error names file, line and column.
func (e *LineError) Error() string {
	s := e.Source
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
	}
	if e.Column != "" {
		s += ": column " + e.Column
	}
	return s + ": " + ErrMalformed.Error() + ": " + e.Reason
}

// Unwrap makes errors.Is(err, ErrMalformed) true.
func (e *LineError) Unwrap() error { return ErrMalformed }
