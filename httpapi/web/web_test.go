package web_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

func TestEmpty(t *testing.T) {
	w := newWorld(t)
	w.page("ada", "/", "Nothing is archived yet", "All is well", "Nothing runs")
	w.page("ada", "/jobs", "No jobs yet")
	w.page("ada", "/explore", "What happened?")
	w.page("ada", "/explore?stream=none", "No event fits")
	w.page("ada", "/replays/new", "Name a stream")
	w.page("ada", "/audit", "Nothing was done")
	w.page("ada", "/settings", "redis.url", "file:///archive")
	w.page("", "/login", "Token")
	for path, status := range map[string]int{
		"/projections": 404, "/projections/x": 404, "/nothing": 404, "/stream?name=x": 404, "/jobs/x": 404, "/jobs/" + jobs.NewID(): 404,
		"/event?stream=a&id=1-1": 404, "/event?stream=a&id=x": 400, "/aggregate?id=order/1": 404, "/aggregate": 404, "/audit?from=x": 400,
		"/explore?where=%3D%3D": 400, "/static/": 404, "/replays/new?stream=nope&into=redis:x": 200,
	} {
		a := w.as("ada", path, nil)
		if a.status != status {
			t.Errorf("%s: status %d, want %d: %s", path, a.status, status, excerpt(a.body))
		}
		if status != 404 || path != "/static/" {
			wellFormed(t, path, a.body)
		}
	}
}

func TestStreams(t *testing.T) {
	w := newWorld(t)
	w.sell(3000, ago(90*time.Minute), time.Second)
	w.archive()
	w.hurt()
	for _, window := range []string{"1h", "24h", "7d", "30d", "1y", "junk"} {
		w.page("ada", "/?window="+window, shop.Orders, "strip-archived")
	}
	overview := w.page("ada", "/", "strip-gap", "lost before they could be archived")
	if !strings.Contains(overview, "&lt;script&gt;") {
		t.Error("the hostile name is not there")
	}
	w.page("ada", "/?q=PAY", shop.Payments)
	w.page("ada", "/?q=nothing", "No stream is called like")
	w.page("ada", "/stream?"+query("name", shop.Orders), "strip-archived", "heat-4", "series-0", "OrderPlaced", ".parquet")
	w.page("ada", "/stream?"+query("name", shop.Orders, "from", "20m ago", "to", "10m ago"), "Segments")
	w.page("ada", "/stream?"+query("name", hostile), "at least 15 lost", "Gaps")
	w.page("ada", "/explore?"+query("stream", shop.Orders, "type", "OrderPlaced"), "50 events", "Next events", "Live tail")
	w.page("ada", "/explore?"+query("stream", hostile), "&lt;script&gt;")
	if body := w.page("ada", "/explore?"+query("stream", shop.Orders, "where", "payload.x.y > 1")); !strings.Contains(body, "No event fits") {
		t.Error(excerpt(body))
	}
}

func TestExplorePagesGiveEveryEventOnce(t *testing.T) {
	w := newWorld(t)
	w.sell(400, ago(90*time.Minute), time.Second)
	w.archive()
	w.sell(400, ago(60*time.Minute), time.Second) // in Redis only
	seen := map[string]bool{}
	next := query("stream", "shop:*")
	for pages := 0; next != ""; pages++ {
		if pages > 40 {
			t.Fatal("it does not end")
		}
		body := w.page("ada", "/explore?"+next)
		for _, part := range strings.Split(body, `<td data-label="Time"><a href="`)[1:] {
			place, _, _ := strings.Cut(part, `"`)
			if seen[place] {
				t.Fatalf("%s comes twice", place)
			}
			seen[place] = true
		}
		_, rest, found := strings.Cut(body, `<p class="pager"><a class="button" href="?`)
		next = ""
		if found {
			next, _, _ = strings.Cut(strings.ReplaceAll(rest, "&amp;", "&"), `"`)
		}
	}
	if len(seen) != 800 {
		t.Errorf("%d events, want 800", len(seen))
	}
	for place := range seen {
		w.page("ada", strings.ReplaceAll(place, "&amp;", "&"), "Payload")
		break
	}
}

