package jobs_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/internal/s3test"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// big is NDJSON of n MiB and more, with a hit at its beginning and its end and
// one after every step; and what is left of it.
func big(n, step int) (before, after string) {
	pad := strings.Repeat("x", 1000)
	var b, a strings.Builder
	b.WriteString(lines(7))
	for i, next := 0, step<<20; b.Len() < n<<20; i++ {
		line := fmt.Sprintf("{\"id\":%d,\"pad\":\"%s\"}\n", 100+i, pad)
		b.WriteString(line)
		a.WriteString(line)
		if b.Len() > next {
			b.WriteString(lines(13))
			next += step << 20
		}
	}
	b.WriteString(lines(13))
	return b.String(), a.String()
}

// crash is a server that a process is cut off from: once the condition holds,
// no request of it is served any more, as if the process had been killed.
type crash struct {
	mu   sync.Mutex
	dead bool
	when func(r *http.Request) bool
	also func() // done at that moment
}

func (c *crash) hook(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	c.mu.Lock()
	if !c.dead && c.when(r) {
		c.dead = true
		if c.also != nil {
			c.also()
		}
	}
	dead := c.dead
	c.mu.Unlock()
	if dead {
		panic(http.ErrAbortHandler)
	}
	serve(w, r)
}

// TestUploadsOfACrashedRunAreAborted: a run that dies in the middle of an
// upload leaves parts at the store. They go when it has been resumed and
// purged; uploads of others stay, also those of the same object.
func TestUploadsOfACrashedRunAreAborted(t *testing.T) {
	before, after := big(17, 8)
	for name, when := range map[string]func(r *http.Request) bool{
		"while new content is written": func(r *http.Request) bool {
			return s3test.Kind(r) == "copy" && strings.Contains(s3test.Key(r), "/new/") && r.URL.Query().Get("partNumber") == "2"
		},
		"while it is put in its place":  func(r *http.Request) bool { return s3test.Kind(r) == "copy" && s3test.Key(r) == "raw/big.ndjson" },
		"before the upload is complete": func(r *http.Request) bool { return s3test.Kind(r) == "complete" && s3test.Key(r) == "raw/big.ndjson" },
		"before the staged one is":      func(r *http.Request) bool { return s3test.Kind(r) == "complete" && s3test.Key(r) != "raw/big.ndjson" },
		"while a removed one is protected": func(r *http.Request) bool {
			return s3test.Kind(r) == "copy" && strings.Contains(s3test.Key(r), "/old/")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucketLake(t)
			b.Put("raw/big.ndjson", before)
			b.Put("raw/small.ndjson", lines(1, 7))
			others := []string{
				"raw/big.ndjson " + b.Begin("raw/big.ndjson", time.Now().Add(-48*time.Hour)),
				"raw/other.ndjson " + b.Begin("raw/other.ndjson", time.Now().Add(-time.Hour)),
				"elsewhere " + b.Begin("elsewhere", time.Now()),
			}
			c := &crash{when: when}
			b.SetHook(c.hook)
			c.also = func() { others = append(others, "raw/big.ndjson "+b.Begin("raw/big.ndjson", time.Now())) }
			cfg := b.job(t, "1d", bucketTarget)
			if _, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{}); err == nil {
				t.Fatal("the run did not notice that the store is gone")
			}
			c.mu.Lock() // others grew in a handler
			left := len(b.Uploads()) - len(others)
			c.mu.Unlock()
			if left == 0 {
				t.Fatal("the crash left no upload: the test shows nothing")
			}
			b.SetHook(nil)
			j := open(t, b.job(t, "1d", bucketTarget), jobs.Env{})
			if sum := b.run(t, j); sum.Outcome != string(manifests.ErasedPending) {
				t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
			}
			if due, err := j.PurgeDue(later(t, 2*day), false); err != nil || len(due) == 0 || due[len(due)-1].Outcome != string(manifests.Erased) {
				t.Errorf("%+v, %v", due, err)
			}
			got := b.Uploads()
			slices.Sort(got)
			slices.Sort(others)
			if diff := cmp.Diff(others, got); diff != "" {
				t.Errorf("uploads: %s", diff)
			}
			if diff := cmp.Diff([]string{"raw/big.ndjson", "raw/small.ndjson"}, b.Keys("")); diff != "" {
				t.Error(diff)
			}
			if string(b.Latest("raw/big.ndjson").Data) != after || string(b.Latest("raw/small.ndjson").Data) != lines(1) {
				t.Error("the contents are not those of an undisturbed run")
			}
		})
	}
}

