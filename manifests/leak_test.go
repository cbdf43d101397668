package manifests

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// spellings are the ways in which a value could be recognised: plain, and as
// an unkeyed hash in the usual encodings.
func spellings(v string) (out []string) {
	out = append(out, v, strings.ToUpper(v), base64.StdEncoding.EncodeToString([]byte(v)), hex.EncodeToString([]byte(v)))
	s1, s256, m := sha1.Sum([]byte(v)), sha256.Sum256([]byte(v)), md5.Sum([]byte(v))
	d := KeyDigest("string", []byte(v))
	leafed := sha256.Sum256(append([]byte{0}, v...))
	for _, h := range [][]byte{s1[:], s256[:], m[:], d[:], leafed[:]} {
		out = append(out, hex.EncodeToString(h), base64.StdEncoding.EncodeToString(h), string(h))
	}
	return out
}

// TestNoKeyInAnyOutput: canary keys, as keys, in partition paths and in the
// digests of small files, leave no recognisable trace.
func TestNoKeyInAnyOutput(t *testing.T) {
	ctx := context.Background()
	canaries := []string{"canary-4711@example.com", "990000000004711"}
	var keys [][]byte
	for _, c := range canaries {
		keys = append(keys, []byte(c))
	}
	var leaves bytes.Buffer
	c, err := Commit(secret, "users", "string", slices.Values(keys), &leaves)
	if err != nil {
		t.Fatal(err)
	}
	var records []Record
	for _, v := range canaries {
		r := fileRecord("x", 1)
		r.Keyed, r.KeyedDigest = true, true
		if r.Path, err = PathDigest(secret, "s3://lake/orders/user="+v+"/a.parquet"); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(v))
		if r.DigestBefore, err = KeyedDigest(secret, sum[:]); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	side, ev := testSidecar(t, "run-1", records...)
	m, _ := sample(t, "run-1")
	m.Keysets[0].Commitment, m.Evidence = c, ev
	m.Targets[0].RowsIn, m.Targets[0].RowsOut, m.Targets[0].RowsErased = 200, 192, 2
	k := testKey(t, 1)
	env, err := Sign(ctx, m, k)
	if err != nil {
		t.Fatal(err)
	}
	s := newMemLog()
	proof, err := testLog(t, s, k).Append(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	var text, html, plainSide bytes.Buffer
	if err := Text(&text, m, nil); err != nil {
		t.Fatal(err)
	}
	if err := HTML(&html, m, nil); err != nil {
		t.Fatal(err)
	}
	for r, err := range ReadSidecar(bytes.NewReader(side), int64(len(side))) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&plainSide, "%+v\n", r)
	}
	_, payload, err := parseEnvelope(env)
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string][]byte{"envelope": env, "payload": payload, "proof": proof, "sidecar": side, "records": plainSide.Bytes(),
		"text": text.Bytes(), "html": html.Bytes(), "leaves": leaves.Bytes()}
	for name, o := range s.objects {
		outputs["log "+name] = o.data
	}
	for name, data := range outputs {
		for _, v := range canaries {
			for _, form := range spellings(v) {
				if bytes.Contains(data, []byte(form)) {
					t.Errorf("%s holds a canary or a hash of it", name)
				}
			}
		}
		if bytes.Contains(data, secret) {
			t.Errorf("%s holds the run's secret", name)
		}
	}
}

// TestSigningKeyNeverPrints, whatever verb or logger gets hold of it.
func TestSigningKeyNeverPrints(t *testing.T) {
	k, err := GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", k, "value", *k)
	for _, v := range []any{k, *k, []*Key{k}, map[string]Key{"a": *k}, struct{ K Key }{*k}} {
		fmt.Fprintf(&b, "%v %+v %#v %s %q %x %d\n", v, v, v, v, v, v, v)
	}
	seed := hex.EncodeToString(k.private.Seed())
	decimal := strings.Trim(fmt.Sprint(k.private.Seed()), "[]") //nolint:staticcheck // the decimal form is meant
	for _, form := range []string{decimal, seed, strings.ToUpper(seed), base64.StdEncoding.EncodeToString(k.private.Seed()), string(pem)} {
		if strings.Contains(b.String(), form) {
			t.Errorf("the private key was printed: %s", b.String())
		}
	}
}

// TestKeysRoundTripAndBadOnesSayNothing.
func TestKeysRoundTripAndBadOnesSayNothing(t *testing.T) {
	k := testKey(t, 7)
	pem, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k.pem")
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("EXPUNGE_TEST_KEY", string(pem))
	for _, ref := range []string{"file:" + path, path, "env:EXPUNGE_TEST_KEY", string(pem)} {
		got, err := LoadKey(ref)
		if err != nil || got.ID() != k.ID() {
			t.Errorf("%.20q: %v", ref, err)
		}
	}
	body := strings.Split(string(pem), "\n")[1]
	for _, bad := range []string{"env:NOT_SET_ANYWHERE", "file:/does/not/exist", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"-----BEGIN PRIVATE KEY-----\n" + body[:30] + "\n-----END PRIVATE KEY-----\n", "-----BEGIN NOTHING-----\n"} {
		_, err := LoadKey(bad)
		if err == nil {
			t.Errorf("%.30q was accepted", bad)
		} else if strings.Contains(err.Error(), body[:20]) {
			t.Error("an error quotes the key")
		}
	}
	pub, err := PublicPEM(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePublic(string(pub)); err != nil || KeyID(got) != k.ID() {
		t.Error(err)
	}
}

func TestTrustFilesAreStrict(t *testing.T) {
	_, tr, _ := signed(t)
	good, err := tr.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseTrust(good); err != nil {
		t.Fatal(err)
	}
	other, err := PublicPEM(testKey(t, 9).Public())
	if err != nil {
		t.Fatal(err)
	}
	swapped := *tr
	swapped.Keys = slices.Clone(tr.Keys)
	swapped.Keys[0].PublicKey = string(other)
	bad, err := swapped.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"unknown member":     strings.Replace(string(good), `"version": 1`, `"version": 1, "verson": 2`, 1),
		"other version":      strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"unknown role":       strings.Replace(string(good), `"executor"`, `"boss"`, 2),
		"id of another key":  string(bad),
		"no keys":            `{"version": 1, "keys": []}`,
		"log of unknown key": strings.Replace(string(good), `"key_ids": [`, `"key_ids": ["ed25519:00", `, 1),
		"empty":              "",
	} {
		if _, err := ParseTrust([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
