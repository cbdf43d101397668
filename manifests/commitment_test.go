package manifests

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestEveryKeyHasAProofAndNoOtherHas.
func TestEveryKeyHasAProofAndNoOtherHas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 80).Draw(rt, "keys")
		keys := rapid.SliceOfNDistinct(rapid.SliceOfN(rapid.Byte(), 0, 12), n, n, func(b []byte) string { return string(b) }).Draw(rt, "key")
		var leaves bytes.Buffer
		c, err := Commit(secret, "users", "string", slices.Values(keys), &leaves)
		if err != nil {
			rt.Fatal(err)
		}
		r := bytes.NewReader(leaves.Bytes())
		for i, k := range keys {
			p, number, err := Prove(secret, "users", "string", k, r, r.Size())
			if err != nil {
				rt.Fatal(err)
			}
			if err := p.Check(c, k); err != nil || int(number) != i {
				rt.Fatal(err, number, i)
			}
			if p.Check(c, append(bytes.Clone(k), 'x')) == nil {
				rt.Fatal("a proof holds for another key")
			}
		}
		stranger := []byte("0123456789abcdef")
		if _, _, err := Prove(secret, "users", "string", stranger, r, r.Size()); !errors.Is(err, ErrNotCommitted) {
			rt.Fatalf("a stranger: %v", err)
		}
	})
}

// TestCommitmentDependsOnSecretSetAndTypeAlone.
func TestCommitmentDependsOnSecretSetAndTypeAlone(t *testing.T) {
	keys := slices.Collect(testKeys(50))
	reversed := slices.Clone(keys)
	slices.Reverse(reversed)
	root := func(secret []byte, name, typ string, keys [][]byte) string {
		c, err := Commit(secret, name, typ, slices.Values(keys), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Root
	}
	base := root(secret, "users", "int64", keys)
	if root(secret, "users", "int64", reversed) != base {
		t.Error("the order of keys matters")
	}
	for name, other := range map[string]string{
		"secret": root([]byte("another secret of a run, 32 bytes"), "users", "int64", keys),
		"name":   root(secret, "people", "int64", keys),
		"type":   root(secret, "users", "string", keys),
		"set":    root(secret, "users", "int64", keys[1:]),
	} {
		if other == base {
			t.Errorf("another %s, the same root", name)
		}
	}
}

func TestCommitmentRefusesDuplicatesAndShortSecrets(t *testing.T) {
	if _, err := Commit(secret, "u", "string", slices.Values([][]byte{[]byte("a"), []byte("a")}), nil); err == nil {
		t.Error("duplicates were accepted")
	}
	if _, err := Commit([]byte("short"), "u", "string", testKeys(1), nil); err == nil {
		t.Error("a short secret was accepted")
	}
}

func TestSmallSizesAreBanded(t *testing.T) {
	for n, want := range map[int]string{0: "0", 1: "1-9", 9: "1-9", 10: "10-99", 99: "10-99", 100: "100", 12345: "12345"} {
		c, err := Commit(secret, "u", "string", testKeys(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.String() != want || c.Empty() != (n == 0) {
			t.Errorf("%d keys: %s, want %s", n, c.String(), want)
		}
	}
}

// TestLeavesTellNothingWithoutTheSecret: the stored leaves hold no plain hash
// of a key, nor its digest.
func TestLeavesTellNothingWithoutTheSecret(t *testing.T) {
	var leaves bytes.Buffer
	if _, err := Commit(secret, "u", "string", testKeys(100), &leaves); err != nil {
		t.Fatal(err)
	}
	for k := range testKeys(100) {
		d := KeyDigest("string", k)
		if bytes.Contains(leaves.Bytes(), d[:8]) || bytes.Contains(leaves.Bytes(), k) {
			t.Fatal("a key or its digest is in the leaves")
		}
	}
}

func TestPathDigestsAreKeyed(t *testing.T) {
	a, err := PathDigest(secret, "s3://b/user_id=1/x")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := PathDigest([]byte("another secret of a run, 32 bytes"), "s3://b/user_id=1/x")
	c, _ := PathDigest(secret, "s3://b/user_id=2/x")
	p, err := NewPaths(secret)
	if err != nil || a == b || a == c || len(a) != 64 || p.Digest("s3://b/user_id=1/x") != a || p.Digest("s3://b/user_id=1/x") != a {
		t.Error(a, b, c, err)
	}
}

func BenchmarkCommit(b *testing.B) {
	for b.Loop() {
		if _, err := Commit(secret, "u", "int64", testKeys(100000), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/key")
}

func ExampleCommit() {
	keys := slices.Values([][]byte{[]byte("anna@example.com"), []byte("berta@example.com")})
	var leaves bytes.Buffer
	c, err := Commit([]byte("the run's secret, 32 bytes of it"), "emails", "string", keys, &leaves)
	if err != nil {
		panic(err)
	}
	r := bytes.NewReader(leaves.Bytes())
	p, _, err := Prove([]byte("the run's secret, 32 bytes of it"), "emails", "string", []byte("anna@example.com"), r, r.Size())
	if err != nil {
		panic(err)
	}
	fmt.Println(c.String(), p.Check(c, []byte("anna@example.com")) == nil, p.Check(c, []byte("carla@example.com")) == nil)
	// Output: 1-9 true false
}

// TestShortMACIsHMAC: the fast form and crypto/hmac agree.
func TestShortMACIsHMAC(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(rt, "key")
		msg := rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(rt, "message")
		m := hmac.New(sha256.New, key)
		m.Write(msg)
		if got := shortMAC(key, msg); !bytes.Equal(got[:], m.Sum(nil)) {
			rt.Fatal("not HMAC")
		}
	})
}
