package manifests

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"sort"

	"golang.org/x/mod/sumdb/tlog"
)

// CommitmentScheme names how a keyset is committed to:
//
//	digest = SHA-256("expunge key v1\x00" || uint32(len(type)) || type || canonical key)
//	order  = HMAC-SHA-256(HKDF(secret, "expunge order v1\x00" || keyset), digest), first 8 bytes
//	nonce  = HMAC-SHA-256(HKDF(secret, "expunge nonce v1\x00" || keyset), uint64(index))
//	token  = HMAC-SHA-256(nonce, digest)
//	leaf   = SHA-256(0x00 || token)           (RFC 6962)
//
// Leaves stand in the order of their order values, which tells nothing about
// the keys, and index counts them. Whoever gets one nonce can recompute one
// token and learns nothing about another, so a certificate can be checked by
// the person it is about. The nonces follow from the secret: destroying the
// secret closes the link for good.
const CommitmentScheme = "rfc6962-hmac-sha256-v1"

// minSecret is the least length of a run's secret in bytes.
const minSecret = 16

// KeyDigest is the digest of one canonical key of a type, as tokens use it.
// It can be guessed from: never store it.
func KeyDigest(keyType string, canonical []byte) [32]byte {
	h := sha256.New()
	return keyDigest(h, keyType, canonical)
}

func keyDigest(h hash.Hash, keyType string, canonical []byte) (d [32]byte) {
	h.Reset()
	h.Write([]byte("expunge key v1\x00"))
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(keyType)))
	h.Write(n[:])
	h.Write([]byte(keyType))
	h.Write(canonical)
	h.Sum(d[:0])
	return d
}

// derive returns a 32-byte key for one purpose.
func derive(secret []byte, info string) ([]byte, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("the run's secret has %d bytes, want %d or more", len(secret), minSecret)
	}
	k, err := hkdf.Key(sha256.New, secret, nil, info, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return k, nil
}

// leaf is what is held per key while committing: 44 bytes.
type leaf struct {
	order  [8]byte
	digest [32]byte
	number uint32 // the key's place among the keys as they were given
}

// leafRecord is the size of a record that Commit writes: order value, leaf hash
// and the key's number, big endian.
const (
	leafRecord  = leafHashEnd + 4
	leafHashEnd = 8 + tlog.HashSize
)

// Commit commits to the distinct canonical keys of a keyset, fewer than 2^32.
// keyType is the schema's one-line form ("int64", "string,uuid"). When leaves is
// not nil, 44 bytes a key go to it, in leaf order: what Prove needs later. The
// numbers in them follow the keys' own order, so they are for sealed files.
//
// Memory is 44 bytes a key.
func Commit(secret []byte, name, keyType string, keys iter.Seq[[]byte], leaves io.Writer) (Commitment, error) {
	orderKey, err := derive(secret, "expunge order v1\x00"+name)
	if err != nil {
		return Commitment{}, err
	}
	nonceKey, err := derive(secret, "expunge nonce v1\x00"+name)
	if err != nil {
		return Commitment{}, err
	}
	var all []leaf
	h := sha256.New()
	for key := range keys {
		l := leaf{digest: keyDigest(h, keyType, key), number: uint32(len(all))}
		order := shortMAC(orderKey, l.digest[:])
		copy(l.order[:], order[:])
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b leaf) int {
		if c := bytes.Compare(a.order[:], b.order[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.digest[:], b.digest[:])
	})
	t := newTree()
	n := nonces{nonceKey}
	rec := make([]byte, 0, leafRecord)
	for i, l := range all {
		if i > 0 && l.digest == all[i-1].digest {
			return Commitment{}, errors.New("keys to commit to are not distinct")
		}
		nonce := n.at(int64(i))
		lh := keyHash(nonce[:], l.digest)
		t.add(lh)
		if leaves == nil {
			continue
		}
		rec = append(append(rec[:0], l.order[:]...), lh[:]...)
		rec = binary.BigEndian.AppendUint32(rec, l.number)
		if _, err := leaves.Write(rec); err != nil {
			return Commitment{}, fmt.Errorf("write leaves: %w", err)
		}
	}
	root, _ := t.finish()
	c := Commitment{Scheme: CommitmentScheme, Root: hex.EncodeToString(root[:])}
	c.setSize(int64(len(all)))
	return c, nil
}

// setSize states the size, banded where the exact one could point at somebody.
func (c *Commitment) setSize(n int64) {
	switch {
	case n == 0 || n >= 100:
		c.Size = &n
	case n < 10:
		c.Band = "1-9"
	default:
		c.Band = "10-99"
	}
}

// Empty says whether nothing was asked for.
func (c *Commitment) Empty() bool { return c.Size != nil && *c.Size == 0 }

// String is the size as a person reads it.
func (c *Commitment) String() string {
	if c.Size != nil {
		return fmt.Sprint(*c.Size)
	}
	return c.Band
}

type nonces struct{ key []byte }

func (n nonces) at(i int64) [32]byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	return shortMAC(n.key, b[:])
}

// keyHash is the leaf hash of a key's token under a nonce.
func keyHash(nonce []byte, digest [32]byte) tlog.Hash {
	token := shortMAC(nonce, digest[:])
	return tlog.RecordHash(token[:])
}

