// Package awskms wraps secrets with a symmetric key of AWS KMS. Import it for
// its effect. Region and credentials are the default chain's; ?region= wins.
package awskms

import (
	"context"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	keys "github.com/expunge/expunge/internal/kms"
)

func init() {
	keys.Register("awskms", keys.Backend{Wrapper: open,
		NoSigns: "AWS KMS signs at most 4,096 bytes with Ed25519 and a manifest is larger: keep a signing key in a file that the KMS key wraps (expunge keygen --wrap awskms:///…)"})
}

type key struct {
	client *kms.Client
	id     string
}

func open(ctx context.Context, id, endpoint string, q url.Values) (keys.Wrapper, error) {
	var o []func(*config.LoadOptions) error
	if r := q.Get("region"); r != "" {
		o = append(o, config.WithRegion(r))
	}
	cfg, err := config.LoadDefaultConfig(ctx, o...)
	if err != nil {
		return nil, fmt.Errorf("aws configuration: %w", err)
	}
	return &key{id: id, client: kms.NewFromConfig(cfg, func(o *kms.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})}, nil
}

// Name implements kms.Wrapper.
func (k *key) Name() string { return "awskms:///" + k.id }

// purpose is the encryption context: what is wrapped for expunge opens for nothing else.
var purpose = map[string]string{"purpose": "expunge"}

// Wrap implements kms.Wrapper.
func (k *key) Wrap(ctx context.Context, secret []byte) ([]byte, error) {
	out, err := k.client.Encrypt(ctx, &kms.EncryptInput{KeyId: &k.id, Plaintext: secret, EncryptionContext: purpose})
	if err != nil {
		return nil, fmt.Errorf("aws kms encrypt: %w", err)
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements kms.Wrapper.
func (k *key) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{KeyId: &k.id, CiphertextBlob: wrapped, EncryptionContext: purpose})
	if err != nil {
		return nil, fmt.Errorf("aws kms decrypt: %w", err)
	}
	return out.Plaintext, nil
}
