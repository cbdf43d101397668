package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/storagetest"
)

func TestMain(m *testing.M) {
	var opts []goleak.Option
	if os.Getenv("EXPUNGE_TEST_S3") != "" { // idle connections to a server that outlives the tests
		opts = append(opts, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
	}
	goleak.VerifyTestMain(m, opts...)
}

// server is an S3 server in this process. before sees each request first and
// may answer it (true); after sees it when it had its effect and may spoil the
// answer (true).
type server struct {
	*httptest.Server
	fake          http.Handler
	before, after atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	in, out       atomic.Int64 // bytes of object content
	copies        atomic.Int64
	noCopy        bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	back := s3mem.New()
	if err := back.CreateBucket("b"); err != nil {
		t.Fatal(err)
	}
	s := &server{fake: gofakes3.New(back, gofakes3.WithTimeSkewLimit(0)).Server()}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := s.before.Load(); f != nil && (*f)(w, r) {
		return
	}
	if r.Header.Get("x-amz-copy-source-range") != "" && !s.noCopy {
		s.copyPart(w, r)
		return
	}
	if r.URL.Query().Has("tagging") { // the fake knows no tags
		_, _ = io.WriteString(w, "<Tagging><TagSet><Tag><Key>team</Key><Value>crm</Value></Tag></TagSet></Tagging>")
		return
	}
	s.in.Add(max(r.ContentLength, 0))
	rec := httptest.NewRecorder()
	s.fake.ServeHTTP(rec, r)
	if f := s.after.Load(); f != nil && (*f)(w, r) {
		return
	}
	if r.Method == http.MethodGet {
		s.out.Add(int64(rec.Body.Len()))
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// copyPart does what the fake lacks: it reads the range and stores it as a part.
func (s *server) copyPart(w http.ResponseWriter, r *http.Request) {
	get := httptest.NewRequestWithContext(r.Context(), http.MethodGet, "/"+r.Header.Get("x-amz-copy-source"), nil)
	get.Header.Set("Range", r.Header.Get("x-amz-copy-source-range"))
	got := httptest.NewRecorder()
	s.fake.ServeHTTP(got, get)
	if got.Code >= 300 {
		w.WriteHeader(got.Code)
		return
	}
	if want := r.Header.Get("x-amz-copy-source-if-match"); want != "" && want != got.Header().Get("ETag") {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	put := httptest.NewRequestWithContext(r.Context(), http.MethodPut, r.URL.String(), bytes.NewReader(got.Body.Bytes()))
	put.Header.Set("Content-Length", strconv.Itoa(got.Body.Len()))
	rec := httptest.NewRecorder()
	s.fake.ServeHTTP(rec, put)
	if rec.Code >= 300 {
		w.WriteHeader(rec.Code)
		return
	}
	s.copies.Add(int64(got.Body.Len()))
	fmt.Fprintf(w, "<CopyPartResult><ETag>%s</ETag></CopyPartResult>", rec.Header().Get("ETag"))
}

// on sets a hook for the requests that want picks, the first n of them.
func on(p *atomic.Pointer[func(http.ResponseWriter, *http.Request) bool], n int, want func(*http.Request) bool, do func(http.ResponseWriter, *http.Request)) {
	var mu sync.Mutex
	f := func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		hit := n > 0 && want(r)
		if hit {
			n--
		}
		mu.Unlock()
		if hit {
			do(w, r)
		}
		return hit
	}
	p.Store(&f)
}

func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func method(m string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == m }
}

func store(t *testing.T, s *server) storage.Store {
	t.Helper()
	// Its own transport: connections must not outlive the test.
	st, err := Open(t.Context(), storage.ParseLocation("s3://b/"), map[string]string{
		propEndpoint: s.URL, propKeyID: "id", propSecret: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseClientConnections)
	return st
}

func retrying(s storage.Store) storage.Store {
	return storage.WithRetry(s, storage.RetryPolicy{Attempts: 4, Base: time.Millisecond, Max: 10 * time.Millisecond})
}

func TestConformance(t *testing.T) {
	s := newServer(t)
	storagetest.Run(t, retrying(store(t, s)), storagetest.Options{
		Root: "s3://b/conformance/", BigObject: 12 << 20, RemoveIf: true, CopyRange: true,
	})
}

func TestObjectsAreWholeOrAbsentUnderFaults(t *testing.T) {
	st := store(t, newServer(t))
	storagetest.WholeOrAbsent(t, st, "s3://b/", 200, 10_000)
	storagetest.WholeOrAbsent(t, st, "s3://b/", 30, 12<<20)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i*7)
	}
	return b
}

// TestTroubleOnTheWireIsRiddenOut: whatever goes wrong with one or two
// requests of any kind, before or after their effect, the object arrives once
// and whole.
func TestTroubleOnTheWireIsRiddenOut(t *testing.T) {
	trouble := map[string]func(http.ResponseWriter, *http.Request){
		"reset": reset, "503": status(503), "500": status(500), "429": status(429), "409": status(409),
	}
	for name, do := range trouble {
		for _, m := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			for _, when := range []string{"before", "after"} {
				t.Run(name+" "+m+" "+when, func(t *testing.T) {
					s := newServer(t)
					st := retrying(store(t, s))
					hook := &s.before
					if when == "after" {
						hook = &s.after
					}
					for _, size := range []int{1000, 9 << 20} {
						if size > 1000 && name != "reset" && name != "503" {
							continue // parts fail no differently from small objects
						}
						on(hook, 2, method(m), do)
						roundTrip(t, st, fmt.Sprintf("s3://b/x%d", size), pattern(size))
					}
				})
			}
		}
	}
}

