package storage

import (
	"context"
	"io"
	"iter"
	"path"
	"strings"
)

// Glob lists the paths that match a pattern, in order. Within one path segment
// "*", "?" and "[...]" match as in path.Match; "**" stands for any number of
// segments. A pattern without any of these is a path, and one that ends in "/"
// stands for everything below it; in both cases what is not there is an empty
// result, which the caller must not take for success.
func Glob(ctx context.Context, s Store, pattern string) ([]string, error) {
	var out []string
	for info, err := range GlobInfo(ctx, s, pattern) {
		if err != nil {
			return nil, err
		}
		out = append(out, info.Path)
	}
	return out, nil
}

// GlobInfo streams what Glob lists.
func GlobInfo(ctx context.Context, s Store, pattern string) iter.Seq2[Info, error] {
	prefix, magic := globPrefix(pattern)
	if !magic && !strings.HasSuffix(pattern, "/") {
		return func(yield func(Info, error) bool) {
			info, err := Stat(ctx, s, pattern)
			if err == nil {
				yield(info, nil)
			} else if !IsNotExist(err) {
				yield(Info{}, err)
			}
		}
	}
	return func(yield func(Info, error) bool) {
		want := strings.Split(pattern, "/")
		for info, err := range s.List(ctx, prefix) {
			if err != nil {
				yield(Info{}, err)
				return
			}
			if magic {
				ok, err := matchSegments(want, strings.Split(info.Path, "/"))
				if err != nil {
					yield(Info{}, err)
					return
				}
				if !ok {
					continue
				}
			} else if strings.HasSuffix(info.Path, "/") {
				continue // a folder marker
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// globPrefix is the part of a pattern before its first special character.
func globPrefix(pattern string) (string, bool) {
	i := strings.IndexAny(pattern, "*?[\\")
	if i < 0 {
		return pattern, false
	}
	return pattern[:i], true
}

// Match says whether a path matches a pattern of Glob's syntax.
func Match(pattern, p string) (bool, error) {
	return matchSegments(strings.Split(pattern, "/"), strings.Split(p, "/"))
}

func matchSegments(want, have []string) (bool, error) {
	for len(want) > 0 {
		if want[0] == "**" {
			for len(want) > 1 && want[1] == "**" {
				want = want[1:]
			}
			for skip := 0; skip <= len(have); skip++ {
				if ok, err := matchSegments(want[1:], have[skip:]); ok || err != nil {
					return ok, err
				}
			}
			return false, nil
		}
		if len(have) == 0 {
			return false, nil
		}
		ok, err := path.Match(want[0], have[0])
		if !ok || err != nil {
			return false, err
		}
		want, have = want[1:], have[1:]
	}
	return len(have) == 0, nil
}

// Sources opens whole objects as streams, as keyset.Opener asks for.
type Sources struct{ store Store }

// Opener adapts a Store to keyset.Opener.
func Opener(s Store) *Sources { return &Sources{store: s} }

// Open streams an object.
func (o *Sources) Open(ctx context.Context, uri string) (io.ReadCloser, error) {
	obj, err := o.store.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return Stream(obj), nil
}

// Glob lists the paths that match a pattern.
func (o *Sources) Glob(ctx context.Context, pattern string) ([]string, error) {
	return Glob(ctx, o.store, pattern)
}
