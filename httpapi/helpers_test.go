package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi"
)

func document() []byte { return httpapi.Document() }

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// isStream reports whether an operation answers with an event stream.
func (r *request) isStream() bool { return r.id == "tailStream" || strings.HasPrefix(r.id, "watch") }

// status sends a request and returns the status, without waiting for the end of an event
// stream.
func (w *world) status(r request, bearer string) int { return w.begin(r, bearer).StatusCode }

// begin sends a request of the document; of an event stream only the head is read.
func (w *world) begin(r request, bearer string) *answer {
	w.t.Helper()
	if !r.isStream() {
		return w.call(r.method, r.path, bearer, r.body)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, w.url+r.path, nil)
	w.must(err)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := http.DefaultClient.Do(req)
	w.must(err)
	defer response.Body.Close()
	a := &answer{Response: response}
	if response.StatusCode != http.StatusOK {
		a.body = make([]byte, 64<<10)
		n, err := response.Body.Read(a.body)
		if n == 0 {
			w.must(err)
		}
		a.body = a.body[:n]
	}
	return a
}
