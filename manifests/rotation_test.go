package manifests

import (
	"context"
	"errors"
	"testing"
)

// TestRotatedKeysSignInTheirTimeAlone: what the old key signed before stays
// valid, what it signs after is refused as expired, and the new key takes over,
// log included.
func TestRotatedKeysSignInTheirTimeAlone(t *testing.T) {
	ctx := context.Background()
	old, fresh := testKey(t, 1), testKey(t, 3)
	tr := testTrust(t, old, testKey(t, 2))
	k, err := Trusted(fresh.Public(), "2027", RoleExecutor, RoleLog)
	if err != nil {
		t.Fatal(err)
	}
	day := at("2026-11-02T12:00:00Z")
	k.NotBefore = &day
	if err := tr.Rotate(old.ID(), k); err != nil {
		t.Fatal(err)
	}
	text, err := tr.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if tr, err = ParseTrust(text); err != nil {
		t.Fatal(err)
	}
	s := newMemLog()
	check := func(key *Key, end string) error {
		m, _ := sample(t, "run-"+key.ID()[8:12]+end[8:10])
		m.Times.End = at(end)
		env, err := Sign(ctx, m, key)
		if err != nil {
			t.Fatal(err)
		}
		l, err := OpenLog(s, testOrigin, key, tr.LogKeys(testOrigin)...)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := l.Append(ctx, env)
		if err != nil {
			t.Fatal(err)
		}
		_, checks := Verify(ctx, Bundle{Envelope: env, Proof: proof}, tr)
		for _, c := range checks {
			if !c.OK && !c.Skipped {
				return c.Err
			}
		}
		return nil
	}
	for _, c := range []struct {
		name string
		key  *Key
		end  string
		want error
	}{
		{"old, before", old, "2026-11-02T04:20:00Z", nil},
		{"new, before", fresh, "2026-11-02T04:20:00Z", ErrExpiredKey},
		{"old, after", old, "2026-11-03T04:20:00Z", ErrExpiredKey},
		{"new, after", fresh, "2026-11-03T04:20:00Z", nil},
	} {
		if err := check(c.key, c.end); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := tr.Rotate("ed25519:00", k); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("an unknown key was replaced: %v", err)
	}
}
