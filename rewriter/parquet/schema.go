package parquet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", rewriter.ErrCorrupt, fmt.Errorf(format, args...))
}

// translate turns errors of the read layer into this package's.
func translate(err error) error {
	if err == nil || errors.Is(err, rewriter.ErrCorrupt) || errors.Is(err, rewriter.ErrUnsupported) {
		return err
	}
	if errors.Is(err, thriftpatch.ErrMalformed) {
		return fmt.Errorf("%w: %w", rewriter.ErrCorrupt, err)
	}
	var e *pq.Error
	if !errors.As(err, &e) {
		return err
	}
	if errors.Is(e, pq.ErrUnsupported) {
		return &rewriter.UnsupportedError{What: e.What, Where: e.Where}
	}
	return fmt.Errorf("%w: %w", rewriter.ErrCorrupt, err)
}

// nodePath is a schema node's path in the file, the root left out.
func nodePath(n *pq.Node) []string {
	var p []string
	for ; n.Parent != nil; n = n.Parent {
		p = append(p, n.Name)
	}
	slices.Reverse(p)
	return p
}

func nodeName(n *pq.Node) string { return strings.Join(nodePath(n), ".") }

// under says whether n is g or below it.
func under(n, g *pq.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == g {
			return true
		}
	}
	return false
}

// find resolves a column of an edit to a schema node.
func find(s *pq.Schema, c rewriter.Column) (*pq.Node, error) {
	n, err := s.ResolveNode(pq.Ref{FieldID: c.FieldID, Path: c.Path, Names: c.Names})
	if errors.Is(err, pq.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", rewriter.ErrColumn, err)
	}
	return n, err
}

func findID(n *pq.Node, id int32) *pq.Node {
	if n.Parent != nil && n.FieldID == id {
		return n
	}
	for _, c := range n.Children {
		if m := findID(c, id); m != nil {
			return m
		}
	}
	return nil
}

// annotation is a leaf's logical type, whichever of the two ways says it.
type annotation struct {
	kind  annotationKind
	scale int32
	unit  format.TimeUnitValue
}

type annotationKind uint8

const (
	plainType annotationKind = iota
	decimalType
	dateType
	timestampType
	uuidType
	halfType
	unsignedType
	unorderedType // INTERVAL, GEOMETRY, GEOGRAPHY, VARIANT, NULL
	otherType     // STRING, JSON, TIME, signed integers …: as the physical type
)

// Converted types that matter here (parquet.thrift, ConvertedType).
const (
	convertedDecimal         = 5
	convertedDate            = 6
	convertedTimestampMillis = 9
	convertedTimestampMicros = 10
	convertedUint8           = 11
	convertedUint64          = 14
	convertedInterval        = 21
)

func annotationOf(c *pq.Column) annotation {
	switch t := c.Logical().(type) {
	case *format.DecimalType:
		return annotation{kind: decimalType, scale: t.Scale}
	case *format.DateType:
		return annotation{kind: dateType}
	case *format.TimestampType:
		return annotation{kind: timestampType, unit: t.Unit.Value}
	case *format.UUIDType:
		return annotation{kind: uuidType}
	case *format.Float16Type:
		return annotation{kind: halfType}
	case *format.IntType:
		if !t.IsSigned {
			return annotation{kind: unsignedType}
		}
		return annotation{kind: otherType}
	case *format.GeometryType, *format.GeographyType, *format.VariantType, *format.NullType:
		return annotation{kind: unorderedType}
	case nil:
	default:
		return annotation{kind: otherType}
	}
	converted, ok := c.Converted()
	if !ok {
		return annotation{}
	}
	switch {
	case converted == convertedDecimal:
		return annotation{kind: decimalType, scale: c.Node.Meta.Scale.V}
	case converted == convertedDate:
		return annotation{kind: dateType}
	case converted == convertedTimestampMillis:
		return annotation{kind: timestampType, unit: &format.MilliSeconds{}}
	case converted == convertedTimestampMicros:
		return annotation{kind: timestampType, unit: &format.MicroSeconds{}}
	case converted >= convertedUint8 && converted <= convertedUint64:
		return annotation{kind: unsignedType}
	case converted == convertedInterval:
		return annotation{kind: unorderedType}
	}
	return annotation{kind: otherType}
}
