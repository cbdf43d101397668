package s3

import (
	"bytes"
	"cmp"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/storagetest"
)

// live opens a bucket on the server whose address is in EXPUNGE_TEST_S3
// ("http://127.0.0.1:7070"), for example versitygw; the credentials are in
// EXPUNGE_TEST_S3_KEY and EXPUNGE_TEST_S3_SECRET, or "id" and "secret".
func live(t *testing.T, name string) *bucket {
	t.Helper()
	endpoint := os.Getenv("EXPUNGE_TEST_S3")
	if endpoint == "" {
		t.Skip("EXPUNGE_TEST_S3 is not set")
	}
	st, err := Open(t.Context(), storage.ParseLocation("s3://"+name+"/"), map[string]string{
		propEndpoint: endpoint, propKeyID: cmp.Or(os.Getenv("EXPUNGE_TEST_S3_KEY"), "id"), propSecret: cmp.Or(os.Getenv("EXPUNGE_TEST_S3_SECRET"), "secret"),
	})
	if err != nil {
		t.Fatal(err)
	}
	b := st.(*bucket)
	if _, err := b.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.name}); err != nil && !strings.Contains(err.Error(), "BucketAlready") {
		t.Fatal(err)
	}
	return b
}

func TestLiveConformance(t *testing.T) {
	b := live(t, "conformance")
	storagetest.Run(t, retrying(b), storagetest.Options{
		Root: b.origin + strings.TrimPrefix(t.TempDir(), "/") + "/", BigObject: 18 << 20, RemoveIf: true, CopyRange: true,
	})
}

// TestLiveSpliceInPlace replaces an object by a splice of itself, on condition
// that it is still the one that was planned, and keeps its attributes.
func TestLiveSpliceInPlace(t *testing.T) {
	b := live(t, "splice")
	path := b.origin + "dt=1/a b+c%20d.parquet"
	data := pattern(30 << 20)
	like := storage.Attributes{ContentType: "application/x-parquet", Metadata: map[string]string{"owner": "crm"}, Tags: map[string]string{"team": "a b"}}
	if err := storage.WriteAll(t.Context(), b, path, data, storage.CreateOptions{Like: &like}); err != nil {
		t.Fatal(err)
	}
	attrs, err := storage.GetAttributes(t.Context(), b, path)
	if err != nil {
		t.Fatal(err)
	}
	src, err := b.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	const cut = 11 << 20
	write := func() error {
		w, err := b.Create(t.Context(), path, storage.CreateOptions{IfMatch: src.Info().ETag, Like: attrs})
		if err != nil {
			return err
		}
		if err := storage.CopyRange(w, src, 0, cut); err != nil {
			return err
		}
		if _, err := w.Write(make([]byte, 100)); err != nil {
			return err
		}
		if err := storage.CopyRange(w, src, cut+100, int64(len(data)-cut-100)); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		if copied, refused := storage.Spliced(w); copied < 20<<20 || refused != "" {
			t.Errorf("copied %d, refused %q", copied, refused)
		}
		return nil
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(data)
	clear(want[cut : cut+100])
	if got, err := storage.ReadAll(t.Context(), b, path); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	after, err := storage.GetAttributes(t.Context(), b, path)
	if err != nil || after.ContentType != like.ContentType || after.Metadata["owner"] != "crm" || after.Tags["team"] != "a b" {
		t.Errorf("%+v %v", after, err)
	}
	if err := write(); err == nil {
		t.Error("an object that changed since the plan was replaced")
	}
	for u := range storage.Unfinished(t.Context(), b, b.origin) {
		t.Errorf("left %+v", u)
	}
}

// TestLiveVersions: removing every version of a key leaves its neighbours alone.
func TestLiveVersions(t *testing.T) {
	b := live(t, "versions")
	_, err := b.client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: aws.String(b.name), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		t.Skipf("server keeps no versions: %v", err)
	}
	for i, key := range []string{"k/a", "k/a", "k/a.b", "k/a/b"} {
		if key == "k/a/b" {
			continue // a file system behind the server can't have both
		}
		if err := storage.WriteAll(t.Context(), b, b.origin+key, []byte{byte(i)}, storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Remove(t.Context(), b.origin+"k/a"); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for v, err := range storage.Versions(t.Context(), b, b.origin+"k/a") {
		if err != nil {
			t.Fatal(err)
		}
		seen[v.Path]++
		if v.Path == b.origin+"k/a" {
			if err := storage.RemoveVersion(t.Context(), b, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen[b.origin+"k/a"] != 3 || seen[b.origin+"k/a.b"] != 1 {
		t.Errorf("saw %v", seen)
	}
	left := 0
	for v, err := range storage.Versions(t.Context(), b, b.origin+"k/") {
		if err != nil || v.Path != b.origin+"k/a.b" {
			t.Errorf("left %+v %v", v, err)
		}
		left++
	}
	if left != 1 {
		t.Errorf("%d versions left", left)
	}
}

func BenchmarkLive(b *testing.B) {
	endpoint := os.Getenv("EXPUNGE_TEST_S3")
	if endpoint == "" {
		b.Skip("EXPUNGE_TEST_S3 is not set")
	}
	st, err := Open(b.Context(), storage.ParseLocation("s3://bench/"), map[string]string{propEndpoint: endpoint, propKeyID: "id", propSecret: "secret"})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = st.(*bucket).client.CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: aws.String("bench")})
	data := pattern(64 << 20)
	b.Run("write 64 MiB", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if err := storage.WriteAll(b.Context(), st, "s3://bench/x", data, storage.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	o, err := st.Open(b.Context(), "s3://bench/x")
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{64 << 10, 1 << 20, 8 << 20} {
		b.Run("read "+strconv.Itoa(size), func(b *testing.B) {
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := storage.ReadFull(o, buf, 1234); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("splice 64 MiB", func(b *testing.B) {
		b.SetBytes(o.Info().Size)
		for b.Loop() {
			w, err := st.Create(b.Context(), "s3://bench/y", storage.CreateOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if err := storage.CopyRange(w, o, 0, o.Info().Size); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
