package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// outside is a caller who knows nothing but the address of a server and a token.
type outside struct {
	t     *testing.T
	url   string
	token string
}

// newOutside waits until a server serves.
func newOutside(t *testing.T, d *daemon) *outside {
	t.Helper()
	d.mustSay(t, "serving", 0)
	for line := range strings.Lines(d.output()) {
		var entry struct{ Msg, URL string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
			return &outside{t: t, url: entry.URL}
		}
	}
	t.Fatal("the log does not say where it serves")
	return nil
}

// send sends a request as curl does.
func (o *outside) send(ctx context.Context, method, path, body string, headers ...string) *http.Response {
	o.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, o.url+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if o.token != "" {
		r.Header.Set("Authorization", "Bearer "+o.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		o.t.Fatal(err)
	}
	return response
}

// want sends a request, whose answer must have that status, and gives its body.
func (o *outside) want(status int, method, path, body string, headers ...string) string {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	response := o.send(ctx, method, path, body, headers...)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		o.t.Fatalf("%s %s: %s, want %d, %v: %s", method, path, response.Status, status, err, text)
	}
	return string(text)
}

// calledJob is what the API says of a job.
type calledJob struct {
	ID, State string
	Progress  struct {
		Phase          string
		Done, Selected uint64
	}
	Lease     struct{ Worker string }
	LastError *struct{ Message string } `json:"last_error"`
}

func (o *outside) job(text string) (j calledJob) {
	o.t.Helper()
	if err := json.Unmarshal([]byte(text), &j); err != nil || j.ID == "" {
		o.t.Fatalf("no job, %v: %s", err, text)
	}
	return j
}

// follow reads the events of a job until it is as it should be; how is false for an end
// before that.
func (o *outside) follow(id string, until func(calledJob) bool) (j calledJob, how bool) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	response := o.send(ctx, "GET", "/v1/jobs/"+id+"/events", "")
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		o.t.Fatalf("events of %s: %s", id, response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if j = o.job(data); until(j) {
				return j, true
			}
		}
	}
	if err := lines.Err(); err != nil {
		o.t.Errorf("events of %s: %v", id, err)
	}
	return j, false
}

func hasEnded(j calledJob) bool {
	return j.State == "succeeded" || j.State == "failed" || j.State == "cancelled"
}

// every calls done until it is true.
func every(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !done(); pause(t, 50*time.Millisecond, nil) {
		if time.Now().After(limit) {
			t.Fatalf("waited for a minute: %s", what)
		}
	}
}

// TestServe is the path of an outside caller, to whom everything is one process.
func TestServe(t *testing.T) {
	t.Parallel()
	const count = 1000
	w := newServeWorld(t, count)
	server := start(t, w.env, "serve", "--archive", "--project")
	o := newOutside(t, server)
	o.letIn(w.env, server)
	o.archived(count)

	// A replay, created once however often it is asked for.
	const copied = `{"reason":"a copy","spec":{"streams":["lane:a"],"sink":{"type":"redis","options":{"stream":"copy"}}}}`
	replayed := o.job(o.want(201, "POST", "/v1/replays", copied, "Idempotency-Key", "copy-1"))
	if again := o.job(o.want(201, "POST", "/v1/replays", copied, "Idempotency-Key", "copy-1")); again.ID != replayed.ID {
		t.Errorf("created twice: %s and %s", replayed.ID, again.ID)
	}
	if j, _ := o.follow(replayed.ID, hasEnded); j.State != "succeeded" || j.Progress.Selected != count {
		t.Errorf("the replay: %+v", j)
	}
	if n := w.raw.XLen(t.Context(), "copy").Val(); n != count {
		t.Errorf("%d events were copied, want %d", n, count)
	}

	// A rebuild that wants to be approved, and whoever reads its table.
	rebuilt := o.job(o.want(201, "POST", "/v1/rebuilds", `{"reason":"first","spec":{"projection":"orders"}}`, "Idempotency-Key", "orders-1"))
	if j, ok := o.follow(rebuilt.ID, func(j calledJob) bool { return j.State == "paused" || hasEnded(j) }); !ok || j.State != "paused" || j.Progress.Phase != "approval" {
		t.Fatalf("it does not wait for approval: %+v", j)
	}
	o.want(200, "POST", "/v1/jobs/"+rebuilt.ID+"/approve", "")
	if j, _ := o.follow(rebuilt.ID, hasEnded); j.State != "succeeded" {
		t.Fatalf("the rebuild: %+v", j)
	}
	reader := &outside{t: t, url: w.ch.HTTPURL()}
	if got := reader.want(200, "GET", "/?user=reader&query="+url.QueryEscape("SELECT count(), max(n) FROM orders FINAL"), ""); strings.TrimSpace(got) != fmt.Sprintf("40\t%d", count) {
		t.Errorf("an analyst reads %q", got)
	}

	o.handedBack(w.env, server)
}

