package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

var (
	// ErrNoBucket is wrapped by the errors of an S3 store whose bucket does not exist.
	ErrNoBucket = errors.New("bucket does not exist")
	// ErrDenied is wrapped where the service rejects the credentials, or what
	// they are used for, and where there are none.
	ErrDenied = errors.New("access denied")
	// ErrUnreachable is wrapped where the service did not answer.
	ErrUnreachable = errors.New("object store unreachable")
)

const (
	codeNoSuchUpload = "NoSuchUpload"
	codeNoSuchUser   = "XAdminUserNotFound" // versitygw's word for InvalidAccessKeyId
)

// explain maps an error of the S3 client to this package's, with a remedy where
// someone has to do something.
func (s *S3) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	switch code, status := apiCode(err), apiStatus(err); {
	case code == "NoSuchBucket":
		return s.noBucket(err)
	case code == codeNoSuchUpload: // not found, but not the object; the upload may have ended well, its answer lost
		return fmt.Errorf("the upload is gone: %w", err)
	case code == "NoSuchKey" || code == "NotFound" || code == "NoSuchVersion":
		return ErrNotFound
	case code == "PreconditionFailed" || status == http.StatusPreconditionFailed:
		return ErrPrecondition
	case code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || code == "IllegalLocationConstraintException" || status == http.StatusMovedPermanently:
		return remedy.Wrapf(fmt.Errorf("bucket %s is elsewhere: %w", s.opts.Bucket, err), "set the region (and endpoint) to those of the bucket; now it is %q", s.region())
	case code == "RequestTimeTooSkewed":
		return remedy.Wrap(err, "set this machine's clock: it is too far from the object store's")
	case status == http.StatusUnauthorized || status == http.StatusForbidden || code == codeNoSuchUser:
		return s.denied(code, err)
	case status == 0 && isSendError(err):
		return remedy.Wrapf(fmt.Errorf("%w at %s: %w", ErrUnreachable, s.where(), err),
			"check that the endpoint and the region are right, that the service runs, and that no firewall or proxy is between")
	}
	return err
}

func (s *S3) noBucket(err error) error {
	return remedy.Wrapf(fmt.Errorf("%w: %s at %s: %w", ErrNoBucket, s.opts.Bucket, s.where(), err),
		"create the bucket, or correct its name, the endpoint or the region")
}

func (s *S3) denied(code string, err error) error {
	what := "give these credentials s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload on the bucket, or use others"
	switch code {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", codeNoSuchUser:
		what = "correct the access key and the secret key (or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN)"
	}
	return remedy.Wrap(fmt.Errorf("%w to bucket %s at %s: %w", ErrDenied, s.opts.Bucket, s.where(), err), what)
}

func noCredentials(err error) error {
	return remedy.Wrap(fmt.Errorf("%w: no credentials: %w", ErrDenied, err),
		"set the access key and the secret key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS profile or role")
}

// where names the service for people.
func (s *S3) where() string {
	if endpoint := s.client.Options().BaseEndpoint; endpoint != nil {
		return *endpoint
	}
	return "AWS " + s.region()
}

func (s *S3) region() string { return s.client.Options().Region }

// apiCode gives the error code in the service's answer, or "".
func apiCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// apiStatus gives the HTTP status of the service's answer, or 0.
func apiStatus(err error) int {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}

func isSendError(err error) bool {
	var send *smithyhttp.RequestSendError
	return errors.As(err, &send)
}
