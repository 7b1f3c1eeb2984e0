package stack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// The ports handed out lie below the range that the kernel uses for outgoing
// connections: there, a client that reconnects while its server is down could be
// given the server's port, and even connect to itself.
const firstPort, lastPort = 20000, 31999

// A port is a loopback TCP port that no other process using this package takes
// while it is held, not even while the server behind it is down.
type port struct {
	number int
	claim  *os.File
}

func newPort(ctx context.Context) (*port, error) {
	dir := filepath.Join(os.TempDir(), "reservoir-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("claim a port: %w", err)
	}
	for range 1000 {
		n := firstPort + rand.IntN(lastPort-firstPort+1)
		p, err := claimPort(ctx, dir, n)
		if err != nil {
			return nil, err
		}
		if p != nil {
			return p, nil
		}
	}
	return nil, errors.New("claim a port: none is free")
}

// claimPort returns nil without an error when the port is taken.
func claimPort(ctx context.Context, dir string, n int) (*port, error) {
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(n)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim port %d: %w", n, err)
	}
	p := &port{number: n, claim: f}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, p.release()
		}
		return nil, errors.Join(fmt.Errorf("claim port %d: %w", n, err), p.release())
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.addr())
	if err != nil {
		return nil, p.release()
	}
	if err := l.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("claim port %d: %w", n, err), p.release())
	}
	return p, nil
}

func (p *port) addr() string { return net.JoinHostPort("127.0.0.1", p.String()) }

func (p *port) String() string { return strconv.Itoa(p.number) }

// release lets others have the port. The claim's file stays: removing it would
// let two processes lock two different files of the same name.
func (p *port) release() error { return p.claim.Close() }
