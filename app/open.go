package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// redisConfig gives the part of the configuration that says how to reach Redis.
func redisConfig(cfg *config.Loaded) redisstream.Config {
	r := cfg.Redis
	return redisstream.Config{
		URL: r.URL.Reveal(), Mode: redisstream.Mode(r.Mode), Addrs: r.Addrs, MasterName: r.MasterName,
		Username: r.Username, Password: r.Password.Reveal(),
		SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword.Reveal(),
		DB: r.DB,
		TLS: redisstream.TLS{
			Enabled: r.TLS.Enabled, CAFile: r.TLS.CAFile, CertFile: r.TLS.CertFile, KeyFile: r.TLS.KeyFile,
			ServerName: r.TLS.ServerName, SkipVerify: r.TLS.InsecureSkipVerify,
		},
		DialTimeout: r.DialTimeout.D(), ReadTimeout: r.ReadTimeout.D(),
	}
}

// connectRedis connects to the configured Redis; the caller closes the client.
func (a *app) connectRedis(ctx context.Context) (*redisstream.Client, error) {
	return redisstream.Connect(ctx, redisConfig(a.cfg))
}

// storeConfig gives the part of the configuration that says where the archive is.
func storeConfig(cfg *config.Loaded) objectstore.Config {
	s := cfg.Store
	return objectstore.Config{
		URL: s.URL.Reveal(),
		S3: objectstore.S3Options{
			Endpoint: s.Endpoint, Region: s.Region, PathStyle: s.PathStyle,
			AccessKey: s.AccessKey, SecretKey: s.SecretKey.Reveal(),
			Checksum: s.Checksum, PartSize: int64(s.PartSize), Timeout: s.Timeout.D(), MaxAttempts: s.MaxAttempts,
		},
	}
}

// openStore opens the configured store, without reaching it. Its errors are
// those of the configuration.
func (a *app) openStore(ctx context.Context) (objectstore.Store, error) {
	return openStore(ctx, storeConfig(a.cfg))
}

func openStore(ctx context.Context, cfg objectstore.Config) (objectstore.Store, error) {
	if cfg.URL == "" {
		return nil, usageError{remedy.Wrap(errors.New("there is no archive to open: store.url is not set"),
			"name it: --store-url s3://bucket/prefix or --store-url file:///directory")}
	}
	return objectstore.Open(ctx, cfg)
}

func (a *app) archiveOptions() archive.Options {
	return archive.Options{Logger: a.logger, Mapping: a.cfg.Envelope}
}

// openArchive opens the configured archive for reading.
func (a *app) openArchive(ctx context.Context) (*archive.Archive, error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	return archive.Open(ctx, store, a.archiveOptions())
}

// openArchiveForWriting opens the configured archive, and refuses a store whose
// conditional writes do not hold.
func (a *app) openArchiveForWriting(ctx context.Context) (*archive.Archive, error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	arch, err := archive.Open(ctx, store, a.archiveOptions())
	if err != nil {
		return nil, err
	}
	if err := objectstore.Probe(ctx, store); err != nil {
		return nil, fmt.Errorf("probe the object store: %w", err)
	}
	return arch, nil
}
