package jobs

import (
	"context"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/kms"
	"github.com/expunge/expunge/internal/state"
)

// StateOptions say how the state bucket keeps the secrets of runs: where, and
// wrapped by what. nil = in the bucket, unwrapped.
func StateOptions(ctx context.Context, s *configs.Secrets) ([]state.Option, error) {
	if s == nil {
		return nil, nil
	}
	var out []state.Option
	if s.Location != "" {
		out = append(out, state.WithSecrets(s.Location))
	}
	if len(s.Wrap) == 0 {
		return out, nil
	}
	if !strings.HasPrefix(s.Wrap[0], "age1") {
		w, err := kms.OpenWrapper(ctx, s.Wrap[0])
		if err != nil {
			return nil, fmt.Errorf("secrets.wrap: %w", err)
		}
		return append(out, state.WithWrapper(w)), nil
	}
	w := &state.Age{}
	for _, text := range s.Wrap {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return nil, fmt.Errorf("secrets.wrap: %w: not an age recipient", ErrUsage)
		}
		w.Recipients = append(w.Recipients, r)
	}
	if s.Identity != "" {
		text, err := kms.ReadSecretText(s.Identity)
		if err != nil {
			return nil, fmt.Errorf("secrets.identity: %w", err)
		}
		// The parser's own error may quote the identity.
		if w.Identities, err = age.ParseIdentities(strings.NewReader(text)); err != nil {
			return nil, fmt.Errorf("secrets.identity: %w: not a file of age identities", ErrUsage)
		}
	}
	return append(out, state.WithWrapper(w)), nil
}
