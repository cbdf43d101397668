package pq

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go/format"
)

// Ref names a leaf column of a file.
type Ref struct {
	// FieldID is the Iceberg field id, 0 = none. In a file that carries field
	// ids it decides alone: a column that was renamed is found, one that was
	// dropped and added again under its old name is not mistaken for the old.
	FieldID int32
	// Path is used where the file carries no ids (or FieldID is 0): either
	// physical, list and map groups included ("a","list","element","b"), or
	// logical, as Iceberg names it ("a","element","b"; "m","key"). "[*]" means
	// any element of a list or any entry of a map ("a","[*]","b").
	Path []string
	// Names are other paths to try in a file without ids, where Path leads
	// nowhere: those that a table's name mapping allows.
	Names [][]string
}

// String names the reference in messages.
func (r Ref) String() string {
	if len(r.Path) == 0 {
		return fmt.Sprintf("field id %d", r.FieldID)
	}
	return strings.Join(r.Path, ".")
}

// ParsePath splits a written path: "a.list.element.b", "a.element.b",
// "$.a[*].b", "$['a.b'].c".
func ParsePath(s string) ([]string, error) {
	bad := fmt.Errorf("column path: %w", ErrNotFound)
	rest, json := strings.CutPrefix(s, "$")
	if !json {
		rest = "." + s
	}
	var out []string
	for rest != "" {
		var name string
		switch {
		case strings.HasPrefix(rest, "[*]"):
			name, rest = "[*]", rest[3:]
		case strings.HasPrefix(rest, "['"):
			end := strings.Index(rest, "']")
			if end < 0 {
				return nil, bad
			}
			name, rest = rest[2:end], rest[end+2:]
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			name, rest = rest[1:end], rest[end:]
		default:
			return nil, bad
		}
		if name == "" {
			return nil, bad
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		return nil, bad
	}
	return out, nil
}

// Resolve finds the column that a reference names. ErrNotFound means that the
// file has no such column, which after schema evolution is normal: all its
// rows hold NULL there.
func (s *Schema) Resolve(ref Ref) (*Column, error) {
	n, err := s.ResolveNode(ref)
	if err != nil {
		return nil, err
	}
	if n.Column == nil {
		return nil, fmt.Errorf("%s: %w", ref, ErrNotLeaf)
	}
	return n.Column, nil
}

// ResolveNode finds the node, leaf or group, that a reference names. For a
// list or map it is the annotated group.
func (s *Schema) ResolveNode(ref Ref) (*Node, error) {
	if ref.FieldID != 0 && s.HasFieldIDs {
		return s.byID(ref)
	}
	if len(ref.Path) == 0 {
		return nil, fmt.Errorf("%s: %w", ref, ErrNotFound)
	}
	var found []*Node
	s.Root.match(ref.Path, &found)
	for i := 0; len(found) == 0 && i < len(ref.Names); i++ {
		s.Root.match(ref.Names[i], &found)
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%s: %w", ref, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%s: %w", ref, ErrAmbiguous)
}

func (s *Schema) byID(ref Ref) (*Node, error) {
	var found []*Node
	var walk func(n *Node)
	walk = func(n *Node) {
		if n.Parent != nil && n.FieldID == ref.FieldID {
			found = append(found, n)
		}
		for _, c := range n.Children {
			walk(c)
		}
	}
	walk(s.Root)
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("field id %d: %w", ref.FieldID, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("field id %d: %w", ref.FieldID, ErrAmbiguous)
}

// match collects the nodes below n that path names.
func (n *Node) match(path []string, found *[]*Node) {
	if len(path) == 0 {
		if !slices.Contains(*found, n) {
			*found = append(*found, n)
		}
		return
	}
	for _, c := range n.Children {
		if c.Name == path[0] {
			c.match(path[1:], found)
		}
	}
	switch e := n.listElement(); {
	case e == nil:
	case path[0] == "element" || path[0] == "[*]":
		e.match(path[1:], found)
	}
	kv := n.mapEntry()
	if kv == nil {
		return
	}
	switch path[0] {
	case "[*]":
		kv.match(path[1:], found)
	case "key":
		kv.Children[0].match(path[1:], found)
	case "value":
		if len(kv.Children) == 2 {
			kv.Children[1].match(path[1:], found)
		}
	}
}

// listElement returns the element of a list, nil when n is none
// (LogicalTypes.md, Lists, with its backward-compatibility rules).
func (n *Node) listElement() *Node {
	if n.Repetition == format.Repeated && n.Parent != nil && !n.Parent.IsList() && !n.Parent.IsMap() {
		return n // a repeated field without annotation is a list of itself
	}
	if !n.IsList() || len(n.Children) != 1 {
		return nil
	}
	rep := n.Children[0]
	switch {
	case rep.Repetition != format.Repeated:
		return nil
	case rep.Column != nil: // 2 levels: the repeated field is the element
		return rep
	case len(rep.Children) != 1, rep.Name == "array", rep.Name == n.Name+"_tuple":
		return rep // 2 levels: the repeated group is the element
	}
	return rep.Children[0]
}

// mapEntry returns the repeated key_value group of a map, nil when n is none.
func (n *Node) mapEntry() *Node {
	if !n.IsMap() || len(n.Children) != 1 {
		return nil
	}
	kv := n.Children[0]
	if kv.Repetition != format.Repeated || len(kv.Children) == 0 || len(kv.Children) > 2 {
		return nil
	}
	return kv
}