func TestAggregate(t *testing.T) {
	w := newWorld(t)
	w.sell(300, ago(90*time.Minute), time.Second)
	w.archive()
	body := w.page("ada", "/explore?"+query("stream", shop.Orders, "type", "OrderPlaced"))
	_, rest, _ := strings.Cut(body, `<a href="/aggregate?id=`)
	id, _, _ := strings.Cut(rest, `"`)
	first := w.page("ada", "/aggregate?id="+id, "OrderPlaced", "After →", "Payload")
	if strings.Contains(first, "← Before") {
		t.Error("there is something before the first event")
	}
	w.page("ada", "/aggregate?id="+id+"&step=2", "← Before")
	w.page("ada", "/aggregate?id="+id+"&step=999", "← Before")
}

func TestReplayFromForm(t *testing.T) {
	w := newWorld(t)
	w.sell(600, ago(2*time.Hour), time.Second)
	w.archive()
	estimate := w.as("ada", "/replays/estimate?"+query("stream", shop.Orders, "into", "redis:{stream}:copy"), nil, "HX-Request", "true")
	if estimate.status != 200 || !strings.Contains(estimate.body, "exactly once") || strings.Contains(estimate.body, "<html") {
		t.Fatal(estimate.status, estimate.body)
	}
	page := w.page("ada", "/replays/new?"+query("stream", shop.Orders, "into", "redis:{stream}:copy"), "By type")
	_, rest, _ := strings.Cut(page, `name="key" value="`)
	key, _, _ := strings.Cut(rest, `"`)
	form := url.Values{"key": {key}, "stream": {shop.Orders}, "into": {"redis:{stream}:copy"}, "name": {hostile}}
	review := w.as("ada", "/replays", form)
	if review.status != http.StatusOK || !strings.Contains(review.body, "Start the replay") {
		t.Fatal(review.status, excerpt(review.body))
	}
	wellFormed(t, "review", review.body)
	form.Set("reviewed", "yes")
	if a := w.as("ada", "/replays", form); a.status != http.StatusOK {
		t.Error("what must be confirmed was not, and it began nevertheless")
	}
	form.Set("sure", "yes")
	made := w.as("ada", "/replays", form)
	again := w.as("ada", "/replays", form)
	if made.status != http.StatusSeeOther || made.location != again.location {
		t.Fatal(made.status, made.location, again.location, excerpt(made.body))
	}
	id := strings.TrimPrefix(made.location, "/jobs/")
	w.page("ada", "/", "&lt;script&gt;", "pending")
	w.page("ada", made.location, "pending", "Pause", "Cancel…")
	if job := w.run(id); job.State != jobs.Succeeded {
		t.Fatal(job.State, job.LastError)
	}
	w.page("ada", made.location, "succeeded", "100 %")
	w.page("ada", "/jobs?state=succeeded&kind=replay", "&lt;script&gt;")
	w.page("ada", "/jobs?state=failed", "No job fits")
	for _, bad := range []url.Values{
		{"stream": {shop.Orders}, "into": {"nonsense:x"}}, {"stream": {"nope"}, "into": {"redis:x"}}, {"stream": {shop.Orders}},
		{"stream": {shop.Orders}, "into": {"redis:x"}, "limit": {"many"}}, {"stream": {shop.Orders}, "into": {"redis:x"}, "from": {"yesteryear"}},
	} {
		a := w.as("ada", "/replays", bad)
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%v: status %d", bad, a.status)
		}
		wellFormed(t, bad.Encode(), a.body)
	}
}

