package httpapi_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Whoever sends a body byte by byte holds a connection for a while only, without a token
// too, and whatever the path.
func TestSlowBodies(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Timeout = time.Second })
	w.srv.Mount(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			t.Error("a body that never came was read")
		}
	}))
	var group sync.WaitGroup
	for _, head := range []string{
		"POST /v1/nothing", "POST /v1/replays", "POST /v1/session", "POST /login", "POST /login HTTP/1.1\r\nAccept: text/event-stream",
	} {
		if !strings.Contains(head, "HTTP/1.1") {
			head += " HTTP/1.1"
		}
		group.Go(func() {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(conn, head+"\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\""); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadAll(conn); err != nil {
				t.Errorf("%s: the connection is not closed: %v", head, err)
			}
		})
	}
	group.Wait()
}
