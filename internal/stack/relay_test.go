package stack_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestClickHouseBearsResets resets connections before the client has said anything, after
// its greeting, and when it is answered: the engine goes on.
func TestClickHouseBearsResets(t *testing.T) {
	c := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	// The client's name and version, a database, a user and no password.
	greeting := append([]byte{0, 4}, "test\x01\x01\xb2\xa9\x03\x07default\x07default\x00"...)
	for _, says := range []struct {
		what []byte
		read bool
	}{{}, {greeting, false}, {greeting, true}} {
		for range 20 {
			reset(t, c.Addr(), says.what, says.read)
		}
		if got, err := c.Query(t.Context(), "SELECT 1"); err != nil || got != "1\n" {
			t.Fatalf("select = %q, %v%s", got, err, c.Ended())
		}
	}
}

// reset connects, says something, reads some of the answer, and resets the connection.
func reset(t *testing.T, addr string, what []byte, read bool) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(what); err != nil {
		t.Error(err)
	}
	if read {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
		t.Error(err)
	}
}
