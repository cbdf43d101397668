package storage

import (
	"errors"
	"fmt"
	"io/fs"
)

// Errors that a caller decides on. A missing object is fs.ErrNotExist and a
// refused one fs.ErrPermission.
var (
	ErrExists         = fmt.Errorf("object already exists: %w", fs.ErrExist)
	ErrPrecondition   = errors.New("object changed meanwhile")
	ErrNoSpace        = errors.New("no space left on the store")
	ErrReadOnly       = errors.New("store is read-only")
	ErrUnsupported    = fmt.Errorf("not supported by this store: %w", errors.ErrUnsupported)
	ErrThrottled      = errors.New("store asks to slow down")
	ErrTransient      = errors.New("store is unavailable for the moment")
	ErrUnknownOutcome = errors.New("write may or may not have taken effect")
	ErrKilled         = errors.New("kill switch is on")
	ErrScheme         = errors.New("no storage back end for this kind of path")
)
