package s3test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind names a request: "GET", "HEAD", "PUT", "DELETE" of an object, "DELETE
// version", "GET tagging", "GET acl", "begin", "part", "copy", "complete",
// "abort"; "list", "versions", "uploads", "versioning", "ownership", "delete" of
// the bucket.
func Kind(r *http.Request) string {
	q := r.URL.Query()
	if _, key := split(r); key == "" {
		for _, name := range []string{"versions", "uploads", "versioning", "delete"} {
			if q.Has(name) {
				return name
			}
		}
		if q.Has("ownershipControls") {
			return "ownership"
		}
		return "list"
	}
	switch {
	case q.Has("tagging"):
		return r.Method + " tagging"
	case q.Has("acl"):
		return r.Method + " acl"
	case q.Has("uploads"):
		return "begin"
	case q.Has("uploadId") && r.Method == http.MethodPut && r.Header.Get("x-amz-copy-source") != "":
		return "copy"
	case q.Has("uploadId"):
		return map[string]string{http.MethodPut: "part", http.MethodPost: "complete", http.MethodDelete: "abort"}[r.Method]
	case r.Method == http.MethodDelete && q.Has("versionId"):
		return "DELETE version"
	}
	return r.Method
}

// Key is the key that a request names, "" for the bucket itself.
func Key(r *http.Request) string {
	_, key := split(r)
	return key
}

func split(r *http.Request) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	return bucket, key
}

// Fail answers with an S3 error.
func Fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

// SetHook sets or takes away the hook while requests may be on their way.
func (s *Server) SetHook(hook func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)) {
	s.Do(func() { s.Hook = hook })
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	kind := Kind(r)
	var hook func(http.ResponseWriter, *http.Request, http.HandlerFunc)
	s.Do(func() {
		s.requests[kind]++
		hook = s.Hook
	})
	if hook != nil {
		hook(w, r, s.serve)
		return
	}
	s.serve(w, r)
}

