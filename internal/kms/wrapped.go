package kms

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/expunge/expunge/manifests"
)

// A wrapped key file is PEM: the private key's own PEM, wrapped, with the
// reference of the key that unwraps it.
const (
	wrappedType   = "EXPUNGE WRAPPED KEY"
	wrappedHeader = "Wrapped-By"
)

// Wrap brings a signing key to the form of a file that only the wrapping key opens.
func Wrap(ctx context.Context, k *manifests.Key, ref string) ([]byte, error) {
	w, err := OpenWrapper(ctx, ref)
	if err != nil {
		return nil, err
	}
	plain, err := k.PEM()
	if err != nil {
		return nil, err
	}
	body, err := w.Wrap(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("wrap signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: wrappedType, Headers: map[string]string{wrappedHeader: ref}, Bytes: body}), nil
}

// OpenKey opens whatever a reference names for signing: file:/path, a path or
// env:NAME with a private key, wrapped or not, or a key that stays in a service.
func OpenKey(ctx context.Context, ref string) (manifests.Signer, error) {
	if IsRef(ref) {
		return OpenSigner(ctx, ref)
	}
	text, err := manifests.ReadKeyText(ref)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != wrappedType {
		return keyOrNil(manifests.ParseKey(text))
	}
	w, err := OpenWrapper(ctx, block.Headers[wrappedHeader])
	if err != nil {
		return nil, fmt.Errorf("wrapped signing key: %w", err)
	}
	plain, err := w.Unwrap(ctx, block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("unwrap signing key: %w", err)
	}
	defer clear(plain)
	return keyOrNil(manifests.ParseKey(plain))
}

func keyOrNil(k *manifests.Key, err error) (manifests.Signer, error) {
	if err != nil {
		return nil, err
	}
	return k, nil
}

// ReadSecretText reads a secret named by file:/path, a path, or env:NAME.
func ReadSecretText(ref string) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		v := os.Getenv(name)
		if v == "" {
			return "", fmt.Errorf("%w: environment variable %s is not set", ErrRef, name)
		}
		return v, nil
	}
	b, err := os.ReadFile(strings.TrimPrefix(ref, "file:"))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return string(b), nil
}
