package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/expunge/expunge/internal/storage"
)

func TestSpliceCopiesInsideTheStore(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	data := pattern(40 << 20)
	if err := storage.WriteAll(t.Context(), st, "s3://b/src", data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	src, err := st.Open(t.Context(), "s3://b/src")
	if err != nil {
		t.Fatal(err)
	}
	s.in.Store(0)
	s.out.Store(0)
	w, err := st.Create(t.Context(), "s3://b/dst", storage.CreateOptions{IfNotExists: true})
	if err != nil {
		t.Fatal(err)
	}
	const cut, gap = 17 << 20, 100_000
	var want []byte
	want = append(append(append(want, data[:cut]...), "new page"...), data[cut+gap:]...)
	if err := storage.CopyRange(w, src, 0, cut); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("new page")); err != nil {
		t.Fatal(err)
	}
	if err := storage.CopyRange(w, src, cut+gap, int64(len(data)-cut-gap)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	moved := s.in.Load() + s.out.Load()
	got, err := storage.ReadAll(t.Context(), st, "s3://b/dst")
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if moved > 11<<20 || s.copies.Load() < 30<<20 {
		t.Errorf("moved %d bytes, copied %d", moved, s.copies.Load())
	}
	if copied, refused := storage.Spliced(w); copied != s.copies.Load() || refused != "" {
		t.Errorf("writer says %d %q", copied, refused)
	}
}

func TestSpliceFallsBackWhereTheStoreCannot(t *testing.T) {
	s := newServer(t)
	s.noCopy = true // the fake then takes a part copy for an empty part
	st := store(t, s)
	data := pattern(12 << 20)
	if err := storage.WriteAll(t.Context(), st, "s3://b/src", data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	src, err := st.Open(t.Context(), "s3://b/src")
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Create(t.Context(), "s3://b/dst", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.CopyRange(w, src, 0, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := storage.ReadAll(t.Context(), st, "s3://b/dst")
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, refused := storage.Spliced(w); refused == "" {
		t.Error("the fall-back is not named")
	}
}

func TestChangedSourceIsNotSpliced(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	if err := storage.WriteAll(t.Context(), st, "s3://b/src", pattern(12<<20), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	src, err := st.Open(t.Context(), "s3://b/src")
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.WriteAll(t.Context(), st, "s3://b/src", make([]byte, 12<<20), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := st.Create(t.Context(), "s3://b/dst", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err = storage.CopyRange(w, src, 0, 12<<20); err == nil {
		err = w.Close()
	}
	if !errors.Is(err, storage.ErrPrecondition) {
		t.Fatal(err)
	}
	if _, err := st.Open(t.Context(), "s3://b/dst"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestAttributesAreKept(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	like := &storage.Attributes{
		ContentType: "application/x-ndjson", ContentEncoding: "gzip", Metadata: map[string]string{"owner": "crm"},
	}
	for _, size := range []int{10, 9 << 20} {
		if err := storage.WriteAll(t.Context(), st, "s3://b/x", pattern(size), storage.CreateOptions{Like: like}); err != nil {
			t.Fatal(err)
		}
		got, err := storage.GetAttributes(t.Context(), st, "s3://b/x")
		if err != nil {
			t.Fatal(err)
		}
		if got.ContentType != like.ContentType || got.ContentEncoding != "gzip" || got.Metadata["owner"] != "crm" || got.Tags["team"] != "crm" {
			t.Errorf("%+v", got)
		}
	}
}

func TestVersionsAreListedAndRemoved(t *testing.T) {
	s := newServer(t)
	b := store(t, s).(*bucket)
	body := `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/b?versioning", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(err, res.Status)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if r, err := storage.GetRetention(t.Context(), b, "s3://b/a"); err != nil || !r.Versioned {
		t.Errorf("%+v %v", r, err)
	}
	for _, p := range []string{"s3://b/a", "s3://b/a", "s3://b/ab"} {
		if err := storage.WriteAll(t.Context(), b, p, []byte(p), storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Remove(t.Context(), "s3://b/a"); err != nil {
		t.Fatal(err)
	}
	count := func() (versions, markers, others int) {
		for v, err := range storage.Versions(t.Context(), b, "s3://b/a") {
			switch {
			case err != nil:
				t.Fatal(err)
			case v.Path != "s3://b/a":
				others++
			case v.DeleteMarker:
				markers++
				if !v.Latest {
					t.Error("the marker is not the latest")
				}
			default:
				versions++
			}
		}
		return
	}
	if v, m, o := count(); v != 2 || m != 1 || o != 1 {
		t.Fatal(v, m, o)
	}
	for v, err := range storage.Versions(t.Context(), b, "s3://b/a") {
		if err != nil {
			t.Fatal(err)
		}
		if v.Path == "s3://b/a" {
			if err := storage.RemoveVersion(t.Context(), b, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v, m, o := count(); v != 0 || m != 0 || o != 1 {
		t.Fatal(v, m, o)
	}
}

func TestUnfinishedUploadsAreFoundAndAborted(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	w, err := st.Create(t.Context(), "s3://b/run/x", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(pattern(20 << 20)); err != nil {
		t.Fatal(err)
	}
	// The process dies here: nobody aborts.
	n := 0
	for u, err := range storage.Unfinished(t.Context(), st, "s3://b/run/") {
		if err != nil {
			t.Fatal(err)
		}
		if u.Path != "s3://b/run/x" {
			t.Errorf("%+v", u)
		}
		if err := storage.RemoveUnfinished(t.Context(), st, u); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Fatalf("%d uploads", n)
	}
	for u := range storage.Unfinished(t.Context(), st, "s3://b/run/") {
		t.Errorf("left %+v", u)
	}
}

func TestCancelledUploadIsAborted(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := st.Create(ctx, "s3://b/x", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(pattern(20 << 20)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(w, bytes.NewReader(pattern(20<<20))); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	for u := range storage.Unfinished(t.Context(), st, "s3://b/") {
		t.Errorf("left %+v", u)
	}
}
