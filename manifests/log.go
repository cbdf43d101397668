package manifests

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// LogStorage is where the log lives: a folder of small objects.
type LogStorage interface {
	// Read returns an object and its version; an error that is fs.ErrNotExist when there is none.
	Read(ctx context.Context, name string) (data []byte, version string, err error)
	// Write creates the object when version is "", and replaces exactly that
	// version otherwise. It returns ErrLogConflict when the object exists or has
	// another version. It is atomic: readers see the old or the new content.
	Write(ctx context.Context, name string, data []byte, version string) error
	// List yields the names under a prefix, in any order.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// Errors of the log.
var (
	// ErrLogConflict: the object exists, or is not the expected version. Retry.
	ErrLogConflict = errors.New("log object changed meanwhile")
	// ErrForked: two different histories, or one that does not add up.
	ErrForked = errors.New("the log does not have one history")
	// ErrTruncated: the log is shorter than a checkpoint says that it was.
	ErrTruncated = errors.New("the log is shorter than it was")
	// ErrReplayed: the log has another envelope under the same manifest id, or the same one twice.
	ErrReplayed = errors.New("manifest id is in the log already")
)

// Names of the log's objects: C2SP tlog-tiles' layout, plus the claims.
const (
	checkpointName = "checkpoint"
	tilePrefix     = "tile/"
	claimPrefix    = "claims/"
	tileHeight     = 8
	tileWidth      = 1 << tileHeight
)

// Log is an append-only Merkle log in C2SP tlog-tiles' layout with signed
// checkpoints.
//
// Writers cannot fork it. A writer first claims the next index by creating
// claims/<index> with its entry, which succeeds once. Everything after that
// follows from the claims: whoever comes next, the claimer or any other writer,
// adds the claimed entries in order, writes the tiles, whose bytes do not
// depend on who writes them, and swaps the checkpoint. A writer that dies after
// its claim holds nobody up.
//
// The log proves that it contains a manifest. That nothing was cut off its end
// is provable only to somebody who kept a checkpoint, or to whom a witness
// vouches for one.
type Log struct {
	store  LogStorage
	origin string
	signer note.Signer
	known  note.Verifiers

	witnesses []Witness
	noWitness func(Witness, error)
}

// OpenLog opens a log for appending. The origin names it, e.g.
// "expunge.example.com/log"; signer signs checkpoints; known are further keys
// whose checkpoints are accepted as the present head.
func OpenLog(s LogStorage, origin string, signer Signer, known ...ed25519.PublicKey) (*Log, error) {
	own, err := newNoteSigner(origin, signer)
	if err != nil {
		return nil, err
	}
	vs, err := noteVerifiers(origin, append(known, signer.Public()))
	if err != nil {
		return nil, err
	}
	return &Log{store: s, origin: origin, signer: own, known: vs}, nil
}

// noteSigner signs checkpoints with any Signer.
type noteSigner struct {
	note.Verifier
	signer Signer
}

func newNoteSigner(origin string, s Signer) (note.Signer, error) {
	v, err := noteVerifier(origin, s.Public())
	if err != nil {
		return nil, err
	}
	return noteSigner{v, s}, nil
}

func (s noteSigner) Sign(msg []byte) ([]byte, error) { return s.signer.Sign(msg) }

func noteVerifier(origin string, pub ed25519.PublicKey) (note.Verifier, error) {
	vkey, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("log origin %q: %w", origin, err)
	}
	return v, nil
}

func noteVerifiers(origin string, keys []ed25519.PublicKey) (note.Verifiers, error) {
	seen := map[string]bool{}
	var list []note.Verifier
	for _, k := range keys {
		if seen[string(k)] {
			continue
		}
		seen[string(k)] = true
		v, err := noteVerifier(origin, k)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), nil
}

// LogVerifierKey is the key of a log's checkpoints in the form that other
// tools of the transparency-log world take.
func LogVerifierKey(origin string, pub ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, pub)
}

// head is a verified checkpoint, with the version to swap it by.
type head struct {
	tree    tlog.Tree
	raw     []byte
	version string // "" = no checkpoint yet
}

// checkpointText is C2SP tlog-checkpoint's body.
func checkpointText(origin string, t tlog.Tree) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, t.N, base64.StdEncoding.EncodeToString(t.Hash[:]))
}