func TestJobStates(t *testing.T) {
	w := newWorld(t)
	w.sell(100, ago(time.Hour), time.Second)
	w.archive()
	create := func(into string) string {
		sinkSpec, err := w.opts.Replays.ParseTarget(into, nil)
		w.must(err)
		job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{shop.Orders}, Sink: sinkSpec}, replay.CreateOptions{By: "test"})
		w.must(err)
		return "/jobs/" + job.ID
	}
	job := create("redis:{stream}:a")
	post := func(who, action string, status int) {
		t.Helper()
		if a := w.as(who, job+"/"+action, url.Values{"reason": {hostile}}); a.status != status {
			t.Errorf("%s %s: status %d, want %d: %s", who, action, a.status, status, excerpt(a.body))
		}
	}
	post("vic", "pause", http.StatusForbidden)
	post("olga", "resume", http.StatusConflict)
	post("olga", "pause", http.StatusSeeOther)
	w.page("olga", job, "paused", "Resume", "&lt;script&gt;")
	w.page("ada", "/", "Paused")
	if body := w.page("vic", job); strings.Contains(body, "Resume") {
		t.Error("a viewer is offered to resume")
	}
	post("olga", "resume", http.StatusSeeOther)
	post("olga", "cancel", http.StatusSeeOther)
	w.page("olga", job, "cancelling")
	post("olga", "retry", http.StatusConflict)
	if got := strings.Join(w.gate.changes, ","); !strings.HasPrefix(got, "pauseJob ") || strings.Count(got, ",") != 2 {
		t.Errorf("changes: %s", got)
	}
	if a := w.as("olga", job+"/pause", url.Values{}, "Origin", "https://evil.example"); a.status != http.StatusForbidden {
		t.Errorf("a post of another site: status %d", a.status)
	}
}

func TestDeadLetters(t *testing.T) {
	w := newWorld(t)
	w.hurt()
	refuse := &receiver{status: http.StatusUnprocessableEntity, body: hostile}
	into := refuse.serve(t)
	sinkSpec, err := w.opts.Replays.ParseTarget(into, nil)
	w.must(err)
	job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{"*script*"}, Sink: sinkSpec, Failures: replay.FailurePolicy{MaxDeadLetters: 100}}, replay.CreateOptions{})
	w.must(err)
	w.run(job.ID)
	body := w.page("olga", "/jobs/"+job.ID, "Dead letters", "Retry these", "Purge…", "&lt;script&gt;")
	_, rest, _ := strings.Cut(body, `name="key" value="`)
	key, _, _ := strings.Cut(rest, `"`)
	if body := w.page("vic", "/jobs/"+job.ID); strings.Contains(body, "Purge…") {
		t.Error("a viewer is offered to purge")
	}
	refuse.set(http.StatusOK)
	a := w.as("olga", "/jobs/"+job.ID+"/letters/retry", url.Values{"key": {key}})
	if a.status != http.StatusSeeOther {
		t.Fatal(a.status, excerpt(a.body))
	}
	if got := w.run(strings.TrimPrefix(a.location, "/jobs/")); got.State != jobs.Succeeded || got.Progress.Done != 1 {
		t.Errorf("retry: %s, %d done", got.State, got.Progress.Done)
	}
	if a := w.as("olga", "/jobs/"+job.ID+"/letters/purge", url.Values{}); a.status != http.StatusBadRequest {
		t.Error(a.status)
	}
	a = w.as("olga", "/jobs/"+job.ID+"/letters/purge", url.Values{"sure": {"yes"}})
	if a.status != http.StatusSeeOther {
		t.Fatal(a.status, excerpt(a.body))
	}
	w.page("olga", a.location, "dead letters were purged")
}

