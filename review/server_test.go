package review

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/review/reviewtest"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const root = "mem-root"

// site is a server over a bucket, at a fixed time.
type site struct {
	t      testing.TB
	store  storage.Store
	bucket *reviewtest.Bucket
	server *Server
	log    bytes.Buffer
}

func newSite(t testing.TB, o reviewtest.Options, change func(*Config)) *site {
	t.Helper()
	s := &site{t: t, store: storage.NewMem()}
	if o.Now.IsZero() {
		o.Now = now
	}
	var err error
	if s.bucket, err = reviewtest.Make(context.Background(), s.store, root, o); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: s.store, Root: root, Version: "test", Log: slog.New(slog.NewTextHandler(&s.log, nil)),
		Trust: func(context.Context, string) (*manifests.Trust, error) { return s.bucket.Trust, nil }}
	if change != nil {
		change(&cfg)
	}
	if s.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) request(method, target string, change func(*http.Request)) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Host = "localhost:8411"
	r = r.WithContext(clock.With(r.Context(), func() time.Time { return now }))
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, r)
	return w.Result()
}

func (s *site) get(target string) (int, string) {
	s.t.Helper()
	resp := s.request("GET", target, nil)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// must gets a page that has to be there and to show all of want.
func (s *site) must(target string, want ...string) string {
	s.t.Helper()
	code, body := s.get(target)
	if code != 200 {
		s.t.Fatalf("%s: status %d: %s\n%s", target, code, text(body), s.log.String())
	}
	for _, w := range want {
		if !strings.Contains(text(body), w) {
			s.t.Errorf("%s does not show %q", target, w)
		}
	}
	return body
}

var tags = regexp.MustCompile(`<[^>]*>`)

func text(html string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("&#43;", "+", "&#39;", "'", "&amp;", "&").Replace(tags.ReplaceAllString(html, " "))), " ")
}

// links are all addresses of the site that a page refers to.
func links(body string) (out []string) {
	for _, m := range regexp.MustCompile(`(?:href|src|action)="(/[^"#]*)`).FindAllStringSubmatch(body, -1) {
		out = append(out, strings.ReplaceAll(m[1], "&amp;", "&"))
	}
	return out
}

// crawl follows every link from the overview on, at most max pages.
func (s *site) crawl(max int, visit func(target string, resp *http.Response, body string)) {
	s.t.Helper()
	seen, queue := map[string]bool{"/": true}, []string{"/", "/metrics", "/healthz", "/nothing"}
	for len(queue) > 0 && max > 0 {
		target := queue[0]
		queue, max = queue[1:], max-1
		resp := s.request("GET", target, nil)
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		visit(target, resp, string(b))
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || resp.Header.Get("Content-Disposition") != "" {
			continue
		}
		for _, l := range links(string(b)) {
			if !seen[l] {
				seen[l] = true
				queue = append(queue, l)
			}
		}
	}
}

