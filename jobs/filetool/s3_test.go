package filetool

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/expunge/expunge/internal/pq/writers"
	"github.com/expunge/expunge/internal/storage"
	_ "github.com/expunge/expunge/internal/storage/s3" // s3:// paths
)

// Input, output and keys may all be S3 objects. The result is that of local
// files, and an existing output is left as it is.
func TestBucketURLs(t *testing.T) {
	back := s3mem.New()
	if err := back.CreateBucket("b"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(back, gofakes3.WithTimeSkewLimit(0)).Server())
	defer server.Close()
	store := storage.New(map[string]string{"s3.endpoint": server.URL, "s3.region": "us-east-1", "s3.access-key-id": "a", "s3.secret-access-key": "s", "s3.path-style-access": "true"})
	ctx, dir := t.Context(), t.TempDir()
	upload := func(path string, data []byte) {
		t.Helper()
		w, err := store.Create(ctx, path, storage.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	keys := fmt.Sprintf("id\n%d\n%d\n", writers.ID(3), writers.ID(20))
	upload("s3://b/keys.csv", []byte(keys))
	for _, f := range writers.Files()[:4] {
		in, out := "s3://b/"+f.Name+".parquet", "s3://b/out/"+f.Name+".parquet"
		upload(in, f.Data)
		r := Request{Input: in, Columns: []string{"id"}, Keys: "s3://b/keys.csv"}
		done, err := Erase(ctx, store, r, out, EraseOptions{Digest: true})
		if err != nil || done.RowsOut != writers.Rows-2 {
			t.Fatalf("%s: %+v, %v", f.Name, done, err)
		}
		local := Request{Input: put(t, dir, f.Name, string(f.Data)), Columns: []string{"id"}, Keys: put(t, dir, "keys.csv", keys)}
		same, err := Erase(ctx, storage.New(nil), local, local.Input+".out", EraseOptions{Digest: true})
		if err != nil || same.Digest != done.Digest {
			t.Errorf("%s: on S3 %s, locally %s (%v)", f.Name, done.Digest, same.Digest, err)
		}
		before, err := storage.ReadAll(ctx, store, out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Erase(ctx, store, r, out, EraseOptions{}); err == nil {
			t.Errorf("%s: an existing output was written over", f.Name)
		}
		if after, err := storage.ReadAll(ctx, store, out); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s: the existing output changed (%v)", f.Name, err)
		}
		r.Input = out
		rep, err := Check(ctx, store, r)
		if err != nil || rep.Hits != 0 {
			t.Errorf("%s: check: %+v, %v", f.Name, rep, err)
		}
	}
}
