package azure

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// snapshotMark tells a snapshot's id from a version's.
const snapshotMark = "snapshot:"

// Remove deletes an object and its snapshots. Where the account keeps
// versions, or removed blobs for a while, the content stays: see Versions and
// Retention.
func (b *bucket) Remove(ctx context.Context, path string) error { return b.RemoveIf(ctx, path, "") }

// RemoveIf deletes an object while it has that ETag, "" = any.
func (b *bucket) RemoveIf(ctx context.Context, path, etag string) error {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	_, err := b.blob(path).Delete(ctx2, &blob.DeleteOptions{
		DeleteSnapshots: to.Ptr(blob.DeleteSnapshotsOptionTypeInclude), AccessConditions: conditions(etag),
	})
	return fail(ctx, "remove", path, err)
}

func (b *bucket) pages(ctx context.Context, prefix string, include container.ListBlobsInclude) iter.Seq2[*container.BlobItem, error] {
	return func(yield func(*container.BlobItem, error) bool) {
		pager := b.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{
			Prefix: to.Ptr(storage.ParseLocation(prefix).Key), Include: include,
		})
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				yield(nil, fail(ctx, "list", prefix, err))
				return
			}
			for _, item := range page.Segment.BlobItems {
				// A hierarchical namespace lists its folders too.
				if strings.EqualFold(value(item.Properties.ResourceType), "directory") {
					continue
				}
				if !yield(item, nil) {
					return
				}
			}
		}
	}
}

func (b *bucket) itemInfo(i *container.BlobItem) storage.Info {
	return storage.Info{
		Path: b.origin + value(i.Name), Size: value(i.Properties.ContentLength), ETag: untag(i.Properties.ETag),
		Version: value(i.VersionID), ModTime: value(i.Properties.LastModified).UTC(),
	}
}

// List yields the objects of a prefix.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for item, err := range b.pages(ctx, prefix, container.ListBlobsInclude{}) {
			if err != nil {
				yield(storage.Info{}, err)
				return
			}
			if !yield(b.itemInfo(item), nil) {
				return
			}
		}
	}
}

// Versions yields versions and snapshots by name, latest first.
func (b *bucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	return func(yield func(storage.Version, error) bool) {
		var same []storage.Version // of one name
		flush := func() bool {
			slices.SortStableFunc(same, func(x, y storage.Version) int {
				if x.Latest != y.Latest {
					if x.Latest {
						return -1
					}
					return 1
				}
				return cmp.Compare(y.Version, x.Version) // ids are times
			})
			for _, v := range same {
				if !yield(v, nil) {
					return false
				}
			}
			same = same[:0]
			return true
		}
		for item, err := range b.pages(ctx, prefix, container.ListBlobsInclude{Versions: true, Snapshots: true}) {
			if err != nil {
				yield(storage.Version{}, err)
				return
			}
			v := storage.Version{Info: b.itemInfo(item)}
			if s := value(item.Snapshot); s != "" {
				v.Version = snapshotMark + s
			} else {
				v.Latest = value(item.IsCurrentVersion) || v.Version == ""
			}
			if len(same) > 0 && same[0].Path != v.Path && !flush() {
				return
			}
			same = append(same, v)
		}
		flush()
	}
}

// RemoveVersion deletes one version or snapshot; one that is gone already is no error.
func (b *bucket) RemoveVersion(ctx context.Context, v storage.Version) error {
	client := b.blob(v.Path)
	var err error
	switch id, isSnapshot := strings.CutPrefix(v.Version, snapshotMark); {
	case v.Version == "":
		return storage.NewError("remove version", v.Path, storage.ErrPrecondition, "no version id", nil)
	case isSnapshot:
		client, err = client.WithSnapshot(id)
	default:
		client, err = client.WithVersionID(id)
	}
	if err != nil {
		return storage.NewError("remove version", v.Path, storage.ErrPrecondition, "bad version id", nil)
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	if _, err = client.Delete(ctx2, nil); err != nil {
		if err = fail(ctx, "remove version", v.Path, err); storage.IsNotExist(err) {
			return nil
		}
	}
	return err
}

// Retention reads the account's soft-delete policy. Whether it keeps versions
// is no property of the blob service: one blob that has a version id tells.
func (b *bucket) Retention(ctx context.Context, path string) (storage.Retention, error) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	p, err := b.service.GetProperties(ctx2, nil)
	if err != nil {
		return storage.Retention{}, fail(ctx, "read retention", path, err)
	}
	var r storage.Retention
	if d := p.DeleteRetentionPolicy; d != nil && value(d.Enabled) {
		r.SoftDelete = time.Duration(value(d.Days)) * 24 * time.Hour
	}
	if info, err := b.Stat(ctx, path); err == nil {
		r.Versioned = info.Version != ""
	}
	return r, nil
}