// letIn makes tokens at the command line, and takes one.
func (o *outside) letIn(env []string, server *daemon) {
	t := o.t
	t.Helper()
	server.mustSay(t, "no token exists: only this machine is served, and it may do everything", 0)
	if got := o.want(200, "GET", "/v1/whoami", ""); !strings.Contains(got, "anonymous") {
		t.Errorf("before there is a token: %s", got)
	}
	o.token = strings.TrimSpace(mustReservoir(t, env, "token", "create", "--name", "ci", "--role", "operator", "--expires", "1d", "--quiet").stdout)
	stranger := &outside{t: t, url: o.url}
	every(t, "for the token to count", func() bool {
		response := stranger.send(t.Context(), "GET", "/v1/streams", "")
		defer response.Body.Close()
		return response.StatusCode == http.StatusUnauthorized
	})
	if got := o.want(200, "GET", "/v1/whoami", ""); !strings.Contains(got, `"ci"`) {
		t.Errorf("with a token: %s", got)
	}
	stranger.want(401, "GET", "/metrics", "")
	stranger.want(200, "GET", "/healthz", "")
	o.want(200, "GET", "/readyz", "")
	if got := o.want(200, "GET", "/metrics", ""); !strings.Contains(got, "reservoir_http_requests_total") || !strings.Contains(got, "reservoir_jobs_") || !strings.Contains(got, "reservoir_archive") {
		t.Error("metrics of a part are missing")
	}
	if response := stranger.send(t.Context(), "GET", "/", ""); response.StatusCode != http.StatusSeeOther || response.Body.Close() != nil {
		t.Errorf("the page lets a stranger in: %s", response.Status)
	}
	page := o.send(t.Context(), "GET", "/", "", "Cookie", "reservoir_session="+o.token)
	defer page.Body.Close()
	if policy := page.Header.Get("Content-Security-Policy"); page.StatusCode != http.StatusOK || !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the page: %s, %q", page.Status, policy)
	}
}

// handedBack stops a server that runs a job, for another one to go on with it.
func (o *outside) handedBack(env []string, server *daemon) {
	t := o.t
	t.Helper()
	slow := o.job(o.want(201, "POST", "/v1/replays", `{"spec":{"streams":["lane:a"],"pace":{"rate":20},"sink":{"type":"redis","options":{"stream":"slow"}}}}`))
	began := func(j calledJob) bool { return j.State == "running" && j.Progress.Done > 0 }
	if j, ok := o.follow(slow.ID, began); !ok {
		t.Fatalf("it does not run: %+v", j)
	}
	type followed struct {
		job calledJob
		ok  bool
	}
	watched, watching := make(chan followed, 1), make(chan struct{})
	first := sync.OnceFunc(func() { close(watching) })
	go func() {
		j, ok := o.follow(slow.ID, func(j calledJob) bool {
			first()
			return hasEnded(j)
		})
		watched <- followed{j, ok}
	}()
	select {
	case <-watching:
	case <-time.After(time.Minute):
		t.Fatal("nothing was heard of the job")
	}
	stopped := time.Now()
	server.signal(t, syscall.SIGTERM)
	if status := server.wait(t, 20*time.Second); status != 0 {
		t.Errorf("it ended with %d: %s", status, tail(server.output()))
	}
	if took := time.Since(stopped); took > 10*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	if f := <-watched; f.ok {
		t.Errorf("the job ended: %+v", f.job)
	}
	if j := o.job(mustReservoir(t, env, "replay", "show", slow.ID, "--json").stdout); j.State != "pending" {
		t.Errorf("the job is %s, want pending: %+v", j.State, j)
	}
	next := start(t, env, "serve")
	other := newOutside(t, next)
	other.token = o.token
	if j, ok := other.follow(slow.ID, began); !ok {
		t.Errorf("another server does not go on: %+v", j)
	}
	other.want(200, "POST", "/v1/jobs/"+slow.ID+"/cancel", "")
	if j, _ := other.follow(slow.ID, hasEnded); j.State != "cancelled" {
		t.Errorf("not cancelled: %+v", j)
	}
	next.signal(t, syscall.SIGINT)
	if status := next.wait(t, 20*time.Second); status != 0 {
		t.Errorf("it ended with %d: %s", status, tail(next.output()))
	}
}
