package records

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strconv"
	"strings"
)

// csvReader reads with encoding/csv and keeps the bytes that it consumed, so
// that each record's own bytes are known.
type csvReader struct {
	in      *kept
	r       *csv.Reader
	rules   *Rules
	header  bool
	columns [][]int // by match and part: field number, or -1
	fields  int
	at      int64     // offset behind the last record
	queue   []segment // segments cut and not yet taken
	last    bool
}

// kept remembers what was read and not yet given up.
type kept struct {
	r   io.Reader
	off int64 // of buf[0]
	buf []byte
}

func (k *kept) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	k.buf = append(k.buf, p[:n]...)
	return n, err
}

// upTo returns the bytes before an offset and gives up those returned before.
func (k *kept) slice(from, to int64) []byte {
	k.buf = k.buf[from-k.off:]
	k.off = from
	return k.buf[:to-from]
}

func newCSV(in io.Reader, comma rune, r *Rules) (reader, error) {
	b := bufio.NewReaderSize(in, 64<<10)
	c := &csvReader{rules: r, header: true}
	if len(r.Matches) > 0 {
		c.header = false
		for _, m := range r.Matches {
			for _, col := range m.Columns {
				if _, ok := position(col.Path); !ok {
					c.header = true
				}
			}
		}
	}
	if head, _ := b.Peek(3); string(head) == "\xef\xbb\xbf" {
		if _, err := b.Discard(3); err != nil {
			return nil, err
		}
		c.queue = append(c.queue, segment{raw: []byte("\xef\xbb\xbf")})
	}
	c.in = &kept{r: b}
	c.r = csv.NewReader(c.in)
	c.r.Comma, c.r.LazyQuotes, c.r.FieldsPerRecord = comma, true, -1
	return c, nil
}

func position(path []string) (int, bool) {
	if len(path) != 1 || !strings.HasPrefix(path[0], "#") {
		return 0, false
	}
	n, err := strconv.Atoi(path[0][1:])
	return n - 1, err == nil && n > 0
}

func (c *csvReader) next() (segment, error) {
	for len(c.queue) == 0 {
		if c.last {
			return segment{}, io.EOF
		}
		if err := c.more(); err != nil {
			return segment{}, err
		}
	}
	seg := c.queue[0]
	c.queue = c.queue[1:]
	return seg, nil
}

func (c *csvReader) more() error {
	rec, err := c.r.Read()
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		c.last = true
		end := c.in.off + int64(len(c.in.buf))
		if rest := c.in.slice(c.at, end); len(rest) > 0 {
			c.queue = append(c.queue, segment{raw: rest})
		}
		return nil
	case errors.As(err, &bad):
	case err != nil:
		return err
	}
	from, to := c.at, c.r.InputOffset()
	c.at = to
	raw := c.in.slice(from, to)
	blank := 0
	for {
		n := 0
		if bytes.HasPrefix(raw[blank:], []byte("\n")) {
			n = 1
		} else if bytes.HasPrefix(raw[blank:], []byte("\r\n")) {
			n = 2
		}
		if n == 0 {
			break
		}
		blank += n
	}
	if blank > 0 {
		c.queue = append(c.queue, segment{raw: raw[:blank]})
	}
	seg := segment{raw: raw[blank:], record: true, malformed: bad != nil}
	if c.columns == nil {
		c.fields = len(rec)
		c.bind(rec)
		if c.header {
			seg.record = false
			c.queue = append(c.queue, seg)
			return nil
		}
	}
	if len(rec) != c.fields {
		seg.malformed = true
	}
	if !seg.malformed {
		seg.hit = c.rules.Every || c.hit(rec, seg.raw)
	}
	c.queue = append(c.queue, seg)
	return nil
}

func (c *csvReader) bind(rec []string) {
	c.columns = [][]int{}
	for _, m := range c.rules.Matches {
		at := make([]int, len(m.Columns))
		for k, col := range m.Columns {
			at[k] = -1
			if n, ok := position(col.Path); ok {
				if n < len(rec) {
					at[k] = n
				}
				continue
			}
			for i, name := range rec {
				if name == strings.Join(col.Path, ".") {
					at[k] = i
				}
			}
		}
		c.columns = append(c.columns, at)
	}
}

func (c *csvReader) hit(rec []string, raw []byte) bool {
	for i, m := range c.rules.Matches {
		columns := make([][]placed, len(m.Columns))
		for k, at := range c.columns[i] {
			if at < 0 || rec[at] == "" && !c.quoted(at, raw) {
				continue
			}
			text := rec[at]
			if strings.Contains(text, "\n") && bytes.Contains(raw, []byte("\r\n")) {
				text = c.exact(at, raw)
			}
			columns[k] = []placed{{value: value{text: text, number: true, str: true}}}
		}
		if holdsKey(m.Keys, columns, nil) {
			return true
		}
	}
	return false
}

// quoted says whether an empty field was written in quotes.
func (c *csvReader) quoted(field int, raw []byte) bool {
	return bytes.HasPrefix(c.fieldOf(field, raw), []byte(`"`))
}

// exact is the text of a field in quotes with the line ends that it has:
// encoding/csv takes CRLF for LF.
func (c *csvReader) exact(field int, raw []byte) string {
	raw = c.fieldOf(field, raw)
	var text []byte
	for i := 1; i < len(raw); i++ {
		if raw[i] == '"' {
			if i++; i == len(raw) || raw[i] != '"' {
				break
			}
		}
		text = append(text, raw[i])
	}
	return string(text)
}

// fieldOf is a record from the beginning of a field on.
func (c *csvReader) fieldOf(field int, raw []byte) []byte {
	line, col := c.r.FieldPos(field)
	first, _ := c.r.FieldPos(0)
	for ; line > first; line-- {
		_, rest, ok := bytes.Cut(raw, []byte("\n"))
		if !ok {
			return nil
		}
		raw = rest
	}
	return raw[min(col-1, len(raw)):]
}
