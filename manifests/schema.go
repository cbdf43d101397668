package manifests

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// schemaV1 is the published JSON Schema (draft 2020-12) of the statement.
//
//go:embed schema/v1.json
var schemaV1 []byte

// Schema returns the published JSON Schema of version 1.
func Schema() []byte { return bytes.Clone(schemaV1) }

// schema is the part of JSON Schema that v1.json uses. A keyword outside it
// fails when the schema is parsed, so that nothing is left unchecked silently.
type schema struct {
	Schema      string             `json:"$schema"`
	ID          string             `json:"$id"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Defs        map[string]*schema `json:"$defs"`
	Ref         string             `json:"$ref"`
	Type        string             `json:"type"`
	Const       string             `json:"const"`
	Enum        []string           `json:"enum"`
	Pattern     string             `json:"pattern"`
	Format      string             `json:"format"` // an annotation; Pattern does the checking
	Minimum     *int64             `json:"minimum"`
	Maximum     *int64             `json:"maximum"`
	MinItems    int                `json:"minItems"`
	Items       *schema            `json:"items"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Additional  json.RawMessage    `json:"additionalProperties"`

	pattern *regexp.Regexp
	extra   *schema // what further members must be; nil = none allowed
}

var parsedSchema = sync.OnceValues(func() (*schema, error) {
	s := new(schema)
	dec := json.NewDecoder(bytes.NewReader(schemaV1))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	if err := s.compile(); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return s, nil
})

func (s *schema) compile() (err error) {
	if s == nil {
		return nil
	}
	if s.Pattern != "" {
		if s.pattern, err = regexp.Compile(s.Pattern); err != nil {
			return err
		}
	}
	if len(s.Additional) > 0 && string(s.Additional) != "false" {
		s.extra = new(schema)
		if err := json.Unmarshal(s.Additional, s.extra); err != nil {
			return err
		}
	}
	for _, m := range []map[string]*schema{s.Defs, s.Properties} {
		for _, c := range m {
			if err := c.compile(); err != nil {
				return err
			}
		}
	}
	for _, c := range []*schema{s.Items, s.extra} {
		if err := c.compile(); err != nil {
			return err
		}
	}
	return nil
}

// checkSchema validates a statement. Problems name the place, never the value.
func checkSchema(statement []byte) []string {
	root, err := parsedSchema()
	if err != nil {
		return []string{err.Error()}
	}
	dec := json.NewDecoder(bytes.NewReader(statement))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return []string{"not JSON"}
	}
	c := schemaCheck{root: root}
	c.value(root, v, "")
	return c.problems
}

type schemaCheck struct {
	root     *schema
	problems []string
}

func (c *schemaCheck) bad(at, why string) {
	if at == "" {
		at = "/"
	}
	c.problems = append(c.problems, at+": "+why)
}

func (c *schemaCheck) value(s *schema, v any, at string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		def := c.root.Defs[name]
		if def == nil {
			c.bad(at, "the schema refers to an unknown definition")
			return
		}
		c.value(def, v, at)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if c.typed(s, "object", at) {
			c.object(s, v, at)
		}
	case []any:
		if !c.typed(s, "array", at) {
			return
		}
		if len(v) < s.MinItems {
			c.bad(at, "too few items")
		}
		for i, e := range v {
			c.value(s.Items, e, at+"/"+strconv.Itoa(i))
		}
	case string:
		if c.typed(s, "string", at) {
			c.text(s, v, at)
		}
	case json.Number:
		if c.typed(s, "integer", at) {
			c.number(s, v, at)
		}
	case bool:
		c.typed(s, "boolean", at)
	default:
		c.bad(at, "null is not allowed")
	}
}

func (c *schemaCheck) typed(s *schema, got, at string) bool {
	if s.Type != got {
		c.bad(at, "want "+s.Type+", got "+got)
		return false
	}
	return true
}

func (c *schemaCheck) object(s *schema, m map[string]any, at string) {
	for _, n := range s.Required {
		if _, ok := m[n]; !ok {
			c.bad(at, "missing member "+strconv.Quote(n))
		}
	}
	for n, v := range m {
		switch p := s.Properties[n]; {
		case p != nil:
			c.value(p, v, at+"/"+n)
		case s.extra != nil:
			c.value(s.extra, v, at+"/"+n)
		default:
			c.bad(at, "an unknown member")
		}
	}
}

func (c *schemaCheck) text(s *schema, v, at string) {
	if s.Const != "" && v != s.Const {
		c.bad(at, "not "+strconv.Quote(s.Const))
	}
	if s.pattern != nil && !s.pattern.MatchString(v) {
		c.bad(at, "does not match "+s.Pattern)
	}
	if len(s.Enum) == 0 {
		return
	}
	for _, e := range s.Enum {
		if v == e {
			return
		}
	}
	c.bad(at, "not one of "+strings.Join(s.Enum, ", "))
}

func (c *schemaCheck) number(s *schema, v json.Number, at string) {
	n, err := strconv.ParseInt(v.String(), 10, 64)
	switch {
	case err != nil:
		c.bad(at, "not an integer")
	case s.Minimum != nil && n < *s.Minimum:
		c.bad(at, "below "+strconv.FormatInt(*s.Minimum, 10))
	case s.Maximum != nil && n > *s.Maximum:
		c.bad(at, "above "+strconv.FormatInt(*s.Maximum, 10))
	}
}
