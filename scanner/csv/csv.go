// Package csv finds the records of CSV and TSV files that hold a key, as the
// ranges of bytes that they are.
//
// The dialect is RFC 4180 with a delimiter of choice: a field that begins with
// a quote ends at the next single one, quotes in it are doubled, and it may
// hold delimiters and line ends; in other fields a quote is a character. Lines
// end in LF or CRLF; empty lines are no records and stay, as do a byte order
// mark and the header. An empty field without quotes is NULL and never
// matches; "" in quotes is the empty string.
//
// The first record is the header, unless every key column is named by its
// position (#1 is the first). A record with another number of fields than the
// first, or with bytes behind a closing quote, is malformed: its columns cannot
// be told.
package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/scanner"
)

// maxRecord bounds the memory that one record may take.
const maxRecord = 256 << 20

var byteOrderMark = []byte("\xef\xbb\xbf")

// Reasons for which a record is malformed. They carry nothing of it.
var (
	errFields = errors.New("another number of fields than the first record")
	errQuote  = errors.New("bytes behind a closing quote")
	errOpen   = errors.New("a quote is not closed")
	errHeader = errors.New("a key column occurs twice in the header")
	errNoUTF8 = errors.New("UTF-16 or NUL bytes")
)

// ErrTooLong: a record is longer than this package takes into memory.
var ErrTooLong = errors.New("record longer than 256 MiB")

// Scan reads an object whose fields are separated by comma. A malformed record
// is scanner.ErrMalformed, unless the request keeps those. Hits can be removed
// only.
func Scan(ctx context.Context, src storage.Object, comma byte, req scanner.Records) (*scanner.RecordsFound, error) {
	in, err := packed.Open(src)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	s, err := newScan(comma, req)
	if err != nil {
		return nil, err
	}
	if err := s.read(ctx, in); err != nil {
		return nil, err
	}
	s.found.Kind, s.found.Frames, s.found.BytesRead = in.Kind(), in.Frames(), in.BytesRead()
	return s.found, nil
}

type scan struct {
	req    scanner.Records
	found  *scanner.RecordsFound
	tuples *scanner.Tuples
	comma  byte
	header bool    // the first record is one
	begun  bool    // it has been seen
	fields int     // of the first record
	slots  [][]int // by field: the key columns that it is
	// keyFields are the fields that are any.
	keyFields []int
	at        int64 // content position of the buffer
	cells     [][]byte
	quoted    []bool // beside cells: the field was in quotes
	text      []byte // unquoted fields with doubled quotes
	plain     plain
	careful   bool // every record byte by byte: for tests
}

func newScan(comma byte, req scanner.Records) (*scan, error) {
	t, err := scanner.NewTuples(req.Match)
	if err != nil {
		return nil, err
	}
	s := &scan{req: req, found: scanner.NewRecordsFound(len(req.Match)), tuples: t, comma: comma}
	for _, m := range req.Match {
		for _, c := range m.Columns {
			if _, ok := position(c.Path); !ok {
				s.header = true
			}
		}
	}
	if len(req.Match) == 0 {
		s.header = true
	}
	return s, nil
}

// position reads "#3", the third column.
func position(path []string) (int, bool) {
	if len(path) != 1 || len(path[0]) < 2 || path[0][0] != '#' {
		return 0, false
	}
	n, err := strconv.Atoi(path[0][1:])
	return n - 1, err == nil && n > 0
}

func (s *scan) read(ctx context.Context, in *packed.Reader) error {
	held := in.Buffer()
	defer packed.Return(held)
	buf := (*held)[:0]
	for end := false; !end || len(buf) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		for !end && len(buf) < cap(buf) {
			n, err := in.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if end = err == io.EOF; err != nil && !end { //nolint:errorlint // the end itself
				return err
			}
		}
		used, err := s.records(buf, end)
		if err != nil {
			return err
		}
		s.at += int64(used)
		buf = buf[:copy(buf, buf[used:])]
		if used == 0 && !end {
			if cap(buf) >= maxRecord {
				return ErrTooLong
			}
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
	}
	s.found.Content = s.at
	s.found.Present, s.found.Values, s.found.Foreign = s.tuples.HavePresent, s.tuples.Values, s.tuples.Foreign
	s.found.Keys = s.tuples.Keys
	return nil
}

// records takes whole records off the buffer; it returns how many bytes.
func (s *scan) records(buf []byte, last bool) (int, error) {
	pos := 0
	if s.at == 0 {
		if !last && len(buf) < 4 {
			return 0, nil
		}
		if bytes.HasPrefix(buf, byteOrderMark) {
			pos = len(byteOrderMark)
			s.found.Header = byteOrderMark
		}
		if len(buf) > 1 && (buf[0] == 0xff && buf[1] == 0xfe || buf[0] == 0xfe && buf[1] == 0xff || buf[0] == 0 || buf[1] == 0) {
			return 0, fmt.Errorf("%w: %w", scanner.ErrMalformed, errNoUTF8)
		}
	}
	for pos < len(buf) {
		if s.begun && !s.careful {
			if pos = s.plainRecords(buf, pos); pos == len(buf) {
				break
			}
		}
		end, bad, whole := s.cut(buf, pos, last)
		if !whole {
			return pos, nil
		}
		if err := s.record(buf, pos, end, bad); err != nil {
			return pos, err
		}
		pos = end
	}
	return pos, nil
}

