package keyset

import "fmt"

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

func (c Column) String() string {
	p := [...]string{"unsupported", "int32", "int64", "bytes", "fixed"}[min(c.Physical, PhysFixed+1)%5]
	l := [...]string{"", " string", " uuid", " decimal", " date", " integer", " other"}[min(c.Logical.Kind, LogicalOther)]
	if c.Physical == PhysFixed {
		p = fmt.Sprintf("%s(%d)", p, c.Width)
	}
	if c.Logical.Kind == LogicalDecimal {
		l = fmt.Sprintf(" decimal(%d,%d)", c.Logical.Precision, c.Logical.Scale)
	}
	return p + l
}
