package redisstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Clustered reports whether the client reaches a Redis Cluster, where a
// transaction is for keys of one slot only.
func (c *Client) Clustered() bool { return c.cluster != nil }

// Place returns the URL that the client connects to, without user and password.
func (c *Client) Place() string {
	scheme := "redis"
	if c.cfg.TLS.enabled() {
		scheme = "rediss"
	}
	hosts := strings.Join(c.cfg.Addrs, ",")
	if len(c.cfg.Addrs) == 1 && strings.HasPrefix(hosts, "/") {
		return "unix://" + hosts + "?db=" + strconv.Itoa(c.cfg.DB)
	}
	switch c.cfg.Mode {
	case Cluster:
		return scheme + "+cluster://" + hosts
	case Sentinel:
		return scheme + "+sentinel://" + hosts + "/" + c.cfg.MasterName + "/" + strconv.Itoa(c.cfg.DB)
	default:
		return scheme + "://" + hosts + "/" + strconv.Itoa(c.cfg.DB)
	}
}

// SamePlace reports whether a key of one client is the same key of the other:
// both reach the same server, under whatever name, and the same database. A
// server that may not be asked is known by its URL only.
func (c *Client) SamePlace(ctx context.Context, other *Client) (bool, error) {
	if c == other || c.Place() == other.Place() {
		return true, nil
	}
	if c.cfg.DB != other.cfg.DB {
		return false, nil
	}
	one, err := c.history(ctx)
	if err != nil {
		return false, err
	}
	two, err := other.history(ctx)
	if err != nil {
		return false, err
	}
	return one == two && one != "", nil
}

// history returns what names a server's data: its replication history, which
// its replicas share. It is "" when the user may not ask.
func (c *Client) history(ctx context.Context) (string, error) {
	n, err := c.anyMaster(ctx)
	if err != nil {
		return "", fmt.Errorf("ask redis about itself: %w", classify(err))
	}
	text, err := n.Info(ctx, "replication").Result()
	if reply, ok := asReply(err); ok && reply.code() == "NOPERM" {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask redis about itself: %w", classify(err))
	}
	return parseServerInfo(text)["master_replid"], nil
}

// Hosts returns the host:port of everything that the configuration connects to
// first: the server, the Sentinels or the cluster nodes that it names.
func (c Config) Hosts() ([]string, error) {
	resolved, err := c.resolve()
	if err != nil {
		return nil, err
	}
	return resolved.Addrs, nil
}
