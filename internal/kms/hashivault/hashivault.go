// Package hashivault signs and wraps with keys of the transit engine of
// HashiCorp Vault, and of OpenBao, which speaks the same protocol. Import it
// for its effect. Address, token, namespace and TLS come from Vault's own
// environment variables (VAULT_ADDR, VAULT_TOKEN …); ?mount= names another
// mount than transit.
package hashivault

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	keys "github.com/expunge/expunge/internal/kms"
)

func init() { keys.Register("hashivault", keys.Backend{Signer: openSigner, Wrapper: openWrapper}) }

// signTimeout bounds one signature: the Signer interface has no context.
const signTimeout = 30 * time.Second

type key struct {
	client      *api.Client
	mount, name string
}

func open(name, endpoint string, q url.Values) (*key, error) {
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		return nil, fmt.Errorf("vault: %w", cfg.Error)
	}
	if endpoint != "" {
		cfg.Address = endpoint
	}
	c, err := api.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	k := &key{c, q.Get("mount"), name}
	if k.mount == "" {
		k.mount = "transit"
	}
	return k, nil
}

// call posts to the transit engine and returns one string of the answer.
func (k *key) call(ctx context.Context, op, want string, body map[string]any) (string, error) {
	s, err := k.client.Logical().WriteWithContext(ctx, k.mount+"/"+op+"/"+k.name, body)
	if err != nil {
		return "", fmt.Errorf("vault %s: %w", op, err)
	}
	if s == nil {
		return "", fmt.Errorf("vault %s: no answer", op)
	}
	v, ok := s.Data[want].(string)
	if !ok {
		return "", fmt.Errorf("vault %s: no %s in the answer", op, want)
	}
	return v, nil
}

type signer struct {
	*key
	ctx     context.Context // of the opener, for the calls that the interface gives none to
	public  ed25519.PublicKey
	version json.Number
}

func openSigner(ctx context.Context, name, endpoint string, q url.Values) (keys.Signer, error) {
	k, err := open(name, endpoint, q)
	if err != nil {
		return nil, err
	}
	s, err := k.client.Logical().ReadWithContext(ctx, k.mount+"/keys/"+k.name)
	if err != nil {
		return nil, fmt.Errorf("vault key: %w", err)
	}
	if s == nil {
		return nil, fmt.Errorf("%w: vault has no key %s in %s", keys.ErrRef, k.name, k.mount)
	}
	if s.Data["type"] != "ed25519" {
		return nil, fmt.Errorf("%w: the vault key is of type %v, want ed25519", keys.ErrRef, s.Data["type"])
	}
	version, _ := s.Data["latest_version"].(json.Number)
	versions, _ := s.Data["keys"].(map[string]any)
	latest, _ := versions[version.String()].(map[string]any)
	text, _ := latest["public_key"].(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: vault gives no public key", keys.ErrRef)
	}
	return &signer{k, context.WithoutCancel(ctx), raw, version}, nil
}

// Public implements manifests.Signer.
func (s *signer) Public() ed25519.PublicKey { return s.public }

// Sign implements manifests.Signer. It signs with the version whose public key
// it gave, also when the key is rotated meanwhile.
func (s *signer) Sign(msg []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, signTimeout)
	defer cancel()
	text, err := s.call(ctx, "sign", "signature", map[string]any{"input": base64.StdEncoding.EncodeToString(msg), "key_version": s.version})
	if err != nil {
		return nil, err
	}
	parts := strings.Split(text, ":") // vault:v1:base64
	return base64.StdEncoding.DecodeString(parts[len(parts)-1])
}

type wrapper struct{ *key }

func openWrapper(_ context.Context, name, endpoint string, q url.Values) (keys.Wrapper, error) {
	k, err := open(name, endpoint, q)
	if err != nil {
		return nil, err
	}
	return wrapper{k}, nil
}

// Name implements kms.Wrapper.
func (w wrapper) Name() string { return "hashivault://" + w.name }

// Wrap implements kms.Wrapper.
func (w wrapper) Wrap(ctx context.Context, secret []byte) ([]byte, error) {
	text, err := w.call(ctx, "encrypt", "ciphertext", map[string]any{"plaintext": base64.StdEncoding.EncodeToString(secret)})
	return []byte(text), err
}

// Unwrap implements kms.Wrapper.
func (w wrapper) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	text, err := w.call(ctx, "decrypt", "plaintext", map[string]any{"ciphertext": string(wrapped)})
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}
