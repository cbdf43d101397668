package verifier

import (
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/warehouse"
)

// absent marks a column that a file does not have: all its values are null.
const absent = -1

// fileColumn is a leaf column of a file as the table's schema sees it.
type fileColumn struct {
	index   int      // leaf column
	id      int      // Iceberg field id; 0 = none
	logical []string // path without the groups that only encode lists and maps
	group   string   // path of the innermost repeated group; "" = none
	nodes   []fileNode
}

// fileNode is a named node on the way to a leaf, the leaf last: one for every
// name of the logical path.
type fileNode struct {
	id       int   // Iceberg field id; 0 = none
	def, rep int16 // maximum levels down to and including the node
}

// columnsOf walks a file's schema. Lists and maps are encoded in several ways
// (Parquet's LogicalTypes, "Nested Types"); a logical path has one "element",
// or "key" and "value", for each, whatever the file calls them.
func columnsOf(s *schema.Schema) []fileColumn {
	w := columnWalk{s: s}
	root := s.Root()
	for i := range root.NumFields() {
		w.node(root.Field(i), nil, nil, "", root.Field(i).Name())
	}
	return w.out
}

type columnWalk struct {
	s   *schema.Schema
	out []fileColumn
}

// node visits a field. name is what it is called in logical paths; "" hides it.
func (w *columnWalk) node(n schema.Node, path []string, nodes []fileNode, group, name string) {
	if name != "" {
		path = append(slices.Clone(path), name)
		nodes = append(slices.Clone(nodes), nodeOf(n))
	}
	if n.RepetitionType() == parquet.Repetitions.Repeated {
		group = n.Path()
	}
	if n.Type() == schema.Primitive {
		w.out = append(w.out, fileColumn{index: len(w.out), id: max(0, int(n.FieldID())), logical: path, group: group, nodes: nodes})
		return
	}
	g := n.(*schema.GroupNode)
	switch {
	case isMap(g):
		kv := g.Field(0).(*schema.GroupNode)
		for i := range kv.NumFields() {
			w.node(kv.Field(i), path, nodes, kv.Path(), []string{"key", "value"}[min(i, 1)])
		}
	case isList(g):
		rep := g.Field(0)
		if inner, ok := rep.(*schema.GroupNode); ok && !twoLevel(g, inner) {
			w.node(inner.Field(0), path, nodes, rep.Path(), "element")
			return
		}
		w.node(rep, path, nodes, rep.Path(), "element")
	default:
		for i := range g.NumFields() {
			w.node(g.Field(i), path, nodes, group, g.Field(i).Name())
		}
	}
}

// nodeOf counts the levels of a node and of all above it.
func nodeOf(n schema.Node) fileNode {
	f := fileNode{id: max(0, int(n.FieldID()))}
	for ; n != nil && n.Parent() != nil; n = n.Parent() {
		switch n.RepetitionType() {
		case parquet.Repetitions.Repeated:
			f.rep++
			f.def++
		case parquet.Repetitions.Optional:
			f.def++
		}
	}
	return f
}

func isList(g *schema.GroupNode) bool {
	_, logical := g.LogicalType().(schema.ListLogicalType)
	annotated := logical || g.ConvertedType() == schema.ConvertedTypes.List
	return annotated && g.NumFields() == 1 && g.Field(0).RepetitionType() == parquet.Repetitions.Repeated
}

func isMap(g *schema.GroupNode) bool {
	_, logical := g.LogicalType().(schema.MapLogicalType)
	c := g.ConvertedType()
	annotated := logical || c == schema.ConvertedTypes.Map || c == schema.ConvertedTypes.MapKeyValue
	if !annotated || g.NumFields() != 1 {
		return false
	}
	kv, ok := g.Field(0).(*schema.GroupNode)
	return ok && kv.RepetitionType() == parquet.Repetitions.Repeated && kv.NumFields() >= 1 && kv.NumFields() <= 2
}

// twoLevel says whether the repeated group is itself the element (LogicalTypes,
// "Backward-compatibility rules").
func twoLevel(list, rep *schema.GroupNode) bool {
	return rep.NumFields() != 1 || rep.Name() == "array" || rep.Name() == list.Name()+"_tuple"
}

// resolve finds the column of a reference. A file that carries any field id is
// resolved by ids alone; others by the current path and by the name mapping's.
func resolve(cols []fileColumn, ref warehouse.ColumnRef) int {
	withIDs := haveIDs(cols)
	for _, c := range cols {
		if withIDs && ref.FieldID > 0 {
			if c.id == ref.FieldID {
				return c.index
			}
			continue
		}
		if slices.Equal(c.logical, ref.Path) || slices.ContainsFunc(ref.Names, func(n []string) bool { return slices.Equal(c.logical, n) }) {
			return c.index
		}
	}
	return absent
}

// under finds the node of a reference on the way to a leaf; false when the
// leaf does not lie below it. withIDs says that the file carries field ids.
func (c *fileColumn) under(ref warehouse.ColumnRef, withIDs bool) (fileNode, bool) {
	if withIDs && ref.FieldID > 0 {
		i := slices.IndexFunc(c.nodes, func(n fileNode) bool { return n.id == ref.FieldID })
		if i < 0 {
			return fileNode{}, false
		}
		return c.nodes[i], true
	}
	for _, path := range append([][]string{ref.Path}, ref.Names...) {
		if n := len(path); n > 0 && n <= len(c.logical) && slices.Equal(c.logical[:n], path) {
			return c.nodes[n-1], true
		}
	}
	return fileNode{}, false
}

func haveIDs(cols []fileColumn) bool {
	return slices.ContainsFunc(cols, func(c fileColumn) bool {
		return slices.ContainsFunc(c.nodes, func(n fileNode) bool { return n.id > 0 })
	})
}

func pathOf(c fileColumn) string { return strings.Join(c.logical, ".") }
