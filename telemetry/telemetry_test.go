package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoggerFormats(t *testing.T) {
	for _, c := range []struct {
		opts LogOptions
		want string
	}{
		{LogOptions{}, `"msg":"x"`},
		{LogOptions{Terminal: true}, "msg=x"},
		{LogOptions{Format: "json", Terminal: true}, `"msg":"x"`},
		{LogOptions{Format: "text"}, "msg=x"},
		{LogOptions{Format: "auto", Level: "error"}, ""},
		{LogOptions{Level: "warn"}, `"level":"WARN"`},
	} {
		var b strings.Builder
		l, err := NewLogger(&b, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		l.Warn("x")
		if !strings.Contains(b.String(), c.want) || (c.want == "" && b.Len() > 0) {
			t.Errorf("%+v: %q, want %q", c.opts, b.String(), c.want)
		}
	}
	for _, opts := range []LogOptions{{Level: "loud"}, {Format: "xml"}} {
		if _, err := NewLogger(io.Discard, opts); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	// A client of its own, so that no idle connection outlives the test.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServer(t *testing.T) {
	ill := errors.New("no commit for 5m")
	var answer error
	s, err := Listen(t.Context(), "127.0.0.1:0", NewRegistry(ReadBuild("v1.2.3")), func(context.Context) error { return answer }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), s.Addr(), nil, nil, nil); err == nil {
		t.Error("a taken port was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()

	if code, body := get(t, "http://"+s.Addr()+"/metrics"); code != 200 || !strings.Contains(body, `version="v1.2.3"`) || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: %d %.200s", code, body)
	}
	if code, body := get(t, "http://"+s.Addr()+"/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %s", code, body)
	}
	answer = ill
	if code, body := get(t, "http://"+s.Addr()+"/healthz"); code != 503 || body != "no commit for 5m\n" {
		t.Errorf("healthz: %d %s", code, body)
	}
	if code, _ := get(t, "http://"+s.Addr()+"/else"); code != 404 {
		t.Errorf("else: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBuild(t *testing.T) {
	if b := ReadBuild(""); b.Version == "" || b.Go == "" || b.Platform == "" {
		t.Errorf("%+v", b)
	}
}
