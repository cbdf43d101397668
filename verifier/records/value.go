package records

import (
	"math/big"
	"strconv"
	"strings"

	"github.com/expunge/expunge/keyset"
)

// value is a scalar as a record holds it.
type value struct {
	text   string
	number bool // a JSON number, or text that is none
	str    bool // a JSON string, or CSV text
	raw    bool // bytes
	date   bool // an Avro date
}

// canonical is the key that a value stands for; false when it is none.
func canonical(p keyset.Part, v value) ([]byte, bool) {
	switch {
	case v.raw && (p.Type.Kind == keyset.KindBinary || p.Type.Kind == keyset.KindUUID && len(v.text) == 16):
		return []byte(v.text), true
	case v.raw || v.date && p.Type.Kind != keyset.KindDate:
		return nil, false
	}
	switch p.Type.Kind {
	case keyset.KindInt64, keyset.KindDecimal:
		if !v.number && p.Type.Kind == keyset.KindInt64 {
			return nil, false
		}
		return number(p.Type, strings.TrimSpace(v.text))
	case keyset.KindString, keyset.KindBinary:
		if !v.str {
			return nil, false
		}
		out, err := p.AppendText(nil, []byte(v.text))
		return out, err == nil
	case keyset.KindUUID, keyset.KindDate:
		if !v.str {
			return nil, false
		}
		out, err := p.AppendText(nil, []byte(strings.TrimSpace(v.text)))
		return out, err == nil
	}
	return nil, false
}

// number reads a decimal number as a fraction, so that nothing is rounded.
func number(t keyset.Type, text string) ([]byte, bool) {
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		if e, err := strconv.Atoi(text[i+1:]); err != nil || e > 200 || e < -200 {
			return nil, false
		}
	}
	if len(text) > 400 || strings.ContainsAny(text, "/_xXpPbBoO") {
		return nil, false
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, false
	}
	if t.Kind == keyset.KindInt64 {
		if !r.IsInt() || !r.Num().IsInt64() {
			return nil, false
		}
		return t.AppendInt64(nil, r.Num().Int64()), true
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil)))
	if !r.IsInt() {
		return nil, false
	}
	return t.AppendUnscaled(nil, r.Num())
}

// placed is a value with the list elements around it: "members" 3, say.
type placed struct {
	value
	lists []listAt
}

type listAt struct {
	list  string // its path
	index int
}

// together says whether two values can belong to one key: they do not lie in
// different elements of one list.
func together(a, b []listAt) bool {
	for _, x := range a {
		for _, y := range b {
			if x.list == y.list && x.index != y.index {
				return false
			}
		}
	}
	return true
}

// holdsKey tries every combination of the parts' values; hits gets the places.
func holdsKey(set *keyset.Set, columns [][]placed, hits *[][]listAt) bool {
	schema := set.Schema()
	parts := make([][]byte, len(schema))
	found := false
	var try func(k int, at []listAt)
	try = func(k int, at []listAt) {
		if found && hits == nil {
			return
		}
		if k == len(schema) {
			if set.Contains(schema.AppendTuple(nil, parts...)) {
				found = true
				if hits != nil {
					*hits = append(*hits, append([]listAt(nil), at...))
				}
			}
			return
		}
		for _, v := range columns[k] {
			if !together(at, v.lists) {
				continue
			}
			key, ok := canonical(schema[k], v.value)
			if !ok {
				continue
			}
			parts[k] = key
			try(k+1, append(at[:len(at):len(at)], v.lists...))
		}
	}
	try(0, nil)
	return found
}
