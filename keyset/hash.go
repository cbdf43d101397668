package keyset

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Every key is hashed as XXH3-64 of its canonical bytes under the set's seed.
// The 8 and 16 byte forms are spelled out here so that the compiler inlines
// them; they give the same hashes as the library (tested).

// Words of XXH3's default secret that those lengths use.
const (
	secret8x16  = 0x1cad21f72c81017c ^ 0xdb979083e96dd4de
	secret24x32 = 0x1f67b3b7a4a44072 ^ 0x78e5c0cc4ee679cb
	secret40x48 = 0x2172ffcc7dd05a82 ^ 0x8e2443f7744608b8
)

// newSeed draws a seed: with one that an outsider knows, keys could be chosen
// to fall into one bucket.
func newSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

// wordFlip prepares the seed for hashWord.
func wordFlip(seed uint64) uint64 {
	seed ^= uint64(bits.ReverseBytes32(uint32(seed))) << 32
	return secret8x16 - seed
}

// hashWord hashes the 8 big-endian bytes of v (XXH3_len_4to8).
func hashWord(v, flip uint64) uint64 {
	h := bits.RotateLeft64(bits.ReverseBytes64(v), 32) ^ flip
	h ^= bits.RotateLeft64(h, 49) ^ bits.RotateLeft64(h, 24)
	h *= 0x9fb21c651e98df25
	h ^= (h >> 35) + 8
	h *= 0x9fb21c651e98df25
	return h ^ h>>28
}

// hashWide hashes 16 bytes given as two big-endian words (XXH3_len_9to16).
func hashWide(a, b, seed uint64) uint64 {
	lo := bits.ReverseBytes64(a) ^ (secret24x32 + seed)
	hi := bits.ReverseBytes64(b) ^ (secret40x48 - seed)
	ph, pl := bits.Mul64(lo, hi)
	h := 16 + bits.ReverseBytes64(lo) + hi + (ph ^ pl)
	h ^= h >> 37
	h *= 0x165667919e3779f9
	return h ^ h>>32
}

func hashBytes(b []byte, seed uint64) uint64 { return xxh3.HashSeed(b, seed) }
