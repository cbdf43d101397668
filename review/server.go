package review

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// Config says what is served, and to whom.
type Config struct {
	Store storage.Store
	Root  string // of the state bucket
	// Trust is whom a run's manifests are checked against; nil = nothing is checked, and pages say so.
	Trust func(ctx context.Context, run string) (*manifests.Trust, error)
	// Requests says what became of each request, and how many runs could not be asked; nil = the page has none.
	Requests func(ctx context.Context) (list []Request, unread int, err error)
	// Certificates is a folder of issued certificates; nil = none are shown.
	Certificates fs.FS
	Token        string   // at least MinToken characters; "" = loopback only
	Hosts        []string // host names by which the server may be asked for, besides the loopback's
	Version      string
	Log          *slog.Logger
}

// MinToken is the shortest token that is accepted.
const MinToken = 20

// Errors of Serve and New.
var (
	// ErrToken: the address can be reached from other machines and there is no token.
	ErrToken = errors.New("an address beyond the loopback interface needs a token")
	// ErrWeakToken: the token could be guessed.
	ErrWeakToken = fmt.Errorf("the token has fewer than %d characters", MinToken)
)

// Server is the web page over one state bucket.
type Server struct {
	cfg     Config
	store   storage.Store
	root    string
	index   *index
	logs    *logHealth
	book    *requestBook
	shelf   *shelf
	full    chan struct{} // one complete check of a sidecar at a time
	metrics *metrics
	mux     *http.ServeMux
}

// New makes a server. Nothing is read before the first request.
func New(cfg Config) (*Server, error) {
	if cfg.Token != "" && len(cfg.Token) < MinToken {
		return nil, ErrWeakToken
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, root: strings.TrimSuffix(cfg.Root, "/") + "/", full: make(chan struct{}, 1)}
	s.store = readable{cfg.Store, s.root}
	st, err := state.Open(context.Background(), s.store, s.root)
	if err != nil {
		return nil, err
	}
	s.index = newIndex(st, s.store, s.root)
	s.logs = &logHealth{s: s}
	s.book = &requestBook{s: s}
	s.shelf = &shelf{dir: cfg.Certificates}
	s.metrics = newMetrics(s)
	s.mux = s.routes()
	return s, nil
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	page := func(pattern string, h func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	page("/{$}", s.overview)
	page("/runs", s.runs)
	page("/runs/{run}", s.run)
	page("/manifests/{id}", s.manifest)
	page("/manifests/{id}/files", s.files)
	page("/manifests/{id}/files/{n}", s.file)
	page("/manifests/{id}/download/{name}", s.download)
	page("/requests", s.requests)
	page("/certificates", s.certificates)
	page("/certificates/{file}/{form}", s.certificate)
	page("/deadlines", s.deadlines)
	page("/residue", s.residue)
	page("/targets", s.targets)
	page("/log", s.log)
	page("/assets/{name}", s.asset)
	page("/", func(http.ResponseWriter, *http.Request) error { return errNotFound })
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	return mux
}

// Handler answers requests that reach the server under one of its names; see guard.
func (s *Server) Handler() http.Handler { return s.guard(s.mux) }

// Serve answers on the listener until the context ends. It refuses a listener
// beyond the loopback interface without a token.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.cfg.Token == "" && !loopback(l.Addr()) {
		return ErrToken
	}
	srv := &http.Server{
		Handler: s.Handler(), BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 5 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// TLS wraps a listener. Serve still knows by its address whether it is the loopback's.
func TLS(l net.Listener, c *tls.Config) net.Listener { return tls.NewListener(l, c) }

func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

var _ prometheus.Collector = scrape{}
