package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/expunge/expunge/internal/storage"
)

// Wrapper protects run secrets at rest, for example with a key that a KMS or a
// second person holds.
type Wrapper interface {
	Name() string // stored beside what it wrapped
	Wrap(ctx context.Context, secret []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// errUnwrap: the secret is there, and this process has not what opens it.
var errUnwrap = errors.New("run secret can't be unwrapped here")

// storedSecret is the content of secrets/<run>.
type storedSecret struct {
	Version int    `json:"version"`
	Wrap    string `json:"wrap,omitempty"` // name of the wrapper
	Secret  []byte `json:"secret"`
}

func (s *State) storeSecret(ctx context.Context, id string, secret []byte) error {
	stored := storedSecret{Version: 1, Secret: secret}
	if s.wrapper != nil {
		wrapped, err := s.wrapper.Wrap(ctx, secret)
		if err != nil {
			return fmt.Errorf("wrap secret: %w", err)
		}
		stored.Wrap, stored.Secret = s.wrapper.Name(), wrapped
	}
	data, err := json.Marshal(stored)
	if err != nil {
		return fmt.Errorf("encode secret: %w", err)
	}
	return storage.WriteAll(ctx, s.store, s.secrets+id, data, storage.CreateOptions{IfNotExists: true, Private: true})
}

func (s *State) loadSecret(ctx context.Context, id string) ([]byte, error) {
	data, err := storage.ReadAll(ctx, s.store, s.secrets+id)
	if err != nil {
		return nil, err
	}
	var stored storedSecret
	if json.Unmarshal(data, &stored) != nil || stored.Version != 1 {
		return nil, fmt.Errorf("read secret: %w", ErrCorrupt)
	}
	secret := stored.Secret
	if stored.Wrap != "" {
		if s.wrapper == nil || s.wrapper.Name() != stored.Wrap {
			return nil, fmt.Errorf("%w: it is wrapped by %q", errUnwrap, stored.Wrap)
		}
		if secret, err = s.wrapper.Unwrap(ctx, stored.Secret); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnwrap, err)
		}
	}
	if len(secret) != 32 {
		return nil, fmt.Errorf("read secret: %w", ErrCorrupt)
	}
	return secret, nil
}

// removeSecret removes the secret and every older version of its object.
func (s *State) removeSecret(ctx context.Context, id string) error {
	path := s.secrets + id
	if err := s.store.Remove(ctx, path); err != nil && !storage.IsNotExist(err) {
		return err
	}
	for v, err := range storage.Versions(ctx, s.store, path) {
		if errors.Is(err, storage.ErrUnsupported) {
			break
		}
		if err != nil {
			return err
		}
		if v.Path != path { // a run whose id starts with this one
			continue
		}
		if err := storage.RemoveVersion(ctx, s.store, v); err != nil && !storage.IsNotExist(err) {
			return err
		}
	}
	if _, err := storage.Stat(ctx, s.store, path); !storage.IsNotExist(err) {
		if err == nil {
			err = errors.New("secret is still there")
		}
		return err
	}
	return nil
}

// Age wraps secrets for age recipients (age-encryption.org/v1). A process with
// recipients alone can start runs; only one with an identity can resume them.
type Age struct {
	Recipients []age.Recipient
	Identities []age.Identity
}

// Name is "age".
func (a *Age) Name() string { return "age" }

// Wrap encrypts for every recipient.
func (a *Age) Wrap(_ context.Context, secret []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, a.Recipients...)
	if err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	if _, err := w.Write(secret); err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	return buf.Bytes(), nil
}

// Unwrap decrypts with the first identity that fits.
func (a *Age) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	if len(a.Identities) == 0 {
		return nil, errors.New("age: no identity configured")
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), a.Identities...)
	if err != nil {
		return nil, fmt.Errorf("age: %w", err)
	}
	return io.ReadAll(io.LimitReader(r, 1<<10))
}
