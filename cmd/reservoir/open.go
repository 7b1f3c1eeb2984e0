package main

import (
	"context"

	"github.com/reservoirhq/reservoir/config"
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
