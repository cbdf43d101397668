// Package gcpkms signs and wraps with keys of Google Cloud KMS. Import it for
// its effect. Credentials are the application default ones.
package gcpkms

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/api/cloudkms/v1"
	"google.golang.org/api/option"

	keys "github.com/expunge/expunge/internal/kms"
	"github.com/expunge/expunge/manifests"
)

func init() { keys.Register("gcpkms", keys.Backend{Signer: openSigner, Wrapper: openWrapper}) }

// maxData is what the service signs at once (AsymmetricSignRequest.data).
const maxData = 64 << 10

// signTimeout bounds one signature: the Signer interface has no context.
const signTimeout = 30 * time.Second

func service(ctx context.Context, endpoint string) (*cloudkms.Service, error) {
	var o []option.ClientOption
	if endpoint != "" {
		o = append(o, option.WithEndpoint(endpoint), option.WithoutAuthentication())
	}
	s, err := cloudkms.NewService(ctx, o...)
	if err != nil {
		return nil, fmt.Errorf("google cloud kms: %w", err)
	}
	return s, nil
}

type signer struct {
	ctx     context.Context // of the opener, for the calls that the interface gives none to
	service *cloudkms.Service
	name    string
	public  ed25519.PublicKey
}

func openSigner(ctx context.Context, key, endpoint string, _ url.Values) (keys.Signer, error) {
	if !strings.Contains(key, "/cryptoKeyVersions/") {
		return nil, fmt.Errorf("%w: gcpkms signs with a key version: projects/…/cryptoKeys/NAME/cryptoKeyVersions/1", keys.ErrRef)
	}
	s, err := service(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	pub, err := s.Projects.Locations.KeyRings.CryptoKeys.CryptoKeyVersions.GetPublicKey(key).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("google cloud kms public key: %w", err)
	}
	public, err := manifests.ParsePublic(pub.Pem)
	if err != nil {
		return nil, fmt.Errorf("google cloud kms: the key's algorithm is %s, want EC_SIGN_ED25519: %w", pub.Algorithm, err)
	}
	return &signer{context.WithoutCancel(ctx), s, key, public}, nil
}

// Public implements manifests.Signer.
func (s *signer) Public() ed25519.PublicKey { return s.public }

// Sign implements manifests.Signer.
func (s *signer) Sign(msg []byte) ([]byte, error) {
	if len(msg) > maxData {
		return nil, fmt.Errorf("google cloud kms signs at most %d bytes, the statement has %d: keep a signing key in a file that a KMS key wraps (expunge keygen --wrap gcpkms://…)", maxData, len(msg))
	}
	ctx, cancel := context.WithTimeout(s.ctx, signTimeout)
	defer cancel()
	out, err := s.service.Projects.Locations.KeyRings.CryptoKeys.CryptoKeyVersions.AsymmetricSign(s.name,
		&cloudkms.AsymmetricSignRequest{Data: base64.StdEncoding.EncodeToString(msg)}).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("google cloud kms sign: %w", err)
	}
	return base64.StdEncoding.DecodeString(out.Signature)
}

type wrapper struct {
	service *cloudkms.Service
	name    string
}

func openWrapper(ctx context.Context, key, endpoint string, _ url.Values) (keys.Wrapper, error) {
	s, err := service(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	return &wrapper{s, key}, nil
}

// Name implements kms.Wrapper.
func (w *wrapper) Name() string { return "gcpkms://" + w.name }

var purpose = base64.StdEncoding.EncodeToString([]byte("expunge"))

// Wrap implements kms.Wrapper.
func (w *wrapper) Wrap(ctx context.Context, secret []byte) ([]byte, error) {
	out, err := w.service.Projects.Locations.KeyRings.CryptoKeys.Encrypt(w.name,
		&cloudkms.EncryptRequest{Plaintext: base64.StdEncoding.EncodeToString(secret), AdditionalAuthenticatedData: purpose}).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("google cloud kms encrypt: %w", err)
	}
	return base64.StdEncoding.DecodeString(out.Ciphertext)
}

// Unwrap implements kms.Wrapper.
func (w *wrapper) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	out, err := w.service.Projects.Locations.KeyRings.CryptoKeys.Decrypt(w.name,
		&cloudkms.DecryptRequest{Ciphertext: base64.StdEncoding.EncodeToString(wrapped), AdditionalAuthenticatedData: purpose}).Context(ctx).Do()
	if err != nil {
		return nil, fmt.Errorf("google cloud kms decrypt: %w", err)
	}
	return base64.StdEncoding.DecodeString(out.Plaintext)
}
