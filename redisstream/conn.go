package redisstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	maxIdleConns   = 8 // per node
	maxIdleTime    = 30 * time.Second
	maxRedirects   = 5
	keepConnBuffer = 1 << 20
)

// conn is one connection of the package's own to one server. It is used by one
// goroutine at a time.
type conn struct {
	nc       net.Conn
	in       input
	out      []byte
	addr     string
	epoch    uint64 // see Snapshot.Epoch
	reused   bool   // came out of the idle pool: the server may have closed it since
	idleFrom time.Time
}

// timedConn gives every read and write its own deadline.
type timedConn struct {
	net.Conn
	timeout time.Duration
}

func (c timedConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c timedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// flush sends the request that was appended to out.
func (cn *conn) flush() error {
	_, err := cn.nc.Write(cn.out)
	cn.out = cn.out[:0]
	if err != nil {
		return cn.in.fail(err)
	}
	return nil
}

// during closes the connection when ctx ends before the returned function is
// called: that interrupts any read or write, and a connection that was
// interrupted is of no further use anyway.
func (cn *conn) during(ctx context.Context) (end func()) {
	stop := context.AfterFunc(ctx, cn.hangUp)
	return func() {
		if !stop() {
			cn.in.spoil(ctx.Err())
		}
	}
}

func (cn *conn) close() {
	cn.in.spoil(net.ErrClosed)
	cn.hangUp()
}

// hangUp closes the connection. The error of doing so tells nothing: whatever
// was sent has been answered, or is given up.
func (cn *conn) hangUp() {
	_ = cn.nc.Close() //nolint:errcheck // see above
}

// node is where a connection should go.
type node struct {
	opts *redis.Options
	addr string
}

// owner returns the node for a key: in a cluster the master of its slot.
func (c *Client) owner(ctx context.Context, key string) (node, error) {
	if c.cluster == nil {
		opts := c.single.Options()
		return node{opts, opts.Addr}, nil
	}
	master, err := c.cluster.MasterForKey(ctx, key)
	if err != nil {
		return node{}, fmt.Errorf("find the cluster node: %w", classify(err))
	}
	opts := master.Options()
	return node{opts, opts.Addr}, nil
}

// follow returns the node that a redirection names.
func (c *Client) follow(ctx context.Context, from node, to redirection) node {
	host, port, err := net.SplitHostPort(to.addr)
	if err == nil && host == "" { // the same host, says the protocol
		if host, _, err = net.SplitHostPort(from.addr); err == nil {
			to.addr = net.JoinHostPort(host, port)
		}
	}
	if c.cluster != nil && !to.ask {
		c.cluster.ReloadState(ctx)
	}
	return node{from.opts, to.addr}
}

// take returns an idle connection to a node, or a new one.
func (c *Client) take(ctx context.Context, n node) (*conn, error) {
	c.mu.Lock()
	idle := c.idle[n.addr]
	for len(idle) > 0 {
		cn := idle[len(idle)-1]
		idle = idle[:len(idle)-1]
		c.idle[n.addr] = idle
		if time.Since(cn.idleFrom) < maxIdleTime {
			c.mu.Unlock()
			cn.reused = true
			return cn, nil
		}
		cn.close()
	}
	c.mu.Unlock()
	return c.dial(ctx, n)
}

// give takes a connection back; one that failed, or is in the middle of a
// reply, is closed.
func (c *Client) give(cn *conn) {
	if cn.in.err != nil || cn.in.pos != len(cn.in.buf) {
		cn.close()
		return
	}
	cn.in.buf, cn.in.pos = cn.in.buf[:0], 0
	if cap(cn.in.buf) > keepConnBuffer {
		cn.in.buf = nil
	}
	cn.idleFrom = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle[cn.addr]) >= maxIdleConns {
		cn.close()
		return
	}
	c.idle[cn.addr] = append(c.idle[cn.addr], cn)
}

// dropIdle closes the idle connections to a node, one of which turned out dead.
func (c *Client) dropIdle(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cn := range c.idle[addr] {
		cn.close()
	}
	delete(c.idle, addr)
}

