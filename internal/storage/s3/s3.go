// Package s3 is the storage back end for Amazon S3 and servers that speak its
// protocol. Import it for its effect: it registers s3, s3a, s3n and oss.
//
// It uses the AWS client directly. gocloud.dev/blob would rewrite keys that
// hold control characters or "../" and undo such rewriting in listings, and a
// program that deletes must name exactly the key it was told; nor does it know
// if-match, versions, part copies or tags.
//
// The client's own retries are off: storage.WithRetry makes them, so that
// limits and counters see each attempt. Writers are storage.Resumable.
package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/expunge/expunge/internal/storage"
)

// The properties, named as PyIceberg names them.
const (
	propEndpoint = "s3.endpoint"
	propRegion   = "s3.region"
	propRegion2  = "client.region"
	propKeyID    = "s3.access-key-id"
	propSecret   = "s3.secret-access-key"
	propToken    = "s3.session-token"
	propProxy    = "s3.proxy-uri"
	propTimeout  = "s3.connect-timeout"
	propVirtual  = "s3.force-virtual-addressing"
	// propSplice switches server-side part copies off where they don't work ("false").
	propSplice = "s3.server-side-copy"
)

func init() {
	for _, scheme := range []string{"s3", "s3a", "s3n", "oss"} {
		storage.Register(scheme, Open)
	}
}

// bucket is one bucket, as one set of credentials sees it.
type bucket struct {
	client *s3.Client
	name   string
	origin string // "s3://name/": what precedes the key in a path
	server string // endpoint and account: copies between equal ones stay inside
	splice bool

	mu    sync.Mutex
	lists ownership
	locks *bool // the bucket has Object Lock; nil = not asked
}

// Open opens a bucket; it makes no request.
func Open(ctx context.Context, at storage.Location, props map[string]string) (storage.Store, error) {
	if at.Bucket == "" {
		return nil, fmt.Errorf("s3: no bucket in the path")
	}
	cfg, err := loadConfig(ctx, props)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	endpoint := first(props[propEndpoint], os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_S3_ENDPOINT"))
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = endpoint != ""
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
			// Not every server knows the newer checksum headers.
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		if virtual, err := strconv.ParseBool(props[propVirtual]); err == nil {
			o.UsePathStyle = !virtual
		}
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return &bucket{
		client: client,
		name:   at.Bucket,
		origin: at.Scheme + "://" + at.Bucket + "/",
		server: endpoint + " " + cfg.Region + " " + props[propKeyID],
		splice: props[propSplice] != "false",
	}, nil
}

func loadConfig(ctx context.Context, props map[string]string) (aws.Config, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	region := first(props[propRegion], props[propRegion2])
	if region == "" && props[propEndpoint] != "" && os.Getenv("AWS_REGION") == "" {
		region = "us-east-1" // signatures need one; servers other than Amazon's take any
	}
	if region != "" {
		opts = append(opts, config.WithRegion(region))
	}
	id, secret := props[propKeyID], props[propSecret]
	if (id == "") != (secret == "") {
		return aws.Config{}, fmt.Errorf("%s and %s belong together", propKeyID, propSecret)
	}
	if id != "" {
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(id, secret, props[propToken])))
	}
	client, err := httpClient(props)
	if err != nil {
		return aws.Config{}, err
	}
	return config.LoadDefaultConfig(ctx, append(opts, config.WithHTTPClient(client))...)
}

// httpClient keeps enough idle connections for many workers, and gives up on a
// server that accepts a request and never answers.
func httpClient(props map[string]string) (*awshttp.BuildableClient, error) {
	var proxy *url.URL
	if p := props[propProxy]; p != "" {
		var err error
		if proxy, err = url.Parse(p); err != nil {
			return nil, fmt.Errorf("%s is not a URL", propProxy)
		}
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns = 512
		t.MaxIdleConnsPerHost = 256
		t.IdleConnTimeout = 90 * time.Second
		t.ResponseHeaderTimeout = 2 * time.Minute
		if proxy != nil {
			t.Proxy = http.ProxyURL(proxy)
		}
	})
	if s := props[propTimeout]; s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			d, err = time.ParseDuration(s + "s")
		}
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("%s: %q is no duration", propTimeout, s)
		}
		client = client.WithDialerOptions(func(n *net.Dialer) { n.Timeout = d })
	}
	return client, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// key is the object key in a path of this bucket.
func (b *bucket) key(path string) *string { return aws.String(storage.ParseLocation(path).Key) }

// path is a key as a caller would open it.
func (b *bucket) path(key *string) string { return b.origin + aws.ToString(key) }

// patience bounds a request that moves n bytes: a stalled connection is a
// transient failure, not a job that hangs.
func patience(ctx context.Context, n int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Minute+time.Duration(n/(64<<10))*time.Second)
}
