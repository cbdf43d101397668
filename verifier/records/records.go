// Package records verifies objects that lie outside of tables: NDJSON, CSV and
// TSV files, and Parquet by way of package verifier. It shares no code with the
// scanner and the rewriter: it decompresses with the standard library where
// that can, cuts lines with bufio, reads JSON with encoding/json and gjson and
// CSV with encoding/csv, Avro with a library, and turns values into canonical keys by arithmetic of
// its own. Only the exact keyset is shared.
//
// Compare reads an object's old and new content side by side. Every record
// that holds no key, and everything between records, must come out byte for
// byte; records that hold one must be missing, or, where an action changes
// them, must be the old record with that action applied, compared as values.
package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// Rules say what an object is and what was to be done to it.
type Rules struct {
	Format        string // "ndjson", "csv", "tsv", "avro", "parquet"
	Action        warehouse.Action
	Matches       []warehouse.BoundMatch
	KeepMalformed bool
	Every         bool // the object's path says that all records hold a key
}

func (r *Rules) deletes() bool { return r.Action.Kind == "" || r.Action.Kind == "delete" }

// ErrMalformed: a record cannot be read.
var ErrMalformed = errors.New("malformed record")

// segment is a stretch of an object's content, in order and without gaps.
type segment struct {
	raw       []byte
	record    bool // else a header, a byte order mark, an empty line
	malformed bool
	hit       bool
}

// reader yields segments; raw is valid until the next call. io.EOF ends it.
type reader interface {
	next() (segment, error)
}

func (r *Rules) open(obj storage.Object) (reader, *input, error) {
	in, err := decompress(obj)
	if err != nil {
		return nil, nil, err
	}
	switch r.Format {
	case "ndjson":
		rd, err := newJSON(in, r)
		return rd, in, err
	case "csv":
		rd, err := newCSV(in, ',', r)
		return rd, in, err
	case "tsv":
		rd, err := newCSV(in, '\t', r)
		return rd, in, err
	}
	return nil, nil, fmt.Errorf("format %s: %w", r.Format, warehouse.ErrUnsupported)
}

// Compare compares an object's content before and after; now is nil when the
// object was removed.
func Compare(ctx context.Context, old, now storage.Object, r Rules) (*verifier.RewriteReport, error) {
	switch r.Format {
	case "parquet":
		return compareParquet(ctx, old, now, r)
	case "avro":
		return compareAvro(ctx, old, now, r)
	}
	c := &comparison{rules: &r, rep: &verifier.RewriteReport{Equal: true}}
	if err := c.run(ctx, old, now); err != nil {
		return nil, err
	}
	if now != nil {
		after, err := Count(ctx, now, r)
		if err != nil {
			return nil, fmt.Errorf("new content: %w", err)
		}
		c.rep.ControlAfter = r.deletes() && after.Hits > 0
		c.rep.RowsNew = after.Rows
		c.rep.BytesRead += after.BytesRead
	}
	return c.rep, nil
}

type comparison struct {
	rules *Rules
	rep   *verifier.RewriteReport
	now   io.Reader // the new content; nil when there is none
	buf   []byte
}

func (c *comparison) differ(format string, args ...any) {
	c.rep.Equal = false
	if c.rep.Difference == "" {
		c.rep.Difference = fmt.Sprintf(format, args...)
	}
}

func (c *comparison) run(ctx context.Context, old, now storage.Object) error {
	rd, in, err := c.rules.open(old)
	if err != nil {
		return fmt.Errorf("old content: %w", err)
	}
	defer in.close()
	if now != nil {
		to, err := decompress(now)
		if err != nil {
			return fmt.Errorf("new content: %w", err)
		}
		defer to.close()
		defer func() { c.rep.BytesRead += to.read() }()
		c.now = to
	}
	for n := 0; c.rep.Equal; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		seg, err := rd.next()
		if err == io.EOF { //nolint:errorlint // the end itself
			break
		}
		if err != nil {
			return fmt.Errorf("old content: %w", err)
		}
		if err := c.segment(seg); err != nil {
			return fmt.Errorf("new content: %w", err)
		}
	}
	c.rep.BytesRead += in.read()
	if c.now != nil && c.rep.Equal {
		if n, err := io.CopyN(io.Discard, c.now, 1); n > 0 {
			c.differ("the new content goes on after the last survivor")
		} else if err != io.EOF { //nolint:errorlint // the end itself
			return fmt.Errorf("new content: %w", err)
		}
	}
	return nil
}

func (c *comparison) segment(seg segment) error {
	if seg.record {
		c.rep.RowsOld++
	}
	if seg.malformed && !c.rules.KeepMalformed {
		c.differ("record %d is malformed and the object was changed", c.rep.RowsOld-1)
		return nil
	}
	if seg.hit {
		c.rep.ControlBefore = true
		if c.rules.deletes() {
			c.rep.Erased++
			return nil
		}
		return c.changed(seg)
	}
	if c.now == nil {
		if seg.record {
			c.differ("the object was removed with a surviving record")
		}
		return nil
	}
	c.buf = append(c.buf[:0], make([]byte, len(seg.raw))...)
	if _, err := io.ReadFull(c.now, c.buf); err != nil && !ended(err) {
		return err
	} else if err != nil || !bytes.Equal(c.buf, seg.raw) {
		c.differ("record %d differs", max(0, c.rep.RowsOld-1))
	}
	return nil
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// changed compares a record that the action changes: line by line, as values.
func (c *comparison) changed(seg segment) error {
	if c.now == nil {
		c.differ("the object was removed with a changed record")
		return nil
	}
	line, err := readLine(c.now)
	if err != nil {
		return err
	}
	same, err := sameChange(seg.raw, line, c.rules)
	if err != nil || !same {
		c.differ("changed record %d is not the old one with the action applied", c.rep.RowsOld-1)
	}
	return nil
}

// readLine reads up to a line's end, a byte at a time: there are few such lines.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		if n > 0 {
			line = append(line, b[0])
			if b[0] == '\n' {
				return line, nil
			}
		}
		if err == io.EOF { //nolint:errorlint // the end itself
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Counted is what one object holds.
type Counted struct {
	Rows, Hits, Malformed int64
	BytesRead             int64
}

// Count reads an object and counts its records, and those that hold a key.
func Count(ctx context.Context, obj storage.Object, r Rules) (*Counted, error) {
	switch r.Format {
	case "parquet":
		return countParquet(ctx, obj, r)
	case "avro":
		return countAvro(ctx, obj, r)
	}
	rd, in, err := r.open(obj)
	if err != nil {
		return nil, err
	}
	defer in.close()
	out := &Counted{}
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		seg, err := rd.next()
		if err == io.EOF { //nolint:errorlint // the end itself
			out.BytesRead = in.read()
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if seg.record {
			out.Rows++
		}
		if seg.malformed {
			out.Malformed++
		}
		if seg.hit {
			out.Hits++
		}
	}
}
