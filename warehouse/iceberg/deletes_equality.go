package iceberg

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// equalityRows adds the rows of the task's file whose values an equality delete
// file names. A delete file is of a later sequence than the data file, or it
// would not be attached; NULL equals NULL (specification, "Equality Delete Files").
func (t *Table) equalityRows(ctx context.Context, task warehouse.Task, files []warehouse.DeleteFile, out *roaring64.Bitmap) error {
	groups := map[string][]warehouse.DeleteFile{}
	for _, d := range files {
		if d.Sequence <= task.File.DataSequence {
			continue
		}
		d.EqualityIDs = slices.Clone(d.EqualityIDs)
		slices.Sort(d.EqualityIDs)
		groups[idsKey(d.EqualityIDs)] = append(groups[idsKey(d.EqualityIDs)], d)
	}
	if len(groups) == 0 {
		return nil
	}
	data, err := openColumns(ctx, t.store, task.File.Path)
	if err != nil {
		return fmt.Errorf("read data file for equality deletes: %w", err)
	}
	defer data.Close()
	for _, k := range sortedKeys(groups) {
		if err := t.equalityGroup(ctx, task, data, groups[k], out); err != nil {
			return fmt.Errorf("apply equality deletes: %w", err)
		}
	}
	return nil
}

// equalityGroup applies the delete files that compare the same columns.
func (t *Table) equalityGroup(ctx context.Context, task warehouse.Task, data *columnsFile, files []warehouse.DeleteFile, out *roaring64.Bitmap) error {
	fields, err := t.equalityFields(ctx, files[0].EqualityIDs)
	if err != nil {
		return err
	}
	cols, err := data.tupleColumns(fields, true)
	if err != nil {
		return err
	}
	mark := func(deleted func(tuple []byte) bool) error {
		return data.eachTuple(ctx, cols, nil, func(row int64, tuple []byte) error {
			if deleted(tuple) {
				out.Add(uint64(row))
			}
			return nil
		})
	}
	set := t.deletes.equality(files, task.File.DataSequence)
	err = t.withEquality(ctx, set, fields, files, task.File.DataSequence, func(tuples map[string]int64) error {
		return mark(func(tuple []byte) bool { return tuples[string(tuple)] > task.File.DataSequence })
	})
	if errors.Is(err, errTooLarge) {
		return t.equalityChunks(ctx, fields, files, mark)
	}
	return err
}

