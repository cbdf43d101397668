package review

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

var (
	envelopeSuffix = manifests.EnvelopeName("")
	sidecarSuffix  = manifests.SidecarName("")
	proofSuffix    = manifests.ProofName("")
)

// bundle is a manifest with what lies beside it.
type bundle struct {
	Summary  *summary
	Manifest *manifests.Manifest
	envelope []byte
	proof    []byte // nil = none
}

// find reads the manifest that a request names. Only manifests of the index are found.
func (s *Server) find(r *http.Request) (*view, *bundle, error) {
	ctx := r.Context()
	v, err := s.index.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	b := &bundle{Summary: v.Manifests[r.PathValue("id")]}
	if b.Summary == nil {
		if v.Unread > 0 {
			return nil, nil, errLoading
		}
		return nil, nil, errNotFound
	}
	if b.envelope, err = storage.ReadAll(ctx, s.store, s.beside(b.Summary.ID, envelopeSuffix)); err != nil {
		return nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	if b.Manifest, err = manifests.Read(b.envelope); err != nil {
		return nil, nil, fmt.Errorf("read manifest: %w", err)
	}
	if b.proof, err = storage.ReadAll(ctx, s.store, s.beside(b.Summary.ID, proofSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read log proof: %w", err)
	}
	return v, b, nil
}

func (s *Server) beside(id, suffix string) string { return s.root + "manifests/" + id + suffix }

// sidecar opens a manifest's evidence; fs.ErrNotExist where it has none.
func (s *Server) sidecar(ctx context.Context, id string) (*manifests.SidecarReader, io.Closer, error) {
	obj, err := s.store.Open(ctx, s.beside(id, sidecarSuffix))
	if err != nil {
		return nil, nil, fmt.Errorf("open evidence: %w", err)
	}
	side, err := manifests.OpenSidecar(newBlocks(obj, obj.Info().Size), obj.Info().Size)
	if err != nil {
		_ = obj.Close()
		return nil, nil, err
	}
	return side, obj, nil
}

// verify checks a manifest. Its evidence is read, as a whole, only where complete is set.
func (s *Server) verify(ctx context.Context, b *bundle, complete bool) ([]manifests.Check, error) {
	if s.cfg.Trust == nil {
		return nil, nil
	}
	trust, err := s.cfg.Trust(ctx, b.Summary.Run)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "no trust for a run's manifests", "run", b.Summary.Run, "error", err)
		return nil, nil
	}
	in := manifests.Bundle{Envelope: b.envelope, Proof: b.proof}
	if complete {
		select {
		case s.full <- struct{}{}:
			defer func() { <-s.full }()
		default:
			return nil, errBusy
		}
		obj, err := s.store.Open(ctx, s.beside(b.Summary.ID, sidecarSuffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open evidence: %w", err)
		}
		if err == nil {
			defer obj.Close()
			in.Sidecar, in.Size = obj, obj.Info().Size
		}
	}
	_, checks := manifests.Verify(ctx, in, trust)
	for i := range checks {
		if c := &checks[i]; c.Name == manifests.CheckSidecar && c.Skipped && !complete && b.Manifest.Evidence.Records > 0 {
			c.Reason = "the evidence was not read for this page; a complete check reads all of it"
		}
	}
	return checks, nil
}

type manifestData struct {
	*bundle
	Body      template.HTML
	Checks    []manifests.Check
	Verified  bool
	Complete  bool
	CanCheck  bool
	Downloads []download
	Siblings  []*summary
}

type download struct{ Name, Text, Link string }

func (s *Server) manifest(w http.ResponseWriter, r *http.Request) error {
	v, b, err := s.find(r)
	if err != nil {
		return err
	}
	d := manifestData{bundle: b, Complete: r.URL.Query().Get("check") == "complete", CanCheck: s.cfg.Trust != nil && b.Manifest.Evidence.Records > 0}
	if d.Checks, err = s.verify(r.Context(), b, d.Complete); err != nil {
		return err
	}
	d.Verified, _ = manifests.Verified(d.Checks)
	base := "/manifests/" + url.PathEscape(b.Summary.ID)
	report := manifests.Report{Manifest: b.Manifest, Checks: d.Checks, Digest: manifests.Digest(b.envelope)}
	if b.Manifest.Evidence.Records > 0 {
		report.Files = func(target string) string { return base + "/files?" + url.Values{"target": {target}}.Encode() }
	}
	if d.Body, err = report.Body(); err != nil {
		return err
	}
	for _, x := range []download{{"report", "report, one HTML file", ""}, {"manifest", "signed manifest", ""}, {"proof", "log proof", ""}, {"evidence", "evidence, Parquet", ""}} {
		if x.Name == "proof" && b.proof == nil || x.Name == "evidence" && b.Manifest.Evidence.Records == 0 {
			continue
		}
		x.Link = base + "/download/" + x.Name
		d.Downloads = append(d.Downloads, x)
	}
	if run, ok := v.run(b.Summary.Run); ok {
		d.Siblings = run.Manifests
	}
	return s.show(w, r, "manifest", "Manifest "+b.Summary.ID, v, d)
}

// download sends what an auditor takes along.
func (s *Server) download(w http.ResponseWriter, r *http.Request) error {
	_, b, err := s.find(r)
	if err != nil {
		return err
	}
	id := b.Summary.ID
	send := func(name, kind string, body []byte) error {
		attach(w, name, kind)
		_, _ = w.Write(body)
		return nil
	}
	switch r.PathValue("name") {
	case "report":
		return s.report(w, r, b)
	case "manifest":
		return send(id+envelopeSuffix, "application/json", b.envelope)
	case "proof":
		if b.proof == nil {
			return errNotFound
		}
		return send(id+proofSuffix, "text/plain; charset=utf-8", b.proof)
	case "evidence":
		return s.evidence(w, r, id)
	}
	return errNotFound
}

func attach(w http.ResponseWriter, name, kind string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
}

func (s *Server) evidence(w http.ResponseWriter, r *http.Request, id string) error {
	obj, err := s.store.Open(r.Context(), s.beside(id, sidecarSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return errNotFound
	}
	if err != nil {
		return fmt.Errorf("open evidence: %w", err)
	}
	defer obj.Close()
	attach(w, id+sidecarSuffix, "application/vnd.apache.parquet")
	info := obj.Info()
	http.ServeContent(w, r, "", info.ModTime, io.NewSectionReader(obj, 0, info.Size))
	return nil
}

func (s *Server) report(w http.ResponseWriter, r *http.Request, b *bundle) error {
	checks, err := s.verify(r.Context(), b, false)
	if err != nil {
		return err
	}
	rep := manifests.Report{Manifest: b.Manifest, Checks: checks, Digest: manifests.Digest(b.envelope)}
	side, closer, err := s.sidecar(r.Context(), b.Summary.ID)
	switch {
	case err == nil:
		defer closer.Close()
		if rep.Breakdown, err = side.Breakdown(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	attach(w, b.Summary.ID+".html", "text/html; charset=utf-8")
	return rep.HTML(w)
}

// recordView is a record with its place.
type recordView struct {
	manifests.Record
	Index int64
	Link  string
	Short string // the path below its target's location
}

type filesData struct {
	*bundle
	Select        manifests.Select
	Targets       []string
	Rows          []recordView
	First         string // address of the first page
	Next          string
	From, Records int64
}

// fileStatuses are what a list of files can be narrowed to.
var fileStatuses = []string{manifests.StatusRewritten, manifests.StatusDropped, manifests.StatusClean, manifests.StatusExcluded, manifests.StatusFailed, manifests.StatusRestored}

// Statuses are offered by the form.
func (filesData) Statuses() []string { return fileStatuses }

// files shows a page of records: it reads what it shows, and of the whole
// sidecar the columns that a search names.
func (s *Server) files(w http.ResponseWriter, r *http.Request) error {
	v, b, err := s.find(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	d := filesData{bundle: b, Select: manifests.Select{Kind: q.Get("kind"), Target: q.Get("target"), Status: q.Get("status"), Erased: q.Get("erased") == "1", Path: q.Get("q")}}
	for _, t := range b.Manifest.Targets {
		d.Targets = append(d.Targets, t.Name)
	}
	if at := q.Get("from"); at != "" {
		if d.From, err = strconv.ParseInt(at, 10, 64); err != nil || d.From < 0 {
			return errBadRequest
		}
	}
	side, closer, err := s.sidecar(r.Context(), b.Summary.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return errNotFound
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	d.Records = side.Records()
	found, next, err := side.Find(d.Select, d.From, perPage)
	if err != nil {
		return err
	}
	if d.Rows, err = read(side, found, b.Manifest); err != nil {
		return err
	}
	at := func(from int64) string {
		u := url.Values{}
		for _, k := range []string{"kind", "target", "status", "erased", "q"} {
			if q.Get(k) != "" {
				u.Set(k, q.Get(k))
			}
		}
		if from > 0 {
			u.Set("from", strconv.FormatInt(from, 10))
		}
		return r.URL.Path + "?" + u.Encode()
	}
	if d.From > 0 {
		d.First = at(0)
	}
	if next > 0 {
		d.Next = at(next)
	}
	return s.show(w, r, "files", "Files of "+b.Summary.ID, v, d)
}

// read reads records by their indexes, those that lie together at once.
func read(side *manifests.SidecarReader, found []int64, m *manifests.Manifest) ([]recordView, error) {
	var out []recordView
	locations := map[string]string{}
	for _, t := range m.Scope.Included {
		locations[t.Target] = strings.TrimSuffix(t.Location, "/") + "/"
	}
	for len(found) > 0 {
		n := 1
		for n < len(found) && found[n] == found[n-1]+1 {
			n++
		}
		recs, err := side.Page(found[0], n)
		if err != nil {
			return nil, err
		}
		for i, rec := range recs {
			at := found[0] + int64(i)
			out = append(out, recordView{rec, at, "/manifests/" + url.PathEscape(m.ID) + "/files/" + strconv.FormatInt(at, 10),
				strings.TrimPrefix(rec.Path, locations[rec.Target])})
		}
		found = found[n:]
	}
	return out, nil
}

type fileData struct {
	*bundle
	Record  manifests.Record
	Index   int64
	Records int64
	Leaf    string
	Base    string
}

func (s *Server) file(w http.ResponseWriter, r *http.Request) error {
	v, b, err := s.find(r)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 {
		return errNotFound
	}
	side, closer, err := s.sidecar(r.Context(), b.Summary.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return errNotFound
	}
	if err != nil {
		return err
	}
	defer closer.Close()
	recs, err := side.Page(n, 1)
	if err != nil {
		return err
	}
	if len(recs) == 0 {
		return errNotFound
	}
	leaf, err := recs[0].LeafHash()
	if err != nil {
		return err
	}
	d := fileData{bundle: b, Record: recs[0], Index: n, Records: side.Records(), Leaf: fmt.Sprintf("%x", leaf[:]), Base: "/manifests/" + url.PathEscape(b.Summary.ID)}
	return s.show(w, r, "file", fmt.Sprintf("Record %d of %s", n, b.Summary.ID), v, d)
}
