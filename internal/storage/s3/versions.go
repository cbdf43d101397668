package s3

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/expunge/expunge/internal/storage"
)

// Retention says whether the bucket has, or had, versioning. S3 deletes for good
// what is deleted by its version.
func (b *bucket) Retention(ctx context.Context, path string) (storage.Retention, error) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.GetBucketVersioning(ctx2, &s3.GetBucketVersioningInput{Bucket: &b.name})
	if err != nil {
		return storage.Retention{}, fail(ctx, "read retention", path, err)
	}
	return storage.Retention{Versioned: out.Status != ""}, nil
}

// Versions lists versions and delete markers by key, latest first. On a bucket
// that never had versioning every object has one version, "null".
func (b *bucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	return func(yield func(storage.Version, error) bool) {
		in := &s3.ListObjectVersionsInput{Bucket: &b.name, Prefix: b.key(prefix)}
		for {
			page, err := b.versionPage(ctx, in)
			if err != nil {
				yield(storage.Version{}, fail(ctx, "list versions", prefix, err))
				return
			}
			for _, v := range b.sortedVersions(page) {
				if !yield(v, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
		}
	}
}

func (b *bucket) versionPage(ctx context.Context, in *s3.ListObjectVersionsInput) (*s3.ListObjectVersionsOutput, error) {
	ctx, cancel := patience(ctx, 0)
	defer cancel()
	return b.client.ListObjectVersions(ctx, in)
}

// sortedVersions merges a page's versions and delete markers, which come apart.
func (b *bucket) sortedVersions(page *s3.ListObjectVersionsOutput) []storage.Version {
	out := make([]storage.Version, 0, len(page.Versions)+len(page.DeleteMarkers))
	for _, v := range page.Versions {
		out = append(out, storage.Version{Latest: aws.ToBool(v.IsLatest), Info: storage.Info{
			Path: b.path(v.Key), Size: aws.ToInt64(v.Size), ETag: untag(v.ETag), Version: aws.ToString(v.VersionId), ModTime: aws.ToTime(v.LastModified).UTC(),
		}})
	}
	for _, m := range page.DeleteMarkers {
		out = append(out, storage.Version{Latest: aws.ToBool(m.IsLatest), DeleteMarker: true, Info: storage.Info{
			Path: b.path(m.Key), Version: aws.ToString(m.VersionId), ModTime: aws.ToTime(m.LastModified).UTC(),
		}})
	}
	slices.SortStableFunc(out, func(x, y storage.Version) int {
		if c := cmp.Compare(x.Path, y.Path); c != 0 {
			return c
		}
		if x.Latest != y.Latest {
			if x.Latest {
				return -1
			}
			return 1
		}
		return y.ModTime.Compare(x.ModTime)
	})
	return out
}

// RemoveVersion deletes one version for good; one that is gone already is no error.
func (b *bucket) RemoveVersion(ctx context.Context, v storage.Version) error {
	if v.Version == "" {
		return storage.NewError("remove version", v.Path, storage.ErrPrecondition, "no version id", nil)
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	_, err := b.client.DeleteObject(ctx2, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.key(v.Path), VersionId: &v.Version})
	return fail(ctx, "remove version", v.Path, err)
}

// Unfinished lists multipart uploads that were begun and neither completed nor aborted.
func (b *bucket) Unfinished(ctx context.Context, prefix string) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: b.key(prefix)}
		for {
			page, err := b.uploadPage(ctx, in)
			if err != nil {
				yield(storage.Upload{}, fail(ctx, "list uploads", prefix, err))
				return
			}
			for _, u := range page.Uploads {
				up := storage.Upload{Path: b.path(u.Key), ID: aws.ToString(u.UploadId), Started: aws.ToTime(u.Initiated).UTC()}
				if !yield(up, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
		}
	}
}

func (b *bucket) uploadPage(ctx context.Context, in *s3.ListMultipartUploadsInput) (*s3.ListMultipartUploadsOutput, error) {
	ctx, cancel := patience(ctx, 0)
	defer cancel()
	return b.client.ListMultipartUploads(ctx, in)
}

// RemoveUnfinished aborts a multipart upload; one that is gone already is no error.
func (b *bucket) RemoveUnfinished(ctx context.Context, u storage.Upload) error {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	_, err := b.client.AbortMultipartUpload(ctx2, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: b.key(u.Path), UploadId: &u.ID})
	if err = fail(ctx, "abort upload", u.Path, err); codeIs(err, "NoSuchUpload") || storage.IsNotExist(err) {
		return nil
	}
	return err
}
