package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// A server without tokens is this machine's alone; one that stops ends its event streams.
func TestListen(t *testing.T) {
	w := newWorld(t)
	if _, err := w.srv.Listen(t.Context(), "0.0.0.0:0", nil); err == nil || !strings.Contains(remedy.Of(err), "token create") {
		t.Fatalf("an open server listens for everybody: %v", err)
	}
	operator := w.as(token.Operator)
	waitUntil(t, func() bool {
		locked, err := w.srv.Locked(t.Context())
		w.must(err)
		return locked
	})
	l, err := w.srv.Listen(t.Context(), "0.0.0.0:0", nil)
	w.must(err)
	if l.Open() {
		t.Error("it says that it is open")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	_, port, _ := strings.Cut(l.Addr(), "]:")
	if port == "" {
		_, port, _ = strings.Cut(l.Addr(), ":")
	}
	w.url = "http://127.0.0.1:" + port
	w.want(http.StatusOK, "GET", "/v1/whoami", operator, "")
	job := w.newReplay(operator)
	messages, err := w.watch(t.Context(), "/v1/jobs/"+job.ID+"/events", operator, "")
	w.must(err)
	w.next(messages)
	stop()
	for range messages { // until the server ends it
	}
	w.must(<-ended)
	http.DefaultClient.CloseIdleConnections()
}
