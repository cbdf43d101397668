// Package storagetest is the conformance suite of storage.Store: what every
// back end must do, whatever it runs on.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/internal/storage"
)

// Options say what a back end has beyond the required.
type Options struct {
	Root      string // an empty prefix ending in "/"
	BigObject int    // bytes of an object that must be written in several parts
	RemoveIf  bool   // conditional removal
	// KnowsMissing: removing what is not there is fs.ErrNotExist, not success.
	KnowsMissing bool
	// CopyRange: the writer copies ranges without reading them here.
	CopyRange bool
}

// Run runs the suite.
func Run(t *testing.T, s storage.Store, o Options) {
	tests := []struct {
		name string
		run  func(*testing.T, storage.Store, Options)
	}{
		{"MissingObjectIsNotExist", missing},
		{"RoundTrip", roundTrip},
		{"NothingVisibleBeforeClose", invisible},
		{"AbortLeavesNothing", abort},
		{"IfNotExistsKeepsTheFirst", ifNotExists},
		{"IfMatchIsCompareAndSwap", ifMatch},
		{"OneOfManyContendersWins", contenders},
		{"ListIsAnExactSortedPrefix", list},
		{"ListStopsWhenAsked", listStops},
		{"RangeReads", rangeReads},
		{"CopiedRangesEqualReadRanges", copyRange},
		{"RemoveAllCountsMissingAsGone", removeAll},
		{"RemoveIfSparesAChangedObject", removeIf},
		{"ChangedObjectIsNotReadAsTheOldOne", changed},
		{"StatAgreesWithOpenAndList", stat},
		{"OddNamesAreKept", oddNames},
		{"DoneContextStopsWork", doneContext},
		{"ErrorsDoNotNameThePath", errorText},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sub := o
			sub.Root = o.Root + tt.name + "/"
			tt.run(t, s, sub)
		})
	}
}

func put(t *testing.T, s storage.Store, path string, data []byte) storage.Info {
	t.Helper()
	if err := storage.WriteAll(t.Context(), s, path, data, storage.CreateOptions{}); err != nil {
		t.Fatalf("write: %v", err)
	}
	info, err := storage.Stat(t.Context(), s, path)
	if err != nil {
		t.Fatalf("stat: %v", err)
	}
	return info
}

func want(t *testing.T, s storage.Store, path string, data []byte) {
	t.Helper()
	got, err := storage.ReadAll(t.Context(), s, path)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("content is %d bytes, want %d, or differs", len(got), len(data))
	}
}

func wantErr(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

func paths(t *testing.T, s storage.Store, prefix string) []string {
	t.Helper()
	var out []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		out = append(out, info.Path)
	}
	return out
}

func missing(t *testing.T, s storage.Store, o Options) {
	_, err := s.Open(t.Context(), o.Root+"nothing")
	wantErr(t, err, fs.ErrNotExist)
	_, err = storage.Stat(t.Context(), s, o.Root+"nothing")
	wantErr(t, err, fs.ErrNotExist)
	err = s.Remove(t.Context(), o.Root+"nothing")
	if o.KnowsMissing {
		wantErr(t, err, fs.ErrNotExist)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("remove: %v", err)
	}
	if got := paths(t, s, o.Root+"no/such/folder/"); len(got) != 0 {
		t.Fatalf("listed %v", got)
	}
}

