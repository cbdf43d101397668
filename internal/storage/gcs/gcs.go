// Package gcs is the storage back end for Google Cloud Storage. Import it for
// its effect: it registers gs.
//
// An ETag is the object's generation here: it changes whenever the content
// does, and every precondition of the service is about it. Like package s3 it
// uses the service's own client, because gocloud.dev/blob rewrites some keys.
// Objects are composed and copied whole only, so nothing is spliced.
package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	store "github.com/expunge/expunge/internal/storage"
)

// The properties, named as PyIceberg names them.
const (
	propHost     = "gcs.service.host"
	propEndpoint = "gcs.endpoint"
	propToken    = "gcs.oauth2.token"
	propExpires  = "gcs.oauth2.token-expires-at"
	propKeyPath  = "gcs.keypath"
	propKey      = "gcs.jsonkey"
	propNoAuth   = "gcs.no-auth"
)

func init() { store.Register("gs", Open) }

type bucket struct {
	handle *storage.BucketHandle
	origin string // "gs://name/"
}

// Open opens a bucket; it makes no request.
func Open(ctx context.Context, at store.Location, props map[string]string) (store.Store, error) {
	if at.Bucket == "" {
		return nil, errors.New("gcs: no bucket in the path")
	}
	opts, err := options(props)
	if err != nil {
		return nil, fmt.Errorf("gcs: %w", err)
	}
	client, err := storage.NewClient(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("gcs: open client: %w", err)
	}
	// storage.WithRetry tries again, but for the chunks of one upload.
	client.SetRetry(storage.WithPolicy(storage.RetryNever))
	return &bucket{handle: client.Bucket(at.Bucket), origin: at.Scheme + "://" + at.Bucket + "/"}, nil
}

func options(props map[string]string) ([]option.ClientOption, error) {
	var opts []option.ClientOption
	host := props[propHost]
	if host == "" {
		host = props[propEndpoint]
	}
	if host != "" {
		if !strings.Contains(host, "/storage/v1") {
			host = strings.TrimSuffix(host, "/") + "/storage/v1/"
		}
		opts = append(opts, option.WithEndpoint(host))
	}
	switch {
	case props[propNoAuth] == "true":
		return append(opts, option.WithoutAuthentication()), nil
	case props[propToken] != "":
		token := &oauth2.Token{AccessToken: props[propToken]}
		if ms, err := strconv.ParseInt(props[propExpires], 10, 64); err == nil {
			token.Expiry = time.UnixMilli(ms)
		}
		return append(opts, option.WithTokenSource(oauth2.StaticTokenSource(token))), nil
	case props[propKey] != "":
		return credentials(opts, []byte(props[propKey]))
	case props[propKeyPath] != "":
		data, err := os.ReadFile(props[propKeyPath])
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", propKeyPath, err)
		}
		return credentials(opts, data)
	}
	return opts, nil // the default credentials
}

func credentials(opts []option.ClientOption, data []byte) ([]option.ClientOption, error) {
	var kind struct {
		Type option.CredentialsType `json:"type"`
	}
	if json.Unmarshal(data, &kind) != nil {
		return nil, errors.New("credentials are not JSON")
	}
	switch kind.Type {
	case option.ServiceAccount, option.AuthorizedUser, option.ImpersonatedServiceAccount, option.ExternalAccount:
		return append(opts, option.WithAuthCredentialsJSON(kind.Type, data)), nil
	}
	return nil, fmt.Errorf("credentials of an unknown type")
}

func (b *bucket) object(path string) *storage.ObjectHandle {
	return b.handle.Object(store.ParseLocation(path).Key)
}

// fail classifies an error of the client.
func fail(ctx context.Context, op, path string, err error) error {
	if err == nil {
		return nil
	}
	var known *store.Error
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		return store.NewError(op, path, ctx.Err(), "", err)
	}
	if errors.Is(err, storage.ErrObjectNotExist) || errors.Is(err, storage.ErrBucketNotExist) {
		return store.NewError(op, path, fs.ErrNotExist, "", err)
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		code, class := store.Classify(err)
		if errors.Is(class, context.DeadlineExceeded) || errors.Is(class, context.Canceled) {
			class = store.ErrTransient // our own patience
		}
		return store.NewError(op, path, class, code, err)
	}
	return store.NewError(op, path, classOf(api.Code), strconv.Itoa(api.Code), err)
}

func classOf(status int) error {
	switch status {
	case 404:
		return fs.ErrNotExist
	case 412, 304:
		return store.ErrPrecondition
	case 401, 403:
		return fs.ErrPermission
	case 429, 503:
		return store.ErrThrottled
	case 408, 409, 500, 502, 504:
		return store.ErrTransient
	case 501, 405:
		return store.ErrUnsupported
	}
	return nil
}

func generation(etag string) (int64, bool) {
	g, err := strconv.ParseInt(etag, 10, 64)
	return g, err == nil && g > 0
}

func (b *bucket) info(a *storage.ObjectAttrs) store.Info {
	g := strconv.FormatInt(a.Generation, 10)
	return store.Info{Path: b.origin + a.Name, Size: a.Size, ETag: g, Version: g, ModTime: a.Updated.UTC()}
}

// Stat describes an object: one request.
func (b *bucket) Stat(ctx context.Context, path string) (store.Info, error) {
	a, err := b.object(path).Attrs(ctx)
	if err != nil {
		return store.Info{}, fail(ctx, "stat", path, err)
	}
	return b.info(a), nil
}

// Open opens an object: one request.
func (b *bucket) Open(ctx context.Context, path string) (store.Object, error) {
	info, err := b.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	return &object{b: b, ctx: ctx, info: info}, nil
}

// OpenKnown opens an object without a request.
func (b *bucket) OpenKnown(ctx context.Context, known store.Info) (store.Object, error) {
	return &object{b: b, ctx: ctx, info: known}, nil
}

// OpenVersion opens one generation without a request: the ETag names it.
func (b *bucket) OpenVersion(ctx context.Context, v store.Version) (store.Object, error) {
	return b.OpenKnown(ctx, v.Info)
}

type object struct {
	b    *bucket
	ctx  context.Context
	info store.Info
}

func (o *object) Info() store.Info { return o.info }
func (o *object) Close() error     { return nil }

// ReadAt is one ranged GET of the stored bytes: the service would otherwise
// decompress objects whose content encoding is gzip.
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
	handle := o.b.object(o.info.Path).ReadCompressed(true)
	g, pinned := generation(o.info.ETag)
	if pinned {
		handle = handle.Generation(g)
	}
	ctx, cancel := context.WithTimeout(o.ctx, time.Minute+time.Duration(want/(64<<10))*time.Second)
	defer cancel()
	r, err := handle.NewRangeReader(ctx, off, want)
	if err != nil {
		err = fail(o.ctx, "read", o.info.Path, err)
		if pinned && store.IsNotExist(err) {
			return 0, store.NewError("read", o.info.Path, store.ErrPrecondition, "", nil) // replaced or removed
		}
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, p[:want])
	if err != nil {
		return n, store.NewError("read", o.info.Path, store.ErrTransient, "truncated", err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