func TestRestrictedCallers(t *testing.T) {
	w := newWorld(t)
	w.sell(400, ago(time.Hour), time.Second)
	w.archive()
	body := w.page("orders", "/", shop.Orders)
	if strings.Contains(body, shop.Payments) {
		t.Error("a stream shows that the caller may not see")
	}
	for path, status := range map[string]int{
		"/stream?" + query("name", shop.Payments): 404, "/audit": 403, "/replays/estimate?" + query("stream", shop.Payments): 200,
		"/explore?" + query("stream", shop.Orders, "tenant", "globex"): 403,
	} {
		who := "orders"
		if strings.HasPrefix(path, "/explore") {
			who = "acme"
		}
		if a := w.as(who, path, nil); a.status != status {
			t.Errorf("%s: status %d, want %d", path, a.status, status)
		}
	}
	body = w.page("acme", "/explore?"+query("stream", shop.Orders), "acme")
	if strings.Contains(body, ">globex<") {
		t.Error("an event of another tenant shows")
	}
	body = w.page("acme", "/stream?"+query("name", shop.Orders), "restricted to tenants")
	if strings.Contains(body, "Segments") {
		t.Error("numbers of other tenants show")
	}
	w.page("acme", "/", "–")
}

func TestLogin(t *testing.T) {
	w := newWorld(t)
	a := w.as("", "/jobs?state=failed", nil)
	if a.status != http.StatusSeeOther || a.location != "/login?next=%2Fjobs%3Fstate%3Dfailed" {
		t.Fatal(a.status, excerpt(a.body))
	}
	if a := w.as("", "/login", url.Values{"token": {"nobody"}, "next": {"/jobs"}}); a.status != http.StatusUnauthorized {
		t.Error(a.status)
	} else {
		wellFormed(t, "login", a.body)
	}
	for next, to := range map[string]string{"/jobs": "/jobs", "//evil.example": "/", "https://evil.example": "/", `/\evil`: "/"} {
		a := w.as("", "/login", url.Values{"token": {"ada"}, "next": {next}})
		if a.status != http.StatusSeeOther || a.location != to || a.header.Get("Set-Cookie") == "" {
			t.Errorf("%s: %+v", next, a)
		}
	}
	if a := w.as("ada", "/logout", url.Values{}); a.location != "/login" {
		t.Error(a)
	}
	a = w.as("ada", "/", nil)
	if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "unsafe") {
		t.Error(policy)
	}
}

func TestAudit(t *testing.T) {
	w := newWorld(t)
	for range 120 {
		e, err := w.trail.Begin(t.Context(), audit.Entry{Who: "token:1", Name: hostile, Role: "admin", Operation: "pauseJob", Method: "POST", Path: "/x", From: "127.0.0.1"})
		w.must(err)
		w.must(w.trail.End(t.Context(), e, audit.Done, 200, ""))
	}
	w.page("ada", "/audit", "&lt;script&gt;", "pauseJob", "Older")
	w.page("ada", "/audit?operation=nothing", "Nothing was done that fits")
	if a := w.as("vic", "/audit", nil); a.status != http.StatusForbidden {
		t.Error(a.status)
	}
}

// waits has the worker that feeds orders wait, and looks whether that is shown.
func (w *world) waits() {
	w.t.Helper()
	hold, err := w.opts.Rebuilds.Documents().Acquire(w.t.Context(), "orders", projection.Claim{Worker: "test", Kind: projection.Projector, TTL: time.Minute})
	w.must(err)
	w.must(hold.Wait(w.t.Context(), "no space for "+hostile))
	w.page("ada", "/projections/orders", "The table is not fed", "no space for &lt;script&gt;")
	w.page("ada", "/projections", "held up")
	if body := w.page("acme", "/projections/orders", "The table is not fed"); strings.Contains(body, "no space") {
		w.t.Error("the reason may name what another tenant has")
	}
	w.must(hold.Wait(w.t.Context(), ""))
	w.must(hold.Release(w.t.Context()))
	if body := w.page("ada", "/projections/orders"); strings.Contains(body, "The table is not fed") {
		w.t.Error("it does not wait")
	}
}

