package records

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tidwall/gjson"
)

// errTwice: a member on the way to a column occurs twice.
var errTwice = errors.New("member occurs twice")

// jsonReader cuts lines.
type jsonReader struct {
	r     *bufio.Reader
	rules *Rules
	long  []byte
	begun bool
}

func newJSON(in io.Reader, r *Rules) (reader, error) {
	return &jsonReader{r: bufio.NewReaderSize(in, 256<<10), rules: r}, nil
}

func (j *jsonReader) next() (segment, error) {
	if !j.begun {
		j.begun = true
		if head, _ := j.r.Peek(3); string(head) == "\xef\xbb\xbf" {
			_, err := j.r.Discard(3)
			return segment{raw: []byte("\xef\xbb\xbf")}, err
		}
	}
	line, err := j.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		j.long = append(j.long[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = j.r.ReadSlice('\n')
			j.long = append(j.long, line...)
		}
		line = j.long
	}
	if err != nil && err != io.EOF { //nolint:errorlint // the end itself
		return segment{}, err
	}
	if len(line) == 0 {
		return segment{}, io.EOF
	}
	seg := segment{raw: line}
	text := bytes.Trim(line, " \t\r\n") // JSON's own idea of white space
	if len(text) == 0 {
		return seg, nil
	}
	seg.record = true
	if text[0] != '{' || !json.Valid(text) {
		seg.malformed = true
		return seg, nil
	}
	if seg.hit, err = jsonHit(text, j.rules, nil); errors.Is(err, errTwice) {
		seg.malformed, err = true, nil
	}
	return seg, err
}

// jsonHit says whether a record holds a key of any match.
func jsonHit(text []byte, r *Rules, hits *[][]listAt) (bool, error) {
	root := gjson.ParseBytes(text)
	for _, p := range touched(r) {
		if _, err := descend(root, p, "", nil, nil); err != nil {
			return false, err
		}
	}
	hit := false
	for _, m := range r.Matches {
		columns := make([][]placed, len(m.Columns))
		for k, c := range m.Columns {
			var err error
			if columns[k], err = descend(root, c.Path, "", nil, nil); err != nil {
				return false, err
			}
		}
		if holdsKey(m.Keys, columns, hits) {
			hit = true
		}
	}
	if r.Every {
		return true, nil
	}
	if hit && !r.deletes() {
		return pending(text, r)
	}
	return hit, nil
}

// touched are the paths that an action changes.
func touched(r *Rules) [][]string {
	var out [][]string
	for c := range r.Action.Redact {
		out = append(out, steps(c))
	}
	for _, c := range r.Action.Null {
		out = append(out, steps(c))
	}
	if r.Action.Element != "" {
		out = append(out, steps(r.Action.Element))
	}
	return out
}

// steps splits a path: a.b, a.element.b, $.a[*].b, $['a.b'].
func steps(path string) []string {
	path = strings.TrimPrefix(path, "$")
	var out []string
	for path != "" {
		switch {
		case strings.HasPrefix(path, "[*]"):
			out, path = append(out, "[*]"), path[3:]
		case strings.HasPrefix(path, "['"):
			name, rest, _ := strings.Cut(path[2:], "']")
			out, path = append(out, name), rest
		default:
			path = strings.TrimPrefix(path, ".")
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			out, path = append(out, path[:end]), path[end:]
		}
	}
	return out
}

// descend collects the scalars that a path reaches.
func descend(v gjson.Result, path []string, at string, lists []listAt, out []placed) ([]placed, error) {
	if len(path) == 0 {
		switch v.Type {
		case gjson.String:
			out = append(out, placed{value{text: v.Str, str: true}, lists})
		case gjson.Number:
			out = append(out, placed{value{text: v.Raw, number: true}, lists})
		}
		return out, nil
	}
	var err error
	step, rest := path[0], path[1:]
	switch {
	case v.IsArray() && (step == "[*]" || step == "element"):
		i := 0
		v.ForEach(func(_, elem gjson.Result) bool {
			here := append(lists[:len(lists):len(lists)], listAt{at, i})
			out, err = descend(elem, rest, at+"[]", here, out)
			i++
			return err == nil
		})
	case v.IsArray() && step == "list" && len(rest) > 0 && rest[0] == "element":
		return descend(v, rest, at, lists, out)
	case v.IsObject() && step != "[*]":
		n := 0
		v.ForEach(func(name, member gjson.Result) bool {
			if name.Str != step {
				return true
			}
			if n++; n > 1 {
				err = errTwice
				return false
			}
			out, err = descend(member, rest, at+"."+step, lists, out)
			return err == nil
		})
	}
	return out, err
}

