package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// relay stands before a server that does not bear it when a client resets its
// connection, as the kernel does for a client that is killed: the server sees an
// orderly end instead. While the server is down, who connects is reset.
type relay struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// startRelay listens on one address and passes all on to another.
func startRelay(ctx context.Context, addr, target string) (*relay, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start a relay: %w", err)
	}
	r := &relay{listener: l, target: target, conns: map[net.Conn]bool{}}
	r.group.Go(r.accept)
	return r, nil
}

// close ends all connections, and returns when nothing of the relay runs any more.
func (r *relay) close() error {
	err := r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.conns {
		err = errors.Join(err, c.Close())
	}
	r.mu.Unlock()
	r.group.Wait()
	return err
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.group.Go(func() { r.serve(client.(*net.TCPConn)) })
	}
}

// serve passes on what one connection says, both ways.
func (r *relay) serve(client *net.TCPConn) {
	if !r.keep(client) {
		return
	}
	defer r.drop(client)
	conn, err := (&net.Dialer{}).Dial("tcp", r.target)
	if err != nil {
		client.SetLinger(0) //nolint:errcheck // then it ends in good order, and the client sees that it was not served either
		return
	}
	server := conn.(*net.TCPConn)
	if !r.keep(server) {
		return
	}
	defer r.drop(server)
	var up sync.WaitGroup
	up.Go(func() {
		io.Copy(server, client) //nolint:errcheck // however the client ended
		server.CloseWrite()     //nolint:errcheck // the server may have ended before
	})
	io.Copy(client, server)     //nolint:errcheck // either may have ended
	client.CloseWrite()         //nolint:errcheck // the client may have ended before
	io.Copy(io.Discard, server) //nolint:errcheck // what the server said to a client that is gone: to leave it unread would reset the server's connection
	r.drop(client)
	up.Wait()
}

// keep takes note of a connection that close has to close.
func (r *relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		c.Close() //nolint:errcheck // nobody uses it
		return false
	}
	r.conns[c] = true
	return true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns[c] {
		delete(r.conns, c)
		c.Close() //nolint:errcheck // whoever it was is done with
	}
}
