package objectstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	smallObject   = 64 << 10 // tried first, so that a small Put takes no part's memory
	maxFreeParts  = 4        // kept for the next Puts: two of them at a time
	maxFreeSmalls = 16
	partsPerSize  = 1000 // of 10,000 parts in all, the size doubling
	maxParts      = 10000
	abortTimeout  = 30 * time.Second
	partGrace     = 5 * time.Second
)

// unsignedPayload leaves the SHA-256 of the data out of the signature. The data
// has a checksum of its own, which is a hundred times cheaper.
var unsignedPayload = s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)

// Put implements Store. A body of less than one part is one request; a longer
// one is a multipart upload, whose parts are on their way while the next is
// filled, and whose end carries the condition.
func (s *S3) Put(ctx context.Context, key string, body io.Reader, cond Condition) (Info, error) {
	if err := ValidateKey(key); err != nil {
		return Info{}, err
	}
	info, err := s.put(ctx, key, body, cond)
	if err != nil {
		return Info{}, fmt.Errorf("put %s: %w", key, err)
	}
	return info, nil
}

func (s *S3) put(ctx context.Context, key string, body io.Reader, cond Condition) (Info, error) {
	small := s.smalls.get(smallObject)
	defer s.smalls.put(small)
	n, end, err := fill(ctx, small, body)
	if err != nil {
		return Info{}, err
	}
	if end {
		return s.putWhole(ctx, key, small[:n], cond)
	}
	part := s.parts.get(int(s.opts.PartSize))
	copied := copy(part, small)
	n, end, err = fill(ctx, part[copied:], body)
	if err != nil {
		s.parts.put(part)
		return Info{}, err
	}
	if end {
		defer s.parts.put(part)
		return s.putWhole(ctx, key, part[:copied+n], cond)
	}
	return s.putParts(ctx, key, part, body, cond)
}

// fill reads until the buffer is full or the body ends.
func fill(ctx context.Context, buffer []byte, body io.Reader) (n int, end bool, err error) {
	for n < len(buffer) {
		if err := ctx.Err(); err != nil {
			return n, false, err
		}
		m, err := body.Read(buffer[n:])
		n += m
		if err == io.EOF { // a wrapped EOF is not the end, by io.Reader's contract
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

func (s *S3) putWhole(ctx context.Context, key string, data []byte, cond Condition) (Info, error) {
	ifMatch, ifNoneMatch := headers(cond)
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.opts.Bucket, Key: &key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ChecksumCRC32C: s.checksum(data), IfMatch: ifMatch, IfNoneMatch: ifNoneMatch,
	}, s.perCall...)
	if err != nil {
		return Info{}, s.explain(err)
	}
	return Info{Key: key, Size: int64(len(data)), ETag: aws.ToString(out.ETag)}, nil
}

// putParts uploads the first part, which is full, and the rest of the body. It
// takes over the buffer.
func (s *S3) putParts(ctx context.Context, key string, part []byte, body io.Reader, cond Condition) (Info, error) {
	created, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.opts.Bucket, Key: &key, ChecksumAlgorithm: s.algorithm(),
	})
	if err != nil {
		s.parts.put(part)
		return Info{}, s.explain(err)
	}
	u := &upload{s3: s, key: key, id: created.UploadId}
	if err := u.send(ctx, part, body); err != nil {
		return Info{}, errors.Join(err, u.abort(ctx))
	}
	etag, err := u.complete(ctx, cond)
	if err != nil {
		return Info{}, errors.Join(err, u.abort(ctx))
	}
	return Info{Key: key, Size: u.size, ETag: etag}, nil
}

// upload is one multipart upload.
type upload struct {
	s3   *S3
	key  string
	id   *string
	size int64
	sent []*types.CompletedPart
}

// send uploads part, which is full, and what is left of the body. It returns
// when nothing is under way any more.
func (u *upload) send(ctx context.Context, part []byte, body io.Reader) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(u.s3.opts.PartConcurrency)
	for n, end := len(part), false; ; {
		u.start(ctx, group, part, n)
		if end || ctx.Err() != nil {
			break
		}
		if len(u.sent) == maxParts {
			group.Go(func() error { return fmt.Errorf("object is larger than %d parts", maxParts) })
			break
		}
		part = u.s3.parts.get(sizeOfPart(int(u.s3.opts.PartSize), len(u.sent)))
		var err error
		if n, end, err = fill(ctx, part, body); err != nil || n == 0 {
			u.s3.parts.put(part)
			group.Go(func() error { return err })
			break
		}
	}
	return group.Wait()
}

