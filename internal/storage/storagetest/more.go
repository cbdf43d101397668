package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/internal/storage"
)

func copyRange(t *testing.T, s storage.Store, o Options) {
	data := random(max(o.BigObject, 100_000))
	put(t, s, o.Root+"src", data)
	obj, err := s.Open(t.Context(), o.Root+"src")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	w, err := s.Create(t.Context(), o.Root+"dst", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := w.(storage.RangeCopier); o.CopyRange && !ok {
		t.Fatal("writer copies no ranges")
	}
	var expect []byte
	cuts := []int{0, 10, len(data) / 3, len(data)/3 + 1, len(data) / 2, len(data)}
	for i := 1; i < len(cuts); i++ {
		from, to := cuts[i-1], cuts[i]
		if i%2 == 0 {
			if err := storage.CopyRange(w, obj, int64(from), int64(to-from)); err != nil {
				t.Fatal(err)
			}
			expect = append(expect, data[from:to]...)
		} else {
			if _, err := w.Write([]byte("between")); err != nil {
				t.Fatal(err)
			}
			expect = append(expect, "between"...)
		}
	}
	if err := storage.CopyRange(w, obj, int64(len(data))-5, 10); err == nil {
		t.Error("copied past the end")
	}
	_ = w.Abort()
	w, err = s.Create(t.Context(), o.Root+"dst", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(cuts); i++ {
		from, to := cuts[i-1], cuts[i]
		if i%2 == 0 {
			err = storage.CopyRange(w, obj, int64(from), int64(to-from))
		} else {
			_, err = w.Write([]byte("between"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, s, o.Root+"dst", expect)
}

func removeAll(t *testing.T, s storage.Store, o Options) {
	var all []string
	for i := range 7 {
		p := fmt.Sprintf("%s%d/x", o.Root, i%3) + fmt.Sprint(i)
		put(t, s, p, nil)
		all = append(all, p)
	}
	keep := o.Root + "0/x0.keep"
	put(t, s, keep, nil)
	for i, err := range storage.RemoveAll(t.Context(), s, append(all, o.Root+"nothing")) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if diff := cmp.Diff([]string{keep}, paths(t, s, o.Root)); diff != "" {
		t.Fatal(diff)
	}
}

func removeIf(t *testing.T, s storage.Store, o Options) {
	if !o.RemoveIf {
		t.Skip("no conditional removal")
	}
	first := put(t, s, o.Root+"a", []byte("1"))
	second := put(t, s, o.Root+"a", []byte("2"))
	wantErr(t, storage.RemoveIf(t.Context(), s, o.Root+"a", first.ETag), storage.ErrPrecondition)
	want(t, s, o.Root+"a", []byte("2"))
	if err := storage.RemoveIf(t.Context(), s, o.Root+"a", second.ETag); err != nil {
		t.Fatal(err)
	}
}

func changed(t *testing.T, s storage.Store, o Options) {
	old := put(t, s, o.Root+"a", []byte("old content"))
	obj, err := s.Open(t.Context(), o.Root+"a")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	put(t, s, o.Root+"a", []byte("new content"))
	buf := make([]byte, 11)
	if err := storage.ReadFull(obj, buf, 0); err == nil && string(buf) != "old content" {
		t.Fatalf("an open object became %q", buf)
	} else if err != nil {
		wantErr(t, err, storage.ErrPrecondition)
	}
	known, err := storage.OpenKnown(t.Context(), s, old)
	if err == nil {
		defer known.Close()
		err = storage.ReadFull(known, buf, 0)
	}
	wantErr(t, err, storage.ErrPrecondition)
}

func stat(t *testing.T, s storage.Store, o Options) {
	info := put(t, s, o.Root+"a", []byte("12345"))
	obj, err := s.Open(t.Context(), o.Root+"a")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	for listed, err := range s.List(t.Context(), o.Root) {
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []storage.Info{listed, obj.Info()} {
			if other.Path != info.Path || other.Size != 5 || other.ETag != info.ETag || other.ModTime.IsZero() {
				t.Errorf("%+v, stat says %+v", other, info)
			}
		}
		known, err := storage.OpenKnown(t.Context(), s, listed)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		if err := storage.ReadFull(known, buf, 0); err != nil || string(buf) != "12345" {
			t.Errorf("%q %v", buf, err)
		}
		known.Close()
	}
}

func oddNames(t *testing.T, s storage.Store, o Options) {
	var all []string
	for i, n := range []string{"sp ace", "per%20cent", "plus+", "q?x=1", "hash#1", "quote'\"", "a=b&c", "__0x2f__", "ümlaut", "col:on", "tilde~"} {
		p := o.Root + n + "/" + n
		put(t, s, p, []byte{byte(i)})
		want(t, s, p, []byte{byte(i)})
		all = append(all, p)
	}
	slices.Sort(all)
	if diff := cmp.Diff(all, paths(t, s, o.Root)); diff != "" {
		t.Fatal(diff)
	}
	for _, p := range all {
		if err := s.Remove(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

func doneContext(t *testing.T, s storage.Store, o Options) {
	put(t, s, o.Root+"a", []byte("1"))
	ctx, cancel := context.WithCancel(t.Context())
	w, err := s.Create(ctx, o.Root+"b", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("x"))
	cancel()
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
	_ = w.Abort()
	_, err = s.Open(ctx, o.Root+"a")
	wantErr(t, err, context.Canceled)
	wantErr(t, s.Remove(ctx, o.Root+"a"), context.Canceled)
	for _, err := range s.List(ctx, o.Root) {
		wantErr(t, err, context.Canceled)
	}
	if diff := cmp.Diff([]string{o.Root + "a"}, paths(t, s, o.Root)); diff != "" {
		t.Fatal(diff)
	}
}

func errorText(t *testing.T, s storage.Store, o Options) {
	path := o.Root + "email=jane@example.com/x"
	_, err := s.Open(t.Context(), path)
	if err == nil || strings.Contains(err.Error(), "jane") {
		t.Fatalf("error text: %v", err)
	}
	put(t, s, path, nil)
	err = storage.WriteAll(t.Context(), s, path, []byte("1"), storage.CreateOptions{IfNotExists: true})
	if err == nil || strings.Contains(err.Error(), "jane") {
		t.Fatalf("error text: %v", err)
	}
	_, err = s.Create(t.Context(), path+"/below", storage.CreateOptions{})
	if err != nil && strings.Contains(err.Error(), "jane") {
		t.Fatalf("error text: %v", err)
	}
}
