package iceberg

import (
	"errors"
	"strings"

	"github.com/expunge/expunge/internal/storage"
)

// cleanError hides what an error of a library may quote: a data file's path or
// a value, each of which can hold a key. Its identity stays. Errors of our
// stores quote nothing and are shown as they are.
func cleanError(err error) error {
	var own *storage.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	}
	return &quietError{err}
}

type quietError struct{ err error }

// Error is the message up to where a path or a quotation starts.
func (e *quietError) Error() string {
	msg := e.err.Error()
	if i := strings.IndexAny(msg, "/\\\"'`"); i >= 0 {
		return strings.TrimRight(msg[:i], " :(") + " (rest left out)"
	}
	return msg
}

func (e *quietError) Unwrap() error { return e.err }
