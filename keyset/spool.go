package keyset

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
)

// Parquet is read from its end, but sources come as streams: they are spooled,
// small ones in memory, larger ones in a temporary file. That file holds keys,
// so it is encrypted under a key that only this process has, and has no name
// where the system allows that.

const spoolMemory = 64 << 20

var errSpool = errors.New("spool source")

// spool is random access to what a stream held.
type spool struct {
	mem   []byte
	size  int64
	file  *os.File
	name  string // still to be removed
	block cipher.Block
	iv    [aes.BlockSize]byte
}

// newSpool reads in to its end. An error of in itself is returned as it is.
func newSpool(in io.Reader) (*spool, error) {
	s := &spool{}
	var end bool
	var err error
	buf := make([]byte, 1<<20)
	for !end && len(s.mem) < spoolMemory {
		var n int
		if n, end, err = fill(in, buf); err != nil {
			return nil, err
		}
		s.mem = append(s.mem, buf[:n]...)
	}
	if s.size = int64(len(s.mem)); end {
		return s, nil
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	enc := cipher.NewCTR(s.block, s.iv[:])
	chunk := s.mem
	for {
		enc.XORKeyStream(chunk, chunk)
		if _, err := s.file.Write(chunk); err != nil {
			s.close()
			return nil, fmt.Errorf("%w: %w", errSpool, err)
		}
		if end {
			break
		}
		var n int
		if n, end, err = fill(in, buf); err != nil {
			s.close()
			return nil, err
		}
		chunk = buf[:n]
		s.size += int64(n)
	}
	s.mem = nil
	return s, nil
}

func (s *spool) open() error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	_, _ = rand.Read(s.iv[:])
	s.iv[0] &= 0x7f // a counter that cannot run over
	var err error
	if s.block, err = aes.NewCipher(key[:]); err != nil {
		return err
	}
	if s.file, err = os.CreateTemp("", "expunge-spool-*"); err != nil {
		return err
	}
	if os.Remove(s.file.Name()) != nil {
		s.name = s.file.Name() // a system that keeps open files' names
	}
	return nil
}

// ReadAt decrypts a range. It is safe for concurrent use.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file == nil {
		if off < 0 || off > s.size {
			return 0, io.EOF
		}
		n := copy(p, s.mem[off:])
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
	n, err := s.file.ReadAt(p, off)
	iv := s.iv
	carry := uint64(off) / aes.BlockSize
	for i := aes.BlockSize - 1; i >= 0 && carry > 0; i-- {
		carry += uint64(iv[i])
		iv[i] = byte(carry)
		carry >>= 8
	}
	dec := cipher.NewCTR(s.block, iv[:])
	var skip [aes.BlockSize]byte
	dec.XORKeyStream(skip[:off%aes.BlockSize], skip[:off%aes.BlockSize])
	dec.XORKeyStream(p[:n], p[:n])
	return n, err
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
	if s.name != "" {
		_ = os.Remove(s.name) // what is left is encrypted under a key that is gone
	}
}
