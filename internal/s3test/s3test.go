// Package s3test is an S3 server in this process, for tests of what real
// servers at hand lack or do only by chance: versions with delete markers,
// Object Lock and legal holds, archived storage classes, tags, access control
// lists, encryption headers, part copies, conditional writes, refusals, and
// trouble on the wire. It checks no signatures.
package s3test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/expunge/expunge/internal/clock"
)

func now() time.Time { return clock.Now(context.Background()) }

// Bucket is the name of the only bucket.
const Bucket = "lake"

// Version is one stored version of an object, or a delete marker.
type Version struct {
	ID     string
	Data   []byte
	ETag   string
	At     time.Time
	Marker bool
	// Header holds what a PUT sent along: content headers, metadata, storage
	// class, encryption and grants.
	Header http.Header
	Tags   string // as a query
	Retain time.Time
	Mode   string // "GOVERNANCE" or "COMPLIANCE", with Retain
	Hold   bool
}

// Upload is an unfinished multipart upload.
type Upload struct {
	Key, ID string
	At      time.Time
	header  http.Header
	parts   map[int][]byte
}

// Server is the bucket. Its fields are set before requests come, or under Do.
type Server struct {
	*httptest.Server
	Versioned bool
	// Retain is the bucket's default retention of new objects.
	Retain time.Duration
	// Ownership is the bucket's object ownership, "" = not told; ACLs are disabled under BucketOwnerEnforced.
	Ownership string
	// Hook, if set, sees every request first; serve answers it as the server would.
	Hook func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)

	mu       sync.Mutex
	objects  map[string][]*Version // latest last
	uploads  []*Upload
	requests map[string]int
	serial   int
}

// New starts a server.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{objects: map[string][]*Version{}, requests: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.handle))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Props are the storage properties that lead to the server.
func (s *Server) Props() map[string]string {
	return map[string]string{"s3.endpoint": s.URL, "s3.access-key-id": "id", "s3.secret-access-key": "secret"}
}

// Do runs f while no request is served.
func (s *Server) Do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Put stores an object as a PUT with these headers would.
func (s *Server) Put(key, body string, header ...string) {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	s.Do(func() { s.store(key, []byte(body), h, "") })
}

// Delete removes an object as a DELETE without a version id would.
func (s *Server) Delete(key string) { s.Do(func() { s.remove(key) }) }

// Latest is the current version of an object, nil if there is none.
func (s *Server) Latest(key string) (v *Version) {
	s.Do(func() { v = s.latest(key) })
	return v
}

// Versions are all versions of an object, the oldest first.
func (s *Server) Versions(key string) (out []*Version) {
	s.Do(func() { out = slices.Clone(s.objects[key]) })
	return out
}

// Keys are the keys below a prefix that have a current version.
func (s *Server) Keys(prefix string) (out []string) {
	s.Do(func() {
		for _, k := range s.sorted(prefix) {
			if s.latest(k) != nil {
				out = append(out, k)
			}
		}
	})
	return out
}

// Stored are "key content" of every stored version, and "key marker".
func (s *Server) Stored(prefix string) (out []string) {
	s.Do(func() {
		for _, k := range s.sorted(prefix) {
			for _, v := range s.objects[k] {
				if v.Marker {
					out = append(out, k+" marker")
				} else {
					out = append(out, k+" "+string(v.Data))
				}
			}
		}
	})
	slices.Sort(out)
	return out
}

// Begin begins a multipart upload that stores a part, as somebody else would.
func (s *Server) Begin(key string, at time.Time) (id string) {
	s.Do(func() {
		u := s.begin(key, http.Header{})
		u.At, u.parts[1] = at, []byte("part")
		id = u.ID
	})
	return id
}

// Uploads are "key id" of the unfinished uploads, with " empty" behind those
// that store nothing.
func (s *Server) Uploads() (out []string) {
	s.Do(func() {
		for _, u := range s.uploads {
			what := u.Key + " " + u.ID
			if len(u.parts) == 0 {
				what += " empty"
			}
			out = append(out, what)
		}
	})
	return out
}

// Requests says how often requests of a kind came: see Kind.
func (s *Server) Requests(kind string) (n int) {
	s.Do(func() { n = s.requests[kind] })
	return n
}

func (s *Server) sorted(prefix string) []string {
	var keys []string
	for k := range s.objects {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (s *Server) latest(key string) *Version {
	v := s.objects[key]
	if len(v) == 0 || v[len(v)-1].Marker {
		return nil
	}
	return v[len(v)-1]
}

func (s *Server) version(key, id string) *Version {
	if id == "" {
		return s.latest(key)
	}
	for _, v := range s.objects[key] {
		if v.ID == id {
			return v
		}
	}
	return nil
}

func (s *Server) nextID() string {
	s.serial++
	return fmt.Sprintf("v%06d", s.serial)
}

// kept are the headers of a PUT that a GET gives back.
func kept(h http.Header) http.Header {
	out := http.Header{}
	for k, v := range h {
		l := strings.ToLower(k)
		switch {
		case strings.HasPrefix(l, "x-amz-meta-"), strings.HasPrefix(l, "x-amz-server-side-encryption"), strings.HasPrefix(l, "x-amz-grant-"),
			strings.HasPrefix(l, "content-") && l != "content-length" && l != "content-md5", l == "cache-control", l == "expires",
			l == "x-amz-storage-class", l == "x-amz-website-redirect-location", l == "x-amz-restore":
			out[k] = v
		}
	}
	return out
}

func (s *Server) store(key string, data []byte, h http.Header, etag string) *Version {
	if etag == "" {
		sum := md5.Sum(data)
		etag = hex.EncodeToString(sum[:])
	}
	v := &Version{ID: "null", Data: data, ETag: etag, At: now().UTC(), Header: kept(h), Tags: h.Get("x-amz-tagging")}
	if v.Header.Get("Content-Type") == "" {
		v.Header.Set("Content-Type", "binary/octet-stream") // S3's default
	}
	if s.Retain > 0 {
		v.Retain, v.Mode = v.At.Add(s.Retain), "COMPLIANCE"
	}
	if !s.Versioned {
		s.objects[key] = []*Version{v}
		return v
	}
	v.ID = s.nextID()
	s.objects[key] = append(s.objects[key], v)
	return v
}

func (s *Server) remove(key string) *Version {
	if !s.Versioned {
		delete(s.objects, key)
		return nil
	}
	m := &Version{ID: s.nextID(), Marker: true, At: now().UTC()}
	s.objects[key] = append(s.objects[key], m)
	return m
}

// removeVersion is false when the version is locked.
func (s *Server) removeVersion(key, id string) bool {
	v := s.version(key, id)
	if v == nil {
		return true
	}
	if v.Hold || v.Retain.After(now()) {
		return false
	}
	s.objects[key] = slices.DeleteFunc(s.objects[key], func(x *Version) bool { return x == v })
	if len(s.objects[key]) == 0 {
		delete(s.objects, key)
	}
	return true
}

func (s *Server) begin(key string, h http.Header) *Upload {
	u := &Upload{Key: key, ID: "u" + s.nextID(), At: now().UTC(), header: h, parts: map[int][]byte{}}
	s.uploads = append(s.uploads, u)
	return u
}

func (s *Server) upload(key, id string) *Upload {
	for _, u := range s.uploads {
		if u.Key == key && u.ID == id {
			return u
		}
	}
	return nil
}

func (s *Server) drop(u *Upload) {
	s.uploads = slices.DeleteFunc(s.uploads, func(x *Upload) bool { return x == u })
}
