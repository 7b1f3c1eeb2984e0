package objectstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
)

// S3Options say where a bucket is and how to talk to it.
type S3Options struct {
	Bucket   string // required
	Endpoint string // URL of the service; default: AWS, or AWS_ENDPOINT_URL_S3
	Region   string // default: from the AWS environment, else us-east-1
	// PathStyle addresses the bucket as endpoint/bucket rather than
	// bucket.endpoint. An Endpoint that is an IP address or localhost implies it.
	PathStyle bool
	// AccessKey and SecretKey are the credentials; default: the standard AWS chain.
	AccessKey, SecretKey string
	// Checksum is sent with every upload and checked with every download of a
	// whole object: ChecksumCRC32C (the default) or ChecksumNone.
	Checksum string
	// PartSize is the size of the parts of an upload in bytes; default and least
	// 5 MiB. It doubles with every thousandth part, so that an object can have
	// the 5 TiB that S3 allows.
	PartSize int64
	// PartConcurrency is how many parts of one Put are uploaded at the same
	// time; default 1. One more is being filled meanwhile, so a Put holds up to
	// PartConcurrency+1 parts in memory.
	PartConcurrency int
	// MaxAttempts is how often a request is sent that fails in a way that may
	// pass, with exponential backoff; default 5.
	MaxAttempts int
	// Timeout is how long to wait for a connection that makes no progress: to
	// connect, for the answer to a request, or for the next bytes; default 60 s.
	Timeout time.Duration
	// MaxConnections bounds the connections to the service; default 256.
	MaxConnections int
}

// The values of S3Options.Checksum.
const (
	ChecksumCRC32C = "crc32c"
	ChecksumNone   = "none"
)

const minPartSize = 5 << 20 // S3's limit

// withDefaults validates the options and fills in what was left out.
func (o S3Options) withDefaults() (S3Options, error) {
	defaultTo(&o.Checksum, ChecksumCRC32C)
	defaultTo(&o.PartSize, minPartSize)
	defaultTo(&o.PartConcurrency, 1)
	defaultTo(&o.MaxAttempts, 5)
	defaultTo(&o.Timeout, time.Minute)
	defaultTo(&o.MaxConnections, 256)
	local, err := checkEndpoint(o.Endpoint)
	o.PathStyle = o.PathStyle || local
	switch {
	case err != nil:
		return o, err
	case o.Bucket == "" || strings.Contains(o.Bucket, "/"):
		return o, fmt.Errorf("bucket %q: want the name of a bucket", o.Bucket)
	case o.Checksum != ChecksumCRC32C && o.Checksum != ChecksumNone:
		return o, fmt.Errorf("checksum %q: want %s or %s", o.Checksum, ChecksumCRC32C, ChecksumNone)
	case o.PartSize < minPartSize:
		return o, fmt.Errorf("part size %d: S3 wants parts of at least %d bytes (5 MiB)", o.PartSize, minPartSize)
	case o.PartConcurrency < 0 || o.MaxAttempts < 0 || o.Timeout < 0 || o.MaxConnections < 0:
		return o, errors.New("part concurrency, attempts, timeout and connections must not be negative")
	case (o.AccessKey == "") != (o.SecretKey == ""):
		return o, errors.New("access key and secret key: set both, or neither to use the standard AWS chain")
	}
	return o, nil
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// checkEndpoint says whether the endpoint is one that cannot have a subdomain
// for each bucket.
func checkEndpoint(endpoint string) (local bool, err error) {
	if endpoint == "" {
		return false, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return false, fmt.Errorf("endpoint %q: want a URL such as https://s3.example.com, without credentials", endpoint)
	}
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()) != nil, nil
}

// S3 is a Store in a bucket of Amazon S3 or of a service that honours the same
// conditional requests; Probe finds out whether it does.
//
// A Put whose answer was lost is sent again, and then fails its own condition:
// see ErrPrecondition. Keys are as in the bucket, with no prefix: see WithPrefix.
type S3 struct {
	client  *s3.Client
	http    *http.Client
	opts    S3Options
	parts   buffers
	smalls  buffers
	perCall []func(*s3.Options) // of calls that carry data
}

