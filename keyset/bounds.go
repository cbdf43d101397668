package keyset

import (
	"encoding/binary"
	"math"
)

// bounds turns PLAIN statistics into canonical bounds. They may be wider than
// the statistics, never narrower. nil is open; ok is false when the order of
// the column's values is not the order of the keys.
func (b *binding) bounds(min, max []byte) (lo, hi []byte, ok bool) {
	switch b.form {
	case formInt32, formInt64, formUint32, formUint64:
		return b.intBounds(min, max)
	case formIntDecimal, formBytDecimal:
		return b.decimalBounds(min, max)
	case formRaw:
		return clone(min), clone(max), true
	case formUUIDRaw:
		// A truncated bound is a shorter one: below, or (incremented) above, all it bounds.
		return clone(min), clone(max), len(min) <= 16 && len(max) <= 16
	}
	return nil, nil, false // normalised, encoded or of several text forms
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// plainInt reads 4 or 8 bytes: Iceberg keeps the 4-byte bounds of a column that
// was since promoted to long.
func (b *binding) plainInt(p []byte) (v int64, ok bool) {
	unsigned := b.form == formUint32
	switch len(p) {
	case 4:
		if x := binary.LittleEndian.Uint32(p); unsigned {
			return int64(x), true
		} else {
			return int64(int32(x)), true
		}
	case 8:
		return int64(binary.LittleEndian.Uint64(p)), !unsigned
	}
	return 0, false
}

func (b *binding) intBounds(min, max []byte) (lo, hi []byte, ok bool) {
	bound := func(p []byte) ([]byte, bool) {
		if p == nil {
			return nil, true
		}
		v, ok := b.plainInt(p)
		if b.form == formUint64 && v < 0 {
			// Above every int64, in the column's unsigned order.
			return []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ok
		}
		return b.typ.AppendInt64(nil, v), ok
	}
	lo, ok1 := bound(min)
	hi, ok2 := bound(max)
	return lo, hi, ok1 && ok2
}

func (b *binding) decimalBounds(min, max []byte) (lo, hi []byte, ok bool) {
	lo, ok1 := b.decimalBound(min)
	hi, ok2 := b.decimalBound(max)
	return lo, hi, ok1 && ok2
}

// decimalBound brings a bound to the keys' scale. Where that is coarser, the
// quotient towards zero still bounds every key, since keys are multiples of it.
// What overflows is open.
func (b *binding) decimalBound(p []byte) ([]byte, bool) {
	if p == nil {
		return nil, true
	}
	var d dec128
	if b.form == formIntDecimal {
		v, ok := b.plainInt(p)
		if !ok {
			return nil, false
		}
		d = dec128From(v)
	} else {
		var ok bool
		// A fixed column's bound of another length was cut, which for a number means nothing.
		if b.col.Physical == PhysFixed && len(p) != b.col.Width {
			return nil, false
		}
		if d, ok = dec128FromBytes(p); !ok {
			return nil, len(p) > 0
		}
	}
	if to, from := b.typ.Scale, b.scale(); to >= from {
		var ok bool
		if d, ok = d.up(to - from); !ok {
			return nil, true
		}
	} else {
		d, _ = d.down(from - to)
	}
	if b.typ.Kind == KindInt64 {
		v, ok := d.int64()
		if !ok {
			v = math.MaxInt64
			if d.hi < 0 {
				v = math.MinInt64
			}
		}
		return b.typ.AppendInt64(nil, v), true
	}
	return d.appendTo(nil), true
}
