package keyset

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Physical is how a column is stored.
type Physical uint8

// The physical types that can hold keys; others are refused.
const (
	PhysInt32 Physical = iota + 1
	PhysInt64
	PhysBytes // BYTE_ARRAY
	PhysFixed // FIXED_LEN_BYTE_ARRAY
)

// LogicalKind is what a column's annotation says of its values.
type LogicalKind uint8

// The annotations that matter to keys.
const (
	LogicalNone LogicalKind = iota
	LogicalString
	LogicalUUID
	LogicalDecimal
	LogicalDate
	LogicalInt
	LogicalOther // timestamps, times, floats, JSON, …: never compared
)

// Logical is a column's annotation.
type Logical struct {
	Kind             LogicalKind
	Precision, Scale int  // LogicalDecimal
	Bits             int  // LogicalInt
	Unsigned         bool // LogicalInt
}

// Column is a column as a file stores it.
type Column struct {
	Physical Physical
	Width    int // PhysFixed: bytes
	Logical  Logical
}

// String names the column's type, for errors.
func (c Column) String() string {
	s := "unsupported"
	switch c.Physical {
	case PhysInt32:
		s = "int32"
	case PhysInt64:
		s = "int64"
	case PhysBytes:
		s = "bytes"
	case PhysFixed:
		s = fmt.Sprintf("fixed(%d)", c.Width)
	}
	switch c.Logical.Kind {
	case LogicalString:
		s += " string"
	case LogicalUUID:
		s += " uuid"
	case LogicalDecimal:
		s += fmt.Sprintf(" decimal(%d,%d)", c.Logical.Precision, c.Logical.Scale)
	case LogicalDate:
		s += " date"
	case LogicalInt:
		if c.Logical.Unsigned {
			s += " unsigned"
		}
	case LogicalOther:
		s += " (other annotation)"
	}
	return s
}

// form is how a column's values become a part's canonical form.
type form uint8

const (
	formInt32      form = iota + 1 // → word
	formUint32                     // → word
	formInt64                      // → word
	formUint64                     // → word; the upper half never matches
	formIntDecimal                 // unscaled value in an integer
	formBytDecimal                 // unscaled value in bytes, big endian
	formRaw                        // the bytes themselves
	formNormal                     // the bytes, normalised
	formEncoded                    // text that stands for binary
	formUUIDRaw                    // 16 bytes
	formUUIDText                   // text
	formUUIDAny                    // unannotated: 16 bytes, or text
)

// binding joins a key part to a column. It has no state: safe for concurrent use.
type binding struct {
	typ   Type
	col   Column
	rules *rules
	form  form
}

// bind decides how a column is compared with a part, or that it cannot be:
// numbers and dates are never compared with text, where "007" and "7" differ.
func bind(p Part, col Column) (binding, error) {
	r, err := compileRules(p)
	if err != nil {
		return binding{}, err
	}
	b := binding{typ: p.Type, col: col, rules: r}
	switch p.Type.Kind {
	case KindInt64:
		b.form = col.integerForm()
	case KindDecimal:
		if b.form = col.integerForm(); b.form == formInt32 || b.form == formInt64 {
			b.form = formIntDecimal // scale 0
		} else if b.form == formUint32 || b.form == formUint64 {
			b.form = 0
		}
	case KindDate:
		if col.Physical == PhysInt32 && col.Logical.Kind == LogicalDate {
			b.form = formInt32
		}
	case KindUUID:
		b.form = col.uuidForm()
	case KindString:
		if col.textual() {
			b.form = formRaw
			if r.any() {
				b.form = formNormal
			}
		}
	case KindBinary:
		switch {
		case !col.textual():
		case col.Logical.Kind == LogicalNone:
			b.form = formRaw
		case r.codec != codecNone:
			b.form = formEncoded
		}
	}
	if b.form == 0 {
		return binding{}, fmt.Errorf("%w: key part %q is %s, the column is %s", ErrType, p.Name, p.Type, col)
	}
	return b, nil
}

// integerForm is the form of a column of numbers, 0 if it is none.
func (c Column) integerForm() form {
	l := c.Logical
	plain := l.Kind == LogicalNone || l.Kind == LogicalInt
	decimal := l.Kind == LogicalDecimal && l.Scale >= 0
	switch {
	case c.Physical == PhysInt32 && plain && l.Unsigned:
		return formUint32
	case c.Physical == PhysInt32 && plain:
		return formInt32
	case c.Physical == PhysInt64 && plain && l.Unsigned:
		return formUint64
	case c.Physical == PhysInt64 && plain:
		return formInt64
	case (c.Physical == PhysInt32 || c.Physical == PhysInt64) && decimal:
		return formIntDecimal
	case (c.Physical == PhysBytes || c.Physical == PhysFixed) && decimal:
		return formBytDecimal
	}
	return 0
}

func (c Column) uuidForm() form {
	switch k := c.Logical.Kind; {
	case c.Physical == PhysFixed && c.Width == 16 && (k == LogicalNone || k == LogicalUUID):
		return formUUIDRaw
	case c.Physical == PhysBytes && k == LogicalUUID:
		return formUUIDRaw
	case c.Physical == PhysBytes && k == LogicalNone:
		return formUUIDAny
	case c.textual() && (c.Physical == PhysBytes || c.Width >= 32):
		return formUUIDText
	}
	return 0
}