// parseCheckpoint verifies a checkpoint's signature and reads it.
func parseCheckpoint(raw []byte, origin string, known note.Verifiers) (tlog.Tree, error) {
	n, err := note.Open(raw, known)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 || lines[0] != origin {
		return tlog.Tree{}, fmt.Errorf("checkpoint: not of the log %q", origin)
	}
	var size int64
	if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil || size < 0 || fmt.Sprint(size) != lines[1] {
		return tlog.Tree{}, errors.New("checkpoint: bad tree size")
	}
	h, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(h) != tlog.HashSize {
		return tlog.Tree{}, errors.New("checkpoint: bad root hash")
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(h)}, nil
}

func (l *Log) head(ctx context.Context) (head, error) {
	return readHead(ctx, l.store, l.origin, l.known)
}

func readHead(ctx context.Context, s LogStorage, origin string, known note.Verifiers) (head, error) {
	raw, version, err := s.Read(ctx, checkpointName)
	if errors.Is(err, fs.ErrNotExist) {
		// Should somebody have removed it: the claims lead a writer to the same tree
		// again, and VerifyLog misses it.
		return head{tree: tlog.Tree{Hash: emptyRoot}}, nil
	}
	if err != nil {
		return head{}, fmt.Errorf("read checkpoint: %w", err)
	}
	t, err := parseCheckpoint(raw, origin, known)
	if err != nil {
		return head{}, err
	}
	return head{t, raw, version}, nil
}

// Head is the log's present checkpoint, for a manifest's previous_checkpoint.
// It is nil when the log is empty.
func (l *Log) Head(ctx context.Context) (*Checkpoint, error) {
	h, err := l.head(ctx)
	if err != nil || h.version == "" {
		return nil, err
	}
	return &Checkpoint{Origin: l.origin, Size: h.tree.N, Root: hex.EncodeToString(h.tree.Hash[:])}, nil
}

// Last is the log's last manifest: its id and its envelope's digest. Both are
// "" when the log is empty.
func (l *Log) Last(ctx context.Context) (id, digest string, err error) {
	h, err := l.head(ctx)
	if err != nil || h.tree.N == 0 {
		return "", "", err
	}
	for _, raw := range readEntries(ctx, l.store, h.tree.N-1, h.tree.N) {
		if raw.err != nil {
			return "", "", raw.err
		}
		e, err := parseEntry(raw.data)
		if err != nil {
			return "", "", err
		}
		id, digest = e.ID, e.Digest
	}
	return id, digest, nil
}

// indexPath is how tlog-tiles writes a number: groups of three digits, all but
// the last led by an x.
func indexPath(n int64) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	return s
}

func partial(w int) string {
	if w == tileWidth {
		return ""
	}
	return fmt.Sprintf(".p/%d", w)
}

func tileName(t tlog.Tile) string {
	return fmt.Sprintf("%s%d/%s%s", tilePrefix, t.L, indexPath(t.N), partial(t.W))
}

func entriesName(n int64, w int) string {
	return tilePrefix + "entries/" + indexPath(n) + partial(w)
}

func claimName(n int64) string { return claimPrefix + indexPath(n) }

// entry is a log entry: what a leaf says.
type entry struct {
	ID     string // manifest id
	Digest string // hex SHA-256 of the envelope
}

const entryHeader = "expunge manifest v1"

func (e entry) bytes() []byte {
	return []byte(entryHeader + "\n" + e.ID + "\n" + e.Digest + "\n")
}

func parseEntry(b []byte) (entry, error) {
	lines := strings.Split(string(b), "\n")
	if len(lines) != 4 || lines[0] != entryHeader || lines[3] != "" || lines[1] == "" {
		return entry{}, errors.New("log entry of an unknown form")
	}
	if d, err := hex.DecodeString(lines[2]); err != nil || len(d) != 32 {
		return entry{}, errors.New("log entry of an unknown form")
	}
	return entry{lines[1], lines[2]}, nil
}

// appendBundle adds an entry to an entry bundle (tlog-tiles: uint16 length, bytes).
func appendBundle(dst, e []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(e)))
	return append(dst, e...)
}

// splitBundle cuts a bundle of n entries.
func splitBundle(b []byte, n int) ([][]byte, error) {
	out := make([][]byte, 0, n)
	for len(b) >= 2 {
		size := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+size {
			break
		}
		out = append(out, b[2:2+size])
		b = b[2+size:]
	}
	if len(b) > 0 || len(out) != n {
		return nil, errors.New("entry bundle is cut short")
	}
	return out, nil
}
