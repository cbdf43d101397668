package iceberg

import (
	"fmt"
	"slices"
	"strings"

	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/warehouse"
)

// field is a resolved path: the fields passed on the way, the leaf last.
type field struct {
	chain []icebergo.NestedField
	path  []string // one name a field of the chain
	// mapped are the other paths that the name mapping allows, where asked for.
	mapped [][]string
}

func newField(chain []icebergo.NestedField) field {
	f := field{chain: chain}
	for _, n := range chain {
		f.path = append(f.path, n.Name)
	}
	return f
}

func (f field) leaf() icebergo.NestedField { return f.chain[len(f.chain)-1] }

// repeated says whether the path leads through a list or a map, so that one
// row may hold several values of the leaf.
func (f field) repeated() bool {
	for _, n := range f.chain[:len(f.chain)-1] {
		switch n.Type.(type) {
		case *icebergo.ListType, *icebergo.MapType:
			return true
		}
	}
	return false
}

// findField resolves a path as people write it: names joined by dots, where
// "element", "key" and "value" step into lists and maps, and "[*]" is another
// way to write "element". A leading "$." is allowed. A field whose own name
// holds dots is found too; the shortest first name that leads to an end wins.
func findField(schema *icebergo.Schema, path string) (field, error) {
	p := strings.TrimPrefix(strings.TrimPrefix(path, "$."), "$")
	p = strings.ReplaceAll(p, "[*]", ".element")
	parts := strings.Split(strings.TrimPrefix(p, "."), ".")
	if slices.Contains(parts, "") {
		return field{}, fmt.Errorf("column %q is not a field path: %w", path, warehouse.ErrNotFound)
	}
	chain, ok := descend(schema.Fields(), parts)
	if !ok {
		return field{}, fmt.Errorf("column %q: %w", path, warehouse.ErrNotFound)
	}
	return newField(chain), nil
}

func descend(fields []icebergo.NestedField, parts []string) ([]icebergo.NestedField, bool) {
	for take := 1; take <= len(parts); take++ {
		name := strings.Join(parts[:take], ".")
		i := slices.IndexFunc(fields, func(n icebergo.NestedField) bool { return n.Name == name })
		if i < 0 {
			continue
		}
		rest := parts[take:]
		if len(rest) == 0 {
			return []icebergo.NestedField{fields[i]}, true
		}
		if below, ok := descend(childFields(fields[i].Type), rest); ok {
			return append([]icebergo.NestedField{fields[i]}, below...), true
		}
	}
	return nil, false
}

// childFields are the fields below a type, in the order of the specification.
func childFields(t icebergo.Type) []icebergo.NestedField {
	switch t := t.(type) {
	case *icebergo.StructType:
		return t.Fields()
	case *icebergo.ListType:
		return t.Fields()
	case *icebergo.MapType:
		return t.Fields()
	}
	return nil
}

// fieldByID finds a field anywhere below fields, with the way to it.
func fieldByID(fields []icebergo.NestedField, id int) ([]icebergo.NestedField, bool) {
	for _, f := range fields {
		if f.ID == id {
			return []icebergo.NestedField{f}, true
		}
		if below, ok := fieldByID(childFields(f.Type), id); ok {
			return append([]icebergo.NestedField{f}, below...), true
		}
	}
	return nil, false
}

// maxAlternatives bounds the paths that a name mapping may spell out.
const maxAlternatives = 64

// mappedPaths lists every path that the table's name mapping allows for a
// field in files that carry no field ids (specification, "Column Projection").
func mappedPaths(nm icebergo.NameMapping, f field) [][]string {
	level := []icebergo.MappedField(nm)
	paths := [][]string{nil}
	for _, n := range f.chain {
		i := slices.IndexFunc(level, func(m icebergo.MappedField) bool { return m.ID() == n.ID })
		if i < 0 || len(level[i].Names) == 0 {
			return nil
		}
		var next [][]string
		for _, p := range paths {
			for _, name := range level[i].Names {
				next = append(next, append(slices.Clone(p), name))
			}
		}
		if len(next) > maxAlternatives {
			next = next[:maxAlternatives]
		}
		paths, level = next, level[i].Fields
	}
	return slices.DeleteFunc(paths, func(p []string) bool { return slices.Equal(p, f.path) })
}

// formerName says what became of a path that an older schema had, to make an
// error useful. It returns "" when no schema had it.
func formerName(schemas []*icebergo.Schema, current *icebergo.Schema, path string) string {
	for _, s := range slices.Backward(schemas) {
		old, err := findField(s, path)
		if err != nil {
			continue
		}
		if now, ok := fieldByID(current.Fields(), old.leaf().ID); ok {
			names := make([]string, len(now))
			for i, n := range now {
				names[i] = n.Name
			}
			return "it is named " + strings.Join(names, ".") + " now"
		}
		return "it was dropped from the schema"
	}
	return ""
}