// sizeOfPart gives the size of the part after those sent: a whole object is then
// up to 1023 * partsPerSize times as large as the first, which is 5 TiB at least.
func sizeOfPart(first, sent int) int { return first << (sent / partsPerSize) }

// start uploads the first n bytes of the buffer, when its turn has come.
func (u *upload) start(ctx context.Context, group *errgroup.Group, part []byte, n int) {
	done := &types.CompletedPart{PartNumber: aws.Int32(int32(len(u.sent) + 1))}
	u.sent = append(u.sent, done)
	u.size += int64(n)
	group.Go(func() error {
		defer u.s3.parts.put(part)
		if err := ctx.Err(); err != nil {
			return err
		}
		ctx, cancel := linger(ctx, partGrace) // a part that arrives after the abort takes space for ever
		defer cancel()
		data := part[:n]
		done.ChecksumCRC32C = u.s3.checksum(data)
		out, err := u.s3.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &u.s3.opts.Bucket, Key: &u.key, UploadId: u.id, PartNumber: done.PartNumber,
			Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(n)), ChecksumCRC32C: done.ChecksumCRC32C,
		}, u.s3.perCall...)
		if err != nil {
			return u.s3.explain(err)
		}
		done.ETag = out.ETag
		return nil
	})
}

// linger gives a context that ends a while after ctx.
func linger(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-longer.Done():
		case <-time.After(grace):
			cancel()
		}
	})
	return longer, func() { stop(); cancel() }
}

func (u *upload) complete(ctx context.Context, cond Condition) (etag string, err error) {
	parts := make([]types.CompletedPart, len(u.sent))
	for i, p := range u.sent {
		parts[i] = *p
	}
	ifMatch, ifNoneMatch := headers(cond)
	out, err := u.s3.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.s3.opts.Bucket, Key: &u.key, UploadId: u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}, IfMatch: ifMatch, IfNoneMatch: ifNoneMatch,
	})
	if err != nil {
		return "", u.s3.explain(err)
	}
	return aws.ToString(out.ETag), nil
}

// abort gives back the space of an upload that failed, whatever became of ctx.
func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := u.s3.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.s3.opts.Bucket, Key: &u.key, UploadId: u.id})
	if err != nil && apiCode(err) != codeNoSuchUpload {
		return fmt.Errorf("give up the upload (its parts take space until a lifecycle rule removes them): %w", u.s3.explain(err))
	}
	return nil
}

// headers gives the If-Match and If-None-Match of a condition.
func headers(cond Condition) (ifMatch, ifNoneMatch *string) {
	if cond.Absent() {
		return nil, aws.String("*")
	}
	if etag, ok := cond.ETag(); ok {
		return &etag, nil
	}
	return nil, nil
}

func (s *S3) algorithm() types.ChecksumAlgorithm {
	if s.opts.Checksum == ChecksumNone {
		return ""
	}
	return types.ChecksumAlgorithmCrc32c
}

// checksum gives the data's CRC-32C as S3 writes it, or nil.
func (s *S3) checksum(data []byte) *string {
	if s.opts.Checksum == ChecksumNone {
		return nil
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	return aws.String(base64.StdEncoding.EncodeToString(sum))
}

// buffers recycles buffers. Any number may be out at a time (Puts that feed on
// one another must not wait for one another); a bounded number is kept.
type buffers struct {
	size int
	free chan []byte
}

func newBuffers(size, keep int) buffers { return buffers{size, make(chan []byte, keep)} }

// get gives a buffer of n bytes.
func (b *buffers) get(n int) []byte {
	if n == b.size {
		select {
		case buffer := <-b.free:
			return buffer
		default:
		}
	}
	return make([]byte, n)
}

func (b *buffers) put(buffer []byte) {
	if len(buffer) != b.size {
		return
	}
	select {
	case b.free <- buffer:
	default:
	}
}