// with runs f on a connection to the node that owns key. It follows a cluster's
// redirections, and tries again when an idle connection turns out dead, so f
// must be safe to repeat and must consume all replies of what it sent. With
// asking set, f must send ASKING before each command.
func (c *Client) with(ctx context.Context, key string, f func(cn *conn, asking bool) error) error {
	n, err := c.owner(ctx, key)
	if err != nil {
		return err
	}
	asking := false
	for try := 0; ; try++ {
		cn, err := c.take(ctx, n)
		if err != nil {
			return err
		}
		end := cn.during(ctx)
		err = f(cn, asking)
		end()
		broken, reused := cn.in.err != nil, cn.reused
		c.give(cn)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		to, redirected := parseRedirection(err)
		switch {
		case try >= maxRedirects:
			return classify(err)
		case redirected:
			n, asking = c.follow(ctx, n, to), to.ask
		case broken && reused && !errors.Is(err, ErrProtocol):
			c.dropIdle(n.addr)
		default:
			return classify(err)
		}
	}
}

// dial makes a new connection: authenticated, on the right database, and to a
// server that is recent enough.
func (c *Client) dial(ctx context.Context, n node) (*conn, error) {
	nc, err := n.opts.Dialer(ctx, n.opts.Network, n.addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("connect to %s: %w", n.addr, unreachable(classify(err)))
	}
	timed := timedConn{nc, c.cfg.ReadTimeout}
	cn := &conn{nc: timed, addr: n.addr, in: input{src: timed}}
	end := cn.during(ctx)
	err = c.handshake(cn)
	end()
	if err == nil {
		err = cn.in.err
	}
	if err != nil {
		cn.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("connect to %s: %w", n.addr, classify(err))
	}
	return cn, nil
}

// unreachable marks an error of dialling: whatever it is, there is no connection.
func unreachable(err error) error {
	if errors.Is(err, ErrUnreachable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func (c *Client) handshake(cn *conn) error {
	var required []string // what each reply answers
	switch {
	case c.cfg.Username != "":
		cn.out = appendCommand(cn.out, "AUTH", c.cfg.Username, c.cfg.Password)
		required = append(required, "authenticate")
	case c.cfg.Password != "":
		cn.out = appendCommand(cn.out, "AUTH", c.cfg.Password)
		required = append(required, "authenticate")
	}
	if c.cfg.DB != 0 {
		cn.out = appendCommand(cn.out, "SELECT", strconv.Itoa(c.cfg.DB))
		required = append(required, "select the database")
	}
	cn.out = appendCommand(cn.out, "CLIENT", "SETNAME", c.cfg.ClientName)
	cn.out = appendCommand(cn.out, "INFO", "server", "replication")
	if err := cn.flush(); err != nil {
		return err
	}
	var failed error
	for _, what := range required {
		if _, _, err := cn.in.status(); err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", what, err)
		}
	}
	if _, _, err := cn.in.status(); err != nil && failed == nil {
		// A name is a courtesy that the ACL may deny, but it shows when a
		// password is wanted.
		if reply, ok := asReply(err); !ok || reply.code() != "NOPERM" {
			failed = err
		}
	}
	at, size, err := cn.in.bulk(1 << 20)
	if failed != nil {
		return failed
	}
	if reply, ok := asReply(err); ok && reply.code() == "NOPERM" {
		cn.epoch = c.newEpoch("")
		cn.in.compact()
		return nil
	}
	if err != nil {
		return err
	}
	info := parseServerInfo(string(cn.in.buf[at : at+size]))
	cn.in.compact()
	if err := checkVersion(info["redis_version"]); err != nil {
		return err
	}
	if c.cfg.Mode == Sentinel && info["role"] == "slave" {
		return fmt.Errorf("%w: the Sentinels' master %s is a replica by now", ErrUnreachable, cn.addr)
	}
	cn.epoch = c.newEpoch(info["run_id"] + "/" + info["master_replid"])
	return nil
}

// newEpoch numbers the servers that connections were made to; see
// Snapshot.Epoch. Each call with an unknown server counts as another one.
func (c *Client) newEpoch(server string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch, known := c.epochs[server]; known && server != "" {
		return epoch
	}
	c.lastEpoch++
	if server != "" {
		c.epochs[server] = c.lastEpoch
	}
	return c.lastEpoch
}

// parseServerInfo reads the reply of INFO.
func parseServerInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	return info
}

// checkVersion refuses servers that do not count the entries ever added. A
// version that is not a number is left to fail where it does.
func checkVersion(version string) error {
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 7 {
		return fmt.Errorf("%w: the server is version %s", ErrTooOld, version)
	}
	return nil
}