func roundTrip(t *testing.T, st storage.Store, path string, data []byte) {
	t.Helper()
	w, err := st.Create(t.Context(), path, storage.CreateOptions{IfNotExists: true})
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		k := min(len(rest), 3<<20)
		if n, err := w.Write(rest[:k]); err != nil || n != k {
			t.Fatalf("write: %d %v", n, err)
		}
		rest = rest[k:]
	}
	if err := w.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	got, err := storage.ReadAll(t.Context(), st, path)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("read: %d bytes, %v", len(got), err)
	}
	n := 0
	for _, err := range st.List(t.Context(), path) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1 {
		t.Fatalf("%d objects", n)
	}
	if err := st.Remove(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

func TestTruncatedAnswerIsReadAgain(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	data := pattern(100_000)
	if err := storage.WriteAll(t.Context(), st, "s3://b/x", data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(data[:500])
	}
	on(&s.before, 1, method("GET"), cut)
	if _, err := storage.ReadAll(t.Context(), st, "s3://b/x"); !storage.IsTransient(err) {
		t.Fatalf("truncated read: %v", err)
	}
	on(&s.before, 2, method("GET"), cut)
	got, err := storage.ReadAll(t.Context(), retrying(st), "s3://b/x")
	if err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
}

func TestPermanentRefusalIsNotRetried(t *testing.T) {
	for code, want := range map[int]error{403: fs.ErrPermission, 401: fs.ErrPermission, 507: storage.ErrNoSpace, 501: storage.ErrUnsupported} {
		s := newServer(t)
		var n atomic.Int64
		on(&s.before, 1000, func(*http.Request) bool { n.Add(1); return true }, status(code))
		st := retrying(store(t, s))
		_, err := st.Open(t.Context(), "s3://b/user=jane/x")
		if !errors.Is(err, want) || n.Load() != 1 {
			t.Errorf("%d: %v after %d requests", code, err, n.Load())
		}
		if strings.Contains(fmt.Sprint(err), "jane") {
			t.Errorf("error names the path: %v", err)
		}
		err = storage.WriteAll(t.Context(), st, "s3://b/user=jane/x", []byte("x"), storage.CreateOptions{})
		if !errors.Is(err, want) || strings.Contains(fmt.Sprint(err), "jane") {
			t.Errorf("%d: write: %v", code, err)
		}
	}
}

func TestUnreachableServerIsTransientAndNamesNoPath(t *testing.T) {
	s := newServer(t)
	st := store(t, s)
	s.Close()
	_, err := st.Open(t.Context(), "s3://b/user=jane/x")
	if !storage.IsTransient(err) || strings.Contains(err.Error(), "jane") {
		t.Error(err)
	}
}

func TestThrottlingLowersTheSharedRate(t *testing.T) {
	s := newServer(t)
	limits := storage.NewLimits(0, 1000)
	st := retrying(storage.WithLimits(store(t, s), limits))
	if err := storage.WriteAll(t.Context(), st, "s3://b/x", []byte("x"), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	on(&s.before, 2, method("HEAD"), status(503))
	if _, err := st.Open(t.Context(), "s3://b/x"); err != nil {
		t.Fatal(err)
	}
	if _, rate, n := limits.Rates(); n != 2 || rate >= 1000 {
		t.Errorf("throttled %d times, rate %f", n, rate)
	}
}

func TestCredentialsComeInPairs(t *testing.T) {
	_, err := Open(t.Context(), storage.ParseLocation("s3://b/"), map[string]string{propKeyID: "id"})
	if err == nil {
		t.Error("half a credential was taken")
	}
}
