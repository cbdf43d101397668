package manifests

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"iter"
	"time"
)

var errStub = errors.New("not built yet")

// Record is one line of evidence in the sidecar: a file or a physical delete.
type Record struct{ Target string }

// SidecarWriter streams records into a Parquet sidecar.
type SidecarWriter struct{}

// NewSidecarWriter starts a sidecar.
func NewSidecarWriter(w io.Writer) (*SidecarWriter, error) { return nil, errStub }

// Write adds a record.
func (w *SidecarWriter) Write(r Record) error { return errStub }

// Close finishes the file and returns what the manifest says of it (Name is left to the caller).
func (w *SidecarWriter) Close() (Evidence, error) { return Evidence{}, errStub }

// ReadSidecar streams a sidecar's records.
func ReadSidecar(r io.ReaderAt, size int64) iter.Seq2[Record, error] { return nil }

// Decide derives the outcome from the manifest's facts.
func Decide(m *Manifest) Outcome { return Outcome{} }

// Commit commits to keys.
func Commit(secret []byte, name string, keys iter.Seq[[]byte], leaves io.Writer) (Commitment, error) {
	return Commitment{}, errStub
}

// PathDigest is the keyed digest of a path that may hold a key.
func PathDigest(secret []byte, path string) string { return "" }

// Key signs.
type Key struct{}

// GenerateKey makes a key.
func GenerateKey(r io.Reader) (*Key, error) { return nil, errStub }

// LoadKey reads "file:/path", "env:NAME" or a PEM text.
func LoadKey(ref string) (*Key, error) { return nil, errStub }

// ID is the key id.
func (k *Key) ID() string { return "" }

// Public is the public key.
func (k *Key) Public() ed25519.PublicKey { return nil }

// Trust is a trust file.
type Trust struct{}

// ParseTrust reads a trust file.
func ParseTrust(b []byte) (*Trust, error) { return nil, errStub }

// Sign makes the envelope of a manifest: the bytes of <id>.intoto.jsonl.
func Sign(ctx context.Context, m *Manifest, signers ...*Key) ([]byte, error) { return nil, errStub }

// LogStorage is where the log lives.
type LogStorage interface {
	// Read returns an object and its version; fs.ErrNotExist when absent.
	Read(ctx context.Context, name string) (data []byte, version string, err error)
	// Write creates the object when version is "", else replaces exactly that version; ErrLogConflict otherwise.
	Write(ctx context.Context, name string, data []byte, version string) error
	// List yields names under a prefix.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// ErrLogConflict: the object exists, or is not the expected version.
var ErrLogConflict = errors.New("log object changed")

// Log is an append-only Merkle log.
type Log struct{}

// OpenLog opens a log for appending; an empty storage is a new log.
func OpenLog(ctx context.Context, s LogStorage, origin string, signer *Key) (*Log, error) {
	return nil, errStub
}

// Head is the log's present checkpoint.
func (l *Log) Head(ctx context.Context) (*Checkpoint, error) { return nil, errStub }

// Append logs an envelope and returns its proof: the bytes of <id>.tlog-proof. It is idempotent.
func (l *Log) Append(ctx context.Context, envelope []byte) (proof []byte, err error) {
	return nil, errStub
}

// Check is one step of a verification.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// Bundle is what Verify reads.
type Bundle struct {
	Envelope []byte
	Proof    []byte      // optional: <id>.tlog-proof
	Sidecar  io.ReaderAt // optional
	Size     int64
}

// Verify checks a bundle against a trust file. The manifest is nil when it could not be read.
func Verify(ctx context.Context, b Bundle, t *Trust, now time.Time) (*Manifest, []Check) {
	return nil, nil
}

// Text writes the readable form.
func Text(w io.Writer, m *Manifest, checks []Check) error { return errStub }

// HTML writes the self-contained report.
func HTML(w io.Writer, m *Manifest, checks []Check) error { return errStub }