// Attributes reads what an object carries besides its content.
func (b *bucket) Attributes(ctx context.Context, path string) (*storage.Attributes, error) {
	p, err := b.properties(ctx, "stat", path)
	if err != nil {
		return nil, err
	}
	a := described(ctx, p)
	if value(p.TagCount) > 0 {
		a.Tags, err = b.tags(ctx, path)
	}
	return a, err
}

// VersionAttributes reads what a version or snapshot carries, but for its tags.
func (b *bucket) VersionAttributes(ctx context.Context, v storage.Version) (*storage.Attributes, error) {
	client, err := (&object{b: b, ctx: ctx, info: v.Info, version: v.Version}).client()
	if err != nil {
		return nil, err
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	p, err := client.GetProperties(ctx2, nil)
	if err != nil {
		return nil, fail(ctx, "stat", v.Path, err)
	}
	return described(ctx, &p), nil
}

func described(ctx context.Context, p *blob.GetPropertiesResponse) *storage.Attributes {
	a := &storage.Attributes{
		ContentType: value(p.ContentType), ContentEncoding: value(p.ContentEncoding), ContentDisposition: value(p.ContentDisposition),
		ContentLanguage: value(p.ContentLanguage), CacheControl: value(p.CacheControl), EncryptionKey: value(p.EncryptionScope),
		Archived: value(p.AccessTier) == string(blob.AccessTierArchive),
	}
	if !value(p.AccessTierInferred) {
		a.StorageClass = value(p.AccessTier)
	}
	for k, v := range p.Metadata {
		if a.Metadata == nil {
			a.Metadata = map[string]string{}
		}
		a.Metadata[strings.ToLower(k)] = value(v) // HTTP lost the case
	}
	switch {
	case value(p.LegalHold):
		a.Locked = "legal hold"
	case value(p.ImmutabilityPolicyExpiresOn).After(clock.Now(ctx)):
		a.LockedUntil = p.ImmutabilityPolicyExpiresOn.UTC()
		a.Locked = "retention until " + a.LockedUntil.Format(time.DateOnly)
	}
	return a
}

func (b *bucket) tags(ctx context.Context, path string) (map[string]string, error) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.blob(path).GetTags(ctx2, nil)
	if err != nil {
		return nil, fail(ctx, "read tags", path, err)
	}
	tags := map[string]string{}
	for _, t := range out.BlobTagSet {
		tags[value(t.Key)] = value(t.Value)
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
	return &s
}

func (a *attributes) headers() *blob.HTTPHeaders {
	return &blob.HTTPHeaders{
		BlobContentType: opt(a.ContentType), BlobContentEncoding: opt(a.ContentEncoding), BlobContentDisposition: opt(a.ContentDisposition),
		BlobContentLanguage: opt(a.ContentLanguage), BlobCacheControl: opt(a.CacheControl),
	}
}

func (a *attributes) tier() *blob.AccessTier {
	if a.StorageClass == "" {
		return nil
	}
	return to.Ptr(blob.AccessTier(a.StorageClass))
}

func (a *attributes) scope() *blob.CPKScopeInfo {
	if a.EncryptionKey == "" {
		return nil
	}
	return &blob.CPKScopeInfo{EncryptionScope: &a.EncryptionKey}
}

func pointers(m map[string]string) map[string]*string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]*string, len(m))
	for k, v := range m {
		out[k] = &v
	}
	return out
}
