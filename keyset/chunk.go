package keyset

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	defaultChunk = 512 << 10
	// maxRecord bounds one line: what is longer is no list of keys.
	maxRecord = 16 << 20
)

// Reasons for which a record is refused.
var (
	errNullKey     = errors.New("NULL or missing key")
	errEmptyKey    = errors.New("empty key")
	errNumberText  = errors.New("a number where text is expected")
	errNotDateTime = errors.New("not a date or time (RFC 3339)")
	errLongRecord  = errors.New("line longer than 16 MiB")
)

// pass is the reading of one source.
type pass struct {
	*loader
	src                  source
	collector            *collector
	columns              []string // wanted: key parts, then request columns
	idColumn, dateColumn int      // in columns; 0 = none (a key part is always before)
	rows, nulls          atomic.Int64
}

// value is a cell as a source gives it. Its bytes are valid during the call only.
type value struct {
	b      []byte
	null   bool
	number bool      // a JSON number
	canon  bool      // b is the part's canonical form already (Parquet)
	at     time.Time // a request's date that is one already (Parquet)
}

// cellError is a refused record: which wanted column, and why.
type cellError struct {
	column int // -1: the record
	reason error
}

// sink turns records into keys for one goroutine.
type sink struct {
	p       *pass
	buf     keyBuf
	key     []byte
	cache   askedCache
	rows    int64
	nulls   int64
	int64   bool // a single int64 without requests
	lastRaw []byte
	last    time.Time
}

func (p *pass) newSink() *sink {
	s := &sink{p: p}
	s.cache.in = p.collector.requests
	sch := p.spec.Schema
	s.int64 = len(p.columns) == 1 && sch[0].Type.Kind == KindInt64 && !p.rules[0].trim
	return s
}

// row adds one record; vals follow the pass's columns.
func (s *sink) row(vals []value) *cellError {
	s.rows++
	if s.int64 && !vals[0].null && !vals[0].canon {
		v, ok := parseInt64(vals[0].b)
		if !ok {
			return s.refuse(0, vals[0].b, errNotInt)
		}
		s.buf.words = append(s.buf.words, uint64(v)^signFlip)
		s.buf.n++
		s.flushFull()
		return nil
	}
	schema := s.p.spec.Schema
	s.key = s.key[:0]
	for i := range schema {
		v := &vals[i]
		if v.null {
			if !s.p.spec.AllowNull {
				return &cellError{i, errNullKey}
			}
			s.nulls++
			return nil
		}
		start := len(s.key)
		if err := s.part(schema, i, v); err != nil {
			return s.refuse(i, v.b, err)
		}
		if k := schema[i].Type.Kind; (k == KindString || k == KindBinary) && !s.p.spec.EmptyKeys && emptyPart(s.key[start:], len(schema)) {
			return &cellError{i, errEmptyKey}
		}
	}
	code, bad := s.request(vals)
	if bad != nil {
		return bad
	}
	s.buf.add(s.key, s.p.collector.width, code)
	s.flushFull()
	return nil
}

// refuse names the reason; an empty cell is called that.
func (s *sink) refuse(column int, b []byte, reason error) *cellError {
	if len(b) == 0 {
		reason = errEmptyKey
	}
	return &cellError{column, reason}
}

func emptyPart(appended []byte, parts int) bool {
	if parts == 1 {
		return len(appended) == 0
	}
	return len(appended) == 2 // tag and length 0
}

func (s *sink) part(schema Schema, i int, v *value) (err error) {
	kind := schema[i].Type.Kind
	switch {
	case v.canon:
		if len(schema) == 1 {
			s.key = append(s.key, v.b...)
		} else {
			s.key = appendTuplePart(s.key, kind, v.b)
		}
		return nil
	case v.number && kind != KindInt64 && kind != KindDecimal:
		return errNumberText
	case kind == KindString && !utf8.Valid(v.b):
		return errNotUTF8
	}
	s.key, err = appendKeyText(s.key, v.b, schema, i, s.p.rules[i])
	return err
}

// request interns the record's request; no id and no date is none.
func (s *sink) request(vals []value) (uint32, *cellError) {
	p := s.p
	if p.idColumn|p.dateColumn == 0 {
		return 0, nil
	}
	var id []byte
	var at time.Time
	if p.idColumn > 0 && !vals[p.idColumn].null {
		if id = vals[p.idColumn].b; !utf8.Valid(id) {
			return 0, &cellError{p.idColumn, errNotUTF8}
		}
	}
	if p.dateColumn > 0 && !vals[p.dateColumn].null {
		v := &vals[p.dateColumn]
		if at = v.at; at.IsZero() && len(v.b) > 0 {
			var ok bool
			if at, ok = s.date(v.b); !ok {
				return 0, &cellError{p.dateColumn, errNotDateTime}
			}
		}
	}
	if p.idColumn > 0 && len(id) == 0 {
		return 0, nil // a date without the declared id names no request
	}
	return s.cache.add(id, at), nil
}

