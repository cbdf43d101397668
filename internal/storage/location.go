package storage

import (
	"net/url"
	"strings"
)

// Location is a parsed path. Keys are kept as they are: object names are
// opaque, so nothing is unescaped in them.
type Location struct {
	Scheme string // "" = a local path
	Bucket string // authority: bucket, or container@account for Azure
	Key    string // object key, or the local path
}

// ParseLocation splits a path or URI. It never fails: what has no scheme is a
// local path, "C:x" and "a:b/c" included.
func ParseLocation(p string) Location {
	scheme, rest, ok := cutScheme(p)
	if !ok {
		return Location{Key: p}
	}
	if scheme == "file" {
		return Location{Scheme: scheme, Key: fileKey(rest)}
	}
	rest = strings.TrimPrefix(rest, "//")
	bucket, key, _ := strings.Cut(rest, "/")
	return Location{Scheme: scheme, Bucket: bucket, Key: key}
}

// String is the URI again.
func (l Location) String() string {
	switch l.Scheme {
	case "":
		return l.Key
	case "file":
		return "file://" + l.Key
	}
	return l.Scheme + "://" + l.Bucket + "/" + l.Key
}

// Canonical is a path without the spelling differences that engines write:
// file:/x and file:///x and /x, s3a and s3, abfss and abfs, wasbs and wasb. Two paths of one object are equal in it.
func Canonical(p string) string {
	l := ParseLocation(p)
	switch l.Scheme {
	case "file":
		l.Scheme = ""
	case "s3a", "s3n":
		l.Scheme = "s3"
	case "abfss":
		l.Scheme = "abfs"
	case "wasbs":
		l.Scheme = "wasb"
	}
	return l.String()
}

// cutScheme finds "scheme://" or "file:/".
func cutScheme(p string) (scheme, rest string, ok bool) {
	i := strings.IndexByte(p, ':')
	if i <= 0 {
		return "", p, false
	}
	for j := 0; j < i; j++ {
		c := p[j] | 0x20
		if (c < 'a' || c > 'z') && (j == 0 || (p[j] < '0' || p[j] > '9') && p[j] != '+' && p[j] != '-' && p[j] != '.') {
			return "", p, false
		}
	}
	scheme, rest = strings.ToLower(p[:i]), p[i+1:]
	if strings.HasPrefix(rest, "//") || scheme == "file" && strings.HasPrefix(rest, "/") {
		return scheme, rest, true
	}
	return "", p, false
}

// fileKey drops the authority ("", "localhost") of a file URI.
func fileKey(rest string) string {
	if strings.HasPrefix(rest, "//") {
		rest = rest[2:]
		if i := strings.IndexByte(rest, '/'); i > 0 && strings.EqualFold(rest[:i], "localhost") {
			rest = rest[i:]
		}
	}
	return rest
}

// decoded is the percent-decoded form of a file URI's path, "" if that is no
// other path. Hadoop and PyIceberg take file URIs literally, iceberg-go decodes
// them: a file of either is found, the literal name first.
func (l Location) decoded() string {
	if l.Scheme != "file" || !strings.Contains(l.Key, "%") {
		return ""
	}
	d, err := url.PathUnescape(l.Key)
	if err != nil || d == l.Key {
		return ""
	}
	return d
}

// rebase gives key the spelling of the prefix a caller listed with: listing
// "file:/x" yields "file:/x/...", listing "/x" yields "/x/...".
func rebase(prefix, prefixKey, key string) string {
	return prefix[:len(prefix)-len(prefixKey)] + key
}
