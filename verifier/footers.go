package verifier

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet/schema"
)

// footers compares what a footer says about all rows: schema with names, ids
// and types, key-value metadata in order, codecs, sorting. It returns the ids
// of row lineage columns, which are compared by their own rule.
func (c *comparison) footers() []int {
	oldS, newS := c.old.MetaData().Schema, c.new.MetaData().Schema
	a, b := flatten(oldS), flatten(newS)
	var lineage []int
	if c.r.Lineage {
		lineage = []int{idRowID, idLastSequence}
		drop := func(n flatNode) bool { return n.lineage }
		a, b = slices.DeleteFunc(a, drop), slices.DeleteFunc(b, drop)
	}
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) {
			c.differ("schema: %d fields, want %d", len(b), len(a))
			return nil
		}
		if a[i].text != b[i].text {
			c.differ("schema: field %s differs", a[i].path)
			return nil
		}
	}
	kv, want := c.new.MetaData().KeyValueMetadata(), c.old.MetaData().KeyValueMetadata()
	if !slices.Equal(kv.Keys(), want.Keys()) || !slices.Equal(kv.Values(), want.Values()) {
		// The Arrow schema inside the metadata gains the lineage columns where it is kept.
		c.differ("key-value metadata differs")
		return nil
	}
	c.codecs()
	return lineage
}

// codecs checks that every column of the new file has a codec that it had in the old one.
func (c *comparison) codecs() {
	have := map[string]map[string]bool{}
	visit := func(f *parquetFile, do func(path, codec string)) {
		for g := range f.NumRowGroups() {
			m := f.MetaData().RowGroup(g)
			for i := range m.NumColumns() {
				if cc, err := m.ColumnChunk(i); err == nil {
					do(cc.PathInSchema().String(), cc.Compression().String())
				}
			}
		}
	}
	visit(c.old, func(path, codec string) {
		if have[path] == nil {
			have[path] = map[string]bool{}
		}
		have[path][codec] = true
	})
	visit(c.new, func(path, codec string) {
		if m := have[path]; m != nil && !m[codec] {
			c.differ("column %s: codec %s, want the old file's", path, codec)
		}
	})
}

// flatNode is a schema element in a form that can be compared.
type flatNode struct {
	path, text string
	lineage    bool
}

func flatten(s *schema.Schema) []flatNode {
	var out []flatNode
	var walk func(n schema.Node)
	walk = func(n schema.Node) {
		f := flatNode{path: n.Path(), lineage: n.FieldID() == idRowID || n.FieldID() == idLastSequence}
		logical := ""
		if l := n.LogicalType(); l != nil {
			logical = l.String()
		}
		f.text = fmt.Sprintf("%s|%d|%v|%v|%s", n.Path(), n.FieldID(), n.RepetitionType(), n.ConvertedType(), logical)
		if p, ok := n.(*schema.PrimitiveNode); ok {
			f.text += fmt.Sprintf("|%v|%d", p.PhysicalType(), p.TypeLength())
		}
		out = append(out, f)
		if g, ok := n.(*schema.GroupNode); ok {
			for i := range g.NumFields() {
				walk(g.Field(i))
			}
		}
	}
	root := s.Root()
	for i := range root.NumFields() {
		walk(root.Field(i))
	}
	return out
}
