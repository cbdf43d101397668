// Package parquet rewrites Parquet files at the cost of what an edit touches.
//
// Row groups and pages without an edited row are copied byte for byte; pages
// with one are decoded, edited and encoded again in their own encoding and
// codec; dictionary entries, statistics, indexes and bloom filters follow so
// that no erased value stays in the file. A plain read-filter-write path is
// the reference: the oracle of the tests, and the fallback where the surgical
// path refuses.
package parquet

import (
	"context"
	"errors"
	"io"

	"github.com/expunge/expunge/rewriter"
)

// Input is a file to rewrite: random reads and its size in bytes.
type Input struct {
	io.ReaderAt
	Size int64
}

// Output receives the new file from its first byte to its last. Copy, when
// set, appends the range [off, off+n) of the input without the bytes passing
// through this process.
type Output struct {
	io.Writer
	Copy func(off, n int64) error
}

// RewriteTo is Rewrite on plain readers and writers.
func RewriteTo(ctx context.Context, in Input, out Output, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error) {
	return nil, errors.New("not built yet")
}
