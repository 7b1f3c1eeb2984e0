package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
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
func (w *world) begin(r request, bearer string, headers ...string) *answer {
	w.t.Helper()
	if !r.isStream() {
		return w.call(r.method, r.path, bearer, r.body, headers...)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, w.url+r.path, nil)
	w.must(err)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(req)
	w.must(err)
	defer response.Body.Close()
	a := &answer{Response: response}
	if response.StatusCode != http.StatusOK {
		a.body, err = io.ReadAll(response.Body)
		w.must(err)
	}
	w.documented(req, a)
	return a
}
