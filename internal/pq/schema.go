package pq

import (
	"strings"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// maxNesting bounds the depth of a schema: levels are kept in a byte.
const maxNesting = 100

// Node is an element of the schema tree.
type Node struct {
	Name       string
	FieldID    int32 // Iceberg's field id; 0 = none (Iceberg numbers from 1)
	Repetition format.FieldRepetitionType
	Element    int // index in the footer's flattened schema
	Def, Rep   int // maximum levels down to and including this node
	Parent     *Node
	Children   []*Node
	Column     *Column // the leaf, when this is one
	Meta       *format.SchemaElement
}

// IsList says that the node is annotated as a list (LogicalTypes.md, Lists).
func (n *Node) IsList() bool {
	_, ok := n.Meta.LogicalType.Value.(*format.ListType)
	return ok || n.converted(deprecated.List)
}

// IsMap says that the node is annotated as a map (LogicalTypes.md, Maps).
func (n *Node) IsMap() bool {
	_, ok := n.Meta.LogicalType.Value.(*format.MapType)
	return ok || n.converted(deprecated.Map) || n.converted(deprecated.MapKeyValue) && len(n.Children) == 1
}

// RepeatedNode is the node that repeats for every element of a list or entry of
// a map: n itself, or its one child. It is nil when n is neither.
func (n *Node) RepeatedNode() *Node {
	if n.Parent != nil && n.Repetition == format.Repeated {
		return n
	}
	if (n.IsList() || n.IsMap()) && len(n.Children) == 1 && n.Children[0].Repetition == format.Repeated {
		return n.Children[0]
	}
	return nil
}

func (n *Node) converted(t deprecated.ConvertedType) bool {
	return n.Meta.ConvertedType.Valid && n.Meta.ConvertedType.V == t
}

// Column is a leaf of the schema: what a chunk holds.
type Column struct {
	Index      int      // ordinal among the leaves = ordinal of its chunk in every row group
	Path       []string // physical path, list and map groups included
	Node       *Node
	Type       format.Type
	TypeLength int // bytes of a FIXED_LEN_BYTE_ARRAY value, else 0
	MaxDef     int
	MaxRep     int
	FieldID    int32 // 0 = none
}

// Name joins the physical path with dots, for messages.
func (c *Column) Name() string { return strings.Join(c.Path, ".") }

// Logical is the logical type, nil when there is none.
func (c *Column) Logical() format.LogicalTypeValue { return c.Node.Meta.LogicalType.Value }

// Converted is the converted type (the older annotation).
func (c *Column) Converted() (deprecated.ConvertedType, bool) {
	return c.Node.Meta.ConvertedType.V, c.Node.Meta.ConvertedType.Valid
}

// RepeatedAncestors lists the repeated nodes from the root to the leaf; the
// i-th carries repetition level i+1. Columns whose lists share these nodes
// have the same structure down to there.
func (c *Column) RepeatedAncestors() []*Node {
	out := make([]*Node, c.MaxRep)
	for n := c.Node; n != nil; n = n.Parent {
		if n.Repetition == format.Repeated && n.Parent != nil {
			out[n.Rep-1] = n
		}
	}
	return out
}

// Schema is the tree of a file's schema elements.
type Schema struct {
	Root    *Node
	Columns []*Column // leaves in file order
	// HasFieldIDs says that at least one element carries a field id. Where
	// none does (imported files), columns are found by name only.
	HasFieldIDs bool
}

// newSchema builds the tree from the depth-first list (parquet.thrift,
// FileMetaData.schema).
func newSchema(elems []format.SchemaElement) (*Schema, error) {
	if len(elems) == 0 {
		return nil, corrupt("schema is empty")
	}
	s := &Schema{}
	b := schemaBuilder{elems: elems, schema: s}
	root, err := b.node(nil)
	if err != nil {
		return nil, at("schema", err)
	}
	if b.next != len(elems) {
		return nil, at("schema", corrupt("elements outside the tree"))
	}
	s.Root = root
	return s, nil
}

type schemaBuilder struct {
	elems  []format.SchemaElement
	next   int
	depth  int
	schema *Schema
}

func (b *schemaBuilder) node(parent *Node) (*Node, error) {
	if b.next >= len(b.elems) {
		return nil, corrupt("a group has fewer children than it says")
	}
	if b.depth > maxNesting {
		return nil, unsupported("nested deeper than %d", maxNesting)
	}
	m := &b.elems[b.next]
	n := &Node{Name: m.Name, FieldID: m.FieldID, Element: b.next, Parent: parent, Meta: m}
	b.next++
	if parent != nil {
		if n.FieldID != 0 {
			b.schema.HasFieldIDs = true
		}
		if err := n.setLevels(parent); err != nil {
			return nil, err
		}
	}
	// The root may be a group without children; elsewhere a node without a
	// type must have some.
	if m.Type.Valid && (!m.NumChildren.Valid || m.NumChildren.V == 0) && parent != nil {
		return n, b.leaf(n)
	}
	count := int(m.NumChildren.V)
	if count < 0 || count > len(b.elems)-b.next {
		return nil, corrupt("a group has fewer children than it says")
	}
	if m.Type.Valid && count > 0 {
		return nil, corrupt("a group has a physical type")
	}
	b.depth++
	for range count {
		c, err := b.node(n)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, c)
	}
	b.depth--
	return n, nil
}

func (n *Node) setLevels(parent *Node) error {
	n.Def, n.Rep = parent.Def, parent.Rep
	n.Repetition = n.Meta.RepetitionType.V
	if !n.Meta.RepetitionType.Valid {
		return corrupt("an element has no repetition type")
	}
	switch n.Repetition {
	case format.Required:
	case format.Optional:
		n.Def++
	case format.Repeated:
		n.Def++
		n.Rep++
	default:
		return corrupt("unknown repetition type %d", n.Repetition)
	}
	return nil
}

func (b *schemaBuilder) leaf(n *Node) error {
	c := &Column{
		Index: len(b.schema.Columns), Node: n, Type: n.Meta.Type.V,
		MaxDef: n.Def, MaxRep: n.Rep, FieldID: n.FieldID,
	}
	switch c.Type {
	case format.Boolean, format.Int32, format.Int64, format.Int96, format.Float, format.Double, format.ByteArray:
	case format.FixedLenByteArray:
		c.TypeLength = int(n.Meta.TypeLength.V)
		if c.TypeLength < 0 || c.TypeLength > maxTypeLength {
			return corrupt("fixed length of %d bytes", c.TypeLength)
		}
	default:
		return unsupported("physical type %d", c.Type)
	}
	for m := n; m.Parent != nil; m = m.Parent {
		c.Path = append(c.Path, m.Name)
	}
	for i, j := 0, len(c.Path)-1; i < j; i, j = i+1, j-1 {
		c.Path[i], c.Path[j] = c.Path[j], c.Path[i]
	}
	n.Column = c
	b.schema.Columns = append(b.schema.Columns, c)
	return nil
}