// serve reads the body before it takes the lock: a slow client stops nobody.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.ContentLength > int64(len(body)) {
		return
	}
	bucket, key := split(r)
	if bucket != Bucket {
		Fail(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch Kind(r) {
	case "list":
		s.list(w, r)
	case "versions":
		s.listVersions(w, r)
	case "uploads":
		s.listUploads(w, r)
	case "versioning":
		s.versioning(w)
	case "ownership":
		s.ownership(w)
	case "delete":
		s.deleteMany(w, body)
	case "GET", "HEAD":
		s.get(w, r, key)
	case "GET tagging":
		s.tagging(w, r, key)
	case "GET acl":
		s.acl(w, r, key)
	case "PUT":
		s.put(w, r, key, body)
	case "DELETE", "DELETE version":
		s.delete(w, r, key)
	case "begin":
		u := s.begin(key, r.Header.Clone())
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", u.ID)
	case "part", "copy":
		s.part(w, r, key, body)
	case "complete":
		s.complete(w, r, key, body)
	case "abort":
		u := s.upload(key, r.URL.Query().Get("uploadId"))
		if u == nil {
			Fail(w, http.StatusNotFound, "NoSuchUpload")
			return
		}
		s.drop(u)
		w.WriteHeader(http.StatusNoContent)
	default:
		Fail(w, http.StatusNotImplemented, "NotImplemented")
	}
}

func esc(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// page is how many entries an answer lists.
const page = 1000

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var b strings.Builder
	after, n := q.Get("continuation-token"), 0
	more := ""
	for _, k := range s.sorted(q.Get("prefix")) {
		v := s.latest(k)
		if v == nil || k <= after {
			continue
		}
		if n == page {
			more = "<IsTruncated>true</IsTruncated><NextContinuationToken>" + esc(after) + "</NextContinuationToken>"
			break
		}
		class := v.Header.Get("x-amz-storage-class")
		fmt.Fprintf(&b, "<Contents><Key>%s</Key><Size>%d</Size><ETag>&quot;%s&quot;</ETag><LastModified>%s</LastModified><StorageClass>%s</StorageClass></Contents>",
			esc(k), len(v.Data), v.ETag, v.At.Format(time.RFC3339), class)
		after = k
		n++
	}
	fmt.Fprintf(w, "<ListBucketResult>%s%s</ListBucketResult>", more, b.String())
}

func (s *Server) listVersions(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	for _, k := range s.sorted(r.URL.Query().Get("prefix")) {
		all := s.objects[k]
		for i := len(all) - 1; i >= 0; i-- {
			v, kind := all[i], "Version"
			if v.Marker {
				kind = "DeleteMarker"
			}
			fmt.Fprintf(&b, "<%s><Key>%s</Key><VersionId>%s</VersionId><IsLatest>%v</IsLatest><Size>%d</Size><ETag>&quot;%s&quot;</ETag><LastModified>%s</LastModified></%s>",
				kind, esc(k), v.ID, i == len(all)-1, len(v.Data), v.ETag, v.At.Format(time.RFC3339Nano), kind)
		}
	}
	fmt.Fprintf(w, "<ListVersionsResult>%s</ListVersionsResult>", b.String())
}

func (s *Server) listUploads(w http.ResponseWriter, r *http.Request) {
	var b strings.Builder
	for _, u := range s.uploads {
		if strings.HasPrefix(u.Key, r.URL.Query().Get("prefix")) {
			fmt.Fprintf(&b, "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>", esc(u.Key), u.ID, u.At.Format(time.RFC3339))
		}
	}
	fmt.Fprintf(w, "<ListMultipartUploadsResult>%s</ListMultipartUploadsResult>", b.String())
}

func (s *Server) versioning(w http.ResponseWriter) {
	status := ""
	if s.Versioned {
		status = "<Status>Enabled</Status>"
	}
	fmt.Fprintf(w, "<VersioningConfiguration>%s</VersioningConfiguration>", status)
}

func (s *Server) ownership(w http.ResponseWriter) {
	if s.Ownership == "" {
		Fail(w, http.StatusNotFound, "OwnershipControlsNotFoundError")
		return
	}
	fmt.Fprintf(w, "<OwnershipControls><Rule><ObjectOwnership>%s</ObjectOwnership></Rule></OwnershipControls>", s.Ownership)
}

func (s *Server) deleteMany(w http.ResponseWriter, body []byte) {
	var in struct {
		Object []struct {
			Key       string
			VersionId string //nolint:revive // S3's spelling
		}
	}
	if xml.Unmarshal(body, &in) != nil {
		Fail(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	var b strings.Builder
	for _, o := range in.Object {
		if o.VersionId == "" {
			s.remove(o.Key)
		} else if !s.removeVersion(o.Key, o.VersionId) {
			fmt.Fprintf(&b, "<Error><Key>%s</Key><VersionId>%s</VersionId><Code>AccessDenied</Code></Error>", esc(o.Key), o.VersionId)
		}
	}
	fmt.Fprintf(w, "<DeleteResult>%s</DeleteResult>", b.String())
}

func quoted(etag string) string { return `"` + etag + `"` }

// describe sets the headers of an answer about a version.
func describe(h http.Header, v *Version) {
	for k, values := range v.Header {
		if !strings.HasPrefix(strings.ToLower(k), "x-amz-grant-") {
			h[k] = values
		}
	}
	h.Set("ETag", quoted(v.ETag))
	h.Set("Last-Modified", v.At.Format(http.TimeFormat))
	h.Set("x-amz-version-id", v.ID)
	if !v.Retain.IsZero() {
		h.Set("x-amz-object-lock-mode", v.Mode)
		h.Set("x-amz-object-lock-retain-until-date", v.Retain.UTC().Format(time.RFC3339))
	}
	if v.Hold {
		h.Set("x-amz-object-lock-legal-hold", "ON")
	}
	if q, err := url.ParseQuery(v.Tags); err == nil && len(q) > 0 {
		h.Set("x-amz-tagging-count", strconv.Itoa(len(q)))
	}
}

func archived(v *Version) bool {
	switch v.Header.Get("x-amz-storage-class") {
	case "GLACIER", "DEEP_ARCHIVE":
		return !strings.Contains(v.Header.Get("x-amz-restore"), `ongoing-request="false"`)
	}
	return false
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, key string) {
	v := s.version(key, r.URL.Query().Get("versionId"))
	switch {
	case v == nil || v.Marker:
		Fail(w, http.StatusNotFound, "NoSuchKey")
		return
	case r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != quoted(v.ETag):
		Fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	case r.Method == http.MethodGet && archived(v):
		Fail(w, http.StatusForbidden, "InvalidObjectState")
		return
	}
	describe(w.Header(), v)
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(v.Data)))
		return
	}
	data := v.Data
	from, to, ranged := span(r.Header.Get("Range"), len(data))
	if ranged {
		data = data[from:to]
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(v.Data)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if ranged {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(data)
}

func span(header string, size int) (from, to int, ok bool) {
	n, _ := fmt.Sscanf(header, "bytes=%d-%d", &from, &to)
	if n != 2 || from >= size {
		return 0, size, false
	}
	return from, min(to+1, size), true
}

func (s *Server) tagging(w http.ResponseWriter, r *http.Request, key string) {
	v := s.version(key, r.URL.Query().Get("versionId"))
	if v == nil {
		Fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	q, _ := url.ParseQuery(v.Tags)
	var b strings.Builder
	for k := range q {
		fmt.Fprintf(&b, "<Tag><Key>%s</Key><Value>%s</Value></Tag>", esc(k), esc(q.Get(k)))
	}
	fmt.Fprintf(w, "<Tagging><TagSet>%s</TagSet></Tagging>", b.String())
}

// Owner is the account that owns the bucket and all objects.
const Owner = "owner-id"

// acl lists the owner's grant and those of the x-amz-grant headers.
func (s *Server) acl(w http.ResponseWriter, r *http.Request, key string) {
	v := s.version(key, r.URL.Query().Get("versionId"))
	if v == nil {
		Fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	var b strings.Builder
	grant := func(grantee, permission string) {
		kind, attr := "CanonicalUser", "ID"
		if strings.HasPrefix(grantee, "http") {
			kind, attr = "Group", "URI"
		}
		fmt.Fprintf(&b, `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="%s"><%s>%s</%s></Grantee><Permission>%s</Permission></Grant>`,
			kind, attr, esc(grantee), attr, permission)
	}
	granted := false
	for header, permission := range map[string]string{"Full-Control": "FULL_CONTROL", "Read": "READ", "Read-Acp": "READ_ACP", "Write-Acp": "WRITE_ACP"} {
		for g := range strings.SplitSeq(v.Header.Get("x-amz-grant-"+header), ",") {
			if _, who, ok := strings.Cut(g, "="); ok {
				grant(strings.Trim(who, `" `), permission)
				granted = true
			}
		}
	}
	if !granted {
		grant(Owner, "FULL_CONTROL")
	}
	fmt.Fprintf(w, "<AccessControlPolicy><Owner><ID>%s</ID></Owner><AccessControlList>%s</AccessControlList></AccessControlPolicy>", Owner, b.String())
}

// condition says whether a write may go ahead.
func (s *Server) condition(w http.ResponseWriter, r *http.Request, key string) bool {
	v := s.latest(key)
	if m := r.Header.Get("If-Match"); m != "" {
		if v == nil {
			Fail(w, http.StatusNotFound, "NoSuchKey")
			return false
		}
		if m != quoted(v.ETag) {
			Fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return false
		}
	}
	if r.Header.Get("If-None-Match") == "*" && v != nil {
		Fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return false
	}
	return true
}

// grants says whether the bucket takes the access control list of a write.
func (s *Server) grants(w http.ResponseWriter, h http.Header) bool {
	for k := range h {
		if strings.HasPrefix(strings.ToLower(k), "x-amz-grant-") && s.Ownership == "BucketOwnerEnforced" {
			Fail(w, http.StatusBadRequest, "AccessControlListNotSupported")
			return false
		}
	}
	return true
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	if !s.condition(w, r, key) || !s.grants(w, r.Header) {
		return
	}
	v := s.store(key, body, r.Header, "")
	w.Header().Set("ETag", quoted(v.ETag))
	w.Header().Set("x-amz-version-id", v.ID)
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request, key string) {
	if id := r.URL.Query().Get("versionId"); id != "" {
		if !s.removeVersion(key, id) {
			Fail(w, http.StatusForbidden, "AccessDenied")
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !s.condition(w, r, key) {
		return
	}
	if m := s.remove(key); m != nil {
		w.Header().Set("x-amz-delete-marker", "true")
		w.Header().Set("x-amz-version-id", m.ID)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) part(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	u := s.upload(key, r.URL.Query().Get("uploadId"))
	number, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if u == nil {
		Fail(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	source := r.Header.Get("x-amz-copy-source")
	if source != "" {
		at, id, _ := strings.Cut(source, "?versionId=")
		at, _ = url.PathUnescape(strings.TrimPrefix(at, Bucket+"/"))
		v := s.version(at, id)
		if v == nil {
			Fail(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		if m := r.Header.Get("x-amz-copy-source-if-match"); m != "" && m != quoted(v.ETag) {
			Fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		from, to, ok := span(r.Header.Get("x-amz-copy-source-range"), len(v.Data))
		if !ok {
			Fail(w, http.StatusBadRequest, "InvalidArgument")
			return
		}
		body = bytes.Clone(v.Data[from:to])
	}
	u.parts[number] = body
	sum := md5.Sum(body)
	etag := quoted(hex.EncodeToString(sum[:]))
	if source != "" {
		fmt.Fprintf(w, "<CopyPartResult><ETag>%s</ETag></CopyPartResult>", esc(etag))
		return
	}
	w.Header().Set("ETag", etag)
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	u := s.upload(key, r.URL.Query().Get("uploadId"))
	if u == nil {
		Fail(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	var in struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if xml.Unmarshal(body, &in) != nil || len(in.Part) == 0 {
		Fail(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	if !s.condition(w, r, key) || !s.grants(w, u.header) {
		return
	}
	var data, sums []byte
	for i, p := range in.Part {
		part, ok := u.parts[p.PartNumber]
		sum := md5.Sum(part)
		if !ok || strings.Trim(p.ETag, `"`) != hex.EncodeToString(sum[:]) {
			Fail(w, http.StatusBadRequest, "InvalidPart")
			return
		}
		if i < len(in.Part)-1 && len(part) < 5<<20 {
			Fail(w, http.StatusBadRequest, "EntityTooSmall")
			return
		}
		data, sums = slices.Concat(data, part), append(sums, sum[:]...)
	}
	sum := md5.Sum(sums)
	v := s.store(key, data, u.header, fmt.Sprintf("%x-%d", sum, len(in.Part)))
	s.drop(u)
	w.Header().Set("x-amz-version-id", v.ID)
	fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>", esc(quoted(v.ETag)))
}
