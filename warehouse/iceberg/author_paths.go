package iceberg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/internal/storage"
)

// pathKey stands for a file's path in sets that grow with the table: 16 bytes
// instead of a string. At 10^9 files a collision has odds below 10^-20.
type pathKey = xxh3.Uint128

func keyOf(path string) pathKey { return xxh3.HashString128(path) }

// deleteKeyOf stands for a delete file. A deletion vector is one blob of a
// Puffin file, so its offset belongs to its identity.
func deleteKeyOf(path string, offset int64) pathKey {
	if offset == 0 {
		return keyOf(path)
	}
	return keyOf(path + "\x00" + strconv.FormatInt(offset, 10))
}

type pathSet map[pathKey]struct{}

func (s pathSet) has(k pathKey) bool { _, ok := s[k]; return ok }
func (s pathSet) add(k pathKey)      { s[k] = struct{}{} }

// partitions interns partition tuples, so that each file needs only a number.
// It is safe for concurrent use.
type partitions struct {
	mu   sync.Mutex
	ids  map[string]int32
	list []partition
}

type partition struct {
	spec   int32
	values map[int]any
}

func newPartitions() *partitions { return &partitions{ids: map[string]int32{}} }

// of numbers the partition of a data or delete file: spec and values.
func (p *partitions) of(df iceberg.DataFile) int32 {
	key := tupleKey(df)
	p.mu.Lock()
	defer p.mu.Unlock()
	id, ok := p.ids[key]
	if !ok {
		id = int32(len(p.list))
		p.ids[key] = id
		p.list = append(p.list, partition{spec: df.SpecID(), values: df.Partition()})
	}
	return id
}

func (p *partitions) get(id int32) partition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list[id]
}

// hiddenError keeps an error of the library for errors.Is but not its text,
// which may hold a path with a partition value.
type hiddenError struct{ err error }

func (e *hiddenError) Error() string {
	switch {
	case errors.Is(e.err, fs.ErrNotExist):
		return "an object is missing"
	case errors.Is(e.err, iceberg.ErrInvalidArgument):
		return "the library refused an entry"
	}
	return fmt.Sprintf("unreadable or invalid content (%T)", e.err)
}

func (e *hiddenError) Unwrap() error { return e.err }

// hide takes the text from an error that is not one of ours.
func hide(err error) error {
	var ours *storage.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return ours
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return &hiddenError{err: err}
}
