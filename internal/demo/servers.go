package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/objectstore"
)

// servers are a Redis and, where they are installed, an S3 server, without which the
// archive is a directory, and the ClickHouse engine, without which there are no
// projections.
type servers struct {
	dir        string
	redis      *stack.Redis
	s3         *stack.S3
	clickhouse *stack.ClickHouse
}

const (
	bucket = "reservoir"
	prefix = "demo"
)

func (s *servers) start(ctx context.Context, dir string, tables bool) (err error) {
	s.dir = dir
	s.redis, err = stack.StartRedis(ctx, stack.RedisOptions{Dir: filepath.Join(dir, "redis"), AOF: true, Fsync: "everysec"})
	if errors.Is(err, stack.ErrNoBinary) {
		// An imitation would not do: miniredis, the one there is in Go, does not count
		// the entries ever added to a stream, which losses are told by.
		return remedy.Wrap(fmt.Errorf("the demo needs a real Redis, 7.0 or newer: %w", err),
			"run `make demo`, which installs it, or: apt install redis-server (macOS: brew install redis)")
	}
	if err != nil {
		return err
	}
	s.s3, err = stack.StartS3(ctx, stack.S3Options{Dir: filepath.Join(dir, "s3"), Bucket: bucket})
	if err != nil && !errors.Is(err, stack.ErrNoBinary) || !tables {
		return orNoBinary(err)
	}
	s.clickhouse, err = stack.StartClickHouse(ctx, stack.ClickHouseOptions{Dir: filepath.Join(dir, "clickhouse")})
	return orNoBinary(err)
}

// orNoBinary lets pass that a server is not installed.
func orNoBinary(err error) error {
	if errors.Is(err, stack.ErrNoBinary) {
		return nil
	}
	return err
}

func (s *servers) close() error {
	var errs []error
	if s.redis != nil {
		errs = append(errs, s.redis.Close())
	}
	if s.s3 != nil {
		// Asked to end it waits up to ten seconds for idle connections, and there is nothing
		// in flight that it could lose.
		errs = append(errs, s.s3.Kill(), s.s3.Close())
	}
	if s.clickhouse != nil {
		errs = append(errs, s.clickhouse.Kill(), s.clickhouse.Close()) // its tables are gone with it
	}
	return errors.Join(errs...)
}

// archiveDir is where the objects lie; the S3 server keeps them as files too.
func (s *servers) archiveDir(dir string) string {
	if s.s3 != nil {
		return filepath.Join(dir, "s3", "data", bucket, prefix)
	}
	return filepath.Join(dir, "archive")
}

// storeName is what people call the store.
func (s *servers) storeName() string {
	if s.s3 != nil {
		return "s3://" + bucket + "/" + prefix + " at " + s.s3.Endpoint()
	}
	return s.archiveDir(s.dir)
}

// keys are a part of the configuration.
type keys map[string]any

func (s *servers) storeKeys() keys {
	if s.s3 == nil {
		return localStoreKeys(s.archiveDir(s.dir))
	}
	return keys{
		"url": "s3://" + bucket + "/" + prefix, "endpoint": s.s3.Endpoint(), "region": stack.S3Region, "path_style": true,
		"access_key": stack.S3AccessKey, "secret_key": stack.S3SecretKey,
	}
}

func localStoreKeys(dir string) keys { return keys{"url": "file://" + dir} }

func (s *servers) openStore(ctx context.Context) (objectstore.Store, error) {
	cfg := objectstore.Config{URL: "file://" + s.archiveDir(s.dir)}
	if s.s3 != nil {
		cfg = objectstore.Config{URL: "s3://" + bucket + "/" + prefix, S3: objectstore.S3Options{
			Endpoint: s.s3.Endpoint(), Region: stack.S3Region, PathStyle: true,
			AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		}}
	}
	return objectstore.Open(ctx, cfg)
}

// writeConfig writes the configuration of the archiver, and of the commands that can be
// tried afterwards. It polls and commits far more often than the defaults, so that
// there is something to see.
func (d *Demo) writeConfig(store keys) error {
	config := keys{
		"redis":   keys{"url": d.servers.redis.URL()},
		"store":   store,
		"streams": keys{"include": d.source.patterns(), "discover_interval": "1s"},
		"archive": keys{
			"roll": keys{"age": "1s"},
			"poll": keys{"interval": "100ms", "max_interval": "500ms"},
		},
	}
	if engine := d.servers.clickhouse; engine != nil {
		config["clickhouse"] = keys{"url": engine.URL()}
		config["projections"] = keys{"dir": d.definitionsDir(), "state": filepath.Join(d.dir, "folds")}
		config["jobs"] = keys{"poll": "200ms"}
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(d.ConfigFile(), text, 0o600)
}

// cleanEnvironment is that of this process without what would configure the archiver.
func cleanEnvironment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RESERVOIR_") && !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	return env
}
