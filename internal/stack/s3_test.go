package stack_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func s3Client(s *stack.S3) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(s.Endpoint()),
		Region:       stack.S3Region,
		UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: stack.S3AccessKey, SecretAccessKey: stack.S3SecretKey}, nil
		}),
	})
}

func TestS3HonoursConditionsAndKeepsItsData(t *testing.T) {
	s := stacktest.S3(t, stack.S3Options{Bucket: "events"})
	c, ctx := s3Client(s), t.Context()
	put := func(body string) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: aws.String("events"), Key: aws.String("a/date=1/b c"), Body: strings.NewReader(body), IfNoneMatch: aws.String("*"),
		})
		return err
	}
	if err := put("first"); err != nil {
		t.Fatal(err)
	}
	var refused smithy.APIError
	if err := put("second"); !errors.As(err, &refused) || refused.ErrorCode() != "PreconditionFailed" {
		t.Fatalf("second put if absent = %v, want PreconditionFailed", err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("events"), Key: aws.String("a/date=1/b c")})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(got.Body)
	if err := errors.Join(err, got.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if string(body) != "first" {
		t.Errorf("body = %q after the restart, want %q", body, "first")
	}
}