// TestEveryLinkLeadsSomewhere, and every answer has the headers that keep a page to itself.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 8, Files: 120, Logged: 8, Jobs: 2}, nil)
	pages := 0
	s.crawl(400, func(target string, resp *http.Response, body string) {
		if pages++; resp.StatusCode != http.StatusOK && target != "/nothing" {
			t.Errorf("%s: status %d", target, resp.StatusCode)
		}
		h := resp.Header
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin"} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", target, name, h.Get(name))
			}
		}
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: the policy lacks %s", target, want)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("%s: the policy allows inline code: %s", target, csp)
		}
		if h.Get("Content-Disposition") == "" && regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=`).MatchString(body) {
			t.Errorf("%s has inline code or style, which its policy forbids", target)
		}
	})
	if pages < 60 {
		t.Errorf("only %d pages were found", pages)
	}
}

func TestOnlyReadingIsAnswered(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 1}, nil)
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"} {
		if resp := s.request(m, "/", nil); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" {
			t.Errorf("%s: status %d", m, resp.StatusCode)
		}
	}
	if resp := s.request("HEAD", "/runs", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("HEAD: status %d", resp.StatusCode)
	}
}

// TestForeignNamesAreRefused: what a page of another site can do after its name
// was pointed at this machine.
func TestForeignNamesAreRefused(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 1}, func(c *Config) { c.Hosts = []string{"erasure.example", "10.0.0.5"} })
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:8411": 200, "127.0.0.1:8411": 200, "[::1]:8411": 200, "::1": 200, "localhost.": 200,
		"erasure.example": 200, "Erasure.Example:443": 200, "10.0.0.5:8411": 200,
		"evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:8411": 421, "": 421, "0.0.0.0:8411": 421, "127.0.0.2": 421, "evil.example:8411": 421,
	} {
		resp := s.request("GET", "/", func(r *http.Request) { r.Host = host })
		if resp.StatusCode != want {
			t.Errorf("host %q: status %d, want %d", host, resp.StatusCode, want)
		}
	}
}

func TestTokenIsNeededAndEnough(t *testing.T) {
	const token = "a-token-of-some-length-0123"
	s := newSite(t, reviewtest.Options{Runs: 1}, func(c *Config) { c.Token = token })
	basic := func(user, pass string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
	}
	for auth, want := range map[string]int{
		"": 401, "Bearer " + token: 200, basic("anna", token): 200, basic("", token): 200,
		"Bearer " + token[1:]: 401, "Bearer " + token + "x": 401, "bearer": 401, basic(token, ""): 401, basic("anna", token[:len(token)-1]): 401, "Bearer ": 401, "Basic !!!": 401,
	} {
		for _, target := range []string{"/", "/metrics", "/runs", "/assets/" + styleName, "/manifests/x/download/evidence"} {
			resp := s.request("GET", target, func(r *http.Request) {
				if auth != "" {
					r.Header.Set("Authorization", auth)
				}
			})
			if got := resp.StatusCode; (got == 401) != (want == 401) {
				t.Errorf("%s with %q: status %d", target, auth, got)
			}
			if resp.StatusCode == http.StatusUnauthorized && !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
				t.Error("a browser would not ask for the token")
			}
		}
	}
	if resp := s.request("GET", "/healthz", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", resp.StatusCode)
	}
	if resp := s.request("GET", "/?token="+token, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Error("a token in an address, which ends up in histories and logs, was accepted")
	}
	if _, err := New(Config{Store: s.store, Root: root, Token: "short"}); err == nil {
		t.Error("a short token was accepted")
	}
}

type addr struct{ net.Listener }

func (addr) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 1} }
func (addr) Close() error   { return nil }

func TestWithoutTokenOnlyTheLoopbackIsServed(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 1}, nil)
	if err := s.server.Serve(context.Background(), addr{}); err == nil {
		t.Error("served beyond the loopback interface without a token")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ctx, l) }()
	resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestNothingSecretIsServed: canaries stand where a bucket keeps what is not
// for the page; no address, however it is spelled, gives one away.
func TestNothingSecretIsServed(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 3, Files: 60, Logged: 3}, nil)
	const canary = "canary-4711"
	run := s.bucket.Newest
	hidden := []string{"secrets/" + run, "runs/" + run + "/job.json", "runs/" + run + "/keysets/users", "keys/executor.pem", "key-index/x/y.seg", "secrets/key-index", "other.txt"}
	for _, name := range hidden {
		if err := storage.WriteAll(t.Context(), s.store, root+"/"+name, []byte(canary+" "+name), storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	visit := func(target string, resp *http.Response, body string) {
		for k, v := range resp.Header {
			body += k + fmt.Sprint(v)
		}
		if strings.Contains(body, canary) {
			t.Errorf("%s gives a secret away", target)
		}
	}
	s.crawl(200, visit)
	for _, name := range hidden {
		for _, form := range []string{"/%s", "/assets/%s", "/assets/..%%2f%s", "/manifests/..%%2f%s", "/manifests/%%2e%%2e%%2f%s/download/manifest", "/runs/..%%2f%s", "/manifests/" + run + "-run/download/..%%2f..%%2f%s", "/log/%s"} {
			r, err := url.Parse("http://localhost" + fmt.Sprintf(form, url.PathEscape(name)))
			if err != nil {
				t.Fatal(err)
			}
			resp := s.request("GET", r.RequestURI(), nil)
			b, _ := io.ReadAll(resp.Body)
			visit(r.RequestURI(), resp, string(b))
			if resp.StatusCode == http.StatusOK {
				t.Errorf("%s: status 200", r)
			}
		}
	}
	if strings.Contains(s.log.String(), canary) {
		t.Error("the log gives a secret away")
	}
	// The store itself refuses, whatever a handler asks for.
	guarded := readable{s.store, root + "/"}
	for _, name := range append(hidden, "manifests/../secrets/"+run, "status/./../keys/executor.pem", "") {
		if _, err := guarded.Open(t.Context(), root+"/"+name); err == nil {
			t.Errorf("the store opened %s", name)
		}
		for _, err := range guarded.List(t.Context(), root+"/"+strings.TrimSuffix(name, run)) {
			if err == nil {
				t.Errorf("the store listed %s", name)
			}
		}
	}
	if _, err := guarded.Create(t.Context(), root+"/manifests/x", storage.CreateOptions{}); err == nil || guarded.Remove(t.Context(), root+"/manifests/x") == nil {
		t.Error("the store can be written")
	}
}

// TestNamesCannotBecomeMarkup: what comes from catalogs and job files is text.
func TestNamesCannotBecomeMarkup(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 1, Files: 5}, nil)
	for _, q := range []string{"/runs?run=%3Cscript%3Ealert(1)%3C/script%3E", "/runs?job=%22%3E%3Cb%3E", "/manifests/" + s.bucket.Newest + "-run/files?q=%3Cscript%3E&target=%22%3E%3Cb%3E", "/%3Cscript%3E"} {
		_, body := s.get(q)
		if strings.Contains(body, "<script>") || strings.Contains(body, `"><b>`) {
			t.Errorf("%s: markup came through", q)
		}
	}
}

// failing is a store that breaks.
type failing struct{ storage.Store }

func (failing) Open(context.Context, string) (storage.Object, error) {
	return nil, fmt.Errorf("dial tcp: secret-host-4711: %w", fs.ErrPermission)
}

// TestErrorsSayNothingOfTheStore, and the page says that something is wrong.
func TestErrorsSayNothingOfTheStore(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 2}, func(c *Config) { c.Store = failing{c.Store} })
	code, body := s.get("/")
	if code != http.StatusBadGateway || strings.Contains(body, "4711") || !strings.Contains(body, "could not be read") {
		t.Errorf("status %d: %s", code, text(body))
	}
	if !strings.Contains(s.log.String(), "secret-host-4711") {
		t.Error("the log does not say why")
	}
	if code, body := s.get("/metrics"); code != 200 || !strings.Contains(body, "expunge_state_up 0") {
		t.Errorf("metrics: %d %s", code, body)
	}
}
