package configs

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// The forms below are fields that read more than one YAML shape, or whose order counts.

// decode reads one value or a list of them.
func (s *Strings) decode(d *decoder, path string, n ast.Node) {
	if seq, ok := n.(*ast.SequenceNode); ok {
		*s = make(Strings, 0, len(seq.Values))
		for i, item := range seq.Values {
			if text, ok := d.scalar(fmt.Sprintf("%s[%d]", path, i), item); ok {
				*s = append(*s, text)
			}
		}
		return
	}
	if text, ok := d.scalar(path, n); ok {
		*s = Strings{text}
	}
}

// decode reads properties; nothing of a value reaches a message.
func (p *Props) decode(d *decoder, path string, n ast.Node) {
	*p = Props{}
	p.read(d, path, n, false)
}

func (p Props) read(d *decoder, path string, n ast.Node, literals bool) {
	for _, e := range d.entries(path, n) {
		sub := join(path, e.name)
		d.pos[sub] = at(e.key)
		text, ok := d.scalar(sub, e.value)
		if !ok {
			continue
		}
		s := newProp(e.name, text)
		switch err := s.check(); {
		case err != nil:
			d.errorf(e.value, sub, "%s", err)
		case !literals && s.literalSecret(e.name):
			d.errorf(e.value, sub, "a secret does not belong in a job file: write ${file:/path} or ${env:NAME} in its place")
		}
		p[e.name] = s
	}
}

// decode reads {column: type, …} and keeps the order, which is that of the parts.
func (k *KeyParts) decode(d *decoder, path string, n ast.Node) {
	for _, e := range d.entries(path, n) {
		sub := join(path, e.name)
		d.pos[sub] = at(e.key)
		if _, null := e.value.(*ast.NullNode); null && strings.HasSuffix(e.name, ")") {
			d.errorf(e.key, path, "a type with a comma needs quotes here: \"decimal(18,2)\"")
			continue
		}
		if text, ok := d.scalar(sub, e.value); ok {
			*k = append(*k, KeyPart{Name: e.name, Type: text})
		}
	}
}

// decode reads {keyset: column} or {keyset: [column, …]}.
func (m *Match) decode(d *decoder, path string, n ast.Node) {
	entries := d.entries(path, n)
	if len(entries) != 1 {
		if len(entries) > 1 {
			d.errorf(entries[1].key, path, "one keyset an item: write further ones as items of their own, of which any may match")
		}
		return
	}
	m.Keyset = entries[0].name
	var columns Strings
	sub := join(path, m.Keyset)
	d.pos[sub] = at(entries[0].key)
	columns.decode(d, sub, entries[0].value)
	m.Columns = columns
}

// decode reads delete, {redact: {column: constant or null}} or {remove_element: column}.
func (a *Action) decode(d *decoder, path string, n ast.Node) {
	if s, ok := n.(ast.ScalarNode); ok {
		if text := scalarText(s); text != Delete {
			d.errorf(n, path, "%s: not delete, {redact: …} or {remove_element: …}%s", quote(text), suggest(text, []string{Delete}))
			return
		}
		a.Kind = Delete
		return
	}
	entries := d.entries(path, n)
	if len(entries) != 1 {
		if len(entries) > 1 {
			d.errorf(entries[1].key, path, "a target has one action")
		}
		return
	}
	e := entries[0]
	sub := join(path, e.name)
	switch e.name {
	case Redact:
		a.Kind = Redact
		for _, c := range d.entries(sub, e.value) {
			r := Redaction{Column: c.name}
			if _, null := c.value.(*ast.NullNode); null {
				r.Null = true
			} else {
				text, ok := d.scalar(join(sub, c.name), c.value)
				if !ok {
					continue
				}
				r.Value = text
			}
			a.Redact = append(a.Redact, r)
		}
	case RemoveElement:
		a.Kind = RemoveElement
		d.value(sub, e.value, reflect.ValueOf(&a.Element).Elem())
	default:
		known := []string{Redact, RemoveElement}
		d.errorf(e.key, path, "unknown action %s%s", quote(e.name), suggest(e.name, known))
	}
}
