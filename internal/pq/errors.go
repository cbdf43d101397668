package pq

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of error of this package. Errors of the underlying io.ReaderAt are
// wrapped as they are, so that a caller can tell an unreadable object from a
// corrupt one.
var (
	// ErrCorrupt: the bytes are not what the format allows.
	ErrCorrupt = errors.New("corrupt parquet")
	// ErrUnsupported: the file uses something that is not read here:
	// encryption, an unknown codec or encoding, legacy LZ4, external chunks.
	ErrUnsupported = errors.New("unsupported parquet")
	// ErrNotFound: a reference names no column of the file.
	ErrNotFound = errors.New("no such column")
	// ErrAmbiguous: a reference names several columns of the file.
	ErrAmbiguous = errors.New("ambiguous column")
	// ErrNotLeaf: a reference names a group, which holds no values itself.
	ErrNotLeaf = errors.New("column is a group")
)

// ErrDictionaryIndex: a value refers to an entry that the dictionary lacks.
var ErrDictionaryIndex = corrupt("index above the dictionary's entries")

// Error says what is wrong and where. Neither part ever holds a value.
type Error struct {
	Kind  error  // ErrCorrupt or ErrUnsupported
	Where string // "row group 3, column a.b, page at 1234"; may be empty
	What  string
}

func (e *Error) Error() string {
	if e.Where == "" {
		return fmt.Sprintf("%v: %s", e.Kind, e.What)
	}
	return fmt.Sprintf("%v: %s: %s", e.Kind, e.Where, e.What)
}

// Unwrap gives the kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

func corrupt(format string, args ...any) error {
	return &Error{Kind: ErrCorrupt, What: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &Error{Kind: ErrUnsupported, What: fmt.Sprintf(format, args...)}
}

// at adds a place to an error of this package and leaves others alone but for
// the same prefix.
func at(where string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		c := *e
		if c.Where == "" {
			c.Where = where
		} else if !strings.HasPrefix(c.Where, where) {
			c.Where = where + ", " + c.Where
		}
		return &c
	}
	return fmt.Errorf("%s: %w", where, err)
}
