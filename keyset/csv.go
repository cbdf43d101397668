package keyset

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
)

// CSV and TSV are read as RFC 4180 says, with a header line: fields that begin
// with a quote are quoted, "" in them is a quote, they may hold newlines. A quote
// inside an unquoted field and a record with more or fewer fields than the header
// are errors. An unquoted empty field is NULL, a quoted one the empty string.

var (
	errBareQuote   = errors.New("quote in an unquoted field")
	errOpenQuote   = errors.New("quoted field without an end")
	errAfterQuote  = errors.New("text after a quoted field")
	errFieldCount  = errors.New("not as many fields as the header")
	errNoHeader    = errors.New("no header line")
	errKeyInHeader = errors.New("the header line looks like a key: is the format \"lines\"?")
	errTwice       = errors.New("more than one column of that name")
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// readCSV reads a comma or tab separated source.
func (p *pass) readCSV(ctx context.Context, in io.Reader) error {
	d := &csvDialect{comma: ',', wanted: len(p.columns)}
	if p.src.format == formatTSV {
		d.comma = '\t'
	}
	header := func(data []byte) (int, error) { return p.csvHeader(d, data) }
	return p.chunks(ctx, in, splitQuoted, header, func(s *sink, c chunk) error { return p.csvRecords(s, d, c) })
}

// csvDialect is what the header of one source tells.
type csvDialect struct {
	comma  byte
	wanted int
	fields int
	slots  [][]int // by field: the wanted columns that it is
}

// splitQuoted cuts after the last newline outside quotes. A chunk starts outside.
func splitQuoted(data []byte) int {
	quotes := bytes.Count(data, []byte{'"'})
	for end := len(data); ; {
		nl := bytes.LastIndexByte(data[:end], '\n')
		if nl < 0 {
			return 0
		}
		if quotes > 0 {
			quotes -= bytes.Count(data[nl:end], []byte{'"'})
		}
		if quotes%2 == 0 {
			return nl + 1
		}
		end = nl
	}
}

// csvHeader maps the wanted columns to fields and returns the header's length.
func (p *pass) csvHeader(d *csvDialect, data []byte) (int, error) {
	var names []string
	rest := bytes.TrimPrefix(data, byteOrderMark)
	if len(rest) == 0 {
		return 0, p.errAt(1, -1, errNoHeader)
	}
	rec := csvRecord{comma: d.comma}
	rest, err := rec.next(rest, func(_ int, cell []byte, _ bool) { names = append(names, string(cell)) })
	if err != nil {
		return 0, p.errAt(1, -1, err)
	}
	d.fields = len(names)
	d.slots = make([][]int, len(names))
	for i, want := range p.columns {
		at := -1
		for f, name := range names {
			if name != want {
				continue
			}
			if at >= 0 {
				return 0, p.errAt(1, i, errTwice)
			}
			at = f
		}
		if n, ok := ordinal(want); at < 0 && ok && n < len(names) {
			at = n
			if i < len(p.spec.Schema) && p.looksLikeKey(i, names[n]) {
				return 0, p.errAt(1, i, errKeyInHeader)
			}
		}
		if at < 0 {
			return 0, &columnError{source: p.src.label, column: want}
		}
		d.slots[at] = append(d.slots[at], i)
	}
	return len(data) - len(rest), nil
}

// ordinal reads "#1" as 0.
func ordinal(column string) (int, bool) {
	digits, ok := strings.CutPrefix(column, "#")
	n, err := strconv.Atoi(digits)
	return n - 1, ok && err == nil && n >= 1
}

// looksLikeKey guards columns taken by position against a file without a
// header, whose first key would be lost. Any text can be a string's name.
func (p *pass) looksLikeKey(part int, name string) bool {
	if k := p.spec.Schema[part].Type.Kind; k == KindString || k == KindBinary {
		return false
	}
	_, err := appendText(nil, []byte(name), p.spec.Schema[part].Type, p.rules[part])
	return err == nil
}

// columnError is ErrColumn of a source.
type columnError struct{ source, column string }

func (e *columnError) Error() string { return e.source + ": " + ErrColumn.Error() + ": " + e.column }
func (e *columnError) Unwrap() error { return ErrColumn }

// csvRecords parses a chunk of records.
func (p *pass) csvRecords(s *sink, d *csvDialect, c chunk) error {
	rec := csvRecord{comma: d.comma}
	vals := make([]value, d.wanted)
	cells := make([][]byte, d.wanted) // backing of cells that were unescaped
	take := func(field int, cell []byte, quoted bool) {
		if field >= d.fields {
			return
		}
		for _, slot := range d.slots[field] {
			if rec.unescaped {
				cells[slot] = append(cells[slot][:0], cell...)
				cell = cells[slot]
			}
			vals[slot] = value{b: cell, null: len(cell) == 0 && !quoted}
		}
	}
	line := c.line
	single := d.fields == 1 && d.wanted == 1
	for rest := c.data; len(rest) > 0; {
		if single { // the common list of ids: a line is a cell
			end := bytes.IndexByte(rest, '\n')
			cell, next := rest, rest[len(rest):]
			if end >= 0 {
				cell, next = rest[:end], rest[end+1:]
			}
			if bytes.IndexByte(cell, '"') < 0 && bytes.IndexByte(cell, d.comma) < 0 {
				cell = trimReturn(cell)
				vals[0] = value{b: cell, null: len(cell) == 0}
				if bad := s.row(vals); bad != nil {
					return p.errAt(line, bad.column, bad.reason)
				}
				rest = next
				line++
				continue
			}
		} else if blank := blankLine(rest); blank > 0 {
			rest = rest[blank:]
			line++
			continue
		}
		next, err := rec.next(rest, take)
		if err != nil {
			return p.errAt(line+rec.lineInRecord, -1, err)
		}
		if rec.fields != d.fields {
			return p.errAt(line, -1, errFieldCount)
		}
		if bad := s.row(vals); bad != nil {
			return p.errAt(line, bad.column, bad.reason)
		}
		line += rec.lineInRecord + 1
		rest = next
	}
	return nil
}

// blankLine returns the length of an empty line at the start, 0 if it is not one.
func blankLine(b []byte) int {
	switch {
	case b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

func trimReturn(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\r' {
		return b[:n-1]
	}
	return b
}

// csvRecord parses one record at a time.
type csvRecord struct {
	comma        byte
	fields       int   // of the last record
	lineInRecord int64 // newlines in it, its end apart
	unescaped    bool  // the cell lies in scratch
	scratch      []byte
}

// next calls cell for each field of the first record of data, which is not
// empty, and returns what follows it.
func (r *csvRecord) next(data []byte, cell func(field int, b []byte, quoted bool)) ([]byte, error) {
	r.lineInRecord = 0
	for field := 0; ; field++ {
		r.fields = field + 1
		r.unescaped = false
		if len(data) > 0 && data[0] == '"' {
			b, rest, err := r.quoted(data[1:])
			if err != nil {
				return nil, err
			}
			cell(field, b, true)
			data = rest
			switch {
			case len(data) == 0 || len(data) == 1 && data[0] == '\r':
				return nil, nil
			case data[0] == r.comma:
				data = data[1:]
				continue
			case data[0] == '\n':
				return data[1:], nil
			case data[0] == '\r' && data[1] == '\n':
				return data[2:], nil
			}
			return nil, errAfterQuote
		}
		n := 0
		for n < len(data) && data[n] != r.comma && data[n] != '\n' {
			if data[n] == '"' {
				return nil, errBareQuote
			}
			n++
		}
		b := data[:n]
		if n == len(data) || data[n] == '\n' {
			cell(field, trimReturn(b), false)
			return data[min(n+1, len(data)):], nil
		}
		cell(field, b, false)
		data = data[n+1:]
	}
}

// quoted returns a quoted field's text, given what follows the opening quote,
// and what follows the closing one.
func (r *csvRecord) quoted(data []byte) (b, rest []byte, err error) {
	for from := 0; ; {
		q := bytes.IndexByte(data[from:], '"')
		if q < 0 {
			return nil, nil, errOpenQuote
		}
		end := from + q
		if end+1 < len(data) && data[end+1] == '"' {
			if !r.unescaped {
				r.unescaped, r.scratch = true, r.scratch[:0]
			}
			r.scratch = append(r.scratch, data[from:end+1]...)
			from = end + 2
			continue
		}
		b = data[:end]
		if r.unescaped {
			r.scratch = append(r.scratch, data[from:end]...)
			b = r.scratch
		}
		r.lineInRecord += int64(bytes.Count(data[:end], newline))
		return b, data[end+1:], nil
	}
}
