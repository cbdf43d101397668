package verifier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// readBuffer is how much of a column chunk is read at a time: one request to
// an object store, and the bound on memory per open column.
const readBuffer = 1 << 20

// maxPage bounds what a page header can make us allocate, in bytes. Dictionaries
// of unique columns reach tens of megabytes.
const maxPage = 512 << 20

// parquetFile is an open Parquet file as arrow-go sees it.
type parquetFile struct {
	*file.Reader
	src    *counted
	closer io.Closer
}

// counted counts the bytes that are really read.
type counted struct {
	io.ReaderAt
	n atomic.Int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// guard turns a panic of the library on corrupt input into an error. The text
// of a panic may quote data, so none of it is kept.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = errCorrupt
	}
}

var errCorrupt = errors.New("corrupt parquet file")

// openParquet opens a file of a store.
func openParquet(ctx context.Context, store storage.Store, path string) (*parquetFile, error) {
	obj, err := store.Open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open file: %w", err)
	}
	f, err := newParquet(obj, obj.Info().Size)
	if err != nil {
		obj.Close()
		return nil, err
	}
	f.closer = obj
	return f, nil
}

// newParquet opens a file from its bytes.
func newParquet(r io.ReaderAt, size int64) (f *parquetFile, err error) {
	defer guard(&err)
	src := &counted{ReaderAt: r}
	props := parquet.NewReaderProperties(nil)
	props.BufferedStreamEnabled = true
	props.BufferSize = readBuffer
	props.MaxCompressedPageSize, props.MaxUncompressedPageSize = maxPage, 2*maxPage
	pr, err := file.NewParquetReader(io.NewSectionReader(src, 0, size), file.WithReadProps(props))
	if err != nil {
		return nil, openError(err)
	}
	return &parquetFile{Reader: pr, src: src}, nil
}

// openError keeps a storage failure, which may be worth a retry, apart from a
// file that is not readable.
func openError(err error) error {
	var se *storage.Error
	if errors.As(err, &se) {
		return fmt.Errorf("read footer: %w", se)
	}
	return fmt.Errorf("read footer: %w", errors.Join(errCorrupt, warehouse.ErrUnsupported))
}

func (f *parquetFile) Close() error {
	err := f.Reader.Close()
	if f.closer != nil {
		err = errors.Join(err, f.closer.Close())
	}
	return err
}

// read is how many bytes were read so far.
func (f *parquetFile) read() int64 { return f.src.n.Load() }
