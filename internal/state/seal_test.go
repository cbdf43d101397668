package state

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
)

var testSecret = bytes.Repeat([]byte{7}, 32)

func sealAll(t testing.TB, plain []byte, label string) []byte {
	t.Helper()
	var buf bytes.Buffer
	s, err := NewSealer(&buf, testSecret, label)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func unseal(sealed []byte, label string) ([]byte, error) {
	u, err := NewUnsealer(bytes.NewReader(sealed), testSecret, label)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(u)
}

func TestSealedRoundTripsAtEveryChunkBoundary(t *testing.T) {
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 17} {
		plain := bytes.Repeat([]byte("abcdefg"), n/7+1)[:n]
		got, err := unseal(sealAll(t, plain, "a"), "a")
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

func TestSealedRoundTripsWithAnyWritesAndReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var plain, sealed bytes.Buffer
		s, err := NewSealer(&sealed, testSecret, "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, chunkSize+100), 0, 6).Draw(t, "writes") {
			p := bytes.Repeat([]byte{byte(n)}, n)
			plain.Write(p)
			if _, err := s.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed.Bytes(), bytes.Repeat([]byte{1}, 40)) {
			t.Fatal("plain text shows")
		}
		u, err := NewUnsealer(&sealed, testSecret, "a")
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		buf := make([]byte, rapid.IntRange(1, 2*chunkSize).Draw(t, "read"))
		for {
			n, err := u.Read(buf)
			got = append(got, buf[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, plain.Bytes()) {
			t.Fatalf("got %d bytes, want %d", len(got), plain.Len())
		}
	})
}

func TestSealedFileCutAnywhereIsDamage(t *testing.T) {
	plain := bytes.Repeat([]byte("x"), 2*chunkSize+100)
	sealed := sealAll(t, plain, "a")
	head := len(sealMagic) + saltSize
	cuts := []int{0, 1, head - 1, head, head + 1, head + chunkSize, head + chunkSize + tagSize, head + 2*(chunkSize+tagSize), len(sealed) - 1}
	for _, n := range cuts {
		if _, err := unseal(sealed[:n], "a"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d of %d: %v", n, len(sealed), err)
		}
	}
}

func TestSealedFileChangedAnywhereIsDamage(t *testing.T) {
	plain := bytes.Repeat([]byte("x"), chunkSize+100)
	sealed := sealAll(t, plain, "a")
	rapid.Check(t, func(t *rapid.T) {
		bad := slices.Clone(sealed)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if _, err := unseal(bad, "a"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("changed: %v", err)
		}
	})
	if _, err := unseal(append(slices.Clone(sealed), 0), "a"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("longer: %v", err)
	}
	if _, err := unseal(sealed, "b"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("other label: %v", err)
	}
}

func TestSealedChunksCannotBeReordered(t *testing.T) {
	plain := bytes.Repeat([]byte("x"), 3*chunkSize)
	sealed := sealAll(t, plain, "a")
	head, full := len(sealMagic)+saltSize, chunkSize+tagSize
	one, two := sealed[head:head+full], sealed[head+full:head+2*full]
	for name, bad := range map[string][]byte{
		"swapped": slices.Concat(sealed[:head], two, one, sealed[head+2*full:]),
		"dropped": slices.Concat(sealed[:head], two, sealed[head+2*full:]),
		"doubled": slices.Concat(sealed[:head], one, one, sealed[head+full:]),
	} {
		if _, err := unseal(bad, "a"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzUnseal: whatever the input, the reader ends, and only with damage or
// with the plain text that was sealed.
func FuzzUnseal(f *testing.F) {
	plain := []byte("some records\n")
	f.Add(sealAll(f, plain, "a"))
	f.Add(sealAll(f, nil, "a"))
	f.Add(sealAll(f, bytes.Repeat([]byte("y"), chunkSize+1), "a")[:chunkSize])
	f.Add([]byte(sealMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := unseal(data, "a")
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is not damage: %v", err)
			}
			return
		}
		// Only who has the secret makes a file that opens: the seeds.
		if len(got) != 0 && !bytes.Equal(got, plain) {
			t.Fatalf("forged %d bytes", len(got))
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	plain := make([]byte, 8<<20)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		s, err := NewSealer(io.Discard, testSecret, "a")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = s.Write(plain)
		_ = s.Close()
	}
}

func BenchmarkUnseal(b *testing.B) {
	sealed := sealAll(b, make([]byte, 8<<20), "a")
	b.SetBytes(8 << 20)
	for b.Loop() {
		u, err := NewUnsealer(bytes.NewReader(sealed), testSecret, "a")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, u); err != nil {
			b.Fatal(err)
		}
	}
}

// TestStoreTroubleIsNotDamage: a read that the store cut short is worth
// another try, and must not be taken for a file that was cut short.
func TestStoreTroubleIsNotDamage(t *testing.T) {
	sealed := sealAll(t, bytes.Repeat([]byte("x"), 2*chunkSize), "a")
	trouble := storage.NewError("read", "mem://b/x", storage.ErrTransient, "truncated", io.ErrUnexpectedEOF)
	for _, n := range []int{3, 60, chunkSize, 2 * chunkSize} {
		r := io.MultiReader(bytes.NewReader(sealed[:n]), errReader{trouble})
		u, err := NewUnsealer(r, testSecret, "a")
		if err == nil {
			_, err = io.ReadAll(u)
		}
		if !storage.IsTransient(err) || errors.Is(err, ErrCorrupt) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
