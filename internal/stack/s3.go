package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// S3Options says how to run the S3 server.
type S3Options struct {
	Dir    string   // objects and log; default a temporary one, removed by Close
	Bucket string   // created if it is not there; default "reservoir"
	Args   []string // more versitygw arguments, before "posix"
}

// S3 is a running S3 server: versitygw over a local directory. It honours conditional
// writes, wants path-style addresses, and checks signatures.
type S3 struct {
	Server
	bucket string
}

// The credentials and the region of every S3 server started here.
const (
	S3AccessKey = "reservoir"
	S3SecretKey = "reservoir-secret"
	S3Region    = "us-east-1"
)

// StartS3 starts an S3 server on a free loopback port and returns when it answers.
// ctx bounds the start only; Close ends the server.
func StartS3(ctx context.Context, opts S3Options) (*S3, error) {
	s := &S3{bucket: opts.Bucket}
	if s.bucket == "" {
		s.bucket = "reservoir"
	}
	s.name, s.ready = "the S3 server", s.healthy
	if err := s.configure(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("start the S3 server: %w", err), s.Close())
	}
	if err := s.firstStart(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

const healthPath = "/health"

func (s *S3) configure(ctx context.Context, opts S3Options) error {
	if err := s.prepare(ctx, "versitygw", opts.Dir, 1); err != nil {
		return err
	}
	data, sidecar := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "meta")
	if err := os.MkdirAll(filepath.Join(data, s.bucket), 0o700); err != nil { // a directory is a bucket
		return err
	}
	s.env = []string{"ROOT_ACCESS_KEY=" + S3AccessKey, "ROOT_SECRET_KEY=" + S3SecretKey}
	s.args = append([]string{"--port", s.ports[0].addr(), "--region", S3Region, "--keep-alive", "--quiet", "--health", healthPath}, opts.Args...)
	s.args = append(s.args, "posix")
	// Kept in files of their own, ETags and checksums change a moment before or after
	// the data they belong to; but not every file system has extended attributes.
	if _, err := os.Stat(sidecar); err == nil || !extendedAttributes(data) {
		if err := os.MkdirAll(sidecar, 0o700); err != nil {
			return err
		}
		s.args = append(s.args, "--sidecar", sidecar)
	}
	s.args = append(s.args, data)
	return nil
}

// Endpoint returns the server's URL, such as http://127.0.0.1:23456.
func (s *S3) Endpoint() string { return "http://" + s.ports[0].addr() }

// Bucket returns the name of the bucket that was created.
func (s *S3) Bucket() string { return s.bucket }

// Env returns the environment, as KEY=value, in which the AWS SDKs and Reservoir's
// commands find the server and its credentials.
func (s *S3) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + S3AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + S3SecretKey,
		"AWS_REGION=" + S3Region,
		"AWS_ENDPOINT_URL_S3=" + s.Endpoint(),
	}
}

func (s *S3) healthy(ctx context.Context) error { return get(ctx, s.Endpoint()+healthPath) }
