package review

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/manifests"
)

//go:embed assets
var files embed.FS

// asset is an embedded file under a name that changes with its content.
type asset struct {
	body []byte
	kind string
}

// The style sheet is the report's with what pages add to it.
var (
	styleName, style   = newAsset("review.css", "text/css; charset=utf-8", []byte(manifests.StyleSheet()), must(files.ReadFile("assets/review.css")))
	iconName, icon     = newAsset("icon.svg", "image/svg+xml", must(files.ReadFile("assets/icon.svg")))
	scriptName, script = newAsset("review.js", "text/javascript; charset=utf-8", must(files.ReadFile("assets/review.js")))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newAsset(name, kind string, parts ...[]byte) (string, asset) {
	body := bytes.Join(parts, nil)
	sum := sha256.Sum256(body)
	base, ext, _ := strings.Cut(name, ".")
	return base + "-" + hex.EncodeToString(sum[:6]) + "." + ext, asset{body, kind}
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request) error {
	a, ok := map[string]asset{styleName: style, scriptName: script, iconName: icon}[r.PathValue("name")]
	if !ok {
		return errNotFound
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	_, err := w.Write(a.body)
	return err
}

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{
	"count": func(n int64, one, many string) string { return count(int(n), one, many) }, "number": func(n any) string { return grouped(fmt.Sprint(n)) }, "size": size, "percent": percent, "stamp": stamp, "day": dayOf, "tone": tone, "requesttone": requestTone, "sign": sign, "words": words, "result": resultWords,
	"kind": kindWords, "status": statusWords, "path": url.PathEscape, "plus": func(a, b int) int { return a + b }, "join": strings.Join, "meaning": manifests.SurfaceMeaning,
	"navitem": func(p page, name, link, text string) navItem { return navItem{link, text, p.Nav == name} },
	"deref":   func(b *bool) bool { return b != nil && *b },
	"gone":    func(p page, r manifests.Residue) goneBy { return newGoneBy(r, p.Now) },
}).ParseFS(files, "assets/*.html"))

// navItem is a link of the head; Here marks the page that is shown.
type navItem struct {
	Link, Text string
	Here       bool
}

// goneBy says by when something still stored is gone, and how that stands today.
type goneBy struct{ Tone, Text string }

func newGoneBy(r manifests.Residue, now time.Time) goneBy {
	switch {
	case r.GoneBy == nil:
		return goneBy{"bad", "no date"}
	case r.GoneBy.Before(now):
		return goneBy{"bad", dayOf(*r.GoneBy) + ", passed"}
	}
	return goneBy{"wait", dayOf(*r.GoneBy)}
}

// page is what every template gets.
type page struct {
	Title, Nav    string
	Style, Script string
	Icon          string
	Requests      bool // the server can read requests
	Certificates  bool // and has a folder of certificates
	Version       string
	Now           time.Time
	View          *view
	Data          any
}

// show renders a page into memory first, so that an error is never half a page.
func (s *Server) show(w http.ResponseWriter, r *http.Request, name, title string, v *view, data any) error {
	p := page{Title: title, Nav: name, Style: styleName, Script: scriptName, Icon: iconName, Requests: s.cfg.Requests != nil, Certificates: s.shelf.dir != nil, Version: s.cfg.Version, Now: clock.Now(r.Context()), View: v, Data: data}
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, p); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // whoever went away misses it
	return nil
}

// Errors that a page maps to a status.
var (
	errNotFound   = errors.New("there is no such page")
	errBadRequest = errors.New("the address is not one of this server's")
	errLoading    = errors.New("the state bucket is still being read: try again in a moment")
	errBusy       = errors.New("another complete check is under way: try again in a moment")
)

// fail shows an error. Only the server's own words are shown; anything else goes to the log.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, text := http.StatusBadGateway, "The state bucket could not be read. The server's log says why."
	switch {
	case errors.Is(err, errNotFound):
		code, text = http.StatusNotFound, errNotFound.Error()
	case errors.Is(err, errBadRequest):
		code, text = http.StatusBadRequest, errBadRequest.Error()
	case errors.Is(err, errLoading):
		code, text = http.StatusServiceUnavailable, errLoading.Error()
		w.Header().Set("Retry-After", "2")
		w.Header().Set("Refresh", "2") // a browser looks again by itself
	case errors.Is(err, errBusy):
		code, text = http.StatusTooManyRequests, errBusy.Error()
	default:
		s.cfg.Log.WarnContext(r.Context(), "page not served", "error", err)
	}
	var b bytes.Buffer
	p := page{Title: http.StatusText(code), Nav: "problem", Style: styleName, Script: scriptName, Icon: iconName, Requests: s.cfg.Requests != nil, Certificates: s.shelf.dir != nil, Version: s.cfg.Version, Now: clock.Now(r.Context()), Data: text}
	if err := pages.ExecuteTemplate(&b, "problem", p); err != nil {
		http.Error(w, text, code)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes())
}

var usableID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,190}$`)

// usable says whether a text can be a run's or a manifest's id.
func usable(id string) bool { return usableID.MatchString(id) }

// number writes 1234567 as 1,234,567.
func number(n int) string { return grouped(strconv.Itoa(n)) }

func grouped(s string) string {
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for ; f >= 1024 && unit < 5; unit++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTP"[unit])
}

// percent of total, never rounded up to 100.
func percent(done, total int64) string {
	if total <= 0 {
		return ""
	}
	return strconv.FormatInt(done*100/total, 10) + " %"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
func dayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func sign(tone string) string {
	switch tone {
	case "good":
		return "✓"
	case "wait":
		return "!"
	case "bad":
		return "✗"
	}
	return "–"
}

func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

// resultWords is an outcome or a state for people.
func resultWords(s string) string {
	switch manifests.Result(s) {
	case manifests.Erased:
		return "erased"
	case manifests.ErasedPending:
		return "erased, copies pending"
	case manifests.NothingToErase:
		return "nothing to erase"
	case manifests.Partial:
		return "not complete"
	case manifests.Failed:
		return "failed"
	case manifests.Reverted:
		return "reverted"
	}
	return words(s)
}

func kindWords(k manifests.Kind) string {
	switch k {
	case manifests.KindRun:
		return "erasure"
	case manifests.KindPurge:
		return "removal of old copies"
	case manifests.KindRestore:
		return "restore"
	case manifests.KindVerify:
		return "verification"
	case manifests.KindAudit:
		return "audit"
	case manifests.KindSeal:
		return "sealing"
	}
	return string(k)
}

func statusWords(s string) string {
	switch s {
	case manifests.TargetDone:
		return "erased"
	case manifests.TargetClean:
		return "no key found"
	case manifests.TargetFailed:
		return "failed, left as it was"
	case manifests.TargetStopped:
		return "stopped by a limit"
	case manifests.TargetPurged:
		return "old copies removed"
	case manifests.TargetRestored:
		return "rows added back"
	case manifests.TargetUntouched:
		return "not reached"
	}
	return s
}
