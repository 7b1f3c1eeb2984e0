package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/redisstream"
)

// servers are what a benchmark runs against, and the archiver's program.
type servers struct {
	redis   *stack.Redis
	s3      *stack.S3
	client  *redisstream.Client
	dir     string // for the program and for local archives
	program string
	env     []string // more of its environment
}

// start starts the servers in dir and builds the program. The caller closes
// them, also after an error.
func start(ctx context.Context, dir string) (*servers, error) {
	s := &servers{dir: dir, program: filepath.Join(dir, "reservoir")}
	// A directory that is kept has it from the run that made its archives.
	if _, err := os.Stat(s.program); err != nil {
		build := exec.CommandContext(ctx, "go", "build", "-o", s.program, "github.com/reservoirhq/reservoir/cmd/reservoir")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return s, fmt.Errorf("build reservoir: %w: %s", err, out)
		}
	}
	var err error
	if s.redis, err = stack.StartRedis(ctx, stack.RedisOptions{Dir: filepath.Join(dir, "redis")}); err != nil {
		return s, err
	}
	if s.s3, err = stack.StartS3(ctx, stack.S3Options{Dir: filepath.Join(dir, "s3")}); err != nil {
		return s, err
	}
	s.client, err = redisstream.Connect(ctx, redisstream.Config{URL: s.redis.URL()})
	return s, err
}

func (s *servers) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Close())
	}
	if s.s3 != nil {
		errs = append(errs, s.s3.Close())
	}
	return errors.Join(errs...)
}

// withServers runs f with servers in a temporary directory.
func withServers(ctx context.Context, f func(*servers) error) (err error) {
	dir, err := os.MkdirTemp("", "reservoir-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return withServersIn(ctx, dir, f)
}

// withServersIn runs f with servers in a directory.
func withServersIn(ctx context.Context, dir string, f func(*servers) error) error {
	s, err := start(ctx, dir)
	if err == nil {
		err = f(s)
	}
	return errors.Join(err, s.close())
}
