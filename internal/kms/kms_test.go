package kms_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/expunge/expunge/internal/kms"
	_ "github.com/expunge/expunge/internal/kms/awskms"
	_ "github.com/expunge/expunge/internal/kms/gcpkms"
	_ "github.com/expunge/expunge/internal/kms/hashivault"
	"github.com/expunge/expunge/manifests"
)

// fake speaks as much of the three services' HTTP as a client needs. What it
// "encrypts" it reverses, and it refuses another purpose than it was given.
type fake struct {
	private ed25519.PrivateKey
	paths   []string
}

func newFake(t *testing.T) (*fake, *httptest.Server) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{private: key}
	srv := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(srv.Close)
	t.Setenv("VAULT_TOKEN", "t")
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	return f, srv
}

func (f *fake) public() ed25519.PublicKey { return f.private.Public().(ed25519.PublicKey) }

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.paths = append(f.paths, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Amz-Target"))
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	var out any
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		out = f.aws(r, in)
	case strings.HasPrefix(r.URL.Path, "/v1/projects/"):
		out = f.gcp(r, in)
	case strings.HasPrefix(r.URL.Path, "/v1/transit/"):
		out = f.vault(r, in)
	}
	if out == nil {
		http.Error(w, `{"errors":["no"]}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

func reversed(text any) string {
	s, _ := text.(string)
	b, _ := base64.StdEncoding.DecodeString(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return base64.StdEncoding.EncodeToString(b)
}

func (f *fake) sign(text any) string {
	s, _ := text.(string)
	b, _ := base64.StdEncoding.DecodeString(s)
	return base64.StdEncoding.EncodeToString(ed25519.Sign(f.private, b))
}

func (f *fake) aws(r *http.Request, in map[string]any) any {
	c, _ := in["EncryptionContext"].(map[string]any)
	if c["purpose"] != "expunge" || in["KeyId"] != "alias/wrap" {
		return nil
	}
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Encrypt") {
		return map[string]any{"CiphertextBlob": reversed(in["Plaintext"])}
	}
	return map[string]any{"Plaintext": reversed(in["CiphertextBlob"])}
}

func (f *fake) gcp(r *http.Request, in map[string]any) any {
	switch {
	case strings.HasSuffix(r.URL.Path, "/publicKey"):
		pem, _ := manifests.PublicPEM(f.public())
		return map[string]any{"pem": string(pem), "algorithm": "EC_SIGN_ED25519"}
	case strings.HasSuffix(r.URL.Path, ":asymmetricSign"):
		return map[string]any{"signature": f.sign(in["data"])}
	case strings.HasSuffix(r.URL.Path, ":encrypt"):
		return map[string]any{"ciphertext": reversed(in["plaintext"])}
	case strings.HasSuffix(r.URL.Path, ":decrypt"):
		return map[string]any{"plaintext": reversed(in["ciphertext"])}
	}
	return nil
}

func (f *fake) vault(r *http.Request, in map[string]any) any {
	data := map[string]any{}
	switch {
	case strings.Contains(r.URL.Path, "/keys/"):
		data["type"], data["latest_version"] = "ed25519", 2
		data["keys"] = map[string]any{"1": map[string]any{"public_key": "AAAA"},
			"2": map[string]any{"public_key": base64.StdEncoding.EncodeToString(f.public())}}
	case strings.Contains(r.URL.Path, "/sign/"):
		if v, _ := in["key_version"].(float64); v != 2 {
			return nil
		}
		data["signature"] = "vault:v2:" + f.sign(in["input"])
	case strings.Contains(r.URL.Path, "/encrypt/"):
		data["ciphertext"] = "vault:v1:" + reversed(in["plaintext"])
	case strings.Contains(r.URL.Path, "/decrypt/"):
		data["plaintext"] = reversed(strings.TrimPrefix(in["ciphertext"].(string), "vault:v1:"))
	}
	return map[string]any{"data": data}
}

const gcpKey = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"

// TestAKeyInAServiceSignsAManifest that verifies like any other.
func TestAKeyInAServiceSignsAManifest(t *testing.T) {
	f, srv := newFake(t)
	for _, ref := range []string{"gcpkms://" + gcpKey + "/cryptoKeyVersions/1?endpoint=" + srv.URL + "/", "hashivault://sign?endpoint=" + srv.URL} {
		s, err := kms.OpenKey(context.Background(), ref)
		if err != nil {
			t.Fatal(ref, err)
		}
		if !s.Public().Equal(f.public()) {
			t.Fatalf("%s: another public key", ref)
		}
		env, err := manifests.SignPayload(context.Background(), []byte("{}"), s)
		if err != nil {
			t.Fatal(ref, err)
		}
		msg := bytes.Repeat([]byte("m"), 9000)
		sig, err := s.Sign(msg)
		if err != nil || !ed25519.Verify(f.public(), msg, sig) || len(env) == 0 {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestAServiceWrapsSecretsAndSigningKeys(t *testing.T) {
	_, srv := newFake(t)
	ctx := context.Background()
	secret := []byte("the secret of a run, 32 bytes of")
	for _, ref := range []string{
		"awskms:///alias/wrap?region=eu-central-1&endpoint=" + srv.URL,
		"gcpkms://" + gcpKey + "?endpoint=" + srv.URL + "/",
		"hashivault://wrap?endpoint=" + srv.URL,
	} {
		w, err := kms.OpenWrapper(ctx, ref)
		if err != nil {
			t.Fatal(ref, err)
		}
		wrapped, err := w.Wrap(ctx, secret)
		if err != nil || bytes.Contains(wrapped, secret) {
			t.Fatalf("%s: %v", ref, err)
		}
		if back, err := w.Unwrap(ctx, wrapped); err != nil || !bytes.Equal(back, secret) {
			t.Errorf("%s: %q, %v", ref, back, err)
		}
		if strings.Contains(w.Name(), srv.URL) {
			t.Errorf("%s: the name %q says where the service is", ref, w.Name())
		}
		key, err := manifests.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := kms.Wrap(ctx, key, ref)
		if err != nil {
			t.Fatal(ref, err)
		}
		plain, err := key.PEM()
		if err != nil || bytes.Contains(body, plain[30:60]) {
			t.Fatalf("the wrapped file holds the key: %v", err)
		}
		name := filepath.Join(t.TempDir(), "run.key")
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := kms.OpenKey(ctx, "file:"+name)
		if err != nil || !s.Public().Equal(key.Public()) {
			t.Errorf("%s: open the wrapped key: %v", ref, err)
		}
	}
}

func TestWhatAServiceCannotDoIsSaid(t *testing.T) {
	_, srv := newFake(t)
	for ref, want := range map[string]string{
		"awskms:///alias/verify":                      "4,096 bytes",
		"gcpkms://" + gcpKey + "?endpoint=" + srv.URL: "key version",
		"azurekms://vault/key":                        "not part of this build",
		"hashivault://":                               "names no key",
	} {
		if _, err := kms.OpenKey(context.Background(), ref); !errors.Is(err, kms.ErrRef) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
	}
	t.Setenv("VAULT_MAX_RETRIES", "0")
	srv.Close()
	if _, err := kms.OpenKey(context.Background(), "hashivault://sign?endpoint="+srv.URL); err == nil {
		t.Error("a service that is gone gave a key")
	}
}
