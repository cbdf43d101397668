package verifier

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// Reserved field ids (Iceberg specification, "Reserved Field IDs").
const (
	idDeletePath   = 2147483546 // file_path of a position delete
	idDeletePos    = 2147483545 // pos
	idRowID        = 2147483540 // _row_id
	idLastSequence = 2147483539 // _last_updated_sequence_number
)

// deletedRows returns the positions of a data file's rows that its tombstones
// delete, read here with code of our own.
func deletedRows(ctx context.Context, store storage.Store, f *parquetFile, path string, deletes []warehouse.DeleteFile) (*roaring64.Bitmap, error) {
	out := roaring64.New()
	for _, d := range deletes {
		var err error
		switch d.Kind {
		case "position":
			err = positionDeletes(ctx, store, d.Path, path, out)
		case "dv":
			err = deletionVector(ctx, store, d, out)
		case "equality":
			err = equalityDeletes(ctx, store, d, f, out)
		default:
			err = fmt.Errorf("delete file of kind %q: %w", d.Kind, warehouse.ErrUnsupported)
		}
		if err != nil {
			return nil, fmt.Errorf("apply %s deletes: %w", d.Kind, err)
		}
	}
	return out, nil
}

// positionDeletes adds the positions that a delete file names for a data file.
func positionDeletes(ctx context.Context, store storage.Store, deletes, data string, out *roaring64.Bitmap) error {
	f, err := openParquet(ctx, store, deletes)
	if err != nil {
		return err
	}
	defer f.Close()
	cols := columnsOf(f.MetaData().Schema)
	p := resolve(cols, warehouse.ColumnRef{FieldID: idDeletePath, Path: []string{"file_path"}})
	n := resolve(cols, warehouse.ColumnRef{FieldID: idDeletePos, Path: []string{"pos"}})
	if p == absent || n == absent {
		return fmt.Errorf("not a position delete file: %w", errCorrupt)
	}
	paths, pos := newPairs(f.leaf(ctx, p)), newPairs(f.leaf(ctx, n))
	defer paths.l.close()
	defer pos.l.close()
	want := location(data)
	for {
		a, ok, err := paths.next()
		if err != nil || !ok {
			return err
		}
		b, ok, err := pos.next()
		if err != nil {
			return err
		}
		if !ok || len(b) != 8 {
			return errCorrupt
		}
		if location(string(a)) == want {
			out.Add(binary.LittleEndian.Uint64(b))
		}
	}
}

// pairs walks a flat column value by value; nulls are nil.
type pairs struct {
	l    *leaf
	b    *batch
	i, v int
}

func newPairs(l *leaf) *pairs { return &pairs{l: l} }

func (p *pairs) next() ([]byte, bool, error) {
	for p.b == nil || p.i == p.b.n {
		b, err := p.l.next()
		if err != nil || b == nil {
			return nil, false, err
		}
		p.b, p.i, p.v = b, 0, 0
	}
	p.i++
	if p.b.def != nil && p.b.def[p.i-1] != p.l.maxDef() {
		return nil, true, nil
	}
	p.v++
	return p.b.value(p.v - 1), true, nil
}

// dvMagic begins a deletion vector (Puffin specification, deletion-vector-v1).
var dvMagic = []byte{0xD1, 0xD3, 0x39, 0x64}

// deletionVector reads one blob: length, magic, 64-bit roaring bitmap in
// portable form, CRC-32 of magic and bitmap.
func deletionVector(ctx context.Context, store storage.Store, d warehouse.DeleteFile, out *roaring64.Bitmap) error {
	obj, err := store.Open(ctx, d.Path)
	if err != nil {
		return fmt.Errorf("open puffin file: %w", err)
	}
	defer obj.Close()
	if d.ContentSize < 12 || d.ContentOffset < 0 || d.ContentSize > obj.Info().Size-d.ContentOffset {
		return errCorrupt
	}
	b := make([]byte, d.ContentSize)
	if err := storage.ReadFull(obj, b, d.ContentOffset); err != nil {
		return fmt.Errorf("read deletion vector: %w", err)
	}
	bm, err := parseVector(b)
	if err != nil {
		return err
	}
	out.Or(bm)
	return nil
}

func parseVector(b []byte) (bm *roaring64.Bitmap, err error) {
	defer guard(&err)
	if len(b) < 12 || int(binary.BigEndian.Uint32(b)) != len(b)-8 || !bytes.Equal(b[4:8], dvMagic) {
		return nil, errCorrupt
	}
	body := b[4 : len(b)-4]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil, errCorrupt
	}
	bm = roaring64.New()
	if _, err := bm.ReadFrom(bytes.NewReader(body[4:])); err != nil {
		return nil, errCorrupt
	}
	return bm, nil
}

