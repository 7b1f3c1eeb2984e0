package redisstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client reaches one Redis server, the master behind a Sentinel, or a Redis
// Cluster. It is safe for concurrent use.
type Client struct {
	cfg     Config
	rdb     redis.UniversalClient
	single  *redis.Client        // rdb, unless it is a cluster
	cluster *redis.ClusterClient // rdb, if it is a cluster

	mu        sync.Mutex
	idle      map[string][]*conn // by address
	epochs    map[string]uint64  // by server and its replication history
	lastEpoch uint64
	closed    bool
}

// Connect validates cfg, makes a first connection and looks at the server's
// version. Its errors wrap ErrUnreachable, ErrAuth, ErrPermission, ErrLoading
// or ErrTooOld where that is the cause. The caller must Close the client.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, fmt.Errorf("redis configuration: %w", err)
	}
	secure, err := cfg.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("redis configuration: %w", err)
	}
	c := &Client{cfg: cfg, idle: make(map[string][]*conn), epochs: make(map[string]uint64)}
	opts := &redis.UniversalOptions{
		Addrs: cfg.Addrs, MasterName: cfg.MasterName, DB: cfg.DB, OnConnect: cfg.setName,
		Username: cfg.Username, Password: cfg.Password,
		SentinelUsername: cfg.SentinelUsername, SentinelPassword: cfg.SentinelPassword,
		DialTimeout: cfg.DialTimeout, ReadTimeout: cfg.ReadTimeout, WriteTimeout: cfg.ReadTimeout,
		Dialer: cfg.dialer(secure), TLSConfig: secure, Protocol: 2, ContextTimeoutEnabled: true, DisableIdentity: true,
		PoolSize: 16, DialerRetries: 1,
	}
	switch cfg.Mode {
	case Cluster:
		c.cluster = redis.NewClusterClient(opts.Cluster())
		c.rdb = c.cluster
	case Sentinel:
		c.single = redis.NewFailoverClient(opts.Failover())
		c.rdb = c.single
	default:
		c.single = redis.NewClient(opts.Simple())
		c.rdb = c.single
	}
	if err := c.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("redis: %w", err), c.Close())
	}
	return c, nil
}

// dialer makes connections, and gives up when ctx ends: go-redis's own does not
// while it agrees on TLS.
func (c Config) dialer(secure *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: c.DialTimeout}
	if secure == nil {
		return plain.DialContext
	}
	return (&tls.Dialer{NetDialer: plain, Config: secure}).DialContext
}

// setName names a connection of go-redis, if the ACL allows that.
func (c Config) setName(ctx context.Context, cn *redis.Conn) error {
	err := classify(cn.ClientSetName(ctx, c.ClientName).Err())
	if errors.Is(err, ErrPermission) {
		return nil
	}
	return err
}

// Ping makes sure that a server answers commands. One that denies PING does.
func (c *Client) Ping(ctx context.Context) error {
	err := c.with(ctx, "", func(cn *conn, _ bool) error {
		cn.out = appendCommand(cn.out, "PING")
		if err := cn.flush(); err != nil {
			return err
		}
		_, _, err := cn.in.status()
		return err
	})
	if denied, ok := errors.AsType[*PermissionError](err); ok && denied.Command == "ping" {
		return nil
	}
	return err
}

// Close closes all connections but those of open Readers and Writers.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	for addr, idle := range c.idle {
		for _, cn := range idle {
			cn.close()
		}
		delete(c.idle, addr)
	}
	c.mu.Unlock()
	return c.rdb.Close()
}

// Server is what a server says about itself. In a cluster it is one of the masters.
type Server struct {
	Version       string
	Mode          string // "standalone", "sentinel" or "cluster"
	Role          string // "master" or "slave"
	RunID         string // changes with every start
	ReplicationID string // changes with every failover
	MaxMemory     uint64 // bytes, 0 for no limit
	Policy        string // maxmemory-policy, such as "noeviction"
	AOF           bool   // append-only file on
	// RDB are the save points, such as "3600 1 300 100"; empty for none, and
	// when the user may not run CONFIG GET.
	RDB  string
	Time time.Time // the server's clock; compare with the local one
	// RoundTrip is how long asking for Time took: the two clocks can be
	// compared to within this much.
	RoundTrip time.Duration
}

// Server asks the server about itself.
func (c *Client) Server(ctx context.Context) (Server, error) {
	n, err := c.anyMaster(ctx)
	if err != nil {
		return Server{}, fmt.Errorf("ask redis about itself: %w", classify(err))
	}
	text, err := n.Info(ctx).Result()
	if err != nil {
		return Server{}, fmt.Errorf("ask redis about itself: %w", classify(err))
	}
	info := parseServerInfo(text)
	s := Server{
		Version: info["redis_version"], Mode: info["redis_mode"], Role: info["role"], RunID: info["run_id"],
		ReplicationID: info["master_replid"], Policy: info["maxmemory_policy"], AOF: info["aof_enabled"] == "1",
	}
	if s.MaxMemory, err = strconv.ParseUint(info["maxmemory"], 10, 64); err != nil {
		return Server{}, fmt.Errorf("%w: maxmemory %q", ErrProtocol, info["maxmemory"])
	}
	began := time.Now()
	if s.Time, err = n.Time(ctx).Result(); err != nil {
		return Server{}, fmt.Errorf("ask redis for the time: %w", classify(err))
	}
	s.RoundTrip = time.Since(began)
	save, err := n.ConfigGet(ctx, "save").Result()
	switch err := classify(err); {
	case errors.Is(err, ErrPermission):
	case err != nil:
		return Server{}, fmt.Errorf("ask redis for its save points: %w", err)
	default:
		s.RDB = save["save"]
	}
	return s, nil
}

func (c *Client) anyMaster(ctx context.Context) (*redis.Client, error) {
	if c.cluster == nil {
		return c.single, nil
	}
	return c.cluster.MasterForKey(ctx, "")
}
