package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/twmb/avro/ocf"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// avroRecords decodes a file's records with another library than the scanner's
// own walk.
type avroRecords struct {
	in *input
	r  *ocf.Reader
}

func openAvro(obj storage.Object) (*avroRecords, error) {
	stored := &counting{r: storage.StreamRange(obj, 0, obj.Info().Size)}
	r, err := ocf.NewReader(stored)
	if err != nil {
		return nil, fmt.Errorf("header of the Avro file: %w", warehouse.ErrUnsupported)
	}
	return &avroRecords{in: &input{Reader: stored, stored: stored}, r: r}, nil
}

// next is the next record, or io.EOF.
func (a *avroRecords) next() (any, error) {
	var v any
	err := a.r.Decode(&v)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return v, err
	}
	return nil, fmt.Errorf("record of the Avro file: %w", ErrMalformed) // the library's words may quote values
}

func (r *Rules) avroHit(v any) bool {
	if r.Every {
		return true
	}
	for _, m := range r.Matches {
		columns := make([][]placed, len(m.Columns))
		for k, c := range m.Columns {
			columns[k] = reachAvro(v, c.Path, "", nil, nil)
		}
		if holdsKey(m.Keys, columns, nil) {
			return true
		}
	}
	return false
}

// reachAvro collects the scalars that a path reaches in a decoded record.
func reachAvro(v any, path []string, at string, lists []listAt, out []placed) []placed {
	if len(path) == 0 {
		if s, ok := avroScalar(v); ok {
			out = append(out, placed{s, lists})
		}
		return out
	}
	step, rest := path[0], path[1:]
	switch v := v.(type) {
	case map[string]any: // a record, or a map, whose values a step "value" means
		if member, ok := v[step]; ok {
			return reachAvro(member, rest, at+"."+step, lists, out)
		}
		if step == "key_value" && len(rest) > 0 && rest[0] == "value" {
			return reachAvro(v, rest, at, lists, out)
		}
		if step == "value" {
			for _, member := range v {
				out = reachAvro(member, rest, at+".value", lists, out)
			}
		}
	case []any:
		if step == "list" && len(rest) > 0 && rest[0] == "element" {
			return reachAvro(v, rest, at, lists, out)
		}
		if step != "[*]" && step != "element" {
			return out
		}
		for i, e := range v {
			out = reachAvro(e, rest, at+"[]", append(lists[:len(lists):len(lists)], listAt{at, i}), out)
		}
	}
	return out
}

func avroScalar(v any) (value, bool) {
	switch v := v.(type) {
	case int:
		return value{text: strconv.Itoa(v), number: true}, true
	case int32:
		return value{text: strconv.FormatInt(int64(v), 10), number: true}, true
	case int64:
		return value{text: strconv.FormatInt(v, 10), number: true}, true
	case string:
		return value{text: v, str: true}, true
	case []byte:
		return value{text: string(v), raw: true}, true
	case [16]byte:
		return value{text: string(v[:]), raw: true}, true
	case *big.Rat:
		return value{text: v.FloatString(40), number: true}, true
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return value{text: v.UTC().Format(time.DateOnly), str: true, date: true}, true
		}
	}
	return value{}, false
}

func compareAvro(ctx context.Context, old, now storage.Object, r Rules) (*verifier.RewriteReport, error) {
	c := &comparison{rules: &r, rep: &verifier.RewriteReport{Equal: true}}
	was, err := openAvro(old)
	if err != nil {
		return nil, fmt.Errorf("old content: %w", err)
	}
	var is *avroRecords
	if now != nil {
		if is, err = openAvro(now); err != nil {
			return nil, fmt.Errorf("new content: %w", err)
		}
		if was.r.Schema().String() != is.r.Schema().String() {
			c.differ("the schema differs")
		}
	}
	for c.rep.Equal {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, err := was.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("old content: %w", err)
		}
		c.rep.RowsOld++
		if r.avroHit(v) {
			c.rep.ControlBefore = true
			c.rep.Erased++
			continue
		}
		if is == nil {
			c.differ("the object was removed with a surviving record")
			break
		}
		got, err := is.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("new content: %w", err)
		}
		if err != nil || !sameValue(v, got) {
			c.differ("record %d differs", c.rep.RowsOld-1)
		}
		c.rep.RowsNew++
		c.rep.ControlAfter = c.rep.ControlAfter || r.avroHit(got)
	}
	c.rep.BytesRead = was.in.read()
	if is == nil {
		return c.rep, nil
	}
	if c.rep.Equal {
		if _, err := is.next(); !errors.Is(err, io.EOF) {
			c.differ("the new content goes on after the last survivor")
		}
	}
	c.rep.BytesRead += is.in.read()
	return c.rep, nil
}

func countAvro(ctx context.Context, obj storage.Object, r Rules) (*Counted, error) {
	a, err := openAvro(obj)
	if err != nil {
		return nil, err
	}
	n := &Counted{}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, err := a.next()
		if errors.Is(err, io.EOF) {
			n.BytesRead = a.in.read()
			return n, nil
		}
		if err != nil {
			return nil, err
		}
		n.Rows++
		if r.avroHit(v) {
			n.Hits++
		}
	}
}

// sameValue compares decoded values; NaN equals NaN of the same bits.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !sameValue(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case float32:
		b, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(b)
	case *big.Rat:
		b, ok := b.(*big.Rat)
		return ok && a.Cmp(b) == 0
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	}
	return a == b
}
