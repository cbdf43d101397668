package keyset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// Opener reads sources. Errors for what does not exist satisfy errors.Is(err, fs.ErrNotExist).
type Opener interface {
	Open(ctx context.Context, uri string) (io.ReadCloser, error)
	// Glob lists the objects that match the pattern; one that ends in "/" is a prefix.
	Glob(ctx context.Context, pattern string) ([]string, error)
}

// Spec says where a keyset comes from.
type Spec struct {
	Name    string
	Sources []string // files, globs, or prefixes (ending in "/")
	Format  string   // csv, tsv, ndjson, parquet, lines; "" = by suffix
	Schema  Schema
	// Columns are the source's columns, one a key part; default: the part names.
	// "#1" is the first column whatever its name (csv, tsv, parquet). In NDJSON and
	// Parquet a dot descends into an object or struct.
	Columns []string
	// Holds are keys under legal hold, taken out of the set: the same columns, each
	// file in the format of its suffix, else in Format.
	Holds        []string
	AllowEmpty   bool   // no key at all is not an error
	AllowNoMatch bool   // a source pattern or prefix without files is not an error (a hold always is)
	AllowNull    bool   // rows with a NULL key part are skipped and counted
	EmptyKeys    bool   // the empty string is a key, not an error
	RequestID    string // column of the request that asked; "" = none
	ReceivedAt   string // column of the request's date; "" = none
}

// SourceReport describes one source as it was read. The digest of a small
// source can be guessed, so it is as sensitive as its keys: publish it keyed only.
type SourceReport struct {
	URI    string `json:"uri"`
	Format string `json:"format"`
	SHA256 string `json:"sha256"` // hex, of the bytes as stored
	Size   int64  `json:"size"`   // bytes as stored
	Rows   int64  `json:"rows"`
	Hold   bool   `json:"hold,omitempty"`
}

// Report says what Load read. It holds no key.
type Report struct {
	Sources          []SourceReport `json:"sources"`
	Ignored          []string       `json:"ignored,omitempty"`  // files of a prefix that are no data: _SUCCESS, .crc
	NoMatch          []string       `json:"no_match,omitempty"` // patterns without files (AllowNoMatch)
	Rows             int64          `json:"rows"`               // of the sources, holds not counted
	Nulls            int64          `json:"nulls"`              // rows skipped (AllowNull)
	Duplicates       int64          `json:"duplicates"`         // rows whose key was there already
	HoldKeys         int64          `json:"hold_keys"`          // distinct keys of the holds
	Held             int64          `json:"held"`               // keys taken out by holds
	Keys             int64          `json:"keys"`               // keys of the set
	Requests         int64          `json:"requests"`
	WithoutRequest   int64          `json:"without_request"` // keys that no request names
	EarliestReceived time.Time      `json:"earliest_received,omitzero"`
}

// Option adjusts Load.
type Option func(*loadOptions)

type loadOptions struct {
	workers int
	chunk   int
}

// WithWorkers sets how many goroutines parse and build; the default is one a processor.
func WithWorkers(n int) Option { return func(o *loadOptions) { o.workers = max(1, n) } }

// withChunk sets how many bytes a worker parses at a time.
func withChunk(n int) Option { return func(o *loadOptions) { o.chunk = n } }

// Load reads a keyset: sources, less holds. A malformed line is a *LineError;
// see also ErrEmpty, ErrType, ErrMissing and ErrColumn.
func Load(ctx context.Context, open Opener, spec Spec, opts ...Option) (*Set, *Report, error) {
	l, err := newLoader(open, spec, opts)
	if err != nil {
		return nil, nil, err
	}
	// Everything that must exist is looked for before anything is read.
	sources, err := l.resolve(ctx, spec.Sources, false)
	if err != nil {
		return nil, nil, err
	}
	holds, err := l.resolve(ctx, spec.Holds, true)
	if err != nil {
		return nil, nil, err
	}
	s, err := l.readAll(ctx, sources)
	if err != nil {
		return nil, nil, err
	}
	if len(holds) > 0 {
		held, err := l.readAll(ctx, holds)
		if err != nil {
			return nil, nil, err
		}
		before := s.Len()
		if s, err = Subtract(s, held); err != nil {
			return nil, nil, err
		}
		l.report.Held, l.report.HoldKeys = int64(before-s.Len()), int64(held.Len())
	}
	l.finish(s)
	if s.Len() == 0 && !spec.AllowEmpty {
		return nil, &l.report, fmt.Errorf("keyset %q: %w", spec.Name, ErrEmpty)
	}
	return s, &l.report, nil
}

// LoadHolds reads the holds of a Spec alone, as a set of the same schema: what
// Intersect with an earlier set then shows was put under hold since. Without
// holds, or with holds that name no key, the set is empty. A hold that does not
// exist is ErrMissing.
func LoadHolds(ctx context.Context, open Opener, spec Spec, opts ...Option) (*Set, *Report, error) {
	spec.Sources = []string{""} // not read
	l, err := newLoader(open, spec, opts)
	if err != nil {
		return nil, nil, err
	}
	holds, err := l.resolve(ctx, spec.Holds, true)
	if err != nil {
		return nil, nil, err
	}
	s, err := l.readAll(ctx, holds)
	if err != nil {
		return nil, nil, err
	}
	l.report.HoldKeys = int64(s.Len())
	return s, &l.report, nil
}

