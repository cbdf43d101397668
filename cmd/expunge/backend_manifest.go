package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// bindManifests connects the commands about evidence.
func bindManifests(b *cli.Backend) {
	b.ManifestShow, b.ManifestVerify, b.ManifestReport, b.Keygen = manifestShow, manifestVerify, manifestReport, keygen
}

// evidence is a manifest with what lies beside it.
type evidence struct {
	name     string // the envelope's path
	envelope []byte
	proof    []byte
	sidecar  storage.Object // nil = none
	trust    *manifests.Trust
}

func (e *evidence) close() {
	if e.sidecar != nil {
		_ = e.sidecar.Close()
	}
}

func (e *evidence) bundle() manifests.Bundle {
	b := manifests.Bundle{Envelope: e.envelope, Proof: e.proof}
	if e.sidecar != nil {
		b.Sidecar, b.Size = e.sidecar, e.sidecar.Info().Size
	}
	return b
}

// locate reads a manifest given as a file or as a run, with its proof and sidecar.
func locate(ctx context.Context, e cli.Env, r cli.ManifestRequest) (*evidence, error) {
	props, err := r.State.Storage.Reveal()
	if err != nil {
		return nil, fmt.Errorf("storage properties: %w", err)
	}
	store := storage.WithRetry(storage.New(props), storage.DefaultRetry)
	ev := &evidence{name: r.Manifest}
	if !strings.HasSuffix(r.Manifest, ".intoto.jsonl") {
		if ev.name, err = newestManifest(ctx, store, r.State, r.Manifest); err != nil {
			return nil, err
		}
	}
	if ev.envelope, err = storage.ReadAll(ctx, store, ev.name); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	base := strings.TrimSuffix(ev.name, ".intoto.jsonl")
	if ev.proof, err = storage.ReadAll(ctx, store, base+".tlog-proof"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read log proof: %w", err)
	}
	if ev.sidecar, err = store.Open(ctx, base+".evidence.parquet"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open evidence: %w", err)
	}
	if err != nil {
		ev.sidecar = nil
	}
	ev.trust, err = trustOf(ctx, e, r)
	return ev, err
}

