package manifests

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Kinds of Record.
const (
	RecordFile   = "file"   // what was read and, perhaps, replaced
	RecordDelete = "delete" // one object's physical removal
)

// Methods of a file record: how it was established that no key is left in it.
const (
	MethodPruned    = "pruned by bounds"
	MethodScanned   = "scanned clean"
	MethodRewritten = "rewritten"
	MethodDropped   = "dropped"
	MethodVersion   = "version purged"
	MethodAudited   = "audited"
)

// Statuses of a file record. They are warehouse.Status's words.
const (
	StatusClean     = "clean"
	StatusRewritten = "rewritten"
	StatusDropped   = "dropped"
	StatusExcluded  = "excluded"
	StatusFailed    = "failed"
	StatusRestored  = "restored" // rows added back
	StatusFound     = "found"    // an audit found keys in it
)

// Record is one line of evidence in the sidecar. Its leaf in the Merkle tree
// is its canonical JSON, so a single record can be shown with a proof.
type Record struct {
	Kind   string `json:"kind" parquet:"kind,dict"`
	Target string `json:"target" parquet:"target,dict"`

	// Path is the object's path, or its keyed digest when Keyed is set: paths of
	// key-partitioned tables hold keys.
	Path  string `json:"path" parquet:"path"`
	Keyed bool   `json:"keyed,omitempty" parquet:"keyed"`

	// A file.
	Status       string `json:"status,omitempty" parquet:"status,dict"`
	Method       string `json:"method,omitempty" parquet:"method,dict"`
	Reason       string `json:"reason,omitempty" parquet:"reason,dict"` // a class, never raw error text
	Format       string `json:"format,omitempty" parquet:"format,dict"`
	SizeBefore   int64  `json:"size_before" parquet:"size_before"`
	SizeAfter    int64  `json:"size_after" parquet:"size_after"`
	DigestBefore string `json:"digest_before,omitempty" parquet:"digest_before"` // hex SHA-256, keyed when KeyedDigest
	DigestAfter  string `json:"digest_after,omitempty" parquet:"digest_after"`
	KeyedDigest  bool   `json:"keyed_digest,omitempty" parquet:"keyed_digest"` // small files
	ETag         string `json:"etag,omitempty" parquet:"etag"`
	Version      string `json:"version,omitempty" parquet:"version"`
	NewPath      string `json:"new_path,omitempty" parquet:"new_path"` // keyed like Path
	RowsIn       int64  `json:"rows_in" parquet:"rows_in"`
	RowsOut      int64  `json:"rows_out" parquet:"rows_out"`
	RowsErased   int64  `json:"rows_erased" parquet:"rows_erased"`
	RowsChanged  int64  `json:"rows_changed,omitempty" parquet:"rows_changed,optional"` // among RowsOut
	RowsDeleted  int64  `json:"rows_already_deleted" parquet:"rows_already_deleted"`
	BytesRead    int64  `json:"bytes_read" parquet:"bytes_read"`
	BytesCopied  int64  `json:"bytes_copied" parquet:"bytes_copied"`
	BytesEncoded int64  `json:"bytes_encoded" parquet:"bytes_encoded"`
	Rewriter     string `json:"rewriter,omitempty" parquet:"rewriter,dict"`
	Verified     bool   `json:"verified,omitempty" parquet:"verified"` // survivors compared with the old file

	// A physical delete.
	Object   string    `json:"object,omitempty" parquet:"object,dict"`     // "data", "manifest", "manifest list", …
	Response string    `json:"response,omitempty" parquet:"response,dict"` // "deleted", "already gone"
	Time     time.Time `json:"time,omitzero" parquet:"time,optional,timestamp(microsecond)"`
}

// ErrRecord: a record breaks a rule of evidence.
var ErrRecord = errors.New("invalid evidence record")

// Validate checks what must hold for every record: contract rule 2 for
// replaced files, and hex digests.
func (r *Record) Validate() error {
	if r.Path == "" || r.Target == "" {
		return fmt.Errorf("%w: no path or target", ErrRecord)
	}
	for _, d := range []string{r.DigestBefore, r.DigestAfter} {
		if b, err := hex.DecodeString(d); err != nil || len(b) != 0 && len(b) != 32 {
			return fmt.Errorf("%w: a digest is not SHA-256 in hex", ErrRecord)
		}
	}
	switch r.Kind {
	case RecordDelete:
		if r.Time.IsZero() || r.Response == "" {
			return fmt.Errorf("%w: a delete without time or response", ErrRecord)
		}
	case RecordFile:
		if r.Method == "" || r.Status == "" {
			return fmt.Errorf("%w: a file without method or status", ErrRecord)
		}
		if min(r.RowsIn, r.RowsOut, r.RowsErased, r.RowsChanged, r.RowsDeleted) < 0 {
			return fmt.Errorf("%w: negative row count", ErrRecord)
		}
		replaced := r.Status == StatusRewritten || r.Status == StatusDropped
		if replaced && r.RowsIn != r.RowsOut+r.RowsErased+r.RowsDeleted {
			return fmt.Errorf("%w: rows in are not rows out, erased and already deleted together", ErrRecord)
		}
		if r.RowsChanged > r.RowsOut {
			return fmt.Errorf("%w: more rows changed than written", ErrRecord)
		}
	default:
		return fmt.Errorf("%w: kind %q", ErrRecord, r.Kind)
	}
	return nil
}

// normalize brings a record to the precision that the sidecar keeps, so that
// its leaf is the same before and after a round trip.
func (r *Record) normalize() {
	if !r.Time.IsZero() {
		r.Time = r.Time.UTC().Truncate(time.Microsecond)
	}
}

// LeafHash is the record's leaf in the evidence tree: RFC 6962's leaf hash of
// its canonical JSON.
func (r *Record) LeafHash() (tlog.Hash, error) {
	c := *r
	c.normalize()
	b, err := c.canonical()
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.RecordHash(b), nil
}

// add counts the record into totals.
func (t *Totals) add(r *Record) {
	if r.Kind == RecordDelete {
		t.Deletes++
		return
	}
	t.Files++
	switch r.Status {
	case StatusRewritten, StatusDropped:
		t.RowsIn += r.RowsIn
		t.RowsOut += r.RowsOut
		t.RowsErased += r.RowsErased
		t.Changed += r.RowsChanged
		t.Deleted += r.RowsDeleted
	case StatusFailed:
		t.Failed++
	case StatusExcluded:
		t.Excluded++
	}
}
