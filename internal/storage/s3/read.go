package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/internal/storage"
)

// tag and untag: an ETag travels in quotes, and not every server quotes it in
// listings as it does elsewhere.
func untag(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

func tag(etag string) *string {
	if etag == "" {
		return nil
	}
	return aws.String(`"` + etag + `"`)
}

func (b *bucket) head(ctx context.Context, op, path string, version *string) (*s3.HeadObjectOutput, error) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.HeadObject(ctx2, &s3.HeadObjectInput{Bucket: &b.name, Key: b.key(path), VersionId: version})
	return out, fail(ctx, op, path, err)
}

func headInfo(path string, h *s3.HeadObjectOutput) storage.Info {
	return storage.Info{
		Path: path, Size: aws.ToInt64(h.ContentLength), ETag: untag(h.ETag),
		Version: aws.ToString(h.VersionId), ModTime: aws.ToTime(h.LastModified).UTC(),
	}
}

// Stat describes an object: one request.
func (b *bucket) Stat(ctx context.Context, path string) (storage.Info, error) {
	h, err := b.head(ctx, "stat", path, nil)
	if err != nil {
		return storage.Info{}, err
	}
	return headInfo(path, h), nil
}

// Open opens an object: one request.
func (b *bucket) Open(ctx context.Context, path string) (storage.Object, error) {
	h, err := b.head(ctx, "open", path, nil)
	if err != nil {
		return nil, err
	}
	return &object{b: b, ctx: ctx, info: headInfo(path, h)}, nil
}

// OpenKnown opens an object without a request.
func (b *bucket) OpenKnown(ctx context.Context, known storage.Info) (storage.Object, error) {
	return &object{b: b, ctx: ctx, info: known}, nil
}

// OpenVersion opens one version without a request.
func (b *bucket) OpenVersion(ctx context.Context, v storage.Version) (storage.Object, error) {
	if v.Version == "" || v.DeleteMarker {
		return nil, storage.NewError("open version", v.Path, fs.ErrNotExist, "", nil)
	}
	return &object{b: b, ctx: ctx, info: v.Info, version: &v.Info.Version}, nil
}

type object struct {
	b       *bucket
	ctx     context.Context
	info    storage.Info
	version *string // nil = the current one
}

func (o *object) Info() storage.Info { return o.info }
func (o *object) Close() error       { return nil }

// ReadAt is one ranged GET, on condition that the object is still the same.
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	want := min(int64(len(p)), o.info.Size-off)
	if want <= 0 {
		if err := o.ctx.Err(); err != nil {
			return 0, fail(o.ctx, "read", o.info.Path, err)
		}
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	ctx, cancel := patience(o.ctx, want)
	defer cancel()
	out, err := o.b.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &o.b.name, Key: o.b.key(o.info.Path), IfMatch: tag(o.info.ETag), VersionId: o.version,
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+want-1)),
	})
	if err != nil {
		return 0, fail(o.ctx, "read", o.info.Path, err)
	}
	defer out.Body.Close()
	if o.info.ETag != "" && out.ETag != nil && untag(out.ETag) != o.info.ETag {
		return 0, storage.NewError("read", o.info.Path, storage.ErrPrecondition, "", nil) // a server without if-match
	}
	n, err := io.ReadFull(out.Body, p[:want])
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, fail(o.ctx, "read", o.info.Path, err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// List yields the objects of a prefix, a request for every thousand.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: b.key(prefix)}
		for {
			page, err := b.page(ctx, in)
			if err != nil {
				yield(storage.Info{}, fail(ctx, "list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				info := storage.Info{
					Path: b.path(o.Key), Size: aws.ToInt64(o.Size), ETag: untag(o.ETag), ModTime: aws.ToTime(o.LastModified).UTC(),
				}
				if !yield(info, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			if aws.ToString(page.NextContinuationToken) == "" {
				yield(storage.Info{}, storage.NewError("list", prefix, storage.ErrTransient, "truncated", nil))
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

func (b *bucket) page(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := patience(ctx, 0)
	defer cancel()
	return b.client.ListObjectsV2(ctx, in)
}

// Remove deletes an object. S3 does not say whether there was one. On a
// versioned bucket the content stays as a noncurrent version: see Versions.
func (b *bucket) Remove(ctx context.Context, path string) error {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	_, err := b.client.DeleteObject(ctx2, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.key(path)})
	return fail(ctx, "remove", path, err)
}

// RemoveIf deletes an object while it has that ETag. Servers that don't know
// if-match on deletion are asked for the ETag first, which leaves a moment.
func (b *bucket) RemoveIf(ctx context.Context, path, etag string) error {
	info, err := b.Stat(ctx, path)
	if err != nil {
		return err
	}
	if info.ETag != etag {
		return storage.NewError("remove", path, storage.ErrPrecondition, "", nil)
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	_, err = b.client.DeleteObject(ctx2, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.key(path), IfMatch: tag(etag)})
	err = fail(ctx, "remove", path, err)
	if errors.Is(err, storage.ErrUnsupported) {
		return b.Remove(ctx, path)
	}
	return err
}

// RemoveAll deletes up to a thousand objects a request.
func (b *bucket) RemoveAll(ctx context.Context, paths []string) []error {
	errs := make([]error, len(paths))
	for start := 0; start < len(paths); start += 1000 {
		end := min(start+1000, len(paths))
		b.removePage(ctx, paths[start:end], errs[start:end])
	}
	return errs
}

func (b *bucket) removePage(ctx context.Context, paths []string, errs []error) {
	at := make(map[string][]int, len(paths))
	var ids []types.ObjectIdentifier
	for i, p := range paths {
		key := b.key(p)
		if len(at[*key]) == 0 {
			ids = append(ids, types.ObjectIdentifier{Key: key})
		}
		at[*key] = append(at[*key], i)
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.DeleteObjects(ctx2, &s3.DeleteObjectsInput{
		Bucket: &b.name, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		for i := range errs {
			errs[i] = fail(ctx, "remove", paths[i], err)
		}
		return
	}
	for _, e := range out.Errors {
		code := aws.ToString(e.Code)
		if code == "NoSuchKey" {
			continue
		}
		for _, i := range at[aws.ToString(e.Key)] {
			errs[i] = storage.NewError("remove", paths[i], classOf(code, 0), code, nil)
		}
	}
}
