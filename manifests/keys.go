package manifests

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Errors of keys. They never hold key material or the text that was read.
var (
	// ErrKey: a key reference or PEM text is unusable.
	ErrKey = errors.New("unusable key")
)

// Signer signs bytes with Ed25519. Key is the built-in one; a key management
// service fits in behind the same two methods.
type Signer interface {
	// Public is the signer's public key; its id follows from it.
	Public() ed25519.PublicKey
	// Sign returns the Ed25519 signature (RFC 8032, no pre-hash) of msg.
	Sign(msg []byte) ([]byte, error)
}

// Key is an Ed25519 private key held in memory.
type Key struct{ private ed25519.PrivateKey }

// GenerateKey makes a key from r, by default the system's random source.
func GenerateKey(r io.Reader) (*Key, error) {
	if r == nil {
		r = rand.Reader
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(r, seed); err != nil {
		return nil, fmt.Errorf("read random bytes: %w", err)
	}
	return &Key{ed25519.NewKeyFromSeed(seed)}, nil
}

// LoadKey reads a private key: "file:/path/to.key", "env:NAME", a plain path,
// or PEM text itself.
func LoadKey(ref string) (*Key, error) {
	text, err := ReadKeyText(ref)
	if err != nil {
		return nil, err
	}
	return ParseKey(text)
}

// ParseKey reads a private key from PEM (PKCS#8, RFC 8410).
func ParseKey(text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%w: want a PEM block \"PRIVATE KEY\" (PKCS#8)", ErrKey)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: not PKCS#8", ErrKey) // the cause could quote the key
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: not an Ed25519 key", ErrKey)
	}
	return &Key{priv}, nil
}

// ReadKeyText reads what LoadKey parses.
func ReadKeyText(ref string) ([]byte, error) {
	if strings.HasPrefix(ref, "-----BEGIN ") {
		return []byte(ref), nil
	}
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		v := os.Getenv(name)
		if v == "" {
			return nil, fmt.Errorf("%w: environment variable %s is not set", ErrKey, name)
		}
		return []byte(v), nil
	}
	path := strings.TrimPrefix(strings.TrimPrefix(ref, "file:"), "//")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return b, nil
}

// ID is the key id.
func (k Key) ID() string { return KeyID(k.Public()) }

// Public is the public key.
func (k Key) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// Sign implements Signer.
func (k Key) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(k.private, msg), nil }

// PEM is the private key as PKCS#8 PEM. Write it with mode 0600.
func (k Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Format keeps the key out of logs, whatever the verb, also by value.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprint(s, "key "+k.ID()) }

// PublicPEM is a public key as PKIX PEM.
func PublicPEM(pub ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublic reads a public key from PEM (PKIX) or from the base64 of its DER.
func ParsePublic(text string) (ed25519.PublicKey, error) {
	der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if block, _ := pem.Decode([]byte(text)); block != nil && block.Type == "PUBLIC KEY" {
		der, err = block.Bytes, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: want PEM \"PUBLIC KEY\" or base64", ErrKey)
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: not PKIX", ErrKey)
	}
	pub, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: not an Ed25519 key", ErrKey)
	}
	return pub, nil
}

// KeyID names a public key: "ed25519:" and the first 16 bytes, in hex, of the
// SHA-256 of its PKIX encoding.
func KeyID(pub ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "ed25519:" + hex.EncodeToString(sum[:16])
}
