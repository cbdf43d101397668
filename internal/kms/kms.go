// Package kms opens keys that a key management service holds: signers of
// manifests, and keys that wrap the secrets of runs.
//
// A back end is a package that registers its URL scheme and is imported for its
// effect, so that a program links only the services that it uses:
//
//	awskms:///alias/NAME?region=R           wraps
//	gcpkms://projects/…/cryptoKeys/NAME     wraps; with /cryptoKeyVersions/N it signs
//	hashivault://NAME?mount=transit         wraps and signs, each by the key's type
//
// ?endpoint=URL names another server than the service's own.
//
// AWS KMS signs at most 4,096 bytes with a plain Ed25519 key, and a manifest is
// larger. There, and wherever a key shall not be one more thing that a network
// outage stops, a signing key is kept in a file that the service's key wraps:
// see Wrap and OpenKey.
package kms

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/expunge/expunge/manifests"
)

// ErrRef: a reference to a key is unusable.
var ErrRef = errors.New("unusable key reference")

// Wrapper protects small secrets at rest. Name says by which key, and is stored
// beside what it wrapped.
type Wrapper interface {
	Name() string
	Wrap(ctx context.Context, secret []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// Signer signs with an Ed25519 key that stays in the service.
type Signer interface {
	Public() ed25519.PublicKey
	Sign(msg []byte) ([]byte, error)
}

// Backend opens the keys of one service. A nil function is something that the
// service cannot do; why says so.
type Backend struct {
	Signer  func(ctx context.Context, key, endpoint string, q url.Values) (Signer, error)
	Wrapper func(ctx context.Context, key, endpoint string, q url.Values) (Wrapper, error)
	NoSigns string // why Signer is nil
}

var (
	mu       sync.Mutex
	backends = map[string]Backend{}
)

// Register makes a service's scheme known.
func Register(scheme string, b Backend) {
	mu.Lock()
	defer mu.Unlock()
	backends[scheme] = b
}

// IsRef says whether a reference is a URL of a key management service.
func IsRef(ref string) bool {
	scheme, _, ok := strings.Cut(ref, "://")
	return ok && strings.HasSuffix(scheme, "kms") || strings.HasPrefix(ref, "hashivault://")
}

func parse(ref string) (b Backend, key, endpoint string, q url.Values, err error) {
	scheme, rest, _ := strings.Cut(ref, "://")
	mu.Lock()
	b, ok := backends[scheme]
	mu.Unlock()
	if !ok {
		return b, "", "", nil, fmt.Errorf("%w: %s is not part of this build", ErrRef, scheme)
	}
	key, query, _ := strings.Cut(rest, "?")
	if q, err = url.ParseQuery(query); err != nil {
		return b, "", "", nil, fmt.Errorf("%w: %s: not a URL", ErrRef, scheme)
	}
	if key = strings.Trim(key, "/"); key == "" {
		return b, "", "", nil, fmt.Errorf("%w: %s names no key", ErrRef, scheme)
	}
	return b, key, q.Get("endpoint"), q, nil
}

// OpenSigner opens a key for signing.
func OpenSigner(ctx context.Context, ref string) (Signer, error) {
	b, key, endpoint, q, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if b.Signer == nil {
		return nil, fmt.Errorf("%w: %s", ErrRef, b.NoSigns)
	}
	return b.Signer(ctx, key, endpoint, q)
}

// OpenWrapper opens a key for wrapping.
func OpenWrapper(ctx context.Context, ref string) (Wrapper, error) {
	b, key, endpoint, q, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if b.Wrapper == nil {
		return nil, fmt.Errorf("%w: this service wraps no secrets", ErrRef)
	}
	return b.Wrapper(ctx, key, endpoint, q)
}

// manifests.Signer is what a Signer has to be.
var _ manifests.Signer = Signer(nil)