func roundTrip(t *testing.T, s storage.Store, o Options) {
	for _, n := range []int{0, 1, 4096, 1 << 20, o.BigObject} {
		path := fmt.Sprintf("%sobject-%d", o.Root, n)
		data := random(n)
		w, err := s.Create(t.Context(), path, storage.CreateOptions{ContentType: "application/x-test"})
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			k := min(len(rest), 1+n/7)
			if _, err := w.Write(rest[:k]); err != nil {
				t.Fatal(err)
			}
			rest = rest[k:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatalf("second close: %v", err)
		}
		if err := w.Abort(); err != nil {
			t.Fatalf("abort after close: %v", err)
		}
		want(t, s, path, data)
		obj, err := s.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		streamed, err := io.ReadAll(storage.Stream(obj))
		if err != nil || !bytes.Equal(streamed, data) {
			t.Fatalf("stream: %d bytes, %v", len(streamed), err)
		}
		obj.Close()
		if err := s.Remove(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		_, err = s.Open(t.Context(), path)
		wantErr(t, err, fs.ErrNotExist)
	}
}

func invisible(t *testing.T, s storage.Store, o Options) {
	old := []byte("old")
	put(t, s, o.Root+"a", old)
	w, err := s.Create(t.Context(), o.Root+"a", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(random(o.BigObject)); err != nil {
		t.Fatal(err)
	}
	want(t, s, o.Root+"a", old)
	if diff := cmp.Diff([]string{o.Root + "a"}, paths(t, s, o.Root)); diff != "" {
		t.Fatal(diff)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, s, o.Root+"a", random(o.BigObject))
}

func abort(t *testing.T, s storage.Store, o Options) {
	w, err := s.Create(t.Context(), o.Root+"a", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(random(o.BigObject)); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Fatal("close after abort succeeded")
	}
	if got := paths(t, s, o.Root); len(got) != 0 {
		t.Fatalf("left %v", got)
	}
	for u, err := range storage.Unfinished(t.Context(), s, o.Root) {
		t.Fatalf("left an unfinished upload: %v %v", u.ID, err)
	}
}

func ifNotExists(t *testing.T, s storage.Store, o Options) {
	for _, n := range []int{3, o.BigObject} {
		path := fmt.Sprintf("%sobject-%d", o.Root, n)
		first, second := random(n), random(n+1)
		opt := storage.CreateOptions{IfNotExists: true}
		if err := storage.WriteAll(t.Context(), s, path, first, opt); err != nil {
			t.Fatal(err)
		}
		wantErr(t, storage.WriteAll(t.Context(), s, path, second, opt), storage.ErrExists)
		wantErr(t, storage.WriteAll(t.Context(), s, path, second, opt), fs.ErrExist)
		want(t, s, path, first)
		// The same content again is a write whose answer was lost.
		if err := storage.WriteAll(t.Context(), s, path, first, opt); err != nil {
			t.Fatalf("repeat: %v", err)
		}
	}
}

func ifMatch(t *testing.T, s storage.Store, o Options) {
	path := o.Root + "a"
	first := put(t, s, path, []byte("1"))
	second := put(t, s, path, []byte("2"))
	if first.ETag == second.ETag || first.ETag == "" {
		t.Fatalf("etags %q, %q", first.ETag, second.ETag)
	}
	wantErr(t, storage.WriteAll(t.Context(), s, path, []byte("3"), storage.CreateOptions{IfMatch: first.ETag}), storage.ErrPrecondition)
	want(t, s, path, []byte("2"))
	if err := storage.WriteAll(t.Context(), s, path, []byte("3"), storage.CreateOptions{IfMatch: second.ETag}); err != nil {
		t.Fatal(err)
	}
	want(t, s, path, []byte("3"))
	err := storage.WriteAll(t.Context(), s, o.Root+"nothing", []byte("3"), storage.CreateOptions{IfMatch: second.ETag})
	if !errors.Is(err, storage.ErrPrecondition) && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("if-match on a missing object: %v", err)
	}
	if got := paths(t, s, o.Root); len(got) != 1 {
		t.Fatalf("listed %v", got)
	}
}

func contenders(t *testing.T, s storage.Store, o Options) {
	path := o.Root + "counter"
	put(t, s, path, []byte("0"))
	const workers, rounds = 4, 5
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				ok, err := increment(t.Context(), s, path)
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					done++
				}
			}
		})
	}
	wg.Wait()
	want(t, s, path, fmt.Append(nil, workers*rounds))
}

// increment adds 1 to a decimal object by compare and swap.
func increment(ctx context.Context, s storage.Store, path string) (bool, error) {
	obj, err := s.Open(ctx, path)
	if err != nil {
		return false, err
	}
	defer obj.Close()
	buf := make([]byte, obj.Info().Size)
	if err := storage.ReadFull(obj, buf, 0); err != nil {
		if errors.Is(err, storage.ErrPrecondition) {
			return false, nil
		}
		return false, err
	}
	var n int
	if _, err := fmt.Sscan(string(buf), &n); err != nil {
		return false, err
	}
	err = storage.WriteAll(ctx, s, path, fmt.Append(nil, n+1), storage.CreateOptions{IfMatch: obj.Info().ETag})
	if errors.Is(err, storage.ErrPrecondition) || storage.IsTransient(err) {
		return false, nil
	}
	return err == nil, err
}

func list(t *testing.T, s storage.Store, o Options) {
	names := []string{"a", "a.b", "a/b", "a/b.c", "a/b/c", "a0", "ab/x", "b=1/x y", "b=1/ü", "B"}
	var all []string
	for _, n := range names {
		if n == "a" || n == "a/b" { // a local folder can't have the name of a file
			continue
		}
		put(t, s, o.Root+n, []byte(n))
		all = append(all, o.Root+n)
	}
	slices.Sort(all)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "ab", "b=", "b=1/x y", "zz", "a/b/c", "a/b/cd"} {
		var expect []string
		for _, p := range all {
			if strings.HasPrefix(p, o.Root+prefix) {
				expect = append(expect, p)
			}
		}
		if diff := cmp.Diff(expect, paths(t, s, o.Root+prefix)); diff != "" {
			t.Errorf("prefix %q: %s", prefix, diff)
		}
	}
}

func listStops(t *testing.T, s storage.Store, o Options) {
	for i := range 5 {
		put(t, s, fmt.Sprintf("%s%d/x", o.Root, i), nil)
	}
	n := 0
	for _, err := range s.List(t.Context(), o.Root) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Fatalf("%d items", n)
	}
}

func rangeReads(t *testing.T, s storage.Store, o Options) {
	data := random(10_000)
	put(t, s, o.Root+"a", data)
	obj, err := s.Open(t.Context(), o.Root+"a")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	for _, c := range []struct{ off, n, got int }{{0, 10, 10}, {9_990, 10, 10}, {9_990, 20, 10}, {10_000, 5, 0}, {5_000, 5_000, 5_000}} {
		buf := make([]byte, c.n)
		n, err := obj.ReadAt(buf, int64(c.off))
		if n != c.got || !bytes.Equal(buf[:n], data[c.off:c.off+n]) {
			t.Errorf("read %d at %d: %d bytes", c.n, c.off, n)
		}
		if ended := errors.Is(err, io.EOF); !ended && (n < c.n || err != nil) {
			t.Errorf("read %d at %d: %v", c.n, c.off, err)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			buf := make([]byte, 1000)
			if err := storage.ReadFull(obj, buf, int64(i*1000)); err != nil || !bytes.Equal(buf, data[i*1000:][:1000]) {
				t.Errorf("concurrent read: %v", err)
			}
		})
	}
	wg.Wait()
}