// sameChange says whether now is old with the action applied.
func sameChange(old, now []byte, r *Rules) (bool, error) {
	want, err := applied(bytes.TrimSpace(old), r)
	if err != nil {
		return false, err
	}
	got, err := decode(bytes.TrimSpace(now))
	if err != nil {
		return false, err
	}
	a, err := json.Marshal(want)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(got)
	return bytes.Equal(a, b) && bytes.HasSuffix(old, []byte("\n")) == bytes.HasSuffix(now, []byte("\n")), err
}

// pending says whether the action would change a record at all.
func pending(text []byte, r *Rules) (bool, error) {
	want, err := applied(text, r)
	if err != nil {
		return false, err
	}
	old, err := decode(text)
	if err != nil {
		return false, err
	}
	a, err := json.Marshal(want)
	if err != nil {
		return false, err
	}
	b, err := json.Marshal(old)
	return !bytes.Equal(a, b), err
}

func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode: %w", ErrMalformed)
	}
	return v, nil
}

// applied is a record's value with the action applied.
func applied(text []byte, r *Rules) (any, error) {
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	for _, c := range r.Action.Null {
		overwrite(v, steps(c), func(any) any { return nil })
	}
	for c, constant := range r.Action.Redact {
		overwrite(v, steps(c), func(old any) any { return replaced(old, constant) })
	}
	if r.Action.Element == "" {
		return v, nil
	}
	return v, drop(v, text, r)
}

func replaced(old any, constant string) any {
	switch old.(type) {
	case nil:
		return nil
	case json.Number:
		if json.Valid([]byte(constant)) && strings.ContainsAny(constant[:1], "-0123456789") {
			return json.Number(constant)
		}
	case bool:
		if constant == "true" || constant == "false" {
			return constant == "true"
		}
	}
	return constant
}

// overwrite calls f on what a path reaches.
func overwrite(v any, path []string, f func(any) any) {
	step, rest := path[0], path[1:]
	switch v := v.(type) {
	case map[string]any:
		old, ok := v[step]
		if !ok {
			return
		}
		if len(rest) == 0 {
			v[step] = f(old)
			return
		}
		overwrite(old, rest, f)
	case []any:
		if step == "list" && len(rest) > 0 && rest[0] == "element" {
			overwrite(v, rest, f)
			return
		}
		if step != "[*]" && step != "element" {
			return
		}
		for i := range v {
			if len(rest) == 0 {
				v[i] = f(v[i])
			} else {
				overwrite(v[i], rest, f)
			}
		}
	}
}

// drop takes the elements that hold a key out of the lists that a path reaches.
func drop(v any, text []byte, r *Rules) error {
	root := gjson.ParseBytes(text)
	var hits [][]listAt
	for _, m := range r.Matches {
		columns := make([][]placed, len(m.Columns))
		for k, c := range m.Columns {
			var err error
			if columns[k], err = descend(root, c.Path, "", nil, nil); err != nil {
				return err
			}
		}
		holdsKey(m.Keys, columns, &hits)
	}
	cut(v, steps(r.Action.Element), "", nil, hits)
	return nil
}

// cut removes from the lists at a path the elements that a hit lies in. Lists
// are identified by their path and the elements around them. Marked elements
// keep their numbers: each list is cut once, after all hits are known.
func cut(v any, path []string, at string, lists []listAt, hits [][]listAt) any {
	if len(path) == 0 {
		list, ok := v.([]any)
		if !ok {
			return v
		}
		kept := make([]any, 0, len(list))
		for i, e := range list {
			here := append(lists[:len(lists):len(lists)], listAt{at, i})
			if !covered(here, hits) {
				kept = append(kept, e)
			}
		}
		return kept
	}
	step, rest := path[0], path[1:]
	switch v := v.(type) {
	case map[string]any:
		if child, ok := v[step]; ok {
			v[step] = cut(child, rest, at+"."+step, lists, hits)
		}
	case []any:
		if step == "[*]" || step == "element" {
			for i := range v {
				v[i] = cut(v[i], rest, at+"[]", append(lists[:len(lists):len(lists)], listAt{at, i}), hits)
			}
		}
	}
	return v
}

// covered says whether some hit lies in all of these elements.
func covered(here []listAt, hits [][]listAt) bool {
	for _, hit := range hits {
		n := 0
		for _, h := range here {
			for _, x := range hit {
				if x == h {
					n++
					break
				}
			}
		}
		if n == len(here) {
			return true
		}
	}
	return false
}
