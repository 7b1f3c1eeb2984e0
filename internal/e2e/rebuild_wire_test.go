package e2e_test

import (
	"net"
	"net/url"
	"regexp"
	"sync"
)

// wire is between such a process and its ClickHouse, within the process: it sees every
// statement before that one does.
type wire struct {
	*mortal
	target string
}

// wired gives an URL of ClickHouse by way of a wire. It lasts as long as the process.
func (m *mortal) wired(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	w := wire{m, u.Host}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(conn)
		}
	}()
	u.Host = l.Addr().String()
	return u.String(), nil
}

// statementPattern finds the ID of a statement in what the client sends.
var statementPattern = regexp.MustCompile(`reservoir/[^/]{1,64}/[a-z]`)

// serve passes on what one connection says, both ways.
func (w wire) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return // as if it were refused
	}
	defer server.Close()
	var group sync.WaitGroup
	var mu sync.Mutex
	dying := false // at the next answer
	group.Go(func() {
		defer server.Close()
		copyEach(server, client, func(part []byte) (then func()) {
			if !statementPattern.Match(part) {
				return nil
			}
			at, now := w.due(func(d *death) bool { return d.Statement != "" && regexp.MustCompile(d.Statement).Match(part) })
			switch {
			case now && at == sooner:
				w.die()
			case now && at == amid:
				return w.die
			case now:
				mu.Lock()
				dying = true
				mu.Unlock()
			}
			return nil
		})
	})
	group.Go(func() {
		defer client.Close()
		copyEach(client, server, func([]byte) (then func()) {
			mu.Lock()
			now := dying
			dying = false
			mu.Unlock()
			if now {
				w.die()
			}
			return nil
		})
	})
	group.Wait()
}

// copyEach copies until either end fails; look sees each part before it is written, and
// what it returns is called after that.
func copyEach(to, from net.Conn, look func(part []byte) (then func())) {
	part := make([]byte, 64<<10)
	for {
		n, err := from.Read(part)
		if n > 0 {
			then := look(part[:n])
			if _, err := to.Write(part[:n]); err != nil {
				return
			}
			if then != nil {
				then()
			}
		}
		if err != nil {
			return
		}
	}
}
