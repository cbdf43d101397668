package jobs_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/internal/s3test"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// identity is all that an object can carry beside its content.
var identity = []string{
	"Content-Type", "application/x-ndjson", "Content-Encoding", "identity", "Content-Disposition", "attachment; filename=x", "Content-Language", "de",
	"Cache-Control", "no-store", "Expires", "Wed, 21 Oct 2099 07:28:00 GMT", "x-amz-meta-owner", "crm", "x-amz-meta-batch", "7 b",
	"x-amz-storage-class", "STANDARD_IA", "x-amz-website-redirect-location", "/elsewhere", "x-amz-tagging", "team=web&pii=a+b",
	"x-amz-server-side-encryption", "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-central-1:1:key/k",
	"x-amz-server-side-encryption-bucket-key-enabled", "true",
	"x-amz-grant-full-control", `id="owner-id"`, "x-amz-grant-read", `uri="http://acs.amazonaws.com/groups/global/AllUsers", id="partner"`, "x-amz-grant-read-acp", `id="auditor"`,
}

// TestAnObjectStaysWhatItWas: content headers, metadata, tags, storage class,
// encryption and access control list of replaced objects, small and in parts,
// after the run and after its restore.
func TestAnObjectStaysWhatItWas(t *testing.T) {
	before, _ := big(9, 3)
	for _, versioned := range []bool{false, true} {
		t.Run(fmt.Sprint(versioned), func(t *testing.T) {
			b := newBucketLake(t)
			b.Versioned, b.Ownership = versioned, "BucketOwnerPreferred"
			contents := map[string]string{"raw/small.ndjson": lines(1, 7), "raw/big.ndjson": before, "raw/all.ndjson": lines(7), "raw/aes.ndjson": lines(7, 2)}
			was := map[string]*s3test.Version{}
			for key, c := range contents {
				h := identity
				if key == "raw/aes.ndjson" {
					h = []string{"x-amz-server-side-encryption", "AES256"}
				}
				b.Put(key, c, h...)
				was[key] = b.Latest(key)
			}
			same := func(when string) {
				t.Helper()
				for key, w := range was {
					now := b.Latest(key)
					if now == nil {
						continue
					}
					if diff := cmp.Diff(w.Header, now.Header); diff != "" {
						t.Errorf("%s: %s: %s", when, key, diff)
					}
					if diff := cmp.Diff(sortedQuery(w.Tags), sortedQuery(now.Tags)); diff != "" {
						t.Errorf("%s: tags of %s: %s", when, key, diff)
					}
				}
			}
			j := open(t, b.job(t, "7d", bucketTarget), jobs.Env{})
			sum := b.run(t, j)
			if sum.Outcome != string(manifests.ErasedPending) || b.Latest("raw/all.ndjson") != nil {
				t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
			}
			same("after the run")
			if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
				t.Fatal(err)
			}
			same("after the restore")
			for key, c := range contents {
				if now := b.Latest(key); now == nil || string(now.Data) != c {
					t.Errorf("%s is not back", key)
				}
			}
		})
	}
}

func sortedQuery(q string) map[string]bool {
	out := map[string]bool{}
	for kv := range strings.SplitSeq(q, "&") {
		out[strings.ReplaceAll(kv, "%20", "+")] = true
	}
	return out
}

// TestAccessControlLists: where lists are disabled none is asked for; where one
// may exist and cannot be read the object is left as it was, with the reason.
func TestAccessControlLists(t *testing.T) {
	b := newBucketLake(t)
	b.Ownership = "BucketOwnerEnforced"
	b.Put("raw/a.ndjson", lines(1, 7))
	if sum := b.run(t, open(t, b.job(t, "0s", bucketTarget), jobs.Env{})); sum.Outcome != string(manifests.Erased) || b.Requests("GET acl") != 0 {
		t.Errorf("outcome %s: %v; %d lists read", sum.Outcome, sum.Reasons, b.Requests("GET acl"))
	}
	b = newBucketLake(t)
	b.Put("raw/a.ndjson", lines(1, 7))
	b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if k := s3test.Kind(r); k == "GET acl" || k == "ownership" {
			s3test.Fail(w, http.StatusForbidden, "AccessDenied")
			return
		}
		serve(w, r)
	})
	j := open(t, b.job(t, "0s", bucketTarget), jobs.Env{})
	sum := b.run(t, j)
	why := reasons(t, j, sum.Manifest)["a.ndjson"]
	if sum.Outcome != string(manifests.Partial) || !strings.Contains(why, "access control list") || string(b.Latest("raw/a.ndjson").Data) != lines(1, 7) {
		t.Errorf("outcome %s, reason %q", sum.Outcome, why)
	}
}

// TestVersionsThatMayNotBeListed: a bucket that keeps versions nobody here may
// see is refused before anything is written.
func TestVersionsThatMayNotBeListed(t *testing.T) {
	b := newBucketLake(t)
	b.Versioned = true
	b.Put("raw/a.ndjson", lines(1, 7))
	b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if s3test.Kind(r) == "versions" {
			s3test.Fail(w, http.StatusForbidden, "AccessDenied")
			return
		}
		serve(w, r)
	})
	_, err := open(t, b.job(t, "0s", bucketTarget), jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err == nil || !strings.Contains(err.Error(), "s3:ListBucketVersions") || len(b.Versions("raw/a.ndjson")) != 1 {
		t.Errorf("%v, %d versions", err, len(b.Versions("raw/a.ndjson")))
	}
}

// TestEvidenceNamesTheSplice: what the store copied and what was uploaded, and
// why the copies ended where it refuses them.
func TestEvidenceNamesTheSplice(t *testing.T) {
	before, after := big(17, 8)
	for refused, want := range map[bool]string{false: ", spliced in the store: 2 parts copied", true: ", streamed: store refuses part copies"} {
		b := newBucketLake(t)
		b.Put("raw/big.ndjson", before)
		if refused {
			b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				if s3test.Kind(r) == "copy" {
					s3test.Fail(w, http.StatusNotImplemented, "NotImplemented")
					return
				}
				serve(w, r)
			})
		}
		j := open(t, b.job(t, "0s", bucketTarget), jobs.Env{})
		sum := b.run(t, j)
		got := ""
		for _, rec := range evidenceOf(t, j, sum.Manifest) {
			got += rec.Rewriter
		}
		if !strings.Contains(got, want) || string(b.Latest("raw/big.ndjson").Data) != after || sum.Outcome != string(manifests.Erased) {
			t.Errorf("refused %v: evidence says %q, outcome %s", refused, got, sum.Outcome)
		}
	}
}
