package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// receiver is a target of replays over HTTP that answers as a test wants it.
type receiver struct {
	mu     sync.Mutex
	status int
	body   string
}

func (r *receiver) set(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) serve(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		w.WriteHeader(r.status)
		if _, err := io.WriteString(w, r.body); err != nil {
			t.Log(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}
