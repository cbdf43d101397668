// Package azure is the storage back end for Azure Blob Storage. Import it for
// its effect: it registers abfs, abfss, wasb and wasbs.
//
// A path is abfss://container@account.dfs.core.windows.net/key, or
// abfss://container/key with the account among the properties. Like package s3
// it uses the service's own client, because gocloud.dev/blob rewrites keys
// with a percent sign, which partition values are full of.
package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/expunge/expunge/internal/storage"
)

func init() {
	for _, scheme := range []string{"abfs", "abfss", "wasb", "wasbs"} {
		storage.Register(scheme, Open)
	}
}

type bucket struct {
	client  *container.Client
	service *service.Client
	origin  string // "abfss://container@account.../"
	// signs: the client can sign URLs of its blobs (shared key), or they are signed already (SAS).
	signs, signed bool
}

// Open opens a container; it makes no request.
func Open(_ context.Context, at storage.Location, props map[string]string) (storage.Store, error) {
	name, host, _ := strings.Cut(at.Bucket, "@")
	if name == "" {
		return nil, errors.New("azure: no container in the path")
	}
	b := &bucket{origin: at.Scheme + "://" + at.Bucket + "/"}
	if err := b.connect(host, props); err != nil {
		return nil, fmt.Errorf("azure: %w", err)
	}
	b.client = b.service.NewContainerClient(name)
	return b, nil
}

func clientOptions() *service.ClientOptions {
	// storage.WithRetry tries again.
	return &service.ClientOptions{ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}
}

// connect finds account and credentials: the properties as PyIceberg and
// iceberg-go name them, else the default credential chain.
func (b *bucket) connect(host string, props map[string]string) error {
	account := first(strings.SplitN(host, ".", 2)[0], props["adls.account-name"], props["adls.auth.shared-key.account.name"])
	if s := first(props["adls.connection-string."+account], props["adls.connection-string"]); s != "" {
		client, err := service.NewClientFromConnectionString(s, clientOptions())
		b.service, b.signs = client, strings.Contains(s, "AccountKey=")
		return hide(err, "connection string")
	}
	if account == "" {
		return errors.New("no storage account in the path or the properties")
	}
	url := serviceURL(account, host, props)
	if key := first(props["adls.account-key"], props["adls.auth.shared-key.account.key"]); key != "" {
		cred, err := service.NewSharedKeyCredential(first(props["adls.account-name"], props["adls.auth.shared-key.account.name"], account), key)
		if err != nil {
			return hide(err, "account key")
		}
		b.signs = true
		b.service, err = service.NewClientWithSharedKeyCredential(url, cred, clientOptions())
		return hide(err, "account key")
	}
	if sas := first(props["adls.sas-token."+host], props["adls.sas-token."+account], props["adls.sas-token"]); sas != "" {
		var err error
		b.signed = true
		b.service, err = service.NewClientWithNoCredential(url+"?"+strings.TrimPrefix(sas, "?"), clientOptions())
		return hide(err, "SAS token")
	}
	cred, err := credential(props)
	if err != nil {
		return hide(err, "credentials")
	}
	b.service, err = service.NewClient(url, cred, clientOptions())
	return hide(err, "credentials")
}

// hide keeps secrets that an error text may quote out of it.
func hide(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unusable %s", what)
}

func serviceURL(account, host string, props map[string]string) string {
	scheme := first(props["adls.blob-storage-scheme"], props["adls.protocol"], "https")
	domain := first(props["adls.blob-storage-authority"], props["adls.endpoint"])
	switch {
	case strings.HasPrefix(domain, "127.0.0.1") || strings.HasPrefix(domain, "localhost"):
		return scheme + "://" + domain + "/" + account + "/" // the emulator has the account in the path
	case domain != "":
		return scheme + "://" + account + "." + strings.TrimPrefix(domain, ".") + "/"
	case strings.Contains(host, "."):
		return scheme + "://" + strings.Replace(host, ".dfs.", ".blob.", 1) + "/"
	}
	return scheme + "://" + account + ".blob.core.windows.net/"
}

func credential(props map[string]string) (azcore.TokenCredential, error) {
	tenant, id, secret := props["adls.tenant-id"], props["adls.client-id"], props["adls.client-secret"]
	switch {
	case tenant != "" && id != "" && secret != "":
		return azidentity.NewClientSecretCredential(tenant, id, secret, nil)
	case props["adls.auth.managed-identity.enabled"] == "true" && id != "":
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(id)})
	case props["adls.auth.managed-identity.enabled"] == "true":
		return azidentity.NewManagedIdentityCredential(nil)
	}
	return azidentity.NewDefaultAzureCredential(nil)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (b *bucket) blob(path string) *blob.Client {
	return b.client.NewBlobClient(storage.ParseLocation(path).Key)
}

