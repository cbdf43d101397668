package storage

import (
	"context"
	"iter"
	"time"
)

// Attributes are what an object carries besides its content.
type Attributes struct {
	ContentType        string
	ContentEncoding    string
	ContentDisposition string
	ContentLanguage    string
	CacheControl       string
	Expires            string // as the header has it
	Redirect           string // of S3's static websites
	Metadata           map[string]string
	Tags               map[string]string
	StorageClass       string
	Encryption         string // "AES256", "aws:kms", ...
	EncryptionKey      string // KMS key id
	BucketKey          bool   // S3: the KMS key is used by way of a bucket key
	// Grants are who may do what beside the defaults of the store; nil where
	// it has no access control lists, or the object has the default one.
	Grants []Grant
	// Unkept says what a replacement of the object could not keep, "" = nothing.
	Unkept string
	// Locked says why the store would refuse to replace or remove the object
	// (retention, legal hold), "" if it would not.
	Locked string
	// LockedUntil is when that ends, zero where there is no date.
	LockedUntil time.Time
	// Archived says that the content must be restored before it can be read.
	Archived bool
}

// Grant is one entry of an object's access control list.
type Grant struct {
	Permission string // "READ", "FULL_CONTROL", ... as the store calls it
	Grantee    string // as the store writes it: id="…", uri="…", or an entity
}

// Version is one stored version of an object.
type Version struct {
	Info
	Latest       bool
	DeleteMarker bool
}

// Upload is a write that was begun and not finished: a multipart upload, or a
// local temporary file whose writer is gone.
type Upload struct {
	Path    string // of the object that was being written, or of the temporary file
	ID      string
	Started time.Time
}

// The optional interfaces of a Store. The package functions of the same names
// do without where they can; decorators pass all of them on.
type (
	// Stater describes an object without opening it.
	Stater interface {
		Stat(ctx context.Context, path string) (Info, error)
	}
	// KnownOpener opens an object whose size and ETag are known already, from a
	// listing or a plan, without asking the store again.
	KnownOpener interface {
		OpenKnown(ctx context.Context, known Info) (Object, error)
	}
	// ConditionalRemover removes an object only while it has that ETag.
	ConditionalRemover interface {
		RemoveIf(ctx context.Context, path, etag string) error
	}
	// BulkRemover removes many objects with few requests; one error a path.
	BulkRemover interface {
		RemoveAll(ctx context.Context, paths []string) []error
	}
	// Attributer reads an object's attributes.
	Attributer interface {
		Attributes(ctx context.Context, path string) (*Attributes, error)
	}
	// VersionAttributer reads what one version carries: whether it is locked or
	// archived at the least.
	VersionAttributer interface {
		VersionAttributes(ctx context.Context, v Version) (*Attributes, error)
	}
	// Versioner lists and removes object versions. The prefix is an exact
	// string prefix; versions come by path, latest first.
	Versioner interface {
		Versions(ctx context.Context, prefix string) iter.Seq2[Version, error]
		RemoveVersion(ctx context.Context, v Version) error
	}
	// VersionOpener opens one version of an object, current or not.
	VersionOpener interface {
		OpenVersion(ctx context.Context, v Version) (Object, error)
	}
	// Unfinisher lists and removes unfinished uploads.
	Unfinisher interface {
		Unfinished(ctx context.Context, prefix string) iter.Seq2[Upload, error]
		RemoveUnfinished(ctx context.Context, u Upload) error
	}
)

// Stat describes an object.
func Stat(ctx context.Context, s Store, path string) (Info, error) {
	if x, ok := s.(Stater); ok {
		return x.Stat(ctx, path)
	}
	o, err := s.Open(ctx, path)
	if err != nil {
		return Info{}, err
	}
	defer o.Close()
	return o.Info(), nil
}

// OpenKnown opens an object whose Info is known. If the object has another
// ETag by now, the first read is ErrPrecondition, or OpenKnown itself is.
func OpenKnown(ctx context.Context, s Store, known Info) (Object, error) {
	if x, ok := s.(KnownOpener); ok {
		return x.OpenKnown(ctx, known)
	}
	o, err := s.Open(ctx, known.Path)
	if err != nil {
		return nil, err
	}
	if known.ETag != "" && o.Info().ETag != known.ETag {
		o.Close()
		return nil, NewError("open", known.Path, ErrPrecondition, "", nil)
	}
	return o, nil
}

// RemoveIf removes an object only while its ETag is that.
func RemoveIf(ctx context.Context, s Store, path, etag string) error {
	if x, ok := s.(ConditionalRemover); ok {
		return x.RemoveIf(ctx, path, etag)
	}
	return NewError("remove", path, ErrUnsupported, "if-match", nil)
}

