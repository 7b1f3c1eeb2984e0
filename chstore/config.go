package chstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Config says how to reach ClickHouse and what kind of tables to make there.
type Config struct {
	// URL is clickhouse://[user:password@]host:port[,host:port][/database] for the
	// native protocol, http:// or https:// for HTTP; ?secure=true for TLS over native,
	// ?compress=lz4, zstd or none; default lz4, on the same machine none.
	URL string
	// User, Password and Database override those of the URL. Without any, they are
	// "default", "" and "default".
	User     string
	Password string
	Database string
	// TLS secures the connection, over http:// too; nil: as the URL says.
	TLS *tls.Config
	// Cluster is the name of the cluster (see system.clusters) on all servers of which
	// tables are made; empty: on the connected server only.
	Cluster string
	// Readers is the name of the cluster whose servers share the reading of files;
	// default Cluster.
	Readers string
	// Replicated makes tables of Replicated engines.
	Replicated bool
	// DialTimeout bounds the making of a connection; default 10s.
	DialTimeout time.Duration
	// ReadTimeout bounds the silence of the server; default 5m over native, where it
	// reports progress, and 6h over HTTP, where it is silent until a statement ends.
	ReadTimeout time.Duration
	// Connections bounds the connections; default 16.
	Connections int
	// Settings are sent with every statement, over what this package sends.
	Settings map[string]string
}

// Validate returns an error that names the field, its value and what would be right.
func (c Config) Validate() error {
	_, err := c.options()
	return err
}

func (c Config) options() (*clickhouse.Options, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || !slices.Contains([]string{"clickhouse", "tcp", "http", "https"}, u.Scheme) {
		return nil, remedy.Wrap(errors.New("url of ClickHouse is not clickhouse://, http:// or https:// with a host"),
			"Write it as clickhouse://user:password@host:9000/database, or as http://host:8123/database.")
	}
	if u.Scheme == "http" && c.TLS != nil {
		u.Scheme = "https" // the client would leave TLS out
	}
	if u.Scheme == "https" {
		query := u.Query()
		query.Set("secure", "true")
		u.RawQuery = query.Encode()
	}
	opts, err := clickhouse.ParseDSN(u.String())
	if err != nil {
		return nil, fmt.Errorf("url of ClickHouse: %w", redactURL(err, u))
	}
	override(&opts.Auth.Username, c.User, "default")
	override(&opts.Auth.Password, c.Password, "")
	override(&opts.Auth.Database, c.Database, "default")
	if c.TLS != nil {
		opts.TLS = c.TLS
	}
	opts.DialTimeout = positive(c.DialTimeout, 10*time.Second)
	opts.ReadTimeout = positive(c.ReadTimeout, 5*time.Minute)
	if opts.Protocol == clickhouse.HTTP {
		opts.ReadTimeout = positive(c.ReadTimeout, 6*time.Hour)
	}
	opts.MaxOpenConns = c.Connections
	if c.Connections <= 0 {
		opts.MaxOpenConns = 16
	}
	opts.MaxIdleConns = opts.MaxOpenConns
	opts.ClientInfo.Products = append(opts.ClientInfo.Products, struct{ Name, Version string }{"reservoir", "1"})
	if opts.Compression == nil {
		opts.Compression = &clickhouse.Compression{Method: compression(opts.Addr)}
	}
	if c.Replicated && c.Cluster == "" {
		return nil, remedy.Wrap(errors.New("replicated tables are asked for without a cluster"), "Name the cluster, as in system.clusters.")
	}
	return opts, nil
}

// compression is worth its time between machines only: it takes about half of what it
// takes to send a block.
func compression(addrs []string) clickhouse.CompressionMethod {
	for _, addr := range addrs {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return clickhouse.CompressionLZ4
		}
	}
	return clickhouse.CompressionNone
}

// redactURL keeps the password of a URL out of an error about it.
func redactURL(err error, u *url.URL) error {
	password, ok := u.User.Password()
	if !ok || password == "" || !strings.Contains(err.Error(), password) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), password, hidden))
}

func override(value *string, with, otherwise string) {
	if with != "" {
		*value = with
	}
	if *value == "" {
		*value = otherwise
	}
}

func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