// NewS3 makes a client of a bucket. It looks for credentials and does not
// contact the service otherwise.
func NewS3(ctx context.Context, opts S3Options) (*S3, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open S3 store: %w", err)
	}
	load := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer { return newRetryer(opts) }),
		config.WithLogger(logging.Nop{}),                                                  // errors are returned
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired), // Put sends its own
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if opts.Checksum != ChecksumNone {
		load = append(load, config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenSupported))
	}
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	if opts.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(opts.AccessKey, opts.SecretKey, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open S3 store: AWS configuration: %w", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("open S3 store: %w", noCredentials(err))
	}
	defaultTo(&cfg.Region, "us-east-1")
	client := httpClient(cfg.HTTPClient, opts)
	cfg.HTTPClient = client
	return &S3{
		client:  s3.NewFromConfig(cfg, opts.apply),
		http:    client,
		opts:    opts,
		parts:   newBuffers(int(opts.PartSize), maxFreeParts),
		smalls:  newBuffers(smallObject, maxFreeSmalls),
		perCall: []func(*s3.Options){unsignedPayload},
	}, nil
}

func (o S3Options) apply(c *s3.Options) {
	c.UsePathStyle = o.PathStyle
	if o.Endpoint != "" {
		c.BaseEndpoint = aws.String(o.Endpoint)
	}
	c.ContinueHeaderThresholdBytes = -1 // a round trip for each part, for little
	c.DisableLogOutputChecksumValidationSkipped = true
}

func newRetryer(opts S3Options) aws.Retryer {
	r := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = opts.MaxAttempts })
	return retry.AddWithErrorCodes(r, "ConditionalRequestConflict", "OperationAborted", // 409: another write was under way
		"ExistingObjectIsDirectory") // so says versitygw where another's deletion took the directory that it had just made
}

// httpClient is a client whose connections do not hang for ever. It trusts whom
// the AWS configuration trusts.
func httpClient(configured aws.HTTPClient, opts S3Options) *http.Client {
	transport := awshttp.NewBuildableClient().GetTransport()
	if with, ok := configured.(*awshttp.BuildableClient); ok { // as it is where AWS_CA_BUNDLE is set
		transport = with.GetTransport()
	}
	dialer := &net.Dialer{Timeout: min(opts.Timeout, 10*time.Second), KeepAlive: 30 * time.Second}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &writeTimeoutConn{conn, opts.Timeout}, nil
	}
	transport.ForceAttemptHTTP2 = false
	transport.ResponseHeaderTimeout = opts.Timeout
	transport.MaxConnsPerHost = opts.MaxConnections
	transport.MaxIdleConns = opts.MaxConnections
	transport.MaxIdleConnsPerHost = opts.MaxConnections
	transport.WriteBufferSize = 64 << 10
	transport.ReadBufferSize = 64 << 10
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close closes the connections that nobody uses. The store can still be used.
func (s *S3) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

// writeTimeoutConn fails a write that makes no progress. (Reads have timeouts of
// their own: for the header of an answer in the transport, for its body in s3Body.)
type writeTimeoutConn struct {
	net.Conn
	timeout time.Duration
}

func (c *writeTimeoutConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Head implements Store.
func (s *S3) Head(ctx context.Context, key string) (Info, error) {
	if err := ValidateKey(key); err != nil {
		return Info{}, err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &key})
	if err != nil {
		return Info{}, fmt.Errorf("head %s: %w", key, s.explainHead(ctx, err))
	}
	return Info{Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), ModTime: aws.ToTime(out.LastModified)}, nil
}

// explainHead asks again where something is not found: the answer to a HEAD has
// no body that would say what.
func (s *S3) explainHead(ctx context.Context, err error) error {
	err = s.explain(err)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	_, list := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.opts.Bucket, MaxKeys: aws.Int32(1)})
	if list != nil && apiCode(list) != "AccessDenied" { // which may be of listing only
		return s.explain(list)
	}
	return err
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := ValidateKey(key); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.opts.Bucket, Key: &key})
	if err = s.explain(err); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// List implements Store: a page of 1000 at a time.
func (s *S3) List(ctx context.Context, prefix string, opts ListOptions) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.opts.Bucket, Prefix: &prefix}
		if opts.Delimited {
			in.Delimiter = aws.String("/")
		}
		if opts.After != "" {
			in.StartAfter = &opts.After
		}
		for pages := s3.NewListObjectsV2Paginator(s.client, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Info{}, fmt.Errorf("list %s: %w", prefix, s.explain(err)))
				return
			}
			if !yieldPage(page, opts.After, yield) {
				return
			}
		}
	}
}

func yieldPage(page *s3.ListObjectsV2Output, after string, yield func(Info, error) bool) bool {
	for _, p := range page.CommonPrefixes {
		if key := aws.ToString(p.Prefix); key > after && !yield(Info{Key: key, Prefix: true}, nil) {
			return false
		}
	}
	for i := range page.Contents {
		if info := listed(&page.Contents[i]); info.Key > after && !yield(info, nil) {
			return false
		}
	}
	return true
}

func listed(o *types.Object) Info {
	return Info{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), ModTime: aws.ToTime(o.LastModified)}
}
