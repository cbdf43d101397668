package keyset

import (
	"context"
	"errors"
	"io"
	"time"
)

// Opener reads sources. Errors for what does not exist satisfy errors.Is(err, fs.ErrNotExist).
type Opener interface {
	Open(ctx context.Context, uri string) (io.ReadCloser, error)
	// Glob lists the objects that match the pattern; a pattern that ends in "/" is a prefix.
	Glob(ctx context.Context, pattern string) ([]string, error)
}

// Spec says where a keyset comes from.
type Spec struct {
	Name    string
	Sources []string // files, globs, or prefixes (ending in "/")
	Format  string   // csv, tsv, ndjson, parquet, lines; "" = by suffix
	Schema  Schema
	// Columns are the source's columns, one a key part; default: the part names.
	// "#1" is the first column whatever its name. In NDJSON and Parquet a dot descends.
	Columns    []string
	Holds      []string // keys under legal hold: same columns, any format
	AllowEmpty bool     // no key at all is not an error
	AllowNull  bool     // rows with a NULL key are skipped and counted
	EmptyKeys  bool     // the empty string is a key, not an error
	RequestID  string   // column of the request that asked; "" = none
	ReceivedAt string   // column of the request's date; "" = none
}

// SourceReport describes one source as it was read. The digest of a small
// source can be guessed: publish it keyed only.
type SourceReport struct {
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"` // hex, of the bytes as stored
	Size   int64  `json:"size"`   // bytes as stored
	Rows   int64  `json:"rows"`
	Hold   bool   `json:"hold,omitempty"`
}

// Report says what Load read. It holds no key.
type Report struct {
	Sources          []SourceReport `json:"sources"`
	Ignored          []string       `json:"ignored,omitempty"`  // files of a prefix that are no data: _SUCCESS, .crc
	NoMatch          []string       `json:"no_match,omitempty"` // patterns that match nothing (AllowEmpty only)
	Rows             int64          `json:"rows"`
	Nulls            int64          `json:"nulls"`      // skipped rows (AllowNull)
	Duplicates       int64          `json:"duplicates"` // rows whose key was there already
	Held             int64          `json:"held"`       // keys taken out by holds
	Keys             int64          `json:"keys"`
	Requests         int64          `json:"requests"`
	WithoutRequest   int64          `json:"without_request"` // keys that no request names
	EarliestReceived time.Time      `json:"earliest_received,omitzero"`
}

// Option adjusts Load.
type Option func(*loadOptions)

type loadOptions struct{ workers int }

// Load reads a keyset. See ErrEmpty, ErrMalformed, ErrType, ErrMissing, ErrColumn.
func Load(ctx context.Context, open Opener, spec Spec, opts ...Option) (*Set, *Report, error) {
	return nil, nil, errors.ErrUnsupported
}
