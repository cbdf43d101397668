//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	s3api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/manifests"
)

// lockedBucket is a bucket of versitygw with Object Lock.
func lockedBucket(t *testing.T) *lakeBucket {
	t.Helper()
	b := &lakeBucket{t: t, name: "locked", dir: t.TempDir()}
	b.endpoint, b.c = versionedS3(t, "other")
	if _, err := b.c.CreateBucket(t.Context(), &s3api.CreateBucketInput{Bucket: &b.name, ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *lakeBucket) versionIDs(key string) (ids []string) {
	b.t.Helper()
	out, err := b.c.ListObjectVersions(b.t.Context(), &s3api.ListObjectVersionsInput{Bucket: &b.name, Prefix: &key})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range out.Versions {
		if *v.Key == key {
			ids = append(ids, *v.VersionId)
		}
	}
	return ids
}

func (b *lakeBucket) retain(key, version string, mode types.ObjectLockRetentionMode, until time.Time) {
	b.t.Helper()
	in := &s3api.PutObjectRetentionInput{Bucket: &b.name, Key: &key, Retention: &types.ObjectLockRetention{Mode: mode, RetainUntilDate: &until}}
	if version != "" {
		in.VersionId = &version
	}
	if _, err := b.c.PutObjectRetention(b.t.Context(), in); err != nil {
		b.t.Fatal(err)
	}
}

func (b *lakeBucket) hold(key string, on bool) {
	b.t.Helper()
	status := types.ObjectLockLegalHoldStatusOff
	if on {
		status = types.ObjectLockLegalHoldStatusOn
	}
	if _, err := b.c.PutObjectLegalHold(b.t.Context(), &s3api.PutObjectLegalHoldInput{Bucket: &b.name, Key: &key, LegalHold: &types.ObjectLockLegalHold{Status: status}}); err != nil {
		b.t.Fatal(err)
	}
}

func manifestAt(t *testing.T, path string) *manifests.Manifest {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifests.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestObjectLockOnARealServer: objects under retention or a legal hold are left
// and named, the others erased; a locked noncurrent version is residue with its date.
func TestObjectLockOnARealServer(t *testing.T) {
	b := lockedBucket(t)
	until := time.Now().AddDate(0, 0, 20).UTC().Truncate(time.Second)
	row := func(ids ...int) (s string) {
		for _, id := range ids {
			s += fmt.Sprintf("{\"id\":%d}\n", id)
		}
		return s
	}
	for _, name := range []string{"ok", "governance", "compliance", "hold", "old"} {
		b.put("raw/"+name+".ndjson", row(1, 7))
	}
	b.retain("raw/governance.ndjson", "", types.ObjectLockRetentionModeGovernance, until)
	b.retain("raw/compliance.ndjson", "", types.ObjectLockRetentionModeCompliance, until)
	b.hold("raw/hold.ndjson", true)
	old := b.versionIDs("raw/old.ndjson")[0]
	b.retain("raw/old.ndjson", old, types.ObjectLockRetentionModeCompliance, until)
	b.put("raw/old.ndjson", row(1)) // what is locked is a former version of it
	job := b.job("0s", b.s3Props(), `  - {prefix: "s3://locked/raw/", format: ndjson, match: [{users: id}], action: delete}`)
	s, out, code := expunge(t, "run", job, "--yes")
	if s.Outcome != "PARTIAL" {
		t.Fatalf("exit code %d, outcome %s\n%s", code, s.Outcome, tail(out, 4000))
	}
	m := manifestAt(t, s.Manifest)
	why := map[string]int64{}
	for _, e := range m.Scope.Excluded {
		why[e.Reason] += e.Count
	}
	on := until.Format(time.DateOnly)
	for _, reason := range []string{"retention until " + on + " (GOVERNANCE)", "retention until " + on + " (COMPLIANCE)", "legal hold"} {
		if why["locked by the store: "+reason] != 1 {
			t.Errorf("no object is excluded for %q: %v", reason, why)
		}
	}
	i := slices.IndexFunc(m.Residue, func(r manifests.Residue) bool { return r.Surface == "noncurrent versions" })
	if i < 0 || m.Residue[i].Count != 1 || m.Residue[i].GoneBy == nil || !m.Residue[i].GoneBy.Equal(until) {
		raw, _ := json.Marshal(m.Residue)
		t.Errorf("residue %s", raw)
	}
	for name, want := range map[string]string{"ok": row(1), "governance": row(1, 7), "compliance": row(1, 7), "hold": row(1, 7), "old": row(1)} {
		if got, _ := b.get("raw/" + name + ".ndjson"); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	b.hold("raw/hold.ndjson", false)
	if s, out, _ := expunge(t, "run", job, "--yes"); s.Outcome != "PARTIAL" {
		t.Errorf("%s\n%s", s.Outcome, tail(out, 3000))
	}
	if got, _ := b.get("raw/hold.ndjson"); got != row(1) {
		t.Errorf("the hold is gone, and the object has %q", got)
	}
}

// TestAKillInTheMiddleOfAnUpload: the process dies while a large object is
// written, or put in its place. When the run has been resumed and purged none
// of its uploads is left at the server, and everybody else's.
func TestAKillInTheMiddleOfAnUpload(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("x", 1000)
	var body, want strings.Builder
	for i := range 17 << 10 {
		line := fmt.Sprintf("{\"id\":%d,\"pad\":\"%s\"}\n", 100+i, pad)
		body.WriteString(line)
		want.WriteString(line)
		if i%(7<<10) == 0 {
			body.WriteString("{\"id\":7}\n")
		}
	}
	for _, place := range []string{"/new/", "raw/big.ndjson"} {
		t.Run(place, func(t *testing.T) {
			b := &lakeBucket{t: t, name: "lake", dir: t.TempDir()}
			b.endpoint, b.c = versionedS3(t, b.name)
			b.put("raw/big.ndjson", body.String())
			others, err := b.c.CreateMultipartUpload(t.Context(), &s3api.CreateMultipartUploadInput{Bucket: &b.name, Key: aws.String("raw/big.ndjson")})
			if err != nil {
				t.Fatal(err)
			}
			// The process talks to the server by way of a proxy, which kills it.
			to, _ := url.Parse(b.endpoint)
			forward := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to); p.Out.Host = p.In.Host }}
			var mu sync.Mutex
			var victim *exec.Cmd
			killed := false
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				if !killed && r.URL.Query().Has("partNumber") && strings.Contains(r.URL.Path, place) {
					killed = true
					_ = victim.Process.Kill()
				}
				mu.Unlock()
				forward.ServeHTTP(w, r)
			}))
			defer proxy.Close()
			b.endpoint = proxy.URL
			job := b.job("0s", b.s3Props(), `  - {prefix: "s3://lake/raw/", format: ndjson, match: [{users: id}], action: delete}`)
			mu.Lock()
			victim = exec.CommandContext(t.Context(), bin, "run", job, "--yes")
			victim.Env = append(os.Environ(), "INTEROP_S3_SECRET="+s3Secret)
			err = victim.Start()
			mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			_ = victim.Wait()
			if !killed {
				t.Fatal("nothing was killed: the test shows nothing")
			}
			if n := len(b.uploads()); n < 2 {
				t.Fatalf("%d uploads after the kill: the test shows nothing", n)
			}
			var s summary
			for range 12 { // the dead run's lease lapses within a minute
				if s, _, _ = expunge(t, "run", job, "--yes"); s.Outcome != "" {
					break
				}
				time.Sleep(6 * time.Second)
			}
			if s.Outcome != "ERASED" {
				t.Errorf("outcome %q", s.Outcome)
			}
			if got := b.uploads(); !slices.Equal(got, []string{*others.UploadId}) {
				t.Errorf("uploads %v, want only %s", got, *others.UploadId)
			}
			if got, _ := b.get("raw/big.ndjson"); got != want.String() {
				t.Errorf("the object has %d bytes, want %d", len(got), want.Len())
			}
		})
	}
}

func (b *lakeBucket) uploads() (ids []string) {
	b.t.Helper()
	out, err := b.c.ListMultipartUploads(b.t.Context(), &s3api.ListMultipartUploadsInput{Bucket: &b.name})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, u := range out.Uploads {
		ids = append(ids, *u.UploadId)
	}
	return ids
}