// textual reports whether the column holds bytes without a meaning of their own.
func (c Column) textual() bool {
	return (c.Physical == PhysBytes || c.Physical == PhysFixed) &&
		(c.Logical.Kind == LogicalNone || c.Logical.Kind == LogicalString)
}

// isWord reports whether the canonical form is the integer itself, widened.
func (b *binding) isWord() bool { return b.form >= formInt32 && b.form <= formUint64 }

// word is the canonical form of an integer as a number.
func (b *binding) word(v int64) (uint64, bool) {
	switch b.form {
	case formUint32:
		return uint64(uint32(v)) ^ signFlip, true
	case formUint64:
		return uint64(v) ^ signFlip, v >= 0
	}
	return uint64(v) ^ signFlip, true
}

// append appends the canonical form of a column's value: v for integer columns,
// raw for the others. False: no key can equal the value.
func (b *binding) append(dst []byte, v int64, raw []byte) ([]byte, bool) {
	switch b.form {
	case formInt32, formUint32, formInt64, formUint64:
		w, ok := b.word(v)
		return b.typ.AppendInt64(dst, int64(w^signFlip)), ok
	case formIntDecimal:
		return b.appendDecimal(dst, dec128From(v))
	case formBytDecimal:
		d, ok := dec128FromBytes(raw)
		if !ok {
			return dst, false
		}
		return b.appendDecimal(dst, d)
	case formRaw:
		return append(dst, raw...), true
	case formNormal:
		return b.rules.appendString(dst, raw), true
	case formEncoded:
		return b.rules.codec.appendDecoded(dst, b.rules.text(raw))
	case formUUIDRaw:
		return append(dst, raw...), len(raw) == 16
	case formUUIDText:
		return appendUUIDText(dst, b.rules.text(raw))
	case formUUIDAny:
		if len(raw) == 16 {
			return append(dst, raw...), true
		}
		return appendUUIDText(dst, b.rules.text(raw))
	}
	return dst, false
}

// wide is append for parts whose canonical form is 16 bytes, as two words.
func (b *binding) wide(v int64, raw []byte) (hi, lo uint64, ok bool) {
	d := dec128From(v)
	switch b.form {
	case formUUIDText, formUUIDAny:
		if len(raw) == 36 && !b.rules.trim {
			return parseUUID36((*[36]byte)(raw))
		}
		if len(raw) == 16 && b.form == formUUIDAny {
			return binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:]), true
		}
		return parseUUID(b.rules.text(raw))
	case formUUIDRaw:
		if len(raw) != 16 {
			return 0, 0, false
		}
		return binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:]), true
	case formBytDecimal:
		if d, ok = dec128FromBytes(raw); !ok {
			return 0, 0, false
		}
	}
	d, ok = d.rescale(b.scale(), b.typ.Scale)
	return uint64(d.hi) ^ signFlip, d.lo, ok && d.fits(b.typ.Precision)
}

// appendDecimal brings a column's unscaled value to the part's scale or type,
// exactly or not at all.
func (b *binding) appendDecimal(dst []byte, d dec128) ([]byte, bool) {
	scale := b.scale()
	if b.typ.Kind == KindInt64 {
		q, exact := d.down(scale)
		v, ok := q.int64()
		return b.typ.AppendInt64(dst, v), exact && ok
	}
	d, ok := d.rescale(scale, b.typ.Scale)
	if !ok || !d.fits(b.typ.Precision) {
		return dst, false
	}
	return d.appendTo(dst), true
}

// scale is the column's; integers have 0.
func (b *binding) scale() int {
	if b.col.Logical.Kind == LogicalDecimal {
		return b.col.Logical.Scale
	}
	return 0
}

// appendPlain appends the PLAIN encoding, as the column stores it, of a
// canonical key; byte arrays come without their length. False: the column
// cannot hold the key.
func (b *binding) appendPlain(dst, canonical []byte) ([]byte, bool) {
	switch b.form {
	case formRaw, formUUIDRaw:
		return append(dst, canonical...), b.col.Physical != PhysFixed || len(canonical) == b.col.Width
	case formIntDecimal, formBytDecimal:
		d, ok := b.unscaled(canonical)
		if !ok {
			return dst, false
		}
		if b.form == formBytDecimal {
			return d.appendFixed(dst, b.col.Width)
		}
		v, ok := d.int64()
		if !ok {
			return dst, false
		}
		return b.appendInt(dst, v)
	}
	return b.appendInt(dst, b.typ.Int64(canonical))
}

// appendInt appends a key's integer in the column's width, little endian.
func (b *binding) appendInt(dst []byte, v int64) ([]byte, bool) {
	switch {
	case b.form == formUint32 && v != int64(uint32(v)),
		b.form == formUint64 && v < 0,
		b.form != formUint32 && b.col.Physical == PhysInt32 && (v < math.MinInt32 || v > math.MaxInt32):
		return dst, false
	}
	n := 8
	if b.col.Physical == PhysInt32 {
		n = 4
	}
	for i := range n {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst, true
}

// unscaled is a key as the column's unscaled decimal, exactly or not at all.
func (b *binding) unscaled(canonical []byte) (dec128, bool) {
	if b.typ.Kind == KindInt64 {
		return dec128From(b.typ.Int64(canonical)).up(b.scale())
	}
	return dec128FromCanonical(canonical).rescale(b.typ.Scale, b.scale())
}
