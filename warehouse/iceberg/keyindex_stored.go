package iceberg

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"
	icebergo "github.com/apache/iceberg-go"
)

// storedPlainly says whether a column is stored the way Iceberg prescribes for
// its type (specification, "Parquet"). Only then a value read here is the same key as
// the scanner finds: other forms (unsigned integers, text without annotation)
// mean other keys, and the file is left out of the index.
func storedPlainly(d *schema.Column, t icebergo.Type) bool {
	logical, phys := d.LogicalType(), d.PhysicalType()
	none := logical == nil || !logical.IsValid() || logical.IsNone()
	switch t := t.(type) {
	case icebergo.Int32Type:
		return phys == parquet.Types.Int32 && (none || signedInt(logical, 32))
	case icebergo.Int64Type:
		return phys == parquet.Types.Int64 && (none || signedInt(logical, 64)) ||
			phys == parquet.Types.Int32 && (none || signedInt(logical, 32))
	case icebergo.DateType:
		_, ok := logical.(schema.DateLogicalType)
		return ok && phys == parquet.Types.Int32
	case icebergo.StringType:
		_, ok := logical.(schema.StringLogicalType)
		return ok && phys == parquet.Types.ByteArray
	case icebergo.BinaryType:
		return none && phys == parquet.Types.ByteArray
	case icebergo.FixedType:
		return none && phys == parquet.Types.FixedLenByteArray && d.TypeLength() == t.Len()
	case icebergo.UUIDType:
		_, ok := logical.(schema.UUIDLogicalType)
		return (ok || none) && phys == parquet.Types.FixedLenByteArray && d.TypeLength() == 16
	case icebergo.DecimalType:
		dec, ok := logical.(schema.DecimalLogicalType)
		return ok && int(dec.Scale()) == t.Scale()
	}
	return false
}

func signedInt(l schema.LogicalType, width int8) bool {
	i, ok := l.(schema.IntLogicalType)
	return ok && i.IsSigned() && i.BitWidth() == width
}

// eachValue calls visit with every value of one column that is not NULL, of
// rows and elements alike, encoded as in tuples.
func (f *columnsFile) eachValue(ctx context.Context, column int, visit func(tuple []byte) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("a column of the Parquet file is corrupt")
		}
	}()
	var buf []byte
	for g := range f.r.NumRowGroups() {
		r, err := f.r.RowGroup(g).Column(column)
		if err != nil {
			return fmt.Errorf("open column: %w", cleanError(err))
		}
		c, err := newValueCursor(r)
		if err != nil {
			return err
		}
		for {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.data, c.ends = c.data[:0], c.ends[:0]
			levels, _, err := c.fill(c.def)
			if err != nil {
				return fmt.Errorf("read column: %w", cleanError(err))
			}
			if levels == 0 {
				break
			}
			start := 0
			for _, end := range c.ends {
				buf = appendTupleBytes(buf[:0], c.data[start:end])
				start = end
				if err := visit(buf); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