// newestManifest finds the last manifest of a run in the state bucket.
func newestManifest(ctx context.Context, store storage.Store, s cli.State, ref string) (string, error) {
	st, err := openState(ctx, s)
	if err != nil {
		return "", err
	}
	id, err := find(ctx, st, ref)
	if err != nil {
		return "", err
	}
	var newest string
	var at int64
	prefix := strings.TrimSuffix(s.Location, "/") + "/manifests/" + id
	for info, err := range store.List(ctx, prefix) {
		if err != nil {
			return "", fmt.Errorf("list manifests: %w", err)
		}
		if strings.HasSuffix(info.Path, ".intoto.jsonl") && info.ModTime.UnixNano() >= at {
			newest, at = info.Path, info.ModTime.UnixNano()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("run %s has no manifest yet: %w", id, jobs.ErrNoRun)
	}
	return newest, nil
}

// trustOf is what the reader believes in: the trust file, the public keys on
// the command line, or, for a run, the keys that its own job names. The last
// shows that nothing was altered since, not who signed.
func trustOf(ctx context.Context, e cli.Env, r cli.ManifestRequest) (*manifests.Trust, error) {
	switch {
	case r.Trust != "":
		raw, err := os.ReadFile(r.Trust)
		if err != nil {
			return nil, fmt.Errorf("read trust file: %w", err)
		}
		return manifests.ParseTrust(raw)
	case len(r.PublicKeys) > 0:
		return trustKeys(r.PublicKeys)
	case strings.HasSuffix(r.Manifest, ".intoto.jsonl"):
		return nil, nil
	}
	j, err := openSealed(ctx, e, r, r.Manifest)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	return j.Trust(ctx)
}

// openSealed opens the job that a run was frozen with; of a sealed run, which
// does not tell it any more, the job that the reader names.
func openSealed(ctx context.Context, e cli.Env, r cli.ManifestRequest, run string) (*jobs.Job, error) {
	j, _, err := openOf(ctx, e, cli.RunRef{State: r.State, RunID: run})
	switch {
	case !errors.Is(err, state.ErrSealed):
		return j, err
	case r.Job == nil:
		return nil, fmt.Errorf("%w; name its job with --job, or whom you trust with --trust or --key: %w", err, jobs.ErrUsage)
	}
	return open(ctx, e, r.Job)
}

func trustKeys(files []string) (*manifests.Trust, error) {
	var keys []manifests.TrustedKey
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		pub, err := manifests.ParsePublic(string(raw))
		if err != nil {
			return nil, fmt.Errorf("public key %s: %w", f, err)
		}
		k, err := manifests.Trusted(pub, filepath.Base(f), manifests.RoleExecutor, manifests.RoleVerifier, manifests.RoleLog)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return manifests.NewTrust(keys...)
}

func manifestShow(ctx context.Context, e cli.Env, r cli.ManifestRequest) (*cli.ManifestResponse, error) {
	ev, err := locate(ctx, e, r)
	if err != nil {
		return nil, err
	}
	defer ev.close()
	m, err := manifests.Read(ev.envelope)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return manifestResponse(ev, m, nil)
}

func manifestVerify(ctx context.Context, e cli.Env, r cli.ManifestRequest) (*cli.ManifestResponse, error) {
	ev, err := locate(ctx, e, r)
	if err != nil {
		return nil, err
	}
	defer ev.close()
	if ev.trust == nil {
		return nil, fmt.Errorf("say whom you trust with --trust FILE or --key PUBLIC_KEY: %w", jobs.ErrUsage)
	}
	ev.trust.TrustLogOf(ev.proof)
	m, checks := manifests.Verify(ctx, ev.bundle(), ev.trust)
	if m != nil && !strings.HasSuffix(r.Manifest, ".intoto.jsonl") {
		checks = append(checks, ownPlace(ev.name, m))
	}
	resp, err := manifestResponse(ev, m, checks)
	if err != nil {
		return nil, err
	}
	ok, _ := manifests.Verified(checks)
	if r.AgainstData {
		against, err := againstData(ctx, e, r, ev, m)
		if err != nil {
			return resp, err
		}
		good, _ := manifests.Verified(against)
		resp.Checks, ok = append(resp.Checks, checkInfos(against)...), ok && good
	}
	resp.Valid = &ok
	return resp, nil
}

// ownPlace checks that a manifest of the state bucket is the one whose place it
// has: a genuine one could be put in another's.
func ownPlace(name string, m *manifests.Manifest) manifests.Check {
	c := manifests.Check{Name: "own place", OK: path.Base(filepath.ToSlash(name)) == manifests.EnvelopeName(m.ID)}
	if !c.OK {
		c.Reason = "replayed: this is manifest " + m.ID + ", put in the place of " + strings.TrimSuffix(path.Base(filepath.ToSlash(name)), manifests.EnvelopeName(""))
	}
	return c
}

// againstData compares the manifest with the data as it is now.
func againstData(ctx context.Context, e cli.Env, r cli.ManifestRequest, ev *evidence, m *manifests.Manifest) ([]manifests.Check, error) {
	if m == nil {
		return []manifests.Check{{Name: "against the data", Reason: "the manifest cannot be read"}}, nil
	}
	j, err := openSealed(ctx, e, r, m.RunID)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	b := ev.bundle()
	return j.AgainstData(ctx, m, b.Sidecar, b.Size)
}

// checkInfos are checks as the terminal shows them.
func checkInfos(checks []manifests.Check) (out []cli.Check) {
	for _, c := range checks {
		detail := c.Reason
		if c.Skipped {
			detail = "not checked: " + detail
		}
		out = append(out, cli.Check{What: c.Name, OK: c.OK || c.Skipped, Detail: detail})
	}
	return out
}

// manifestReport renders a manifest, checked as manifestVerify does where somebody is trusted.
func manifestReport(ctx context.Context, e cli.Env, r cli.ReportRequest) (*cli.ReportResponse, error) {
	ev, err := locate(ctx, e, r.ManifestRequest)
	if err != nil {
		return nil, err
	}
	defer ev.close()
	var checks []manifests.Check
	if ev.trust != nil {
		_, checks = manifests.Verify(ctx, ev.bundle(), ev.trust)
	}
	m, err := manifests.Read(ev.envelope)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	report := manifests.Report{Manifest: m, Checks: checks, Digest: manifests.Digest(ev.envelope)}
	if ev.sidecar != nil {
		side, err := manifests.OpenSidecar(ev.sidecar, ev.sidecar.Info().Size)
		if err == nil {
			report.Breakdown, err = side.Breakdown()
		}
		if err != nil && ev.trust == nil { // otherwise the report shows the check that failed
			return nil, err
		}
	}
	var html bytes.Buffer
	if err := report.HTML(&html); err != nil {
		return nil, err
	}
	if r.Output == "" {
		// Of the file's name, not of the id within: nobody may have vouched for that.
		r.Output = strings.TrimSuffix(path.Base(filepath.ToSlash(ev.name)), ".intoto.jsonl") + ".html"
	}
	if err := os.WriteFile(r.Output, html.Bytes(), 0o644); err != nil {
		return nil, fmt.Errorf("write report: %w", err)
	}
	shown, err := manifestResponse(ev, m, checks)
	if err != nil {
		return nil, err
	}
	resp := &cli.ReportResponse{Manifest: ev.name, RunID: m.RunID, Outcome: string(m.Outcome.Result), Report: r.Output, Checks: shown.Checks}
	if checks != nil {
		ok, _ := manifests.Verified(checks)
		resp.Valid = &ok
	}
	return resp, nil
}

func manifestResponse(ev *evidence, m *manifests.Manifest, checks []manifests.Check) (*cli.ManifestResponse, error) {
	resp := &cli.ManifestResponse{Manifest: ev.name}
	resp.Checks = checkInfos(checks)
	if m == nil {
		return resp, nil
	}
	resp.RunID, resp.Outcome = m.RunID, string(m.Outcome.Result)
	var text bytes.Buffer
	if err := manifests.Text(&text, m, checks); err != nil {
		return nil, fmt.Errorf("render manifest: %w", err)
	}
	resp.Text = text.String()
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	resp.Body = body
	return resp, nil
}

func writeFile(name string, flags int, mode fs.FileMode, data []byte) error {
	f, err := os.OpenFile(name, flags, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
