package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// resumeBackoff is the wait before an interrupted download goes on, growing with
// each interruption in a row.
const resumeBackoff = 100 * time.Millisecond

// Get implements Store. A body that breaks off or stalls is taken up again where
// it was, as long as the object is the same.
func (s *S3) Get(ctx context.Context, key string, r ByteRange) (io.ReadCloser, Info, error) {
	if err := ValidateKey(key); err != nil {
		return nil, Info{}, err
	}
	body, info, err := s.get(ctx, key, r)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get %s: %w", key, err)
	}
	return body, info, nil
}

func (s *S3) get(ctx context.Context, key string, r ByteRange) (io.ReadCloser, Info, error) {
	b := &s3Body{s3: s, key: key, ctx: ctx}
	out, err := b.request(rangeHeader(r), nil)
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusRequestedRangeNotSatisfiable {
		info, err := s.Head(ctx, key)
		return http.NoBody, info, err
	}
	if err != nil {
		return nil, Info{}, s.explain(err)
	}
	size, err := b.measure(out, r)
	if err != nil {
		return nil, Info{}, errors.Join(err, b.Close())
	}
	b.etag = aws.ToString(out.ETag)
	return b, Info{Key: key, Size: size, ETag: b.etag, ModTime: aws.ToTime(out.LastModified)}, nil
}

func rangeHeader(r ByteRange) *string {
	switch {
	case r == ByteRange{}:
		return nil
	case r.Offset < 0:
		return aws.String(fmt.Sprintf("bytes=%d", r.Offset))
	case r.Length <= 0:
		return aws.String(fmt.Sprintf("bytes=%d-", r.Offset))
	default:
		return aws.String(fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
	}
}

// extent says which part of an object of which size an answer holds.
func extent(out *s3.GetObjectOutput) (start, end, size int64, err error) {
	length := aws.ToInt64(out.ContentLength)
	if out.ContentLength == nil || length < 0 {
		return 0, 0, 0, errors.New("the answer has no length")
	}
	if out.ContentRange == nil {
		return 0, length, length, nil
	}
	if _, err := fmt.Sscanf(*out.ContentRange, "bytes %d-%d/%d", &start, &end, &size); err != nil {
		return 0, 0, 0, fmt.Errorf("the answer has the content range %q: %w", *out.ContentRange, err)
	}
	return start, start + length, size, nil
}

// s3Body reads [off, end) of an object through as many requests as it takes.
type s3Body struct {
	s3        *S3
	key, etag string
	ctx       context.Context //nolint:containedctx // the caller's, who keeps it alive until Close
	off, end  int64
	cut       bool // the answer goes on after end

	answer io.ReadCloser
	cancel context.CancelFunc // ends the answer
	stall  *time.Timer        // does so when a read makes no progress
	broken int                // interruptions since there was progress
}

// request sends a GET and takes its answer as what is read next.
func (b *s3Body) request(span, ifMatch *string) (*s3.GetObjectOutput, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	out, err := b.s3.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.s3.opts.Bucket, Key: &b.key, Range: span, IfMatch: ifMatch})
	if err != nil {
		cancel()
		return nil, err
	}
	b.answer, b.cancel = out.Body, cancel
	b.stall = time.AfterFunc(b.s3.opts.Timeout, cancel)
	b.stall.Stop()
	return out, nil
}

// measure sets the part of the object that the first answer holds, and returns
// the size of the whole.
func (b *s3Body) measure(out *s3.GetObjectOutput, r ByteRange) (size int64, err error) {
	start, end, size, err := extent(out)
	if err != nil {
		return 0, err
	}
	wantStart, wantEnd := r.within(size)
	if start != wantStart || end < wantEnd {
		return 0, fmt.Errorf("the answer holds bytes %d to %d, not %d to %d: the service does not honour byte ranges", start, end, wantStart, wantEnd)
	}
	b.off, b.end, b.cut = start, wantEnd, end > wantEnd // a suffix has no length in HTTP
	return size, nil
}

// Read implements io.Reader.
func (b *s3Body) Read(p []byte) (int, error) {
	if b.cut {
		if b.off == b.end {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), b.end-b.off)]
	}
	for {
		b.stall.Reset(b.s3.opts.Timeout)
		n, err := b.answer.Read(p)
		b.stall.Stop()
		b.off += int64(n)
		if n > 0 {
			b.broken = 0
		}
		if err == nil || b.off == b.end { // with io.EOF, or a checksum that does not match
			return n, err
		}
		if err := b.resume(err); err != nil {
			return n, fmt.Errorf("get %s: %w", b.key, err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// resume asks for the rest of an object whose answer broke off.
func (b *s3Body) resume(cause error) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if errors.Is(cause, io.EOF) { // the end of the answer, too early
		cause = io.ErrUnexpectedEOF
	}
	if b.broken++; b.broken >= b.s3.opts.MaxAttempts {
		return fmt.Errorf("the answer breaks off after %d bytes of the object: %w", b.off, cause)
	}
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(resumeBackoff << b.broken):
	}
	b.cancel()
	cause = errors.Join(cause, b.answer.Close())
	_, err := b.request(rangeHeader(ByteRange{b.off, b.end - b.off}), &b.etag)
	if err = b.s3.explain(err); errors.Is(err, ErrPrecondition) {
		err = errors.New("the object was replaced while it was read")
	}
	if err != nil {
		return fmt.Errorf("go on after %d bytes (%w): %w", b.off, cause, err)
	}
	b.cut = false
	return nil
}

// Close implements io.Closer.
func (b *s3Body) Close() error {
	b.stall.Stop()
	b.cancel()
	return b.answer.Close()
}
