package iceberg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/iceberg-go/table/dv"

	"github.com/expunge/expunge/warehouse"
)

// positionField is the reserved id of pos in position delete files.
const positionField = 2147483545

// Deleted returns the row positions of the task's file that tombstones already
// delete: those of its deletion vector, or else of its position delete files,
// and the rows whose values an equality delete file names.
func (t *Table) Deleted(ctx context.Context, task warehouse.Task) (*roaring64.Bitmap, error) {
	out := roaring64.New()
	var equality []warehouse.DeleteFile
	hasDV := false
	for _, d := range task.File.Deletes {
		hasDV = hasDV || d.Kind == deleteVector
	}
	for _, d := range task.File.Deletes {
		switch d.Kind {
		case deleteVector:
			b, err := t.readVector(ctx, d)
			if err != nil {
				return nil, fmt.Errorf("read deletion vector: %w", err)
			}
			out.Or(b)
		case deletePosition:
			if hasDV { // a vector holds what position deletes said before (specification, "Scan Planning")
				continue
			}
			b, err := t.deletedPositions(ctx, d, task.File.Path)
			if err != nil {
				return nil, fmt.Errorf("read position delete file: %w", err)
			}
			out.Or(b)
		case deleteEquality:
			equality = append(equality, d)
		default:
			return nil, fmt.Errorf("delete file of kind %q: %w", d.Kind, warehouse.ErrUnsupported)
		}
	}
	if err := t.equalityRows(ctx, task, equality, out); err != nil {
		return nil, err
	}
	// A position past the end deletes nothing; it must not count as a row.
	out.RemoveRange(uint64(max(task.File.Rows, 0)), math.MaxUint64)
	out.Remove(math.MaxUint64)
	return out, nil
}

// maxVector bounds a deletion vector in memory: 2^31 bytes are its own limit.
const maxVector = math.MaxInt32

// readVector reads one blob of a Puffin file: the range that the manifest
// names, a length, a magic number, a 64-bit Roaring bitmap and a checksum.
func (t *Table) readVector(ctx context.Context, d warehouse.DeleteFile) (*roaring64.Bitmap, error) {
	if d.ContentSize <= 0 || d.ContentSize > maxVector || d.ContentOffset < 0 {
		return nil, errors.New("its range in the Puffin file is not given")
	}
	obj, err := t.store.Open(ctx, d.Path)
	if err != nil {
		return nil, cleanError(err)
	}
	defer obj.Close()
	if d.ContentOffset+d.ContentSize > obj.Info().Size {
		return nil, errors.New("its range lies outside the Puffin file")
	}
	blob := make([]byte, d.ContentSize)
	if n, err := obj.ReadAt(blob, d.ContentOffset); n < len(blob) {
		return nil, cleanError(err)
	}
	bm, err := dv.DeserializeDV(blob, -1)
	if err != nil {
		return nil, cleanError(err)
	}
	out := roaring64.New()
	batch := make([]uint64, 0, 4096)
	for p := range bm.Positions() {
		if batch = append(batch, p); len(batch) == cap(batch) {
			out.AddMany(batch)
			batch = batch[:0]
		}
	}
	out.AddMany(batch)
	return out, nil
}

// deletedPositions returns the positions that a position delete file names for
// one data file. What the file says of other data files is kept for their
// tasks, unless it is too much.
func (t *Table) deletedPositions(ctx context.Context, d warehouse.DeleteFile, path string) (*roaring64.Bitmap, error) {
	e := t.deletes.positions(d.Path)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.large {
		return t.positionsOf(ctx, d.Path, path)
	}
	if e.byPath == nil {
		byPath, size, err := t.readPositions(ctx, d.Path, t.deletes.fileLimit)
		if errors.Is(err, errTooLarge) {
			e.large = true
			return t.positionsOf(ctx, d.Path, path)
		}
		if err != nil {
			return nil, err
		}
		e.byPath = byPath
		t.deletes.grow(e, size)
	}
	if b := e.byPath[path]; b != nil {
		return b.Clone(), nil
	}
	return roaring64.New(), nil
}

// errTooLarge: a delete file says more than is kept in memory.
var errTooLarge = errors.New("too large to keep")

// readPositions reads a whole position delete file.
func (t *Table) readPositions(ctx context.Context, file string, limit int64) (map[string]*roaring64.Bitmap, int64, error) {
	byPath := map[string]*roaring64.Bitmap{}
	var size int64
	var last []byte
	var current *roaring64.Bitmap
	err := t.eachPosition(ctx, file, nil, func(path []byte, pos uint64) error {
		if current == nil || !bytes.Equal(path, last) {
			last = append(last[:0], path...)
			if current = byPath[string(path)]; current == nil {
				current = roaring64.New()
				byPath[string(path)] = current
				size += int64(len(path)) + 256
			}
		}
		current.Add(pos)
		if size += 2; size > limit { // two bytes a position in a Roaring array container
			return errTooLarge
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return byPath, size, nil
}

// positionsOf reads what a position delete file says of one data file. Row
// groups whose bounds leave no room for the path are passed over.
func (t *Table) positionsOf(ctx context.Context, file, path string) (*roaring64.Bitmap, error) {
	out := roaring64.New()
	want := []byte(path)
	err := t.eachPosition(ctx, file, want, func(p []byte, pos uint64) error {
		if bytes.Equal(p, want) {
			out.Add(pos)
		}
		return nil
	})
	return out, err
}

// eachPosition streams a position delete file.
func (t *Table) eachPosition(ctx context.Context, path string, only []byte, visit func(path []byte, pos uint64) error) error {
	f, err := openColumns(ctx, t.store, path)
	if err != nil {
		return err
	}
	defer f.Close()
	cols := []tupleColumn{
		{index: f.column(filePathField, [][]string{{"file_path"}})},
		{index: f.column(positionField, [][]string{{"pos"}})},
	}
	if cols[0].index < 0 || cols[1].index < 0 {
		return errors.New("it lacks file_path or pos")
	}
	keep := func(group int) bool { return only == nil || f.mayHold(group, cols[0].index, only) }
	return f.eachTuple(ctx, cols, keep, func(_ int64, tuple []byte) error {
		p, rest, ok := cutTupleBytes(tuple)
		pos, _, ok2 := cutTupleBytes(rest)
		if !ok || !ok2 || len(pos) != 8 {
			return errors.New("a row without file_path or pos")
		}
		n := binary.BigEndian.Uint64(pos)
		if n > math.MaxInt64 {
			return errors.New("a negative position")
		}
		return visit(p, n)
	})
}

// cutTupleBytes takes the first value off a tuple; false for NULL.
func cutTupleBytes(tuple []byte) (v, rest []byte, ok bool) {
	if len(tuple) == 0 || tuple[0] == 0 {
		return nil, nil, false
	}
	n, w := binary.Uvarint(tuple[1:])
	if w <= 0 || uint64(len(tuple)-1-w) < n {
		return nil, nil, false
	}
	return tuple[1+w : 1+w+int(n)], tuple[1+w+int(n):], true
}

// mayHold says whether a row group's statistics leave room for a value.
func (f *columnsFile) mayHold(group, column int, value []byte) bool {
	chunk, err := f.r.MetaData().RowGroup(group).ColumnChunk(column)
	if err != nil {
		return true
	}
	stats, err := chunk.Statistics()
	if err != nil || stats == nil || !stats.HasMinMax() {
		return true
	}
	hi := stats.EncodeMax()
	return bytes.Compare(stats.EncodeMin(), value) <= 0 &&
		(bytes.Compare(value, hi) <= 0 || bytes.HasPrefix(value, hi))
}
