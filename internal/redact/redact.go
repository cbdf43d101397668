// Package redact turns what may be personal into what may be written down.
package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Digest is a keyed digest of s, in hex: without the secret it can't be
// linked to s, not even by trying every possible value.
func Digest(secret []byte, s string) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(s))
	return hex.EncodeToString(h.Sum(nil))
}
