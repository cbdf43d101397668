package iceberg

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"slices"
)

// Domains keep the uses of one hash key apart.
const (
	domainKey byte = iota + 1
	domainPath
	domainSignature
)

// keyHasher is a pseudorandom function: CBC-MAC with AES-256 over a first block
// that holds the length, which makes messages of different lengths independent.
// Without the secret, nobody can test a guessed id against a filter.
type keyHasher struct {
	block cipher.Block
	// first is the first block's ciphertext for keys of each short length.
	first [65][16]byte
}

func newKeyHasher(key []byte) (*keyHasher, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key index hash: %w", err)
	}
	h := &keyHasher{block: block}
	for n := range h.first {
		h.first[n] = h.start(domainKey, n)
	}
	return h, nil
}

func (h *keyHasher) start(domain byte, n int) [16]byte {
	s := h.state()
	binary.LittleEndian.PutUint64(s.x[:], uint64(n))
	s.x[15] = domain
	h.block.Encrypt(s.x[:], s.x[:])
	return s.x
}

// sum hashes a message of a domain.
func (h *keyHasher) sum(domain byte, data []byte) [16]byte {
	s := h.state()
	s.x = h.start(domain, len(data))
	s.chain(data)
	return s.x
}

// state returns a hasher for many keys, for one goroutine.
func (h *keyHasher) state() *keyHash { return &keyHash{h: h} }

// keyHash holds the block that is being chained, so that hashing allocates nothing.
type keyHash struct {
	h *keyHasher
	x [16]byte
}

func (s *keyHash) chain(data []byte) {
	for len(data) > 0 {
		n := min(16, len(data))
		for i, b := range data[:n] {
			s.x[i] ^= b
		}
		s.h.block.Encrypt(s.x[:], s.x[:])
		data = data[n:]
	}
}

// sum64 hashes a canonical key.
func (s *keyHash) sum64(key []byte) uint64 {
	if len(key) < len(s.h.first) {
		s.x = s.h.first[len(key)]
		s.chain(key)
	} else {
		s.x = s.h.sum(domainKey, key)
	}
	return binary.LittleEndian.Uint64(s.x[:])
}

// maxIndexedKeys bounds the distinct keys of one filter: beyond it a filter is
// about as large as the column.
const maxIndexedKeys = 4 << 20

// hashSet collects distinct hashes in bounded memory.
type hashSet struct {
	hashes   []uint64
	distinct int // of the sorted start of hashes
}

func newHashSet() *hashSet { return &hashSet{} }

func (s *hashSet) add(h uint64) error {
	if n := len(s.hashes); n > 0 && s.hashes[n-1] == h {
		return nil // runs of one value are common
	}
	s.hashes = append(s.hashes, h)
	if len(s.hashes) >= max(2*s.distinct, 64<<10) {
		s.compact()
		if s.distinct > maxIndexedKeys {
			return errNotIndexable
		}
	}
	return nil
}

func (s *hashSet) compact() {
	slices.Sort(s.hashes)
	s.hashes = slices.Compact(s.hashes)
	s.distinct = len(s.hashes)
}

func (s *hashSet) sorted() []uint64 {
	s.compact()
	return s.hashes
}
