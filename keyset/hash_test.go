package keyset

import (
	"encoding/binary"
	"testing"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

func TestInlinedHashesEqualLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		buf := binary.BigEndian.AppendUint64(nil, a)
		if got, want := hashWord(a, wordFlip(seed)), xxh3.HashSeed(buf, seed); got != want {
			t.Fatalf("8 bytes: %x, want %x", got, want)
		}
		buf = binary.BigEndian.AppendUint64(buf, b)
		if got, want := hashWide(a, b, seed), xxh3.HashSeed(buf, seed); got != want {
			t.Fatalf("16 bytes: %x, want %x", got, want)
		}
	})
}
