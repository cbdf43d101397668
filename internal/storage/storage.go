// Package storage is the one door through which every byte of a job passes:
// table files, objects, keysets and state alike.
//
// A path is a plain local path or a URI with a scheme (file, s3, s3a, gs,
// abfs, wasb, mem). New returns a Store that dispatches on it; back ends for
// clouds register themselves when their package is imported. Decorators
// (WithRetry, WithLimits, WithCounters, WithFaults, WithKillSwitch, ReadOnly)
// wrap a Store and see each operation, optional ones included.
//
// What a Store promises:
//   - An object is whole or absent. Nothing is visible before Writer.Close
//     returned nil, and then it is durable.
//   - CreateOptions.IfNotExists and IfMatch hold against concurrent writers in
//     other processes and on other machines.
//   - List yields paths in ascending byte order and streams.
//   - Errors never carry a path, because a path can hold a partition value:
//     see Error.
package storage

import (
	"context"
	"io"
	"iter"
	"time"
)

// Info describes one stored object.
type Info struct {
	Path    string // as a caller would open it
	Size    int64
	ETag    string // changes whenever the content does; opaque
	Version string // the store's version id, where versions are kept
	ModTime time.Time
}

// Object is an open object. One ReadAt is one range request, bound to the
// context of Open and to the object's state at Open: content that changed
// since then is ErrPrecondition where the store can tell.
type Object interface {
	io.ReaderAt
	io.Closer
	Info() Info
}

// Writer writes one new object.
//
// Close makes it visible and durable; closing twice gives the first result
// again. After an error the object is not visible, unless the error is
// ErrUnknownOutcome or transient (an answer was lost): then it may be, and
// WriteAll, or whoever else knows what was written, looks. Abort drops
// everything; it is safe after Close, where it does nothing.
type Writer interface {
	io.Writer
	Close() error
	Abort() error
}

// RangeCopier is an optional interface of a Writer: it appends a range of a
// stored object without moving its bytes through this process where the store
// can do that.
type RangeCopier interface {
	CopyRange(src Object, off, n int64) error
}

// CreateOptions says when a Create may succeed and what it stores.
type CreateOptions struct {
	IfNotExists bool   // otherwise ErrExists
	IfMatch     string // the current ETag, otherwise ErrPrecondition
	ContentType string
	Metadata    map[string]string
	// Private asks for an object that only its owner can read (mode 0600 on a
	// local disk; object stores ignore it).
	Private bool
	// Like asks for the attributes of an existing object: content type, user
	// metadata, tags, storage class, encryption and access rules, as far as
	// the store has them.
	Like *Attributes
	// OnUpload, if set, is told the id of a multipart upload before it stores
	// anything: whoever comes after a crash then knows the upload for this
	// program's. An error ends the write.
	OnUpload func(ctx context.Context, id string) error
}

// Store is object storage, or a local disk that behaves like it.
type Store interface {
	// Open opens an object for range reads; errors.Is(err, fs.ErrNotExist) if there is none.
	Open(ctx context.Context, path string) (Object, error)
	// Create starts an object; it replaces an existing one unless o forbids that.
	// ErrExists and ErrPrecondition come from here or from Writer.Close.
	Create(ctx context.Context, path string, o CreateOptions) (Writer, error)
	// Remove removes an object; fs.ErrNotExist where the store can tell that there was none.
	Remove(ctx context.Context, path string) error
	// List yields every object whose path starts with the exact string prefix,
	// in ascending byte order of paths.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}