// loader is one Load.
type loader struct {
	open    Opener
	spec    Spec
	columns []string // key parts, then request id and date where declared
	rules   []*rules
	opts    loadOptions
	report  Report
}

func newLoader(open Opener, spec Spec, opts []Option) (*loader, error) {
	if err := spec.Schema.Validate(); err != nil {
		return nil, fmt.Errorf("keyset %q: %w", spec.Name, err)
	}
	spec.Schema = spec.Schema.clone()
	l := &loader{open: open, spec: spec, rules: spec.Schema.compile(),
		opts: loadOptions{workers: runtime.GOMAXPROCS(0), chunk: defaultChunk}}
	for _, o := range opts {
		o(&l.opts)
	}
	if len(spec.Sources) == 0 {
		return nil, fmt.Errorf("keyset %q: %w: no source", spec.Name, ErrMissing)
	}
	if spec.Format != "" && !slices.Contains(formats, spec.Format) {
		return nil, fmt.Errorf("keyset %q: %w: unknown format %q (want one of %v)", spec.Name, ErrType, spec.Format, formats)
	}
	switch l.columns = slices.Clone(spec.Columns); {
	case len(l.columns) == 0:
		for _, p := range spec.Schema {
			l.columns = append(l.columns, p.Name)
		}
	case len(l.columns) != len(spec.Schema):
		return nil, fmt.Errorf("keyset %q: %w: %d columns for %d key parts", spec.Name, ErrColumn, len(l.columns), len(spec.Schema))
	}
	return l, nil
}

// readAll reads sources of one role into a set.
func (l *loader) readAll(ctx context.Context, sources []source) (*Set, error) {
	c := newCollector(l.spec.Name, l.spec.Schema, l.opts.workers)
	hold := len(sources) > 0 && sources[0].hold
	for _, src := range sources {
		rep, err := l.read(ctx, src, c)
		if err != nil {
			return nil, err
		}
		l.report.Sources = append(l.report.Sources, rep.SourceReport)
		if !hold {
			l.report.Rows += rep.Rows
			l.report.Nulls += rep.nulls
		}
	}
	s, err := c.build(newSeed())
	if err == nil && !hold {
		l.report.Duplicates = c.rows - int64(s.Len())
	}
	return s, err
}

// read reads one source.
func (l *loader) read(ctx context.Context, src source, c *collector) (*sourceResult, error) {
	in, err := l.openStream(ctx, src)
	if err != nil {
		return nil, err
	}
	defer in.close()
	p := &pass{loader: l, src: src, collector: c, columns: l.columns}
	if !src.hold && l.spec.RequestID != "" {
		p.idColumn = len(p.columns)
		p.columns = append(slices.Clip(p.columns), l.spec.RequestID)
	}
	if !src.hold && l.spec.ReceivedAt != "" {
		p.dateColumn = len(p.columns)
		p.columns = append(slices.Clip(p.columns), l.spec.ReceivedAt)
	}
	switch src.format {
	case formatParquet:
		err = p.readParquet(ctx, in)
	case formatNDJSON:
		err = p.readNDJSON(ctx, in)
	case formatLines:
		err = p.readLines(ctx, in)
	default:
		err = p.readCSV(ctx, in)
	}
	if err == nil {
		err = in.drain()
	}
	if err != nil {
		return nil, in.explain(err)
	}
	return &sourceResult{SourceReport: SourceReport{URI: src.uri, Format: src.format, SHA256: in.digest(), Size: in.size, Rows: p.rows.Load(), Hold: src.hold},
		nulls: p.nulls.Load()}, nil
}

type sourceResult struct {
	SourceReport
	nulls int64
}

// finish fills the report from the set.
func (l *loader) finish(s *Set) {
	r := &l.report
	r.Keys = int64(s.Len())
	r.WithoutRequest = r.Keys
	for _, c := range s.asked.of {
		if c != 0 {
			r.WithoutRequest--
		}
	}
	for _, q := range s.asked.requests {
		r.Requests++
		if !q.Received.IsZero() && (r.EarliestReceived.IsZero() || q.Received.Before(r.EarliestReceived)) {
			r.EarliestReceived = q.Received
		}
	}
}

// errAt is what a reader says of a record before the file is known.
func (p *pass) errAt(line int64, column int, reason error) error {
	e := &LineError{Source: p.src.label, Line: line, Reason: reason.Error()}
	if column >= 0 && column < len(p.columns) {
		e.Column = p.columns[column]
	}
	return e
}

// isFinal reports an error of the source's content rather than of reading it.
func isFinal(err error) bool {
	return errors.Is(err, ErrMalformed) || errors.Is(err, ErrType) || errors.Is(err, ErrColumn)
}
