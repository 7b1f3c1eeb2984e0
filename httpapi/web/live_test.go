package web_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// sse reads server-sent events until one has all of the words.
func (w *world) sse(path string, began func(), words ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, http.NoBody)
	w.must(err)
	req.AddCookie(&http.Cookie{Name: "who", Value: "ada"})
	res, err := http.DefaultClient.Do(req)
	w.must(err)
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		w.t.Fatalf("%s: %d, %s", path, res.StatusCode, got)
	}
	if began != nil {
		began()
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	var one strings.Builder
	for lines.Scan() {
		if lines.Text() != "" {
			one.WriteString(lines.Text() + "\n")
			continue
		}
		missing := false
		for _, word := range words {
			missing = missing || !strings.Contains(one.String(), word)
		}
		if !missing {
			return one.String()
		}
		one.Reset()
	}
	w.t.Fatalf("%s: no event with %q: %v", path, words, lines.Err())
	return ""
}

func TestLiveJob(t *testing.T) {
	w := newWorld(t)
	w.sell(300, ago(time.Hour), time.Second)
	w.archive()
	into, err := w.opts.Replays.ParseTarget("redis:{stream}:live", nil)
	w.must(err)
	job, err := w.opts.Replays.Create(t.Context(), replay.Spec{Streams: []string{shop.Orders}, Sink: into}, replay.CreateOptions{Paused: true})
	w.must(err)
	live := "/jobs/" + job.ID + "/live?state="
	w.sse(live+"paused", nil, "event: update", `id="job-progress"`)
	w.sse(live+"running", nil, "event: changed", "data: paused")
	w.sse(live+"paused", func() {
		_, err := w.jobs.Cancel(t.Context(), job.ID, jobs.Change{By: "somebody"})
		w.must(err)
	}, "event: changed", "data: cancelling")
}

func TestLiveTail(t *testing.T) {
	w := newWorld(t)
	w.sell(30, ago(time.Hour), time.Second)
	n := uint64(0)
	publish := func(name string) func() {
		return func() {
			n++
			w.add(w.raw, shop.Orders, event.ID{Ms: uint64(time.Now().UnixMilli()), Seq: n}, field("type", name), field("payload", `{"a": {"b": "<b>"}}`))
		}
	}
	got := w.sse("/explore/live?"+query("stream", shop.Orders), publish(hostile), "event: rows", "&lt;script&gt;", "  &#34;a&#34;")
	if strings.Contains(got, "<script") || strings.Contains(got, "<b>") {
		t.Error(got)
	}
	w.sse("/explore/live?"+query("stream", shop.Orders, "type", "New*"), func() { publish("Old")(); publish("NewOne")() }, "event: rows", "NewOne")
	for _, path := range []string{"/explore/live", "/explore/live?stream=nope*"} {
		if a := w.as("orders", path, nil); a.status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
}
