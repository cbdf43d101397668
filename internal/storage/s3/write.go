package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/internal/storage"
)

// writer uploads an object: with one request if it is small, else in parts.
//
// It is storage.Resumable. Parts that are ready wait in a queue and are sent
// at the beginning of a later call, before anything new is taken in, so a call
// that fails with a transient error can be made again: the part in question is
// sent again under its number.
type writer struct {
	b    *bucket
	ctx  context.Context
	path string
	o    storage.CreateOptions

	buf    []byte // bytes that were taken in and not planned
	plan   planner
	queue  []part
	upload string // multipart upload id
	told   bool   // CreateOptions.OnUpload knows it
	done   []types.CompletedPart
	sums   []byte // MD5s of the parts, as far as their ETags are such
	size   int64

	ended   bool // the plan is complete
	unsure  bool // a request that stores the object was sent and not answered
	closed  bool
	err     error
	copied  int64
	copies  int    // parts that the store copied
	refused string // why nothing is copied inside the store
}

// Create starts an object. Conditions are checked when it is closed.
func (b *bucket) Create(ctx context.Context, path string, o storage.CreateOptions) (storage.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fail(ctx, "create", path, err)
	}
	w := &writer{b: b, ctx: ctx, path: path, o: o}
	w.plan.emit = func(p part) { w.queue = append(w.queue, p) }
	if !b.splice {
		w.refused = "switched off"
	}
	return w, nil
}

// Resumable is true: see writer.
func (w *writer) Resumable() bool { return !w.closed }

func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, storage.NewError("write", w.path, nil, "", fs.ErrClosed)
	}
	n := 0
	for {
		if err := w.drain(); err != nil {
			return n, err
		}
		if len(p) == 0 {
			return n, nil
		}
		if w.buf == nil {
			w.buf = make([]byte, 0, min(bigPart, max(len(p), 64<<10)))
		}
		k := min(len(p), bigPart-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p, n = p[k:], n+k
		w.size += int64(k)
		if len(w.buf) == bigPart {
			w.planBytes()
		}
	}
}

// planBytes hands the buffered bytes to the planner.
func (w *writer) planBytes() {
	if len(w.buf) > 0 {
		w.plan.bytes(w.buf)
		w.buf = nil
	}
}

// CopyRange appends a range of an object of the same server.
func (w *writer) CopyRange(src storage.Object, off, n int64) error {
	o, ok := storage.Base(src).(*object)
	if !ok || o.b.server != w.b.server || w.refused != "" || o.info.ETag == "" {
		return storage.NewError("copy range", w.path, storage.ErrUnsupported, "", nil)
	}
	if off < 0 || n < 0 || off+n > o.info.Size {
		return storage.NewError("copy range", w.path, nil, "range is outside of the source", fs.ErrInvalid)
	}
	if err := w.drain(); err != nil {
		return err
	}
	w.planBytes()
	w.plan.span(piece{src: o, via: src, off: off, n: n})
	w.size += n
	return nil
}

// Spliced says how many bytes were copied inside the store, and why no more.
func (w *writer) Spliced() (copied int64, refused string) { return w.copied, w.refused }

// Parts says how many parts the store copied, and how many were uploaded.
func (w *writer) Parts() (copied, uploaded int) { return w.copies, len(w.done) - w.copies }

// drain sends the parts that are ready.
func (w *writer) drain() error {
	if w.err != nil {
		return w.err
	}
	for len(w.queue) > 0 {
		if err := w.send(&w.queue[0]); err != nil {
			if !storage.IsTransient(err) {
				w.err = err
			}
			return err
		}
		w.queue = w.queue[1:]
	}
	return nil
}

func (w *writer) send(p *part) error {
	if err := w.begin(); err != nil {
		return err
	}
	if len(w.done) >= maxParts {
		return storage.NewError("write", w.path, storage.ErrNoSpace, "object has too many parts", nil)
	}
	number := aws.Int32(int32(len(w.done) + 1))
	var etag string
	var err error
	if p.copied && w.refused == "" {
		etag, err = w.copyPart(number, p.pieces[0])
		if refusal(err) {
			w.refused, err = "store refuses part copies", nil
			p.copied = false
		}
	}
	if err == nil && etag == "" {
		etag, err = w.putPart(number, *p)
	}
	if err != nil {
		return err
	}
	w.done = append(w.done, types.CompletedPart{ETag: tag(etag), PartNumber: number})
	if sum, err := hex.DecodeString(etag); err == nil && len(sum) == md5.Size {
		w.sums = append(w.sums, sum...)
	}
	return nil
}

// refusal says whether an error means that the store can't, or won't, copy parts.
func refusal(err error) bool {
	var e *storage.Error
	if err == nil || storage.IsTransient(err) || !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "InvalidRequest", "InvalidArgument", "MissingContentLength", "NotImplemented", "MethodNotAllowed", "AccessDenied", "411":
		return true
	}
	return errors.Is(err, storage.ErrUnsupported) || errors.Is(err, fs.ErrPermission)
}

