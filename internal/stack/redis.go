package stack

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// RedisOptions says how to run a redis-server. The zero value is a server that
// keeps nothing on disk, in a temporary directory.
type RedisOptions struct {
	Dir       string   // data and log; default a temporary one, removed by Close
	AOF       bool     // append-only file: what was acknowledged survives a restart
	Fsync     string   // appendfsync with AOF: "always" (default), "everysec" or "no"
	Password  string   // of the default user
	ACL       []string // rules, such as "user archiver on >secret ~orders* +@read"
	TLS       bool     // serve TLS only, with a certificate made for this run: see TLSConfig
	ReplicaOf string   // host:port of the master to follow
	Args      []string // more redis-server arguments, such as "--maxmemory", "10mb"
}

// Redis is a running redis-server.
type Redis struct {
	Server
	opts RedisOptions
	tls  *tls.Config
}

// StartRedis starts a redis-server on a free loopback port and returns when it
// answers PING. ctx bounds the start only; Close ends the server.
func StartRedis(ctx context.Context, opts RedisOptions) (*Redis, error) {
	return startRedis(ctx, opts, nil)
}

// StartSentinel starts a Redis Sentinel that watches master under the given name and,
// as the only one, decides alone. It finds a failure after 500 ms of silence.
func StartSentinel(ctx context.Context, name, master string, opts RedisOptions) (*Redis, error) {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return nil, fmt.Errorf("start redis sentinel: %w", err)
	}
	return startRedis(ctx, opts, []string{
		"sentinel monitor " + name + " " + host + " " + port + " 1",
		"sentinel down-after-milliseconds " + name + " 500",
		"sentinel failover-timeout " + name + " 5000",
	})
}

func startRedis(ctx context.Context, opts RedisOptions, sentinel []string) (*Redis, error) {
	r := &Redis{opts: opts}
	r.name, r.ready = "redis", r.ping
	if err := r.configure(ctx, sentinel); err != nil {
		return nil, errors.Join(fmt.Errorf("start redis: %w", err), r.Close())
	}
	if err := r.firstStart(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Redis) configure(ctx context.Context, sentinel []string) error {
	if err := r.prepare(ctx, "redis-server", r.opts.Dir, 1); err != nil {
		return err
	}
	port := r.ports[0].String()
	r.args = []string{"--bind", "127.0.0.1", "--dir", r.dir}
	if r.opts.TLS {
		certs, err := newCertificates(r.dir)
		if err != nil {
			return err
		}
		r.tls = certs.client
		r.args = append(r.args, "--port", "0", "--tls-port", port, "--tls-cert-file", certs.cert,
			"--tls-key-file", certs.key, "--tls-ca-cert-file", certs.ca, "--tls-auth-clients", "no", "--tls-replication", "yes")
	} else {
		r.args = append(r.args, "--port", port)
	}
	if sentinel != nil {
		config := filepath.Join(r.dir, "sentinel.conf")
		if err := os.WriteFile(config, []byte(strings.Join(sentinel, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		r.args = append(append([]string{config}, r.args...), "--sentinel")
		return nil
	}
	return r.configureData()
}

// configureData adds what a server has and a sentinel has not: persistence, users, a master.
func (r *Redis) configureData() error {
	r.args = append(r.args, "--save", "")
	if r.opts.AOF {
		fsync := r.opts.Fsync
		if fsync == "" {
			fsync = "always"
		}
		r.args = append(r.args, "--appendonly", "yes", "--appendfsync", fsync)
	}
	if r.opts.Password != "" {
		r.args = append(r.args, "--requirepass", r.opts.Password)
	}
	if len(r.opts.ACL) > 0 {
		if r.opts.Password != "" { // which an ACL file would override
			return errors.New("option Password: excludes ACL; add a rule for the user default instead")
		}
		file := filepath.Join(r.dir, "users.acl")
		if err := os.WriteFile(file, []byte(strings.Join(r.opts.ACL, "\n")+"\n"), 0o600); err != nil {
			return err
		}
		r.args = append(r.args, "--aclfile", file)
	}
	if r.opts.ReplicaOf != "" {
		host, port, err := net.SplitHostPort(r.opts.ReplicaOf)
		if err != nil {
			return fmt.Errorf("option ReplicaOf: %w", err)
		}
		r.args = append(r.args, "--replicaof", host+" "+port)
	}
	r.args = append(r.args, r.opts.Args...)
	return nil
}

// Addr returns the server's address as host:port.
func (r *Redis) Addr() string { return r.ports[0].addr() }

// URL returns the server's address as redis://, or rediss:// with TLS, with the
// default user's password if it has one.
func (r *Redis) URL() string {
	u := url.URL{Scheme: "redis", Host: r.Addr()}
	if r.opts.TLS {
		u.Scheme = "rediss"
	}
	if r.opts.Password != "" {
		u.User = url.UserPassword("", r.opts.Password)
	}
	return u.String()
}

// TLSConfig returns what a client needs to trust the server, or nil without TLS.
func (r *Redis) TLSConfig() *tls.Config { return r.tls.Clone() }

// CAFile returns the PEM file of the authority that signed the server's certificate,
// or "" without TLS.
func (r *Redis) CAFile() string {
	if !r.opts.TLS {
		return ""
	}
	return filepath.Join(r.dir, caFile)
}

// ping succeeds when the server answers commands, be it that it wants a password first.
func (r *Redis) ping(ctx context.Context) (err error) {
	var conn net.Conn
	if r.tls != nil {
		conn, err = (&tls.Dialer{Config: r.tls}).DialContext(ctx, "tcp", r.Addr())
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", r.Addr())
	}
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := conn.Close(); err == nil {
			err = closeErr
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if reply = strings.TrimSpace(reply); reply != "+PONG" && !strings.HasPrefix(reply, "-NOAUTH") {
		return fmt.Errorf("ping: %s", reply)
	}
	return nil
}
