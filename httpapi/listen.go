package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Limits on slow clients.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 20 * time.Second
	maxHeader     = 64 << 10
)

// Listener serves a Server at an address.
type Listener struct {
	server   *Server
	listener net.Listener
	open     bool
}

// Listen takes the address at once, so that a taken port is an error at start; Run,
// which has to be called, serves. config is for TLS; nil: none. As long as nobody has to
// authenticate (see Server.Locked), an address that others than this machine
// can reach is refused.
func (s *Server) Listen(ctx context.Context, address string, config *tls.Config) (*Listener, error) {
	locked, err := s.Locked(ctx)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, remedy.Wrapf(fmt.Errorf("listen on %q: %w", address, err), "give host:port, such as 127.0.0.1:8080")
	}
	if !locked && !loopback(host) {
		return nil, remedy.Wrapf(fmt.Errorf("listen on %s: there is no token yet, so anybody who reaches that address could do anything", address),
			"make one with `reservoir token create --role admin`, or listen on 127.0.0.1")
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return &Listener{s, l, !locked}, nil
}

// Addr is the address that is listened on, with the port that was chosen for port 0.
func (l *Listener) Addr() string { return l.listener.Addr().String() }

// Open reports whether whoever is on this machine may do everything, because there was
// no token when it began to listen.
func (l *Listener) Open() bool { return l.open }

// Run serves until ctx ends. Then it ends event streams, lets other requests finish for
// a while, and returns nil.
func (l *Listener) Run(ctx context.Context) error {
	logger := l.server.opts.Logger
	if l.open {
		logger.LogAttrs(ctx, slog.LevelWarn, "no token exists: only this machine is served, and it may do everything", slog.String("address", l.Addr()))
	}
	// Requests live until the server is closed, but for event streams: stopping tells them.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler: l.server.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return withStop(base, ctx) },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop serving on %s: %w", l.Addr(), err)
	}
	return nil
}

type stopKey struct{}

func withStop(ctx, stop context.Context) context.Context {
	return context.WithValue(ctx, stopKey{}, stop)
}

// stopping ends when the server stops; never where nobody says.
func stopping(ctx context.Context) context.Context {
	if stop, ok := ctx.Value(stopKey{}).(context.Context); ok {
		return stop
	}
	return context.WithoutCancel(ctx)
}
