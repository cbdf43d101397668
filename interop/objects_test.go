//go:build interop

package interop

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	s3api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// versionedS3 starts versitygw with object versions and makes a bucket.
func versionedS3(t *testing.T, bucket string) (string, *s3api.Client) {
	t.Helper()
	dir, versions := t.TempDir(), t.TempDir()
	port := freePort(t)
	server(t, listens(port), []string{"ROOT_ACCESS_KEY=" + s3Key, "ROOT_SECRET_KEY=" + s3Secret},
		filepath.Join(cache, "bin/versitygw"), "--port", fmt.Sprintf("127.0.0.1:%d", port), "--region", "us-east-1", "posix", "--versioning-dir", versions, dir)
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", port)
	c := s3Client(endpoint)
	if _, err := c.CreateBucket(t.Context(), &s3api.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	_, err := c.PutBucketVersioning(t.Context(), &s3api.PutBucketVersioningInput{Bucket: &bucket,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	if err != nil {
		t.Fatal(err)
	}
	return endpoint, c
}

func s3Client(endpoint string) *s3api.Client {
	return s3api.New(s3api.Options{Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s3Key, s3Secret, "")})
}

// lakeBucket is a bucket with objects; it knows how to write a job on it.
type lakeBucket struct {
	t        *testing.T
	c        *s3api.Client
	name     string
	endpoint string
	dir      string
}

func (b *lakeBucket) put(key, body string) {
	b.t.Helper()
	_, err := b.c.PutObject(b.t.Context(), &s3api.PutObjectInput{Bucket: &b.name, Key: &key, Body: strings.NewReader(body),
		ContentType: aws.String("application/x-" + filepath.Base(key)), Metadata: map[string]string{"source": "app"}, Tagging: aws.String("team=web&pii=yes")})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *lakeBucket) get(key string) (string, *s3api.GetObjectOutput) {
	b.t.Helper()
	out, err := b.c.GetObject(b.t.Context(), &s3api.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		b.t.Fatalf("get %s: %v", key, err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(body), out
}

func (b *lakeBucket) remove(key string) {
	b.t.Helper()
	if _, err := b.c.DeleteObject(b.t.Context(), &s3api.DeleteObjectInput{Bucket: &b.name, Key: &key}); err != nil {
		b.t.Fatal(err)
	}
}

// versions lists "key content" of every version, and "key marker", oldest first.
func (b *lakeBucket) versions() []string {
	b.t.Helper()
	out, err := b.c.ListObjectVersions(b.t.Context(), &s3api.ListObjectVersionsInput{Bucket: &b.name, Prefix: aws.String("raw/")})
	if err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, v := range out.Versions {
		got, err := b.c.GetObject(b.t.Context(), &s3api.GetObjectInput{Bucket: &b.name, Key: v.Key, VersionId: v.VersionId})
		if err != nil {
			b.t.Fatal(err)
		}
		body, _ := io.ReadAll(got.Body)
		got.Body.Close()
		all = append(all, *v.Key+" "+gunzip(string(body)))
	}
	for _, m := range out.DeleteMarkers {
		all = append(all, *m.Key+" marker")
	}
	slices.Sort(all)
	return all
}

func gunzip(s string) string {
	r, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		return s
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return s
	}
	return string(out)
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

// job writes a job whose erased users are 7 and 13.
func (b *lakeBucket) job(grace, storage, targets string) string {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, "users.csv"), []byte("user_id\n7\n13\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.dir, "job.yaml")
	text := fmt.Sprintf(`version: 1
name: objects
state: state
grace: %s
limits: {share: 100%%}
storage: %s
keysets: {users: {source: users.csv, key: {user_id: int64}}}
targets:
%s
`, grace, storage, targets)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *lakeBucket) s3Props() string {
	return fmt.Sprintf(`{s3.endpoint: "%s", s3.access-key-id: %s, s3.secret-access-key: "${env:INTEROP_S3_SECRET}", s3.region: us-east-1, s3.force-virtual-addressing: "false"}`, b.endpoint, s3Key)
}

// TestObjectsOfAVersionedBucket: the live objects, their attributes, every
// noncurrent version that holds an erased row, and nothing else.
func TestObjectsOfAVersionedBucket(t *testing.T) {
	b := &lakeBucket{t: t, name: "lake", dir: t.TempDir()}
	b.endpoint, b.c = versionedS3(t, b.name)
	line := func(ids ...int) (s string) {
		for _, id := range ids {
			s += fmt.Sprintf("{\"user\":{\"id\":%d}}\n", id)
		}
		return s
	}
	b.put("raw/a.ndjson", line(7, 1)) // an earlier version with an erased row
	b.put("raw/a.ndjson", line(1, 2)) // one without
	b.put("raw/a.ndjson", line(1, 2, 7))
	b.put("raw/a.ndjson2", line(7)) // another key with the first one's as its prefix; not named by the glob
	b.put("raw/b.ndjson.gz", gzipped(line(5, 13, 6)))
	b.put("raw/all.ndjson", line(7, 13))
	b.put("raw/gone.ndjson", line(7, 8)) // removed long ago, still stored
	b.remove("raw/gone.ndjson")
	b.put("raw/hidden.ndjson", line(1)) // a removed object whose old version is clean stays removed
	b.put("raw/hidden.ndjson", line(7))
	b.remove("raw/hidden.ndjson")
	job := b.job("0s", b.s3Props(), `  - {prefix: "s3://lake/raw/", glob: ["*.ndjson", "*.ndjson.gz"], format: ndjson, match: [{users: user.id}], action: delete}`)
	mustErase(t, job)
	want := []string{
		"raw/a.ndjson " + line(1, 2), "raw/a.ndjson " + line(1, 2), "raw/a.ndjson2 " + line(7), "raw/b.ndjson.gz " + line(5, 6),
		"raw/hidden.ndjson " + line(1), "raw/hidden.ndjson marker",
	}
	slices.Sort(want)
	if got := b.versions(); !slices.Equal(got, want) {
		t.Errorf("versions\n%q\nwant\n%q", got, want)
	}
	_, head := b.get("raw/b.ndjson.gz")
	if *head.ContentType != "application/x-b.ndjson.gz" || !maps.Equal(head.Metadata, map[string]string{"source": "app"}) {
		t.Errorf("content type %s, metadata %v", *head.ContentType, head.Metadata)
	}
	tags, err := b.c.GetObjectTagging(t.Context(), &s3api.GetObjectTaggingInput{Bucket: &b.name, Key: aws.String("raw/b.ndjson.gz")})
	if err != nil || len(tags.TagSet) != 2 {
		t.Errorf("tags %v, %v", tags, err)
	}
	if s := mustNothing(t, job); s.Outcome != "NOTHING_TO_ERASE" {
		t.Errorf("a second run: %s", s.Outcome)
	}
	// What only an old version holds goes too.
	b.put("raw/late.ndjson", line(7, 1))
	b.put("raw/late.ndjson", line(1))
	mustErase(t, job)
	for _, v := range b.versions() {
		if strings.HasPrefix(v, "raw/late.ndjson ") && strings.Contains(v, ":7}") {
			t.Errorf("left: %s", v)
		}
	}
}

func mustNothing(t *testing.T, job string) summary {
	t.Helper()
	s, out, code := expunge(t, "run", job, "--yes")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, tail(out, 4000))
	}
	return s
}

// TestRestoreOnAVersionedBucket gives back what the versions still hold.
func TestRestoreOnAVersionedBucket(t *testing.T) {
	b := &lakeBucket{t: t, name: "lake", dir: t.TempDir()}
	b.endpoint, b.c = versionedS3(t, b.name)
	b.put("raw/a.csv", "id,x\n7,a\n8,b\n")
	b.put("raw/all.csv", "id,x\n7,a\n")
	job := b.job("7d", b.s3Props(), `  - {prefix: "s3://lake/raw/", format: csv, match: [{users: id}], action: delete}`)
	s, out, code := expunge(t, "run", job, "--yes")
	if code != 0 || s.Outcome != "ERASED_PENDING" {
		t.Fatalf("%d %s\n%s", code, s.Outcome, tail(out, 4000))
	}
	if got, _ := b.get("raw/a.csv"); got != "id,x\n8,b\n" {
		t.Errorf("%q", got)
	}
	if _, err := b.c.HeadObject(t.Context(), &s3api.HeadObjectInput{Bucket: &b.name, Key: aws.String("raw/all.csv")}); err == nil {
		t.Error("an emptied object is still there")
	}
	if _, out, code := expunge(t, "restore", s.RunID, "--job", job, "--yes"); code != 0 {
		t.Fatalf("restore: %d\n%s", code, tail(out, 4000))
	}
	for key, want := range map[string]string{"raw/a.csv": "id,x\n7,a\n8,b\n", "raw/all.csv": "id,x\n7,a\n"} {
		got, head := b.get(key)
		if got != want || head.Metadata["source"] != "app" {
			t.Errorf("%s: %q, metadata %v", key, got, head.Metadata)
		}
	}
}

var _ = context.Background
var _ = errors.Is
