package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/httpapi/web"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// withPage mounts the page; it is called when the server is there.
func (w *world) withPage() {
	w.t.Helper()
	page, err := web.New(web.Options{
		Gate: w.srv.Gate(), Archive: w.arch, Redis: w.redis, Jobs: w.jobs, Replays: w.opts.Replays, Rebuilds: w.opts.Rebuilds,
		Definitions: w.opts.Definitions, ClickHouse: w.opts.ClickHouse, Audit: w.srv.Trail(), Watch: w.srv.Watch, Logger: w.opts.Logger,
	})
	w.must(err)
	w.srv.Mount(page)
}

// browser sends requests as a browser does that follows nothing.
func (w *world) browser(method, path, session, form string) *answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(form))
	w.must(err)
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if session != "" {
		r.Header.Set("Cookie", session)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	w.must(err)
	text, err := io.ReadAll(response.Body)
	w.must(err)
	w.must(response.Body.Close())
	return &answer{response, text}
}

// copies is a sink that anybody may write to.
func copies() replay.SinkSpec {
	return replay.SinkSpec{Type: "redis", Options: json.RawMessage(`{"stream":"copy"}`)}
}

// session logs in at the page.
func (w *world) session(text string) string {
	w.t.Helper()
	a := w.browser("POST", "/login", "", url.Values{"token": {text}}.Encode())
	cookie := a.Header.Get("Set-Cookie")
	if a.StatusCode != http.StatusSeeOther || !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") {
		w.t.Fatalf("log in: %d, %q: %s", a.StatusCode, cookie, a.body)
	}
	session, _, _ := strings.Cut(cookie, ";")
	return session
}

func (w *world) status200(path, session string) string {
	w.t.Helper()
	a := w.browser("GET", path, session, "")
	if a.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d: %s", path, a.StatusCode, a.body)
	}
	return string(a.body)
}

// The page is let in by what lets in to the API, and what is the API's stays so.
func TestPageBesideTheAPI(t *testing.T) {
	w := newWorld(t)
	w.withPage()
	open := w.browser("GET", "/", "", "") // there is no token yet
	if open.StatusCode != http.StatusOK || !strings.HasPrefix(open.Header.Get("Content-Security-Policy"), "default-src 'none'") || open.Header.Get("X-Request-ID") == "" {
		t.Fatalf("%d, %v: %s", open.StatusCode, open.Header, open.body)
	}
	if strings.Contains(string(open.body), "Log out") {
		t.Error("who has not logged in is offered to log out")
	}
	a := w.browser("POST", "/replays", "", url.Values{"stream": {"shop:orders"}, "into": {"redis:copy"}, "reviewed": {"yes"}, "sure": {"yes"}, "key": {"k"}}.Encode())
	made, err := w.jobs.Get(t.Context(), strings.TrimPrefix(a.Header.Get("Location"), "/jobs/"))
	w.must(err)
	if made.CreatedBy != "anonymous" {
		t.Errorf("created by %q, and by the API it is anonymous", made.CreatedBy)
	}
	viewer, operator := w.as(token.Viewer), w.as(token.Operator)
	for w.browser("GET", "/", "", "").StatusCode == http.StatusOK { // a server that makes no token itself looks every other second
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("it stays open")
		}
	}
	if a := w.browser("GET", "/jobs?state=failed", "", ""); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/login?next=%2Fjobs%3Fstate%3Dfailed" {
		t.Errorf("without a session: %d %s", a.StatusCode, a.Header.Get("Location"))
	}
	if a := w.browser("POST", "/login", "", "token=rsv_wrong"); a.StatusCode != http.StatusUnauthorized || !strings.Contains(string(a.body), "token is not valid") {
		t.Errorf("a wrong token: %d: %s", a.StatusCode, a.body)
	}
	if text := w.status200("/", w.session(viewer)); !strings.Contains(text, "shop:orders") {
		t.Errorf("the overview: %s", text)
	}
	if a := w.browser("GET", "/audit", w.session(operator), ""); a.StatusCode != http.StatusForbidden || !strings.Contains(string(a.body), "role admin") {
		t.Errorf("the audit trail: %d: %s", a.StatusCode, a.body)
	}
	for path, want := range map[string]string{"/": "text/html; charset=utf-8", "/jobs/" + made.ID + "/live?state=pending": "text/event-stream"} {
		if a := w.browser("HEAD", path, w.session(viewer), ""); a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != want || len(a.body) > 0 {
			t.Errorf("HEAD %s: %d %s: %s", path, a.StatusCode, a.Header.Get("Content-Type"), a.body)
		}
	}
	for path, want := range map[string]int{"/v1/nothing": 404, "/v1": 404, "/healthz": 200, "/nothing": 404, "/static/app.js": 200} {
		a := w.browser("GET", path, w.session(viewer), "")
		isProblem := a.Header.Get("Content-Type") == "application/problem+json"
		if a.StatusCode != want || isProblem != (want == 404 && strings.HasPrefix(path, "/v1")) {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.Header.Get("Content-Type"))
		}
	}
	if a := w.browser("POST", "/v1/streams", w.session(viewer), "x=y"); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /v1/streams: %d", a.StatusCode)
	}
	if a := w.browser("POST", "/logout", w.session(viewer), "x=y"); a.StatusCode != http.StatusSeeOther || !strings.Contains(a.Header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("log out: %d, %v", a.StatusCode, a.Header)
	}
}

