package review

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"slices"
	"strings"
)

// policy lets a page load the server's own style sheet and script, and nothing
// else: no inline code or style, no frame around it, no form to elsewhere.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard is in front of every handler: headers, host, method, token.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		switch {
		case !s.knows(r.Host):
			s.refuse(w, "host", http.StatusMisdirectedRequest, "this server is not known by that name; --host NAME allows it")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			s.refuse(w, "method", http.StatusMethodNotAllowed, "read only")
		case r.URL.Path != "/healthz" && !s.admits(r):
			h.Set("WWW-Authenticate", `Basic realm="expunge: any name, the token as password", charset="UTF-8"`)
			s.refuse(w, "token", http.StatusUnauthorized, "a token is needed: as a bearer token, or as the password of any name")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *Server) refuse(w http.ResponseWriter, why string, code int, text string) {
	s.metrics.refused.WithLabelValues(why).Inc()
	http.Error(w, text, code)
}

// knows says whether a request's Host is one of the server's names. A page of
// another site whose name was pointed here comes under that site's name.
func (s *Server) knows(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	switch name {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return slices.ContainsFunc(s.cfg.Hosts, func(h string) bool { return name != "" && strings.EqualFold(h, name) })
}

// admits compares the token in constant time, whatever the lengths.
func (s *Server) admits(r *http.Request) bool {
	if s.cfg.Token == "" {
		return true
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		if _, given, ok = r.BasicAuth(); !ok {
			return false
		}
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.cfg.Token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
