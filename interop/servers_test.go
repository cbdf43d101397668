//go:build interop

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/aws/aws-sdk-go-v2/aws"
	s3api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// blobs is a bucket of some store, reached without this program's code.
type blobs struct {
	prefix string // as a job names it
	props  string // of the job's storage
	put    func(key, body string) error
	get    func(key string) (string, error)
	list   func() ([]string, error)
}

// The account that Azurite has, with its published key.
const (
	azureAccount = "devstoreaccount1"
	azureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// azurite starts Azurite and returns its address.
func azurite(t *testing.T) string {
	t.Helper()
	main := filepath.Join(cache, "interop/azurite/node_modules/azurite/dist/src/blob/main.js")
	if _, err := os.Stat(main); errors.Is(err, os.ErrNotExist) {
		t.Skip("Azurite was not installed: interop/setup.sh says why")
	}
	port := freePort(t)
	server(t, listens(port), nil, "node", main,
		"--blobHost", "127.0.0.1", "--blobPort", fmt.Sprint(port), "--location", t.TempDir(), "--silent", "--skipApiVersionCheck", "--disableTelemetry")
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func azureBlobs(t *testing.T) *blobs {
	host := azurite(t)
	cred, err := azblob.NewSharedKeyCredential(azureAccount, azureKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := azblob.NewClientWithSharedKeyCredential("http://"+host+"/"+azureAccount, cred, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := c.CreateContainer(ctx, "lake", nil); err != nil {
		t.Fatal(err)
	}
	t.Setenv("INTEROP_AZURE_KEY", azureKey)
	return &blobs{
		prefix: "abfs://lake@" + azureAccount + "/raw/",
		props:  fmt.Sprintf(`{adls.blob-storage-scheme: http, adls.blob-storage-authority: "%s", adls.account-name: %s, adls.account-key: "${env:INTEROP_AZURE_KEY}"}`, host, azureAccount),
		put: func(key, body string) error {
			_, err := c.UploadBuffer(ctx, "lake", key, []byte(body), nil)
			return err
		},
		get: func(key string) (string, error) {
			out, err := c.DownloadStream(ctx, "lake", key, nil)
			if err != nil {
				return "", err
			}
			return textOf(out.Body)
		},
		list: func() (keys []string, err error) {
			for p := c.NewListBlobsFlatPager("lake", nil); p.More(); {
				page, err := p.NextPage(ctx)
				if err != nil {
					return nil, err
				}
				for _, b := range page.Segment.BlobItems {
					keys = append(keys, *b.Name)
				}
			}
			return keys, nil
		},
	}
}

// fakeGCS starts fake-gcs-server and makes a bucket. It returns its address.
func fakeGCS(t *testing.T, bucket string) string {
	t.Helper()
	port := freePort(t)
	host := fmt.Sprintf("http://127.0.0.1:%d", port)
	server(t, listens(port), nil, filepath.Join(cache, "bin/fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", fmt.Sprint(port),
		"-backend", "memory", "-external-url", host, "-public-host", fmt.Sprintf("127.0.0.1:%d", port), "-log-level", "error")
	t.Setenv("STORAGE_EMULATOR_HOST", host)
	if _, err := call(http.MethodPost, host+"/storage/v1/b", `{"name":"`+bucket+`"}`); err != nil {
		t.Fatal(err)
	}
	return host
}

// call makes one HTTP request.
func call(method, address, body string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, address, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %s", method, address, res.Status, out)
	}
	return string(out), err
}

func gcsBlobs(t *testing.T) *blobs {
	host := fakeGCS(t, "lake")
	return &blobs{
		prefix: "gs://lake/raw/",
		props:  fmt.Sprintf(`{gcs.service.host: "%s", gcs.no-auth: "true"}`, host),
		put: func(key, body string) error {
			_, err := call(http.MethodPost, host+"/upload/storage/v1/b/lake/o?uploadType=media&name="+url.QueryEscape(key), body)
			return err
		},
		get: func(key string) (string, error) {
			return call(http.MethodGet, host+"/storage/v1/b/lake/o/"+url.PathEscape(key)+"?alt=media", "")
		},
		list: func() (keys []string, err error) {
			out, err := call(http.MethodGet, host+"/storage/v1/b/lake/o", "")
			if err != nil {
				return nil, err
			}
			var page struct{ Items []struct{ Name string } }
			err = json.Unmarshal([]byte(out), &page)
			for _, o := range page.Items {
				keys = append(keys, o.Name)
			}
			return keys, err
		},
	}
}

// minio starts MinIO; the test is skipped where it could not be built.
func minio(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(cache, "bin/minio")
	if _, err := os.Stat(bin); errors.Is(err, os.ErrNotExist) {
		t.Skip("MinIO was not built: interop/setup.sh says why")
	}
	port := freePort(t)
	server(t, listens(port), []string{"MINIO_ROOT_USER=" + s3Key, "MINIO_ROOT_PASSWORD=" + s3Secret, "MINIO_UPDATE=off", "HOME=" + t.TempDir()},
		bin, "server", "--quiet", "--address", fmt.Sprintf("127.0.0.1:%d", port), t.TempDir())
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// textOf reads a body to its end and closes it.
func textOf(body io.ReadCloser) (string, error) {
	defer body.Close()
	raw, err := io.ReadAll(body)
	return string(raw), err
}

func minioBlobs(t *testing.T) *blobs { return s3Blobs(t, minio(t)) }

func versityBlobs(t *testing.T) *blobs { return s3Blobs(t, s3(t, "other")) }

func s3Blobs(t *testing.T, endpoint string) *blobs {
	c := s3Client(endpoint)
	ctx, bucket := context.Background(), aws.String("lake")
	if _, err := c.CreateBucket(ctx, &s3api.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	return &blobs{
		prefix: "s3://lake/raw/",
		props:  (&lakeBucket{t: t, endpoint: endpoint}).s3Props(),
		put: func(key, body string) error {
			_, err := c.PutObject(ctx, &s3api.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(body)})
			return err
		},
		get: func(key string) (string, error) {
			out, err := c.GetObject(ctx, &s3api.GetObjectInput{Bucket: bucket, Key: &key})
			if err != nil {
				return "", err
			}
			return textOf(out.Body)
		},
		list: func() (keys []string, err error) {
			out, err := c.ListObjectsV2(ctx, &s3api.ListObjectsV2Input{Bucket: bucket})
			if err != nil {
				return nil, err
			}
			for _, o := range out.Contents {
				keys = append(keys, *o.Key)
			}
			return keys, nil
		},
	}
}

// TestJobsOnServersOfEveryStore runs whole jobs over a prefix: erased with a
// grace, verified, given back, erased again, purged, and then nothing is left.
func TestJobsOnServersOfEveryStore(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *blobs{"azurite": azureBlobs, "fake-gcs-server": gcsBlobs, "minio": minioBlobs, "versitygw": versityBlobs} {
		t.Run(name, func(t *testing.T) { wholeJob(t, open(t)) })
	}
}

func wholeJob(t *testing.T, b *blobs) {
	before := map[string]string{
		"raw/a.ndjson":              "{\"id\":7,\"x\":1}\n{\"id\":8,\"x\":2}\n",
		"raw/day=1/b c+d%.ndjson":   strings.Repeat("{\"id\":5}\n", 3) + "{\"id\":13}\n",
		"raw/all.ndjson":            "{\"id\":7}\n",
		"raw/clean.ndjson":          "{\"id\":1}\n",
		"raw/zipped.ndjson.gz":      gzipped("{\"id\":13}\n{\"id\":14}\n"),
		"raw/large.ndjson":          "{\"id\":7}\n" + strings.Repeat("{\"id\":1,\"x\":\"0123456789012345678901234567890123456789\"}\n", 300_000),
		"raw2/not-in-prefix.ndjson": "{\"id\":7}\n",
	}
	after := map[string]string{
		"raw/a.ndjson": "{\"id\":8,\"x\":2}\n", "raw/day=1/b c+d%.ndjson": strings.Repeat("{\"id\":5}\n", 3), "raw/clean.ndjson": before["raw/clean.ndjson"],
		"raw/zipped.ndjson.gz": "{\"id\":14}\n", "raw/large.ndjson": before["raw/large.ndjson"][len("{\"id\":7}\n"):], "raw2/not-in-prefix.ndjson": "{\"id\":7}\n",
	}
	for key, body := range before {
		if err := b.put(key, body); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	job := func(grace string) string {
		l := &lakeBucket{t: t, dir: dir}
		return l.job(grace, b.props, fmt.Sprintf(`  - {prefix: "%s", format: ndjson, match: [{users: id}], action: delete}`, b.prefix))
	}
	later := job("7d")
	s, out, code := expunge(t, "run", later, "--yes")
	if code != 0 || s.Outcome != "ERASED_PENDING" {
		t.Fatalf("%d %s\n%s", code, s.Outcome, tail(out, 4000))
	}
	b.holds(t, after, b.prefixed(s.RunID))
	if _, out, code := expunge(t, "verify", s.RunID, "--job", later); code != 0 {
		t.Fatalf("verify: %d\n%s", code, tail(out, 4000))
	}
	if _, out, code := expunge(t, "restore", s.RunID, "--job", later, "--yes"); code != 0 {
		t.Fatalf("restore: %d\n%s", code, tail(out, 4000))
	}
	unzipped := map[string]string{}
	for k, v := range before {
		unzipped[k] = gunzip(v)
	}
	undone := b.prefixed(s.RunID) // its copies stay
	b.holds(t, unzipped, undone)
	now := job("0s")
	mustErase(t, now)
	b.holds(t, after, undone)
	if s := mustNothing(t, now); s.Outcome != "NOTHING_TO_ERASE" {
		t.Errorf("a second run: %s", s.Outcome)
	}
	// A later erasure is purged by a command of its own.
	if err := b.put("raw/late.ndjson", "{\"id\":13}\n{\"id\":14}\n"); err != nil {
		t.Fatal(err)
	}
	if s, out, code = expunge(t, "run", job("1s"), "--yes"); code != 0 {
		t.Fatalf("%d %s\n%s", code, s.Outcome, tail(out, 4000))
	}
	if s.Outcome == "ERASED_PENDING" {
		time.Sleep(2 * time.Second)
		if _, out, code := expunge(t, "purge", s.RunID, "--job", job("1s"), "--yes"); code != 0 {
			t.Fatalf("purge: %d\n%s", code, tail(out, 4000))
		}
	}
	after["raw/late.ndjson"] = "{\"id\":14}\n"
	b.holds(t, after, undone)
}

// prefixed is where a run keeps its copies.
func (b *blobs) prefixed(run string) string { return "raw/.expunge/" + run + "/" }

// holds compares the bucket's objects, gunzipped, with what is wanted. Others
// may only lie below but.
func (b *blobs) holds(t *testing.T, want map[string]string, but string) {
	t.Helper()
	keys, err := b.list()
	if err != nil {
		t.Fatal(err)
	}
	for key, body := range want {
		got, err := b.get(key)
		if err != nil || gunzip(got) != body {
			t.Fatalf("%s: %v; %d bytes, want %d", key, err, len(got), len(body))
		}
	}
	for _, key := range keys {
		if _, ok := want[key]; !ok && !strings.HasPrefix(key, but) {
			t.Errorf("left: %s", key)
		}
	}
}

// TestStoresKeepTheirPromisesOnServers runs the storage packages' conformance
// tests, conditional writes and copies inside the store among them.
func TestStoresKeepTheirPromisesOnServers(t *testing.T) {
	for name, c := range map[string]struct {
		pkg, run, skip string
		env            func(*testing.T) string
	}{
		"azurite": {"azure", "TestConformance|TestSplice", "", func(t *testing.T) string { return "EXPUNGE_TEST_AZURE=" + azurite(t) }},
		// It looks at no condition when a resumable upload ends.
		"fake-gcs-server": {"gcs", "TestConformance", "TestConformance/IfNotExistsKeepsTheFirst", func(t *testing.T) string { return "EXPUNGE_TEST_GCS=" + fakeGCS(t, "unused") }},
		"minio":           {"s3", "TestLive", "", func(t *testing.T) string { return "EXPUNGE_TEST_S3=" + minio(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", c.run, "-skip", c.skip, "./internal/storage/"+c.pkg)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), c.env(t), "CGO_ENABLED=0", "EXPUNGE_TEST_S3_KEY="+s3Key, "EXPUNGE_TEST_S3_SECRET="+s3Secret)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, tail(string(out), 4000))
			}
			if bytes.Contains(out, []byte("\n--- SKIP: TestConformance")) || bytes.Contains(out, []byte("\n--- SKIP: TestLiveConformance")) {
				t.Fatalf("the tests were skipped\n%s", out)
			}
		})
	}
}

// TestVersionsOnMinIO: versions of a second S3 server are purged as on the first.
func TestVersionsOnMinIO(t *testing.T) {
	b := &lakeBucket{t: t, name: "lake", dir: t.TempDir(), endpoint: minio(t)}
	b.c = s3Client(b.endpoint)
	if _, err := b.c.CreateBucket(t.Context(), &s3api.CreateBucketInput{Bucket: &b.name}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.c.PutBucketVersioning(t.Context(), &s3api.PutBucketVersioningInput{Bucket: &b.name,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
	b.put("raw/a.ndjson", "{\"id\":7}\n{\"id\":1}\n")
	b.put("raw/a.ndjson", "{\"id\":1}\n")
	b.put("raw/gone.ndjson", "{\"id\":13}\n")
	b.remove("raw/gone.ndjson")
	b.put("raw/live.ndjson", "{\"id\":13}\n{\"id\":2}\n")
	mustErase(t, b.job("0s", b.s3Props(), `  - {prefix: "s3://lake/raw/", format: ndjson, match: [{users: id}], action: delete}`))
	want := []string{"raw/a.ndjson {\"id\":1}\n", "raw/live.ndjson {\"id\":2}\n"}
	if got := b.versions(); !slices.Equal(got, want) {
		t.Errorf("versions\n%q\nwant\n%q", got, want)
	}
}