// RemoveAll removes many objects; the result has one error a path, nil for
// those that are gone. An object that was not there counts as gone.
func RemoveAll(ctx context.Context, s Store, paths []string) []error {
	if x, ok := s.(BulkRemover); ok {
		return x.RemoveAll(ctx, paths)
	}
	errs := make([]error, len(paths))
	for i, p := range paths {
		if err := s.Remove(ctx, p); err != nil && !IsNotExist(err) {
			errs[i] = err
		}
	}
	return errs
}

// GetAttributes reads what an object carries besides its content.
func GetAttributes(ctx context.Context, s Store, path string) (*Attributes, error) {
	if x, ok := s.(Attributer); ok {
		return x.Attributes(ctx, path)
	}
	if _, err := Stat(ctx, s, path); err != nil {
		return nil, err
	}
	return &Attributes{}, nil
}

// VersionAttributes reads what a version carries besides its content: at the
// least whether it is locked, and whether it is archived.
func VersionAttributes(ctx context.Context, s Store, v Version) (*Attributes, error) {
	if x, ok := s.(VersionAttributer); ok {
		return x.VersionAttributes(ctx, v)
	}
	return nil, NewError("stat", v.Path, ErrUnsupported, "", nil)
}

// Versions lists object versions; ErrUnsupported where the store keeps none.
func Versions(ctx context.Context, s Store, prefix string) iter.Seq2[Version, error] {
	if x, ok := s.(Versioner); ok {
		return x.Versions(ctx, prefix)
	}
	return failed[Version](NewError("list versions", prefix, ErrUnsupported, "", nil))
}

// RemoveVersion removes one version, or one delete marker, for good.
func RemoveVersion(ctx context.Context, s Store, v Version) error {
	if x, ok := s.(Versioner); ok {
		return x.RemoveVersion(ctx, v)
	}
	return NewError("remove version", v.Path, ErrUnsupported, "", nil)
}

// OpenVersion opens one version of an object; ErrUnsupported where the store
// cannot read any but the current one.
func OpenVersion(ctx context.Context, s Store, v Version) (Object, error) {
	if x, ok := s.(VersionOpener); ok {
		return x.OpenVersion(ctx, v)
	}
	return nil, NewError("open version", v.Path, ErrUnsupported, "", nil)
}

// Unfinished lists unfinished uploads under a prefix; none where the store has no such thing.
func Unfinished(ctx context.Context, s Store, prefix string) iter.Seq2[Upload, error] {
	if x, ok := s.(Unfinisher); ok {
		return x.Unfinished(ctx, prefix)
	}
	return func(func(Upload, error) bool) {}
}

// RemoveUnfinished drops an unfinished upload and what it stored.
func RemoveUnfinished(ctx context.Context, s Store, u Upload) error {
	if x, ok := s.(Unfinisher); ok {
		return x.RemoveUnfinished(ctx, u)
	}
	return NewError("abort upload", u.Path, ErrUnsupported, "", nil)
}

// Retention is what a bucket keeps of objects that were removed or replaced.
type Retention struct {
	Versioned  bool          // noncurrent versions stay until they are removed
	SoftDelete time.Duration // removed objects can be restored for so long, and nobody can shorten that for one object
}

// Retainer is an optional interface: it reads a bucket's Retention.
type Retainer interface {
	Retention(ctx context.Context, path string) (Retention, error)
}

// GetRetention reads what the bucket of a path keeps of removed objects.
// ErrUnsupported means that it can't be told, which is not the same as nothing.
func GetRetention(ctx context.Context, s Store, path string) (Retention, error) {
	if x, ok := s.(Retainer); ok {
		return x.Retention(ctx, path)
	}
	return Retention{}, NewError("read retention", path, ErrUnsupported, "", nil)
}

// Splicer is an optional interface of a Writer: how many bytes were copied
// inside the store, and, if it would not copy more, why.
type Splicer interface {
	Spliced() (copied int64, refused string)
}

// PartCounter is an optional interface of a Writer that stores an object in
// parts: how many the store copied, and how many were uploaded.
type PartCounter interface {
	Parts() (copied, uploaded int)
}

// Parts asks a Writer, through its decorators; none where there are no parts.
func Parts(w Writer) (copied, uploaded int) {
	if p, ok := w.(PartCounter); ok {
		return p.Parts()
	}
	return 0, 0
}

// Spliced asks a Writer, through its decorators; it is final after Close.
func Spliced(w Writer) (copied int64, refused string) {
	if s, ok := w.(Splicer); ok {
		return s.Spliced()
	}
	return 0, "the store copies whole objects only"
}