// begin begins the upload, and tells of it before anything is stored in it.
func (w *writer) begin() error {
	if w.upload == "" {
		if err := w.open(); err != nil {
			return err
		}
	}
	if w.told || w.o.OnUpload == nil {
		return nil
	}
	err := w.o.OnUpload(w.ctx, w.upload)
	w.told = err == nil
	return err
}

func (w *writer) open() error {
	ctx, cancel := patience(w.ctx, 0)
	defer cancel()
	in := &s3.CreateMultipartUploadInput{Bucket: &w.b.name, Key: w.b.key(w.path)}
	w.attributes().onMultipart(in)
	out, err := w.b.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return fail(w.ctx, "write", w.path, err)
	}
	w.upload = aws.ToString(out.UploadId)
	return nil
}

func (w *writer) copyPart(number *int32, x piece) (string, error) {
	ctx, cancel := patience(w.ctx, x.n/8)
	defer cancel()
	out, err := w.b.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: &w.b.name, Key: w.b.key(w.path), UploadId: &w.upload, PartNumber: number,
		CopySource:        aws.String(copySource(x.src)),
		CopySourceRange:   aws.String(fmt.Sprintf("bytes=%d-%d", x.off, x.off+x.n-1)),
		CopySourceIfMatch: tag(x.src.info.ETag),
	})
	if err != nil {
		return "", fail(w.ctx, "copy range", w.path, err)
	}
	if out.CopyPartResult == nil || untag(out.CopyPartResult.ETag) == "" {
		// A server that took it for an upload of nothing.
		return "", storage.NewError("copy range", w.path, storage.ErrUnsupported, "", nil)
	}
	w.copied += x.n
	w.copies++
	return untag(out.CopyPartResult.ETag), nil
}

// copySource is bucket and key, escaped but for the slashes, and the version if
// it is not the current one.
func copySource(src *object) string {
	segments := strings.Split(*src.b.key(src.info.Path), "/")
	for i, s := range segments {
		segments[i] = strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	}
	source := src.b.name + "/" + strings.Join(segments, "/")
	if src.version != nil {
		source += "?versionId=" + url.QueryEscape(*src.version)
	}
	return source
}

func (w *writer) putPart(number *int32, p part) (string, error) {
	data, err := w.fetch(p)
	if err != nil {
		return "", err
	}
	ctx, cancel := patience(w.ctx, int64(len(data)))
	defer cancel()
	out, err := w.b.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &w.b.name, Key: w.b.key(w.path), UploadId: &w.upload, PartNumber: number, Body: bytes.NewReader(data),
	})
	if err != nil {
		return "", fail(w.ctx, "write", w.path, err)
	}
	return untag(out.ETag), nil
}

