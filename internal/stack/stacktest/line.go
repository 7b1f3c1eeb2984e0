package stacktest

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Line stands before a server, and can hold back what a client says: as a slow network
// does, or a client that was stopped while it spoke.
type Line struct {
	// Addr is where clients connect.
	Addr string

	target string
	hold   atomic.Pointer[hold]
	slow   atomic.Pointer[func(said []byte) time.Duration]
}

type hold struct {
	from           func(said []byte) bool
	held, released chan struct{}
}

// NewLine starts a line to a server, which ends with the test.
func NewLine(t testing.TB, target string) *Line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &Line{Addr: listener.Addr().String(), target: target}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go l.serve(client)
		}
	}()
	return l
}

// Hold holds back what one client says, from the first piece on for which from is true.
// held is closed when there is something; release lets it go on.
func (l *Line) Hold(from func(said []byte) bool) (held <-chan struct{}, release func()) {
	h := &hold{from: from, held: make(chan struct{}), released: make(chan struct{})}
	l.hold.Store(h)
	return h.held, func() { close(h.released) }
}

// Slow holds back what clients say, each piece for as long as delay says, from now on.
func (l *Line) Slow(delay func(said []byte) time.Duration) { l.slow.Store(&delay) }

func (l *Line) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // it may have ended
	server, err := (&net.Dialer{}).Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it may have ended
	go func() {
		io.Copy(client, server) //nolint:errcheck // either may have ended
		client.Close()          //nolint:errcheck // it may have ended
	}()
	buffer := make([]byte, 1024)
	for {
		n, err := client.Read(buffer)
		if h := l.hold.Load(); h != nil && h.from(buffer[:n]) && l.hold.CompareAndSwap(h, nil) {
			close(h.held)
			<-h.released
		}
		if slow := l.slow.Load(); slow != nil {
			<-time.After((*slow)(buffer[:n]))
		}
		if _, writeErr := server.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}
