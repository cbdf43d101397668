package configs

import (
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is what every error about a job file's contents wraps.
var ErrInvalid = errors.New("invalid job file")

// ErrDeadline: a request would be purged after its deadline.
var ErrDeadline = errors.New("grace ends after a request's deadline")

// Error is one thing that is wrong in a job file.
type Error struct {
	File         string
	Line, Column int    // 0 when the job was not read from a file
	Path         string // "targets[2].match[0]"
	Msg          string
}

// Error writes file:line:column: path: message.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		name := e.File
		if name == "" {
			name = "job"
		}
		fmt.Fprintf(&b, "%s:%d:%d: ", name, e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *Error) Unwrap() error { return ErrInvalid }

// Errors are all that is wrong with a job file, in the file's order.
type Errors []*Error

// Error writes one line an error.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// sorted returns the errors in the order of the file, or nil.
func (es Errors) sorted() error {
	if len(es) == 0 {
		return nil
	}
	sort.SliceStable(es, func(i, j int) bool {
		if es[i].Line != es[j].Line {
			return es[i].Line < es[j].Line
		}
		return es[i].Column < es[j].Column
	})
	return es
}

// quote shows a value in a message, cut short and without a URL's credentials.
func quote(v string) string {
	if strings.Contains(v, "://") {
		u, err := url.Parse(v)
		if err != nil {
			return "(a URL)"
		}
		u.User, u.RawQuery = nil, ""
		v = u.String()
	}
	if reference.MatchString(v) {
		v = reference.ReplaceAllString(v, "$${…}")
	}
	const most = 60
	if utf8.RuneCountInString(v) > most {
		v = string([]rune(v)[:most]) + "…"
	}
	return fmt.Sprintf("%q", v)
}

// suggest returns a hint at the nearest known word, or "".
func suggest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if d := editDistance(word, k, distance); d < distance {
			best, distance = k, d
		}
	}
	if best == "" || distance >= len(word) {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance counts single-byte edits, giving up at most.
func editDistance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
