// Package redact turns what may be personal into what may be written down.
package redact

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"sync"
)

// Digest is a keyed digest of s, in hex: without the secret it can't be
// linked to s, not even by trying every possible value.
func Digest(secret []byte, s string) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(s))
	return hex.EncodeToString(h.Sum(nil))
}

// processSecret keys the digests of Path. It is never stored, so what a log
// shows can be compared within one process's output and nowhere else.
var processSecret = sync.OnceValue(func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
})

// Path is what an error or a log may show of a storage path: the scheme and
// bucket, a digest that tells two paths of one process apart, and a short
// well-known suffix. A path can hold a partition value, and a partition value
// can be a key.
func Path(p string) string { return KeyedPath(processSecret(), p) }

// KeyedPath is Path whose digest whoever holds the secret can compute again.
func KeyedPath(secret []byte, p string) string {
	if p == "" {
		return "(no path)"
	}
	root, rest := "", p
	if i := strings.Index(p, "://"); i >= 0 {
		end := strings.IndexByte(p[i+3:], '/')
		if end < 0 {
			return p // a bucket alone
		}
		root, rest = p[:i+3+end+1], p[i+3+end+1:]
		if strings.Contains(root, "@") && !strings.HasPrefix(p, "abfs") && !strings.HasPrefix(p, "wasb") {
			root = "" // user information
		}
	}
	return root + "[" + Digest(secret, rest)[:12] + "]" + suffix(rest)
}

// suffix returns the extension if it is one of a format's.
func suffix(p string) string {
	ext := path.Ext(p)
	switch ext {
	case ".parquet", ".avro", ".orc", ".puffin", ".json", ".ndjson", ".jsonl", ".csv", ".tsv", ".txt", ".gz", ".zst", ".sealed":
		return ext
	}
	return ""
}
