package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrHostNotAllowed is wrapped when a target is not among the Hosts.
var ErrHostNotAllowed = errors.New("host is not allowed")

// Hosts are the hosts that sinks may connect to: "host" (any port),
// "host:port", "*.domain" (any host below it), or "*". Names are compared as
// they are written, before they are looked up. No Hosts allow nothing.
type Hosts []string

// Check returns an error that wraps ErrHostNotAllowed unless address, a
// host:port, is allowed.
func (h Hosts) Check(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	for _, pattern := range h {
		if allows(pattern, strings.TrimSuffix(strings.ToLower(host), "."), port) {
			return nil
		}
	}
	return remedy.Wrapf(fmt.Errorf("%s: %w", address, ErrHostNotAllowed),
		"Add %s to replay.allow_hosts of the configuration, or RESERVOIR_REPLAY_ALLOW_HOSTS.", host)
}

func allows(pattern, host, port string) bool {
	pattern = strings.ToLower(strings.TrimSpace(pattern))
	if pattern == "*" {
		return true
	}
	// An IPv6 address has colons of its own: it carries a port in brackets only.
	if h, p, err := net.SplitHostPort(pattern); err == nil {
		if p != port {
			return false
		}
		pattern = h
	}
	pattern = strings.TrimSuffix(strings.TrimPrefix(pattern, "["), "]")
	if domain, ok := strings.CutPrefix(pattern, "*."); ok {
		return strings.HasSuffix(host, "."+domain)
	}
	return pattern != "" && pattern == host
}

// dialTimeout bounds the making of a connection.
const dialTimeout = 10 * time.Second

// DialContext connects to an address that is allowed.
func (h Hosts) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := h.Check(address); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return d.DialContext(ctx, network, address)
}

// reach looks whether an address takes connections.
func (h Hosts) reach(ctx context.Context, address string) error {
	conn, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
