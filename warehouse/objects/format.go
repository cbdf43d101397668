package objects

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	rewriteavro "github.com/expunge/expunge/rewriter/avro"
	rewriteparquet "github.com/expunge/expunge/rewriter/parquet"
	"github.com/expunge/expunge/rewriter/text"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/scanner/avro"
	"github.com/expunge/expunge/scanner/csv"
	"github.com/expunge/expunge/scanner/ndjson"
	"github.com/expunge/expunge/warehouse"
)

// MethodAbsent: no record of the object has the match columns.
const MethodAbsent = string(scanner.MethodAbsent)

// found is what a scan of one object found.
type found struct {
	rows      int64
	hits      *roaring64.Bitmap // records that go, or change
	perMatch  []int64
	keys      []*roaring64.Bitmap // numbers of the keys found, by match
	malformed int64
	method    string
	bytesRead int64
	// rewrite writes the new content; neither closes nor aborts dst.
	rewrite func(ctx context.Context, dst storage.Writer, o rewriter.Options) (*rewriter.Result, error)
	// empty is the content of an object whose records all went.
	empty func() ([]byte, error)
}

// request is a selection as it applies to one object.
type request struct {
	match     []warehouse.BoundMatch
	every     bool
	action    warehouse.Action
	malformed bool // keep malformed records
	invert    bool
}

func (r request) deletes() bool { return r.action.Kind == "" || r.action.Kind == "delete" }

// scan reads an object of the format.
func scan(ctx context.Context, format string, src storage.Object, r request) (*found, error) {
	if format == "parquet" {
		return scanParquet(ctx, src, r)
	}
	req, err := r.records()
	if err != nil {
		return nil, err
	}
	var rec *scanner.RecordsFound
	switch format {
	case "ndjson":
		rec, err = ndjson.Scan(ctx, src, req)
	case "csv":
		rec, err = csv.Scan(ctx, src, ',', req)
	case "tsv":
		rec, err = csv.Scan(ctx, src, '\t', req)
	case "avro":
		rec, err = avro.Scan(ctx, src, req)
	default:
		err = &rewriter.UnsupportedError{What: "format " + format}
	}
	if err == nil && !r.every {
		err = rec.Check()
	}
	if err == nil && rec.Kind == packed.Bzip2 && !rec.Hits.IsEmpty() {
		err = &rewriter.UnsupportedError{What: "bzip2 compression is read and not written"}
	}
	if err != nil {
		return nil, recordError(err)
	}
	f := &found{rows: rec.Rows, hits: rec.Hits, perMatch: rec.PerMatch, keys: rec.Keys, malformed: rec.Malformed, bytesRead: rec.BytesRead, method: "scanned clean"}
	if !rec.Present && !r.every {
		f.method = MethodAbsent
	}
	f.rewrite = func(ctx context.Context, dst storage.Writer, o rewriter.Options) (*rewriter.Result, error) {
		return text.Rewrite(ctx, src, dst, text.Layout{Kind: rec.Kind, Frames: rec.Frames, Edits: rec.Edits}, o)
	}
	f.empty = func() ([]byte, error) { return packed.Empty(rec.Kind, rec.Header) }
	if format == "avro" {
		f.rewrite = func(ctx context.Context, dst storage.Writer, o rewriter.Options) (*rewriter.Result, error) {
			return rewriteavro.Rewrite(ctx, src, dst, avroLayout(src, rec), o)
		}
		f.empty = func() ([]byte, error) { return rec.Header, nil }
	}
	return f, nil
}

func avroLayout(src storage.Object, rec *scanner.RecordsFound) rewriteavro.Layout {
	l := rewriteavro.Layout{Codec: rec.Codec, Sync: rec.Sync}
	for _, b := range rec.Blocks {
		l.Blocks = append(l.Blocks, rewriteavro.Block{Off: b.Off, Len: b.Len, Left: b.Left, Edits: b.Edits,
			Data: func() ([]byte, error) { return avro.BlockData(src, rec.Codec, b) }})
	}
	return l
}

// recordError says in the words of results why an object is left as it was.
func recordError(err error) error {
	for _, known := range []struct {
		err  error
		what string
	}{
		{scanner.ErrMalformed, "malformed record"},
		{scanner.ErrForeign, "key columns hold another type than the key's"},
		{ndjson.ErrTooLong, "record longer than 256 MiB"},
		{csv.ErrTooLong, "record longer than 256 MiB"},
		{packed.ErrUnsupported, "compression"},
		{avro.ErrUnsupported, "no Avro container file, or one in an unknown codec"},
	} {
		if errors.Is(err, known.err) {
			return fmt.Errorf("%w: %w", &rewriter.UnsupportedError{What: known.what}, err)
		}
	}
	if errors.Is(err, packed.ErrCorrupt) || errors.Is(err, avro.ErrCorrupt) {
		return fmt.Errorf("%w: %w", rewriter.ErrCorrupt, err)
	}
	return err
}

func (r request) records() (scanner.Records, error) {
	req := scanner.Records{Match: scanMatches(r.match), KeepMalformed: r.malformed, Every: r.every, Invert: r.invert}
	for _, e := range edits(r.action) {
		ref, err := scanner.ParseRef(e.column)
		if err != nil {
			return req, err
		}
		req.Redact = append(req.Redact, scanner.Redact{Column: ref, Constant: e.constant})
	}
	if r.action.Kind == "remove_element" {
		ref, err := scanner.ParseRef(r.action.Element)
		if err != nil {
			return req, err
		}
		req.Remove = &ref
	}
	return req, nil
}

