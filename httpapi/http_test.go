package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/projection"
)

func TestRulesOfHTTP(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.MaxBody = 4096; w.opts.CORSOrigins = []string{"https://admin.example"} })
	operator := w.as(token.Operator)

	for _, tc := range []struct {
		method, path, body, problem string
		status                      int
		headers                     []string
	}{
		{"GET", "/v1/nothing", "", "not-found", 404, nil},
		{"PUT", "/v1/jobs", "", "method-not-allowed", 405, nil},
		{"POST", "/v1/replays", strings.Repeat("x", 5000), "too-large", 413, nil},
		{"POST", "/v1/replays", "a=b", "unsupported-media-type", 415, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"GET", "/v1/jobs", "{}", "invalid-request", 400, nil},
		{"GET", "/v1/jobs/x", "", "invalid-request", 400, nil},
		{"GET", "/v1/projections", "", "not-configured", 501, nil},
		{"POST", "/v1/rebuilds", `{"spec":{"projection":"orders"}}`, "not-configured", 501, nil},
	} {
		a := w.want(tc.status, tc.method, tc.path, operator, tc.body, tc.headers...)
		var p api.Problem
		a.decode(t, &p)
		if p.Type != "urn:reservoir:problem:"+tc.problem || p.Status != tc.status || p.RequestID == "" || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %+v", tc.method, tc.path, p)
		}
	}

	a := w.want(200, "GET", "/v1/jobs", operator, "", "X-Request-ID", "abc-1", "Origin", "https://admin.example")
	for name, want := range map[string]string{
		"X-Request-ID": "abc-1", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		"Access-Control-Allow-Origin": "https://admin.example",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if csp := a.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
	if got := w.want(200, "GET", "/v1/jobs", operator, "", "Origin", "https://evil.example").Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin is allowed: %q", got)
	}
	if got := w.want(200, "GET", "/v1/jobs", operator, "", "X-Request-ID", "bad id\t").Header.Get("X-Request-ID"); strings.Contains(got, " ") {
		t.Errorf("request ID %q", got)
	}

	w.want(200, "GET", "/healthz", "", "")
	page := w.want(200, "GET", "/v1/docs", "", "")
	if !strings.Contains(string(page.body), "createReplay") || strings.Contains(string(page.body), "<script") {
		t.Error("the page does not show the document, or has scripts")
	}
	if got := w.want(200, "GET", "/v1/openapi.yaml", "", ""); string(got.body) != string(document()) {
		t.Error("the document is another one")
	}
	w.want(200, "GET", "/v1/version", operator, "")
	metrics := w.want(200, "GET", "/metrics", operator, "")
	if !strings.Contains(string(metrics.body), `reservoir_http_requests_total{operation="listJobs",status="200"}`) {
		t.Errorf("metrics: %s", metrics.body)
	}
}

func TestGzip(t *testing.T) {
	w := newWorld(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/events?limit=1000", nil)
	w.must(err)
	r.Header.Set("Authorization", "Bearer "+w.as(token.Viewer))
	r.Header.Set("Accept-Encoding", "gzip")
	response, err := http.DefaultTransport.RoundTrip(r)
	w.must(err)
	w.must(response.Body.Close())
	if response.Header.Get("Content-Encoding") != "gzip" {
		t.Error("a large answer is not compressed")
	}
}

func TestReadiness(t *testing.T) {
	down := errors.New("password=secret is wrong")
	w := newWorld(t, func(w *world) {
		w.opts.Ready = map[string]func(context.Context) error{"pigeon": func(context.Context) error { return down }}
	})
	viewer := w.as(token.Viewer)
	var ready api.Ready
	a := w.want(http.StatusServiceUnavailable, "GET", "/readyz", "", "")
	a.decode(t, &ready)
	if ready.Ready || len(ready.Dependencies) != 3 || !ready.Dependencies[0].Ready || !ready.Dependencies[1].Ready || ready.Dependencies[2].Ready || strings.Contains(string(a.body), "secret") {
		t.Errorf("ready: %s", a.body)
	}
	w.want(http.StatusServiceUnavailable, "GET", "/readyz", viewer, "").decode(t, &ready)
	if ready.Dependencies[2].Error == "" {
		t.Errorf("ready: %+v", ready)
	}
}

func TestRateLimits(t *testing.T) {
	w := newWorld(t, func(w *world) { w.opts.Rate, w.opts.Burst = 0.001, 3 })
	one, other := w.as(token.Viewer), w.as(token.Operator)
	for range 3 {
		w.want(http.StatusOK, "GET", "/v1/whoami", one, "")
	}
	a := w.want(http.StatusTooManyRequests, "GET", "/v1/whoami", one, "")
	if a.Header.Get("Retry-After") == "" || a.problem(t) != "too-many-requests" {
		t.Errorf("answer: %v %s", a.Header, a.body)
	}
	w.want(http.StatusOK, "GET", "/v1/whoami", other, "")
	status := 0
	for range 40 {
		status = w.call("GET", "/v1/jobs", "rsv_guess", "").StatusCode
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("guessing tokens is not slowed down: %d", status)
	}
}

// A handler that panics costs one answer; its caller learns nothing but the request's ID.
func TestPanics(t *testing.T) {
	w := newWorld(t, withClickHouse, func(w *world) {
		w.opts.Digest = func(*projection.Definition) (string, error) { panic("a secret of the panic") }
	})
	viewer := w.as(token.Viewer)
	a := w.want(http.StatusInternalServerError, "GET", "/v1/projections", viewer, "")
	if a.problem(t) != "internal" || strings.Contains(string(a.body), "secret") {
		t.Errorf("answer: %s", a.body)
	}
	if log := w.logs.String(); !strings.Contains(log, "a secret of the panic") || !strings.Contains(log, `"stack"`) || !strings.Contains(log, a.Header.Get("X-Request-ID")) {
		t.Errorf("log: %s", log)
	}
	w.want(http.StatusOK, "GET", "/v1/streams", viewer, "")
}
