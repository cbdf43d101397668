package review

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/expunge/expunge/manifests"
)

// Certificates are for one person each, and whoever holds one can try guesses
// of the key on it. No bucket keeps them: they are shown only from a folder
// that whoever starts the server names.

// maxCertificate is the largest file that is looked at.
const maxCertificate = 32 << 20

// shelf keeps what was read of the folder's files, by name.
type shelf struct {
	dir fs.FS // nil = none

	mu   sync.Mutex
	seen map[string]shelved
}

type shelved struct {
	size int64
	at   time.Time
	view *certificateView // nil = not a certificate
}

// certificateView is a certificate in a list. It says for which request it is, and no key.
type certificateView struct {
	File, ID, Request, Controller string
	Issued                        time.Time
	Runs                          []certifiedView
}

type certifiedView struct {
	Manifest string
	Result   manifests.Result
	End      time.Time
}

// list gives the folder's certificates, newest first.
func (s *shelf) list() ([]certificateView, error) {
	entries, err := fs.ReadDir(s.dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read the folder of certificates: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := map[string]shelved{}
	var out []certificateView
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxCertificate || !usable(e.Name()) {
			continue
		}
		x, ok := s.seen[e.Name()]
		if !ok || x.size != info.Size() || !x.at.Equal(info.ModTime()) {
			x = shelved{info.Size(), info.ModTime(), s.read(e.Name())}
		}
		if now[e.Name()] = x; x.view != nil {
			out = append(out, *x.view)
		}
	}
	s.seen = now
	slices.SortFunc(out, func(a, b certificateView) int {
		return cmp.Or(b.Issued.Compare(a.Issued), cmp.Compare(a.File, b.File))
	})
	return out, nil
}

func (s *shelf) read(name string) *certificateView {
	raw, err := fs.ReadFile(s.dir, name)
	if err != nil {
		return nil
	}
	c, err := manifests.ReadCertificate(raw)
	if err != nil {
		return nil
	}
	v := &certificateView{File: name, ID: c.ID, Request: c.Request, Controller: c.Controller, Issued: c.Issued}
	for _, r := range c.Runs {
		v.Runs = append(v.Runs, certifiedView{r.ManifestID, r.Outcome.Result, r.End})
	}
	return v
}

func (s *Server) certificates(w http.ResponseWriter, r *http.Request) error {
	if s.shelf.dir == nil {
		return errNotFound
	}
	v, err := s.index.get(r.Context())
	if err != nil {
		return err
	}
	all, err := s.shelf.list()
	if err != nil {
		return err
	}
	part, p, err := paged(r, all)
	if err != nil {
		return err
	}
	return s.show(w, r, "certificates", "Certificates", v, listData[certificateView]{part, p})
}

// certificate sends a certificate, or its printable page, as the person gets it.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("file")
	if s.shelf.dir == nil || !usable(name) {
		return errNotFound
	}
	info, err := fs.Stat(s.shelf.dir, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxCertificate) {
		return errNotFound
	}
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	raw, err := fs.ReadFile(s.shelf.dir, name)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	c, err := manifests.ReadCertificate(raw)
	if err != nil {
		return errNotFound // whatever else lies in that folder is not served
	}
	switch r.PathValue("form") {
	case "signed":
		attach(w, name, "application/json")
		_, _ = w.Write(raw)
		return nil
	case "page":
		attach(w, name+".html", "text/html; charset=utf-8")
		return manifests.CertificateHTML(w, c, raw, nil)
	}
	return errNotFound
}