// shortMAC is HMAC-SHA-256 (RFC 2104) for keys and messages of at most 32
// bytes. Millions of keys pass through here; crypto/hmac allocates for each.
func shortMAC(key, msg []byte) [32]byte {
	var in, out [64 + 32]byte
	for i := range 64 {
		in[i], out[i] = 0x36, 0x5c
	}
	for i, k := range key {
		in[i] ^= k
		out[i] ^= k
	}
	n := copy(in[64:], msg)
	inner := sha256.Sum256(in[:64+n])
	copy(out[64:], inner[:])
	return sha256.Sum256(out[:])
}

// KeyProof shows that one key is in a commitment. It reveals nothing about
// another key. Whoever holds it and the key can check it without the secret.
type KeyProof struct {
	Keyset string      `json:"keyset"`
	Type   string      `json:"type"`
	Nonce  string      `json:"nonce"` // hex
	Index  int64       `json:"index"`
	Size   int64       `json:"size"`
	Path   []tlog.Hash `json:"path"`
}

// ErrNotCommitted: the key is not in the commitment.
var ErrNotCommitted = errors.New("the key is not in the keyset")

// Prove makes the proof for a key from the leaves that Commit wrote. size is
// their length in bytes. It is linear in the number of keys. number is the
// key's place among the keys that Commit was given.
func Prove(secret []byte, name, keyType string, key []byte, leaves io.ReaderAt, size int64) (p *KeyProof, number uint32, err error) {
	if size%leafRecord != 0 {
		return nil, 0, errors.New("leaves are cut short")
	}
	orderKey, err := derive(secret, "expunge order v1\x00"+name)
	if err != nil {
		return nil, 0, err
	}
	nonceKey, err := derive(secret, "expunge nonce v1\x00"+name)
	if err != nil {
		return nil, 0, err
	}
	d := KeyDigest(keyType, key)
	order := shortMAC(orderKey, d[:])
	index, number, err := findLeaf(leaves, size/leafRecord, order[:8], d, nonces{nonceKey})
	if err != nil {
		return nil, 0, err
	}
	t := newTree(index)
	in := io.NewSectionReader(leaves, 0, size)
	buf := make([]byte, leafRecord*1024)
	for {
		n, err := io.ReadFull(in, buf)
		for b := buf[:n]; len(b) >= leafRecord; b = b[leafRecord:] {
			t.add(tlog.Hash(b[8:leafHashEnd]))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read leaves: %w", err)
		}
	}
	_, paths := t.finish()
	nonce := nonces{nonceKey}.at(index)
	return &KeyProof{Keyset: name, Type: keyType, Nonce: hex.EncodeToString(nonce[:]), Index: index, Size: t.size, Path: paths[0]}, number, nil
}

// findLeaf finds the leaf of a digest by its order value, in which leaves are sorted.
func findLeaf(leaves io.ReaderAt, n int64, order []byte, digest [32]byte, nc nonces) (index int64, number uint32, err error) {
	var rec [leafRecord]byte
	var failed error
	at := func(i int64) []byte {
		if _, err := leaves.ReadAt(rec[:], i*leafRecord); err != nil && failed == nil {
			failed = fmt.Errorf("read leaves: %w", err)
		}
		return rec[:]
	}
	i := int64(sort.Search(int(n), func(i int) bool { return bytes.Compare(at(int64(i))[:8], order) >= 0 }))
	for ; failed == nil && i < n && bytes.Equal(at(i)[:8], order); i++ {
		nonce := nc.at(i)
		if want := keyHash(nonce[:], digest); bytes.Equal(rec[8:leafHashEnd], want[:]) {
			return i, binary.BigEndian.Uint32(rec[leafHashEnd:]), failed
		}
	}
	if failed != nil {
		return 0, 0, failed
	}
	return 0, 0, ErrNotCommitted
}

// Check verifies that the canonical key is in the commitment.
func (p *KeyProof) Check(c Commitment, key []byte) error {
	root, err := parseHash(c.Root)
	if err != nil {
		return err
	}
	nonce, err := hex.DecodeString(p.Nonce)
	if err != nil || len(nonce) != sha256.Size || c.Scheme != CommitmentScheme {
		return errProof
	}
	if c.Size != nil && *c.Size != p.Size {
		return errProof
	}
	return checkPath(p.Path, p.Size, root, p.Index, keyHash(nonce, KeyDigest(p.Type, key)))
}

// PathDigest is the keyed digest of a path that may hold a key.
func PathDigest(secret []byte, path string) (string, error) {
	return keyedDigest(secret, "expunge path v1", path)
}

// KeyedDigest is a digest under the run's secret, for small contents that a
// plain digest would let somebody guess.
func KeyedDigest(secret, sha256sum []byte) (string, error) {
	return keyedDigest(secret, "expunge digest v1", string(sha256sum))
}

func keyedDigest(secret []byte, info, s string) (string, error) {
	k, err := derive(secret, info)
	if err != nil {
		return "", err
	}
	m := hmac.New(sha256.New, k)
	m.Write([]byte(s))
	return hex.EncodeToString(m.Sum(nil)), nil
}

// Paths digests many paths under one secret.
type Paths struct{ mac hash.Hash }

// NewPaths derives the key once.
func NewPaths(secret []byte) (*Paths, error) {
	k, err := derive(secret, "expunge path v1")
	if err != nil {
		return nil, err
	}
	return &Paths{hmac.New(sha256.New, k)}, nil
}

// Digest is PathDigest. It is not safe for concurrent use.
func (p *Paths) Digest(path string) string {
	p.mac.Reset()
	p.mac.Write([]byte(path))
	return hex.EncodeToString(p.mac.Sum(nil))
}