// equalityDeletes adds the rows of f that equal a row of the delete file in
// the delete's columns, where null equals null (Iceberg specification,
// "Equality Delete Files").
func equalityDeletes(ctx context.Context, store storage.Store, d warehouse.DeleteFile, data *parquetFile, out *roaring64.Bitmap) error {
	if len(d.EqualityIDs) == 0 {
		return fmt.Errorf("no equality ids: %w", errCorrupt)
	}
	del, err := openParquet(ctx, store, d.Path)
	if err != nil {
		return err
	}
	defer del.Close()
	set := map[string]struct{}{}
	err = tuples(ctx, del, d.EqualityIDs, func(_ int64, t []byte) { set[string(t)] = struct{}{} })
	if err != nil {
		return err
	}
	return tuples(ctx, data, d.EqualityIDs, func(row int64, t []byte) {
		if _, ok := set[string(t)]; ok {
			out.Add(uint64(row))
		}
	})
}

// tuples visits every row's values of some columns in a comparable form. A
// column that the file does not have is null in all rows.
func tuples(ctx context.Context, f *parquetFile, ids []int, visit func(row int64, tuple []byte)) error {
	cols := columnsOf(f.MetaData().Schema)
	if !hasIDs(cols) {
		return fmt.Errorf("equality deletes on a file without field ids: %w", warehouse.ErrUnsupported)
	}
	var in []*pairs
	var forms []func(dst, v []byte) []byte
	for _, id := range ids {
		c := resolve(cols, warehouse.ColumnRef{FieldID: id})
		if c == absent {
			in, forms = append(in, nil), append(forms, nil)
			continue
		}
		d := f.MetaData().Schema.Column(c)
		if d.MaxRepetitionLevel() > 0 {
			return fmt.Errorf("equality deletes on a list or map: %w", errCorrupt)
		}
		p := newPairs(f.leaf(ctx, c))
		defer p.l.close()
		in, forms = append(in, p), append(forms, comparable(d))
	}
	var t, val []byte
	for row := range f.NumRows() {
		t = t[:0]
		for i, p := range in {
			if p == nil {
				t = append(t, 0)
				continue
			}
			v, ok, err := p.next()
			if err != nil {
				return err
			}
			if !ok {
				return errCorrupt
			}
			if v == nil {
				t = append(t, 0)
				continue
			}
			val = forms[i](val[:0], v)
			t = append(binary.AppendUvarint(append(t, 1), uint64(len(val))), val...)
		}
		visit(row, t)
	}
	return nil
}

func hasIDs(cols []fileColumn) bool {
	for _, c := range cols {
		if c.id > 0 {
			return true
		}
	}
	return len(cols) == 0
}

// comparable brings values to a form that is the same across Iceberg's type
// promotions: int to long, float to double, decimals of any storage.
func comparable(d *schema.Column) func(dst, v []byte) []byte {
	if _, ok := d.LogicalType().(schema.DecimalLogicalType); ok {
		return func(dst, v []byte) []byte {
			if d.PhysicalType() == parquet.Types.Int32 || d.PhysicalType() == parquet.Types.Int64 {
				v = bytes.Clone(v)
				for i, j := 0, len(v)-1; i < j; i, j = i+1, j-1 {
					v[i], v[j] = v[j], v[i]
				}
			}
			return fromTwos(v).Append(dst, 16)
		}
	}
	switch d.PhysicalType() {
	case parquet.Types.Int32:
		return func(dst, v []byte) []byte {
			return binary.BigEndian.AppendUint64(dst, uint64(int64(int32(binary.LittleEndian.Uint32(v)))))
		}
	case parquet.Types.Int64:
		return func(dst, v []byte) []byte {
			return binary.BigEndian.AppendUint64(dst, binary.LittleEndian.Uint64(v))
		}
	case parquet.Types.Float:
		return func(dst, v []byte) []byte {
			f := float64(math.Float32frombits(binary.LittleEndian.Uint32(v)))
			return binary.BigEndian.AppendUint64(dst, math.Float64bits(f))
		}
	case parquet.Types.Double:
		return func(dst, v []byte) []byte {
			return binary.BigEndian.AppendUint64(dst, binary.LittleEndian.Uint64(v))
		}
	default:
		return func(dst, v []byte) []byte { return append(dst, v...) }
	}
}

// location is a path without the spelling differences that engines write.
func location(p string) string { return storage.Canonical(p) }