// fetch returns the bytes of a part, reading its ranges.
func (w *writer) fetch(p part) ([]byte, error) {
	if len(p.pieces) == 1 && p.pieces[0].src == nil {
		return p.pieces[0].data, nil
	}
	data := make([]byte, 0, p.size)
	for _, x := range p.pieces {
		if x.src == nil {
			data = append(data, x.data...)
			continue
		}
		at := len(data)
		data = data[:at+int(x.n)]
		if err := storage.ReadFull(x.via, data[at:], x.off); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// Close stores the object. After a transient error it may be called again.
func (w *writer) Close() error {
	if w.closed {
		return w.err
	}
	if !w.ended {
		w.planBytes()
		if w.upload == "" && len(w.queue) == 0 && w.plan.left.n == 0 {
			// All of it in one request.
			w.queue = []part{{pieces: w.plan.up, size: w.plan.upLen}}
		} else {
			w.plan.end()
		}
		w.ended = true
	}
	err := w.err
	if err == nil && w.single() {
		err = w.put()
	} else if err == nil {
		if err = w.drain(); err == nil {
			err = w.complete()
		}
	}
	if storage.IsTransient(err) {
		return err
	}
	w.closed, w.err, w.queue = true, err, nil
	if err != nil {
		_ = w.Abort()
	} else {
		w.upload = ""
	}
	return err
}

func (w *writer) single() bool {
	return w.upload == "" && len(w.queue) == 1 && !w.queue[0].copied
}

func (w *writer) put() error {
	data, err := w.fetch(w.queue[0])
	if err != nil {
		return err
	}
	ctx, cancel := patience(w.ctx, int64(len(data)))
	defer cancel()
	in := &s3.PutObjectInput{Bucket: &w.b.name, Key: w.b.key(w.path), Body: bytes.NewReader(data), IfMatch: tag(w.o.IfMatch)}
	if w.o.IfNotExists {
		in.IfNoneMatch = aws.String("*")
	}
	w.attributes().onPut(in)
	_, err = w.b.client.PutObject(ctx, in)
	err = fail(w.ctx, "close", w.path, err)
	if errors.Is(err, storage.ErrPrecondition) && w.unsure && w.holds(data) {
		return nil // the try before was ours, and its answer was lost
	}
	return w.condition(err)
}

// condition remembers an unanswered request and names a failed condition.
func (w *writer) condition(err error) error {
	switch {
	case storage.IsTransient(err):
		w.unsure = true
	case errors.Is(err, storage.ErrPrecondition) && w.o.IfNotExists:
		return storage.NewError("close", w.path, storage.ErrExists, "", nil)
	case storage.IsNotExist(err) && w.o.IfMatch != "" && !w.unsure:
		return storage.NewError("close", w.path, storage.ErrPrecondition, "", nil)
	}
	return err
}

// holds says whether the stored object has exactly this content.
func (w *writer) holds(data []byte) bool {
	o, err := w.b.Open(w.ctx, w.path)
	if err != nil || o.Info().Size != int64(len(data)) {
		return false
	}
	have := make([]byte, len(data))
	return storage.ReadFull(o, have, 0) == nil && bytes.Equal(have, data)
}

// complete makes the parts one object. Servers exist that ignore conditions
// here, so they are looked at before as well; the time between is short.
func (w *writer) complete() error {
	if !w.unsure {
		if err := w.precheck(); err != nil {
			return w.condition(err)
		}
	}
	ctx, cancel := patience(w.ctx, w.size/64)
	defer cancel()
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &w.b.name, Key: w.b.key(w.path), UploadId: &w.upload, IfMatch: tag(w.o.IfMatch),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: w.done},
	}
	if w.o.IfNotExists {
		in.IfNoneMatch = aws.String("*")
	}
	_, err := w.b.client.CompleteMultipartUpload(ctx, in)
	err = fail(w.ctx, "close", w.path, err)
	if w.unsure && (errors.Is(err, storage.ErrPrecondition) || codeIs(err, "NoSuchUpload") || storage.IsNotExist(err)) {
		return w.completed(err)
	}
	if err == nil && w.copied > 0 {
		return w.checkSize()
	}
	return w.condition(err)
}

func codeIs(err error, code string) bool {
	var e *storage.Error
	return errors.As(err, &e) && e.Code == code
}

func (w *writer) precheck() error {
	if !w.o.IfNotExists && w.o.IfMatch == "" {
		return nil
	}
	info, err := w.b.Stat(w.ctx, w.path)
	switch {
	case storage.IsNotExist(err):
		if w.o.IfMatch != "" {
			return storage.NewError("close", w.path, storage.ErrPrecondition, "", nil)
		}
		return nil
	case err != nil:
		return err
	case w.o.IfNotExists || info.ETag != w.o.IfMatch:
		return storage.NewError("close", w.path, storage.ErrPrecondition, "", nil)
	}
	return nil
}

// completed decides whether the object that is there is the one whose
// completion was not answered: its ETag is a digest of the parts'.
func (w *writer) completed(cause error) error {
	info, err := w.b.Stat(w.ctx, w.path)
	if err != nil && !storage.IsNotExist(err) {
		return err
	}
	if err == nil && info.Size == w.size && len(w.sums) == md5.Size*len(w.done) {
		sum := md5.Sum(w.sums)
		if info.ETag == fmt.Sprintf("%x-%d", sum, len(w.done)) {
			return nil
		}
	}
	if errors.Is(cause, storage.ErrPrecondition) {
		w.unsure = false
		return w.condition(cause)
	}
	return storage.NewError("close", w.path, storage.ErrUnknownOutcome, "", cause)
}

// checkSize catches a server that answered part copies with success and stored something else.
func (w *writer) checkSize() error {
	info, err := w.b.Stat(w.ctx, w.path)
	if err != nil {
		w.unsure = true
		return err
	}
	if info.Size != w.size {
		return storage.NewError("close", w.path, storage.ErrUnknownOutcome, "spliced object has the wrong size", nil)
	}
	return nil
}

// Abort drops the upload and the parts that it stored. It can be repeated until
// they are gone.
func (w *writer) Abort() error {
	if !w.closed && w.err == nil {
		w.err = storage.NewError("close", w.path, nil, "", fs.ErrClosed)
	}
	w.closed = true
	w.buf, w.queue, w.plan = nil, nil, planner{}
	if w.upload == "" {
		return nil
	}
	// The context may be what ended the write; stored parts cost money and may hold rows.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), 30*time.Second)
	defer cancel()
	_, err := w.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &w.b.name, Key: w.b.key(w.path), UploadId: &w.upload})
	if err = fail(ctx, "abort", w.path, err); err != nil && !codeIs(err, "NoSuchUpload") && !storage.IsNotExist(err) {
		return err
	}
	w.upload = ""
	return nil
}
