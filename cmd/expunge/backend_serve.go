package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/review"
)

func serve(ctx context.Context, e cli.Env, r cli.ServeRequest) (*cli.ServeResponse, error) {
	props, err := r.State.Storage.Reveal()
	if err != nil {
		return nil, fmt.Errorf("storage properties: %w", err)
	}
	trust, err := trustForPages(ctx, e, r)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(r.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s is not host:port: %w", r.Listen, jobs.ErrUsage)
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		r.Hosts = append(r.Hosts, ip.String())
	}
	var requests func(context.Context) ([]review.Request, int, error)
	if r.Requests {
		requests = func(ctx context.Context) ([]review.Request, int, error) { return requestsForPages(ctx, r.State) }
	}
	var certificates fs.FS
	if r.Certificates != "" {
		root, err := os.OpenRoot(r.Certificates)
		if err != nil {
			return nil, fmt.Errorf("open the folder of certificates: %w", err)
		}
		defer root.Close()
		certificates = root.FS() // no link leads out of it
	}
	s, err := review.New(review.Config{Requests: requests, Certificates: certificates, Store: storage.WithRetry(storage.New(props), storage.DefaultRetry), Root: r.State.Location,
		Trust: trust, Token: r.Token, Hosts: r.Hosts, Version: version().Version, Log: slog.Default()})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", r.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	scheme := "http"
	if r.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(r.TLSCert, r.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("load TLS certificate: %w", err)
		}
		scheme = "https"
		l = review.TLS(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	resp := &cli.ServeResponse{Address: scheme + "://" + l.Addr().String() + "/"}
	e.Reporter.Report(cli.Event{Type: "note", Message: "serving " + resp.Address})
	return resp, s.Serve(ctx, l)
}

// requestsForPages opens the runs, as expunge requests does.
func requestsForPages(ctx context.Context, where cli.State) ([]review.Request, int, error) {
	s, err := openState(ctx, where)
	if err != nil {
		return nil, 0, err
	}
	list, unread, err := jobs.Requests(ctx, s, clock.Now(ctx), jobs.RequestsOptions{})
	out := make([]review.Request, len(list))
	for i, q := range list {
		out[i] = review.Request{ID: q.ID, Status: q.Status, Received: q.Received, Deadline: q.Deadline, Until: q.Until, Done: q.Done, Met: q.Met,
			Keys: q.Keys, Held: q.Held, Found: q.Found, History: q.History, Targets: q.Targets, Missed: q.Missed, Runs: q.Runs}
	}
	return out, unread, err
}

// trustForPages says against whom pages check a run's manifests.
func trustForPages(ctx context.Context, e cli.Env, r cli.ServeRequest) (func(context.Context, string) (*manifests.Trust, error), error) {
	fixed := func(t *manifests.Trust, err error) (func(context.Context, string) (*manifests.Trust, error), error) {
		return func(context.Context, string) (*manifests.Trust, error) { return t, nil }, err
	}
	switch {
	case r.Trust != "":
		raw, err := os.ReadFile(r.Trust)
		if err != nil {
			return nil, fmt.Errorf("read trust file: %w", err)
		}
		return fixed(manifests.ParseTrust(raw))
	case len(r.PublicKeys) > 0:
		return fixed(trustKeys(r.PublicKeys))
	case r.Job != nil:
		j, err := open(ctx, e, r.Job)
		if err != nil {
			return nil, err
		}
		defer j.Close()
		return fixed(j.Trust(ctx))
	}
	own := &ownTrust{env: e, state: r.State, known: map[string]*manifests.Trust{}}
	return own.of, nil
}

// ownTrust trusts, for each run, the keys that its own job names.
type ownTrust struct {
	env   cli.Env
	state cli.State

	mu    sync.Mutex
	known map[string]*manifests.Trust
}

// ownTrustMax bounds what is kept.
const ownTrustMax = 1000

func (o *ownTrust) of(ctx context.Context, run string) (*manifests.Trust, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.known[run]; t != nil {
		return t, nil
	}
	s, err := openState(ctx, o.state)
	if err != nil {
		return nil, err
	}
	cfg, err := jobs.FrozenJob(ctx, s, run)
	if err != nil {
		return nil, err
	}
	j, err := open(ctx, o.env, cfg)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	t, err := j.Trust(ctx)
	if err != nil {
		return nil, err
	}
	if len(o.known) >= ownTrustMax {
		clear(o.known)
	}
	o.known[run] = t
	return t, nil
}