// trouble is one thing that goes wrong with the first request of every kind.
type trouble struct {
	mu   sync.Mutex
	seen map[string]bool
	do   func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)
}

func (x *trouble) hook(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	kind := s3test.Kind(r)
	x.mu.Lock()
	hit := !x.seen[kind]
	x.seen[kind] = true
	x.mu.Unlock()
	if hit {
		x.do(w, r, serve)
		return
	}
	serve(w, r)
}

var troubles = map[string]func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc){
	"500": func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		s3test.Fail(w, http.StatusInternalServerError, "InternalError")
	},
	"503": func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		s3test.Fail(w, http.StatusServiceUnavailable, "SlowDown")
	},
	"429": func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.WriteHeader(http.StatusTooManyRequests)
	},
	"reset": func(http.ResponseWriter, *http.Request, http.HandlerFunc) { panic(http.ErrAbortHandler) },
	"lost answer": func(_ http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	},
	"truncated": cut,
	"slow": func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		time.Sleep(100 * time.Millisecond)
		serve(w, r)
	},
}

// cut answers with the whole length and half of the body.
func cut(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	rec := httptest.NewRecorder()
	serve(rec, r)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	body := rec.Body.Bytes()
	if len(body) > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body[:len(body)/2])
	if len(body) > 0 {
		panic(http.ErrAbortHandler)
	}
}

// TestTroubleOnTheWireLosesNothing: a store that is busy, breaks connections,
// cuts answers short and loses them ends up as one that works.
func TestTroubleOnTheWireLosesNothing(t *testing.T) {
	before, _ := big(17, 8)
	parts, _ := big(9, 3)
	fill := func(t *testing.T) *bucketLake {
		b := newBucketLake(t)
		b.Versioned = true
		b.Put("raw/big.ndjson", before)
		b.Put("raw/parts.ndjson", parts)
		b.Put("raw/a.ndjson", lines(7, 1))
		b.Put("raw/all.ndjson", lines(7, 13))
		b.Put("raw/clean.ndjson", lines(1))
		b.Put("raw/old.ndjson", lines(7))
		b.Put("raw/old.ndjson", lines(1))
		return b
	}
	calm := fill(t)
	calm.run(t, open(t, calm.job(t, "0s", bucketTarget), jobs.Env{}))
	want := calm.Stored("")
	for name, do := range troubles {
		t.Run(name, func(t *testing.T) {
			b := fill(t)
			x := &trouble{seen: map[string]bool{}, do: do}
			b.SetHook(x.hook)
			sum := b.run(t, open(t, b.job(t, "0s", bucketTarget), jobs.Env{}))
			if sum.Outcome != string(manifests.Erased) {
				t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
			}
			if diff := cmp.Diff(want, b.Stored("")); diff != "" {
				t.Error(diff)
			}
			// An upload whose beginning was never answered is nobody's, and empty.
			for _, u := range b.Uploads() {
				if name != "lost answer" && name != "truncated" || !strings.HasSuffix(u, " empty") {
					t.Errorf("left: %s", u)
				}
			}
			for _, kind := range []string{"list", "versions", "uploads", "versioning", "GET", "HEAD", "PUT", "begin", "part", "copy", "complete", "delete", "DELETE", "DELETE version"} {
				if !x.seen[kind] {
					t.Errorf("no %s was disturbed", kind)
				}
			}
		})
	}
}

// TestATruncatedListIsNoWholeOne: a page that says there is more, and not
// where, is not the end of the prefix.
func TestATruncatedListIsNoWholeOne(t *testing.T) {
	b := newBucketLake(t)
	for i := range 1005 {
		b.Put(fmt.Sprintf("raw/%04d.ndjson", i), lines(1))
	}
	b.Put("raw/z.ndjson", lines(1, 7))
	b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if s3test.Kind(r) != "list" {
			serve(w, r)
			return
		}
		rec := httptest.NewRecorder()
		serve(rec, r)
		body := rec.Body.String()
		if from, to := strings.Index(body, "<NextContinuationToken>"), strings.Index(body, "</NextContinuationToken>"); from >= 0 {
			body = body[:from] + body[to+len("</NextContinuationToken>"):]
		}
		_, _ = w.Write([]byte(body))
	})
	if sum, err := open(t, b.job(t, "0s", bucketTarget), jobs.Env{}).Run(t.Context(), jobs.RunOptions{}); err == nil {
		t.Errorf("outcome %s of half a list", sum.Outcome)
	}
}
