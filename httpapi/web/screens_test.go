package web_test

import (
	"flag"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

var screens = flag.Bool("screens", false, "go through the pages in Chromium, and keep pictures of them")

// TestScreens goes through the pages in a browser: nothing complains, nothing is wider
// than a phone, and pictures of all are kept.
func TestScreens(t *testing.T) {
	if !*screens {
		t.Skip("make screens runs it: it needs Chromium")
	}
	text := func(s string) string { return s }
	w := newWorld(t, withClickHouse(func(s string) string { return text(s) }))
	b := newBrowser(t, w, "ada")
	b.open("/")
	b.shoot("empty")
	w.sell(6000, ago(20*time.Hour), 10*time.Second)
	w.archive()
	w.hurt()
	w.sell(40, ago(4*time.Minute), time.Second)

	create := func(spec replay.Spec, into, name string) *jobs.Job {
		sinkSpec, err := w.opts.Replays.ParseTarget(into, nil)
		w.must(err)
		spec.Sink = sinkSpec
		job, err := w.opts.Replays.Create(t.Context(), spec, replay.CreateOptions{By: "ada", Name: name, Reason: "staging lost its queue"})
		w.must(err)
		return job
	}
	refuse := &receiver{status: http.StatusUnprocessableEntity, body: hostile}
	letters := create(replay.Spec{Streams: []string{"*script*"}, Failures: replay.FailurePolicy{MaxDeadLetters: 100}}, refuse.serve(t), "Notify the mailer again")
	w.run(letters.ID)
	failed := create(replay.Spec{Streams: []string{shop.Payments}, Limit: 50}, refuse.serve(t), "Payments of last night")
	w.run(failed.ID)
	paused := create(replay.Spec{Streams: []string{"shop:*"}}, "redis:{stream}:copy", strings.Repeat("A very long name ", 12))
	_, err := w.jobs.Pause(t.Context(), paused.ID, jobs.Change{By: "ada", Reason: "not before noon"})
	w.must(err)
	running := create(replay.Spec{Streams: []string{shop.Orders}, Pace: replay.Pace{Rate: 8}}, "redis:{stream}:slow", "Orders for the new consumer")
	w.background(running.ID)

	job := w.as("ada", "/rebuilds", url.Values{"projection": {"orders"}, "approval": {"automatic"}, "reviewed": {"yes"}})
	w.run(strings.TrimPrefix(job.location, "/jobs/"))
	text = func(s string) string {
		return strings.Replace(s, "type AS state", "if(tenant = 'acme', lower(type), type) AS state", 1)
	}
	job = w.as("ada", "/rebuilds", url.Values{"projection": {"orders"}, "name": {"Lower-case states for acme"}, "reviewed": {"yes"}})
	if got := w.run(strings.TrimPrefix(job.location, "/jobs/")); got.Progress.Phase != rebuild.PhaseApproval {
		t.Fatal(got.Progress.Phase, got.LastError)
	}
	for _, op := range []string{"createReplay", "pauseJob", "approveJob"} {
		e, err := w.trail.Begin(t.Context(), audit.Entry{Who: "token:1", Name: "ada", Role: "admin", Operation: op, Method: "POST", Path: "/x", From: "10.1.2.3", Subject: running.ID})
		w.must(err)
		w.must(w.trail.End(t.Context(), e, audit.Done, 200, ""))
	}
	explored := w.page("ada", "/explore?"+query("stream", shop.Orders, "type", "OrderPlaced"))
	_, rest, _ := strings.Cut(explored, `<a href="/aggregate?id=`)
	aggregate, _, _ := strings.Cut(rest, `"`)
	for _, one := range [][2]string{
		{"overview", "/"}, {"stream", "/stream?" + query("name", shop.Orders)}, {"stream-hostile", "/stream?" + query("name", hostile, "window", "1h")},
		{"explore", "/explore?" + query("stream", shop.Orders)}, {"explore-hostile", "/explore?" + query("stream", hostile)}, {"explore-start", "/explore"},
		{"explore-wrong", "/explore?" + query("where", "payload. >")}, {"aggregate", "/aggregate?step=2&id=" + aggregate},
		{"jobs", "/jobs"}, {"job-letters", "/jobs/" + letters.ID}, {"job-failed", "/jobs/" + failed.ID}, {"job-paused", "/jobs/" + paused.ID},
		{"job-approval", job.location}, {"projections", "/projections"}, {"projection", "/projections/orders"},
		{"replay-start", "/replays/new"}, {"replay", "/replays/new?" + query("stream", "shop:*", "into", "redis:{stream}:staging", "type", "Order*")},
		{"replay-wrong", "/replays/new?" + query("stream", "shop:*", "into", "nonsense:x")}, {"rebuild", "/rebuilds/new?projection=orders"},
		{"audit", "/audit"}, {"settings", "/settings"}, {"login", "/login"},
	} {
		b.open(one[1])
		b.mu.Lock()
		if one[0] == "explore-wrong" {
			b.problems = nil // the status is an error, and the console says so
		}
		b.mu.Unlock()
		b.shoot(one[0])
	}
	b.open("/nothing")
	b.mu.Lock()
	b.problems = nil
	b.mu.Unlock()
	b.shoot("not-found")
	b.open("/jobs/" + running.ID)
	b.do(chromedp.WaitVisible(".uplot", chromedp.ByQuery))
	b.shoot("job-running")
}
