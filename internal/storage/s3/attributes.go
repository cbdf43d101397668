package s3

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// Attributes reads what an object carries besides its content.
func (b *bucket) Attributes(ctx context.Context, path string) (*storage.Attributes, error) {
	h, err := b.head(ctx, "stat", path)
	if err != nil {
		return nil, err
	}
	a := &storage.Attributes{
		ContentType: aws.ToString(h.ContentType), ContentEncoding: aws.ToString(h.ContentEncoding),
		ContentDisposition: aws.ToString(h.ContentDisposition), ContentLanguage: aws.ToString(h.ContentLanguage),
		CacheControl: aws.ToString(h.CacheControl), Metadata: h.Metadata,
		StorageClass: string(h.StorageClass), Encryption: string(h.ServerSideEncryption), EncryptionKey: aws.ToString(h.SSEKMSKeyId),
	}
	switch h.StorageClass {
	case types.StorageClassGlacier, types.StorageClassDeepArchive:
		a.Archived = !strings.Contains(aws.ToString(h.Restore), `ongoing-request="false"`)
	}
	if h.ArchiveStatus != "" {
		a.Archived = true
	}
	switch {
	case h.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn:
		a.Locked = "legal hold"
	case h.ObjectLockRetainUntilDate != nil && h.ObjectLockRetainUntilDate.After(clock.Now(ctx)):
		a.Locked = "retention until " + h.ObjectLockRetainUntilDate.UTC().Format("2006-01-02")
	}
	if h.TagCount != nil && *h.TagCount == 0 {
		return a, nil
	}
	a.Tags, err = b.tags(ctx, path)
	return a, err
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
	in.StorageClass = types.StorageClass(a.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryption(a.Encryption), opt(a.EncryptionKey)
}

func (a *attributes) onMultipart(in *s3.CreateMultipartUploadInput) {
	in.ContentType, in.ContentEncoding, in.ContentDisposition = opt(a.ContentType), opt(a.ContentEncoding), opt(a.ContentDisposition)
	in.ContentLanguage, in.CacheControl, in.Metadata, in.Tagging = opt(a.ContentLanguage), opt(a.CacheControl), a.Metadata, a.tagging()
	in.StorageClass = types.StorageClass(a.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryption(a.Encryption), opt(a.EncryptionKey)
}
