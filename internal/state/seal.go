package state

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The sealed format, version 1:
//
//	"expunge1" | 32 bytes of salt | chunk 0 | chunk 1 | ... | last chunk
//
// The key is HKDF-SHA-256 over the run's secret with the salt and, as info,
// the file's label, so each file has a key of its own and opens under its own
// name only. A chunk is AES-256-GCM over up to 64 KiB. Its nonce is the chunk's
// number in 11 bytes, big endian, and a byte that is 1 in the last chunk and 0
// before: chunks can't be dropped, repeated or reordered, and a file that was
// cut short has no last chunk (the STREAM construction, as age uses it).
const (
	sealMagic = "expunge1"
	saltSize  = 32
	chunkSize = 64 << 10
	tagSize   = 16
)

// Sealer encrypts a stream. Close writes the last chunk and does not close the
// writer below.
type Sealer struct {
	w      io.Writer
	aead   cipher.AEAD
	nonce  [12]byte
	buf    []byte // plain text of the chunk being filled, with room for the tag
	closed bool
	err    error
}

// NewSealer starts a sealed stream on w.
func NewSealer(w io.Writer, secret []byte, label string) (*Sealer, error) {
	header := make([]byte, len(sealMagic)+saltSize)
	copy(header, sealMagic)
	_, _ = rand.Read(header[len(sealMagic):]) // never fails since Go 1.24
	aead, err := sealCipher(secret, header[len(sealMagic):], label)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(header); err != nil {
		return nil, err
	}
	return &Sealer{w: w, aead: aead, buf: make([]byte, 0, chunkSize+tagSize)}, nil
}

func sealCipher(secret, salt []byte, label string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, salt, "expunge sealed file v1\x00"+label, 32)
	if err != nil {
		return nil, fmt.Errorf("derive file key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("file cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

func (s *Sealer) Write(p []byte) (int, error) {
	if s.closed && s.err == nil {
		s.err = errors.New("write to a closed sealed file")
	}
	n := 0
	for len(p) > 0 && s.err == nil {
		// A full chunk is written only when more follows: the last one is marked.
		if len(s.buf) == chunkSize {
			s.flush(false)
			continue
		}
		k := min(len(p), chunkSize-len(s.buf))
		s.buf = append(s.buf, p[:k]...)
		p, n = p[k:], n+k
	}
	return n, s.err
}

func (s *Sealer) flush(last bool) {
	if last {
		s.nonce[11] = 1
	}
	_, s.err = s.w.Write(s.aead.Seal(s.buf[:0], s.nonce[:], s.buf, nil))
	s.buf = s.buf[:0]
	nextNonce(&s.nonce)
}

// nextNonce counts in the eight low bytes of the counter; 2^64 chunks never come.
func nextNonce(n *[12]byte) {
	binary.BigEndian.PutUint64(n[3:11], binary.BigEndian.Uint64(n[3:11])+1)
}

// Close writes the last chunk.
func (s *Sealer) Close() error {
	if !s.closed && s.err == nil {
		s.flush(true)
	}
	s.closed = true
	return s.err
}

// Unsealer decrypts a stream.
type Unsealer struct {
	r     io.Reader
	aead  cipher.AEAD
	nonce [12]byte
	in    []byte // cipher text read ahead: one chunk and a byte of the next
	plain []byte // decrypted and not yet read
	out   []byte
	last  bool
	err   error
}

// NewUnsealer opens a sealed stream.
func NewUnsealer(r io.Reader, secret []byte, label string) (*Unsealer, error) {
	header := make([]byte, len(sealMagic)+saltSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, truncated("read header", err)
	}
	if string(header[:len(sealMagic)]) != sealMagic {
		return nil, fmt.Errorf("%w: not a sealed file of version 1", ErrCorrupt)
	}
	aead, err := sealCipher(secret, header[len(sealMagic):], label)
	if err != nil {
		return nil, err
	}
	return &Unsealer{r: r, aead: aead, in: make([]byte, 0, chunkSize+tagSize+1), out: make([]byte, 0, chunkSize)}, nil
}

// truncated turns an early end into damage and leaves storage errors alone.
func truncated(what string, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // of ReadFull itself: a store's error may wrap them
		return fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (u *Unsealer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(u.plain) == 0 && u.err == nil {
		if u.last {
			return 0, io.EOF
		}
		u.err = u.next()
	}
	if len(u.plain) == 0 {
		return 0, u.err
	}
	n := copy(p, u.plain)
	u.plain = u.plain[n:]
	return n, nil
}

// next decrypts one chunk. Whether it is the last is known from whether a
// byte follows it.
func (u *Unsealer) next() error {
	full := chunkSize + tagSize + 1
	have := len(u.in)
	n, err := io.ReadFull(u.r, u.in[have:full])
	u.in = u.in[:have+n]
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF: //nolint:errorlint // of ReadFull itself: a store's error may wrap them
		u.last = true
	case err != nil:
		return fmt.Errorf("read: %w", err)
	}
	chunk := u.in
	if !u.last {
		chunk = u.in[:chunkSize+tagSize]
	} else {
		u.nonce[11] = 1
	}
	// Only an empty file has an empty last chunk: anything else was written otherwise.
	if len(chunk) < tagSize || len(chunk) == tagSize && u.nonce != [12]byte{11: 1} {
		return fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	u.out, err = u.aead.Open(u.out[:0], u.nonce[:], chunk, nil)
	if err != nil {
		u.plain = nil
		return ErrCorrupt // changed, cut short at a chunk's end, or another file's
	}
	nextNonce(&u.nonce)
	u.plain = u.out
	u.in = u.in[:copy(u.in, u.in[len(chunk):])]
	return nil
}
