package s3

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// Attributes reads what an object carries besides its content.
func (b *bucket) Attributes(ctx context.Context, path string) (*storage.Attributes, error) {
	a, tagged, err := b.described(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	if tagged {
		if a.Tags, err = b.tags(ctx, path); err != nil {
			return nil, err
		}
	}
	return a, b.access(ctx, path, a)
}

// VersionAttributes reads what a version's headers say: all but its tags and
// its access control list.
func (b *bucket) VersionAttributes(ctx context.Context, v storage.Version) (*storage.Attributes, error) {
	if v.Version == "" || v.DeleteMarker {
		return nil, storage.NewError("stat", v.Path, fs.ErrNotExist, "", nil)
	}
	a, _, err := b.described(ctx, v.Path, &v.Version)
	if err == nil && a.Locked == "" && b.locking(ctx) {
		b.askLock(ctx, v, a)
	}
	return a, err
}

// locking asks once whether the bucket has Object Lock.
func (b *bucket) locking(ctx context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.locks == nil {
		ctx, cancel := patience(ctx, 0)
		defer cancel()
		out, err := b.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &b.name})
		has := err == nil && out.ObjectLockConfiguration != nil && out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled
		if err != nil && storage.IsTransient(fail(ctx, "read lock configuration", b.origin, err)) {
			return false // it is asked again for the next version
		}
		b.locks = &has
	}
	return *b.locks
}

// askLock asks for a version's retention and hold: not every server says them
// with the headers of a noncurrent version. Who may not ask learns nothing.
func (b *bucket) askLock(ctx context.Context, v storage.Version, a *storage.Attributes) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	h := &s3.HeadObjectOutput{}
	if r, err := b.client.GetObjectRetention(ctx2, &s3.GetObjectRetentionInput{Bucket: &b.name, Key: b.key(v.Path), VersionId: &v.Version}); err == nil && r.Retention != nil {
		h.ObjectLockRetainUntilDate, h.ObjectLockMode = r.Retention.RetainUntilDate, types.ObjectLockMode(r.Retention.Mode)
	}
	if r, err := b.client.GetObjectLegalHold(ctx2, &s3.GetObjectLegalHoldInput{Bucket: &b.name, Key: b.key(v.Path), VersionId: &v.Version}); err == nil && r.LegalHold != nil {
		h.ObjectLockLegalHoldStatus = r.LegalHold.Status
	}
	locked(ctx, a, h)
}

func (b *bucket) described(ctx context.Context, path string, version *string) (a *storage.Attributes, tagged bool, err error) {
	h, err := b.head(ctx, "stat", path, version)
	if err != nil {
		return nil, false, err
	}
	a = &storage.Attributes{
		ContentType: aws.ToString(h.ContentType), ContentEncoding: aws.ToString(h.ContentEncoding),
		ContentDisposition: aws.ToString(h.ContentDisposition), ContentLanguage: aws.ToString(h.ContentLanguage),
		CacheControl: aws.ToString(h.CacheControl), Expires: aws.ToString(h.ExpiresString), Redirect: aws.ToString(h.WebsiteRedirectLocation),
		Metadata: h.Metadata, StorageClass: string(h.StorageClass), Encryption: string(h.ServerSideEncryption),
		EncryptionKey: aws.ToString(h.SSEKMSKeyId), BucketKey: aws.ToBool(h.BucketKeyEnabled),
	}
	switch h.StorageClass {
	case types.StorageClassGlacier, types.StorageClassDeepArchive:
		a.Archived = !strings.Contains(aws.ToString(h.Restore), `ongoing-request="false"`)
	}
	if h.ArchiveStatus != "" {
		a.Archived = true
	}
	locked(ctx, a, h)
	return a, h.TagCount == nil || *h.TagCount > 0, nil
}

