package configs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// position is a place in the job file, both numbers from 1.
type position struct{ line, column int }

// decoder fills a Job from a YAML tree. It walks the tree itself rather than
// through the library's decoder, to know the position of every field, to keep
// the order of maps that have one, and to keep values out of messages where
// they may be secrets.
type decoder struct {
	file string
	errs Errors
	pos  map[string]position
}

// node is a value that reads a YAML node in a way of its own.
type node interface {
	decode(d *decoder, path string, n ast.Node)
}

// Bounds on the input, checked before the parser sees it: its recursion follows the nesting.
const (
	maxBytes   = 1 << 20
	maxNesting = 64
)

// parseTree returns the root of the only document.
func (d *decoder) parseTree(data []byte) (root ast.Node) {
	if err := checkShape(data); err != nil {
		d.add(position{1, 1}, "", err.Error())
		return nil
	}
	defer func() {
		// A parser's bug on odd input must not end a scheduler that reads many jobs.
		if recover() != nil {
			d.add(position{1, 1}, "", "not valid YAML")
			root = nil
		}
	}()
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		// Only the position and the parser's own words: the library's text quotes the source.
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			d.add(position{syntax.Token.Position.Line, syntax.Token.Position.Column}, "", "not valid YAML: "+withoutQuotes(syntax.Message))
		} else {
			d.add(position{1, 1}, "", "not valid YAML")
		}
		return nil
	}
	var bodies []ast.Node
	for _, doc := range f.Docs {
		if doc != nil && doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.add(position{1, 1}, "", "the file is empty")
		return nil
	case 1:
		return bodies[0]
	}
	d.add(at(bodies[1]), "", "a job file holds one document")
	return nil
}

// withoutQuotes drops what a parser's message quotes from the source.
func withoutQuotes(msg string) string {
	before, _, _ := strings.Cut(msg, "\"")
	return strings.TrimRight(before, " ")
}

// checkShape bounds the size and the nesting of the input.
func checkShape(data []byte) error {
	if len(data) > maxBytes {
		return errors.New("the file is larger than 1 MiB")
	}
	flow := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		indicators, column := 0, 0
	lead:
		for ; column < len(line); column++ {
			switch line[column] {
			case ' ', '\t':
			case '-', '?', ':', '&', '*', '!':
				indicators++
			default:
				break lead
			}
		}
		if indicators > maxNesting && strings.Trim(line, "- \t\r") != "" || column > 8*maxNesting {
			return errors.New("the file is nested too deeply")
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				flow++
			case ']', '}':
				flow = max(0, flow-1)
			}
			if flow > maxNesting {
				return errors.New("the file is nested too deeply")
			}
		}
	}
	return nil
}

func at(n ast.Node) position {
	if n == nil || reflect.ValueOf(n).IsNil() || n.GetToken() == nil || n.GetToken().Position == nil {
		return position{1, 1}
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return at(m.Values[0].Key)
	}
	p := n.GetToken().Position
	return position{p.Line, p.Column}
}

func (d *decoder) add(p position, path, msg string) {
	d.errs = append(d.errs, &Error{File: d.file, Line: p.line, Column: p.column, Path: path, Msg: msg})
}

func (d *decoder) errorf(n ast.Node, path, format string, args ...any) {
	d.add(at(n), path, fmt.Sprintf(format, args...))
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// value decodes n into v.
func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	if _, seen := d.pos[path]; !seen {
		d.pos[path] = at(n)
	}
	if own, ok := v.Addr().Interface().(node); ok {
		own.decode(d, path, n)
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		if text, ok := d.scalar(path, n); ok {
			if err := s.parse(text); err != nil {
				d.errorf(n, path, "%s: %s", quote(text), err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, n, v.Elem())
	case reflect.Struct:
		d.structure(path, n, v)
	case reflect.Map:
		d.mapOf(path, n, v)
	case reflect.Slice:
		d.slice(path, n, v)
	default:
		d.basic(path, n, v)
	}
}

// structure decodes a mapping whose keys are v's fields.
func (d *decoder) structure(path string, n ast.Node, v reflect.Value) {
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("yaml"); name != "" {
			fields[name] = i
			names = append(names, name)
		}
	}
	for _, e := range d.entries(path, n) {
		i, ok := fields[e.name]
		if !ok {
			d.errorf(e.key, path, "unknown field %s%s", quote(e.name), suggest(e.name, names))
			continue
		}
		sub := join(path, e.name)
		d.pos[sub] = at(e.key)
		d.value(sub, e.value, v.Field(i))
	}
}

// mapOf decodes a mapping with free keys.
func (d *decoder) mapOf(path string, n ast.Node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range d.entries(path, n) {
		sub := join(path, e.name)
		d.pos[sub] = at(e.key)
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(sub, e.value, item)
		v.SetMapIndex(reflect.ValueOf(e.name), item)
	}
}

func (d *decoder) slice(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.errorf(n, path, "needs a list, not %s", kindOf(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, item := range seq.Values {
		d.value(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i))
	}
}

func (d *decoder) basic(path string, n ast.Node, v reflect.Value) {
	text, ok := d.scalar(path, n)
	if !ok {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
			return
		}
		d.errorf(n, path, "%s: not true or false", quote(text))
	case reflect.Int:
		i, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			d.errorf(n, path, "%s: not a whole number", quote(text))
			return
		}
		v.SetInt(i)
	case reflect.Uint64:
		i, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			d.errorf(n, path, "%s: not a whole number from 0", quote(text))
			return
		}
		v.SetUint(i)
	default:
		d.errorf(n, path, "fields of kind %s cannot be read", v.Kind())
	}
}

// entry is one key and value of a mapping, in the order of the file.
type entry struct {
	name  string
	key   ast.Node
	value ast.Node
}

// entries returns a mapping's entries; keys are distinct plain words.
func (d *decoder) entries(path string, n ast.Node) []entry {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		d.errorf(n, path, "needs fields, not %s", kindOf(n))
		return nil
	}
	out := make([]entry, 0, len(values))
	for _, mv := range values {
		key, ok := mv.Key.(ast.ScalarNode)
		if _, merge := mv.Key.(*ast.MergeKeyNode); merge || !ok {
			d.errorf(mv.Key, path, "merge keys and composite keys are not supported")
			continue
		}
		e := entry{name: scalarText(key), key: key, value: mv.Value}
		if slices.ContainsFunc(out, func(o entry) bool { return o.name == e.name }) {
			d.errorf(key, path, "field %s is given twice", quote(e.name))
			continue
		}
		out = append(out, e)
	}
	return out
}

// scalar returns the text of a scalar that is not null.
func (d *decoder) scalar(path string, n ast.Node) (string, bool) {
	s, ok := n.(ast.ScalarNode)
	if !ok {
		d.errorf(n, path, "needs one value, not %s", kindOf(n))
		return "", false
	}
	if _, null := n.(*ast.NullNode); null {
		d.errorf(n, path, "has no value: give it one or remove the line")
		return "", false
	}
	return scalarText(s), true
}

// scalarText returns a scalar as it is written, without its quotes.
func scalarText(n ast.Node) string {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value
	case *ast.LiteralNode:
		if s.Value != nil {
			return s.Value.Value
		}
		return ""
	}
	if t := n.GetToken(); t != nil {
		return t.Value
	}
	return ""
}

// kindOf names a node in a message.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode, nil:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias (they are not supported)"
	case *ast.TagNode:
		return "a tag (tags are not supported)"
	}
	return "a single value"
}
