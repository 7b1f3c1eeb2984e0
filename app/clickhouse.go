package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// clickhouseConfig gives the part of the configuration that says how to reach
// ClickHouse.
func clickhouseConfig(cfg *config.Loaded) (chstore.Config, error) {
	c := cfg.ClickHouse
	secure, err := tlsConfig(c.TLS)
	if err != nil {
		return chstore.Config{}, fmt.Errorf("clickhouse.tls: %w", err)
	}
	return chstore.Config{
		URL: c.URL.Reveal(), User: c.Username, Password: c.Password.Reveal(), Database: c.Database, TLS: secure,
		Cluster: c.Cluster, Readers: c.Readers, Replicated: c.Replicated, DialTimeout: c.DialTimeout.D(),
	}, nil
}

// tlsConfig gives how a connection is secured; nil where the URL alone says.
func tlsConfig(t config.TLS) (*tls.Config, error) {
	if t == (config.TLS{}) {
		return nil, nil //nolint:nilnil // as the URL says
	}
	out := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // asked for by name
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// wantClickHouse returns an error when no ClickHouse is configured.
func (a *app) wantClickHouse() error {
	if !a.cfg.ClickHouse.URL.IsZero() {
		return nil
	}
	return usageError{remedy.Wrap(errors.New("there is no ClickHouse: clickhouse.url is not set"),
		"name it: RESERVOIR_CLICKHOUSE_URL=clickhouse://localhost:9000/default, or clickhouse.url in the file")}
}

// connectClickHouse connects to the configured ClickHouse; the caller closes the
// store.
func (a *app) connectClickHouse(ctx context.Context) (*chstore.Store, error) {
	if err := a.wantClickHouse(); err != nil {
		return nil, err
	}
	cfg, err := clickhouseConfig(a.cfg)
	if err != nil {
		return nil, usageError{err}
	}
	return chstore.Connect(ctx, cfg)
}