type columnEdit struct {
	column   string
	constant *string
}

// edits are the columns that an action overwrites.
func edits(a warehouse.Action) []columnEdit {
	var out []columnEdit
	if a.Kind != "redact" {
		return nil
	}
	for _, c := range a.Null {
		out = append(out, columnEdit{column: c})
	}
	for c, v := range a.Redact {
		out = append(out, columnEdit{column: c, constant: &v})
	}
	return out
}

func scanMatches(m []warehouse.BoundMatch) []scanner.Match {
	out := make([]scanner.Match, len(m))
	for i, b := range m {
		cols := make([]scanner.ColumnRef, len(b.Columns))
		for k, c := range b.Columns {
			cols[k] = scanner.ColumnRef{Path: c.Path}
		}
		out[i] = scanner.Match{Keys: b.Keys, Columns: cols}
	}
	return out
}

// parquetEdit is an action on rows of a Parquet object. A column that an object
// lacks reads as null in it.
func (r request) parquetEdit(rows, elements *roaring64.Bitmap, missing bool) (e rewriter.Edit, err error) {
	column := func(path string) (rewriter.Column, error) {
		ref, err := scanner.ParseRef(path)
		return rewriter.Column{Path: ref.Path, AllowMissing: missing}, err
	}
	for _, c := range edits(r.action) {
		red := rewriter.Redaction{Rows: rows, Constant: c.constant}
		if red.Column, err = column(c.column); err != nil {
			return e, err
		}
		e.Redact = append(e.Redact, red)
	}
	switch {
	case r.action.Kind == "remove_element":
		rm := rewriter.Removal{Elements: elements}
		if rm.Column, err = column(r.action.Element); err != nil {
			return e, err
		}
		e.Remove = append(e.Remove, rm)
	case r.deletes():
		e.Erase = rows
	}
	return e, nil
}

// parquetElements are the list's elements that hold keys.
func parquetElements(res *scanner.Result) *roaring64.Bitmap {
	out := roaring64.New()
	for _, e := range res.Elements {
		for i, row := range e.Rows {
			out.Add(rewriter.ElementKey(uint64(row), e.Index[i]))
		}
	}
	return out
}

// scanParquet uses the scanner of tables; columns are found by their paths.
func scanParquet(ctx context.Context, src storage.Object, r request) (*found, error) {
	f := &found{perMatch: make([]int64, len(r.match)), hits: roaring64.New(), method: "scanned clean"}
	if r.every && !r.deletes() {
		return nil, &rewriter.UnsupportedError{What: r.action.Kind + " where a partition's value is the key, in Parquet"}
	}
	var elements *roaring64.Bitmap
	if len(r.match) == 0 {
		file, err := pq.Open(ctx, src, src.Info().Size)
		if err != nil {
			return nil, err
		}
		f.rows = file.Rows()
	} else {
		o := scanner.Options{Workers: 1, Gap: 256 << 10, Keys: true}
		if r.action.Kind == "remove_element" {
			ref, err := scanner.ParseRef(r.action.Element)
			if err != nil {
				return nil, err
			}
			o.Elements = &ref
		}
		res, err := scanner.Parquet(ctx, src, scanner.Request{Match: scanMatches(r.match), Options: o})
		if err != nil {
			return nil, err
		}
		f.rows, f.hits, f.perMatch, f.method, f.bytesRead, f.keys = res.Rows, res.Hits, res.PerMatch, string(res.Method), res.BytesRead, res.Keys
		elements = parquetElements(res)
	}
	if r.every {
		f.hits.AddRange(0, uint64(f.rows))
	}
	erase := f.hits
	if r.invert {
		erase = roaring64.New()
		erase.AddRange(0, uint64(f.rows))
		erase.AndNot(f.hits)
	}
	edit, err := r.parquetEdit(erase, elements, true)
	if err != nil {
		return nil, err
	}
	if r.action.Kind == "redact" && !f.hits.IsEmpty() {
		// A redaction keeps the key: rows that hold what it sets already are done.
		in := rewriteparquet.Input{ReaderAt: src, Size: src.Info().Size}
		if f.hits, err = rewriteparquet.Pending(ctx, in, edit.Redact); err != nil {
			return nil, err
		}
		if edit, err = r.parquetEdit(f.hits, nil, true); err != nil {
			return nil, err
		}
	}
	f.rewrite = func(ctx context.Context, dst storage.Writer, o rewriter.Options) (*rewriter.Result, error) {
		o.Workers = 1
		res, err := rewriteparquet.Rewrite(ctx, src, dst, edit, o)
		if err == nil && (res.RowsIn != f.rows || r.deletes() && res.RowsOut != f.rows-int64(erase.GetCardinality())) {
			err = fmt.Errorf("row counts of the rewritten file do not add up: %w", rewriter.ErrCorrupt)
		}
		return res, err
	}
	f.empty = func() ([]byte, error) {
		return nil, &rewriter.UnsupportedError{What: "a Parquet file without rows"}
	}
	return f, nil
}
