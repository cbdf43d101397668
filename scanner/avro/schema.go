package avro

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// typ is a type of a schema (Avro specification 1.11, "Schema Declaration").
type typ struct {
	kind     string // "record", "array", "map", "union", "fixed", "enum", or a primitive
	logical  string
	scale    int
	fields   []field // record
	branches []*typ  // union
	items    *typ    // array, map
	size     int     // fixed
	symbols  []string
}

type field struct {
	name string
	typ  *typ
}

var errSchema = errors.New("schema cannot be read")

// parser resolves names while it reads a schema.
type parser struct{ named map[string]*typ }

func parseSchema(text []byte) (*typ, error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, errSchema
	}
	p := &parser{named: map[string]*typ{}}
	return p.parse(v, "", 0)
}

func (p *parser) parse(v any, space string, depth int) (*typ, error) {
	if depth > 256 {
		return nil, errSchema
	}
	switch v := v.(type) {
	case string:
		return p.name(v, space)
	case []any:
		t := &typ{kind: "union"}
		for _, b := range v {
			branch, err := p.parse(b, space, depth+1)
			if err != nil {
				return nil, err
			}
			t.branches = append(t.branches, branch)
		}
		return t, nil
	case map[string]any:
		return p.object(v, space, depth)
	}
	return nil, errSchema
}

func (p *parser) name(name, space string) (*typ, error) {
	switch name {
	case "null", "boolean", "int", "long", "float", "double", "bytes", "string":
		return &typ{kind: name}, nil
	}
	for _, full := range []string{name, space + "." + name} {
		if t, ok := p.named[full]; ok {
			return t, nil
		}
	}
	return nil, fmt.Errorf("a name is not declared: %w", errSchema)
}

func (p *parser) object(v map[string]any, space string, depth int) (*typ, error) {
	kind, ok := v["type"].(string)
	if !ok {
		return p.parse(v["type"], space, depth+1) // {"type": {…}} and {"type": […]}
	}
	t := &typ{kind: kind}
	t.logical, _ = v["logicalType"].(string)
	if s, ok := v["scale"].(float64); ok {
		t.scale = int(s)
	}
	switch kind {
	case "record", "error", "fixed", "enum":
		t.kind = strings.Replace(kind, "error", "record", 1)
		space = p.declare(t, v, space)
	}
	var err error
	switch t.kind {
	case "record":
		list, _ := v["fields"].([]any)
		for _, f := range list {
			m, _ := f.(map[string]any)
			name, _ := m["name"].(string)
			ft, err := p.parse(m["type"], space, depth+1)
			if err != nil {
				return nil, err
			}
			t.fields = append(t.fields, field{name, ft})
		}
	case "array":
		t.items, err = p.parse(v["items"], space, depth+1)
	case "map":
		t.items, err = p.parse(v["values"], space, depth+1)
	case "fixed":
		n, ok := v["size"].(float64)
		if t.size = int(n); !ok || n < 0 || n > 1<<30 {
			return nil, errSchema
		}
	case "enum":
		list, _ := v["symbols"].([]any)
		for _, s := range list {
			text, _ := s.(string)
			t.symbols = append(t.symbols, text)
		}
	default:
		base, err := p.name(kind, space)
		if err != nil {
			return nil, err
		}
		if base.kind != kind {
			return base, nil // {"type": "NameOfAType"}
		}
	}
	return t, err
}

// declare makes a type known by its full name and returns its namespace.
func (p *parser) declare(t *typ, v map[string]any, space string) string {
	name, _ := v["name"].(string)
	if ns, ok := v["namespace"].(string); ok {
		space = ns
	}
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		space, name = name[:i], name[i+1:]
	}
	p.named[name] = t
	p.named[space+"."+name] = t
	return space
}
