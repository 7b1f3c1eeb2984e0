package web_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// What goes wrong is told without secrets, to people and in the log, and who asks too
// often is told when to come again.
func TestProblems(t *testing.T) {
	var logged lockedLog
	w := newWorld(t, func(w *world) {
		w.opts.Logger = slog.New(slog.NewTextHandler(&logged, nil))
		w.opts.Redact = func(text string) string { return strings.ReplaceAll(text, "hunter2", "***") }
	})
	a := w.as("busy", "/", nil)
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "7" {
		t.Errorf("busy: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	wellFormed(t, "busy", a.body)
	if a := w.as("busy", "/replays/estimate", nil, "HX-Request", "true"); a.status != http.StatusOK || a.header.Get("Retry-After") != "7" || !strings.Contains(a.body, "Too many requests") {
		t.Errorf("busy, as a part: %+v", a)
	}
	a = w.as("broken", "/", nil)
	if a.status != http.StatusInternalServerError || !strings.Contains(a.body, "redis://:***@localhost") || strings.Contains(a.body, "hunter2") || a.header.Get("Retry-After") != "" {
		t.Errorf("broken: %d, %v: %s", a.status, a.header, excerpt(a.body))
	}
	if text := logged.String(); !strings.Contains(text, "the page failed") || !strings.Contains(text, "***") || strings.Contains(text, "hunter2") {
		t.Errorf("the log says %q", text)
	}
}

// A Redis that is gone leaves what is archived to look at, and says so.
func TestRedisGone(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	w := newWorld(t, func(w *world) {
		client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
		w.must(err)
		t.Cleanup(func() { client.Close() })
		w.opts.Redis = client
	})
	w.sell(200, ago(time.Hour), time.Second)
	w.archive()
	w.must(server.Kill())
	w.page("ada", "/", "Redis does not answer", shop.Orders)
	w.page("ada", "/stream?"+query("name", shop.Orders), "Segments", "Coverage")
	w.page("ada", "/jobs", "No jobs yet")
	w.page("ada", "/replays/new?"+query("stream", shop.Orders), "events")
	a := w.as("ada", "/explore?"+query("stream", shop.Orders), nil)
	wellFormed(t, "explore", a.body)
	if a.status == http.StatusOK && !strings.Contains(a.body, "OrderPlaced") || a.status >= 400 && !strings.Contains(a.body, `class="problem"`) {
		t.Errorf("explore: %d: %s", a.status, excerpt(a.body))
	}
}

// Thousands of streams and hundreds of jobs come in pages that miss none and repeat none.
func TestThousands(t *testing.T) {
	w := newWorld(t)
	const streams, replays = 2000, 120
	w.sell(60, ago(time.Hour), time.Second)
	w.archive()
	pipe := w.raw.Pipeline()
	for i := range streams {
		w.add(pipe, fmt.Sprintf("many:%04d", i), event.ID{Ms: uint64(ago(time.Hour).UnixMilli())}, field("type", "One"), field("payload", "{}"))
	}
	_, err := pipe.Exec(t.Context())
	w.must(err)
	body := w.page("ada", "/", "2\u202f003", "Next streams", "not archived")
	if n := strings.Count(body, `<a href="/stream?name=many`); n != 25 {
		t.Errorf("%d streams on a page, want 25", n)
	}
	w.page("ada", "/?q=many:1999", "many:1999")
	var seen []string
	for next, pages := "?q=many:19", 0; next != "" && pages < 10; pages++ {
		body := w.page("ada", "/"+next)
		seen = append(seen, hrefs(body, `<a href="/stream?name=`)...)
		next = following(body, "Next streams")
	}
	if len(seen) != 100 || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != 100 {
		t.Errorf("%d streams, want 100, each once", len(seen))
	}
	into, err := w.opts.Replays.ParseTarget("redis:{stream}:copy", nil)
	w.must(err)
	for range replays {
		_, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{shop.Orders}, Sink: into}, replay.CreateOptions{Paused: true})
		w.must(err)
	}
	seen = nil
	for next, pages := "", 0; pages < 10; pages++ {
		body := w.page("ada", "/jobs"+next)
		seen = append(seen, hrefs(body, `<a href="/jobs/`)...)
		if next = following(body, "Older jobs"); next == "" {
			break
		}
	}
	if len(seen) != replays || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != replays {
		t.Errorf("%d jobs, want %d, each once", len(seen), replays)
	}
	w.page("ada", "/", "Paused") // as many as fit
}

// hrefs gives what follows a beginning of links, up to their end.
func hrefs(body, begin string) (list []string) {
	for _, part := range strings.Split(body, begin)[1:] {
		href, _, _ := strings.Cut(part, `"`)
		list = append(list, href)
	}
	return list
}

// following gives the query of the button that leads to the next page; "": there is none.
func following(body, label string) string {
	before, _, found := strings.Cut(body, `">`+label)
	if !found {
		return ""
	}
	return strings.ReplaceAll(before[strings.LastIndex(before, `"`)+1:], "&amp;", "&")
}

// A job shows what it does before there is anything to measure, and how much there is
// once it is known.
func TestLoading(t *testing.T) {
	w := newWorld(t)
	w.sell(60, ago(time.Hour), time.Second)
	w.archive()
	into, err := w.opts.Replays.ParseTarget("redis:{stream}:copy", nil)
	w.must(err)
	job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{shop.Orders}, Sink: into, Pace: replay.Pace{Rate: 1}}, replay.CreateOptions{})
	w.must(err)
	w.page("ada", "/jobs/"+job.ID, "waits for a worker", "pending", "created")
	ctx, stop := context.WithCancel(t.Context())
	runner, err := jobs.NewRunner(w.jobs, jobs.RunnerOptions{Engines: map[string]jobs.Engine{replay.Kind: w.opts.Replays.Engine()}, Poll: 20 * time.Millisecond, LeaseTTL: 3 * time.Second})
	w.must(err)
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	for one, err := range w.jobs.Watch(t.Context(), job.ID, 20*time.Millisecond) {
		w.must(err)
		if one.State == jobs.Running && one.Progress.Total > 0 {
			break
		}
	}
	w.page("ada", "/jobs/"+job.ID, "running", "data-chart", `<progress max="100" value="`)
	w.page("ada", "/", "running")
	stop()
	w.must(<-ended)
}
