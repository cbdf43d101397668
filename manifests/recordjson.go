package manifests

import (
	"errors"
	"strconv"
	"time"
)

// canonical is the record's canonical JSON.
func (r *Record) canonical() ([]byte, error) { return r.appendCanonical(nil) }

// appendCanonical writes what Canonical(r) returns, without reflection: a
// million records pass through here. Members stand in sorted order.
func (r *Record) appendCanonical(dst []byte) ([]byte, error) {
	e := recordEncoder{dst: append(dst, '{')}
	e.int("bytes_copied", r.BytesCopied)
	e.int("bytes_encoded", r.BytesEncoded)
	e.int("bytes_read", r.BytesRead)
	e.str("digest_after", r.DigestAfter)
	e.str("digest_before", r.DigestBefore)
	e.str("etag", r.ETag)
	e.str("format", r.Format)
	e.flag("keyed", r.Keyed)
	e.flag("keyed_digest", r.KeyedDigest)
	e.must("kind", r.Kind)
	e.str("method", r.Method)
	e.str("new_path", r.NewPath)
	e.str("object", r.Object)
	e.must("path", r.Path)
	e.str("reason", r.Reason)
	e.str("response", r.Response)
	e.str("rewriter", r.Rewriter)
	e.int("rows_already_deleted", r.RowsDeleted)
	if r.RowsChanged != 0 {
		e.int("rows_changed", r.RowsChanged)
	}
	e.int("rows_erased", r.RowsErased)
	e.int("rows_in", r.RowsIn)
	e.int("rows_out", r.RowsOut)
	e.int("size_after", r.SizeAfter)
	e.int("size_before", r.SizeBefore)
	e.str("status", r.Status)
	e.must("target", r.Target)
	if !r.Time.IsZero() {
		e.name("time")
		e.dst = append(e.dst, '"')
		e.dst = r.Time.UTC().AppendFormat(e.dst, time.RFC3339Nano)
		e.dst = append(e.dst, '"')
	}
	e.flag("verified", r.Verified)
	e.str("version", r.Version)
	if e.bad {
		return nil, errors.New("canonical json holds integers up to 2^53 only")
	}
	return append(e.dst, '}'), nil
}

type recordEncoder struct {
	dst []byte
	bad bool
}

func (e *recordEncoder) name(n string) {
	if e.dst[len(e.dst)-1] != '{' {
		e.dst = append(e.dst, ',')
	}
	e.dst = append(append(append(e.dst, '"'), n...), '"', ':')
}

func (e *recordEncoder) int(n string, v int64) {
	e.bad = e.bad || v > maxSafeInteger || v < -maxSafeInteger
	e.name(n)
	e.dst = strconv.AppendInt(e.dst, v, 10)
}

func (e *recordEncoder) must(n, v string) {
	e.name(n)
	e.dst = appendString(e.dst, v)
}

func (e *recordEncoder) str(n, v string) {
	if v != "" {
		e.must(n, v)
	}
}

func (e *recordEncoder) flag(n string, v bool) {
	if v {
		e.name(n)
		e.dst = append(e.dst, "true"...)
	}
}