// What is done on the page is audited as what is done by the API, refusals too.
func TestPageIsAudited(t *testing.T) {
	w := newWorld(t)
	w.withPage()
	job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{"shop:orders"}, Sink: copies()}, replay.CreateOptions{})
	w.must(err)
	path := "/jobs/" + job.ID + "/pause"
	for role, want := range map[token.Role]int{token.Viewer: http.StatusForbidden, token.Operator: http.StatusSeeOther} {
		if a := w.browser("POST", path, w.session(w.as(role)), "reason=lunch"); a.StatusCode != want {
			t.Fatalf("%s: %d: %s", role, a.StatusCode, a.body)
		}
	}
	if a := w.browser("POST", path, w.session(w.as(token.Operator)), "reason=again"); a.StatusCode != http.StatusConflict {
		t.Errorf("paused twice: %d: %s", a.StatusCode, a.body)
	}
	got := map[string]int{}
	var list struct {
		Entries []struct{ Operation, Role, Result, Path, Subject string }
	}
	w.want(http.StatusOK, "GET", "/v1/audit", w.as(token.Admin), "").decode(t, &list)
	for _, e := range list.Entries {
		got[e.Operation+" "+e.Role+" "+e.Result]++
		if e.Path != path || e.Result == "done" && e.Subject != job.ID {
			t.Errorf("%+v", e)
		}
	}
	if len(list.Entries) != 3 || got["pauseJob viewer refused"] != 1 || got["pauseJob operator done"] != 1 || got["pauseJob operator refused"] != 1 {
		t.Errorf("%v", got)
	}
}

// Who is restricted to a tenant finds nothing of another one on any page.
func TestPageForRestrictedCallers(t *testing.T) {
	w := newWorld(t, withClickHouse)
	w.withPage()
	job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{"shop:orders"}, Filter: event.Filter{Tenants: []string{"globex"}}, Sink: copies()}, replay.CreateOptions{Name: "globex again"})
	w.must(err)
	session := w.session(w.token(token.New{Role: token.Operator, Tenants: []string{"acme"}}))
	unrestricted := w.session(w.as(token.Operator))
	const all = "&since=2025-01-01&until=2026-12-31"
	for _, path := range []string{
		"/", "/stream?name=shop:orders", "/explore?stream=shop:orders" + all, "/explore?stream=shop:orders&tenant=globex" + all, "/aggregate?type=order&id=globex-1",
		"/event?stream=shop:orders&id=1760000000010-0", "/jobs", "/jobs/" + job.ID, "/projections", "/projections/orders", "/audit", "/settings",
		"/replays/new", "/replays/estimate?stream=shop:orders", "/rebuilds/new", "/rebuilds/estimate?projection=orders",
	} {
		a := w.browser("GET", path, session, "")
		// What was asked for may be quoted.
		if text := strings.ReplaceAll(string(a.body), "&#34;globex-1&#34;", ""); a.StatusCode >= 500 || strings.Contains(text, "globex-") || strings.Contains(text, "globex again") {
			t.Errorf("%s: %d: %s", path, a.StatusCode, text)
		}
		if a := w.browser("GET", path, unrestricted, ""); a.StatusCode >= 500 {
			t.Errorf("%s, unrestricted: %d: %s", path, a.StatusCode, a.body)
		}
	}
	if !strings.Contains(w.status200("/aggregate?type=order&id=globex-1", unrestricted), "globex-1") {
		t.Error("who is not restricted does not see it either")
	}
	only := w.session(w.token(token.New{Role: token.Viewer, Streams: []string{"shop:orders"}}))
	if text := w.status200("/", only); strings.Contains(text, "shop:payments") || !strings.Contains(text, "shop:orders") {
		t.Errorf("restricted to one stream: %s", text)
	}
}

// A server that stops ends the event streams of the page at once.
func TestPageStreamsEndWithTheServer(t *testing.T) {
	w := newWorld(t)
	w.withPage()
	job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{"shop:orders"}, Sink: copies()}, replay.CreateOptions{Paused: true})
	w.must(err)
	l, err := w.srv.Listen(t.Context(), "127.0.0.1:0", nil)
	w.must(err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr()+"/jobs/"+job.ID+"/live?state="+string(jobs.Paused), nil)
	w.must(err)
	r.Header.Set("Accept", "text/event-stream")
	response, err := http.DefaultClient.Do(r)
	w.must(err)
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "event: update\n" {
		t.Fatalf("%q, %v", line, err)
	}
	began := time.Now()
	stop()
	w.must(<-ended)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
}