// fail classifies an error of the client.
func fail(ctx context.Context, op, path string, err error) error {
	if err == nil {
		return nil
	}
	var known *storage.Error
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		return storage.NewError(op, path, ctx.Err(), "", err)
	}
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		code, class := storage.Classify(err)
		if errors.Is(class, context.DeadlineExceeded) || errors.Is(class, context.Canceled) {
			class = storage.ErrTransient // our own patience
		}
		return storage.NewError(op, path, class, code, err)
	}
	code := response.ErrorCode
	if code == "" || strings.ContainsAny(code, " /") {
		code = strconv.Itoa(response.StatusCode)
	}
	return storage.NewError(op, path, classOf(response.ErrorCode, response.StatusCode), code, err)
}

func classOf(code string, status int) error {
	switch code {
	case "BlobAlreadyExists", "ConditionNotMet", "SourceConditionNotMet", "TargetConditionNotMet":
		return storage.ErrPrecondition
	case "BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "LeaseIdMissing":
		return storage.ErrLocked
	case "BlobArchived", "BlobBeingRehydrated":
		return storage.ErrArchived
	case "ServerBusy", "OperationTimedOut":
		return storage.ErrThrottled
	case "InvalidBlockList": // another writer's commit dropped our blocks
		return storage.ErrPrecondition
	}
	switch {
	case status == http.StatusNotFound:
		return fs.ErrNotExist
	case status == http.StatusPreconditionFailed || status == http.StatusNotModified:
		return storage.ErrPrecondition
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fs.ErrPermission
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return storage.ErrThrottled
	case status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed:
		return storage.ErrUnsupported
	case status == http.StatusRequestTimeout || status >= 500:
		return storage.ErrTransient
	}
	return nil
}

// patience bounds a request that moves n bytes.
func patience(ctx context.Context, n int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Minute+time.Duration(n/(64<<10))*time.Second)
}

func untag(e *azcore.ETag) string {
	if e == nil {
		return ""
	}
	return strings.Trim(string(*e), `"`)
}

// conditions are those of a request on an object with that ETag, "" = any.
func conditions(etag string) *blob.AccessConditions {
	if etag == "" {
		return nil
	}
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(`"` + etag + `"`))}}
}

func value[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

func (b *bucket) properties(ctx context.Context, op, path string) (*blob.GetPropertiesResponse, error) {
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	p, err := b.blob(path).GetProperties(ctx2, nil)
	if err != nil {
		return nil, fail(ctx, op, path, err)
	}
	return &p, nil
}

// Stat describes an object: one request.
func (b *bucket) Stat(ctx context.Context, path string) (storage.Info, error) {
	p, err := b.properties(ctx, "stat", path)
	if err != nil {
		return storage.Info{}, err
	}
	return storage.Info{
		Path: path, Size: value(p.ContentLength), ETag: untag(p.ETag), Version: value(p.VersionID), ModTime: value(p.LastModified).UTC(),
	}, nil
}

// Open opens an object: one request.
func (b *bucket) Open(ctx context.Context, path string) (storage.Object, error) {
	info, err := b.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	return &object{b: b, ctx: ctx, info: info}, nil
}

// OpenKnown opens an object without a request.
func (b *bucket) OpenKnown(ctx context.Context, known storage.Info) (storage.Object, error) {
	return &object{b: b, ctx: ctx, info: known}, nil
}

// OpenVersion opens one version or snapshot without a request.
func (b *bucket) OpenVersion(ctx context.Context, v storage.Version) (storage.Object, error) {
	return &object{b: b, ctx: ctx, info: v.Info, version: v.Version}, nil
}

type object struct {
	b       *bucket
	ctx     context.Context
	info    storage.Info
	version string // "" = the current one
}

// client addresses the object's version.
func (o *object) client() (*blob.Client, error) {
	client := o.b.blob(o.info.Path)
	if o.version == "" {
		return client, nil
	}
	var err error
	if id, isSnapshot := strings.CutPrefix(o.version, snapshotMark); isSnapshot {
		client, err = client.WithSnapshot(id)
	} else {
		client, err = client.WithVersionID(o.version)
	}
	if err != nil {
		return nil, storage.NewError("open version", o.info.Path, storage.ErrPrecondition, "bad version id", nil)
	}
	return client, nil
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
	client, err := o.client()
	if err != nil {
		return 0, err
	}
	ctx, cancel := patience(o.ctx, want)
	defer cancel()
	out, err := client.DownloadStream(ctx, &blob.DownloadStreamOptions{
		Range: blob.HTTPRange{Offset: off, Count: want}, AccessConditions: conditions(o.info.ETag),
	})
	if err != nil {
		return 0, fail(o.ctx, "read", o.info.Path, err)
	}
	defer out.Body.Close()
	n, err := io.ReadFull(out.Body, p[:want])
	if err != nil {
		if o.ctx.Err() != nil {
			return n, fail(o.ctx, "read", o.info.Path, err)
		}
		return n, storage.NewError("read", o.info.Path, storage.ErrTransient, "truncated", err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
