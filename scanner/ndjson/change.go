package ndjson

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/expunge/expunge/internal/packed"
)

var null = []byte("null")

// changes are the edits of a hit record, sorted, in positions of the record.
func (w *walker) changes(record []byte) []packed.Edit {
	var edits []packed.Edit
	for i, s := range w.spans {
		if s.redact < 0 {
			if w.hitElement(s) {
				edits = append(edits, w.cut(record, i))
			}
			continue
		}
		old := record[s.from:s.to]
		with := null
		if c := w.redact[s.redact].Constant; c != nil && !bytes.Equal(old, null) {
			with = constant(old, *c)
		}
		if !bytes.Equal(old, with) {
			edits = append(edits, packed.Edit{Off: int64(s.from), Len: int64(s.to - s.from), With: with})
		}
	}
	slices.SortStableFunc(edits, func(a, b packed.Edit) int { return int(a.Off - b.Off) })
	return outermost(edits)
}

// outermost leaves out edits that lie in the range of another.
func outermost(edits []packed.Edit) []packed.Edit {
	var out []packed.Edit
	for _, e := range edits {
		if n := len(out) - 1; n >= 0 && e.Off < out[n].Off+out[n].Len {
			if end := e.Off + e.Len; out[n].With == nil && e.With == nil && end > out[n].Off+out[n].Len {
				out[n].Len = end - out[n].Off
			}
			continue
		}
		out = append(out, e)
	}
	return out
}

// constant writes a redaction's constant as the type of the value it replaces:
// a number stays a number where the constant is one, everything else becomes a
// string. Null stays null: there is nothing to hide.
func constant(old []byte, text string) []byte {
	if c := old[0]; (c == '-' || c >= '0' && c <= '9') && json.Valid([]byte(text)) && text != "" && (text[0] == '-' || text[0] >= '0' && text[0] <= '9') {
		return []byte(text)
	}
	if (string(old) == "true" || string(old) == "false") && (text == "true" || text == "false") {
		return []byte(text)
	}
	out, err := json.Marshal(text)
	if err != nil {
		return null // a Go string always encodes
	}
	return out
}

// hitElement says whether an element holds a key: a hit's place begins with
// the element's.
func (w *walker) hitElement(s span) bool {
	for _, p := range w.tuples.Places {
		same := true
		for d := 0; d <= s.depth; d++ {
			same = same && p[d] == s.place[d]
		}
		if same {
			return true
		}
	}
	return false
}

// cut is the range of element i of its array with one comma: the one before
// it, or, for elements at the front of which nothing is left, the one behind.
func (w *walker) cut(record []byte, i int) packed.Edit {
	s := w.spans[i]
	kept := false // an element before it that stays
	for k := i - 1; k >= 0; k-- {
		if e := w.spans[k]; e.redact < 0 && e.array == s.array && !w.hitElement(e) {
			kept = true
			break
		}
	}
	from, to := s.from, s.to
	if kept {
		from = bytes.LastIndexByte(record[:from], ',')
	} else {
		for to < len(record) && (record[to] == ' ' || record[to] == '\t' || record[to] == '\r' || record[to] == '\n') {
			to++
		}
		if to < len(record) && record[to] == ',' {
			to++
			for to < len(record) && record[to] == ' ' {
				to++
			}
		} else {
			to = s.to // the only elements left were cut before it
		}
	}
	return packed.Edit{Off: int64(from), Len: int64(to - from)}
}