// dateLayouts are read as UTC where they name no zone.
var dateLayouts = []string{time.RFC3339, "2006-01-02", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05-07"}

// date parses a request's date; runs of the same text are parsed once.
func (s *sink) date(b []byte) (time.Time, bool) {
	if bytes.Equal(b, s.lastRaw) && len(b) > 0 {
		return s.last, true
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, string(b)); err == nil {
			s.lastRaw, s.last = append(s.lastRaw[:0], b...), t.UTC()
			return s.last, true
		}
	}
	return time.Time{}, false
}

func (s *sink) flushFull() {
	if s.buf.n >= 1<<16 || len(s.buf.arena) > 4<<20 {
		s.p.collector.add(s.buf)
		s.buf = keyBuf{}
	}
}

func (s *sink) close() {
	s.p.collector.add(s.buf)
	s.buf = keyBuf{}
	s.p.rows.Add(s.rows)
	s.p.nulls.Add(s.nulls)
}

// chunk is whole records, and the line the first one is on.
type chunk struct {
	seq  int
	line int64
	data []byte
}

// splitter cuts data after its last whole record: the length, 0 if there is none.
type splitter func(data []byte) int

// recordParser parses the records of a chunk.
type recordParser func(s *sink, c chunk) error

// chunks reads records into chunks, hands them to workers and returns the error
// of the earliest line. prepare, if given, sees the first data and returns how
// much of it to skip: a header.
func (p *pass) chunks(ctx context.Context, in io.Reader, split splitter, prepare func([]byte) (int, error), parse recordParser) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := make(chan chunk)
	var mu sync.Mutex
	var first error
	firstSeq := -1
	fail := func(seq int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if firstSeq < 0 || seq < firstSeq {
			first, firstSeq = err, seq
		}
		cancel()
	}
	var wg sync.WaitGroup
	free := sync.Pool{New: func() any { return new([]byte) }}
	for range p.opts.workers {
		wg.Go(func() {
			s := p.newSink()
			defer s.close()
			for c := range work {
				if err := parse(s, c); err != nil {
					fail(c.seq, err)
				}
				free.Put(&c.data)
			}
		})
	}
	err := p.cut(ctx, in, split, prepare, work, &free)
	close(work)
	wg.Wait()
	if first != nil {
		return first // of an earlier line than what reading ran into after it
	}
	return err
}

// cut sends chunks until the end of in.
func (p *pass) cut(ctx context.Context, in io.Reader, split splitter, prepare func([]byte) (int, error), work chan<- chunk, free *sync.Pool) error {
	var rest []byte
	line, size := int64(1), p.opts.chunk
	for seq := 0; ; {
		buf := *free.Get().(*[]byte)
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		buf = buf[:cap(buf)]
		n := copy(buf, rest)
		m, end, err := fill(in, buf[n:])
		if err != nil {
			return err
		}
		data := buf[:n+m]
		cutAt := len(data)
		if !end {
			if cutAt = split(data); cutAt == 0 { // no whole record yet
				if rest, size = append([]byte(nil), data...), 2*len(buf); len(data) > maxRecord {
					return p.errAt(line, -1, errLongRecord)
				}
				continue
			}
		}
		rest = append(rest[:0], data[cutAt:]...)
		size = max(p.opts.chunk, 2*len(rest))
		c := chunk{seq: seq, line: line, data: data[:cutAt]}
		line += int64(bytes.Count(c.data, newline))
		seq++
		if prepare != nil {
			skip, err := prepare(c.data)
			if err != nil {
				return err
			}
			c.line += int64(bytes.Count(c.data[:skip], newline))
			c.data, prepare = c.data[skip:], nil
		}
		if len(c.data) > 0 {
			select {
			case work <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if end {
			return nil
		}
	}
}

// fill reads until buf is full or in ends. It is not io.ReadFull, which gives
// the end of a short file the error of a cut-off compressed one.
func fill(in io.Reader, buf []byte) (n int, end bool, err error) {
	for n < len(buf) {
		m, err := in.Read(buf[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

var newline = []byte{'\n'}