// withEquality calls use with tuples that the files delete, by the highest
// sequence number that does. It fills the set first where it lacks some of
// them. A set that another task has meanwhile filled with what is wrong for
// this one is left alone, and the files are read for this task only.
func (t *Table) withEquality(ctx context.Context, set *equalitySet, fields []field, files []warehouse.DeleteFile, dataSequence int64, use func(map[string]int64) error) error {
	for {
		set.mu.RLock()
		if !set.fits(files, dataSequence) {
			set.mu.RUnlock()
			set = newEqualitySet(files)
			continue
		}
		if len(set.lacks(files)) == 0 {
			defer set.mu.RUnlock()
			return use(set.tuples)
		}
		set.mu.RUnlock()
		set.mu.Lock()
		var err error
		if set.fits(files, dataSequence) {
			err = t.fillEquality(ctx, set, fields, set.lacks(files))
		}
		set.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// equalityChunks applies delete files that say more than is kept in memory:
// chunk by chunk, each with its own pass over the data file's columns.
func (t *Table) equalityChunks(ctx context.Context, fields []field, files []warehouse.DeleteFile, mark func(func([]byte) bool) error) error {
	chunk := map[string]struct{}{}
	var size int64
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		err := mark(func(tuple []byte) bool { _, ok := chunk[string(tuple)]; return ok })
		clear(chunk)
		size = 0
		return err
	}
	for _, d := range files {
		err := t.eachEquality(ctx, d, fields, func(tuple []byte) error {
			if _, ok := chunk[string(tuple)]; ok {
				return nil
			}
			chunk[string(tuple)] = struct{}{}
			if size += int64(len(tuple)) + tupleOverhead; size > t.deletes.fileLimit {
				return flush()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return flush()
}

// fillEquality adds the tuples of delete files to a set that the caller has locked.
func (t *Table) fillEquality(ctx context.Context, set *equalitySet, fields []field, missing []warehouse.DeleteFile) error {
	size := set.size
	for _, d := range missing {
		err := t.eachEquality(ctx, d, fields, func(tuple []byte) error {
			seq, ok := set.tuples[string(tuple)]
			if !ok {
				size += int64(len(tuple)) + tupleOverhead
			}
			if !ok || d.Sequence > seq {
				set.tuples[string(tuple)] = d.Sequence
			}
			if size > t.deletes.fileLimit {
				return errTooLarge
			}
			return nil
		})
		if err != nil {
			// Half a file's tuples are in: start over when it is next asked for.
			clear(set.tuples)
			clear(set.files)
			set.size = 0
			t.deletes.resize(set, 0)
			return err
		}
		set.files[d.Path] = d.Sequence
	}
	set.size = size
	t.deletes.resize(set, size)
	return nil
}

// tupleOverhead is about what a map entry costs beside the tuple's bytes.
const tupleOverhead = 64

// eachEquality streams the tuples of an equality delete file.
func (t *Table) eachEquality(ctx context.Context, d warehouse.DeleteFile, fields []field, visit func(tuple []byte) error) error {
	f, err := openColumns(ctx, t.store, d.Path)
	if err != nil {
		return fmt.Errorf("equality delete file: %w", err)
	}
	defer f.Close()
	cols, err := f.tupleColumns(fields, false)
	if err != nil {
		return err
	}
	return f.eachTuple(ctx, cols, nil, func(_ int64, tuple []byte) error { return visit(tuple) })
}

// tupleColumns finds the fields in a file. In a data file a column may be
// missing: it was added later, and every row holds its initial default.
func (f *columnsFile) tupleColumns(fields []field, mayMiss bool) ([]tupleColumn, error) {
	cols := make([]tupleColumn, len(fields))
	for i, fd := range fields {
		leaf := fd.leaf()
		if !f.ids && len(fd.mapped) == 0 && mayMiss {
			return nil, fmt.Errorf("the data file has no field ids and the table no name mapping: %w", warehouse.ErrUnsupported)
		}
		cols[i] = tupleColumn{index: f.column(leaf.ID, append(slices.Clone(fd.mapped), fd.path)), days: unitsPerDay(leaf.Type)}
		if cols[i].index >= 0 {
			continue
		}
		if !mayMiss {
			return nil, fmt.Errorf("an equality delete file lacks column %q", pathOf(fd.path))
		}
		c, err := encodedDefault(leaf)
		if err != nil {
			return nil, err
		}
		cols[i].constant = c
	}
	return cols, nil
}

// unitsPerDay is what a stored date counts where the column is a timestamp now.
func unitsPerDay(t icebergo.Type) int64 {
	switch t.(type) {
	case icebergo.TimestampType, icebergo.TimestampTzType:
		return int64(24 * time.Hour / time.Microsecond)
	case icebergo.TimestampNsType, icebergo.TimestampTzNsType:
		return int64(24 * time.Hour)
	}
	return 0
}

// encodedDefault is a field's initial default as a value of a tuple.
func encodedDefault(f icebergo.NestedField) ([]byte, error) {
	if f.InitialDefault == nil {
		return appendNullValue(nil), nil
	}
	text, ok := defaultText(f.InitialDefault, f.Type)
	if ok {
		switch f.Type.(type) {
		case icebergo.Int32Type, icebergo.Int64Type:
			if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
				return appendTupleBytes(nil, binary.BigEndian.AppendUint64(nil, uint64(n))), nil
			}
		case icebergo.StringType, icebergo.BinaryType, icebergo.FixedType:
			return appendTupleBytes(nil, text), nil
		}
	}
	return nil, fmt.Errorf("equality delete on column %q of type %s with an initial default: %w", f.Name, f.Type, warehouse.ErrUnsupported)
}

// equalityFields resolves equality ids, in the newest schema that has them all:
// a column may have been dropped since.
func (t *Table) equalityFields(ctx context.Context, ids []int) ([]field, error) {
	for attempt := range 2 {
		meta := t.latest.Load()
		if meta == nil || attempt > 0 {
			tbl, err := t.load(ctx)
			if err != nil {
				return nil, err
			}
			m := tbl.Metadata()
			meta = &m
		}
		if fields, ok := resolveIDs(*meta, ids); ok {
			return fields, nil
		}
	}
	return nil, fmt.Errorf("an equality delete file names a column that no schema has: %w", warehouse.ErrUnsupported)
}

func resolveIDs(meta table.Metadata, ids []int) ([]field, bool) {
	schemas := slices.Clone(meta.Schemas())
	slices.SortStableFunc(schemas, func(a, b *icebergo.Schema) int { return cmp.Compare(b.ID, a.ID) })
	schemas = append([]*icebergo.Schema{meta.CurrentSchema()}, schemas...)
	for _, s := range schemas {
		var out []field
		for _, id := range ids {
			chain, ok := fieldByID(s.Fields(), id)
			if !ok {
				break
			}
			f := newField(chain)
			f.mapped = mappedPaths(meta.NameMapping(), f)
			out = append(out, f)
		}
		if len(out) == len(ids) {
			return out, true
		}
	}
	return nil, false
}

func idsKey(ids []int) string {
	var b []byte
	for _, id := range ids {
		b = strconv.AppendInt(append(b, ','), int64(id), 10)
	}
	return string(b)
}
