package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"

	"github.com/expunge/expunge/internal/redact"
)

// Errors that a caller decides on. A missing object is fs.ErrNotExist and a
// refused one fs.ErrPermission.
var (
	// ErrExists: CreateOptions.IfNotExists was asked for and there is an object.
	ErrExists error = kind{"object already exists", fs.ErrExist}
	// ErrPrecondition: the object is not, or no longer, the one that was meant.
	ErrPrecondition = errors.New("object changed meanwhile")
	// ErrLocked: the store keeps the object as it is: retention, a legal hold, a lease. It is also fs.ErrPermission.
	ErrLocked error = kind{"locked by the store", fs.ErrPermission}
	// ErrArchived: the content has to be restored before it can be read. It is also fs.ErrPermission.
	ErrArchived error = kind{"archived storage class", fs.ErrPermission}
	// ErrNoSpace: disk full or quota used up. Trying again does not help.
	ErrNoSpace = errors.New("no space left on the store")
	// ErrReadOnly: the file system, or this Store, takes no writes.
	ErrReadOnly = errors.New("store is read-only")
	// ErrUnsupported: the store can't do this at all.
	ErrUnsupported error = kind{"not supported by this store", errors.ErrUnsupported}
	// ErrTransient: worth trying again.
	ErrTransient = errors.New("store is unavailable for the moment")
	// ErrThrottled: worth trying again, later and slower. It is also ErrTransient.
	ErrThrottled error = kind{"store asks to slow down", ErrTransient}
	// ErrUnknownOutcome: a write was sent and no answer came, so the object may be there or not.
	ErrUnknownOutcome = errors.New("write may or may not have taken effect")
	// ErrScheme: no back end is registered for this kind of path.
	ErrScheme = errors.New("no storage back end for this kind of path")
)

// kind is a sentinel that is also a wider one.
type kind struct {
	text string
	wide error
}

func (k kind) Error() string { return k.text }
func (k kind) Unwrap() error { return k.wide }

// Error is what every Store returns. Its text names the operation and the
// class of failure but not the path, which can hold a partition value: a
// caller that may show the path has it in Path. Nor does it repeat the text of
// the cause, which often quotes the path; the cause is there for errors.As.
type Error struct {
	Op    string // "open", "read", ...
	Path  string
	Class error  // one of the sentinels, or nil when the failure has no class
	Code  string // the store's own code: "SlowDown", "EIO", ...
	Cause error
}

// NewError makes an Error for a cause that the caller has classified.
func NewError(op, path string, class error, code string, cause error) error {
	return &Error{Op: op, Path: path, Class: class, Code: code, Cause: cause}
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(" ")
	b.WriteString(redact.Path(e.Path))
	b.WriteString(": ")
	switch {
	case e.Class != nil:
		b.WriteString(e.Class.Error())
		if e.Code != "" {
			fmt.Fprintf(&b, " (%s)", e.Code)
		}
	case e.Code != "":
		b.WriteString(e.Code)
	default:
		b.WriteString(safeText(e.Cause))
	}
	return b.String()
}

// Unwrap exposes class and cause to errors.Is and errors.As. A cause that wraps
// io.EOF (a connection that broke) stays hidden: readers would take it for the
// end of the data.
func (e *Error) Unwrap() []error {
	var out []error
	if e.Class != nil {
		out = append(out, e.Class)
	}
	if e.Cause != nil && !errors.Is(e.Cause, io.EOF) {
		out = append(out, e.Cause)
	}
	return out
}

// IsTransient says whether trying the same operation again may succeed.
func IsTransient(err error) bool {
	return err != nil && errors.Is(err, ErrTransient) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// IsNotExist is errors.Is(err, fs.ErrNotExist), for brevity.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// wrapErr classifies the errors of the operating system and the network; it
// leaves an *Error and an end of file as they are.
func wrapErr(op, path string, err error) error {
	if err == nil || isEOF(err) {
		return err
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	code, class := Classify(err)
	return &Error{Op: op, Path: path, Class: class, Code: code, Cause: err}
}

// Classify finds the class of an operating system or network error; back ends
// use it for what their client library did not recognise.
func Classify(err error) (code string, class error) {
	if errors.Is(err, context.Canceled) {
		return "", context.Canceled
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "", context.DeadlineExceeded
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if class := classifyErrno(errno); class != nil {
			return "", class
		}
		return errno.Error(), nil
	}
	for _, known := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, ErrTransient} {
		if errors.Is(err, known) {
			return "", known
		}
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "", ErrTransient
	}
	return "", nil
}

func classifyErrno(errno syscall.Errno) error {
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		return fs.ErrNotExist
	case syscall.EEXIST:
		return ErrExists
	case syscall.EACCES, syscall.EPERM:
		return fs.ErrPermission
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return ErrNoSpace
	case syscall.EROFS:
		return ErrReadOnly
	case syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EAGAIN, syscall.EINTR, syscall.ESTALE:
		return ErrTransient
	}
	return nil
}

// safeText describes an unclassified cause without quoting what may be a path.
func safeText(err error) string {
	if err == nil {
		return "unknown failure"
	}
	var u *url.Error
	if errors.As(err, &u) {
		return safeText(u.Err)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Sprintf("unclassified failure (%T)", err)
		}
		err = inner
	}
}