func TestRebuild(t *testing.T) {
	text := func(s string) string { return s }
	w := newWorld(t, withClickHouse(func(s string) string { return text(s) }))
	w.sell(900, ago(2*time.Hour), time.Second)
	w.archive()
	w.page("ada", "/projections", "never built")
	w.page("ada", "/rebuilds/new", "Choose a projection")
	w.page("ada", "/rebuilds/new?projection=orders", "It waits for a person", shop.Orders)
	if a := w.as("ada", "/rebuilds/estimate?projection=nothing", nil); !strings.Contains(a.body, "there is no projection") {
		t.Error(a.body)
	}
	form := url.Values{"projection": {"orders"}, "key": {"k1"}, "approval": {"automatic"}, "reviewed": {"yes"}}
	a := w.as("ada", "/rebuilds", form)
	if a.status != http.StatusSeeOther {
		t.Fatal(a.status, excerpt(a.body))
	}
	if body := w.page("acme", "/rebuilds/new?projection=orders", "It waits for a person"); strings.Contains(body, `class="big"`) {
		t.Error("the estimate counts events of other tenants")
	}
	text = func(string) string { return "" } // the repeat of a request whose answer was lost
	if again := w.as("ada", "/rebuilds", form); again.status != http.StatusSeeOther || again.location != a.location {
		t.Error(again.status, again.location, excerpt(again.body))
	}
	text = func(s string) string { return s }
	if job := w.run(strings.TrimPrefix(a.location, "/jobs/")); job.State != jobs.Succeeded {
		t.Fatal(job.State, job.LastError)
	}
	w.page("ada", "/projections/orders", "Generation", "History")
	w.waits()
	text = func(s string) string { return strings.Replace(s, "type AS state", "lower(type) AS state", 1) }
	if a := w.as("ada", "/rebuilds", url.Values{"projection": {"orders"}, "key": {"k2"}, "approval": {"automatic"}, "reviewed": {"yes"}}); !strings.Contains(a.body, "Nobody is asked") {
		t.Error("an automatic swap is not confirmed by name")
	}
	a = w.as("ada", "/rebuilds", url.Values{"projection": {"orders"}, "key": {"k3"}, "reviewed": {"yes"}})
	job := w.run(strings.TrimPrefix(a.location, "/jobs/"))
	if job.State != jobs.Paused || job.Progress.Phase != rebuild.PhaseApproval {
		t.Fatal(job.State, job.Progress.Phase)
	}
	w.page("ada", "/", "Approval")
	w.page("ada", a.location, "Difference from the live table", "has orders", "Approve and swap", "differs")
	w.page("vic", a.location, "Difference from the live table")
	approve := func() answer { return w.as("ada", a.location+"/approve", url.Values{"version": {job.ETag}}) }
	_, err := w.jobs.Resume(t.Context(), job.ID, jobs.Change{})
	w.must(err)
	w.run(job.ID)
	if b := approve(); b.status != http.StatusPreconditionFailed || !strings.Contains(b.body, "it has changed since it was shown to you") || !strings.Contains(b.body, "Approve and swap") {
		t.Fatal(b.status, excerpt(b.body))
	}
	_, rest, _ := strings.Cut(w.page("ada", a.location), `name="version" value="`)
	job.ETag, _, _ = strings.Cut(html.UnescapeString(rest), `">`)
	if b := approve(); b.status != http.StatusSeeOther {
		t.Fatal(b.status, excerpt(b.body))
	}
	w.run(job.ID)
	w.page("ada", "/projections/orders", "Roll back…", "Kept generations")
	if b := w.as("ada", "/projections/orders/rollback", url.Values{}); b.status != http.StatusBadRequest {
		t.Error(b.status)
	}
	if b := w.as("ada", "/projections/orders/rollback", url.Values{"word": {"orders"}, "to": {"one"}}); b.status != http.StatusBadRequest {
		t.Error(b)
	}
	if b := w.as("ada", "/projections/orders/rollback", url.Values{"word": {"orders"}, "to": {"1"}}); b.status != http.StatusSeeOther {
		t.Error(b)
	}
	w.page("ada", "/projections/orders", "rolled_back")
	w.page("ada", "/projections", "orders", "payments")
}
