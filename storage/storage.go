// Package storage names, for programs that have expunge as a library, the stores
// that the other packages' interfaces speak of: a Format reads an Object and writes
// to a Writer, a target keeps its files in a Store.
//
// Local disk and memory (mem://) are built in; importing storage/s3, storage/gcs or
// storage/azure adds the clouds. docs/decisions/0006 says why the interface is our own.
package storage

import (
	"context"

	"github.com/expunge/expunge/internal/storage"
)

// The interfaces and what they exchange; the promises of a Store are on Store.
type (
	Store         = storage.Store
	Object        = storage.Object
	Writer        = storage.Writer
	Info          = storage.Info
	CreateOptions = storage.CreateOptions
	Attributes    = storage.Attributes
	Location      = storage.Location
)

// Errors that a caller decides on.
var (
	ErrExists         = storage.ErrExists         // IfNotExists: there is one
	ErrPrecondition   = storage.ErrPrecondition   // IfMatch: it changed meanwhile
	ErrUnknownOutcome = storage.ErrUnknownOutcome // an answer was lost: look
)

// New returns the store that dispatches on a path's scheme. Properties are PyIceberg's ("s3.endpoint", …).
func New(props map[string]string) Store { return storage.New(props) }

// ReadAll reads a whole object.
func ReadAll(ctx context.Context, s Store, path string) ([]byte, error) {
	return storage.ReadAll(ctx, s, path)
}

// WriteAll writes a whole object.
func WriteAll(ctx context.Context, s Store, path string, data []byte, o CreateOptions) error {
	return storage.WriteAll(ctx, s, path, data, o)
}

// ParseLocation splits a path or URI; it never fails.
func ParseLocation(path string) Location { return storage.ParseLocation(path) }