// cut finds the end of the record at pos and its fields. It is not whole when
// more bytes must be seen first.
func (s *scan) cut(buf []byte, pos int, last bool) (end int, bad error, whole bool) {
	s.cells, s.quoted, s.text = s.cells[:0], s.quoted[:0], s.text[:0]
	for {
		if pos < len(buf) && buf[pos] == '"' {
			next, bad, whole := s.quotedField(buf, pos, last)
			if bad != nil || !whole {
				return next, bad, whole
			}
			pos = next
		} else {
			from := pos
			for pos < len(buf) && buf[pos] != s.comma && buf[pos] != '\n' {
				pos++
			}
			if pos == len(buf) && !last {
				return 0, nil, false
			}
			cell := buf[from:pos]
			if n := len(cell); n > 0 && cell[n-1] == '\r' && (pos == len(buf) || buf[pos] == '\n') {
				cell = cell[:n-1]
			}
			s.cells, s.quoted = append(s.cells, cell), append(s.quoted, false)
		}
		if pos == len(buf) {
			return pos, nil, true
		}
		if buf[pos] == '\n' {
			return pos + 1, nil, true
		}
		pos++ // the delimiter
	}
}

// quotedField reads a field in quotes and returns the position behind it: at a
// delimiter, a line end, or the end.
func (s *scan) quotedField(buf []byte, pos int, last bool) (next int, bad error, whole bool) {
	from := pos + 1
	start := len(s.text)
	copied := false
	for at := from; ; {
		i := bytes.IndexByte(buf[at:], '"')
		if i < 0 {
			if !last {
				return 0, nil, false
			}
			return len(buf), errOpen, true
		}
		at += i
		if at+1 == len(buf) && !last {
			return 0, nil, false
		}
		if at+1 < len(buf) && buf[at+1] == '"' {
			s.text = append(s.text, buf[from:at+1]...)
			at += 2
			from, copied = at, true
			continue
		}
		cell := buf[from:at]
		if copied {
			s.text = append(s.text, cell...)
			cell = s.text[start:]
		}
		s.cells, s.quoted = append(s.cells, cell), append(s.quoted, true)
		return s.behind(buf, at+1, last)
	}
}

func (s *scan) behind(buf []byte, at int, last bool) (next int, bad error, whole bool) {
	switch {
	case at == len(buf) || buf[at] == s.comma || buf[at] == '\n':
		return at, nil, true
	case buf[at] == '\r' && at+1 == len(buf):
		return at + 1, nil, last
	case buf[at] == '\r' && buf[at+1] == '\n':
		return at + 1, nil, true
	}
	// The record is said to end with the line.
	i := bytes.IndexByte(buf[at:], '\n')
	if i < 0 {
		return len(buf), errQuote, last
	}
	return at + i + 1, errQuote, true
}

// record decides on the record buf[from:to].
func (s *scan) record(buf []byte, from, to int, bad error) error {
	if bad == nil && len(s.cells) == 1 && !s.quoted[0] && len(s.cells[0]) == 0 {
		return nil // an empty line
	}
	if !s.begun {
		s.begun, s.fields = true, len(s.cells)
		if err := s.bind(); err != nil || bad != nil {
			return fmt.Errorf("header: %w: %w", scanner.ErrMalformed, errors.Join(err, bad))
		}
		if s.header {
			s.found.Header = bytes.Clone(buf[:to]) // with the byte order mark and empty lines
			return nil
		}
	}
	if bad == nil && len(s.cells) != s.fields {
		bad = errFields
	}
	if bad != nil {
		return s.found.Malform(&s.req, s.at+int64(from), int64(to-from), bad)
	}
	s.decide(from, to)
	return nil
}

// decide removes what is to go: a hit, or everything else.
func (s *scan) decide(from, to int) {
	row := s.found.Rows
	s.found.Rows++
	hit := s.match()
	if hit {
		s.found.Hits.Add(uint64(row))
	}
	if hit != s.req.Invert {
		s.found.Remove(s.at+int64(from), int64(to-from))
	}
}

// bind finds the key columns in the first record.
func (s *scan) bind() error {
	s.slots = make([][]int, s.fields)
	slot := 0
	for _, m := range s.req.Match {
		for _, c := range m.Columns {
			if at, ok := position(c.Path); ok {
				if at < s.fields {
					s.slots[at] = append(s.slots[at], slot)
				}
				slot++
				continue
			}
			name := join(c.Path)
			found := 0
			for i, cell := range s.cells {
				if string(cell) == name {
					s.slots[i] = append(s.slots[i], slot)
					found++
				}
			}
			if found > 1 {
				return errHeader
			}
			slot++
		}
	}
	for i, slots := range s.slots {
		if len(slots) > 0 {
			s.keyFields = append(s.keyFields, i)
		}
	}
	return nil
}

// join writes a path as one name: columns of CSV may have dots in their names.
func join(path []string) string {
	name := path[0]
	for _, p := range path[1:] {
		name += "." + p
	}
	return name
}

func (s *scan) match() bool {
	s.tuples.Reset()
	for _, i := range s.keyFields {
		for _, slot := range s.slots[i] {
			s.tuples.Seen(slot)
			if len(s.cells[i]) > 0 || s.quoted[i] { // otherwise NULL
				s.tuples.AddText(slot, s.cells[i])
			}
		}
	}
	hit := s.req.Every
	for m, h := range s.tuples.Finish() {
		if h {
			s.found.PerMatch[m]++
			hit = true
		}
	}
	return hit
}