// locked reads Object Lock's headers. They come to those only who may read them.
func locked(ctx context.Context, a *storage.Attributes, h *s3.HeadObjectOutput) {
	until := aws.ToTime(h.ObjectLockRetainUntilDate)
	switch {
	case h.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn:
		a.Locked = "legal hold"
	case until.After(clock.Now(ctx)):
		a.LockedUntil = until.UTC()
		a.Locked = "retention until " + a.LockedUntil.Format(time.DateOnly)
		if h.ObjectLockMode != "" {
			a.Locked += " (" + string(h.ObjectLockMode) + ")"
		}
	}
}

func (b *bucket) tags(ctx context.Context, path string) (map[string]string, error) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.GetObjectTagging(ctx2, &s3.GetObjectTaggingInput{Bucket: &b.name, Key: b.key(path)})
	if err != nil {
		if err = fail(ctx, "read tags", path, err); errors.Is(err, storage.ErrUnsupported) || codeIs(err, "NoSuchTagSet") {
			return nil, nil
		}
		return nil, err
	}
	var tags map[string]string
	for _, t := range out.TagSet {
		if tags == nil {
			tags = map[string]string{}
		}
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags, nil
}

// attributes are those that the new object gets.
type attributes storage.Attributes

func (w *writer) attributes() *attributes {
	a := attributes{ContentType: w.o.ContentType, Metadata: w.o.Metadata}
	if w.o.Like != nil {
		a = attributes(*w.o.Like)
	}
	return &a
}

func opt(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}

func (a *attributes) tagging() *string {
	if len(a.Tags) == 0 {
		return nil
	}
	q := url.Values{}
	for k, v := range a.Tags {
		q.Set(k, v)
	}
	return aws.String(q.Encode())
}

func (a *attributes) onPut(in *s3.PutObjectInput) {
	in.ContentType, in.ContentEncoding, in.ContentDisposition = opt(a.ContentType), opt(a.ContentEncoding), opt(a.ContentDisposition)
	in.ContentLanguage, in.CacheControl, in.Metadata, in.Tagging = opt(a.ContentLanguage), opt(a.CacheControl), a.Metadata, a.tagging()
	in.Expires, in.WebsiteRedirectLocation = a.expires(), opt(a.Redirect)
	in.StorageClass = types.StorageClass(a.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId, in.BucketKeyEnabled = types.ServerSideEncryption(a.Encryption), opt(a.EncryptionKey), a.bucketKey()
	in.GrantFullControl, in.GrantRead = a.grant(types.PermissionFullControl), a.grant(types.PermissionRead)
	in.GrantReadACP, in.GrantWriteACP = a.grant(types.PermissionReadAcp), a.grant(types.PermissionWriteAcp)
}

func (a *attributes) onMultipart(in *s3.CreateMultipartUploadInput) {
	in.ContentType, in.ContentEncoding, in.ContentDisposition = opt(a.ContentType), opt(a.ContentEncoding), opt(a.ContentDisposition)
	in.ContentLanguage, in.CacheControl, in.Metadata, in.Tagging = opt(a.ContentLanguage), opt(a.CacheControl), a.Metadata, a.tagging()
	in.Expires, in.WebsiteRedirectLocation = a.expires(), opt(a.Redirect)
	in.StorageClass = types.StorageClass(a.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId, in.BucketKeyEnabled = types.ServerSideEncryption(a.Encryption), opt(a.EncryptionKey), a.bucketKey()
	in.GrantFullControl, in.GrantRead = a.grant(types.PermissionFullControl), a.grant(types.PermissionRead)
	in.GrantReadACP, in.GrantWriteACP = a.grant(types.PermissionReadAcp), a.grant(types.PermissionWriteAcp)
}

func (a *attributes) bucketKey() *bool {
	if !a.BucketKey {
		return nil
	}
	return aws.Bool(true)
}

// expires is the header as a time: nobody but HTTP clients reads another form.
func (a *attributes) expires() *time.Time {
	t, err := http.ParseTime(a.Expires)
	if err != nil {
		return nil
	}
	return &t
}
