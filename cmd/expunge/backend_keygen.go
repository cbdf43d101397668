package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/kms"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

func keygen(ctx context.Context, _ cli.Env, r cli.KeygenRequest) (*cli.KeygenResponse, error) {
	key, err := manifests.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	private, err := key.PEM()
	if r.Wrap != "" {
		private, err = kms.Wrap(ctx, key, r.Wrap)
	}
	if err != nil {
		return nil, err
	}
	public, err := manifests.PublicPEM(key.Public())
	if err != nil {
		return nil, err
	}
	var trust *manifests.Trust
	if r.Trust != "" { // before anything is written
		if trust, err = extendTrust(ctx, r, key.Public()); err != nil {
			return nil, fmt.Errorf("trust file: %w", err)
		}
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if r.Force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	if err := writeFile(r.Output, flags, 0o600, private); err != nil {
		return nil, fmt.Errorf("write private key: %w", err)
	}
	if err := writeFile(r.Output+".pub", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644, public); err != nil {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	out := &cli.KeygenResponse{Private: r.Output, Public: path.Clean(r.Output + ".pub"), KeyID: key.ID()}
	if trust == nil {
		return out, nil
	}
	text, err := trust.JSON()
	if err != nil {
		return nil, err
	}
	// In one step: a reader finds the old file or the new one.
	if err := writeFile(r.Trust+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644, text); err != nil {
		return nil, fmt.Errorf("write trust file: %w", err)
	}
	if err := os.Rename(r.Trust+".new", r.Trust); err != nil {
		return nil, fmt.Errorf("write trust file: %w", err)
	}
	out.Trust = r.Trust
	return out, nil
}

// extendTrust adds a key to the trust file, and ends the validity of the one it follows.
func extendTrust(ctx context.Context, r cli.KeygenRequest, pub ed25519.PublicKey) (*manifests.Trust, error) {
	k, err := manifests.Trusted(pub, r.Name, r.Roles...)
	if err != nil {
		return nil, err
	}
	k.NotBefore, k.NotAfter = when(r.NotBefore), when(r.NotAfter)
	raw, err := os.ReadFile(r.Trust)
	if errors.Is(err, fs.ErrNotExist) {
		if r.Replaces != "" {
			return nil, fmt.Errorf("no key %s to replace: %w", r.Replaces, jobs.ErrUsage)
		}
		return manifests.NewTrust(k)
	}
	if err != nil {
		return nil, err
	}
	t, err := manifests.ParseTrust(raw)
	if err != nil {
		return nil, err
	}
	if r.Replaces == "" {
		return t, t.Add(k)
	}
	if k.NotBefore == nil {
		now := clock.Now(ctx) // not rounded: what the old key signed this second stays valid
		k.NotBefore = &now
	}
	return t, t.Rotate(r.Replaces, k)
}
